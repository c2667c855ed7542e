//! What came of a comparison.

use aip_load::{environment::Environment, report::Report};
use serde::Serialize;

use super::{
    Plan,
    cell::{Cell, Reach},
    contestant::{Contestant, Kind},
};

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Where and when.
    pub environment: Environment,
    /// What was asked, in order.
    pub cells: Vec<Cell>,
    /// Who was compared, in order.
    pub contestants: Vec<String>,
    /// Measured seconds of each run.
    pub seconds: f64,
    /// Each run.
    pub rows: Vec<Row>,
    /// Memory of idle sessions.
    pub idle: Vec<Idle>,
    /// Who is missing, and the command that installs it.
    pub missing: Vec<(String, String)>,
    /// Medians of the rounds.
    pub medians: Vec<Row>,
    #[serde(skip)]
    kinds: Vec<Kind>,
}

/// One run, or the median of some.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// Who.
    pub contestant: String,
    /// What.
    pub cell: String,
    /// Bytes of an object.
    pub size: usize,
    /// To how many.
    pub subscribers: usize,
    /// Which round.
    pub round: usize,
    /// CPU time of the relay's process, user and system, of each delivered object.
    pub cpu_microseconds: Option<f64>,
    /// Deliveries of a second of CPU.
    pub deliveries_per_core: f64,
    /// Payload of a second of CPU.
    pub gigabits_per_core: f64,
    /// The share of its core that the relay used.
    pub relay_share: f64,
    /// From when an object was due to its arrival, in milliseconds: p50, p99, p99.9.
    pub latency: Option<[f64; 3]>,
    /// The same until the last subscriber has it.
    pub last: Option<[f64; 3]>,
    /// Deliveries that were owed.
    pub expected: u64,
    /// Those that came.
    pub delivered: u64,
    /// The share that did not.
    pub lost_share: f64,
    /// The most memory that the relay had.
    pub rss_peak_bytes: u64,
    /// The share of its core that the load's thread used.
    pub load_share: f64,
    /// 1 of 100 objects was published later than this after it was due, in milliseconds.
    pub load_lag_p99: f64,
    /// Why the load's figures are not to be believed.
    pub load_invalid: Vec<String>,
    /// Why there are none.
    pub failed: Option<String>,
}

/// Memory of sessions that get nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// Whose.
    pub contestant: String,
    /// Of how many.
    pub sessions: usize,
    /// Bytes of each.
    pub bytes: Option<f64>,
    /// Why it is not known.
    pub failed: Option<String>,
}

impl Row {
    /// A run that has not taken place.
    pub fn new(contestant: &Contestant, cell: &Cell, round: usize) -> Self {
        Self {
            contestant: contestant.name.to_owned(),
            cell: cell.name.clone(),
            size: cell.size,
            subscribers: cell.subscribers,
            round,
            ..Self::default()
        }
    }

    /// Takes the figures of the load's report.
    pub fn take(&mut self, report: &Report) {
        let times = |name: &str| {
            let series = report.series.iter().find(|series| series.name == name)?;
            let summary = &series.summary;
            let milliseconds = |time: u64| time as f64 / 1e6;
            (0 < summary.count).then(|| [summary.p50, summary.p99, summary.p999].map(milliseconds))
        };
        (self.latency, self.last) = (times("latency"), times("last"));
        self.expected = report.counts.expected;
        self.delivered = report.counts.ok;
        self.lost_share = report.counts.lost as f64 / report.counts.expected.max(1) as f64;
        if let Some(usage) = report.processes.first() {
            self.relay_share = usage.cpu_share;
            self.cpu_microseconds =
                (0 < self.delivered).then(|| usage.cpu_seconds * 1e6 / self.delivered as f64);
        }
        let figure = |name: &str| report.figures.get(name).copied();
        self.load_share = figure("generator busy (share of a core)").unwrap_or(0.0);
        self.load_lag_p99 = times("lag").map_or(0.0, |lag| lag[1]);
        self.load_invalid.clone_from(&report.validity.invalid);
    }

    fn derive(&mut self) {
        if let Some(cpu) = self.cpu_microseconds.filter(|cpu| 0.0 < *cpu) {
            self.deliveries_per_core = 1e6 / cpu;
            self.gigabits_per_core = self.size as f64 * 8.0 / cpu / 1e3;
        }
    }
}

impl Comparison {
    /// One that has not begun.
    pub fn new(plan: &Plan, contestants: &[Contestant]) -> Self {
        Self {
            environment: Environment::observe(),
            cells: plan.cells.clone(),
            contestants: contestants.iter().map(|one| one.name.to_owned()).collect(),
            seconds: plan.seconds,
            rows: Vec::new(),
            idle: Vec::new(),
            missing: Vec::new(),
            medians: Vec::new(),
            kinds: contestants.iter().map(|one| one.kind).collect(),
        }
    }

    /// Sums up.
    pub fn conclude(&mut self) {
        self.environment.conclude();
        self.rows.iter_mut().for_each(Row::derive);
        for cell in &self.cells {
            for contestant in &self.contestants {
                let rows: Vec<&Row> = self
                    .rows
                    .iter()
                    .filter(|row| (&row.cell, row.subscribers) == (&cell.name, cell.subscribers))
                    .filter(|row| row.contestant == *contestant)
                    .collect();
                self.medians.extend(median(&rows));
            }
        }
    }

    /// The median row of who did what.
    pub fn of(&self, contestant: &str, cell: &Cell) -> Option<&Row> {
        self.medians.iter().find(|row| {
            row.contestant == contestant
                && (&row.cell, row.subscribers) == (&cell.name, cell.subscribers)
        })
    }

    /// Names of those of a kind.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let pairs = self.contestants.iter().zip(&self.kinds);
        pairs.filter(move |(_, it)| **it == kind).map(|(name, _)| name.as_str())
    }

    /// Cells that all took part in.
    pub fn shared_cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| cell.reach == Reach::Everyone)
    }
}

/// Each figure's median by itself; what went wrong in any run is kept.
fn median(rows: &[&Row]) -> Option<Row> {
    let first = rows.first()?;
    let of = |figure: &dyn Fn(&Row) -> Option<f64>| {
        let mut values: Vec<f64> = rows.iter().filter_map(|row| figure(row)).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        Some((values.get(low)? + values.get(high)?) / 2.0)
    };
    let three = |figure: fn(&Row) -> Option<[f64; 3]>| {
        let at = |index: usize| of(&|row| figure(row).map(|times| times[index]));
        Some([at(0)?, at(1)?, at(2)?])
    };
    let sum = |figure: fn(&Row) -> u64| rows.iter().map(|row| figure(row)).sum();
    let mut row = Row {
        cpu_microseconds: of(&|row| row.cpu_microseconds),
        relay_share: of(&|row| Some(row.relay_share)).unwrap_or(0.0),
        latency: three(|row| row.latency),
        last: three(|row| row.last),
        expected: sum(|row| row.expected),
        delivered: sum(|row| row.delivered),
        lost_share: of(&|row| Some(row.lost_share)).unwrap_or(0.0),
        rss_peak_bytes: rows.iter().map(|row| row.rss_peak_bytes).max().unwrap_or(0),
        load_share: of(&|row| Some(row.load_share)).unwrap_or(0.0),
        load_lag_p99: of(&|row| Some(row.load_lag_p99)).unwrap_or(0.0),
        load_invalid: rows.iter().flat_map(|row| row.load_invalid.clone()).collect(),
        failed: rows.iter().find_map(|row| row.failed.clone()),
        ..(*first).clone()
    };
    row.load_invalid.dedup();
    row.derive();
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_each_figure_and_keep_what_went_wrong() {
        let row = |cpu: f64, failed: Option<&str>| Row {
            size: 1_000,
            cpu_microseconds: Some(cpu),
            latency: Some([cpu, 2.0 * cpu, 3.0 * cpu]),
            failed: failed.map(str::to_owned),
            ..Row::default()
        };
        let (one, two, three) = (row(1.0, None), row(4.0, None), row(2.0, Some("it fell")));
        let middle = median(&[&one, &two, &three]).unwrap();
        assert_eq!(middle.cpu_microseconds, Some(2.0));
        assert_eq!(middle.latency, Some([2.0, 4.0, 6.0]));
        assert_eq!((middle.deliveries_per_core, middle.gigabits_per_core), (500_000.0, 4.0));
        assert_eq!(middle.failed.as_deref(), Some("it fell"));
        assert_eq!(median(&[&one, &two]).unwrap().cpu_microseconds, Some(2.5));
        assert!(median(&[]).is_none());
    }
}

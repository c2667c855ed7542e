//! `aip-load compare A.json B.json`: whether the second run is worse than the first.

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

use crate::report::{Report, Series, time};

/// What to make of two reports.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// By what share a time may be longer, or a rate lower, in the second report. 0.1.
    pub tolerance: f64,
    /// Whether reports of different plans are compared all the same. false.
    pub force: bool,
}

/// What came of a comparison.
#[derive(Debug)]
pub struct Comparison {
    /// For people.
    pub text: String,
    /// What is worse; empty if nothing is.
    pub regressions: Vec<String>,
}

/// Why two reports cannot be compared.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// They asked for different things.
    #[error("the reports are of different plans ({0} and {1}); --force compares them all the same")]
    Plans(String, String),
    /// One may not be believed.
    #[error("{0} is invalid: {1}")]
    Invalid(String, String),
}

/// Compares percentiles, rates and faults of two reports.
///
/// # Errors
/// If their plans differ, or one is invalid.
pub fn compare(before: &Report, after: &Report, options: Options) -> Result<Comparison, Refused> {
    for (which, report) in [("the first report", before), ("the second report", after)] {
        if let Some(reason) = report.validity.invalid.first() {
            return Err(Refused::Invalid(which.to_owned(), reason.clone()));
        }
    }
    if before.fingerprint != after.fingerprint && !options.force {
        let short = |report: &Report| report.fingerprint.chars().take(12).collect();
        return Err(Refused::Plans(short(before), short(after)));
    }
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(["", "before", "after", "change"]);
    let mut regressions = Vec::new();
    for series in &before.series {
        let same = |other: &&Series| other.title() == series.title();
        let Some(other) = after.series.iter().find(same) else { continue };
        for (name, from, to) in percentiles(series, other) {
            let title = format!("{} {name}", series.title());
            table.add_row([title.clone(), time(from), time(to), change(from as f64, to as f64)]);
            // Of the tail beyond p99 few answers are left: it is shown, and decides nothing.
            let judged = name == "p50" || name == "p99";
            if judged && from as f64 * (1.0 + options.tolerance) < to as f64 {
                regressions.push(format!("{title}: {} became {}", time(from), time(to)));
            }
        }
    }
    let (from, to) = (before.rate(), after.rate());
    let rates = [format!("{from:.1}"), format!("{to:.1}")];
    table.add_row(["rate /s".to_owned(), rates[0].clone(), rates[1].clone(), change(from, to)]);
    if to < from * (1.0 - options.tolerance) {
        regressions.push(format!("rate: {from:.1} became {to:.1} per second"));
    }
    for (name, from, to) in faults(before, after) {
        table.add_row([name.to_owned(), share(from), share(to), change(from, to)]);
        // Faults are rare: any that is beyond the tolerance and one in 10,000 is worse.
        if from * (1.0 + options.tolerance) + 1e-4 < to {
            regressions.push(format!("{name}: {} became {}", share(from), share(to)));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    Ok(Comparison { text: table.to_string(), regressions })
}

fn percentiles(before: &Series, after: &Series) -> Vec<(&'static str, u64, u64)> {
    let (from, to) = (&before.summary, &after.summary);
    vec![
        ("p50", from.p50, to.p50),
        ("p90", from.p90, to.p90),
        ("p99", from.p99, to.p99),
        ("p99.9", from.p999, to.p999),
        ("max", from.max, to.max),
    ]
}

fn faults(before: &Report, after: &Report) -> [(&'static str, f64, f64); 5] {
    let of = |report: &Report, count: u64| count as f64 / report.counts.expected.max(1) as f64;
    let (from, to) = (&before.counts, &after.counts);
    [
        ("errors", of(before, from.errors_total()), of(after, to.errors_total())),
        ("lost", of(before, from.lost), of(after, to.lost)),
        ("duplicated", of(before, from.duplicated), of(after, to.duplicated)),
        ("late", of(before, from.late), of(after, to.late)),
        ("wrong", of(before, from.wrong), of(after, to.wrong)),
    ]
}

fn share(share: f64) -> String {
    format!("{:.4} %", share * 100.0)
}

fn change(from: f64, to: f64) -> String {
    if from == to {
        "=".to_owned()
    } else if from == 0.0 {
        "new".to_owned()
    } else {
        format!("{:+.1} %", (to / from - 1.0) * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{measure::Times, report::tests_support::report};

    const OPTIONS: Options = Options { tolerance: 0.1, force: false };

    fn run(milliseconds: u64, lost: u64) -> Report {
        let mut times = Times::default();
        for index in 1..=100 {
            times.record(milliseconds * index * 10_000);
        }
        let mut report = report();
        report.series = vec![Series::new("latency", [], &times)];
        report.counts.expected = 1_000;
        report.counts.ok = 1_000 - lost;
        report.counts.lost = lost;
        report
    }

    #[test]
    fn a_slower_run_is_a_regression_and_a_faster_one_is_none() {
        let comparison = compare(&run(10, 0), &run(12, 0), OPTIONS).unwrap();
        assert_eq!(comparison.regressions.len(), 2, "{:?}", comparison.regressions);
        assert!(comparison.text.contains("+20.0 %"));
        for milliseconds in [5, 10] {
            let comparison = compare(&run(10, 0), &run(milliseconds, 0), OPTIONS).unwrap();
            assert_eq!(comparison.regressions, Vec::<String>::new());
        }
        let within = Options { tolerance: 0.25, ..OPTIONS };
        assert!(compare(&run(10, 0), &run(12, 0), within).unwrap().regressions.is_empty());
    }

    #[test]
    fn new_losses_are_a_regression() {
        let comparison = compare(&run(10, 0), &run(10, 5), OPTIONS).unwrap();
        assert_eq!(comparison.regressions, ["lost: 0.0000 % became 0.5000 %"]);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let mut other = run(10, 0);
        other.fingerprint = "0".repeat(64);
        assert!(matches!(compare(&run(10, 0), &other, OPTIONS), Err(Refused::Plans(..))));
        let force = Options { force: true, ..OPTIONS };
        assert!(compare(&run(10, 0), &other, force).is_ok());
        let mut invalid = run(10, 0);
        invalid.validity.invalid.push("the generator was late".to_owned());
        assert!(matches!(compare(&run(10, 0), &invalid, OPTIONS), Err(Refused::Invalid(..))));
    }
}

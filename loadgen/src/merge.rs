//! Reports of several processes as one: counts add, histograms merge count by count.

use std::collections::BTreeMap;

use crate::report::{Report, Series};

/// One report of all, which ran the same plan at the same time.
///
/// Rates add, since the measured time was the same. Of each second the percentiles are the worst
/// process's: only whole histograms merge exactly. Figures are left out: they are each process's.
///
/// # Errors
/// If there is none, their plans differ, or a histogram cannot be read.
pub fn merge(reports: &[Report]) -> Result<Report, String> {
    let Some((first, others)) = reports.split_first() else {
        return Err("there is nothing to merge".to_owned());
    };
    let mut whole = first.clone();
    whole.figures = BTreeMap::from([("processes merged".to_owned(), reports.len() as f64)]);
    for report in others {
        if report.fingerprint != whole.fingerprint {
            return Err("the reports are of different plans, which do not add up".to_owned());
        }
        whole.counts.add(&report.counts);
        whole.seconds = whole.seconds.max(report.seconds);
        for reason in &report.validity.invalid {
            whole.validity.invalid.push(format!("{}: {reason}", report.target));
        }
        whole.validity.warnings.extend(report.validity.warnings.iter().cloned());
        whole.processes.extend(report.processes.iter().cloned());
        add_timeline(&mut whole, report);
    }
    whole.validity.warnings.sort();
    whole.validity.warnings.dedup();
    whole.series = merged_series(reports)?;
    Ok(whole)
}

fn add_timeline(whole: &mut Report, report: &Report) {
    let more = report.timeline.len().saturating_sub(whole.timeline.len());
    whole.timeline.extend(report.timeline.iter().rev().take(more).rev().map(|second| {
        crate::report::Interval { at: second.at, ..crate::report::Interval::default() }
    }));
    for (sum, second) in whole.timeline.iter_mut().zip(&report.timeline) {
        sum.ok += second.ok;
        sum.errors += second.errors;
        sum.p50 = sum.p50.max(second.p50);
        sum.p99 = sum.p99.max(second.p99);
        sum.max = sum.max.max(second.max);
    }
}

fn merged_series(reports: &[Report]) -> Result<Vec<Series>, String> {
    let mut merged: Vec<Series> = Vec::new();
    for series in reports.iter().flat_map(|report| &report.series) {
        match merged.iter_mut().find(|known| known.title() == series.title()) {
            None => merged.push(series.clone()),
            Some(known) => {
                let mut times = known.times()?;
                times.add(&series.times()?);
                let labels = known.labels.clone();
                *known = Series { labels, ..Series::new(&series.name, [], &times) };
            }
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        measure::Times,
        report::{Interval, tests_support::report},
    };

    #[test]
    fn merged_reports_are_the_report_of_all() {
        let mut random = fastrand::Rng::with_seed(9);
        let mut all = Times::default();
        let mut parts = Vec::new();
        for part in 0..3_u64 {
            let mut times = Times::default();
            for _ in 0..1_000 {
                let time = random.u64(1_000..1_000_000_000);
                times.record(time);
                all.record(time);
            }
            let mut one = report();
            one.series = vec![Series::new("latency", [("tool", "echo")], &times)];
            one.counts.expected = 1_000;
            one.counts.ok = 1_000 - part;
            one.counts.lost = part;
            one.timeline = (0..=part)
                .map(|at| Interval { at: at as f64, ok: 10, p99: part, ..Interval::default() })
                .collect();
            parts.push(one);
        }
        let whole = merge(&parts).unwrap();
        assert_eq!(whole.series.len(), 1);
        assert_eq!(whole.series[0].times().unwrap(), all);
        assert_eq!(whole.series[0].title(), "latency[tool=echo]");
        assert_eq!((whole.counts.expected, whole.counts.ok, whole.counts.lost), (3_000, 2_997, 3));
        let seconds: Vec<_> = whole.timeline.iter().map(|second| (second.ok, second.p99)).collect();
        assert_eq!(seconds, [(30, 2), (20, 2), (10, 2)]);
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let mut other = report();
        other.fingerprint = "0".repeat(64);
        assert!(merge(&[report(), other]).is_err());
        assert!(merge(&[]).is_err());
    }

    #[test]
    fn one_invalid_part_makes_the_whole_invalid() {
        let mut invalid = report();
        invalid.validity.invalid.push("late".to_owned());
        assert!(!merge(&[report(), invalid]).unwrap().validity.is_valid());
    }
}

//! HdrHistogram's percentile text (`.hgrm`), which its plotters read.

use std::fmt::Write as _;

use crate::measure::Times;

/// Half distances to 100 % have so many lines each.
const TICKS: u32 = 5;

/// The percentile distribution, in milliseconds.
pub fn text(times: &Times) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let total = times.count();
    let mut seen = 0;
    let mut next = 0.0;
    let mut step = 0_u32;
    for (value, count) in times.recorded() {
        seen += count;
        let share = seen as f64 / total as f64;
        if share < next {
            continue;
        }
        let milliseconds = value as f64 / 1e6;
        let written = if seen == total {
            writeln!(text, "{milliseconds:>12.6} {share:>14.12} {seen:>10}")
        } else {
            let inverse = 1.0 / (1.0 - share);
            writeln!(text, "{milliseconds:>12.6} {share:>14.12} {seen:>10} {inverse:>14.2}")
        };
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        while next <= share && next < 1.0 {
            step += 1;
            let halves = step / TICKS;
            let within = f64::from(step % TICKS) / f64::from(TICKS);
            next = 1.0 - 0.5_f64.powi(i32::try_from(halves).unwrap_or(64)) * (1.0 - within / 2.0);
        }
    }
    let summary = times.summary();
    let (mean, deviation) = (summary.mean / 1e6, summary.deviation / 1e6);
    let max = summary.max as f64 / 1e6;
    let written = write!(
        text,
        "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]\n\
         #[Max     = {max:>12.3}, Total count    = {total:>12}]\n"
    );
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_ascend_to_one() {
        let mut times = Times::default();
        for index in 1..=10_000_u64 {
            times.record(index * 1_000);
        }
        let text = text(&times);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(30 < rows.len());
        assert!(rows.windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] < pair[1][1]));
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2]), (1.0, 10_000.0));
        assert!((last[0] - 10.0).abs() < 0.02, "milliseconds");
        assert!(text.contains("Total count    =        10000"));
    }
}

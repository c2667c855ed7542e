//! The report as Prometheus text (version 0.0.4), for a push gateway or a textfile collector.

use std::fmt::Write as _;

use super::Report;

/// All metrics; times in seconds.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    let target = escape(&report.target);
    let run = format!("command=\"{}\",target=\"{target}\"", report.command);
    let mut simple = |name: &str, help: &str, kind: &str, values: &[(String, f64)]| {
        // Writing to a string cannot fail.
        _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in values {
            let comma = if labels.is_empty() { "" } else { "," };
            _ = writeln!(text, "{name}{{{run}{comma}{labels}}} {value}");
        }
    };
    let one = |value: f64| vec![(String::new(), value)];
    let counts = &report.counts;
    simple(
        "aip_load_valid",
        "Whether the run's figures may be believed.",
        "gauge",
        &one(f64::from(u8::from(report.validity.is_valid()))),
    );
    simple("aip_load_rate", "Right answers per second.", "gauge", &one(report.rate()));
    for (name, help, value) in [
        ("expected", "Answers or deliveries owed.", counts.expected),
        ("ok", "Those that came right.", counts.ok),
        ("lost", "Those that never came.", counts.lost),
        ("duplicated", "Those that came again.", counts.duplicated),
        ("late", "Those that came after the deadline.", counts.late),
        ("wrong", "Those whose bytes are not what was sent.", counts.wrong),
        ("reordered", "Those that came after a later one.", counts.reordered),
    ] {
        simple(&format!("aip_load_{name}"), help, "gauge", &one(value as f64));
    }
    let errors: Vec<_> = counts
        .errors
        .iter()
        .map(|(kind, count)| (format!("kind=\"{}\"", escape(kind)), *count as f64))
        .collect();
    simple("aip_load_errors", "Errors by kind.", "gauge", &errors);
    let mut quantiles = Vec::new();
    for series in &report.series {
        let of = &series.summary;
        let mut labels = format!("series=\"{}\"", escape(&series.name));
        for (key, value) in &series.labels {
            _ = write!(labels, ",{}=\"{}\"", key.replace('-', "_"), escape(value));
        }
        for (quantile, value) in
            [("0.5", of.p50), ("0.9", of.p90), ("0.99", of.p99), ("0.999", of.p999), ("1", of.max)]
        {
            quantiles.push((format!("{labels},quantile=\"{quantile}\""), value as f64 / 1e9));
        }
    }
    simple("aip_load_seconds", "Times by series and quantile.", "gauge", &quantiles);
    text
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        measure::Times,
        report::{Series, tests_support::report},
    };

    #[test]
    fn every_line_is_a_metric_or_says_what_one_is() {
        let mut times = Times::default();
        times.record(20_000_000);
        let mut report = report();
        report.target = "a \"quoted\\ target".to_owned();
        report.series = vec![Series::new("latency", [("tool", "echo")], &times)];
        report.counts.error("timeout");
        let text = text(&report);
        for line in text.lines() {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let known = line.starts_with("# ") || name.starts_with("aip_load_");
            assert!(known && (line.starts_with("# ") || value.parse::<f64>().is_ok()), "{line}");
        }
        assert!(text.contains("aip_load_errors{command=\"relay\",target=\"a \\\"quoted\\\\ target\",kind=\"timeout\"} 1\n"));
        assert!(text.contains("series=\"latency\",tool=\"echo\",quantile=\"0.99\"} 0.02"));
    }
}

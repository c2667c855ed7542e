//! The report as one HTML file that needs nothing else: figures, tables, plots.

mod plot;

use std::fmt::Write as _;

use self::plot::{Axes, LINES_MAX, Line, plot};
use super::{Report, Series, table};

/// The whole page.
///
/// # Errors
/// If a plot cannot be drawn.
pub fn text(report: &Report) -> Result<String, String> {
    let mut page = String::with_capacity(64 << 10);
    let title = format!("aip-load {}: {}", report.command, report.target);
    // Writing to a string cannot fail.
    _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}\
         </style><h1>{title}</h1>",
        title = escape(&title)
    );
    for reason in &report.validity.invalid {
        _ = write!(page, "<p class=\"invalid\">INVALID: {}</p>", escape(reason));
    }
    for warning in &report.validity.warnings {
        _ = write!(page, "<p class=\"warning\">{}</p>", escape(warning));
    }
    _ = write!(page, "<h2>Percentiles</h2>{}", percentiles(report)?);
    if !report.timeline.is_empty() {
        _ = write!(page, "<h2>Second by second</h2>{}{}", rates(report)?, latencies(report)?);
    }
    _ = write!(
        page,
        "<h2>Figures</h2><pre>{}</pre><h2>Plan</h2><p>fingerprint {}, seed {}</p><pre>{}</pre>\
         <h2>Environment</h2><pre>{}</pre></html>",
        escape(&table::text(report)),
        escape(&report.fingerprint),
        report.seed,
        escape(&serde_json::to_string_pretty(&report.plan).unwrap_or_default()),
        escape(&serde_json::to_string_pretty(&report.environment).unwrap_or_default()),
    );
    Ok(page)
}

/// A page that shows several reports beside each other: one line of each, and a row.
///
/// # Errors
/// If a plot cannot be drawn.
pub fn side_by_side(title: &str, reports: &[(String, Report)]) -> Result<String, String> {
    let mut lines = Vec::new();
    let mut most = 10;
    for (name, report) in reports.iter().take(LINES_MAX) {
        if let Some(series) = report.main() {
            lines.push(Line::of_percentiles(name.clone(), &series.times()?));
            most = most.max(series.summary.count);
        }
    }
    let mut page = String::new();
    let title = escape(title);
    // Writing to a string cannot fail.
    _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}\
         </style><h1>{title}</h1><h2>Percentiles</h2>{}<h2>Figures</h2><pre>{}</pre>",
        percentile_plot(&lines, "latency by percentile (ms)", most)?,
        escape(&table::rows(reports)),
    );
    for (name, report) in reports {
        for reason in &report.validity.invalid {
            let name = escape(name);
            _ = write!(page, "<p class=\"invalid\">{name} is INVALID: {}</p>", escape(reason));
        }
    }
    if let Some((_, report)) = reports.first() {
        let environment = serde_json::to_string_pretty(&report.environment).unwrap_or_default();
        _ = write!(page, "<h2>Environment</h2><pre>{}</pre>", escape(&environment));
    }
    page.push_str("</html>");
    Ok(page)
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em}\
    pre{overflow-x:auto;background:#f6f8fa;padding:1em;font-size:12px;line-height:1.25}\
    .invalid{background:#fdd;padding:.5em 1em;font-weight:bold}.warning{background:#fff3cd;padding:.5em 1em}\
    svg{max-width:100%;height:auto}";

/// Text that may hold a target's words, for HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// Latency over percentiles, which lie by 1 / (1 − share): each nine has the same room.
/// One plot, and one of its own for what is of another size: the times to connect.
fn percentiles(report: &Report) -> Result<String, String> {
    let shown = |series: &&Series| {
        let is_part = series.name == "service" && !series.labels.is_empty();
        series.name != "lag" && !is_part && 1 < series.summary.count
    };
    let (connects, others): (Vec<_>, Vec<_>) =
        report.series.iter().filter(shown).partition(|series| series.name == "connect");
    let mut plots = String::new();
    for (series, title) in
        [(others, "latency by percentile (ms)"), (connects, "time to connect by percentile (ms)")]
    {
        let most = series.iter().map(|series| series.summary.count.max(10)).max();
        let Some(most) = most else { continue };
        let mut lines = Vec::new();
        for series in series.into_iter().take(LINES_MAX) {
            lines.push(Line::of_percentiles(series.title(), &series.times()?));
        }
        plots += &percentile_plot(&lines, title, most)?;
    }
    Ok(plots)
}

fn percentile_plot(lines: &[Line], title: &str, most: u64) -> Result<String, String> {
    let label = |inverse: &f64| {
        format!("{:.6}", 100.0 * (1.0 - 1.0 / inverse))
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
            + " %"
    };
    plot(lines, Axes { title, x_max: 2.0 * most as f64, label: &label, log: true })
}

fn rates(report: &Report) -> Result<String, String> {
    let points = |value: fn(&super::Interval) -> u64| {
        report.timeline.iter().map(|second| (second.at, value(second) as f64)).collect()
    };
    let lines = [
        Line { name: "right /s".to_owned(), points: points(|second| second.ok) },
        Line { name: "errors /s".to_owned(), points: points(|second| second.errors) },
    ];
    seconds(report, &lines, "answers per second")
}

fn latencies(report: &Report) -> Result<String, String> {
    let points = |value: fn(&super::Interval) -> u64| {
        report.timeline.iter().map(|second| (second.at, value(second) as f64 / 1e6)).collect()
    };
    let lines = [
        Line { name: "p50".to_owned(), points: points(|second| second.p50) },
        Line { name: "max".to_owned(), points: points(|second| second.max) },
        Line { name: "p99".to_owned(), points: points(|second| second.p99) },
    ];
    seconds(report, &lines, "latency by second (ms)")
}

fn seconds(report: &Report, lines: &[Line], title: &str) -> Result<String, String> {
    let last = report.timeline.last().map_or(1.0, |second| second.at).max(1.0);
    let label = |second: &f64| format!("{second:.0} s");
    plot(lines, Axes { title, x_max: last, label: &label, log: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        measure::Times,
        report::{Interval, tests_support::report},
    };

    #[test]
    fn a_page_holds_all_it_needs_and_no_markup_of_the_target() {
        let mut times = Times::default();
        for index in 1..=1_000_u64 {
            times.record(index * 10_000);
        }
        let mut report = report();
        report.target = "<script>alert(1)</script>".to_owned();
        let latency = Series::new("latency", [("tool", "<b>")], &times);
        report.series = vec![latency, Series::new("connect", [], &times)];
        report.timeline =
            (0..5).map(|at| Interval { at: f64::from(at), ok: 7, ..Interval::default() }).collect();
        report.validity.invalid.push("late & lost".to_owned());
        let page = text(&report).unwrap();
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(page.contains("<polyline"), "lines are drawn");
        assert!(page.contains("INVALID: late &amp; lost"));
        for absent in ["<script", "<b>", "http-equiv", "src=", "href=", "@import"] {
            assert!(!page.contains(absent), "{absent}");
        }
    }

    #[test]
    fn reports_stand_side_by_side() {
        let mut times = Times::default();
        for index in 1..=100_000_u64 {
            times.record(index * 1_000);
        }
        let mut one = report();
        one.series = vec![Series::new("latency", [], &times)];
        let reports = [("http".to_owned(), one.clone()), ("<relay>".to_owned(), one)];
        let page = side_by_side("two ways", &reports).unwrap();
        assert!(page.contains("http") && page.contains("&lt;relay&gt;"));
        assert!(page.len() < 64 << 10, "{} bytes: points that nobody can see", page.len());
    }

    #[test]
    fn a_report_of_nothing_is_a_page_too() {
        assert!(text(&report()).unwrap().contains("<h2>Figures</h2>"));
    }
}

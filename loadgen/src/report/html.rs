//! The report as one HTML file that needs nothing else: figures, tables, plots.

use std::fmt::Write as _;

use plotters::{
    chart::ChartBuilder,
    drawing::IntoDrawingArea as _,
    prelude::{IntoLogRange as _, SVGBackend},
    series::LineSeries,
    style::{RGBColor, WHITE},
};

use super::{Report, Series, table};

const WIDTH: u32 = 860;
const HEIGHT: u32 = 320;
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
    RGBColor(23, 190, 207),
];

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

/// A line of a plot.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Latency over percentiles, which lie by 1 / (1 − share): each nine has the same room.
fn percentiles(report: &Report) -> Result<String, String> {
    let mut lines = Vec::new();
    let shown = |series: &&Series| series.name != "lag" && 1 < series.summary.count;
    for series in report.series.iter().filter(shown).take(COLOURS.len()) {
        let times = series.times()?;
        let total = times.count() as f64;
        let mut seen = 0;
        let mut points = Vec::new();
        for (value, count) in times.recorded() {
            seen += count;
            let left = (1.0 - seen as f64 / total).max(0.5 / total);
            points.push((1.0 / left, value as f64 / 1e6));
        }
        lines.push(Line { name: series.title(), points });
    }
    let most = report.main().map_or(10.0, |series| 2.0 * series.summary.count.max(10) as f64);
    let label = |inverse: &f64| {
        format!("{:.6}", 100.0 * (1.0 - 1.0 / inverse))
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
            + " %"
    };
    plot(
        &lines,
        Axes { title: "latency by percentile (ms)", x_max: most, label: &label, log: true },
    )
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

struct Axes<'a> {
    title: &'a str,
    x_max: f64,
    label: &'a dyn Fn(&f64) -> String,
    log: bool,
}

/// Draws lines, as SVG.
fn plot(lines: &[Line], axes: Axes<'_>) -> Result<String, String> {
    let mut svg = String::new();
    {
        let highest = lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
        let y_max = highest.fold(1e-3, f64::max) * 1.05;
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        let wrong = |error: &dyn std::fmt::Display| format!("a plot could not be drawn: {error}");
        area.fill(&WHITE).map_err(|error| wrong(&error))?;
        let mut builder = ChartBuilder::on(&area);
        builder.caption(axes.title, ("sans-serif", 16)).margin(8);
        builder.x_label_area_size(28).y_label_area_size(56);
        macro_rules! draw {
            ($x:expr) => {{
                let mut chart =
                    builder.build_cartesian_2d($x, 0.0..y_max).map_err(|error| wrong(&error))?;
                let mut mesh = chart.configure_mesh();
                mesh.x_label_formatter(axes.label).light_line_style(WHITE);
                mesh.draw().map_err(|error| wrong(&error))?;
                for (line, colour) in lines.iter().zip(COLOURS) {
                    chart
                        .draw_series(LineSeries::new(line.points.iter().copied(), colour))
                        .map_err(|error| wrong(&error))?;
                }
            }};
        }
        if axes.log {
            draw!((1.0..axes.x_max).log_scale())
        } else {
            draw!(0.0..axes.x_max)
        }
        area.present().map_err(|error| wrong(&error))?;
    }
    let mut legend = String::from("<p>");
    for (line, colour) in lines.iter().zip(COLOURS) {
        let RGBColor(red, green, blue) = colour;
        let name = escape(&line.name);
        // Writing to a string cannot fail.
        _ = write!(legend, "<span style=\"color:rgb({red},{green},{blue})\">■</span> {name}&ensp;");
    }
    legend.push_str("</p>");
    Ok(format!("{svg}{legend}"))
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
        report.series = vec![Series::new("latency", [("tool", "<b>")], &times)];
        report.timeline =
            (0..5).map(|at| Interval { at: f64::from(at), ok: 7, ..Interval::default() }).collect();
        report.validity.invalid.push("late & lost".to_owned());
        let page = text(&report).unwrap();
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("<polyline"), "lines are drawn");
        assert!(page.contains("INVALID: late &amp; lost"));
        for absent in ["<script", "<b>", "http-equiv", "src=", "href=", "@import"] {
            assert!(!page.contains(absent), "{absent}");
        }
    }

    #[test]
    fn a_report_of_nothing_is_a_page_too() {
        assert!(text(&report()).unwrap().contains("<h2>Figures</h2>"));
    }
}

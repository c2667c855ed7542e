//! The final table.

use std::{collections::BTreeMap, fmt::Write as _};

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

use super::{Report, Series, count, time};

/// The report for people.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    _ = writeln!(text, "aip-load {}: {}", report.command, report.target);
    _ = writeln!(text, "{}", times(report));
    _ = writeln!(text, "{}", counts(report));
    for (name, value) in &report.figures {
        _ = writeln!(text, "{name:>40} {}", figure(*value));
    }
    for usage in &report.processes {
        _ = writeln!(
            text,
            "process {} ({}): CPU {:.2} s = {:.0} % of a core, RSS at most {} MiB, \
             context switches {} voluntary, {} not",
            usage.pid,
            usage.name,
            usage.cpu_seconds,
            usage.cpu_share * 100.0,
            usage.rss_max_bytes >> 20,
            count(usage.switches_voluntary),
            count(usage.switches_involuntary),
        );
    }
    let environment = &report.environment;
    _ = writeln!(
        text,
        "seed {}, plan {}, {} × {}, Linux {}, load {:.2} before and {:.2} after",
        report.seed,
        report.fingerprint.get(..12).unwrap_or_default(),
        environment.cores,
        environment.cpu,
        environment.kernel,
        environment.load_before,
        environment.load_after,
    );
    for warning in &report.validity.warnings {
        _ = writeln!(text, "warning: {warning}");
    }
    for reason in &report.validity.invalid {
        _ = writeln!(text, "INVALID: {reason}");
    }
    text
}

/// Reports side by side, one a row, as a Markdown table, and where they come from.
pub fn rows(reports: &[(String, Report)]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN).set_header([
        "run", "right /s", "p50", "p99", "p99.9", "max", "errors", "lost", "wrong", "valid",
    ]);
    for (name, report) in reports {
        let of = report.main().map(|series| series.summary.clone()).unwrap_or_default();
        table.add_row([
            name.clone(),
            format!("{:.1}", report.rate()),
            time(of.p50),
            time(of.p99),
            time(of.p999),
            time(of.max),
            count(report.counts.errors_total()),
            count(report.counts.lost),
            count(report.counts.wrong),
            if report.validity.is_valid() { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    align(&mut table);
    format!("{table}\n{}", machines(reports))
}

/// Where reports come from, a paragraph for each machine.
fn machines(reports: &[(String, Report)]) -> String {
    let mut machines: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (_, report) in reports {
        let environment = &report.environment;
        let load = environment.load_before;
        let name = format!(
            "{} × {}, Linux {}, aip-load {}{}",
            environment.cores,
            environment.cpu,
            environment.kernel,
            environment.version,
            if environment.optimised { "" } else { " (debug build)" },
        );
        let loads = machines.entry(name).or_insert((load, load));
        *loads = (loads.0.min(load), loads.1.max(load));
    }
    let mut text = String::new();
    for (name, (least, most)) in machines {
        // Writing to a string cannot fail.
        _ = writeln!(text, "\n{name}; load average {least:.2} to {most:.2} when runs began");
    }
    text
}

fn figure(value: f64) -> String {
    let whole = value.abs() < 1e15 && value.fract() == 0.0 && 0.0 <= value;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was just seen to be whole, positive and small"
    )]
    let text = if whole { count(value as u64) } else { format!("{value:.3}") };
    text
}

fn times(report: &Report) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_header(["times", "count", "mean", "p50", "p90", "p99", "p99.9", "max"]);
    // What a terminal has room for; the other outputs have all of it.
    let shown = |series: &&Series| series.name != "service" || series.labels.is_empty();
    for series in report.series.iter().filter(shown) {
        let of = &series.summary;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a mean of nanoseconds is no more than ten minutes"
        )]
        let mean = of.mean as u64;
        let words = [&series.name].into_iter().chain(series.labels.values()).map(String::as_str);
        let title: Vec<_> = words.collect();
        let mut row = vec![title.join(" "), count(of.count)];
        row.extend([mean, of.p50, of.p90, of.p99, of.p999, of.max].map(time));
        table.add_row(row);
    }
    align(&mut table);
    table
}

fn counts(report: &Report) -> Table {
    let mut table = Table::new();
    let counts = &report.counts;
    table.load_style(UTF8_BORDERS_ONLY).set_header([
        "expected",
        "right",
        "per second",
        "Mbit/s",
        "errors",
        "lost",
        "duplicated",
        "late",
        "wrong",
        "reordered",
    ]);
    let megabits =
        if report.seconds == 0.0 { 0.0 } else { counts.bytes as f64 * 8.0 / 1e6 / report.seconds };
    table.add_row([
        count(counts.expected),
        count(counts.ok),
        format!("{:.1}", report.rate()),
        format!("{megabits:.2}"),
        count(counts.errors_total()),
        count(counts.lost),
        count(counts.duplicated),
        count(counts.late),
        count(counts.wrong),
        count(counts.reordered),
    ]);
    for (kind, errors) in &counts.errors {
        table.add_row([format!("error: {kind}"), count(*errors)]);
    }
    align(&mut table);
    table
}

fn align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

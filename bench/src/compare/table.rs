//! The page: tables in Markdown, which a terminal shows as well.

use std::fmt::Write as _;

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use super::{
    cell::Cell,
    contestant::Kind,
    outcome::{Comparison, Row},
};

fn table(head: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(head);
    table
}

fn figure(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value < 10.0 => format!("{value:.2}"),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// The whole page.
pub fn page(comparison: &Comparison) -> String {
    let mut page = String::from("# Relays side by side\n\n");
    let place = &comparison.environment;
    // Writing to a string cannot fail.
    _ = writeln!(
        page,
        "`make bench-compare` on {} × {}, Linux {}; each relay alone on one core, the load \
         (`aip-load relay`, draft 18) on another, in turn, {} s measured, medians of the rounds in \
         alternating order. Load average of the machine {:.1} before and {:.1} after; the run \
         itself makes up to 2. Where others used the machine, CPU time per delivery holds up \
         best and latency worst. An asterisk: the load itself was late or saturated, so that \
         latency there is its own, and CPU time too low where objects came in bunches that shared \
         packets and wake-ups.\n",
        place.cores,
        place.cpu,
        place.kernel,
        comparison.seconds,
        place.load_before,
        place.load_after,
    );
    _ = writeln!(page, "## CPU of the relay, µs per delivered object\n\n{}", cpu(comparison));
    _ = writeln!(page, "\n## Ratios\n\n{}", ratios(comparison));
    _ = writeln!(page, "\n## Latency, losses, memory\n\n{}", details(comparison));
    _ = writeln!(page, "\n## Memory of an idle session\n\n{}", idle(comparison));
    for (name, command) in &comparison.missing {
        _ = writeln!(page, "\nNot compared: {name}. Install it with `{command}`.");
    }
    _ = writeln!(
        page,
        "\nmoqtail, moxygen, moqx, imquic and libquicr are built from a checkout of their sources, \
         which this does not do. Bare quiche is `aip-control quiche`: bytes of the publisher's \
         streams go on unread. Bare UDP is `aip-control udp`: no reception, no encryption."
    );
    page
}

fn cpu(comparison: &Comparison) -> Table {
    let mut head = vec!["objects".to_owned(), "subscribers".to_owned()];
    head.extend(comparison.contestants.iter().cloned());
    let mut table = table(head);
    for cell in &comparison.cells {
        let mut line = vec![cell.name.clone(), cell.subscribers.to_string()];
        for contestant in &comparison.contestants {
            let row = comparison.of(contestant, cell);
            line.push(row.map_or_else(|| "–".to_owned(), cpu_of));
        }
        table.add_row(line);
    }
    table
}

fn cpu_of(row: &Row) -> String {
    let mut text = figure(row.cpu_microseconds);
    if row.failed.is_some() {
        text.push_str(" (failed)");
    } else {
        let share = (row.relay_share * 100.0).round();
        let mark = if row.load_invalid.is_empty() { "" } else { " *" };
        _ = write!(text, " ({share:.0} % of a core){mark}");
    }
    text
}

fn ratios(comparison: &Comparison) -> Table {
    let head = ["objects", "subscribers", "best peer / ours", "ours / bare quiche"];
    let mut table = table(head.map(str::to_owned).to_vec());
    for cell in &comparison.cells {
        let Some(ours) = least(comparison, cell, Kind::Ours) else { continue };
        let peer = least(comparison, cell, Kind::Peer).map(|peer| peer / ours);
        let quiche = least(comparison, cell, Kind::Quiche).map(|quiche| ours / quiche);
        let subscribers = cell.subscribers.to_string();
        table.add_row([cell.name.clone(), subscribers, figure(peer), figure(quiche)]);
    }
    table
}

/// The least CPU time of those of a kind that delivered nearly all.
pub(super) fn least(comparison: &Comparison, cell: &Cell, kind: Kind) -> Option<f64> {
    let rows = comparison.names(kind).filter_map(|name| comparison.of(name, cell));
    let whole = rows.filter(|row| row.failed.is_none() && row.lost_share < 0.01);
    whole.filter_map(|row| row.cpu_microseconds).min_by(f64::total_cmp)
}

fn details(comparison: &Comparison) -> Table {
    let head = [
        "objects",
        "subscribers",
        "relay",
        "deliveries/s per core",
        "Gbit/s per core",
        "p50 ms",
        "p99",
        "p99.9",
        "last p50 ms",
        "last p99",
        "lost %",
        "peak MiB",
        "load's core %",
        "load's lag p99 ms",
    ];
    let mut table = table(head.map(str::to_owned).to_vec());
    for cell in &comparison.cells {
        for contestant in &comparison.contestants {
            let Some(row) = comparison.of(contestant, cell) else { continue };
            table.add_row(detail(row));
        }
    }
    table
}

fn detail(row: &Row) -> Vec<String> {
    let of = |times: Option<[f64; 3]>, index: usize| figure(times.map(|times| times[index]));
    let mark = if row.load_invalid.is_empty() { "" } else { " *" };
    let relay = match &row.failed {
        Some(reason) => format!("{}: {reason}", row.contestant),
        None => format!("{}{mark}", row.contestant),
    };
    vec![
        row.cell.clone(),
        row.subscribers.to_string(),
        relay,
        format!("{:.0}", row.deliveries_per_core),
        figure(Some(row.gigabits_per_core)),
        of(row.latency, 0),
        of(row.latency, 1),
        of(row.latency, 2),
        of(row.last, 0),
        of(row.last, 1),
        format!("{:.2}", row.lost_share * 100.0),
        format!("{:.1}", row.rss_peak_bytes as f64 / 1_048_576.0),
        format!("{:.0}", row.load_share * 100.0),
        figure(Some(row.load_lag_p99)),
    ]
}

fn idle(comparison: &Comparison) -> Table {
    let mut table = table(["relay", "sessions", "KiB each"].map(str::to_owned).to_vec());
    for one in &comparison.idle {
        let each = match (&one.failed, one.bytes) {
            (Some(reason), _) => reason.clone(),
            (None, bytes) => figure(bytes.map(|bytes| bytes / 1_024.0)),
        };
        table.add_row([one.contestant.clone(), one.sessions.to_string(), each]);
    }
    table
}

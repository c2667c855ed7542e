//! How cost grows: with subscribers, with sessions, with namespaces; and a line through it.

use std::{fmt::Write as _, fs};

use aip_load::environment::Environment;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::{Deserialize, Serialize};

use crate::{compare::outcome::Row, stage::Stage};

/// What so many namespaces cost.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Namespaces {
    /// How many are published.
    pub count: usize,
    /// Memory of each, in the relay and in the session of their publisher, in bytes.
    pub bytes_each: f64,
    /// A SUBSCRIBE's way to the publisher and back, in memory, in microseconds.
    pub lookup_microseconds: f64,
}

/// SUBSCRIBEs that are timed.
const LOOKUPS: usize = 2_000;

/// Publishes so many namespaces and looks for some: in a process of its own, whose memory it is.
#[expect(clippy::disallowed_methods, reason = "a measurement has to read the clock")]
pub fn namespaces(count: usize) -> Namespaces {
    let mut stage = Stage::new(1, 100);
    let before = resident();
    stage.publish_namespaces(count);
    let bytes_each = resident().saturating_sub(before) as f64 / count as f64;
    stage.find(count);
    let began = std::time::Instant::now();
    for _ in 0..LOOKUPS {
        stage.find(count);
    }
    let lookup_microseconds = began.elapsed().as_secs_f64() * 1e6 / LOOKUPS as f64;
    Namespaces { count, bytes_each, lookup_microseconds }
}

fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    u64::saturating_mul(pages.unwrap_or(0), 4_096)
}

/// `fixed / n + each`: what a delivery costs where `n` share what is done once for an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// Done once for an object.
    pub fixed: f64,
    /// Done for each subscriber.
    pub each: f64,
    /// The largest relative error at a point that was measured.
    pub error: f64,
}

/// The model with the least sum of squared relative errors. `None` of fewer than two points.
pub fn fit(points: &[(f64, f64)]) -> Option<Model> {
    let (mut aa, mut ab, mut bb, mut a, mut b) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (count, cost) in points {
        let (x, z) = (1.0 / count / cost, 1.0 / cost);
        aa += x * x;
        ab += x * z;
        bb += z * z;
        a += x;
        b += z;
    }
    let determinant = aa * bb - ab * ab;
    if points.len() < 2 || determinant.abs() < f64::EPSILON * aa * bb {
        return None;
    }
    let fixed = (a * bb - b * ab) / determinant;
    let each = (b * aa - a * ab) / determinant;
    let relative = |(count, cost): &(f64, f64)| ((fixed / count + each) / cost - 1.0).abs();
    let error = points.iter().map(relative).fold(0.0, f64::max);
    Some(Model { fixed, each, error })
}

/// The page.
pub fn page(rows: &[Row], namespaces: &[Namespaces], rate: f64, stopped: Option<&str>) -> String {
    let place = Environment::observe();
    let mut page = String::from("# How cost grows\n\n");
    // Writing to a string cannot fail.
    _ = writeln!(
        page,
        "`make bench-scaling` on {} × {}, Linux {}, load average {:.1} at the end: other work on \
         the machine is in these figures. One relay on one core, `aip-load relay` on another, \
         1,200 B × {rate}/s, draft 18.\n",
        place.cores, place.cpu, place.kernel, place.load_before,
    );
    _ = writeln!(page, "## Subscribers\n\n{}", subscribers(rows));
    if let Some(reason) = stopped {
        _ = writeln!(page, "\nIt stopped there: {reason}");
    }
    page.push_str(&models(rows));
    _ = writeln!(page, "\n## Namespaces\n\n{}", of_namespaces(namespaces));
    page.push_str(
        "\nMemory is of the relay and of its publisher's session, which share a process here; below \
         ten thousand most of it is the allocator's first pages. The instructions of a lookup \
         stand in [baseline.json](baseline.json).\n",
    );
    page
}

fn subscribers(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([
        "subscribers",
        "µs of CPU per delivery",
        "core %",
        "lost %",
        "peak MiB",
        "KiB per session above the first",
        "load's core %",
        "load kept up",
    ]);
    let first = rows.first().map_or(0, |row| row.rss_peak_bytes);
    for row in rows {
        let more = row.rss_peak_bytes.saturating_sub(first) as f64;
        let each = more / 1_024.0 / row.subscribers.saturating_sub(1).max(1) as f64;
        table.add_row([
            row.subscribers.to_string(),
            row.cpu_microseconds.map_or_else(|| "–".to_owned(), |cpu| format!("{cpu:.2}")),
            format!("{:.0}", row.relay_share * 100.0),
            format!("{:.2}", row.lost_share * 100.0),
            format!("{:.1}", row.rss_peak_bytes as f64 / 1_048_576.0),
            if row.subscribers == 1 { "–".to_owned() } else { format!("{each:.1}") },
            format!("{:.0}", row.load_share * 100.0),
            if row.load_invalid.is_empty() { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table
}

fn models(rows: &[Row]) -> String {
    let point = |row: &Row| Some((row.subscribers as f64, row.cpu_microseconds?));
    let points: Vec<_> =
        rows.iter().filter(|row| row.lost_share < 0.01).filter_map(point).collect();
    let Some(model) = fit(&points) else { return String::new() };
    let mut text = String::new();
    // Writing to a string cannot fail.
    _ = writeln!(
        text,
        "\n## Model\n\nCPU of a delivery to one of n: {:.1} µs / n + {:.2} µs, by least squares of \
         relative errors over the rows above that lost less than 1 %; the worst is {:.0} % off. So \
         at this rate a core makes {:.0} deliveries a second to many subscribers, and a million \
         deliveries cost {:.1} s of a core at each relay on their way: a tier with h hops serves \
         cores × {:.0} / h deliveries a second.",
        model.fixed,
        model.each,
        model.error * 100.0,
        1e6 / model.each,
        model.each,
        1e6 / model.each,
    );
    text
}

fn of_namespaces(namespaces: &[Namespaces]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(["namespaces", "bytes each", "SUBSCRIBE µs"]);
    for one in namespaces {
        table.add_row([
            one.count.to_string(),
            format!("{:.0}", one.bytes_each),
            format!("{:.1}", one.lookup_microseconds),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again() {
        let points: Vec<(f64, f64)> =
            [1.0, 10.0, 100.0, 1_000.0].map(|n: f64| (n, 300.0 / n + 4.0)).to_vec();
        let model = fit(&points).unwrap();
        assert!((model.fixed - 300.0).abs() < 1e-6 && (model.each - 4.0).abs() < 1e-6);
        assert!(model.error < 1e-9);
        assert!(fit(&points[..1]).is_none());
    }

    #[test]
    fn namespaces_are_measured() {
        let measured = namespaces(2_000);
        assert!(0.0 < measured.lookup_microseconds);
    }
}

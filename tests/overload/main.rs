//! Overload of a real relay over real sockets: stalled subscribers, floods. `make overload`.
//!
//! Prints each figure beside its goal, as a table and then as one line of JSON. Fails if a figure
//! is missed.
#![expect(clippy::disallowed_methods, reason = "threads and the clock are what is measured with")]
#![expect(clippy::print_stdout, reason = "it is a program")]
#![expect(clippy::unwrap_used, reason = "it may fail as tests do")]

mod crowd;
mod initials;
mod relay;
mod requests;
mod stalled;

use std::{path::PathBuf, process::ExitCode, time::Duration};

/// A figure and its goal.
pub(crate) struct Figure {
    name: &'static str,
    value: f64,
    goal: f64,
    unit: &'static str,
    /// Whether more is better.
    at_least: bool,
}

impl Figure {
    pub(crate) const fn most(
        name: &'static str,
        value: f64,
        goal: f64,
        unit: &'static str,
    ) -> Self {
        Self { name, value, goal, unit, at_least: false }
    }

    pub(crate) const fn least(
        name: &'static str,
        value: f64,
        goal: f64,
        unit: &'static str,
    ) -> Self {
        Self { name, value, goal, unit, at_least: true }
    }

    fn is_met(&self) -> bool {
        if self.at_least { self.goal <= self.value } else { self.value <= self.goal }
    }
}

/// Bytes as MiB.
pub(crate) fn mib(bytes: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 20)
}

/// The value that 99 of 100 do not exceed, in milliseconds.
pub(crate) fn p99(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let index = (times.len() * 99 / 100).min(times.len().saturating_sub(1));
    times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let program =
        arguments.next().map_or_else(|| PathBuf::from("target/debug/aip-relay"), PathBuf::from);
    let only = arguments.next();
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let mut figures = Vec::new();
    if wanted("stalled") {
        figures.extend(stalled::measure(&program));
    }
    if wanted("initials") {
        figures.extend(initials::measure(&program));
    }
    if wanted("requests") {
        figures.extend(requests::measure(&program));
    }
    for figure in &figures {
        let (sign, verdict) = (
            if figure.at_least { ">=" } else { "<=" },
            if figure.is_met() { "ok" } else { "MISSED" },
        );
        println!(
            "{:<58} {:>10.2} {sign} {:>8.2} {:<4} {verdict}",
            figure.name, figure.value, figure.goal, figure.unit
        );
    }
    let json: Vec<serde_json::Value> = figures
        .iter()
        .map(|figure| {
            serde_json::json!({
                "name": figure.name, "value": figure.value, "goal": figure.goal,
                "unit": figure.unit, "met": figure.is_met(),
            })
        })
        .collect();
    println!("{}", serde_json::Value::Array(json));
    ExitCode::from(u8::from(!figures.iter().all(Figure::is_met)))
}

//! What a run says at its end: one value, which every form of output is made of.

pub mod hgrm;
pub mod html;
pub mod otlp;
pub mod prometheus;
pub mod table;

use std::{collections::BTreeMap, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    environment::Environment,
    measure::{Counts, Summary, Times},
    watch::Usage,
};

/// The form of the JSON, which changes its number when a reader must.
pub const FORMAT: &str = "aip-load/1";

/// A run's outcome.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// The subcommand: `relay`, `mcp`, …
    pub command: String,
    /// What was loaded.
    pub target: String,
    /// Whether the figures may be believed.
    pub validity: Validity,
    /// The seed that arrivals and arguments were made of.
    pub seed: u64,
    /// SHA-256 of the plan: runs with the same fingerprint asked for the same.
    pub fingerprint: String,
    /// What was asked for.
    pub plan: serde_json::Value,
    /// Where it ran.
    pub environment: Environment,
    /// Seconds of the measured part.
    pub seconds: f64,
    /// What became of it, in the measured part.
    pub counts: Counts,
    /// Times. The first is what assertions and comparisons mean by `p99`.
    pub series: Vec<Series>,
    /// Single figures, by name; units are in the names.
    pub figures: BTreeMap<String, f64>,
    /// Second by second.
    pub timeline: Vec<Interval>,
    /// What the watched processes used.
    pub processes: Vec<Usage>,
}

/// Whether figures may be believed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Validity {
    /// Why not; empty if they may.
    pub invalid: Vec<String>,
    /// What a reader should know all the same.
    pub warnings: Vec<String>,
}

impl Validity {
    /// Whether they may.
    pub fn is_valid(&self) -> bool {
        self.invalid.is_empty()
    }
}

/// Times of one kind.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Series {
    /// What was timed: `latency` is from the intended time, `service` from the actual sending.
    pub name: String,
    /// Which: phase, method, tool, relay.
    pub labels: BTreeMap<String, String>,
    /// Nanoseconds.
    pub summary: Summary,
    /// All of it: HdrHistogram V2 compressed, in base64.
    pub histogram: String,
}

impl Series {
    /// The series of these times.
    pub fn new<const N: usize>(name: &str, labels: [(&str, &str); N], times: &Times) -> Self {
        Self::labelled(name, &labels, times)
    }

    /// The same with any number of labels.
    pub fn labelled(name: &str, labels: &[(&str, &str)], times: &Times) -> Self {
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let histogram = STANDARD.encode(times.encode());
        Self { name: name.to_owned(), labels, summary: times.summary(), histogram }
    }

    /// The times.
    ///
    /// # Errors
    /// If the report was altered.
    pub fn times(&self) -> Result<Times, String> {
        let bytes = STANDARD.decode(&self.histogram).map_err(|error| error.to_string())?;
        Times::decode(&bytes)
    }

    /// Whether it is what an assertion names: `latency`, or `latency[tool=echo]` with some of its
    /// labels.
    pub fn is_named(&self, name: &str) -> bool {
        let Some((name, labels)) = name.split_once('[') else {
            return self.name == name && self.labels.is_empty();
        };
        let mut labels = labels.trim_end_matches(']').split(',').map(|label| label.split_once('='));
        let has = |label: Option<(&str, &str)>| {
            label.is_some_and(|(key, value)| {
                self.labels.get(key.trim()).is_some_and(|it| it == value.trim())
            })
        };
        self.name == name && labels.all(has)
    }

    /// `name[key=value,…]`, as assertions write it.
    pub fn title(&self) -> String {
        if self.labels.is_empty() {
            return self.name.clone();
        }
        let labels: Vec<_> =
            self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        format!("{}[{}]", self.name, labels.join(","))
    }
}

/// One second.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Interval {
    /// Its beginning, in seconds from the beginning of the load.
    pub at: f64,
    /// What came right in it.
    pub ok: u64,
    /// Errors in it.
    pub errors: u64,
    /// Latency in nanoseconds.
    pub p50: u64,
    /// Latency in nanoseconds.
    pub p99: u64,
    /// Latency in nanoseconds.
    pub max: u64,
}

impl Report {
    /// The series that figures are asked of by default.
    pub fn main(&self) -> Option<&Series> {
        self.series.first()
    }

    /// Deliveries or answers that came right, per second.
    pub fn rate(&self) -> f64 {
        if self.seconds == 0.0 { 0.0 } else { self.counts.ok as f64 / self.seconds }
    }

    /// As JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// The report that a file holds.
    ///
    /// # Errors
    /// If it cannot be read, or is none.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let report: Self = serde_json::from_str(&text)
            .map_err(|error| format!("{}: no report of aip-load: {error}", path.display()))?;
        if report.format != FORMAT {
            let found = &report.format;
            return Err(format!("{}: format {found}, not {FORMAT}", path.display()));
        }
        Ok(report)
    }
}

/// Nanoseconds as people read them.
pub fn time(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", value / 1e6),
        _ => format!("{:.3} s", value / 1e9),
    }
}

/// A number with its thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(time(999), "999 ns");
        assert_eq!(time(1_500), "1.5 µs");
        assert_eq!(time(20_000_000), "20.00 ms");
        assert_eq!(time(1_500_000_000), "1.500 s");
    }
}

/// Reports for other modules' tests.
#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    /// A report of nothing.
    pub(crate) fn report() -> Report {
        Report {
            format: FORMAT.to_owned(),
            command: "relay".to_owned(),
            target: "moqt://127.0.0.1:4443".to_owned(),
            validity: Validity::default(),
            seed: 1,
            fingerprint: "f".repeat(64),
            plan: serde_json::Value::Null,
            environment: Environment::default(),
            seconds: 1.0,
            counts: Counts::default(),
            series: Vec::new(),
            figures: BTreeMap::new(),
            timeline: Vec::new(),
            processes: Vec::new(),
        }
    }
}

//! What is counted while load runs.

mod coarse;
mod sequence;
mod timeline;

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize};

pub use coarse::Coarse;
pub use sequence::{Arrival, Window};
pub use timeline::Timeline;

/// The longest time that a histogram tells from longer ones: ten minutes, in nanoseconds.
const LONGEST: u64 = 600_000_000_000;

/// Kinds of errors that are told apart.
const KINDS_MAX: usize = 100;

/// In which part of a run something was due. Only the measured part makes figures.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Caches fill, connections grow.
    WarmUp,
    /// What figures are made of.
    Measured,
    /// Load goes on, so that the measured part's last answers are not flattered.
    CoolDown,
}

impl Phase {
    /// As reports write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WarmUp => "warm-up",
            Self::Measured => "measured",
            Self::CoolDown => "cool-down",
        }
    }
}

/// Times, to three significant digits, from 1 ns to 10 minutes.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    histogram: Histogram<u64>,
}

impl Default for Times {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3);
        Self { histogram: histogram.expect("the bounds are constants, and valid") }
    }
}

impl Times {
    /// Counts a time; longer than the longest counts as the longest.
    pub fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds.max(1));
    }

    /// Adds what another counted: exactly, count by count.
    pub fn add(&mut self, other: &Self) {
        let added = self.histogram.add(&other.histogram);
        debug_assert!(added.is_ok(), "the bounds are the same everywhere");
    }

    /// As a tool would count them that asks once every `interval` and adds, for each time longer
    /// than two of those, what it did not ask meanwhile (wrk does).
    #[must_use]
    pub fn corrected(&self, interval: Duration) -> Self {
        let nanoseconds = u64::try_from(interval.as_nanos()).unwrap_or(LONGEST);
        Self { histogram: self.histogram.clone_correct(nanoseconds) }
    }

    /// Forgets all times.
    pub fn clear(&mut self) {
        self.histogram.reset();
    }

    /// Times counted.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The time below which a share of all lie, in nanoseconds; 0 if there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        if self.histogram.is_empty() { 0 } else { self.histogram.value_at_quantile(share) }
    }

    /// What is said of them.
    pub fn summary(&self) -> Summary {
        let of = |share| self.quantile(share);
        Summary {
            count: self.count(),
            min: if self.histogram.is_empty() { 0 } else { self.histogram.min() },
            mean: self.histogram.mean(),
            deviation: self.histogram.stdev(),
            p50: of(0.5),
            p75: of(0.75),
            p90: of(0.9),
            p95: of(0.95),
            p99: of(0.99),
            p999: of(0.999),
            p9999: of(0.9999),
            max: if self.histogram.is_empty() { 0 } else { self.histogram.max() },
        }
    }

    /// HdrHistogram's V2 compressed form: what other tools read, and exact merges need.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = V2DeflateSerializer::new().serialize(&self.histogram, &mut bytes);
        debug_assert!(written.is_ok(), "a vector takes every byte");
        bytes
    }

    /// What [`Self::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are no histogram of these bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let read: Histogram<u64> = Deserializer::new()
            .deserialize(&mut &bytes[..])
            .map_err(|error| format!("no histogram: {error:?}"))?;
        let mut times = Self::default();
        times.histogram.add(&read).map_err(|_| "the histogram has other bounds".to_owned())?;
        Ok(times)
    }

    /// Each value that was counted, and how often, ascending.
    pub fn recorded(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.histogram.iter_recorded().map(|it| (it.value_iterated_to(), it.count_at_value()))
    }
}

/// Times in nanoseconds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// The shortest.
    pub min: u64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// Half are no longer.
    pub p50: u64,
    /// Of 100, 75 are no longer.
    pub p75: u64,
    /// Of 100, 90 are no longer.
    pub p90: u64,
    /// Of 100, 95 are no longer.
    pub p95: u64,
    /// Of 100, 99 are no longer.
    pub p99: u64,
    /// Of 1,000, 999 are no longer.
    pub p999: u64,
    /// Of 10,000, 9,999 are no longer.
    pub p9999: u64,
    /// The longest.
    pub max: u64,
}

/// What became of what was sent, and what came of what was owed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Counts {
    /// Answers or deliveries that were owed. Shares in per cent are of these.
    pub expected: u64,
    /// Those that came, right, once.
    pub ok: u64,
    /// Those that ended in an error, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Those that never came.
    pub lost: u64,
    /// Those that came again.
    pub duplicated: u64,
    /// Those that came after the deadline, if one was set.
    pub late: u64,
    /// Those whose bytes are not what was sent.
    pub wrong: u64,
    /// Those that came after a later one of the same track; no fault where groups race.
    pub reordered: u64,
    /// Payload bytes of those that came right.
    pub bytes: u64,
}

impl Counts {
    /// Errors of every kind.
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Counts an error. Kinds beyond a hundred count as one: a peer may have a say in their words.
    pub fn error(&mut self, kind: &str) {
        let kind = if self.errors.contains_key(kind) || self.errors.len() < KINDS_MAX {
            kind
        } else {
            "of other kinds"
        };
        if let Some(count) = self.errors.get_mut(kind) {
            *count += 1;
        } else {
            self.errors.insert(kind.to_owned(), 1);
        }
    }

    /// Adds what another counted.
    pub fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.ok += other.ok;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.late += other.late;
        self.wrong += other.wrong;
        self.reordered += other.reordered;
        self.bytes += other.bytes;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_is_added_from_two_intervals_on() {
        let mut times = Times::default();
        for time in [5, 19, 35] {
            times.record(time);
        }
        let corrected = times.corrected(Duration::from_nanos(10));
        assert_eq!(corrected.count(), 5, "35 adds 25 and 15");
        assert_eq!((corrected.quantile(0.5), times.quantile(0.5)), (19, 19));
    }

    #[test]
    fn merged_histograms_are_the_histogram_of_all() {
        let mut random = fastrand::Rng::with_seed(11);
        let (mut all, mut parts) = (Times::default(), [Times::default(), Times::default()]);
        for index in 0..100_000 {
            let digits = random.u32(1..11);
            let time = random.u64(1..10_u64.pow(digits));
            all.record(time);
            parts[index % 2].record(time);
        }
        let [first, second] = &mut parts;
        let sent = Times::decode(&second.encode()).unwrap();
        assert_eq!(&sent, second, "encoding loses nothing");
        first.add(&sent);
        assert_eq!(*first, all);
        assert_eq!(first.summary(), all.summary());
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let mut counts = Counts::default();
        for kind in 0..1_000 {
            counts.error(&format!("kind {kind}"));
            counts.error("kind 7");
        }
        assert_eq!((counts.errors.len(), counts.errors_total()), (KINDS_MAX + 1, 2_000));
        assert_eq!(counts.errors["kind 7"], 1_001);
    }

    #[test]
    fn times_are_kept_to_three_digits() {
        let mut times = Times::default();
        for time in [1_u64, 999, 123_456, 5_000_000_000] {
            times.record(time);
            let kept = times.summary().max;
            assert!(time <= kept && kept - time <= time / 1_000, "{time} became {kept}");
        }
        times.record(u64::MAX);
        assert_eq!(times.count(), 5);
        assert!(Times::decode(b"no histogram").is_err());
    }
}

//! What others may see of a run while it goes on.

use std::time::Duration;

use crate::{
    measure::{Counts, Times},
    report::Interval,
};

/// A run at one moment.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// What it does now: `connecting`, `warm-up`, `measured`, …
    pub stage: String,
    /// Of the load, so far.
    pub elapsed: Duration,
    /// Of the load, in all.
    pub total: Duration,
    /// Single facts, as name and value.
    pub facts: Vec<(&'static str, String)>,
    /// What came of the measured part so far.
    pub counts: Counts,
    /// Times of the measured part so far.
    pub rows: Vec<Row>,
    /// The seconds so far.
    pub timeline: Vec<Interval>,
}

/// Times of one kind so far, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Of what.
    pub name: String,
    /// How many.
    pub count: u64,
    /// Half are no longer.
    pub p50: u64,
    /// Of 100, 99 are no longer.
    pub p99: u64,
    /// Of 1,000, 999 are no longer.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Row {
    /// What is known of these times.
    pub fn of(name: &str, times: &Times) -> Self {
        Self {
            name: name.to_owned(),
            count: times.count(),
            p50: times.quantile(0.5),
            p99: times.quantile(0.99),
            p999: times.quantile(0.999),
            max: times.quantile(1.0),
        }
    }
}

/// Whoever looks at a run, about four times a second.
pub struct Viewer {
    show: Option<Show>,
}

struct Show(Box<dyn FnMut(&Progress) + Send>);

impl Viewer {
    /// Shows what goes on by `show`.
    pub fn new(show: impl FnMut(&Progress) + Send + 'static) -> Self {
        Self { show: Some(Show(Box::new(show))) }
    }

    /// Nobody looks.
    pub const fn nobody() -> Self {
        Self { show: None }
    }

    /// Whether anybody looks: if not, nothing need be made ready.
    pub const fn looks(&self) -> bool {
        self.show.is_some()
    }

    /// Shows what goes on.
    pub fn show(&mut self, progress: &Progress) {
        if let Some(Show(show)) = &mut self.show {
            show(progress);
        }
    }
}

impl std::fmt::Debug for Viewer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Viewer").field("looks", &self.looks()).finish()
    }
}

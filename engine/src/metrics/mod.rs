//! What is counted, and how it is told.
//!
//! Plain integers that one thread owns: counting costs an addition. Others see copies.

mod description;
#[cfg(feature = "io")]
mod exposition;
mod histogram;
mod service;
mod tally;
mod worker;

#[cfg(feature = "io")]
pub(crate) use self::exposition::{CONTENT_TYPE, Process, exposition};
pub use self::{
    description::{Description, Kind, Unit},
    histogram::{BOUNDS, Histogram},
    service::{Drop, Service, ServiceCounters},
    tally::Tally,
    worker::Counters,
};

/// How it stands with one target that a worker dials.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Upstream {
    /// Its host and port.
    pub authority: String,
    /// Whether a connection is up.
    pub is_up: bool,
    /// Tries that have failed, and connections that did not last, since one lasted.
    pub failures: u32,
    /// Milliseconds until the next try; 0 if none waits.
    pub retry_in_milliseconds: u64,
}

/// Everything that one worker tells of itself, at one time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// What the worker counts.
    pub worker: Counters,
    /// How long its turns took, without waiting.
    pub turns: Histogram,
    /// Targets in the order of the configuration.
    pub upstreams: Vec<Upstream>,
    /// What its driver counts, if that is a relay.
    pub service: Option<Service>,
}

impl Snapshot {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.worker.add(&other.worker);
        self.turns.add(&other.turns);
        self.upstreams.extend_from_slice(&other.upstreams);
        match (&mut self.service, &other.service) {
            (Some(service), Some(other)) => service.add(other),
            (service @ None, Some(other)) => *service = Some(other.clone()),
            (_, None) => {}
        }
    }
}

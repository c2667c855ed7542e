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

/// Everything that one worker tells of itself, at one time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// What the worker counts.
    pub worker: Counters,
    /// How long its turns took, without waiting.
    pub turns: Histogram,
    /// Targets in the order of the configuration: its authority, and whether a connection is up.
    pub upstreams: Vec<(String, bool)>,
    /// What its driver counts, if that is a relay.
    pub service: Option<Service>,
}

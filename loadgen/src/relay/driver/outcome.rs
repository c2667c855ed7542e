//! What a fan-out run needs besides its plan, and what comes of it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use aip_codec::moqt::name::FullTrackName;

use crate::{clock::Clock, measure::Times, progress::Progress, relay::Tally};

/// Where publisher and subscribers connect to.
#[derive(Clone, Debug)]
pub struct Places {
    /// The publisher's relay; it is target 0.
    pub origin: SocketAddr,
    /// The subscribers' relays, in turn; targets 1 and on.
    pub relays: Vec<SocketAddr>,
}

/// What a [`super::FanOut`] needs besides its plan.
#[derive(Debug)]
pub struct Parts {
    /// Where to connect to.
    pub places: Places,
    /// The track.
    pub track: FullTrackName,
    /// The run's number, by which its objects are known.
    pub run: u32,
    /// Seed of arrivals and filler.
    pub seed: u64,
    /// The clock of stamps.
    pub clock: Clock,
    /// When the first object is due, if not as soon as all are ready: nanoseconds of the clock.
    pub begin_at: Option<u64>,
    /// Told what happens.
    pub tell: mpsc::Sender<Told>,
    /// Kept up to date, if anybody looks.
    pub progress: Option<Arc<Mutex<Progress>>>,
}

/// What the driver tells whoever waits for the run.
#[derive(Debug)]
pub enum Told {
    /// The measured part begins.
    Measuring,
    /// The measured part is over.
    Measured,
    /// The run is over.
    Over(Box<Outcome>),
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// All accounts, concluded.
    pub tally: Tally,
    /// From when an object was due until it was published.
    pub lag: Times,
    /// From the beginning of a handshake until MOQT's SETUP was through.
    pub connect: Times,
    /// From SUBSCRIBE to SUBSCRIBE_OK.
    pub subscribe: Times,
    /// The draft spoken with the publisher's relay.
    pub draft: u8,
    /// Why the run did not go to its end.
    pub failed: Option<String>,
    /// Subscriptions that the publisher saw at the end: 1 for each relay that aggregates.
    pub upstream_subscriptions: usize,
    /// The measured time; less than the plan's if the run was interrupted.
    pub measured: Duration,
}

impl Outcome {
    /// What is known before anything happens.
    pub(super) fn new(tally: Tally, measured: Duration) -> Self {
        Self {
            tally,
            lag: Times::default(),
            connect: Times::default(),
            subscribe: Times::default(),
            draft: 0,
            failed: None,
            upstream_subscriptions: 0,
            measured,
        }
    }
}

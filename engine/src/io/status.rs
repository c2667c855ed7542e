//! What other threads may know of a worker.

use std::{
    sync::{
        Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::clock::Clock;
use crate::metrics::Snapshot;

/// How old a snapshot is when its worker is taken to stand still.
const STILL: Duration = Duration::from_secs(10);

/// The state of one worker, as of its last snapshot.
#[derive(Debug)]
pub(super) struct Status {
    draining: AtomicBool,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    snapshot: Snapshot,
    at: Instant,
}

impl Default for Status {
    fn default() -> Self {
        let latest = Latest { snapshot: Snapshot::default(), at: Clock::new().now() };
        Self { draining: AtomicBool::new(false), latest: Mutex::new(latest) }
    }
}

impl Status {
    /// Whether new work is no longer taken.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the worker has told nothing for so long that it must hang.
    pub(super) fn stands_still(&self) -> bool {
        let at = self.latest.lock().unwrap_or_else(PoisonError::into_inner).at;
        STILL < Clock::new().now().saturating_duration_since(at)
    }

    /// The last snapshot.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).snapshot.clone()
    }

    /// Replaces the snapshot, unless someone looks at it just now; says whether.
    pub(super) fn publish(&self, snapshot: Snapshot) -> bool {
        let mut latest = match self.latest.try_lock() {
            Ok(latest) => latest,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        *latest = Latest { snapshot, at: Clock::new().now() };
        true
    }
}

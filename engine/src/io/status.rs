//! What other threads may know of the workers.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::clock::Clock;
use crate::{
    metrics::{Counters, Snapshot},
    relay::CallSpan,
};

/// How old a snapshot is when its worker is taken to stand still.
const STILL: Duration = Duration::from_secs(10);

/// The state of all workers, as of their last snapshots.
#[derive(Debug)]
pub(super) struct Status {
    draining: AtomicBool,
    /// By worker.
    latest: Vec<Mutex<Latest>>,
    spans: Mutex<Spans>,
}

/// Spans that may wait for who tells a collector of them; more are counted and not kept.
const SPANS_MAX: usize = 16_384;

/// Calls that have ended and were traced.
#[derive(Debug, Default)]
pub(super) struct Spans {
    kept: Vec<CallSpan>,
    dropped: u64,
}

impl Spans {
    /// Keeps more of them, and counts those that a worker could not keep.
    pub(super) fn add(&mut self, (spans, dropped): (Vec<CallSpan>, u64)) {
        let room = SPANS_MAX.saturating_sub(self.kept.len());
        self.dropped += dropped + spans.len().saturating_sub(room) as u64;
        self.kept.extend(spans.into_iter().take(room));
    }
}

#[derive(Debug)]
struct Latest {
    snapshot: Snapshot,
    at: Instant,
}

impl Status {
    /// Of so many workers, which have told nothing yet.
    pub(super) fn new(workers: usize) -> Self {
        let latest = || Latest { snapshot: Snapshot::default(), at: Clock::new().now() };
        let latest = (0..workers).map(|_| Mutex::new(latest())).collect();
        Self { draining: AtomicBool::new(false), latest, spans: Mutex::default() }
    }

    /// Whether new work is no longer taken.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether a worker has told nothing for so long that it must hang.
    pub(super) fn stands_still(&self) -> bool {
        let now = Clock::new().now();
        self.latest.iter().any(|latest| {
            let at = latest.lock().unwrap_or_else(PoisonError::into_inner).at;
            STILL < now.saturating_duration_since(at)
        })
    }

    /// The last snapshots, as one.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for latest in &self.latest {
            sum.add(&latest.lock().unwrap_or_else(PoisonError::into_inner).snapshot);
        }
        sum
    }

    /// What each worker counts.
    pub(super) fn workers(&self) -> Vec<Counters> {
        let snapshot = |latest: &Mutex<Latest>| {
            latest.lock().unwrap_or_else(PoisonError::into_inner).snapshot.worker.clone()
        };
        self.latest.iter().map(snapshot).collect()
    }

    /// Where spans are kept; `None` if someone takes them just now.
    pub(super) fn spans(&self) -> Option<MutexGuard<'_, Spans>> {
        match self.spans.try_lock() {
            Ok(spans) => Some(spans),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Those that were kept, once each, and how many more there were.
    pub(super) fn take_spans(&self) -> (Vec<CallSpan>, u64) {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let Spans { kept, dropped } = std::mem::take(&mut *spans);
        (kept, dropped)
    }

    /// Replaces a worker's snapshot, unless someone looks at it just now; says whether.
    pub(super) fn publish(&self, worker: usize, snapshot: Snapshot) -> bool {
        let Some(latest) = self.latest.get(worker) else { return false };
        let mut latest = match latest.try_lock() {
            Ok(latest) => latest,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        *latest = Latest { snapshot, at: Clock::new().now() };
        true
    }
}

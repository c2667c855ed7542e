//! What other threads may know of a worker.

use std::sync::{
    Mutex, PoisonError, TryLockError,
    atomic::{AtomicBool, Ordering},
};

use crate::metrics::Counters;

/// The state of one worker, as of its last snapshot.
#[derive(Debug, Default)]
pub(super) struct Status {
    draining: AtomicBool,
    counters: Mutex<Counters>,
}

impl Status {
    /// Whether new work is taken.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The last snapshot.
    pub(super) fn counters(&self) -> Counters {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the snapshot, unless someone looks at it just now; says whether.
    pub(super) fn publish(&self, counters: &Counters) -> bool {
        match self.counters.try_lock() {
            Ok(mut snapshot) => snapshot.clone_from(counters),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().clone_from(counters),
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }
}

//! Waking a worker from other threads, only when it sleeps: a wake-up costs as much as sending
//! a dozen packets.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use mio::{Registry, Token, Waker};

/// Wakes one worker.
#[derive(Debug)]
pub(super) struct Wake {
    /// Whether the worker may be asleep. Whoever turns this off must wake it.
    parked: AtomicBool,
    waker: Waker,
}

impl Wake {
    /// Wakes the poll of `registry` by `token`. A poll can have one of these.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self { parked: AtomicBool::new(false), waker: Waker::new(registry, token)? })
    }

    /// Wakes the worker if it may be asleep. To be called after whatever it should see is there.
    pub(super) fn wake(&self) {
        // Sequentially consistent, like what the worker does between `park` and falling asleep:
        // so either it sees what is there, or this thread sees that it is parked.
        if self.parked.swap(false, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }

    /// Announces sleep. The worker must look once more at all that could wake it, and sleep only
    /// if there is nothing.
    pub(super) fn park(&self) {
        self.parked.store(true, Ordering::SeqCst);
    }

    /// Announces that the worker is awake.
    pub(super) fn unpark(&self) {
        self.parked.store(false, Ordering::SeqCst);
    }
}

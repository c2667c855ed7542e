//! Waking a worker from other threads, only when it sleeps: a wake-up costs as much as sending
//! a dozen packets.

use std::io;

use mio::{Registry, Token, Waker};

use super::park::Flag;

/// Wakes one worker.
#[derive(Debug)]
pub(super) struct Wake {
    /// Whether the worker may be asleep. Whoever takes this away must wake it.
    parked: Flag,
    waker: Waker,
}

impl Wake {
    /// Wakes the poll of `registry` by `token`. A poll can have one of these.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self { parked: Flag::default(), waker: Waker::new(registry, token)? })
    }

    /// Wakes the worker if it may be asleep; says whether. To be called after whatever it should see
    /// is there.
    pub(super) fn wake(&self) -> bool {
        let parked = self.parked.take();
        if parked && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a worker cannot be woken");
        }
        parked
    }

    /// Announces sleep. The worker must look once more at all that could wake it, and sleep only
    /// if there is nothing.
    pub(super) fn park(&self) {
        self.parked.set();
    }

    /// Announces that the worker is awake.
    pub(super) fn unpark(&self) {
        self.parked.clear();
    }
}

//! The one reader of the system's clock.

use std::time::Instant;

/// The time, read once per turn: every callee of one turn sees the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    now: Instant,
}

impl Clock {
    /// A clock that shows the present.
    pub(super) fn new() -> Self {
        Self { now: Instant::now() }
    }

    /// The time at the last [`Self::tick`].
    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    /// Reads the system's clock.
    pub(super) fn tick(&mut self) -> Instant {
        self.now = Instant::now();
        self.now
    }
}

/// Wall-clock time, for certificates.
pub(super) fn since_unix_epoch() -> std::time::Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

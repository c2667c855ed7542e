//! Whether a worker sleeps, so that only a sleeping one is woken; and whether one waits for room.
//!
//! Either side first changes what the other looks at, and then looks; both in one order for all
//! (sequentially consistent). So at least one of them sees what the other has done, and no wake-up
//! is lost.

use super::atomic::{AtomicBool, Ordering};

/// A flag that one thread sets before it waits, and whoever ends the wait takes away.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    /// Announces the wait. What is waited for must then be looked for once more.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// The wait is over, whoever has ended it.
    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Whether someone waits, who must then be woken. To be called after what is waited for is there.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

//! Whether a worker sleeps, so that only a sleeping one is woken; and whether one waits for room.
//!
//! Either side first changes what the other looks at, and then looks, with a fence between the two. Of
//! two such fences one comes first, and what stands before it is seen by whoever looks behind the
//! other: so at least one side sees what the other has done, and no wake-up is lost, whatever ordering
//! the things have that are looked at.

use super::atomic::{AtomicBool, Ordering, fence};

/// A flag that one thread sets before it waits, and whoever ends the wait takes away. Both change it by
/// swaps, which have one order for all.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    /// Announces the wait. What is waited for must then be looked for once more.
    pub(super) fn set(&self) {
        self.0.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The wait is over, whoever has ended it.
    pub(super) fn clear(&self) {
        self.0.swap(false, Ordering::Relaxed);
    }

    /// Whether someone waits, who must then be woken. To be called after what is waited for is there.
    pub(super) fn take(&self) -> bool {
        fence(Ordering::SeqCst);
        // Mostly nobody does: then the flag stays where it is, in the other core's cache, too.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

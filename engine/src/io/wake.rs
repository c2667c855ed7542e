//! Waking a worker from other threads, only when it sleeps: a wake-up costs as much as sending
//! a dozen packets.

use std::{
    io,
    sync::OnceLock,
    thread::{self, Thread},
    time::Duration,
};

use mio::{Registry, Token, Waker};

use super::{
    atomic::{AtomicBool, Ordering},
    park::Flag,
};

/// Wakes one worker.
#[derive(Debug)]
pub(super) struct Wake {
    /// Whether the worker may be asleep. Whoever takes this away must wake it.
    parked: Flag,
    waker: Waker,
    /// The worker's thread, once it has napped.
    thread: OnceLock<Thread>,
    /// Whether it naps, so that its poll would not wake it.
    naps: AtomicBool,
}

impl Wake {
    /// Wakes the poll of `registry` by `token`. A poll can have one of these.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let waker = Waker::new(registry, token)?;
        let (parked, naps) = (Flag::default(), AtomicBool::new(false));
        Ok(Self { parked, waker, thread: OnceLock::new(), naps })
    }

    /// Wakes the worker if it may be asleep; says whether. To be called after whatever it should see
    /// is there.
    pub(super) fn wake(&self) -> bool {
        let parked = self.parked.take();
        if parked {
            // Should the nap be over by now, the worker looks at everything before it sleeps again.
            match self.thread.get().filter(|_| self.naps.load(Ordering::SeqCst)) {
                Some(thread) => thread.unpark(),
                None => self.wake_poll(),
            }
        }
        parked
    }

    fn wake_poll(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }

    /// Sleeps for so long, or until it is woken, whatever comes to the poll meanwhile; not at all
    /// if something is there that would have woken it.
    pub(super) fn nap(&self, duration: Duration, is_quiet: impl FnOnce() -> bool) {
        self.thread.get_or_init(thread::current);
        self.naps.store(true, Ordering::SeqCst);
        self.park();
        if is_quiet() {
            thread::park_timeout(duration);
        }
        self.unpark();
        self.naps.store(false, Ordering::SeqCst);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mio::Poll;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_nap_ends_when_somebody_wakes() {
        let poll = Poll::new().unwrap();
        let wake = Arc::new(Wake::new(poll.registry(), Token(7)).unwrap());
        assert!(!wake.wake(), "it is awake");
        let waker = Arc::clone(&wake);
        let (tell, told) = std::sync::mpsc::channel();
        let other = thread::spawn(move || {
            told.recv().unwrap();
            waker.wake()
        });
        // Said as late as can be: when the worker has looked already.
        wake.nap(LONG, || tell.send(()).is_ok());
        assert!(other.join().unwrap());
    }
}

//! The way into a worker from other threads: a bounded queue and a wake-up.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam::queue::ArrayQueue;
use mio::{Registry, Token, Waker};

/// A command that did not get in, and why.
#[derive(Debug, Eq, PartialEq)]
pub enum Rejected<C> {
    /// The mailbox is full: try later, or let it be.
    Full(C),
    /// The worker has ended.
    Closed(C),
}

impl<C> fmt::Display for Rejected<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Full(_) => "the worker's mailbox is full",
            Self::Closed(_) => "the worker has ended",
        })
    }
}

impl<C: fmt::Debug> std::error::Error for Rejected<C> {}

/// Sends commands to a worker's driver. Clones send to the same.
pub struct Mailbox<C> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    queue: ArrayQueue<C>,
    /// Whether the worker may be asleep. Whoever turns this off must wake it.
    parked: AtomicBool,
    closed: AtomicBool,
    drain: AtomicBool,
    waker: Waker,
}

impl<C> Clone for Mailbox<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<C> fmt::Debug for Mailbox<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mailbox")
            .field("waiting", &self.shared.queue.len())
            .field("capacity", &self.shared.queue.capacity())
            .finish_non_exhaustive()
    }
}

impl<C> Mailbox<C> {
    /// Hands a command to the worker, which takes commands in order. Never blocks.
    ///
    /// A command that gets in while the worker ends is dropped with it.
    ///
    /// # Errors
    /// The command itself, if the mailbox is full or the worker has ended.
    pub fn send(&self, command: C) -> Result<(), Rejected<C>> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Rejected::Closed(command));
        }
        self.shared.queue.push(command).map_err(Rejected::Full)?;
        self.wake();
        Ok(())
    }

    /// Whether the worker has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Tells the worker to drain and then to end.
    pub(super) fn drain(&self) {
        self.shared.drain.store(true, Ordering::Release);
        self.wake();
    }

    /// Wakes the worker if it may be asleep.
    fn wake(&self) {
        // SeqCst pairs with `Receiver::park`: either the worker sees what was pushed, or this
        // thread sees that it is parked.
        if self.shared.parked.swap(false, Ordering::SeqCst)
            && let Err(error) = self.shared.waker.wake()
        {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }
}

/// The worker's end of a [`Mailbox`].
pub(super) struct Receiver<C> {
    mailbox: Mailbox<C>,
}

impl<C> Receiver<C> {
    /// A mailbox that wakes the poll of `registry` by `token`.
    pub(super) fn new(registry: &Registry, token: Token, capacity: usize) -> io::Result<Self> {
        let shared = Shared {
            queue: ArrayQueue::new(capacity.max(1)),
            parked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            drain: AtomicBool::new(false),
            waker: Waker::new(registry, token)?,
        };
        Ok(Self { mailbox: Mailbox { shared: Arc::new(shared) } })
    }

    /// The other end.
    pub(super) fn mailbox(&self) -> Mailbox<C> {
        self.mailbox.clone()
    }

    /// The oldest command.
    pub(super) fn next(&self) -> Option<C> {
        self.mailbox.shared.queue.pop()
    }

    /// Whether someone wants the worker to drain.
    pub(super) fn wants_drain(&self) -> bool {
        self.mailbox.shared.drain.load(Ordering::Acquire)
    }

    /// Announces sleep. Says whether to sleep: false if something already waits.
    pub(super) fn park(&self, draining: bool) -> bool {
        self.mailbox.shared.parked.store(true, Ordering::SeqCst);
        let idle = self.mailbox.shared.queue.is_empty()
            && (draining || !self.mailbox.shared.drain.load(Ordering::SeqCst));
        if !idle {
            self.unpark();
        }
        idle
    }

    /// Announces that the worker is awake.
    pub(super) fn unpark(&self) {
        self.mailbox.shared.parked.store(false, Ordering::SeqCst);
    }
}

impl<C> Drop for Receiver<C> {
    fn drop(&mut self) {
        self.mailbox.shared.closed.store(true, Ordering::Release);
        while self.mailbox.shared.queue.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn a_full_mailbox_gives_the_command_back() {
        let poll = Poll::new().unwrap();
        let receiver = Receiver::new(poll.registry(), Token(0), 2).unwrap();
        let mailbox = receiver.mailbox();
        assert_eq!(mailbox.send(1), Ok(()));
        assert_eq!(mailbox.send(2), Ok(()));
        assert_eq!(mailbox.send(3), Err(Rejected::Full(3)));
        assert_eq!(receiver.next(), Some(1));
        assert_eq!(mailbox.send(4), Ok(()));
        drop(receiver);
        assert_eq!(mailbox.send(5), Err(Rejected::Closed(5)));
    }

    #[test]
    fn only_a_parked_worker_is_woken() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(4);
        let receiver = Receiver::new(poll.registry(), Token(7), 8).unwrap();
        let mailbox = receiver.mailbox();
        mailbox.send(1).unwrap();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "an awake worker was woken");
        assert!(!receiver.park(false), "a command waits");
        assert_eq!(receiver.next(), Some(1));
        assert!(receiver.park(false));
        mailbox.send(2).unwrap();
        mailbox.send(3).unwrap();
        poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
        assert_eq!(events.iter().map(mio::event::Event::token).collect::<Vec<_>>(), [Token(7)]);
        receiver.unpark();
    }
}

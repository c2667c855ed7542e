//! The way into a worker from other threads: a bounded queue and a wake-up.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam::queue::ArrayQueue;

use super::wake::Wake;

/// A command that did not get in, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
    closed: AtomicBool,
    drain: AtomicBool,
    wake: Arc<Wake>,
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
        if self.is_closed() {
            return Err(Rejected::Closed(command));
        }
        self.shared.queue.push(command).map_err(Rejected::Full)?;
        self.shared.wake.wake();
        Ok(())
    }

    /// Whether the worker has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Tells the worker to drain and then to end.
    pub(super) fn drain(&self) {
        self.shared.drain.store(true, Ordering::SeqCst);
        self.shared.wake.wake();
    }
}

/// The worker's end of a [`Mailbox`].
#[derive(Debug)]
pub(super) struct Receiver<C> {
    mailbox: Mailbox<C>,
}

impl<C> Receiver<C> {
    /// An empty mailbox.
    pub(super) fn new(wake: Arc<Wake>, capacity: usize) -> Self {
        let shared = Shared {
            queue: ArrayQueue::new(capacity.max(1)),
            closed: AtomicBool::new(false),
            drain: AtomicBool::new(false),
            wake,
        };
        Self { mailbox: Mailbox { shared: Arc::new(shared) } }
    }

    /// The other end.
    pub(super) fn mailbox(&self) -> Mailbox<C> {
        self.mailbox.clone()
    }

    /// The oldest command.
    pub(super) fn next(&self) -> Option<C> {
        self.mailbox.shared.queue.pop()
    }

    /// Whether no command waits.
    pub(super) fn is_empty(&self) -> bool {
        self.mailbox.shared.queue.is_empty()
    }

    /// Whether someone wants the worker to drain.
    pub(super) fn wants_drain(&self) -> bool {
        self.mailbox.shared.drain.load(Ordering::SeqCst)
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

    use mio::{Events, Poll, Token};

    use super::*;

    fn receiver(poll: &Poll, capacity: usize) -> (Arc<Wake>, Receiver<u8>) {
        let wake = Arc::new(Wake::new(poll.registry(), Token(7)).unwrap());
        (Arc::clone(&wake), Receiver::new(wake, capacity))
    }

    #[test]
    fn a_full_mailbox_gives_the_command_back() {
        let poll = Poll::new().unwrap();
        let (_, receiver) = receiver(&poll, 2);
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
        let (wake, receiver) = receiver(&poll, 8);
        let mailbox = receiver.mailbox();
        mailbox.send(1).unwrap();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "an awake worker was woken");
        wake.park();
        assert!(!receiver.is_empty(), "a command waits");
        wake.unpark();
        assert_eq!(receiver.next(), Some(1));
        wake.park();
        mailbox.send(2).unwrap();
        mailbox.send(3).unwrap();
        poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
        assert_eq!(events.iter().map(mio::event::Event::token).collect::<Vec<_>>(), [Token(7)]);
    }

    #[test]
    fn commands_from_many_threads_arrive_once_each() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(4);
        let wake = Arc::new(Wake::new(poll.registry(), Token(7)).unwrap());
        let receiver: Receiver<u32> = Receiver::new(Arc::clone(&wake), 16);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let mailbox = receiver.mailbox();
                scope.spawn(move || (0..5_000).for_each(|it| send(&mailbox, thread * 5_000 + it)));
            }
            let mut seen = vec![false; 20_000];
            let mut count = 0;
            while count < seen.len() {
                while let Some(command) = receiver.next() {
                    assert!(!std::mem::replace(&mut seen[command as usize], true));
                    count += 1;
                }
                wake.park();
                if receiver.is_empty() && count < seen.len() {
                    poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
                    assert!(!receiver.is_empty() || !events.is_empty(), "a wake-up was lost");
                }
                wake.unpark();
            }
        });
    }

    /// Sends though the mailbox may be full.
    fn send(mailbox: &Mailbox<u32>, mut command: u32) {
        while let Err(rejected) = mailbox.send(command) {
            match rejected {
                Rejected::Full(back) => command = back,
                Rejected::Closed(_) => panic!("the worker has ended"),
            }
            std::thread::yield_now();
        }
    }
}

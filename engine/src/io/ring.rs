//! One way from one worker to one other: messages in order, bounded in number and bytes.
//!
//! The sender knows what it has put in, and the receiver tells what it has taken out: neither changes
//! what the other counts, and neither waits. What finds no room stays with the sender, which is woken
//! when there is some.

use super::{
    atomic::{Arc, AtomicUsize, Ordering},
    park::Flag,
    queue::ArrayQueue,
};

/// A ring's two ends. It takes `capacity` messages, and no more once those in it are `bytes_max` or
/// more.
pub(super) fn ring<T>(capacity: usize, bytes_max: usize) -> (Producer<T>, Consumer<T>) {
    let ring = Arc::new(Ring {
        messages: ArrayQueue::new(capacity),
        taken: AtomicUsize::new(0),
        starved: Flag::default(),
    });
    let producer = Producer { ring: Arc::clone(&ring), given: 0, bytes_max, blocked: false };
    (producer, Consumer { ring, taken: 0, has_taken: false })
}

#[derive(Debug)]
struct Ring<T> {
    messages: ArrayQueue<(usize, T)>,
    /// Bytes of all messages that the receiver has taken out; counted round and round.
    taken: AtomicUsize,
    /// Whether the sender waits for room.
    starved: Flag,
}

/// The sender's end.
#[derive(Debug)]
pub(super) struct Producer<T> {
    ring: Arc<Ring<T>>,
    /// Bytes of all messages put in; counted round and round.
    given: usize,
    bytes_max: usize,
    /// Whether more would be put in if there were room.
    blocked: bool,
}

impl<T> Producer<T> {
    /// Whether a message can be put in.
    pub(super) fn has_room(&self) -> bool {
        let waiting = self.given.wrapping_sub(self.ring.taken.load(Ordering::Acquire));
        waiting < self.bytes_max && !self.ring.messages.is_full()
    }

    /// Puts a message in that holds so many bytes; there must be room.
    pub(super) fn push(&mut self, bytes: usize, message: T) {
        self.given = self.given.wrapping_add(bytes);
        let pushed = self.ring.messages.push((bytes, message));
        debug_assert!(pushed.is_ok(), "nobody else puts anything in");
    }

    /// Notes whether more would be put in if there were room. If so, `has_become_free` must be asked
    /// once more when the sender has announced its sleep.
    pub(super) fn set_blocked(&mut self, blocked: bool) {
        let was_blocked = std::mem::replace(&mut self.blocked, blocked);
        if was_blocked && !blocked {
            self.ring.starved.clear();
        }
    }

    /// Whether more would be put in, and there was no room.
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether there is room for what found none. If not, the receiver will say so.
    ///
    /// The flag is set here, behind the announcement of sleep: whoever takes it away wakes a sender
    /// that sleeps. One who took away an earlier flag may have found the sender awake, and the room
    /// that it had made too small.
    pub(super) fn has_become_free(&self) -> bool {
        if !self.blocked {
            return false;
        }
        self.ring.starved.set();
        self.has_room()
    }
}

/// The receiver's end.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    ring: Arc<Ring<T>>,
    /// Bytes of all messages taken out; counted round and round.
    taken: usize,
    /// Whether anything was taken out that the sender was not told of.
    has_taken: bool,
}

impl<T> Consumer<T> {
    /// Takes the next message out.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (bytes, message) = self.ring.messages.pop()?;
        self.taken = self.taken.wrapping_add(bytes);
        self.has_taken = true;
        Some(message)
    }

    /// Tells the sender of the room that there is now; whether it waits for that and must be woken.
    pub(super) fn settle(&mut self) -> bool {
        if !std::mem::take(&mut self.has_taken) {
            return false;
        }
        self.ring.taken.store(self.taken, Ordering::Release);
        self.ring.starved.take()
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        self.ring.messages.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.ring.messages.is_empty()
    }
}

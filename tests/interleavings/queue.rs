//! A bounded queue as crossbeam's is made, for one sender and one receiver: a position for each end,
//! and on each slot a stamp that says whether it is full. Whoever asks whether it is empty or full
//! looks at the positions only.

use loom::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct ArrayQueue<T> {
    head: AtomicUsize,
    tail: AtomicUsize,
    slots: Vec<Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    /// The position that it is empty for, or that plus one if it is full.
    stamp: AtomicUsize,
    message: Mutex<Option<T>>,
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let slot =
            |position| Slot { stamp: AtomicUsize::new(2 * position), message: Mutex::new(None) };
        Self {
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            slots: (0..capacity).map(slot).collect(),
        }
    }

    fn slot(&self, position: usize) -> &Slot<T> {
        &self.slots[position % self.slots.len()]
    }

    pub(crate) fn push(&self, message: T) -> Result<(), T> {
        let tail = self.tail.load(Ordering::Relaxed);
        let slot = self.slot(tail);
        while slot.stamp.load(Ordering::Acquire) != 2 * tail {
            if self.is_full() {
                return Err(message);
            }
            // It is being taken out of there.
            thread::yield_now();
        }
        self.tail.store(tail + 1, Ordering::Release);
        *slot.message.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(message);
        slot.stamp.store(2 * tail + 1, Ordering::Release);
        Ok(())
    }

    pub(crate) fn pop(&self) -> Option<T> {
        let head = self.head.load(Ordering::Relaxed);
        let slot = self.slot(head);
        while slot.stamp.load(Ordering::Acquire) != 2 * head + 1 {
            if self.is_empty() {
                return None;
            }
            // It is being put in there.
            thread::yield_now();
        }
        self.head.store(head + 1, Ordering::Release);
        let message = slot.message.lock().expect("nobody panics").take();
        slot.stamp.store(2 * (head + self.slots.len()), Ordering::Release);
        message
    }

    pub(crate) fn len(&self) -> usize {
        let head = self.head.load(Ordering::Acquire);
        self.tail.load(Ordering::Acquire) - head
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.slots.len() <= self.len()
    }
}

//! What a worker does with its rings in one turn, as far as that is sleeping and waking.

use loom::{
    sync::{Condvar, Mutex},
    thread,
};

use crate::{
    park::Flag,
    ring::{Consumer, Producer},
};

/// A worker's flag, and what stands for its poll and the waker: woken before it sleeps, it does not.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    parked: Flag,
    rung: Mutex<bool>,
    woken: Condvar,
}

impl Bell {
    /// Wakes the worker if it may be asleep.
    pub(crate) fn ring(&self) {
        if self.parked.take() {
            *self.rung.lock().expect("nobody panics") = true;
            self.woken.notify_one();
        }
    }

    /// One wait of a worker that has found nothing to do.
    pub(crate) fn sleep_unless(&self, has_news: impl Fn() -> bool) {
        self.parked.set();
        if has_news() {
            // Another look at it: the other thread may be in the midst of handing it over.
            thread::yield_now();
        } else {
            let mut rung = self.rung.lock().expect("nobody panics");
            while !*rung {
                rung = self.woken.wait(rung).expect("nobody panics");
            }
            *rung = false;
        }
        self.parked.clear();
    }
}

/// A worker that only receives: so many messages, telling whoever waits for room.
pub(crate) fn receive(
    consumer: &mut Consumer<u32>,
    own: &Bell,
    sender: Option<&Bell>,
    count: usize,
) -> Vec<u32> {
    let mut heard = Vec::new();
    while heard.len() < count {
        for _ in 0..consumer.len() {
            heard.extend(consumer.pop());
        }
        if consumer.settle()
            && let Some(sender) = sender
        {
            sender.ring();
        }
        if heard.len() < count {
            own.sleep_unless(|| !consumer.is_empty());
        }
    }
    heard
}

/// A worker that only sends: so many messages, as there is room.
pub(crate) fn send(producer: &mut Producer<u32>, own: &Bell, receiver: &Bell, count: u32) {
    let mut next = 0;
    while next < count {
        while next < count && producer.has_room() {
            producer.push(1, next);
            next += 1;
        }
        producer.set_blocked(next < count);
        receiver.ring();
        if next < count {
            own.sleep_unless(|| producer.has_become_free());
        }
    }
}

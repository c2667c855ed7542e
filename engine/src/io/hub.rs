//! What the workers of a process share: rings between any two of them, and how they end together.
//!
//! A ring goes one way, from one worker to one other. It is bounded in messages and bytes; what does
//! not fit stays with the sender, where it counts as waiting. Whoever has handed something over wakes
//! the other once, at the end of what it does, and only if that one sleeps.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use crossbeam::queue::ArrayQueue;

use super::{
    ring::{Consumer, Producer, ring},
    wake::Wake,
};
use crate::{metrics::Counters, shard::Parcel};

/// Workers that a process may have. Their number stands in a byte; their rings are its square.
pub(super) const WORKERS_MAX: usize = 64;
/// Bytes that may be on their way in one ring, but for its last message.
const BYTES_MAX: usize = 4 << 20;
/// Datagrams that may be on their way to the worker that they are for.
const STRAYS_MAX: usize = 256;

/// A datagram that came to the wrong worker.
#[derive(Debug)]
pub(super) struct Stray {
    /// The index of the address that it was sent to.
    pub(super) port: usize,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// What all workers of a process share.
#[derive(Debug)]
pub(super) struct Hub {
    /// Datagrams on their way to the worker that they are for: by sender, then by receiver.
    strays: Vec<ArrayQueue<Stray>>,
    wakes: Vec<Arc<Wake>>,
    /// Connections of all workers.
    connections: AtomicUsize,
    /// Whether all are to drain.
    drain: AtomicBool,
    /// Workers that have nothing more to do.
    over: AtomicUsize,
    /// Whether one has failed, so that the others are of no use.
    failed: AtomicBool,
}

impl Hub {
    /// What the workers share that are woken by these, and the place of each.
    pub(super) fn new(wakes: Vec<Arc<Wake>>) -> (Arc<Self>, Vec<Seat>) {
        let count = wakes.len();
        let pairs = if count == 1 { 0 } else { count * count };
        let hub = Arc::new(Self {
            strays: (0..pairs).map(|_| ArrayQueue::new(STRAYS_MAX)).collect(),
            wakes,
            connections: AtomicUsize::new(0),
            drain: AtomicBool::new(false),
            over: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        });
        let mut seats: Vec<Seat> = (0..count).map(|index| Seat::new(&hub, index)).collect();
        let capacity = (16_384 / count).clamp(128, 1_024);
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            if from != to {
                let (producer, consumer) = ring(capacity, BYTES_MAX);
                seats[from].to[to] = Some(producer);
                seats[to].from[from] = Some(consumer);
            }
        }
        (hub, seats)
    }

    /// How many workers there are.
    pub(super) const fn workers(&self) -> usize {
        self.wakes.len()
    }

    /// Connections of all workers.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn connection_begun(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connection_over(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// One worker has failed: the others end at once.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    fn wake_all(&self) {
        for wake in &self.wakes {
            wake.wake();
        }
    }

    fn strays(&self, from: usize, to: usize) -> &ArrayQueue<Stray> {
        &self.strays[from * self.wakes.len() + to]
    }
}

/// One worker's place at the hub.
#[derive(Debug)]
pub(super) struct Seat {
    hub: Arc<Hub>,
    index: usize,
    /// The ways to the other workers; none to itself.
    to: Vec<Option<Producer<Parcel>>>,
    /// The ways from them.
    from: Vec<Option<Consumer<Parcel>>>,
    /// Who is to be woken.
    handed: Vec<bool>,
}

impl Seat {
    fn new(hub: &Arc<Hub>, index: usize) -> Self {
        let count = hub.workers();
        Self {
            hub: Arc::clone(hub),
            index,
            to: (0..count).map(|_| None).collect(),
            from: (0..count).map(|_| None).collect(),
            handed: vec![false; count],
        }
    }

    /// The worker's number.
    pub(super) const fn index(&self) -> usize {
        self.index
    }

    /// The numbers of all other workers.
    pub(super) fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.index;
        (0..self.hub.workers()).filter(move |other| *other != own)
    }

    /// Whether a parcel can be handed over.
    pub(super) fn has_room(&self, to: usize) -> bool {
        self.to[to].as_ref().is_some_and(Producer::has_room)
    }

    /// Hands a parcel over; there must be room.
    pub(super) fn push(&mut self, to: usize, parcel: Parcel) {
        if let Some(producer) = &mut self.to[to] {
            producer.push(parcel.content.size(), parcel);
            self.handed[to] = true;
        }
    }

    /// Notes whether more would be handed over if there were room; whether that is new.
    pub(super) fn set_blocked(&mut self, to: usize, blocked: bool) -> bool {
        let Some(producer) = &mut self.to[to] else { return false };
        let was_blocked = producer.is_blocked();
        producer.set_blocked(blocked);
        was_blocked != blocked
    }

    /// The next parcel from another worker.
    pub(super) fn pop(&mut self, from: usize) -> Option<Parcel> {
        self.from[from].as_mut()?.pop()
    }

    /// What was to be taken from another worker's parcels is taken: it is woken if it waits for that.
    pub(super) fn settle(&mut self, from: usize) {
        self.handed[from] |= self.from[from].as_mut().is_some_and(Consumer::settle);
    }

    /// How many parcels from another worker wait.
    pub(super) fn waiting(&self, from: usize) -> usize {
        self.from[from].as_ref().map_or(0, Consumer::len)
    }

    /// The next datagram that has come to another worker.
    pub(super) fn pop_stray(&self, from: usize) -> Option<Stray> {
        self.hub.strays(from, self.index).pop()
    }

    /// Wakes those that something was handed to and that sleep.
    pub(super) fn wake_others(&mut self, counters: &mut Counters) {
        for (to, handed) in self.handed.iter_mut().enumerate() {
            if std::mem::take(handed) {
                let woken = self.hub.wakes[to].wake();
                counters.worker_wakes_total += u64::from(woken);
                counters.worker_wakes_spared_total += u64::from(!woken);
            }
        }
    }

    /// Whether the worker may sleep as far as the others are concerned. To be asked when it has
    /// announced that it will.
    pub(super) fn is_quiet(&self) -> bool {
        let has_become_free = self.to.iter().flatten().any(Producer::has_become_free);
        let has_strays = || self.others().any(|it| !self.hub.strays(it, self.index).is_empty());
        !self.has_news() && !has_become_free && !has_strays()
    }

    /// Whether another worker has handed something over.
    pub(super) fn has_news(&self) -> bool {
        self.from.iter().flatten().any(|from| !from.is_empty())
    }

    /// Tells all workers to drain.
    pub(super) fn drain_all(&self) {
        self.hub.drain.store(true, Ordering::SeqCst);
        self.hub.wake_all();
    }

    /// Whether all workers are to drain.
    pub(super) fn wants_drain(&self) -> bool {
        self.hub.drain.load(Ordering::SeqCst)
    }

    /// This worker has nothing more to do but for the others.
    pub(super) fn note_over(&self) {
        if self.hub.over.fetch_add(1, Ordering::SeqCst) + 1 == self.hub.workers() {
            self.hub.wake_all();
        }
    }

    /// Whether no worker has anything more to do.
    pub(super) fn is_all_over(&self) -> bool {
        self.hub.over.load(Ordering::SeqCst) == self.hub.workers()
    }

    /// Whether a worker has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.hub.failed.load(Ordering::SeqCst)
    }

    /// Hands a datagram to the worker that it is for; false if too many are on their way there.
    pub(super) fn hand_over(hub: &Hub, (from, to): (usize, usize), stray: Stray) -> bool {
        let handed = hub.strays(from, to).push(stray).is_ok();
        if handed {
            hub.wakes[to].wake();
        }
        handed
    }
}

/// Tells the others if its worker ends otherwise than it should.
#[derive(Debug)]
pub(super) struct Watch {
    hub: Option<Arc<Hub>>,
}

impl Watch {
    pub(super) const fn new(hub: Arc<Hub>) -> Self {
        Self { hub: Some(hub) }
    }

    /// The worker has ended as it should.
    pub(super) fn end(mut self) {
        self.hub = None;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(hub) = &self.hub {
            hub.fail();
        }
    }
}

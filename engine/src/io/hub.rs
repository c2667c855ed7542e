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

use super::{park::Flag, wake::Wake};
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

/// One way from one worker to another.
#[derive(Debug)]
struct Ring {
    parcels: ArrayQueue<Parcel>,
    /// Bytes of the parcels.
    bytes: AtomicUsize,
    /// Whether the sender waits for room.
    starved: Flag,
    strays: ArrayQueue<Stray>,
}

/// What all workers of a process share.
#[derive(Debug)]
pub(super) struct Hub {
    /// By sender, then by receiver.
    rings: Vec<Ring>,
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
    /// What the workers share that are woken by these.
    pub(super) fn new(wakes: Vec<Arc<Wake>>) -> Arc<Self> {
        let count = wakes.len();
        let capacity = (16_384 / count).clamp(128, 1_024);
        let pairs = if count == 1 { 0 } else { count * count };
        let ring = |_| Ring {
            parcels: ArrayQueue::new(capacity),
            bytes: AtomicUsize::new(0),
            starved: Flag::default(),
            strays: ArrayQueue::new(STRAYS_MAX),
        };
        Arc::new(Self {
            rings: (0..pairs).map(ring).collect(),
            wakes,
            connections: AtomicUsize::new(0),
            drain: AtomicBool::new(false),
            over: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        })
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

    fn ring(&self, from: usize, to: usize) -> &Ring {
        &self.rings[from * self.wakes.len() + to]
    }
}

/// One worker's place at the hub.
#[derive(Debug)]
pub(super) struct Seat {
    hub: Arc<Hub>,
    index: usize,
    /// Who is to be woken.
    handed: Vec<bool>,
    /// To whom more would go if there were room.
    blocked: Vec<bool>,
}

impl Seat {
    pub(super) fn new(hub: Arc<Hub>, index: usize) -> Self {
        let count = hub.workers();
        Self { hub, index, handed: vec![false; count], blocked: vec![false; count] }
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
        let ring = self.hub.ring(self.index, to);
        !ring.parcels.is_full() && ring.bytes.load(Ordering::SeqCst) < BYTES_MAX
    }

    /// Hands a parcel over; there must be room.
    pub(super) fn push(&mut self, to: usize, parcel: Parcel) {
        let ring = self.hub.ring(self.index, to);
        ring.bytes.fetch_add(parcel.content.size(), Ordering::SeqCst);
        let pushed = ring.parcels.push(parcel);
        debug_assert!(pushed.is_ok(), "nobody else hands over in this ring");
        self.handed[to] = true;
    }

    /// Notes whether more would be handed over if there were room.
    pub(super) fn set_blocked(&mut self, to: usize, blocked: bool) {
        if std::mem::replace(&mut self.blocked[to], blocked) == blocked {
            return;
        }
        let starved = &self.hub.ring(self.index, to).starved;
        if blocked { starved.set() } else { starved.clear() }
    }

    /// Whether more would be handed over, and there is no room.
    pub(super) fn is_blocked(&self, to: usize) -> bool {
        self.blocked[to]
    }

    /// The next parcel from another worker.
    pub(super) fn pop(&mut self, from: usize) -> Option<Parcel> {
        let ring = self.hub.ring(from, self.index);
        let parcel = ring.parcels.pop()?;
        ring.bytes.fetch_sub(parcel.content.size(), Ordering::SeqCst);
        if ring.starved.take() {
            self.handed[from] = true;
        }
        Some(parcel)
    }

    /// How many parcels from another worker wait.
    pub(super) fn waiting(&self, from: usize) -> usize {
        self.hub.ring(from, self.index).parcels.len()
    }

    /// The next datagram that has come to another worker.
    pub(super) fn pop_stray(&self, from: usize) -> Option<Stray> {
        self.hub.ring(from, self.index).strays.pop()
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

    /// Whether the worker may sleep as far as the others are concerned.
    pub(super) fn is_quiet(&self) -> bool {
        self.others().all(|other| {
            let ring = self.hub.ring(other, self.index);
            let has_become_free = self.blocked[other] && self.has_room(other);
            ring.parcels.is_empty() && ring.strays.is_empty() && !has_become_free
        })
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
        let handed = hub.ring(from, to).strays.push(stray).is_ok();
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

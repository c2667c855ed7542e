//! What is sent next (draft-22 section 5.1): one decision for all streams of a session.
//!
//! [`Precedence`] says where a stream stands, [`Scheduler`] which of those that have something to
//! send comes next. Classes and priorities are strict. Requests of equal priorities share what
//! there is by bytes, so that all make progress. Within a request the group order decides, then
//! fills before live objects, then the lower subgroup.
//!
//! Back of the envelope: a heap of requests, and in each a heap of its streams; a turn costs a few
//! comparisons in both, and allocates nothing once the heaps have grown.

use std::{cmp::Reverse, collections::BinaryHeap};

use aip_codec::moqt::{
    id::{GroupId, RequestId, SubgroupId},
    parameter::GroupOrder,
};
use slab::Slab;

use crate::stream_map::{NumberMap, StreamMap};

/// A priority that was not given (draft-22 section 9.20.9).
pub const DEFAULT_PRIORITY: u8 = 128;
/// What a turn without bytes costs its request.
const TURN_COST: u64 = 16;
/// Turns that may be stale before they are looked for.
const TURNS_SPARE: usize = 64;

/// What kind of stream: control before requests before objects. (Padding we never send.)
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// The control stream.
    Control,
    /// A request's stream.
    Request,
    /// Objects of a subscription, a fill or a FETCH; or the records of a call.
    Object,
}

/// Where a stream stands among those of its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Precedence {
    /// What kind it is.
    pub class: Class,
    /// The subscriber's priority; lower is sooner.
    pub subscriber_priority: u8,
    /// The publisher's priority; lower is sooner.
    pub publisher_priority: u8,
    /// The request that it belongs to: those of equal priorities share by bytes.
    pub request: RequestId,
    /// Its place among the streams of its request.
    pub rank: Rank,
}

/// A stream's place among those of its request: the smallest is sent first.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Rank {
    /// Whether it is a fill in another order than its subscription's: live objects go first.
    behind_live: bool,
    /// The group, turned round if higher groups go first.
    group: u64,
    /// Whether it carries live objects: a fill of the same group goes first.
    live: bool,
    subgroup: u64,
}

impl Rank {
    /// A live subgroup of a subscription in this order.
    pub const fn subgroup(order: GroupOrder, group: GroupId, subgroup: SubgroupId) -> Self {
        let group = in_order(order, group);
        Self { behind_live: false, group, live: true, subgroup: subgroup.0 }
    }

    /// A fill that begins at `group`, for a subscription in the order `live`.
    pub const fn fill(order: GroupOrder, live: GroupOrder, group: GroupId) -> Self {
        let behind_live = order as u8 != live as u8;
        Self { behind_live, group: in_order(order, group), live: false, subgroup: 0 }
    }
}

/// A group's number so that what goes first is smaller.
const fn in_order(order: GroupOrder, group: GroupId) -> u64 {
    match order {
        GroupOrder::Ascending => group.0,
        GroupOrder::Descending => u64::MAX - group.0,
    }
}

impl Precedence {
    /// The control stream.
    pub const CONTROL: Self = Self {
        class: Class::Control,
        subscriber_priority: 0,
        publisher_priority: 0,
        request: RequestId(0),
        rank: Rank { behind_live: false, group: 0, live: false, subgroup: 0 },
    };

    /// A request's own stream.
    pub const fn request(request: RequestId) -> Self {
        Self { class: Class::Request, request, ..Self::CONTROL }
    }

    /// The data stream of a FETCH, or the stream of a call behind its first message.
    pub const fn data(request: RequestId, subscriber_priority: u8) -> Self {
        Self {
            class: Class::Object,
            subscriber_priority,
            publisher_priority: DEFAULT_PRIORITY,
            request,
            ..Self::CONTROL
        }
    }

    /// Its urgency as a coarse number for a transport that knows only those: 0 is most urgent.
    pub const fn urgency(&self) -> u8 {
        match self.class {
            Class::Control => 0,
            Class::Request => 1,
            Class::Object => {
                2 + (self.subscriber_priority >> 4) * 15 + self.publisher_priority / 18
            }
        }
    }

    const fn band(&self) -> Band {
        Band(self.class, self.subscriber_priority, self.publisher_priority)
    }
}

/// What is strict: nothing of a later band is sent while an earlier one has something.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Band(Class, u8, u8);

/// The streams of one request in one band.
#[derive(Debug)]
struct Flow {
    band: Band,
    request: RequestId,
    /// Bytes sent, counted so that who comes later begins where the others stand.
    used: u64,
    /// Streams with something to send, stale ones among them.
    ready: BinaryHeap<Reverse<(Rank, u64, u64)>>,
    /// Whether it stands in the scheduler's heap.
    queued: bool,
    /// Streams that belong to it.
    streams: usize,
}

#[derive(Debug)]
struct Entry {
    rank: Rank,
    flow: usize,
    /// The number of its valid turn, if it has something to send.
    turn: Option<u64>,
}

/// Which stream of a session sends next.
#[derive(Debug, Default)]
pub struct Scheduler {
    streams: StreamMap<Entry>,
    flows: Slab<Flow>,
    by_request: NumberMap<(Band, RequestId), usize>,
    /// Flows with something to send: band, what they have used, and which.
    queue: BinaryHeap<Reverse<(Band, u64, usize)>>,
    /// What had been used by the flow that was served last in each band that has flows, and how
    /// many it has.
    reached: NumberMap<Band, (u64, usize)>,
    turns: u64,
    ready: usize,
}

impl Scheduler {
    /// Takes note of a stream, or of its new place.
    pub fn set(&mut self, stream: u64, precedence: &Precedence) {
        let was_ready = self.streams.get(&stream).is_some_and(|entry| entry.turn.is_some());
        self.remove(stream);
        let flow = self.flow(precedence);
        self.flows[flow].streams += 1;
        self.streams.insert(stream, Entry { rank: precedence.rank, flow, turn: None });
        if was_ready {
            self.ready(stream);
        }
    }

    /// Forgets a stream.
    pub fn remove(&mut self, stream: u64) {
        let Some(entry) = self.streams.remove(&stream) else { return };
        self.ready -= usize::from(entry.turn.is_some());
        let flow = &mut self.flows[entry.flow];
        flow.streams -= 1;
        // While it stands in the queue it is only forgotten when its turn comes.
        if flow.streams == 0 && !flow.queued {
            self.forget_flow(entry.flow);
        }
    }

    /// A stream has something to send. Nothing, if it is not known or had already.
    pub fn ready(&mut self, stream: u64) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        if entry.turn.is_some() {
            return;
        }
        self.turns += 1;
        self.ready += 1;
        entry.turn = Some(self.turns);
        let (rank, index) = (entry.rank, entry.flow);
        let flow = &mut self.flows[index];
        if flow.ready.is_empty() {
            // Who had nothing to send gains nothing by it.
            let reached = self.reached.get(&flow.band).map_or(0, |(reached, _)| *reached);
            flow.used = flow.used.max(reached);
        }
        flow.ready.push(Reverse((rank, stream, self.turns)));
        if flow.streams * 2 + TURNS_SPARE < flow.ready.len() {
            let streams = &self.streams;
            flow.ready.retain(|Reverse((_, stream, turn))| {
                streams.get(stream).is_some_and(|entry| entry.turn == Some(*turn))
            });
        }
        self.queue_flow(index);
    }

    /// Whether no stream has anything to send.
    pub const fn is_idle(&self) -> bool {
        self.ready == 0
    }

    /// The stream that sends next; it has nothing to send until [`Self::ready`] says so again.
    /// Tell by [`Self::served`] what it has sent.
    pub fn poll(&mut self) -> Option<u64> {
        while let Some(Reverse((band, used, index))) = self.queue.pop() {
            let flow = &mut self.flows[index];
            if flow.used != used {
                self.queue.push(Reverse((band, flow.used, index)));
                continue;
            }
            let mut next = None;
            while next.is_none()
                && let Some(Reverse((_, stream, turn))) = flow.ready.pop()
            {
                let entry = self.streams.get_mut(&stream);
                next = entry.filter(|entry| entry.turn == Some(turn)).map(|entry| {
                    entry.turn = None;
                    stream
                });
            }
            flow.queued = false;
            if let Some(stream) = next {
                self.ready -= 1;
                if let Some((reached, _)) = self.reached.get_mut(&band) {
                    *reached = (*reached).max(used);
                }
                if !flow.ready.is_empty() {
                    self.queue_flow(index);
                }
                return Some(stream);
            }
            if flow.streams == 0 {
                self.forget_flow(index);
            }
        }
        None
    }

    /// The stream that [`Self::poll`] named has sent so many bytes.
    pub fn served(&mut self, stream: u64, bytes: usize) {
        if let Some(entry) = self.streams.get(&stream) {
            self.flows[entry.flow].used += (bytes as u64).max(TURN_COST);
        }
    }

    fn queue_flow(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        if !std::mem::replace(&mut flow.queued, true) {
            self.queue.push(Reverse((flow.band, flow.used, index)));
        }
    }

    fn flow(&mut self, precedence: &Precedence) -> usize {
        let (band, request) = (precedence.band(), precedence.request);
        if let Some(&index) = self.by_request.get(&(band, request)) {
            return index;
        }
        let (reached, flows) = self.reached.entry(band).or_default();
        *flows += 1;
        let index = self.flows.insert(Flow {
            band,
            request,
            used: *reached,
            ready: BinaryHeap::new(),
            queued: false,
            streams: 0,
        });
        self.by_request.insert((band, request), index);
        index
    }

    fn forget_flow(&mut self, index: usize) {
        let Flow { band, request, .. } = self.flows.remove(index);
        self.by_request.remove(&(band, request));
        if let Some((_, flows)) = self.reached.get_mut(&band) {
            *flows -= 1;
            if *flows == 0 {
                self.reached.remove(&band);
            }
        }
    }
}

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

use crate::stream_map::{DenseMap, Handle, NumberMap};

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

/// Those of a session's flows that stand in one band.
#[derive(Debug)]
struct Peers {
    /// What had been used by the flow that was served last.
    reached: u64,
    flows: usize,
}

/// The streams of one request in one band.
#[derive(Debug)]
struct Flow {
    band: Band,
    request: RequestId,
    /// The place of its band.
    peers: usize,
    /// Bytes sent, counted so that who comes later begins where the others stand.
    used: u64,
    /// Streams with something to send, stale ones among them: rank, number, turn, place.
    ready: BinaryHeap<Reverse<(Rank, u64, u64, usize)>>,
    /// Whether it stands in the scheduler's heap.
    queued: bool,
    /// Streams that belong to it.
    streams: usize,
}

#[derive(Debug)]
struct Entry<S> {
    precedence: Precedence,
    flow: usize,
    /// The number of its valid turn, if it has something to send.
    turn: Option<u64>,
    stream: S,
}

/// Where a stream is found, without being looked for. It leads nowhere once the stream is removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Turn(Handle<u64>);

impl Turn {
    /// The stream's number.
    pub const fn stream(self) -> u64 {
        self.0.key
    }
}

/// A session's streams, and which of them sends next. `S` is what else is kept of each.
#[derive(Debug)]
pub struct Scheduler<S> {
    streams: DenseMap<u64, Entry<S>>,
    flows: Slab<Flow>,
    by_request: NumberMap<(Band, RequestId), usize>,
    /// Flows with something to send: band, what they have used, and which.
    queue: BinaryHeap<Reverse<(Band, u64, usize)>>,
    bands: Slab<Peers>,
    by_band: NumberMap<Band, usize>,
    turns: u64,
    ready: usize,
}

impl<S> Default for Scheduler<S> {
    fn default() -> Self {
        Self {
            streams: DenseMap::default(),
            flows: Slab::new(),
            by_request: NumberMap::default(),
            queue: BinaryHeap::new(),
            bands: Slab::new(),
            by_band: NumberMap::default(),
            turns: 0,
            ready: 0,
        }
    }
}

impl<S> Scheduler<S> {
    /// Takes note of a stream.
    pub fn insert(&mut self, stream: u64, precedence: &Precedence, kept: S) -> Turn {
        self.remove(stream);
        let flow = self.join(precedence);
        let entry = Entry { precedence: *precedence, flow, turn: None, stream: kept };
        Turn(self.streams.insert(stream, entry))
    }

    /// Takes note of a stream's new place. Nothing, if it is not known.
    pub fn set(&mut self, stream: u64, precedence: &Precedence) {
        let Some(turn) = self.find(stream) else { return };
        let flow = self.join(precedence);
        let Some(entry) = self.streams.at_mut(turn.0) else { return };
        let was_ready = entry.turn.take().is_some();
        let before = std::mem::replace(&mut entry.flow, flow);
        entry.precedence = *precedence;
        self.leave(before);
        if was_ready {
            self.ready -= 1;
            self.ready(turn);
        }
    }

    /// Forgets a stream; what was kept of it.
    pub fn remove(&mut self, stream: u64) -> Option<S> {
        let entry = self.streams.remove(stream)?;
        self.ready -= usize::from(entry.turn.is_some());
        self.leave(entry.flow);
        Some(entry.stream)
    }

    /// Looks for a stream.
    pub fn find(&self, stream: u64) -> Option<Turn> {
        self.streams.handle(stream).map(Turn)
    }

    /// What is kept of a stream, if it is known.
    pub fn get_mut(&mut self, turn: Turn) -> Option<&mut S> {
        self.streams.at_mut(turn.0).map(|entry| &mut entry.stream)
    }

    /// Where a stream stands, if it is known.
    pub fn precedence(&self, turn: Turn) -> Option<Precedence> {
        self.streams.at(turn.0).map(|entry| entry.precedence)
    }

    /// What is kept of all streams.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &S)> {
        self.streams.iter().map(|(stream, entry)| (stream, &entry.stream))
    }

    /// How many streams are known.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// A stream has something to send. Nothing, if it is not known or had already.
    pub fn ready(&mut self, turn: Turn) {
        let Some(entry) = self.streams.at_mut(turn.0) else { return };
        if entry.turn.is_some() {
            return;
        }
        self.turns += 1;
        self.ready += 1;
        entry.turn = Some(self.turns);
        let (rank, index) = (entry.precedence.rank, entry.flow);
        let flow = &mut self.flows[index];
        if flow.ready.is_empty() {
            // Who had nothing to send gains nothing by it.
            flow.used = flow.used.max(self.bands[flow.peers].reached);
        }
        flow.ready.push(Reverse((rank, turn.0.key, self.turns, turn.0.place)));
        if flow.streams * 2 + TURNS_SPARE < flow.ready.len() {
            let streams = &self.streams;
            flow.ready.retain(|Reverse((_, key, turn, place))| {
                let entry = streams.at(Handle { place: *place, key: *key });
                entry.is_some_and(|entry| entry.turn == Some(*turn))
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
    pub fn poll(&mut self) -> Option<Turn> {
        while let Some(Reverse((band, used, index))) = self.queue.pop() {
            let flow = &mut self.flows[index];
            if flow.used != used {
                self.queue.push(Reverse((band, flow.used, index)));
                continue;
            }
            let mut next = None;
            while next.is_none()
                && let Some(Reverse((_, key, turn, place))) = flow.ready.pop()
            {
                let handle = Handle { place, key };
                let entry = self.streams.at_mut(handle);
                next = entry.filter(|entry| entry.turn == Some(turn)).map(|entry| {
                    entry.turn = None;
                    Turn(handle)
                });
            }
            flow.queued = false;
            if let Some(turn) = next {
                self.ready -= 1;
                let reached = &mut self.bands[flow.peers].reached;
                *reached = (*reached).max(used);
                if !flow.ready.is_empty() {
                    self.queue_flow(index);
                }
                return Some(turn);
            }
            if flow.streams == 0 {
                self.forget_flow(index);
            }
        }
        None
    }

    /// The stream that [`Self::poll`] named has sent so many bytes.
    pub fn served(&mut self, turn: Turn, bytes: usize) {
        if let Some(entry) = self.streams.at(turn.0) {
            self.flows[entry.flow].used += (bytes as u64).max(TURN_COST);
        }
    }

    fn queue_flow(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        if !std::mem::replace(&mut flow.queued, true) {
            self.queue.push(Reverse((flow.band, flow.used, index)));
        }
    }

    /// The flow of a stream of this precedence, which is one more.
    fn join(&mut self, precedence: &Precedence) -> usize {
        let (band, request) = (precedence.band(), precedence.request);
        let index = match self.by_request.get(&(band, request)) {
            Some(&index) => index,
            None => self.begin_flow(band, request),
        };
        self.flows[index].streams += 1;
        index
    }

    fn begin_flow(&mut self, band: Band, request: RequestId) -> usize {
        let (bands, by_band) = (&mut self.bands, &mut self.by_band);
        let peers =
            *by_band.entry(band).or_insert_with(|| bands.insert(Peers { reached: 0, flows: 0 }));
        let used = bands[peers].reached;
        bands[peers].flows += 1;
        let (ready, queued, streams) = (BinaryHeap::new(), false, 0);
        let index = self.flows.insert(Flow { band, request, peers, used, ready, queued, streams });
        self.by_request.insert((band, request), index);
        index
    }

    /// A stream leaves its flow.
    fn leave(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        flow.streams -= 1;
        // While it stands in the queue it is only forgotten when its turn comes.
        if flow.streams == 0 && !flow.queued {
            self.forget_flow(index);
        }
    }

    fn forget_flow(&mut self, index: usize) {
        let Flow { band, request, peers, .. } = self.flows.remove(index);
        self.by_request.remove(&(band, request));
        self.bands[peers].flows -= 1;
        if self.bands[peers].flows == 0 {
            self.bands.remove(peers);
            self.by_band.remove(&band);
        }
    }
}

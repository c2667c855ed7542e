//! One track: who publishes it to us, who receives it from us, and what is cached of it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use aip_codec::moqt::{
    id::{GroupId, RequestId, SubgroupId, TrackAlias},
    location::Location,
    message::{Fetch, Subscribe, TrackStatus},
    name::FullTrackName,
    parameter::GroupOrder,
    property::Properties,
    stream::subgroup::ObjectStatus,
};
use slab::Slab;

use crate::session::DeliveryTimeouts;

use super::{
    cache::Cache, fanout::ActiveSubgroup, fetch_task::FetchTask, namespace_tree::RequestKey,
    peer::PeerIndex, upstream_fetch::UpstreamFetch,
};

/// A track's place in the relay's table.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct TrackIndex(pub(crate) usize);

/// One track.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) name: FullTrackName,
    /// The alias that we give it in every session: one for all, so that what is sent on its
    /// streams is the same for every subscriber.
    pub(crate) alias: TrackAlias,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) subscribers: Slab<Subscriber>,
    pub(crate) waiting: VecDeque<Waiting>,
    pub(crate) properties: Properties,
    pub(crate) has_properties: bool,
    pub(crate) largest: Option<Location>,
    /// Where END_OF_TRACK was said: nothing exists there or after.
    pub(crate) end: Option<Location>,
    /// The largest NEW_GROUP_REQUEST that publishers have been asked and have not met.
    pub(crate) new_group: Option<u64>,
    pub(crate) cache: Cache,
    /// What the relay's account holds of this cache.
    pub(crate) accounted: usize,
    pub(crate) active: BTreeMap<(GroupId, SubgroupId), ActiveSubgroup>,
    pub(crate) tasks: BTreeMap<u64, FetchTask>,
    pub(crate) upstream_fetches: BTreeMap<u64, UpstreamFetch>,
    /// When the upstream subscription ends, if nobody subscribes until then.
    pub(crate) linger_until: Option<Instant>,
}

/// A session that publishes the track to us.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) key: RequestKey,
    pub(crate) by_publish: bool,
    pub(crate) established: bool,
    pub(crate) alias: Option<TrackAlias>,
    /// Whether it sends objects (Forward).
    pub(crate) forward: bool,
    /// When its answer is given up, while it is not established.
    pub(crate) deadline: Instant,
}

/// A session that receives the track from us.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) key: RequestKey,
    pub(crate) forward: bool,
    pub(crate) priority: u8,
    /// The order in which it wants groups when not all can be sent at once.
    pub(crate) order: GroupOrder,
    /// When it takes an object or subgroup for too late.
    pub(crate) timeouts: DeliveryTimeouts,
    /// First and last location wanted.
    pub(crate) start: Location,
    pub(crate) end: Location,
    /// The largest location when the subscription began or was unpaused: what a joining fetch
    /// goes to.
    pub(crate) joined_at: Option<Location>,
}

impl Subscriber {
    pub(crate) fn wants(&self, location: Location) -> bool {
        self.forward && self.start <= location && location <= self.end
    }
}

/// A request that waits for the track's publisher.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) key: RequestKey,
    pub(crate) body: WaitingBody,
    /// When it is refused for want of a publisher, unless one is being asked then.
    pub(crate) deadline: Instant,
}

/// What waits.
#[derive(Debug)]
pub(crate) enum WaitingBody {
    Subscribe(Subscribe),
    Fetch(Fetch),
    TrackStatus(TrackStatus),
}

impl Track {
    pub(crate) fn new(name: FullTrackName, alias: TrackAlias) -> Self {
        Self {
            name,
            alias,
            upstreams: Vec::new(),
            subscribers: Slab::new(),
            waiting: VecDeque::new(),
            properties: Properties::default(),
            has_properties: false,
            largest: None,
            end: None,
            new_group: None,
            cache: Cache::default(),
            accounted: 0,
            active: BTreeMap::new(),
            tasks: BTreeMap::new(),
            upstream_fetches: BTreeMap::new(),
            linger_until: None,
        }
    }

    /// Whether some publisher has accepted us, so that requests can be answered.
    pub(crate) fn is_established(&self) -> bool {
        self.upstreams.iter().any(|upstream| upstream.established)
    }

    pub(crate) fn upstream_mut(&mut self, key: RequestKey) -> Option<&mut Upstream> {
        self.upstreams.iter_mut().find(|upstream| upstream.key == key)
    }

    pub(crate) fn has_upstream_in(&self, peer: PeerIndex) -> bool {
        self.upstreams.iter().any(|upstream| upstream.key.peer == peer)
    }

    /// Whether a session receives the track from us, or waits for it.
    pub(crate) fn has_downstream_in(&self, peer: PeerIndex) -> bool {
        self.subscribers.iter().any(|(_, subscriber)| subscriber.key.peer == peer)
            || self.waiting.iter().any(|waiting| waiting.key.peer == peer)
    }

    /// Whether nothing keeps the track any more.
    pub(crate) fn is_unused(&self) -> bool {
        self.upstreams.is_empty()
            && self.subscribers.is_empty()
            && self.waiting.is_empty()
            && self.tasks.is_empty()
    }

    /// Whether anybody is interested in what the publishers send.
    pub(crate) fn has_demand(&self) -> bool {
        !self.subscribers.is_empty() || !self.waiting.is_empty() || !self.tasks.is_empty()
    }

    /// Notes that an object at `location` exists.
    pub(crate) fn note_largest(&mut self, location: Location) {
        if self.largest.is_none_or(|largest| largest.group < location.group) {
            self.new_group = None;
        }
        if self.largest.is_none_or(|largest| largest < location) {
            self.largest = Some(location);
        }
    }

    /// Notes what was received at `location`. False if it contradicts the track's end.
    pub(crate) fn note_object(&mut self, location: Location, status: ObjectStatus) -> bool {
        let is_end = status == ObjectStatus::EndOfTrack;
        let is_behind_end =
            self.end.is_some_and(|end| end < location || end == location && !is_end);
        if is_behind_end || is_end && self.largest.is_some_and(|largest| location < largest) {
            return false;
        }
        if is_end {
            self.end = Some(location);
        }
        self.note_largest(location);
        true
    }

    /// Whether a NEW_GROUP_REQUEST is to be passed on: it wants a group that is neither here nor
    /// asked for. It is then noted as asked for.
    pub(crate) fn wants_new_group(&mut self, group: u64) -> bool {
        let is_here = group != 0 && self.largest.is_some_and(|largest| group <= largest.group.0);
        let is_asked = self.new_group.is_some_and(|asked| group <= asked);
        if is_here || is_asked || !self.properties.dynamic_groups() {
            return false;
        }
        self.new_group = Some(group);
        true
    }

    /// Notes the properties that a publisher told; the first publisher's stand.
    pub(crate) fn note_properties(&mut self, properties: Properties) {
        if !self.has_properties {
            self.cache.set_duration_max(properties.max_cache_duration().map(Duration::from_millis));
            self.properties = properties;
            self.has_properties = true;
        }
    }
}

/// What a request for a range of a track asks of us, in whatever draft it came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) start: Location,
    pub(crate) end: Location,
    pub(crate) order: GroupOrder,
    /// The order of the subscription that it fills, or its own.
    pub(crate) live_order: GroupOrder,
    pub(crate) priority: u8,
    /// How long publishers may take over what is not cached (FILL_TIMEOUT); `None` is for ever.
    pub(crate) patience: Option<Duration>,
}

/// The request that a data stream answers: the one whose number stands in its header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FillKey {
    pub(crate) owner: RequestKey,
    pub(crate) asked_by: RequestId,
}

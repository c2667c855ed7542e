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
};
use slab::Slab;

use super::{
    cache::Cache,
    fetch::{FetchTask, UpstreamFetch},
    forwarder::ActiveSubgroup,
    namespace_tree::RequestKey,
    peer::PeerIndex,
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
    pub(crate) ended: bool,
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
    /// When it is refused for want of a publisher; `None` while a publisher is being asked.
    pub(crate) deadline: Option<Instant>,
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
            ended: false,
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
        if self.largest.is_none_or(|largest| largest < location) {
            self.largest = Some(location);
        }
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

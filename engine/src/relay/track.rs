//! One track: who publishes it to us, who receives it from us, and what is cached of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use aip_codec::{
    aip::hops::{Hops, RelayId},
    moqt::{
        error_code::PublishDoneCode,
        filter::LocationFilter,
        id::{GroupId, RequestId, SubgroupId, TrackAlias},
        location::Location,
        message::{Fetch, Subscribe, TrackStatus},
        name::FullTrackName,
        parameter::{GroupOrder, Parameters},
        property::Properties,
        stream::subgroup::ObjectStatus,
    },
};
use slab::Slab;

use super::{
    cache::Cache,
    failover::{Orphans, Recovery},
    fanout::ActiveSubgroup,
    fetch_task::FetchTask,
    namespace_tree::RequestKey,
    pass_on::PassedOn,
    peer::PeerIndex,
    upstream_fetch::UpstreamFetch,
};
use crate::{
    schedule::DEFAULT_PRIORITY,
    session::{Candidate, DeliveryTimeouts, RangeFilters},
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
    /// Those of them that are other shards of this relay.
    pub(crate) shards: Vec<usize>,
    /// Whether who wants every track under a prefix waits for this one, which another shard has.
    pub(crate) is_watched: bool,
    pub(crate) waiting: VecDeque<Waiting>,
    /// Requests that are passed on, since no publisher takes a SUBSCRIBE.
    pub(crate) passed_on: Vec<PassedOn>,
    pub(crate) properties: Properties,
    pub(crate) has_properties: bool,
    pub(crate) largest: Option<Location>,
    /// Where END_OF_TRACK was said: nothing exists there or after.
    pub(crate) end: Option<Location>,
    /// The track's last object, as the answer to a FETCH has told it (End Of Track).
    pub(crate) last: Option<Location>,
    /// The largest NEW_GROUP_REQUEST that publishers have been asked and have not met.
    pub(crate) new_group: Option<u64>,
    pub(crate) cache: Cache,
    /// What the relay's account holds of this cache.
    pub(crate) accounted: usize,
    /// The newest cached group's place in the relay's order.
    pub(crate) edge: Option<u64>,
    pub(crate) active: BTreeMap<(GroupId, SubgroupId), ActiveSubgroup>,
    pub(crate) tasks: BTreeMap<u64, FetchTask>,
    pub(crate) upstream_fetches: BTreeMap<u64, UpstreamFetch>,
    /// What has to come again, since a publisher was lost.
    pub(crate) recovery: Option<Recovery>,
    /// Up to where everything is here of what was missed when a publisher was lost.
    pub(crate) recovered_to: Option<Location>,
    /// Subgroups whose streams wait for another publisher's.
    pub(crate) orphans: Orphans,
    /// What the publisher that ended last has said of it.
    pub(crate) ended_with: Option<PublishDoneCode>,
    /// Publishers that have refused to take the place of one that was lost.
    pub(crate) refused: BTreeSet<PeerIndex>,
    /// When publishers that go away are left.
    pub(crate) leave_at: Option<Instant>,
    /// When the upstream subscription ends, if nobody subscribes until then.
    pub(crate) linger_until: Option<Instant>,
}

/// A session that publishes the track to us.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) key: RequestKey,
    pub(crate) by_publish: bool,
    /// Whether it is another shard of this relay, which is never told what it told.
    pub(crate) is_shard: bool,
    pub(crate) established: bool,
    /// Whether, as a shard, it has said that what its publishers send comes from now on.
    pub(crate) is_heard: bool,
    pub(crate) alias: Option<TrackAlias>,
    /// Whether it sends objects (Forward).
    pub(crate) forward: bool,
    /// The relays below, as it was told them last.
    pub(crate) told_hops: Option<Hops>,
    /// When its answer is given up, while it is not established.
    pub(crate) deadline: Instant,
    /// Whether it has said that it is going away.
    pub(crate) is_leaving: bool,
}

/// A session that receives the track from us.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) key: RequestKey,
    /// Whether it is another shard of this relay: it gets publishers' streams as they are.
    pub(crate) is_shard: bool,
    /// Whether it was told, as a shard, that its publishers are going away.
    pub(crate) told_of_leaving: bool,
    /// The relays that the subscription has passed; none if no relay is below.
    pub(crate) hops: Hops,
    pub(crate) wish: Wish,
    /// First and last location wanted.
    pub(crate) start: Location,
    pub(crate) end: Location,
    /// The largest location when the subscription began or was unpaused: what a joining fetch
    /// goes to.
    pub(crate) joined_at: Option<Location>,
}

/// What a subscription wants, as its requests have said it.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) forward: bool,
    pub(crate) priority: u8,
    pub(crate) order: Option<GroupOrder>,
    pub(crate) filter: LocationFilter,
    pub(crate) ranges: RangeFilters,
    /// When it takes an object or subgroup for too late.
    pub(crate) timeouts: DeliveryTimeouts,
}

impl Wish {
    /// What a request asks for. The session has refused filters that mean nothing.
    pub(crate) fn of(parameters: &Parameters) -> Self {
        Self {
            forward: parameters.forward().unwrap_or(true),
            priority: parameters.subscriber_priority().unwrap_or(DEFAULT_PRIORITY),
            order: parameters.group_order(),
            filter: parameters.location_filter().unwrap_or_default(),
            ranges: RangeFilters::of(parameters, u64::MAX).unwrap_or_default(),
            timeouts: DeliveryTimeouts::of_subscriber(parameters),
        }
    }

    /// Changes it as an update says. False, and unchanged, if that makes filters that are none.
    pub(crate) fn update(&mut self, parameters: &Parameters, ranges_max: u64) -> bool {
        if self.ranges.update(parameters, ranges_max).is_err() {
            return false;
        }
        if let Some(priority) = parameters.subscriber_priority() {
            self.priority = priority;
        }
        self.timeouts = self.timeouts.updated(parameters);
        if let Some(filter) = parameters.location_filter() {
            self.filter = filter;
        }
        if let Some(forward) = parameters.forward() {
            self.forward = forward;
        }
        true
    }

    /// What a fill of this subscription asks for: what it says itself, and this for the rest.
    pub(crate) fn for_fill(&self, fill: &Parameters) -> Self {
        let mut wish = self.clone();
        // The session has refused filters that mean nothing.
        wish.update(fill, u64::MAX);
        wish.order = fill.group_order().or(wish.order);
        wish
    }
}

impl Subscriber {
    pub(crate) fn wants(&self, object: &Candidate<'_>) -> bool {
        self.wish.forward
            && self.start <= object.location
            && object.location <= self.end
            && self.wish.ranges.passes(object)
    }
}

/// A request that waits for the track's publisher.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) key: RequestKey,
    /// Whether it is of another shard of this relay.
    pub(crate) is_shard: bool,
    /// The relays that the request has passed.
    pub(crate) hops: Hops,
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

impl WaitingBody {
    /// Whether it wants the track's objects as they come.
    pub(crate) fn wants_objects(&self) -> bool {
        match self {
            Self::Subscribe(body) => body.parameters.forward().unwrap_or(true),
            Self::Fetch(_) | Self::TrackStatus(_) => false,
        }
    }

    /// The request's parameters.
    pub(crate) const fn parameters(&self) -> &Parameters {
        match self {
            Self::Subscribe(body) => &body.parameters,
            Self::Fetch(body) => &body.parameters,
            Self::TrackStatus(body) => &body.parameters,
        }
    }
}

impl Track {
    pub(crate) fn new(name: FullTrackName, alias: TrackAlias) -> Self {
        Self {
            name,
            alias,
            upstreams: Vec::new(),
            subscribers: Slab::new(),
            shards: Vec::new(),
            is_watched: false,
            waiting: VecDeque::new(),
            passed_on: Vec::new(),
            properties: Properties::default(),
            has_properties: false,
            largest: None,
            end: None,
            last: None,
            new_group: None,
            cache: Cache::default(),
            accounted: 0,
            edge: None,
            active: BTreeMap::new(),
            tasks: BTreeMap::new(),
            upstream_fetches: BTreeMap::new(),
            recovery: None,
            recovered_to: None,
            orphans: Orphans::new(),
            ended_with: None,
            refused: BTreeSet::new(),
            leave_at: None,
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

    /// Whether a session receives the track from us.
    pub(crate) fn has_subscriber_in(&self, peer: PeerIndex) -> bool {
        self.subscribers.iter().any(|(_, subscriber)| subscriber.key.peer == peer)
    }

    /// Whether a session receives the track from us, or waits for it.
    pub(crate) fn has_downstream_in(&self, peer: PeerIndex) -> bool {
        self.has_subscriber_in(peer) || self.waiting.iter().any(|waiting| waiting.key.peer == peer)
    }

    /// The relays that receive the track from us, or wait for it, as far as they have said.
    pub(crate) fn relays_below(&self) -> BTreeSet<RelayId> {
        let subscribers = self.subscribers.iter().map(|(_, subscriber)| &subscriber.hops);
        let waiting = self.waiting.iter().map(|waiting| &waiting.hops);
        subscribers.chain(waiting).flat_map(Hops::iter).collect()
    }

    /// Those of them that are not below another shard: what one shard told is told to no other.
    pub(crate) fn relays_below_this_shard(&self) -> BTreeSet<RelayId> {
        let subscribers = self.subscribers.iter().map(|(_, subscriber)| subscriber);
        let subscribers = subscribers.filter(|it| !it.is_shard).map(|it| &it.hops);
        let waiting = self.waiting.iter().filter(|it| !it.is_shard).map(|it| &it.hops);
        subscribers.chain(waiting).flat_map(Hops::iter).collect()
    }

    /// Whether nothing keeps the track any more.
    pub(crate) fn is_unused(&self) -> bool {
        self.upstreams.is_empty()
            && self.subscribers.is_empty()
            && self.waiting.is_empty()
            && self.passed_on.is_empty()
            && self.tasks.is_empty()
    }

    /// Whether anybody is interested in what the publishers send.
    pub(crate) fn has_demand(&self) -> bool {
        !self.subscribers.is_empty()
            || !self.waiting.is_empty()
            || !self.tasks.is_empty()
            || self.is_watched
    }

    /// Takes a subscriber off the list.
    pub(crate) fn remove_subscriber(&mut self, subscriber: usize) -> Option<Subscriber> {
        let entry = self.subscribers.try_remove(subscriber)?;
        if entry.is_shard {
            self.shards.retain(|shard| *shard != subscriber);
        }
        for active in self.active.values_mut() {
            active.forget(subscriber);
        }
        Some(entry)
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
        let is_passed = is_end && self.largest.is_some_and(|largest| location < largest);
        let is_object = status == ObjectStatus::Normal;
        if is_behind_end || is_passed || is_object && !self.may_exist(location) {
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

    /// Notes the track's last object. False if a later one is here: the track is malformed.
    ///
    /// Some count the word that the track has ended as an object, and some do not: the smaller of
    /// two answers holds.
    pub(crate) fn note_last(&mut self, last: Location) -> bool {
        self.last = Some(self.last.map_or(last, |known| known.min(last)));
        let end = Location::new(u64::MAX, u64::MAX);
        let later = self.cache.next_object(last, end, Some(last), GroupOrder::Ascending);
        later.is_none_or(|(_, object)| object.status != ObjectStatus::Normal)
    }

    /// Whether an object may exist at `location`, as far as the track's end is known.
    pub(crate) fn may_exist(&self, location: Location) -> bool {
        self.end.is_none_or(|end| location < end) && self.last.is_none_or(|last| location <= last)
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
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) start: Location,
    pub(crate) end: Location,
    pub(crate) order: GroupOrder,
    /// The order of the subscription that it fills, or its own.
    pub(crate) live_order: GroupOrder,
    pub(crate) priority: u8,
    /// How long publishers may take over what is not cached (FILL_TIMEOUT); `None` is for ever.
    pub(crate) patience: Option<Duration>,
    /// Which objects of the range.
    pub(crate) ranges: RangeFilters,
}

/// The request that a data stream answers: the one whose number stands in its header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FillKey {
    pub(crate) owner: RequestKey,
    pub(crate) asked_by: RequestId,
}

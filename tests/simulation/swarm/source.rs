//! Sources: bare sessions that publish groups of several subgroups, object by object. If there are
//! two, they publish the same, or each its own groups.

use std::collections::{BTreeMap, btree_map::Entry};

use aip_codec::moqt::{
    error_code::RequestCode,
    filter::LocationFilter,
    id::{RequestId, SubgroupId, TrackAlias},
    location::Location,
    message::{Fetch, FetchTarget},
    name::FullTrackName,
    parameter::{GroupOrder, Parameter, Parameters},
    property::Properties,
    stream::fetch::RangeKind,
};
use aip_engine::session::{Event, Request, Response};
use aip_tests::{
    checker,
    sim::{
        NodeId,
        peer::{FetchItem, Peer, Subgroup, Writer},
    },
};
use bytes::Bytes;

use super::{Place, Swarm, name_of, namespace_of, track_of};

/// The source's tracks.
pub(super) const TRACKS: std::ops::Range<u64> = 100..102;

/// A bare session that publishes.
pub(super) struct Source {
    pub(super) place: Place,
    /// The connection on which its namespace is announced.
    announced: u64,
    /// Established subscriptions of the relay's.
    subscriptions: BTreeMap<RequestId, u64>,
    /// Streams of the groups that are being published, by subscription and subgroup.
    writers: BTreeMap<(RequestId, u64), Writer>,
}

/// A track's group that is being published.
#[derive(Debug, Default)]
pub(super) struct Feed {
    group: u64,
    next: u64,
    /// How many subgroups each group has, between which its objects take turns.
    subgroups: BTreeMap<u64, u64>,
}

impl Feed {
    pub(super) fn all() -> BTreeMap<u64, Self> {
        let one = || BTreeMap::from([(0, 1)]);
        TRACKS.map(|track| (track, Self { subgroups: one(), ..Self::default() })).collect()
    }

    fn begin_group(&mut self, group: u64, subgroups: u64) {
        self.group = group;
        self.next = 0;
        self.subgroups.insert(group, subgroups);
    }

    fn subgroup(&self, location: Location) -> u64 {
        location.object.0 % self.subgroups.get(&location.group.0).copied().unwrap_or(1)
    }

    fn is_single(&self) -> bool {
        self.subgroups.get(&self.group) == Some(&1)
    }
}

/// One object, and where it belongs.
struct Object {
    track: u64,
    number: u64,
    subgroup: Subgroup,
    payload: Bytes,
    /// Where its payload is cut in two.
    cut: usize,
}

impl Source {
    pub(super) fn peer() -> Peer {
        Peer::default()
    }

    pub(super) const fn new(place: Place) -> Self {
        Self { place, announced: 0, subscriptions: BTreeMap::new(), writers: BTreeMap::new() }
    }

    fn forget(&mut self, request: RequestId) {
        self.subscriptions.remove(&request);
        self.writers.retain(|(other, _), _| *other != request);
    }

    fn forget_all(&mut self) {
        self.subscriptions.clear();
        self.writers.clear();
    }

    fn send(&mut self, peer: &mut Peer, object: &Object) {
        let subgroup = object.subgroup.subgroup.unwrap_or_default();
        for (&request, _) in self.subscriptions.iter().filter(|(_, track)| **track == object.track)
        {
            let writer = match self.writers.entry((request, subgroup)) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let Some(writer) = peer.open(request, &object.subgroup) else { continue };
                    entry.insert(writer)
                }
            };
            let length = object.payload.len() as u64;
            writer.begin(peer.session(), object.number, length, Properties::default());
            let stream = writer.stream;
            peer.session().send(stream, object.payload.slice(..object.cut), false);
            peer.session().send(stream, object.payload.slice(object.cut..), false);
        }
    }

    fn end_group(&mut self, peer: &mut Peer, track: u64) {
        let subscriptions = &self.subscriptions;
        let is_of_track = |request: &RequestId| subscriptions.get(request) == Some(&track);
        for (_, writer) in self.writers.iter().filter(|((request, _), _)| is_of_track(request)) {
            writer.finish(peer.session());
        }
        self.writers.retain(|(request, _), _| !is_of_track(request));
    }
}

impl Swarm {
    /// Publishes a few objects, or ends the group.
    pub(super) fn source_publishes(&mut self) {
        let track = TRACKS.start + self.random.below(TRACKS.end - TRACKS.start);
        if self.random.chance(300) {
            self.end_group(track);
            let subgroups = self.random.between(1, 3);
            let step = self.random.between(1, 2);
            if let Some(feed) = self.feeds.get_mut(&track) {
                feed.begin_group(feed.group + step, subgroups);
            }
            return;
        }
        for _ in 0..self.random.between(1, 4) {
            self.publish_object(track);
        }
    }

    fn publish_object(&mut self, track: u64) {
        let now = self.world.elapsed();
        let Some(feed) = self.feeds.get_mut(&track) else { return };
        let (group, number) = (feed.group, feed.next);
        feed.next += 1;
        let location = Location::new(group, number);
        let subgroup = feed.subgroup(location);
        let payload = checker::payload(track, group, number, self.plan.payload_max);
        self.objects.published(track, location, payload.clone(), now);
        let object = Object {
            track,
            number,
            subgroup: Subgroup {
                subgroup: Some(subgroup),
                end_of_group: feed.is_single(),
                first_object: number == subgroup,
                ..Subgroup::new(track, group)
            },
            cut: self.random.index(payload.len()),
            payload,
        };
        let count = self.sources.len() as u64;
        for (source, index) in self.sources.iter_mut().zip(0..) {
            let is_its_own = !self.plan.splits || group % count == index;
            self.world.with(source.place.node, |peer: &mut Peer, _| {
                if is_its_own && peer.is_connected() {
                    source.send(peer, &object);
                }
            });
        }
    }

    fn end_group(&mut self, track: u64) {
        for source in &mut self.sources {
            self.world.with(source.place.node, |peer: &mut Peer, _| {
                if peer.is_connected() {
                    source.end_group(peer, track);
                }
            });
        }
    }

    pub(super) fn source_finishes(&mut self) {
        for track in TRACKS {
            self.end_group(track);
        }
    }

    pub(super) fn pump_sources(&mut self) {
        for index in 0..self.sources.len() {
            self.pump_source(index);
        }
    }

    fn pump_source(&mut self, index: usize) {
        let source = &mut self.sources[index];
        let node = source.place.node;
        let events = self.world.with(node, |peer: &mut Peer, _| {
            let events = peer.take();
            peer.is_connected().then_some(events)
        });
        let Some(events) = events else {
            source.forget_all();
            return;
        };
        if source.announced < source.place.connections {
            source.announced = source.place.connections;
            source.forget_all();
            let namespace = namespace_of(TRACKS.start);
            self.world.with(node, |peer: &mut Peer, _| {
                peer.session().publish_namespace(namespace, Parameters::default()).unwrap();
            });
            if self.plan.publishes {
                self.publish_tracks(index);
            }
        }
        for event in events {
            self.source_told(index, event);
        }
    }

    /// Offers its tracks, whose objects follow whether that is answered or not.
    fn publish_tracks(&mut self, index: usize) {
        for track in TRACKS {
            let (name, largest) = (name_of(track), self.largest(track));
            let source = &mut self.sources[index];
            let request = self.world.with(source.place.node, |peer: &mut Peer, _| {
                let alias = TrackAlias(track);
                peer.session().publish(name, alias, largest, Properties::default()).unwrap()
            });
            source.subscriptions.insert(request, track);
        }
    }

    fn source_told(&mut self, index: usize, event: Event) {
        let node = self.sources[index].place.node;
        match event {
            Event::Request { request, body: Request::Subscribe(body), .. } => {
                let track = track_of(&body.track);
                let parameters = self.largest(track);
                self.sources[index].subscriptions.insert(request, track);
                self.world.with(node, |peer: &mut Peer, _| {
                    peer.accept_subscribe(request, track, parameters);
                });
            }
            Event::Request { request, body: Request::TrackStatus(body), .. } => {
                let parameters = self.largest(track_of(&body.track));
                self.world.with(node, |peer: &mut Peer, _| {
                    peer.session().accept(request, parameters, Properties::default());
                });
            }
            Event::Request { request, body: Request::Fetch(body), .. } => {
                self.source_fetched(node, request, &body);
            }
            Event::Request { request, .. } => self.world.with(node, |peer: &mut Peer, _| {
                peer.session().reject_with(request, RequestCode::NOT_SUPPORTED, "");
            }),
            Event::Update { request, .. } => self.world.with(node, |peer: &mut Peer, _| {
                peer.session().accept_update(request, Parameters::default());
            }),
            Event::Ended { request } | Event::Response { request, body: Response::Error(_) } => {
                self.sources[index].forget(request);
            }
            _ => {}
        }
    }

    fn largest(&self, track: u64) -> Parameters {
        self.objects.largest(track).map_or_else(Parameters::default, |largest| {
            Parameters::default().with(Parameter::LargestObject(largest))
        })
    }

    fn source_fetched(&mut self, node: NodeId, request: RequestId, body: &Fetch) {
        let Some((track, start, end)) = range_of(body) else {
            panic!("a relay asks for a range: {body:?}");
        };
        let number = track_of(track);
        let order = body.parameters.group_order().unwrap_or_default();
        let largest = self.objects.largest(number);
        let refuses = self.random.chance(100);
        let Some(largest) = largest.filter(|largest| start <= *largest && !refuses) else {
            self.world.with(node, |peer: &mut Peer, _| {
                peer.session().reject_with(request, RequestCode::INVALID_RANGE, "");
            });
            return;
        };
        let end = end.min(largest);
        let found: Vec<(Location, Bytes)> = self
            .objects
            .in_range(number, start, end)
            .map(|(location, payload)| (location, payload.clone()))
            .collect();
        let mut items = in_order(found, order);
        if order == GroupOrder::Ascending && self.random.chance(200) {
            self.lose_some(&mut items);
        }
        let Some(feed) = self.feeds.get(&number) else { return };
        self.world.with(node, |peer: &mut Peer, _| {
            peer.session().accept_fetch(request, false, end, Properties::default());
            let subgroup = |location| SubgroupId(feed.subgroup(location));
            peer.send_fetch_of(request, order, &items, subgroup);
        });
    }
}

impl Swarm {
    /// Of some objects the source says that it does not know.
    fn lose_some(&mut self, items: &mut Vec<FetchItem>) {
        let first = self.random.index(items.len());
        let last = first + self.random.index(items.len() - first);
        let Some(FetchItem::Object(end, _)) = items.get(last) else { return };
        let lost = FetchItem::Range(RangeKind::Unknown, *end);
        items.splice(first..=last, [lost]);
    }
}

fn in_order(mut found: Vec<(Location, Bytes)>, order: GroupOrder) -> Vec<FetchItem> {
    if order == GroupOrder::Descending {
        found.sort_by_key(|(location, _)| (u64::MAX - location.group.0, location.object));
    }
    found.into_iter().map(|(location, payload)| FetchItem::Object(location, payload)).collect()
}

/// The track and the range, inclusive, that a FETCH asks for.
fn range_of(body: &Fetch) -> Option<(&FullTrackName, Location, Location)> {
    match &body.target {
        FetchTarget::Standalone { track, start, end } => {
            let last = end.object.0.wrapping_sub(1);
            Some((track, *start, Location::new(end.group.0, last)))
        }
        FetchTarget::Track(track) => match body.parameters.location_filter()? {
            LocationFilter::Range { start, end } => Some((track, start, end)),
            LocationFilter::Groups { start, end_group } => {
                Some((track, start, Location::new(end_group.0, u64::MAX)))
            }
            _ => None,
        },
        FetchTarget::Joining { .. } => None,
    }
}

//! The source: a bare session that publishes groups of several subgroups, object by object.

use std::collections::{BTreeMap, btree_map::Entry};

use aip_codec::moqt::{
    error_code::RequestCode,
    filter::LocationFilter,
    id::RequestId,
    location::Location,
    message::{Fetch, FetchTarget},
    name::FullTrackName,
    parameter::{GroupOrder, Parameter, Parameters},
    property::Properties,
};
use aip_engine::session::{Event, Request};
use aip_tests::{
    checker,
    sim::peer::{FetchItem, Peer, Subgroup, Writer},
};
use bytes::Bytes;

use super::{Place, Swarm, namespace_of, track_of};

/// The source's tracks.
pub(super) const TRACKS: std::ops::Range<u64> = 100..102;

pub(super) struct Source {
    pub(super) place: Place,
    /// The connection on which its namespace is announced.
    announced: u64,
    tracks: BTreeMap<u64, Live>,
    /// Established subscriptions of the relay's.
    subscriptions: BTreeMap<RequestId, u64>,
}

/// A track's group that is being published.
#[derive(Debug)]
struct Live {
    group: u64,
    subgroups: u64,
    next: u64,
    writers: BTreeMap<(RequestId, u64), Writer>,
}

impl Source {
    pub(super) fn peer() -> Peer {
        Peer::default()
    }

    pub(super) fn new(place: Place) -> Self {
        let live = |_| Live { group: 0, subgroups: 1, next: 0, writers: BTreeMap::new() };
        Self {
            place,
            announced: 0,
            tracks: TRACKS.map(|track| (track, live(track))).collect(),
            subscriptions: BTreeMap::new(),
        }
    }

    fn forget(&mut self, request: RequestId) {
        self.subscriptions.remove(&request);
        for live in self.tracks.values_mut() {
            live.writers.retain(|(other, _), _| *other != request);
        }
    }
}

impl Swarm {
    /// Publishes a few objects, or ends the group.
    pub(super) fn source_publishes(&mut self) {
        let track = TRACKS.start + self.random.below(TRACKS.end - TRACKS.start);
        if self.random.chance(300) {
            self.end_group(track);
            let subgroups = self.random.between(1, 3);
            let Some(live) = self.source.tracks.get_mut(&track) else { return };
            live.group += self.random.between(1, 2);
            live.subgroups = subgroups;
            live.next = 0;
            return;
        }
        for _ in 0..self.random.between(1, 4) {
            self.publish_object(track);
        }
    }

    fn publish_object(&mut self, track: u64) {
        let now = self.world.elapsed();
        let is_connected = self.source.place.link.is_some();
        let Some(live) = self.source.tracks.get_mut(&track) else { return };
        let (group, object) = (live.group, live.next);
        live.next += 1;
        let subgroup = object % live.subgroups;
        let payload = checker::payload(track, group, object, self.plan.payload_max);
        self.objects.published(track, Location::new(group, object), payload.clone(), now);
        if !is_connected {
            return;
        }
        let header = Subgroup {
            subgroup: Some(subgroup),
            end_of_group: live.subgroups == 1,
            first_object: object == subgroup,
            ..Subgroup::new(track, group)
        };
        let subscriptions = self.source.subscriptions.iter().filter(|(_, other)| **other == track);
        let writers = &mut live.writers;
        let cut = self.random.index(payload.len());
        self.world.with(self.source.place.node, |peer: &mut Peer, _| {
            if !peer.is_connected() {
                return;
            }
            for (&request, _) in subscriptions {
                let key = (request, subgroup);
                let writer = match writers.entry(key) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        let Some(writer) = peer.open(request, &header) else { continue };
                        entry.insert(writer)
                    }
                };
                let length = payload.len() as u64;
                writer.begin(peer.session(), object, length, Properties::default());
                let stream = writer.stream;
                peer.session().send(stream, payload.slice(..cut), false);
                peer.session().send(stream, payload.slice(cut..), false);
            }
        });
    }

    fn end_group(&mut self, track: u64) {
        let Some(live) = self.source.tracks.get_mut(&track) else { return };
        let writers = std::mem::take(&mut live.writers);
        self.world.with(self.source.place.node, |peer: &mut Peer, _| {
            if peer.is_connected() {
                for writer in writers.values() {
                    writer.finish(peer.session());
                }
            }
        });
    }

    pub(super) fn source_finishes(&mut self) {
        for track in TRACKS {
            self.end_group(track);
        }
    }

    pub(super) fn pump_source(&mut self) {
        let node = self.source.place.node;
        let events = self.world.with(node, |peer: &mut Peer, _| {
            if !peer.is_connected() {
                peer.events.clear();
                return None;
            }
            Some(peer.take())
        });
        let Some(events) = events else {
            self.source.subscriptions.clear();
            for live in self.source.tracks.values_mut() {
                live.writers.clear();
            }
            return;
        };
        if self.source.announced < self.source.place.connections {
            self.source.announced = self.source.place.connections;
            self.source.subscriptions.clear();
            for live in self.source.tracks.values_mut() {
                live.writers.clear();
            }
            let namespace = namespace_of(TRACKS.start);
            self.world.with(node, |peer: &mut Peer, _| {
                peer.session().publish_namespace(namespace, Parameters::default()).unwrap();
            });
        }
        for event in events {
            self.source_told(event);
        }
    }

    fn source_told(&mut self, event: Event) {
        let node = self.source.place.node;
        match event {
            Event::Request { request, body: Request::Subscribe(body), .. } => {
                let track = track_of(&body.track);
                let parameters = self.largest(track);
                self.source.subscriptions.insert(request, track);
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
                self.source_fetched(request, &body);
            }
            Event::Request { request, .. } => self.world.with(node, |peer: &mut Peer, _| {
                peer.session().reject_with(request, RequestCode::NOT_SUPPORTED, "");
            }),
            Event::Update { request, .. } => self.world.with(node, |peer: &mut Peer, _| {
                peer.session().accept_update(request, Parameters::default());
            }),
            Event::Ended { request } => self.source.forget(request),
            _ => {}
        }
    }

    fn largest(&self, track: u64) -> Parameters {
        self.objects.largest(track).map_or_else(Parameters::default, |largest| {
            Parameters::default().with(Parameter::LargestObject(largest))
        })
    }

    fn source_fetched(&mut self, request: RequestId, body: &Fetch) {
        let Some((track, start, end)) = range_of(body) else {
            panic!("a relay asks for a range: {body:?}");
        };
        let number = track_of(track);
        let order = body.parameters.group_order().unwrap_or_default();
        let largest = self.objects.largest(number);
        let refuses = self.random.chance(100);
        let node = self.source.place.node;
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
        let items = in_order(found, order);
        self.world.with(node, |peer: &mut Peer, _| {
            peer.session().accept_fetch(request, false, end, Properties::default());
            peer.send_fetch(request, order, &items);
        });
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

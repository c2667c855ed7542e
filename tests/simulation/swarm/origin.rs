//! Origins: clients that serve versions of tracks and answer calls.

use std::collections::BTreeMap;

use aip_codec::{
    aip::call::RecordType,
    moqt::{error_code::RequestCode, id::GroupId, property::Properties},
};
use aip_engine::client::{CallId, Client, Config, Event, Refusal, TrackVersion};
use aip_tests::{checker, sim::World};
use bytes::Bytes;

use super::{Place, Swarm, name_of, namespace_of, track_of};

/// Tracks that each origin has.
const TRACKS: u64 = 3;

pub(super) struct Origin {
    pub(super) place: Place,
    number: usize,
    /// The newest version of each track.
    versions: BTreeMap<u64, TrackVersion>,
    /// Calls that have their request and no answer.
    open: Vec<(CallId, Bytes)>,
}

impl Origin {
    pub(super) fn client() -> Client {
        Client::new(Config::default())
    }

    pub(super) const fn new(place: Place, number: usize) -> Self {
        Self { place, number, versions: BTreeMap::new(), open: Vec::new() }
    }

    pub(super) fn begin(&self, world: &mut World) {
        let namespace = namespace_of(10 * self.number as u64);
        world.with(self.place.node, |client: &mut Client, _| client.announce(namespace));
    }

    fn tracks(&self) -> std::ops::Range<u64> {
        let first = 10 * self.number as u64;
        first..first + TRACKS
    }
}

impl Swarm {
    /// The tracks that there are.
    pub(super) fn any_track(&mut self) -> u64 {
        let origin = self.random.index(self.origins.len()) as u64;
        10 * origin + self.random.below(TRACKS)
    }

    /// A track has a new version.
    pub(super) fn bump(&mut self) {
        let track = self.any_track();
        self.bump_track(track);
    }

    pub(super) fn bump_all(&mut self) {
        let tracks: Vec<u64> = self.origins.iter().flat_map(Origin::tracks).collect();
        for track in tracks {
            self.bump_track(track);
        }
    }

    fn bump_track(&mut self, track: u64) {
        let index = usize::try_from(track / 10).unwrap();
        let group = self.origins[index].versions.get(&track).map_or(1, |last| last.group.0 + 1);
        let length_max = self.plan.payload_max;
        let version = TrackVersion {
            group: GroupId(group),
            objects: (0..=self.random.below(3))
                .map(|object| checker::payload(track, group, object, length_max))
                .collect(),
            properties: Properties::default(),
        };
        self.versions.published(track, &version);
        self.origins[index].versions.insert(track, version.clone());
        let node = self.origins[index].place.node;
        self.world.with(node, |client: &mut Client, now| {
            client.publish(&name_of(track), version, None, now);
        });
    }

    pub(super) fn origin_answers(&mut self) {
        let index = self.random.index(self.origins.len());
        if self.origins[index].open.is_empty() {
            return;
        }
        let at = self.random.index(self.origins[index].open.len());
        let (call, request) = self.origins[index].open.remove(at);
        self.answer_call(index, call, request);
    }

    pub(super) fn answer_all(&mut self) {
        for index in 0..self.origins.len() {
            for (call, request) in std::mem::take(&mut self.origins[index].open) {
                self.answer_call(index, call, request);
            }
        }
    }

    fn answer_call(&mut self, index: usize, call: CallId, request: Bytes) {
        let length = self.random.index(usize::try_from(self.plan.payload_max).unwrap());
        let node = self.origins[index].place.node;
        let is_cancelled = self.random.chance(100);
        self.world.with(node, |client: &mut Client, _| {
            if is_cancelled {
                client.cancel_call(call);
                return;
            }
            let message = Bytes::from(vec![b'm'; length]);
            let said = client.send_record(call, RecordType::Message, message, false);
            if said.is_ok() {
                client.send_record(call, RecordType::Result, request, true).unwrap();
            }
        });
    }

    pub(super) fn pump_origins(&mut self) {
        for index in 0..self.origins.len() {
            let node = self.origins[index].place.node;
            loop {
                let event = self.world.with(node, |client: &mut Client, _| client.poll_event());
                let Some(event) = event else { break };
                self.origin_told(index, event);
            }
        }
    }

    fn origin_told(&mut self, index: usize, event: Event) {
        let node = self.origins[index].place.node;
        match event {
            Event::TrackWanted { track } => {
                let number = track_of(&track);
                if !self.origins[index].versions.contains_key(&number) {
                    if self.random.chance(500) {
                        self.bump_track(number);
                    } else {
                        let refusal = refusal();
                        self.world.with(node, |client: &mut Client, now| {
                            client.refuse(&track, &refusal, now);
                        });
                    }
                } else if let Some(version) = self.origins[index].versions.get(&number).cloned() {
                    self.world.with(node, |client: &mut Client, now| {
                        client.publish(&track, version, None, now);
                    });
                }
            }
            Event::CallReceived { call, .. } if self.random.chance(100) => {
                self.world.with(node, |client: &mut Client, _| {
                    client.refuse_call(call, refusal());
                });
            }
            Event::Record { call, kind: RecordType::Request, payload } => {
                if self.random.chance(500) {
                    self.answer_call(index, call, payload);
                } else {
                    self.origins[index].open.push((call, payload));
                }
            }
            Event::CallEnded { call, .. } => {
                self.origins[index].open.retain(|(other, _)| *other != call);
            }
            Event::AnnouncementRefused { .. } => panic!("an announcement is refused"),
            _ => {}
        }
    }
}

fn refusal() -> Refusal {
    Refusal { code: RequestCode::DOES_NOT_EXIST, retry_after: None, reason: String::new() }
}

//! Live forwarding: an object comes in once and goes out to every subscriber, its payload shared.
//!
//! Back of the envelope: for each object and subscriber one `Bytes` clone and one queue entry. The
//! bytes that go out are the bytes that came in, header and all, wherever the subscriber's stream
//! stands at the same object as the publisher's; only a stream that begins in the midst of a
//! subgroup, or skipped something, gets its object headers written anew.
//!
//! Several publishers may send one subgroup. Each object goes out from whoever brings it first;
//! while one is in the midst of an object the others' are only cached, and go out from there as
//! soon as it is whole.

use std::time::Instant;

use aip_codec::moqt::{
    datagram::{Content, ObjectDatagram},
    error_code::ResetCode,
    id::{GroupId, ObjectId, SubgroupId, TrackAlias},
    location::Location,
    property::Properties,
    stream::subgroup::{ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupMode},
};
use bytes::{Bytes, BytesMut};

use super::{
    Relay,
    cache::{CachedObject, Feeder, Inserted, Standing},
    fanout::Fanout,
    peer::PeerIndex,
    splice::Splice,
    track::TrackIndex,
};
use crate::{
    metrics::Drop,
    session::{Candidate, DeliveryTimeouts, ReceivedObject, StreamEnd},
    transport::StreamId,
};

/// A publisher's subgroup stream.
#[derive(Debug)]
pub(crate) struct IncomingSubgroup {
    pub(crate) track: TrackIndex,
    pub(crate) header: SubgroupHeader,
    /// Known from the header, or from the first object.
    pub(crate) subgroup: Option<SubgroupId>,
    /// The object that came last on this stream.
    pub(crate) previous: Option<ObjectId>,
    /// Bytes of its payload that have come.
    pub(crate) payload_length: usize,
    /// Whether it goes out as it comes; a duplicate does not.
    pub(crate) forwards: bool,
    /// Where it goes on to other shards, as it is.
    pub(crate) splices: Vec<Splice>,
}

impl Relay {
    pub(super) fn subgroup_opened(
        &mut self,
        peer: PeerIndex,
        stream: StreamId,
        header: SubgroupHeader,
    ) {
        let Some(entry) = self.peers.get_mut(peer.0) else { return };
        let Some(&track) = entry.aliases.get(&header.track_alias) else {
            entry.session.stop_incoming(stream, ResetCode::CANCELLED);
            self.note_dropped(Drop::Unwanted);
            return;
        };
        let subgroup = match header.subgroup {
            SubgroupMode::Zero => Some(SubgroupId(0)),
            SubgroupMode::Explicit(subgroup) => Some(subgroup),
            SubgroupMode::FirstObject => None,
        };
        let incoming = IncomingSubgroup {
            track,
            header,
            subgroup,
            previous: None,
            payload_length: 0,
            forwards: false,
            splices: Vec::new(),
        };
        entry.incoming.insert(stream, incoming);
        if let Some(subgroup) = subgroup {
            self.begin_source(track, (header.group, subgroup));
        }
    }

    fn begin_source(&mut self, track: TrackIndex, key: (GroupId, SubgroupId)) {
        if let Some(track) = self.tracks.get_mut(track.0) {
            // It goes on with the streams that were kept for it.
            track.orphans.remove(&key);
            track.active.entry(key).or_default().sources += 1;
        }
    }

    fn incoming_mut(&mut self, peer: PeerIndex, stream: StreamId) -> Option<&mut IncomingSubgroup> {
        self.peers.get_mut(peer.0)?.incoming.get_mut(&stream)
    }

    pub(super) fn object_received(
        &mut self,
        peer: PeerIndex,
        stream: StreamId,
        object: &ReceivedObject,
        now: Instant,
    ) {
        let Some(incoming) = self.incoming_mut(peer, stream) else { return };
        let (track_index, header) = (incoming.track, incoming.header);
        let (subgroup, is_new) = match incoming.subgroup {
            Some(subgroup) => (subgroup, false),
            None => (SubgroupId(object.header.object.0), true),
        };
        incoming.subgroup = Some(subgroup);
        let source_previous = incoming.previous.replace(object.header.object);
        incoming.payload_length = object.payload.len();
        let key = (header.group, subgroup);
        if is_new {
            self.begin_source(track_index, key);
        }
        let Some(track) = self.tracks.get_mut(track_index.0) else { return };
        let has_orphans = !track.orphans.is_empty();
        let location = Location { group: header.group, object: object.header.object };
        let priority =
            header.priority.unwrap_or_else(|| track.properties.default_publisher_priority());
        let follows = source_previous.or_else(|| track.recovered_before(key, location.object, now));
        let has_room = !track.holds(header.group)
            && track.active.get(&key).is_some_and(|active| {
                active.has_room_for(location.object) && active.is_next(location.object, follows)
            });
        let cached = CachedObject {
            standing: if has_room { Standing::Forwarded } else { Standing::Waiting },
            follows,
            feeder: (!object.last).then_some(Feeder::Live(peer, stream)),
            ..cached(object, subgroup, priority, now)
        };
        let status = object.header.status;
        if !is_sound(&object.header.properties) || !track.note_object(location, status) {
            self.malformed_track(track_index, now);
            return;
        }
        let Some(forwards) = self.keep(track_index, location, cached, has_room, now) else {
            self.malformed_track(track_index, now);
            return;
        };
        if let Some(incoming) = self.incoming_mut(peer, stream) {
            incoming.forwards = forwards && !object.last;
        }
        self.splice_object((peer, stream), source_previous, object, now);
        if has_orphans {
            self.look_after_orphans(track_index, key.0, now);
        }
        self.note_cached(track_index, now);
        if forwards {
            self.set_current(track_index, key, (!object.last).then_some((peer, stream)));
            let payload = std::slice::from_ref(&object.payload);
            let fanout = Fanout {
                track: track_index,
                header,
                subgroup,
                priority,
                source_previous,
                follows,
                recovered: false,
                object: &object.header,
                payload,
                received: Some(object),
                received_at: now,
            };
            self.fan_out(&fanout, now);
            if object.last && self.is_shared(track_index, key) {
                self.catch_up(track_index, key, now);
            }
        }
        if object.last {
            self.pump_group_fetches(track_index, key.0, now);
        }
    }

    /// Puts a live object into the cache; whether it goes out now, which there is room for or not.
    /// `None` if it contradicts what is there.
    fn keep(
        &mut self,
        index: TrackIndex,
        location: Location,
        object: CachedObject,
        has_room: bool,
        now: Instant,
    ) -> Option<bool> {
        let track = self.tracks.get_mut(index.0)?;
        match track.cache.insert(location, object, now) {
            Inserted::New { was_forwarded: true } => {
                self.service.objects_dropped.count(Drop::Duplicate.name());
                Some(false)
            }
            Inserted::New { was_forwarded: false } => Some(has_room),
            Inserted::Duplicate if has_room && track.cache.mark_forwarded(location) => Some(true),
            Inserted::Duplicate => {
                self.service.objects_dropped.count(Drop::Duplicate.name());
                Some(false)
            }
            // The other publisher's copy goes out when it can.
            Inserted::Arriving => Some(false),
            Inserted::Conflict => None,
        }
    }

    fn set_current(
        &mut self,
        track: TrackIndex,
        key: (GroupId, SubgroupId),
        current: Option<(PeerIndex, StreamId)>,
    ) {
        if let Some(track) = self.tracks.get_mut(track.0)
            && let Some(active) = track.active.get_mut(&key)
        {
            active.current = current;
        }
    }

    pub(super) fn payload_received(
        &mut self,
        peer: PeerIndex,
        stream: StreamId,
        bytes: &Bytes,
        last: bool,
        now: Instant,
    ) {
        let Some(entry) = self.peers.get_mut(peer.0) else { return };
        let Some(incoming) = entry.incoming.get_mut(&stream) else { return };
        let (Some(subgroup), Some(object)) = (incoming.subgroup, incoming.previous) else {
            return;
        };
        let track_index = incoming.track;
        let forwards = incoming.forwards;
        incoming.forwards &= !last;
        let offset = incoming.payload_length;
        incoming.payload_length += bytes.len();
        let key = (incoming.header.group, subgroup);
        let Some(track) = self.tracks.get_mut(track_index.0) else { return };
        let location = Location { group: key.0, object };
        let feeder = Feeder::Live(peer, stream);
        if !track.cache.agrees(location, feeder, offset, bytes) {
            self.malformed_track(track_index, now);
            return;
        }
        track.cache.append(location, feeder, bytes.clone(), last);
        self.splice_payload((peer, stream), bytes, now);
        if forwards {
            self.fan_out_payload(track_index, key, bytes, now);
        }
        self.note_cached(track_index, now);
        if last {
            if forwards {
                self.set_current(track_index, key, None);
            }
            if self.is_shared(track_index, key) {
                self.catch_up(track_index, key, now);
            }
            self.pump_group_fetches(track_index, key.0, now);
        }
    }

    /// Whether something of a subgroup may be waiting for what was on its way.
    fn is_shared(&self, track: TrackIndex, key: (GroupId, SubgroupId)) -> bool {
        self.tracks
            .get(track.0)
            .and_then(|track| track.active.get(&key))
            .is_some_and(|active| 1 < active.sources || active.finished)
    }

    /// Sends what could not go out while another object was on its way, and ends the subgroup if
    /// that was all.
    pub(super) fn catch_up(&mut self, index: TrackIndex, key: (GroupId, SubgroupId), now: Instant) {
        while let Some(track) = self.tracks.get_mut(index.0) {
            let Some(active) = track.active.get(&key).filter(|active| active.current.is_none())
            else {
                return;
            };
            if track.holds(key.0) {
                return;
            }
            if active.interrupted.is_some() {
                if !self.complete_interrupted(index, key, now) {
                    return;
                }
                continue;
            }
            let previous = active.previous;
            let finished = active.finished;
            let Some((location, object)) = track.cache.next_to_forward(key, previous) else {
                if finished {
                    self.end_streams(index, key, None, Some(now));
                }
                return;
            };
            let recovered = track.recovered_to.is_some_and(|to| location <= to);
            let before = || track.recovered_before(key, location.object, now);
            let follows = if recovered { previous } else { object.follows.or_else(before) };
            if !active.is_next(location.object, follows) {
                return;
            }
            let current = match object.feeder {
                None => None,
                Some(Feeder::Live(peer, stream)) => Some((peer, stream)),
                Some(Feeder::Fetch(_)) => return,
            };
            let object = object.clone();
            track.cache.mark_forwarded(location);
            let header = continued(track.alias, key, object.priority);
            if let Some((peer, stream)) = current
                && let Some(incoming) =
                    self.peers.get_mut(peer.0).and_then(|peer| peer.incoming.get_mut(&stream))
            {
                incoming.forwards = true;
            }
            self.set_current(index, key, current);
            let fanout = Fanout {
                track: index,
                header,
                subgroup: key.1,
                priority: object.priority,
                source_previous: previous,
                follows,
                recovered,
                object: &ObjectHeader {
                    object: location.object,
                    properties: object.properties.clone(),
                    payload_length: object.payload_length,
                    status: object.status,
                },
                payload: &object.payload,
                received: None,
                received_at: object.received_at,
            };
            self.fan_out(&fanout, now);
        }
    }

    /// Sends the rest of an object whose publisher was lost in its midst, if it is here from
    /// another one, or leaves it if nobody waits for it. False if it is not here.
    fn complete_interrupted(
        &mut self,
        index: TrackIndex,
        key: (GroupId, SubgroupId),
        now: Instant,
    ) -> bool {
        let Some(track) = self.tracks.get_mut(index.0) else { return false };
        let Some(active) = track.active.get_mut(&key) else { return false };
        let (Some(interrupted), Some(object)) = (active.interrupted, active.previous) else {
            return false;
        };
        if !active.has_receivers() {
            // Whoever was in its midst has left, and those who have come since do not want it.
            active.interrupted = None;
            return true;
        }
        let location = Location { group: key.0, object };
        let Some(object) = track.cache.object(location).filter(|object| object.is_complete())
        else {
            return false;
        };
        if object.payload_length != interrupted.payload_length {
            return false;
        }
        active.interrupted = None;
        let mut skipped = interrupted.sent;
        let mut rest = Vec::new();
        for piece in &object.payload {
            let skip = skipped.min(piece.len());
            skipped -= skip;
            if skip < piece.len() {
                rest.push(piece.slice(skip..));
            }
        }
        track.cache.mark_forwarded(location);
        for piece in rest {
            self.fan_out_payload(index, key, &piece, now);
        }
        true
    }

    pub(super) fn subgroup_ended(
        &mut self,
        peer: PeerIndex,
        stream: StreamId,
        end: StreamEnd,
        now: Instant,
    ) {
        let Some(entry) = self.peers.get_mut(peer.0) else { return };
        if let StreamEnd::Reset(ResetCode::SESSION_CLOSED) = end
            && entry.is_shard()
        {
            // Another shard has lost the publisher, and says so next.
            self.source_lost(peer, stream, ResetCode::SESSION_CLOSED, now);
        } else {
            self.source_ended(peer, stream, end, now);
        }
    }

    /// A publisher's stream is over, and what it brought with it, as far as it is known.
    pub(super) fn source_ended(
        &mut self,
        peer: PeerIndex,
        stream: StreamId,
        end: StreamEnd,
        now: Instant,
    ) {
        let Some(entry) = self.peers.get_mut(peer.0) else { return };
        let Some(incoming) = entry.incoming.remove(&stream) else { return };
        self.end_splices(&incoming, end);
        let Some(subgroup) = incoming.subgroup else { return };
        let (index, key) = (incoming.track, (incoming.header.group, subgroup));
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if let Some(object) = incoming.previous {
            let location = Location { group: key.0, object };
            let ends_group = end == StreamEnd::Fin && incoming.header.end_of_group;
            let ends_subgroup = end == StreamEnd::Fin;
            if ends_group && !track.cache.end_group(location)
                || ends_subgroup && !track.cache.end_subgroup(subgroup, location)
            {
                self.malformed_track(index, now);
                return;
            }
            track.cache.drop_fed_by(location, Feeder::Live(peer, stream));
        }
        let Some(active) = track.active.get_mut(&key) else { return };
        active.sources = active.sources.saturating_sub(1);
        match end {
            StreamEnd::Fin => active.finished = true,
            StreamEnd::Reset(code) => {
                let is_current = active.current == Some((peer, stream));
                if is_current {
                    // What is out of it cannot be made whole; whoever has it whole sends it anew.
                    active.previous =
                        active.previous.and_then(|id| id.0.checked_sub(1)).map(ObjectId);
                }
                if is_current || active.sources == 0 && !active.finished {
                    self.end_streams(index, key, Some(code), Some(now));
                }
            }
        }
        self.account(index);
        self.catch_up(index, key, now);
        self.pump_group_fetches(index, key.0, now);
    }

    pub(super) fn datagram_received(
        &mut self,
        peer: PeerIndex,
        object: ObjectDatagram,
        now: Instant,
    ) {
        let Some(entry) = self.peers.get(peer.0) else { return };
        let from_shard = entry.is_shard();
        let Some(&index) = entry.aliases.get(&object.track_alias) else {
            self.note_dropped(Drop::Unwanted);
            return;
        };
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let location = Location { group: object.group, object: object.object };
        let priority =
            object.priority.unwrap_or_else(|| track.properties.default_publisher_priority());
        let cached = cached_datagram(&object, priority, now);
        let is_sound = is_sound(&object.properties) && track.note_object(location, cached.status);
        let inserted = track.cache.insert(location, cached, now);
        let ends_group = object.end_of_group;
        if !is_sound
            || inserted == Inserted::Conflict
            || ends_group && !track.cache.end_group(location)
        {
            self.malformed_track(index, now);
            return;
        }
        let is_new = match inserted {
            Inserted::New { was_forwarded } => !was_forwarded,
            Inserted::Duplicate => track.cache.mark_forwarded(location),
            Inserted::Arriving | Inserted::Conflict => false,
        };
        let outgoing = ObjectDatagram { track_alias: track.alias, ..object };
        let mut bytes = BytesMut::new();
        let has_receivers = is_new || !from_shard && !track.shards.is_empty();
        if !has_receivers || outgoing.encode(&mut bytes).is_err() {
            return;
        }
        let bytes = bytes.freeze();
        let properties = &outgoing.properties;
        let candidate = Candidate { location, subgroup: None, priority, properties };
        let timeouts = DeliveryTimeouts::of_publisher(properties, &track.properties);
        for (_, subscriber) in &track.subscribers {
            // What a shard told is told to no other; the others see to copies themselves.
            let is_for_it = match subscriber.is_shard {
                true => !from_shard,
                false => is_new && subscriber.wants(&candidate),
            };
            if !is_for_it {
                continue;
            }
            if let Some(peer) = self.peers.get_mut(subscriber.key.peer.0) {
                let timeout = subscriber.wish.timeouts.shorter(timeouts).object;
                let expires = timeout.and_then(|timeout| now.checked_add(timeout));
                peer.session.send_encoded_datagram(bytes.clone(), expires);
                super::touch(&mut self.touched, peer, subscriber.key.peer);
            }
        }
        self.note_cached(index, now);
        self.pump_group_fetches(index, location.group, now);
    }
}

/// Whether an object's properties break no rule of its track (draft-22 sections 3.7 and 12.1).
fn is_sound(properties: &Properties) -> bool {
    properties.is_empty()
        || properties.check_immutable().is_ok()
            && properties.unknown_mandatory_track_property().is_none()
}

fn cached(
    object: &ReceivedObject,
    subgroup: SubgroupId,
    priority: u8,
    now: Instant,
) -> CachedObject {
    let payload = if object.payload.is_empty() { Vec::new() } else { vec![object.payload.clone()] };
    CachedObject {
        subgroup: Some(subgroup),
        priority,
        status: object.header.status,
        properties: object.header.properties.clone(),
        payload,
        payload_length: object.header.payload_length,
        follows: None,
        feeder: None,
        standing: Standing::Waiting,
        received_at: now,
    }
}

fn cached_datagram(object: &ObjectDatagram, priority: u8, now: Instant) -> CachedObject {
    let (payload, status) = match &object.content {
        Content::Payload(payload) => (payload.clone(), ObjectStatus::Normal),
        Content::Status(status) => (Bytes::new(), *status),
    };
    CachedObject {
        subgroup: None,
        priority,
        status,
        properties: object.properties.clone(),
        payload_length: payload.len() as u64,
        payload: vec![payload],
        follows: None,
        feeder: None,
        standing: Standing::Forwarded,
        received_at: now,
    }
}

/// The header of a subgroup that is sent object by object, from whatever publisher.
const fn continued(
    track_alias: TrackAlias,
    (group, subgroup): (GroupId, SubgroupId),
    priority: u8,
) -> SubgroupHeader {
    SubgroupHeader {
        track_alias,
        group,
        subgroup: SubgroupMode::Explicit(subgroup),
        priority: Some(priority),
        properties: true,
        end_of_group: false,
        first_object: false,
    }
}

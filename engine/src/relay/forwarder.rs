//! Live forwarding: an object comes in once and goes out to every subscriber, its payload shared.
//!
//! Back of the envelope: for each object and subscriber one `Bytes` clone and one queue entry. The
//! bytes that go out are the bytes that came in, header and all, wherever the subscriber's stream
//! stands at the same object as the publisher's; only a stream that begins in the midst of a
//! subgroup, or skipped something, gets its object headers written anew.

use std::time::Instant;

use aip_codec::moqt::{
    datagram::{Content, ObjectDatagram},
    error_code::{PublishDoneCode, ResetCode},
    id::{GroupId, ObjectId, SubgroupId, TrackAlias},
    location::Location,
    stream::subgroup::{Encoder, ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupMode},
};
use bytes::{Bytes, BytesMut};

use super::{
    Relay,
    cache::{CachedObject, Inserted},
    peer::PeerIndex,
    track::{Track, TrackIndex},
};
use crate::{
    session::{ReceivedObject, StreamEnd, urgency},
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
    /// Whether the current object goes out; a duplicate does not.
    pub(crate) forwards: bool,
}

/// A subgroup that is being forwarded: one stream for each subscriber that wants it.
#[derive(Debug, Default)]
pub(crate) struct ActiveSubgroup {
    /// Publishers' streams that carry it.
    pub(crate) sources: usize,
    /// The object forwarded last.
    previous: Option<ObjectId>,
    /// By subscriber; `None` where none was opened.
    streams: Vec<Option<OutgoingSubgroup>>,
    /// A publisher's stream has said that this was all.
    finished: bool,
}

#[derive(Clone, Copy, Debug)]
struct OutgoingSubgroup {
    stream: StreamId,
    previous: Option<ObjectId>,
    /// Whether the payload of the current object goes here.
    receives: bool,
}

impl ActiveSubgroup {
    fn stream_mut(&mut self, subscriber: usize) -> Option<&mut OutgoingSubgroup> {
        self.streams.get_mut(subscriber)?.as_mut()
    }

    /// Forgets a subscriber, so that its successor in the table gets streams of its own.
    pub(crate) fn forget(&mut self, subscriber: usize) {
        if let Some(slot) = self.streams.get_mut(subscriber) {
            *slot = None;
        }
    }
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
            return;
        };
        let subgroup = match header.subgroup {
            SubgroupMode::Zero => Some(SubgroupId(0)),
            SubgroupMode::Explicit(subgroup) => Some(subgroup),
            SubgroupMode::FirstObject => None,
        };
        let incoming =
            IncomingSubgroup { track, header, subgroup, previous: None, forwards: false };
        entry.incoming.insert(stream, incoming);
        if let Some(subgroup) = subgroup {
            self.begin_source(track, header.group, subgroup);
        }
    }

    fn begin_source(&mut self, track: TrackIndex, group: GroupId, subgroup: SubgroupId) {
        if let Some(track) = self.tracks.get_mut(track.0) {
            track.active.entry((group, subgroup)).or_default().sources += 1;
        }
    }

    pub(super) fn object_received(
        &mut self,
        peer: PeerIndex,
        stream: StreamId,
        object: ReceivedObject,
        now: Instant,
    ) {
        let Some(entry) = self.peers.get_mut(peer.0) else { return };
        let Some(incoming) = entry.incoming.get_mut(&stream) else { return };
        let track_index = incoming.track;
        let header = incoming.header;
        let (subgroup, is_new) = match incoming.subgroup {
            Some(subgroup) => (subgroup, false),
            None => (SubgroupId(object.header.object.0), true),
        };
        incoming.subgroup = Some(subgroup);
        let source_previous = incoming.previous.replace(object.header.object);
        if is_new {
            self.begin_source(track_index, header.group, subgroup);
        }
        let Some(track) = self.tracks.get_mut(track_index.0) else { return };
        let location = Location { group: header.group, object: object.header.object };
        let priority =
            header.priority.unwrap_or_else(|| track.properties.default_publisher_priority());
        let inserted = track.cache.insert(location, cached(&object, subgroup, priority, now), now);
        if inserted == Inserted::Conflict {
            self.malformed_track(track_index, now);
            return;
        }
        track.note_largest(location);
        track.ended |= object.header.status == ObjectStatus::EndOfTrack;
        let forwards = inserted == Inserted::New
            && track
                .active
                .get(&(header.group, subgroup))
                .is_some_and(|active| active.previous.is_none_or(|last| last < location.object));
        if let Some(incoming) =
            self.peers.get_mut(peer.0).and_then(|entry| entry.incoming.get_mut(&stream))
        {
            incoming.forwards = forwards;
        }
        self.note_cached(track_index, now);
        if forwards {
            let fanout = Fanout { track: track_index, header, subgroup, priority, location };
            self.fan_out(&fanout, source_previous, &object, now);
        }
        if object.last {
            self.pump_track_fetches(track_index, now);
        }
    }

    /// Sends an object's header, and what is here of its payload, to every subscriber that wants it.
    fn fan_out(
        &mut self,
        fanout: &Fanout,
        source_previous: Option<ObjectId>,
        object: &ReceivedObject,
        now: Instant,
    ) {
        let Some(track) = self.tracks.get_mut(fanout.track.0) else { return };
        let key = (fanout.header.group, fanout.subgroup);
        let Some(mut active) = track.active.remove(&key) else { return };
        let capacity = track.subscribers.capacity();
        if active.streams.len() < capacity {
            active.streams.resize(capacity, None);
        }
        let mut behind = Vec::new();
        let mut wire = WireCache::default();
        for (index, subscriber) in &track.subscribers {
            if !subscriber.wants(fanout.location) {
                if let Some(outgoing) = active.stream_mut(index) {
                    outgoing.receives = false;
                }
                continue;
            }
            let Some(peer) = self.peers.get_mut(subscriber.key.peer.0) else { continue };
            let session = &mut peer.session;
            let limits =
                (self.config.subscription_queued_bytes_max, self.config.subscription_stall_max);
            if session.is_behind(subscriber.key.request, limits.0, limits.1, now) {
                behind.push(index);
                continue;
            }
            let outgoing = match active.streams[index] {
                Some(outgoing) if outgoing.may_carry(source_previous, fanout.location.object) => {
                    outgoing
                }
                before => {
                    if let Some(before) = before {
                        session.reset_stream(before.stream, ResetCode::CANCELLED);
                    }
                    let first =
                        before.is_none() && source_previous.is_none() && fanout.header.first_object;
                    let header = fanout.outgoing_header(track.alias, first);
                    let urgency = urgency::object(subscriber.priority, fanout.priority);
                    let request = subscriber.key.request;
                    let Some(stream) = session.open_subgroup(request, &header, urgency) else {
                        continue;
                    };
                    OutgoingSubgroup { stream, previous: None, receives: true }
                }
            };
            for bytes in wire.pieces(outgoing.previous, source_previous, fanout, object) {
                session.send(outgoing.stream, bytes, false);
            }
            active.streams[index] = Some(OutgoingSubgroup {
                previous: Some(fanout.location.object),
                receives: true,
                ..outgoing
            });
            super::touch(&mut self.touched, peer, subscriber.key.peer);
        }
        active.previous = Some(fanout.location.object);
        track.active.insert(key, active);
        for subscriber in behind {
            self.end_subscriber(fanout.track, subscriber, PublishDoneCode::TOO_FAR_BEHIND);
        }
    }

    pub(super) fn payload_received(
        &mut self,
        peer: PeerIndex,
        stream: StreamId,
        bytes: Bytes,
        last: bool,
        now: Instant,
    ) {
        let Some(entry) = self.peers.get(peer.0) else { return };
        let Some(incoming) = entry.incoming.get(&stream) else { return };
        let (Some(subgroup), Some(object), true) =
            (incoming.subgroup, incoming.previous, incoming.forwards)
        else {
            return;
        };
        let track_index = incoming.track;
        let location = Location { group: incoming.header.group, object };
        let Some(track) = self.tracks.get_mut(track_index.0) else { return };
        track.cache.append(location, bytes.clone(), last);
        let Some(active) = track.active.get(&(location.group, subgroup)) else { return };
        for (index, subscriber) in &track.subscribers {
            let Some(Some(outgoing)) = active.streams.get(index) else { continue };
            if !outgoing.receives {
                continue;
            }
            if let Some(peer) = self.peers.get_mut(subscriber.key.peer.0) {
                peer.session.send(outgoing.stream, bytes.clone(), false);
                super::touch(&mut self.touched, peer, subscriber.key.peer);
            }
        }
        self.note_cached(track_index, now);
        if last {
            self.pump_track_fetches(track_index, now);
        }
    }

    pub(super) fn subgroup_ended(
        &mut self,
        peer: PeerIndex,
        stream: StreamId,
        end: StreamEnd,
        now: Instant,
    ) {
        let Some(entry) = self.peers.get_mut(peer.0) else { return };
        let Some(incoming) = entry.incoming.remove(&stream) else { return };
        let Some(subgroup) = incoming.subgroup else { return };
        let group = incoming.header.group;
        let Some(track) = self.tracks.get_mut(incoming.track.0) else { return };
        let mut consistent = true;
        if end == StreamEnd::Fin
            && incoming.header.end_of_group
            && let Some(last) = incoming.previous
        {
            consistent = track.cache.end_group(group, last);
        }
        if let (Some(object), true) = (incoming.previous, incoming.forwards) {
            drop_if_incomplete(track, Location { group, object });
        }
        let Some(active) = track.active.get_mut(&(group, subgroup)) else { return };
        active.sources = active.sources.saturating_sub(1);
        let code = match end {
            StreamEnd::Fin => {
                active.finished = true;
                None
            }
            StreamEnd::Reset(code) => Some(code),
        };
        let over = active.finished || active.sources == 0 || (incoming.forwards && code.is_some());
        if over {
            let finished = active.finished;
            self.end_active(incoming.track, (group, subgroup), if finished { None } else { code });
        }
        if consistent {
            self.pump_track_fetches(incoming.track, now);
        } else {
            self.malformed_track(incoming.track, now);
        }
    }

    /// Ends the subscribers' streams of a subgroup: with all there was, or by a reset.
    fn end_active(
        &mut self,
        track: TrackIndex,
        key: (GroupId, SubgroupId),
        reset: Option<ResetCode>,
    ) {
        let Some(track) = self.tracks.get_mut(track.0) else { return };
        let Some(mut active) = track.active.remove(&key) else { return };
        for (index, subscriber) in &track.subscribers {
            let Some(Some(outgoing)) = active.streams.get(index) else { continue };
            let Some(peer) = self.peers.get_mut(subscriber.key.peer.0) else { continue };
            match reset {
                None => peer.session.send(outgoing.stream, Bytes::new(), true),
                Some(code) => peer.session.reset_stream(outgoing.stream, code),
            }
            super::touch(&mut self.touched, peer, subscriber.key.peer);
        }
        if 0 < active.sources {
            // Another publisher still sends it: what it repeats goes nowhere.
            active.streams.clear();
            active.previous = Some(ObjectId(u64::MAX));
            track.active.insert(key, active);
        }
    }

    pub(super) fn datagram_received(
        &mut self,
        peer: PeerIndex,
        object: ObjectDatagram,
        now: Instant,
    ) {
        let Some(entry) = self.peers.get(peer.0) else { return };
        let Some(&index) = entry.aliases.get(&object.track_alias) else { return };
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let location = Location { group: object.group, object: object.object };
        let priority =
            object.priority.unwrap_or_else(|| track.properties.default_publisher_priority());
        let cached = cached_datagram(&object, priority, now);
        match track.cache.insert(location, cached, now) {
            Inserted::New => {}
            Inserted::Duplicate => return,
            Inserted::Conflict => return self.malformed_track(index, now),
        }
        track.note_largest(location);
        if object.end_of_group {
            track.cache.end_group(object.group, object.object);
        }
        let outgoing = ObjectDatagram { track_alias: track.alias, ..object };
        let mut bytes = BytesMut::new();
        if outgoing.encode(&mut bytes).is_err() {
            return;
        }
        let bytes = bytes.freeze();
        for (_, subscriber) in &track.subscribers {
            if !subscriber.wants(location) {
                continue;
            }
            if let Some(peer) = self.peers.get_mut(subscriber.key.peer.0) {
                peer.session.send_encoded_datagram(bytes.clone());
                super::touch(&mut self.touched, peer, subscriber.key.peer);
            }
        }
        self.note_cached(index, now);
        self.pump_track_fetches(index, now);
    }
}

/// An object on its way to the subscribers.
struct Fanout {
    track: TrackIndex,
    header: SubgroupHeader,
    subgroup: SubgroupId,
    priority: u8,
    location: Location,
}

impl Fanout {
    /// The header of a subscriber's stream. The subgroup is always written out, since a stream that
    /// begins in its midst could not say it by its first object.
    const fn outgoing_header(&self, track_alias: TrackAlias, first_object: bool) -> SubgroupHeader {
        let subgroup = match self.subgroup {
            SubgroupId(0) => SubgroupMode::Zero,
            subgroup => SubgroupMode::Explicit(subgroup),
        };
        SubgroupHeader { track_alias, subgroup, first_object, ..self.header }
    }
}

impl OutgoingSubgroup {
    /// Whether this stream may go on with `object` (draft-22 section 11.3.2): it is the next one,
    /// or it came directly behind what this stream has, or further objects were left out of it.
    fn may_carry(&self, source_previous: Option<ObjectId>, object: ObjectId) -> bool {
        match (self.previous, source_previous) {
            (Some(previous), _) if previous.0.checked_add(1) == Some(object.0) => true,
            (Some(previous), Some(source)) => previous <= source && previous < object,
            (None, _) => true,
            (Some(_), None) => false,
        }
    }
}

/// The bytes of one object for streams that stand at different places; each form is made once.
#[derive(Default)]
struct WireCache {
    rewritten: Vec<(Option<ObjectId>, Bytes)>,
}

impl WireCache {
    fn pieces(
        &mut self,
        previous: Option<ObjectId>,
        source_previous: Option<ObjectId>,
        fanout: &Fanout,
        object: &ReceivedObject,
    ) -> impl Iterator<Item = Bytes> {
        let (header, payload) = if previous == source_previous {
            let payload = (!object.wire_has_payload).then(|| object.payload.clone());
            (object.wire.clone(), payload)
        } else {
            let header = self.rewritten(previous, fanout.header.properties, &object.header);
            (header, Some(object.payload.clone()))
        };
        std::iter::once(header).chain(payload.filter(|payload| !payload.is_empty()))
    }

    fn rewritten(
        &mut self,
        previous: Option<ObjectId>,
        properties: bool,
        header: &ObjectHeader,
    ) -> Bytes {
        if let Some((_, bytes)) = self.rewritten.iter().find(|(other, _)| *other == previous) {
            return bytes.clone();
        }
        let mut bytes = BytesMut::new();
        let encoded = Encoder::after(properties, previous).object(header, &mut bytes);
        debug_assert!(encoded.is_ok(), "objects ascend on every stream");
        let bytes = bytes.freeze();
        self.rewritten.push((previous, bytes.clone()));
        bytes
    }
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
        complete: object.last,
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
        complete: true,
        received_at: now,
    }
}

/// Forgets an object whose payload will never be whole.
fn drop_if_incomplete(track: &mut Track, location: Location) {
    if track.cache.object(location).is_some_and(|object| !object.complete) {
        track.cache.remove(location);
    }
}

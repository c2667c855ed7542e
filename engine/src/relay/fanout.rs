//! One subgroup on its way to every subscriber that wants it: a stream for each.

use aip_codec::moqt::{
    error_code::ResetCode,
    id::{GroupId, ObjectId, RequestId, SubgroupId, TrackAlias},
    location::Location,
    stream::subgroup::{Encoder, ObjectHeader, SubgroupHeader, SubgroupMode},
};
use bytes::{Bytes, BytesMut};
use std::time::Instant;

use super::{Relay, failover::Interrupted, peer::PeerIndex, track::TrackIndex};
use crate::{
    session::{Candidate, Delivery, DeliveryTimeouts, ReceivedObject, Session},
    stream_map::Handle,
    transport::StreamId,
};

/// A publisher's stream.
pub(crate) type Source = (PeerIndex, StreamId);

/// A subgroup that is being forwarded: one stream for each subscriber that wants it.
#[derive(Debug, Default)]
pub(crate) struct ActiveSubgroup {
    /// Publishers' streams that carry it.
    pub(crate) sources: usize,
    /// The object forwarded last.
    pub(crate) previous: Option<ObjectId>,
    /// The publisher's stream in the midst of whose object the subscribers' streams are: until it
    /// is whole, no other object may be written there.
    pub(crate) current: Option<Source>,
    /// The publisher was lost in the midst of the object forwarded last.
    pub(crate) interrupted: Option<Interrupted>,
    /// A publisher's stream has said that this was all.
    pub(crate) finished: bool,
    /// What the publisher says of how long it may take; `None` before its first object.
    timeouts: Option<DeliveryTimeouts>,
    /// By subscriber; `None` where none was opened.
    streams: Vec<Option<OutgoingSubgroup>>,
}

#[derive(Clone, Copy, Debug)]
struct OutgoingSubgroup {
    stream: Handle<StreamId>,
    /// Whether its objects have properties.
    properties: bool,
    previous: Option<ObjectId>,
    /// Whether the payload of the current object goes here.
    receives: bool,
}

impl ActiveSubgroup {
    /// Whether an object can be written behind what was forwarded.
    pub(crate) fn has_room_for(&self, object: ObjectId) -> bool {
        self.current.is_none()
            && self.interrupted.is_none()
            && self.previous.is_none_or(|previous| previous < object)
    }

    /// Whether an object is to go out now, rather than to wait for what another publisher may still
    /// bring of those before it. `follows` is known to come directly before it.
    pub(crate) fn is_next(&self, object: ObjectId, follows: Option<ObjectId>) -> bool {
        let Some(previous) = self.previous else { return true };
        self.sources <= 1
            || previous.0.checked_add(1) == Some(object.0)
            || follows == Some(previous)
    }

    /// Forgets a subscriber, so that its successor in the table gets streams of its own.
    pub(crate) fn forget(&mut self, subscriber: usize) {
        if let Some(slot) = self.streams.get_mut(subscriber) {
            *slot = None;
        }
    }

    /// Whether the payload of the current object goes to anybody.
    pub(crate) fn has_receivers(&self) -> bool {
        self.receivers().next().is_some()
    }

    /// The streams that the payload of the current object goes to, by subscriber.
    fn receivers(&self) -> impl Iterator<Item = (usize, Handle<StreamId>)> {
        self.streams
            .iter()
            .enumerate()
            .filter_map(|(subscriber, slot)| slot.map(|outgoing| (subscriber, outgoing)))
            .filter(|(_, outgoing)| outgoing.receives)
            .map(|(subscriber, outgoing)| (subscriber, outgoing.stream))
    }
}

impl OutgoingSubgroup {
    /// Whether this stream may go on with `object` (draft-22 section 11.3.2): it is the next one,
    /// or it came directly behind what this stream has, or further objects were left out of it.
    fn may_carry(&self, source_previous: Option<ObjectId>, object: &ObjectHeader) -> bool {
        let has_form = self.properties || object.properties.is_empty();
        let has_place = match (self.previous, source_previous) {
            (Some(previous), _) if previous.0.checked_add(1) == Some(object.object.0) => true,
            (Some(previous), Some(source)) => previous <= source && previous < object.object,
            (None, _) => true,
            (Some(_), None) => false,
        };
        has_form && has_place
    }
}

/// An object on its way to the subscribers.
pub(crate) struct Fanout<'a> {
    pub(crate) track: TrackIndex,
    /// The header of the publisher's stream.
    pub(crate) header: SubgroupHeader,
    pub(crate) subgroup: SubgroupId,
    pub(crate) priority: u8,
    /// The object before it on the publisher's stream.
    pub(crate) source_previous: Option<ObjectId>,
    /// The object that is known to come directly before it in the subgroup.
    pub(crate) follows: Option<ObjectId>,
    /// Whether it was missed, and comes now for those only who had subscribed before it.
    pub(crate) recovered: bool,
    pub(crate) object: &'a ObjectHeader,
    /// What is here of its payload.
    pub(crate) payload: &'a [Bytes],
    /// How it stood in the publisher's stream, if it comes from there now.
    pub(crate) received: Option<&'a ReceivedObject>,
    /// When its header was here.
    pub(crate) received_at: Instant,
}

impl Fanout<'_> {
    const fn location(&self) -> Location {
        Location { group: self.header.group, object: self.object.object }
    }

    const fn candidate(&self) -> Candidate<'_> {
        Candidate {
            location: self.location(),
            subgroup: Some(self.subgroup),
            priority: self.priority,
            properties: &self.object.properties,
        }
    }

    /// The header of a subscriber's stream. The subgroup is always written out, since a stream that
    /// begins in its midst could not say it by its first object.
    const fn outgoing_header(&self, track_alias: TrackAlias, first_object: bool) -> SubgroupHeader {
        let subgroup = match self.subgroup {
            SubgroupId(0) => SubgroupMode::Zero,
            subgroup => SubgroupMode::Explicit(subgroup),
        };
        let properties = self.header.properties || !self.object.properties.is_empty();
        SubgroupHeader { track_alias, subgroup, first_object, properties, ..self.header }
    }

    /// The subscriber's stream for this object: the one it has, if that is open, or a new one. `None`
    /// if it reads no more of the subgroup.
    fn stream(
        &self,
        before: Option<(OutgoingSubgroup, bool)>,
        session: &mut Session,
        (request, alias): (RequestId, TrackAlias),
        delivery: impl FnOnce() -> Delivery,
    ) -> Option<OutgoingSubgroup> {
        if let Some((before, is_open)) = before {
            // Whoever has stopped a subgroup is not sent it again on another stream.
            if !is_open {
                return None;
            }
            if before.may_carry(self.follows, self.object) {
                return Some(before);
            }
            session.reset_stream(before.stream.key, ResetCode::CANCELLED);
        }
        let is_first =
            before.is_none() && self.source_previous.is_none() && self.header.first_object;
        let header = self.outgoing_header(alias, is_first);
        let stream = session.open_subgroup(request, &header, &delivery())?;
        let stream = session.outgoing(stream)?;
        let properties = header.properties;
        Some(OutgoingSubgroup { stream, properties, previous: None, receives: true })
    }
}

impl Relay {
    /// Sends an object's header, and what is here of its payload, to every subscriber that wants it.
    pub(super) fn fan_out(&mut self, fanout: &Fanout<'_>, now: Instant) {
        let Some(track) = self.tracks.get_mut(fanout.track.0) else { return };
        let key = (fanout.header.group, fanout.subgroup);
        let Some(active) = track.active.get_mut(&key) else { return };
        let capacity = track.subscribers.capacity();
        if active.streams.len() < capacity {
            active.streams.resize(capacity, None);
        }
        let (location, candidate) = (fanout.location(), fanout.candidate());
        let properties = &fanout.object.properties;
        let timeouts = *active
            .timeouts
            .get_or_insert_with(|| DeliveryTimeouts::of_publisher(properties, &track.properties));
        let default_order = track.properties.default_group_order();
        let (mut behind, mut forwarded) = (Vec::new(), 0);
        let mut wire = WireCache::default();
        for (index, subscriber) in &track.subscribers {
            if subscriber.is_shard {
                continue;
            }
            let Some(peer) = self.peers.get_mut(subscriber.key.peer.0) else { continue };
            let session = &mut peer.session;
            let slot = &mut active.streams[index];
            let is_before =
                fanout.recovered && subscriber.joined_at.is_some_and(|joined| location <= joined);
            if is_before || !subscriber.wants(&candidate) {
                if leave_out(slot, session, subscriber.wish.forward) {
                    super::touch(&mut self.touched, peer, subscriber.key.peer);
                }
                continue;
            }
            let request = subscriber.key.request;
            let standing = slot.and_then(|it| session.standing(it.stream, now));
            if standing.map_or_else(|| session.is_behind(request, now), |it| it.is_behind) {
                behind.push(subscriber.key);
                continue;
            }
            let delivery = || Delivery {
                subscriber_priority: subscriber.wish.priority,
                publisher_priority: fanout.priority,
                order: subscriber.wish.order.unwrap_or(default_order),
                timeouts: subscriber.wish.timeouts.shorter(timeouts),
            };
            let to = (request, track.alias);
            let before = slot.map(|it| (it, standing.is_some()));
            let Some(mut outgoing) = fanout.stream(before, session, to, delivery) else {
                if let Some(slot) = slot {
                    slot.receives = false;
                }
                super::touch(&mut self.touched, peer, subscriber.key.peer);
                continue;
            };
            if standing.is_none_or(|it| it.is_timed) {
                session.begin_object(outgoing.stream, fanout.received_at);
            }
            wire.send(session, &outgoing, fanout);
            forwarded += 1;
            outgoing.previous = Some(location.object);
            outgoing.receives = true;
            *slot = Some(outgoing);
            super::touch_sending(&mut self.touched, peer, subscriber.key.peer);
        }
        active.previous = Some(location.object);
        self.note_forwarded(forwarded, fanout.payload.iter().map(Bytes::len).sum());
        for key in behind {
            self.end_behind(key);
        }
    }

    /// Sends more of the current object's payload to whoever got its beginning.
    pub(super) fn fan_out_payload(
        &mut self,
        track_index: TrackIndex,
        key: (GroupId, SubgroupId),
        bytes: &Bytes,
        now: Instant,
    ) {
        let Some(track) = self.tracks.get(track_index.0) else { return };
        let Some(active) = track.active.get(&key) else { return };
        let (mut behind, mut forwarded) = (Vec::new(), 0);
        for (index, stream) in active.receivers() {
            let Some(subscriber) = track.subscribers.get(index) else { continue };
            let Some(peer) = self.peers.get_mut(subscriber.key.peer.0) else { continue };
            let Some(standing) = peer.session.standing(stream, now) else { continue };
            if standing.is_behind {
                behind.push(subscriber.key);
                continue;
            }
            peer.session.send_on(stream, bytes.clone(), false);
            forwarded += 1;
            super::touch_sending(&mut self.touched, peer, subscriber.key.peer);
        }
        self.note_payload_forwarded(forwarded, bytes.len());
        for key in behind {
            self.end_behind(key);
        }
    }

    /// Ends the subscribers' streams of a subgroup: with all there was, or by a reset. Other
    /// publishers' streams of it may go on, on new streams. Streams that later objects of the
    /// subgroup have overtaken, or that an earlier one came too late for, are reset in any case, since
    /// their end would say that there are none.
    /// `ended_at` is when a publisher's stream ended, if that is why.
    pub(super) fn end_streams(
        &mut self,
        track: TrackIndex,
        key: (GroupId, SubgroupId),
        reset: Option<ResetCode>,
        ended_at: Option<Instant>,
    ) {
        let Some(track) = self.tracks.get_mut(track.0) else { return };
        let Some(active) = track.active.get_mut(&key) else { return };
        let is_overtaken = active.previous.is_some_and(|object| {
            track.cache.has_forwarded_behind(Location { group: key.0, object }, key.1)
        });
        // What came behind its turn, since another publisher's stream began further on, went to nobody.
        let is_left_out = active.previous.is_some_and(|previous| {
            let waiting = track.cache.next_to_forward(key, None);
            waiting.is_some_and(|(location, _)| location.object < previous)
        });
        let has_gap = is_overtaken || is_left_out;
        let reset = reset.or_else(|| has_gap.then_some(ResetCode::CANCELLED));
        let streams = std::mem::take(&mut active.streams);
        active.finished = false;
        active.current = None;
        if active.sources == 0 {
            track.active.remove(&key);
        }
        for (index, subscriber) in &track.subscribers {
            let Some(Some(outgoing)) = streams.get(index) else { continue };
            let Some(peer) = self.peers.get_mut(subscriber.key.peer.0) else { continue };
            match reset {
                None => {
                    if let Some(ended_at) = ended_at {
                        peer.session.end_of_subgroup(outgoing.stream.key, ended_at);
                    }
                    peer.session.send_on(outgoing.stream, Bytes::new(), true);
                }
                Some(code) => peer.session.reset_stream(outgoing.stream.key, code),
            }
            super::touch(&mut self.touched, peer, subscriber.key.peer);
        }
    }
}

/// An object that its subscriber does not want. One that it misses because it has paused leaves a
/// hole, so that the stream can not end as if it were whole; what a filter leaves out does not.
/// Whether its session was told something.
fn leave_out(slot: &mut Option<OutgoingSubgroup>, session: &mut Session, forward: bool) -> bool {
    let Some(outgoing) = slot else { return false };
    outgoing.receives = false;
    if !forward {
        session.reset_stream(outgoing.stream.key, ResetCode::CANCELLED);
        *slot = None;
    }
    !forward
}

/// The bytes of one object for streams that stand at different places; each form is made once.
#[derive(Default)]
struct WireCache {
    rewritten: Vec<(Option<ObjectId>, bool, Bytes)>,
}

impl WireCache {
    /// Sends the object as it came where the stream stands as the publisher's did, else with a
    /// header of its own; the payload is shared either way.
    fn send(&mut self, session: &mut Session, outgoing: &OutgoingSubgroup, fanout: &Fanout<'_>) {
        if let Some(received) = fanout.received
            && outgoing.previous == fanout.source_previous
            && outgoing.properties == fanout.header.properties
        {
            session.send_on(outgoing.stream, received.wire.clone(), false);
            if !received.wire_has_payload {
                session.send_on(outgoing.stream, received.payload.clone(), false);
            }
            return;
        }
        let header = self.header(outgoing, fanout.object);
        session.send_on(outgoing.stream, header, false);
        for piece in fanout.payload {
            session.send_on(outgoing.stream, piece.clone(), false);
        }
    }

    fn header(&mut self, outgoing: &OutgoingSubgroup, object: &ObjectHeader) -> Bytes {
        let (previous, properties) = (outgoing.previous, outgoing.properties);
        let held = self
            .rewritten
            .iter()
            .find(|(other, with, _)| (*other, *with) == (previous, properties));
        if let Some((.., bytes)) = held {
            return bytes.clone();
        }
        let mut bytes = BytesMut::new();
        let encoded = Encoder::after(properties, previous).object(object, &mut bytes);
        debug_assert!(encoded.is_ok(), "objects ascend on every stream");
        let bytes = bytes.freeze();
        self.rewritten.push((previous, properties, bytes.clone()));
        bytes
    }
}

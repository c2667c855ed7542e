//! A publisher's streams on their way to other shards: as they are.
//!
//! A shard that has subscribers asks every shard that has a publisher, and sees itself to what
//! several of them send twice. So it gets each publisher's streams whole, whatever this shard has of
//! the same objects from elsewhere, and never what this one has from a third. One message for each
//! shard, however many subscribers it has; the bytes are those that came.

use std::time::Instant;

use aip_codec::moqt::{
    error_code::ResetCode,
    id::ObjectId,
    stream::subgroup::{Encoder, ObjectHeader, SubgroupHeader, SubgroupMode},
};
use bytes::{Bytes, BytesMut};

use super::{Relay, fanout::Source, forwarder::IncomingSubgroup, namespace_tree::RequestKey};
use crate::{
    session::{Delivery, ReceivedObject, StreamEnd},
    transport::StreamId,
};

/// Where a publisher's stream goes on to one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Splice {
    /// The shard's subscription.
    key: RequestKey,
    stream: StreamId,
    /// The object that went there last.
    previous: Option<ObjectId>,
    /// Whether the rest of the current object goes there.
    receives: bool,
}

impl Relay {
    /// An object has come on a publisher's stream.
    pub(super) fn splice_object(
        &mut self,
        (peer, stream): Source,
        source_previous: Option<ObjectId>,
        object: &ReceivedObject,
        now: Instant,
    ) {
        let Some(entry) = self.peers.get_mut(peer.0) else { return };
        let is_shard = entry.is_shard();
        let Some(incoming) = entry.incoming.get_mut(&stream) else { return };
        let Some(track) = self.tracks.get(incoming.track.0) else { return };
        if is_shard || track.shards.is_empty() {
            return;
        }
        let header = spliced_header(incoming, track.alias, source_previous);
        let default_priority = track.properties.default_publisher_priority();
        let mut splices = std::mem::take(&mut incoming.splices);
        // Payload goes only where its object's header went.
        for splice in &mut splices {
            splice.receives = false;
        }
        let mut behind = Vec::new();
        let mut forwarded = 0;
        for &subscriber in &track.shards {
            let Some(subscriber) = track.subscribers.get(subscriber) else { continue };
            let key = subscriber.key;
            let Some(shard) = self.peers.get_mut(key.peer.0) else { continue };
            let session = &mut shard.session;
            if session.is_behind(key.request, now) {
                behind.push(key);
                continue;
            }
            let known = splices.iter().position(|splice| splice.key == key);
            let place = known.or_else(|| {
                let delivery = Delivery {
                    subscriber_priority: subscriber.wish.priority,
                    publisher_priority: header.priority.unwrap_or(default_priority),
                    ..Delivery::default()
                };
                let stream = session.open_subgroup(key.request, &header, &delivery)?;
                splices.push(Splice { key, stream, previous: None, receives: true });
                Some(splices.len() - 1)
            });
            let Some(splice) = place.map(|place| &mut splices[place]) else { continue };
            if splice.previous == source_previous {
                session.send(splice.stream, object.wire.clone(), false);
                if !object.wire_has_payload {
                    session.send(splice.stream, object.payload.clone(), false);
                }
            } else {
                let header = encoded(header.properties, splice.previous, &object.header);
                session.send(splice.stream, header, false);
                session.send(splice.stream, object.payload.clone(), false);
            }
            forwarded += 1;
            splice.previous = Some(object.header.object);
            splice.receives = !object.last;
            super::touch(&mut self.touched, shard, key.peer);
        }
        self.service.counters.objects_to_workers_total += forwarded;
        if let Some(incoming) =
            self.peers.get_mut(peer.0).and_then(|entry| entry.incoming.get_mut(&stream))
        {
            incoming.splices = splices;
        }
        for key in behind {
            self.end_behind(key);
        }
    }

    /// More of an object's payload has come.
    pub(super) fn splice_payload(&mut self, (peer, stream): Source, bytes: &Bytes, now: Instant) {
        let Some(entry) = self.peers.get_mut(peer.0) else { return };
        let Some(incoming) = entry.incoming.get_mut(&stream) else { return };
        if incoming.splices.is_empty() {
            return;
        }
        let splices = std::mem::take(&mut incoming.splices);
        let mut behind = Vec::new();
        for splice in splices.iter().filter(|splice| splice.receives) {
            let Some(shard) = self.peers.get_mut(splice.key.peer.0) else { continue };
            if shard.session.is_behind(splice.key.request, now) {
                behind.push(splice.key);
                continue;
            }
            shard.session.send(splice.stream, bytes.clone(), false);
            super::touch(&mut self.touched, shard, splice.key.peer);
        }
        if let Some(incoming) =
            self.peers.get_mut(peer.0).and_then(|entry| entry.incoming.get_mut(&stream))
        {
            incoming.splices = splices;
        }
        for key in behind {
            self.end_behind(key);
        }
    }

    /// A publisher's stream is lost with its publisher.
    pub(super) fn lose_splices(&mut self, incoming: &IncomingSubgroup) {
        for splice in &incoming.splices {
            if let Some(session) = self.session(splice.key.peer) {
                session.reset_stream(splice.stream, ResetCode::SESSION_CLOSED);
            }
        }
    }

    /// A publisher's stream has ended.
    pub(super) fn end_splices(&mut self, incoming: &IncomingSubgroup, end: StreamEnd) {
        for splice in &incoming.splices {
            let Some(session) = self.session(splice.key.peer) else { continue };
            match end {
                StreamEnd::Fin => session.send(splice.stream, Bytes::new(), true),
                // That a publisher is lost is said otherwise.
                StreamEnd::Reset(ResetCode::SESSION_CLOSED) => {
                    session.reset_stream(splice.stream, ResetCode::INTERNAL_ERROR);
                }
                StreamEnd::Reset(code) => session.reset_stream(splice.stream, code),
            }
        }
    }
}

/// The header of the publisher's stream, as it goes on from before the object that has just come.
fn spliced_header(
    incoming: &IncomingSubgroup,
    track_alias: aip_codec::moqt::id::TrackAlias,
    source_previous: Option<ObjectId>,
) -> SubgroupHeader {
    let subgroup = match incoming.subgroup {
        Some(aip_codec::moqt::id::SubgroupId(0)) | None => SubgroupMode::Zero,
        Some(subgroup) => SubgroupMode::Explicit(subgroup),
    };
    let first_object = source_previous.is_none() && incoming.header.first_object;
    SubgroupHeader { track_alias, subgroup, first_object, ..incoming.header }
}

fn encoded(properties: bool, previous: Option<ObjectId>, object: &ObjectHeader) -> Bytes {
    let mut bytes = BytesMut::new();
    let encoded = Encoder::after(properties, previous).object(object, &mut bytes);
    debug_assert!(encoded.is_ok(), "objects ascend on every stream");
    bytes.freeze()
}

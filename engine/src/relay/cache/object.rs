//! One cached object: all its fields, and where its payload comes from.

use std::time::Instant;

use aip_codec::moqt::{
    id::{ObjectId, SubgroupId},
    property::{IMMUTABLE_PROPERTIES, Properties},
    stream::subgroup::ObjectStatus,
};
use bytes::{Bytes, BytesMut};

use crate::{relay::peer::PeerIndex, transport::StreamId};

/// What an object costs beyond its payload and properties: itself, its place in its group's tree
/// and the allocations of both, about.
pub(super) const OBJECT_OVERHEAD: usize = 256;
/// What each piece of a payload costs beyond its bytes.
const PIECE_OVERHEAD: usize = 32;
/// Bytes that are worth the chunk of memory that they lie in, which no other object may want.
const PIECE_KEPT: usize = 32 << 10;

/// One object with all its fields.
#[derive(Clone, Debug)]
pub(crate) struct CachedObject {
    /// `None` if it was published as a datagram.
    pub(crate) subgroup: Option<SubgroupId>,
    pub(crate) priority: u8,
    pub(crate) status: ObjectStatus,
    pub(crate) properties: Properties,
    /// The payload's pieces, as they were received.
    pub(crate) payload: Vec<Bytes>,
    pub(crate) payload_length: u64,
    /// The object before it on the stream that brought it, if it came live behind one.
    pub(crate) follows: Option<ObjectId>,
    /// Who still brings its payload; `None` once all of it is here.
    pub(crate) feeder: Option<Feeder>,
    pub(crate) standing: Standing,
    pub(crate) received_at: Instant,
}

/// Where an object's payload comes from. Of several who bring the same object one is believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Feeder {
    /// A publisher's stream.
    Live(PeerIndex, StreamId),
    /// A FETCH of ours.
    Fetch(u64),
}

/// What the track's subscribers have of an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Nothing: it came by a FETCH of ours.
    Fetched,
    /// Nothing yet: it came live, while another was on its way.
    Waiting,
    /// It has been sent to whoever wanted it.
    Forwarded,
}

impl CachedObject {
    /// Whether all of the payload is here.
    pub(crate) const fn is_complete(&self) -> bool {
        self.feeder.is_none()
    }

    /// What it costs.
    pub(super) fn size(&self) -> usize {
        let payload: usize = self.payload.iter().map(|piece| piece.len() + PIECE_OVERHEAD).sum();
        payload + self.properties.as_bytes().len() + OBJECT_OVERHEAD
    }

    /// Whether another copy has the same immutable fields, as far as both are here.
    pub(super) fn is_same(&self, copy: &Self) -> bool {
        self.subgroup == copy.subgroup
            && self.priority == copy.priority
            && self.status == copy.status
            && self.payload_length == copy.payload_length
            && self.has_same_immutable_properties(copy)
            && copy.payload.first().is_none_or(|piece| self.agrees(0, piece))
    }

    /// Other properties may change, and what can be told from the object ids may be left out.
    fn has_same_immutable_properties(&self, copy: &Self) -> bool {
        let immutable = |object: &Self| object.properties.bytes(IMMUTABLE_PROPERTIES);
        self.properties.as_bytes() == copy.properties.as_bytes()
            || immutable(self) == immutable(copy)
    }

    /// Whether `bytes` are what is held of the payload from `offset` on, as far as both go.
    pub(super) fn agrees(&self, mut offset: usize, mut bytes: &[u8]) -> bool {
        for piece in &self.payload {
            let held = piece.get(offset..).unwrap_or_default();
            offset = offset.saturating_sub(piece.len());
            let length = held.len().min(bytes.len());
            if held[..length] != bytes[..length] {
                return false;
            }
            bytes = &bytes[length..];
        }
        true
    }

    /// Copies what is small out of the large chunks that it was received into, which it would
    /// otherwise keep whole.
    pub(super) fn compact(&mut self) {
        if !self.is_complete() {
            return;
        }
        if self.payload.iter().any(|piece| piece.len() < PIECE_KEPT) && self.payload_length != 0 {
            let length = self.payload.iter().map(Bytes::len).sum();
            let mut whole = BytesMut::with_capacity(length);
            for piece in &self.payload {
                whole.extend_from_slice(piece);
            }
            self.payload = vec![whole.freeze()];
        }
        if !self.properties.is_empty() {
            let block = BytesMut::from(&self.properties.as_bytes()[..]).freeze();
            if let Ok(properties) = Properties::decode_object(block) {
                self.properties = properties;
            }
        }
    }
}

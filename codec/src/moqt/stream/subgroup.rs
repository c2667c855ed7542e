//! Subgroup streams (draft-22 section 11.3.1): a header, then objects.

use bytes::{Bytes, BytesMut};

use crate::{
    error::{DecodeError, EncodeError},
    moqt::{
        id::{GroupId, ObjectId, SubgroupId, TrackAlias},
        property::Properties,
    },
};

/// Bytes of properties that an object may have here; the draft states no limit. Room for one
/// property of the greatest length, and for others.
pub const PROPERTIES_LENGTH_MAX: u64 = 65_536 + 4_096;

/// SUBGROUP_HEADER: what the objects of a stream share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SubgroupHeader {
    /// The track.
    pub track_alias: TrackAlias,
    /// The group.
    pub group: GroupId,
    /// How the subgroup is stated.
    pub subgroup: SubgroupMode,
    /// The publisher's priority, lower is sooner; `None` is the track's default.
    pub priority: Option<u8>,
    /// Whether each object has a block of properties, which may be empty.
    pub properties: bool,
    /// Whether the last object before FIN is the group's last.
    pub end_of_group: bool,
    /// Whether the stream's first object is the first of the subgroup ever published.
    pub first_object: bool,
}

/// How SUBGROUP_HEADER states its subgroup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubgroupMode {
    /// It is subgroup 0.
    Zero,
    /// Its number is that of the stream's first object.
    FirstObject,
    /// Its number stands in the header.
    Explicit(SubgroupId),
}

/// An object, without its payload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectHeader {
    /// Its number.
    pub object: ObjectId,
    /// Its properties.
    pub properties: Properties,
    /// Bytes of its payload.
    pub payload_length: u64,
    /// What it is; Normal if it has a payload.
    pub status: ObjectStatus,
}

/// What an object is.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum ObjectStatus {
    /// An object.
    #[default]
    Normal,
    /// No object: its group has none of this number or above.
    EndOfGroup,
    /// No object: its track has none at this location or after.
    EndOfTrack,
}

/// Whether a stream of this type is a subgroup's.
pub(super) const fn are_flags(flags: u64) -> bool {
    flags < 0x80 && flags & 0x10 != 0 && flags & 0x06 != 0x06
}

impl SubgroupHeader {
    /// Appends the header.
    pub fn encode(&self, out: &mut BytesMut) {
        todo!("{out:?}")
    }
}

/// What a subgroup stream holds, in its order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Item {
    /// Once, first.
    Header(SubgroupHeader),
    /// An object's header, and as much of its payload as lies in the same chunk.
    Object {
        /// The object.
        header: ObjectHeader,
        /// The object as it stood in the stream. If `wire_has_payload`, header and payload
        /// together, one slice of the chunk pushed; else the header alone, put together from
        /// several chunks.
        wire: Bytes,
        /// Whether `wire` goes on with `payload`.
        wire_has_payload: bool,
        /// The payload's beginning, a slice of the chunk pushed.
        payload: Bytes,
        /// Whether that is all of the payload.
        last: bool,
    },
    /// More of the object's payload, a slice of the chunk pushed.
    Payload {
        /// The bytes; not empty.
        bytes: Bytes,
        /// Whether the payload ends with them.
        last: bool,
    },
}

/// Reads a subgroup stream chunk by chunk. Payload is never copied.
#[derive(Debug, Default)]
pub struct Decoder {}

impl Decoder {
    /// A decoder at a stream's first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands over the stream's next bytes.
    pub fn push(&mut self, chunk: Bytes) {
        todo!("{chunk:?}")
    }

    /// The next item; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// If the bytes are no subgroup stream. The decoder is of no use after it.
    pub fn poll(&mut self) -> Result<Option<Item>, DecodeError> {
        todo!()
    }

    /// The stream's end is reached, and `poll` has said `None`.
    ///
    /// # Errors
    /// If it lies inside the header or an object.
    pub fn finish(&self) -> Result<(), DecodeError> {
        todo!()
    }
}

/// Writes the objects of a subgroup stream, after [`SubgroupHeader::encode`].
#[derive(Clone, Debug)]
pub struct Encoder {
    properties: bool,
    previous: Option<ObjectId>,
}

impl Encoder {
    /// An encoder for a stream whose header says `properties`.
    pub const fn new(properties: bool) -> Self {
        Self { properties, previous: None }
    }

    /// Appends an object up to its payload, which the caller sends after it. Nothing is appended
    /// if there is an error.
    ///
    /// # Errors
    /// If objects do not ascend, one has properties that the stream has no place for, or a status
    /// and a payload or properties.
    pub fn object(&mut self, object: &ObjectHeader, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.previous = None;
        todo!("{object:?} {out:?} {}", self.properties)
    }
}

//! Subgroup streams (draft-22 section 11.3.1): a header, then objects.

use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::flags;
use crate::{
    assembly::{Head, Inbox, Scan, Shortfall},
    error::{DecodeError, EncodeError, Violation},
    moqt::{
        id::{GroupId, ObjectId, SubgroupId, TrackAlias},
        property::Properties,
        varint,
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

impl ObjectStatus {
    /// The status of this number.
    pub(crate) const fn from_code(code: u64) -> Result<Self, Violation> {
        match code {
            0x0 => Ok(Self::Normal),
            0x3 => Ok(Self::EndOfGroup),
            0x4 => Ok(Self::EndOfTrack),
            _ => Err(Violation::ObjectStatus),
        }
    }

    /// The number on the wire.
    pub(crate) const fn code(self) -> u64 {
        match self {
            Self::Normal => 0x0,
            Self::EndOfGroup => 0x3,
            Self::EndOfTrack => 0x4,
        }
    }
}

/// Bits of SUBGROUP_HEADER's type flags.
mod flag {
    pub(super) const PROPERTIES: u64 = 0x01;
    pub(super) const MODE: u64 = 0x06;
    pub(super) const MODE_FIRST_OBJECT: u64 = 0x02;
    pub(super) const MODE_EXPLICIT: u64 = 0x04;
    pub(super) const END_OF_GROUP: u64 = 0x08;
    pub(super) const SUBGROUP: u64 = 0x10;
    pub(super) const DEFAULT_PRIORITY: u64 = 0x20;
    pub(super) const FIRST_OBJECT: u64 = 0x40;
    pub(super) const MAX: u64 = 0x7f;
}

/// Whether a stream of this type is a subgroup's.
pub(super) const fn are_flags(flags: u64) -> bool {
    flags <= flag::MAX && flags & flag::SUBGROUP != 0 && flags & flag::MODE != flag::MODE
}

impl SubgroupHeader {
    fn parse(scan: &mut Scan<'_>) -> Result<Self, Shortfall> {
        let flags = scan.varint()?;
        if !are_flags(flags) {
            return Err(Violation::SubgroupFlags.into());
        }
        Ok(Self {
            track_alias: TrackAlias(scan.varint()?),
            group: GroupId(scan.varint()?),
            subgroup: match flags & flag::MODE {
                flag::MODE_FIRST_OBJECT => SubgroupMode::FirstObject,
                flag::MODE_EXPLICIT => SubgroupMode::Explicit(SubgroupId(scan.varint()?)),
                _ => SubgroupMode::Zero,
            },
            priority: if flags & flag::DEFAULT_PRIORITY == 0 { Some(scan.u8()?) } else { None },
            properties: flags & flag::PROPERTIES != 0,
            end_of_group: flags & flag::END_OF_GROUP != 0,
            first_object: flags & flag::FIRST_OBJECT != 0,
        })
    }

    /// Appends the header.
    pub fn encode(&self, out: &mut BytesMut) {
        let (mode, subgroup) = match self.subgroup {
            SubgroupMode::Zero => (0, None),
            SubgroupMode::FirstObject => (flag::MODE_FIRST_OBJECT, None),
            SubgroupMode::Explicit(subgroup) => (flag::MODE_EXPLICIT, Some(subgroup)),
        };
        let bits = [
            (self.properties, flag::PROPERTIES),
            (self.end_of_group, flag::END_OF_GROUP),
            (self.priority.is_none(), flag::DEFAULT_PRIORITY),
            (self.first_object, flag::FIRST_OBJECT),
        ];
        varint::encode(flags(flag::SUBGROUP | mode, bits), out);
        varint::encode(self.track_alias.0, out);
        varint::encode(self.group.0, out);
        if let Some(subgroup) = subgroup {
            varint::encode(subgroup.0, out);
        }
        if let Some(priority) = self.priority {
            out.put_u8(priority);
        }
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

/// Reads a subgroup stream chunk by chunk. Payload is never copied; a header that is split over
/// chunks is, into a buffer that grows with what arrives.
#[derive(Debug, Default)]
pub struct Decoder {
    inbox: Inbox,
    state: State,
    has_properties: bool,
    previous: Option<ObjectId>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Header,
    Object,
    Payload {
        /// Bytes to come; not 0.
        left: u64,
    },
}

/// What an object's header says, and where its properties lie in it.
struct ObjectFields {
    object: ObjectId,
    properties: Range<usize>,
    payload_length: u64,
    status: ObjectStatus,
}

impl ObjectFields {
    fn parse(
        scan: &mut Scan<'_>,
        has_properties: bool,
        previous: Option<ObjectId>,
    ) -> Result<Self, Shortfall> {
        let delta = scan.varint()?;
        let object = match previous {
            None => Some(delta),
            Some(ObjectId(previous)) => {
                previous.checked_add(1).and_then(|next| next.checked_add(delta))
            }
        };
        let object = ObjectId(object.ok_or(Violation::ObjectIdOverflow)?);
        let properties = if has_properties { parse_properties(scan)? } else { 0..0 };
        let payload_length = scan.varint()?;
        let status = if payload_length == 0 {
            ObjectStatus::from_code(scan.varint()?)?
        } else {
            ObjectStatus::Normal
        };
        if status != ObjectStatus::Normal && !properties.is_empty() {
            return Err(Violation::StatusWithProperties.into());
        }
        Ok(Self { object, properties, payload_length, status })
    }
}

/// Where an object's properties lie: their length stands before them.
pub(super) fn parse_properties(scan: &mut Scan<'_>) -> Result<Range<usize>, Shortfall> {
    let length = scan.varint()?;
    if PROPERTIES_LENGTH_MAX < length {
        return Err(Violation::PropertiesTooLong.into());
    }
    scan.bytes(length)
}

impl Decoder {
    /// A decoder at a stream's first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands over the stream's next bytes.
    pub fn push(&mut self, chunk: Bytes) {
        self.inbox.push(chunk);
    }

    /// The next item; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// If the bytes are no subgroup stream. The decoder is of no use after it.
    pub fn poll(&mut self) -> Result<Option<Item>, DecodeError> {
        match self.state {
            State::Header => self.poll_header(),
            State::Object => self.poll_object(),
            State::Payload { left } => Ok(self.poll_payload(left)),
        }
    }

    fn poll_header(&mut self) -> Result<Option<Item>, DecodeError> {
        let Some(head) = self.inbox.poll_header(SubgroupHeader::parse)? else { return Ok(None) };
        let (header, _) = self.inbox.take_head(head);
        self.has_properties = header.properties;
        self.state = State::Object;
        Ok(Some(Item::Header(header)))
    }

    fn poll_object(&mut self) -> Result<Option<Item>, DecodeError> {
        let (has_properties, previous) = (self.has_properties, self.previous);
        let parse = |scan: &mut Scan<'_>| ObjectFields::parse(scan, has_properties, previous);
        let Some(head) = self.inbox.poll_header(parse)? else { return Ok(None) };
        let (fields, wire, payload, wire_has_payload) = match head {
            Head::InChunk { fields, length } => {
                let wire = self.inbox.take(fields.payload_length.saturating_add(length as u64));
                let payload = wire.slice(length..);
                (fields, wire, payload, true)
            }
            Head::Assembled { fields, wire } => {
                let payload = self.inbox.take(fields.payload_length);
                (fields, wire, payload, false)
            }
        };
        let header = ObjectHeader {
            object: fields.object,
            properties: Properties::decode_object(wire.slice(fields.properties))?,
            payload_length: fields.payload_length,
            status: fields.status,
        };
        self.previous = Some(fields.object);
        let last = self.expect_payload(fields.payload_length - payload.len() as u64);
        Ok(Some(Item::Object { header, wire, wire_has_payload, payload, last }))
    }

    fn poll_payload(&mut self, left: u64) -> Option<Item> {
        let bytes = self.inbox.poll_payload(left)?;
        let last = self.expect_payload(left - bytes.len() as u64);
        Some(Item::Payload { bytes, last })
    }

    /// Whether an object with `left` bytes to come is complete.
    const fn expect_payload(&mut self, left: u64) -> bool {
        self.state = if left == 0 { State::Object } else { State::Payload { left } };
        left == 0
    }

    /// The stream's end is reached, and `poll` has said `None`.
    ///
    /// # Errors
    /// If it lies inside the header or an object.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.state {
            State::Object if self.inbox.is_empty() => Ok(()),
            State::Header | State::Object | State::Payload { .. } => {
                Err(Violation::StreamTruncated.into())
            }
        }
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
        Self::after(properties, None)
    }

    /// An encoder for a stream that already has the objects up to `previous`.
    pub const fn after(properties: bool, previous: Option<ObjectId>) -> Self {
        Self { properties, previous }
    }

    /// Appends an object up to its payload, which the caller sends after it. Nothing is appended
    /// if there is an error.
    ///
    /// # Errors
    /// If objects do not ascend, one has properties that the stream has no place for, or a status
    /// and a payload or properties.
    pub fn object(&mut self, object: &ObjectHeader, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.previous.is_some_and(|previous| object.object <= previous) {
            return Err(EncodeError::NotAscending);
        }
        if !self.properties && !object.properties.is_empty() {
            return Err(EncodeError::Unsupported("a property in this stream"));
        }
        let has_content = 0 < object.payload_length || !object.properties.is_empty();
        if object.status != ObjectStatus::Normal && has_content {
            return Err(EncodeError::OutOfRange("status of an object with content"));
        }
        if PROPERTIES_LENGTH_MAX < object.properties.as_bytes().len() as u64 {
            return Err(EncodeError::TooLong("object properties"));
        }
        let next = self.previous.map_or(0, |previous| previous.0 + 1);
        varint::encode(object.object.0 - next, out);
        if self.properties {
            varint::encode(object.properties.as_bytes().len() as u64, out);
            out.put_slice(object.properties.as_bytes());
        }
        varint::encode(object.payload_length, out);
        if object.payload_length == 0 {
            varint::encode(object.status.code(), out);
        }
        self.previous = Some(object.object);
        Ok(())
    }
}

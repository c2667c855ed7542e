//! Datagrams (draft-22 section 11.2.1): one object each, or padding.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    id::{GroupId, ObjectId, TrackAlias},
    property::Properties,
    stream::{flags, subgroup::ObjectStatus},
    varint,
};
use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError, Violation},
};

/// The type of a datagram of padding, which is thrown away.
pub const PADDING: u64 = 0x132b_3e29;

/// A datagram.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Datagram {
    /// An object.
    Object(ObjectDatagram),
    /// Nothing.
    Padding,
}

/// OBJECT_DATAGRAM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectDatagram {
    /// The track.
    pub track_alias: TrackAlias,
    /// The group.
    pub group: GroupId,
    /// The object's number.
    pub object: ObjectId,
    /// The publisher's priority, lower is sooner; `None` is the track's default.
    pub priority: Option<u8>,
    /// Whether the object is its group's last.
    pub end_of_group: bool,
    /// Its properties.
    pub properties: Properties,
    /// What it holds.
    pub content: Content,
}

/// What an object in a datagram holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// Bytes, which may be none; a slice of the datagram.
    Payload(Bytes),
    /// No bytes, but what it is.
    Status(ObjectStatus),
}

/// Bits of a datagram's type flags.
mod flag {
    pub(super) const PROPERTIES: u64 = 0x01;
    pub(super) const END_OF_GROUP: u64 = 0x02;
    pub(super) const ZERO_OBJECT_ID: u64 = 0x04;
    pub(super) const DEFAULT_PRIORITY: u64 = 0x08;
    pub(super) const STATUS: u64 = 0x20;
    pub(super) const ALL: u64 =
        PROPERTIES | END_OF_GROUP | ZERO_OBJECT_ID | DEFAULT_PRIORITY | STATUS;
}

impl Datagram {
    /// What the datagram `datagram` is; payload and properties are slices of it.
    ///
    /// # Errors
    /// A [`Violation`] if it is none; never [`DecodeError::Incomplete`].
    pub fn decode(datagram: Bytes) -> Result<Self, DecodeError> {
        ObjectDatagram::decode_cursor(&mut Cursor::new(datagram))
            .map_err(|error| error.or_if_incomplete(Violation::DatagramTruncated))
    }
}

impl ObjectDatagram {
    /// What the datagram `datagram` is; payload and properties are slices of it.
    ///
    /// # Errors
    /// A [`Violation`] if it is none; never [`DecodeError::Incomplete`].
    pub fn decode(datagram: Bytes) -> Result<Datagram, DecodeError> {
        Datagram::decode(datagram)
    }

    fn decode_cursor(cursor: &mut Cursor) -> Result<Datagram, DecodeError> {
        let flags = cursor.varint()?;
        if flags == PADDING {
            return Ok(Datagram::Padding);
        }
        let is_set = |bit: u64| flags & bit != 0;
        if flags & !flag::ALL != 0 || is_set(flag::STATUS) && is_set(flag::END_OF_GROUP) {
            return Err(Violation::DatagramFlags.into());
        }
        let track_alias = TrackAlias(cursor.varint()?);
        let group = GroupId(cursor.varint()?);
        let object = if is_set(flag::ZERO_OBJECT_ID) { 0 } else { cursor.varint()? };
        let priority = if is_set(flag::DEFAULT_PRIORITY) { None } else { Some(cursor.u8()?) };
        let properties = if is_set(flag::PROPERTIES) {
            let block = cursor.length_prefixed()?;
            if block.is_empty() {
                return Err(Violation::DatagramPropertiesEmpty.into());
            }
            Properties::decode_object(block)?
        } else {
            Properties::empty()
        };
        let content = if is_set(flag::STATUS) {
            Content::Status(decode_status(cursor, &properties)?)
        } else {
            Content::Payload(cursor.rest())
        };
        Ok(Datagram::Object(Self {
            track_alias,
            group,
            object: ObjectId(object),
            priority,
            end_of_group: is_set(flag::END_OF_GROUP),
            properties,
            content,
        }))
    }

    /// Appends the datagram. Nothing is appended if there is an error.
    ///
    /// # Errors
    /// If it has a status and ends its group, or a status other than Normal and properties.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let status = match &self.content {
            Content::Status(status) => Some(*status),
            Content::Payload(_) => None,
        };
        if status.is_some() && self.end_of_group {
            return Err(EncodeError::OutOfRange("end of group beside a status"));
        }
        if status.is_some_and(|status| status != ObjectStatus::Normal)
            && !self.properties.is_empty()
        {
            return Err(EncodeError::OutOfRange("status of an object with properties"));
        }
        let bits = [
            (!self.properties.is_empty(), flag::PROPERTIES),
            (self.end_of_group, flag::END_OF_GROUP),
            (self.object.0 == 0, flag::ZERO_OBJECT_ID),
            (self.priority.is_none(), flag::DEFAULT_PRIORITY),
            (status.is_some(), flag::STATUS),
        ];
        varint::encode(flags(0, bits), out);
        varint::encode(self.track_alias.0, out);
        varint::encode(self.group.0, out);
        if self.object.0 != 0 {
            varint::encode(self.object.0, out);
        }
        if let Some(priority) = self.priority {
            out.put_u8(priority);
        }
        if !self.properties.is_empty() {
            varint::encode(self.properties.as_bytes().len() as u64, out);
            out.put_slice(self.properties.as_bytes());
        }
        match &self.content {
            Content::Payload(payload) => out.put_slice(payload),
            Content::Status(status) => varint::encode(status.code(), out),
        }
        Ok(())
    }
}

/// The status at a datagram's end.
fn decode_status(
    cursor: &mut Cursor,
    properties: &Properties,
) -> Result<ObjectStatus, DecodeError> {
    let status = ObjectStatus::from_code(cursor.varint()?)?;
    if status != ObjectStatus::Normal && !properties.is_empty() {
        return Err(Violation::StatusWithProperties.into());
    }
    if cursor.is_empty() { Ok(status) } else { Err(Violation::DatagramTrailing.into()) }
}

//! Datagrams (draft-22 section 11.2.1): one object each, or padding.

use bytes::{Bytes, BytesMut};

use super::{
    id::{GroupId, ObjectId, TrackAlias},
    property::Properties,
    stream::subgroup::ObjectStatus,
};
use crate::error::{DecodeError, EncodeError};

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

impl ObjectDatagram {
    /// The datagram `datagram`.
    ///
    /// # Errors
    /// A [`crate::Violation`] if it is none; never [`DecodeError::Incomplete`].
    pub fn decode(datagram: Bytes) -> Result<Datagram, DecodeError> {
        todo!("{datagram:?}")
    }

    /// Appends the datagram. Nothing is appended if there is an error.
    ///
    /// # Errors
    /// If it has a status and ends its group, or a status other than Normal and properties.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        todo!("{out:?}")
    }
}

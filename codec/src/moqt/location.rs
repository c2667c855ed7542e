//! A place in a track.

use bytes::BufMut;

use super::{
    id::{GroupId, ObjectId},
    varint,
};
use crate::{cursor::Cursor, error::DecodeError};

/// Group and object; ordered by group, then by object.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Location {
    /// The group.
    pub group: GroupId,
    /// The object in that group.
    pub object: ObjectId,
}

impl Location {
    /// The last location there can be.
    pub const MAX: Self = Self { group: GroupId(u64::MAX), object: ObjectId(u64::MAX) };

    /// Object `object` of group `group`.
    pub const fn new(group: u64, object: u64) -> Self {
        Self { group: GroupId(group), object: ObjectId(object) }
    }

    /// The same group's next object; saturates at the last one.
    pub const fn next_object(self) -> Self {
        Self { group: self.group, object: ObjectId(self.object.0.saturating_add(1)) }
    }

    /// The next location.
    ///
    /// # Errors
    /// [`DecodeError::Incomplete`] if the bytes end before it does.
    pub fn decode(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(Self::new(cursor.varint()?, cursor.varint()?))
    }

    /// Appends the location.
    pub fn encode(self, out: &mut impl BufMut) {
        varint::encode(self.group.0, out);
        varint::encode(self.object.0, out);
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.group, self.object)
    }
}

//! Track namespaces and full track names (draft-22 sections 2.4.1 and 8.7).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::varint;
use crate::{
    cursor::Cursor,
    error::{DecodeError, Violation},
};

/// Fields that a namespace may have.
pub const NAMESPACE_FIELDS_MAX: u64 = 32;
/// Bytes that a namespace's fields, or those and the track's name, may have in all.
pub const FULL_TRACK_NAME_LENGTH_MAX: usize = 4096;

/// A tuple of byte strings: a namespace, a prefix of one, or a suffix.
///
/// Held as its canonical encoding, so that equal tuples are equal bytes. At most 32 fields, none
/// empty, 4,096 bytes in all.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TrackNamespace {
    /// Each field as length and bytes, minimally encoded, without the count.
    fields: Bytes,
    count: u8,
}

/// Why a tuple or a name is not one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// More than 32 fields.
    #[error("a namespace has at most 32 fields")]
    TooManyFields,
    /// A field without bytes.
    #[error("a namespace field must not be empty")]
    EmptyField,
    /// More than 4,096 bytes.
    #[error("a full track name has at most 4,096 bytes")]
    TooLong,
}

impl TrackNamespace {
    /// The tuple of these fields.
    ///
    /// # Errors
    /// If there are more than 32, one is empty, or they have more than 4,096 bytes together.
    pub fn new<F: AsRef<[u8]>>(fields: impl IntoIterator<Item = F>) -> Result<Self, NameError> {
        let mut encoded = BytesMut::new();
        let mut count = 0u8;
        let mut length = 0;
        for field in fields {
            let field = field.as_ref();
            if u64::from(count) == NAMESPACE_FIELDS_MAX {
                return Err(NameError::TooManyFields);
            }
            if field.is_empty() {
                return Err(NameError::EmptyField);
            }
            length += field.len();
            if FULL_TRACK_NAME_LENGTH_MAX < length {
                return Err(NameError::TooLong);
            }
            count += 1;
            varint::encode(field.len() as u64, &mut encoded);
            encoded.put_slice(field);
        }
        Ok(Self { fields: encoded.freeze(), count })
    }

    /// The fields, first to last.
    pub fn fields(&self) -> Fields<'_> {
        Fields { rest: &self.fields }
    }

    /// Number of fields.
    pub const fn field_count(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no field: the root, of which every namespace is a part.
    pub const fn is_root(&self) -> bool {
        self.count == 0
    }

    /// Bytes in all fields together.
    pub fn length(&self) -> usize {
        self.fields().map(<[u8]>::len).sum()
    }

    /// Whether each field of `self` equals the field of `other` at the same place.
    pub fn is_prefix_of(&self, other: &Self) -> bool {
        other.fields.starts_with(&self.fields)
    }

    /// The fields of `self` after `prefix`; `None` if it is no prefix.
    pub fn strip_prefix(&self, prefix: &Self) -> Option<Self> {
        prefix.is_prefix_of(self).then(|| Self {
            fields: self.fields.slice(prefix.fields.len()..),
            count: self.count - prefix.count,
        })
    }

    /// `self` followed by `suffix`.
    ///
    /// # Errors
    /// If that has too many fields or bytes.
    pub fn join(&self, suffix: &Self) -> Result<Self, NameError> {
        Self::new(self.fields().chain(suffix.fields()))
    }

    /// The next tuple, copied: a name lives long, and must not keep a receive buffer alive.
    ///
    /// # Errors
    /// If the bytes end before it does, or it breaks one of [`NameError`]'s rules.
    pub fn decode(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        let count = match u8::try_from(cursor.varint()?) {
            Ok(count) if u64::from(count) <= NAMESPACE_FIELDS_MAX => count,
            _ => return Err(Violation::NamespaceTooManyFields.into()),
        };
        let mut encoded = BytesMut::with_capacity(Self::encoded_length(cursor.clone(), count)?);
        for _ in 0..count {
            let field = cursor.length_prefixed()?;
            varint::encode(field.len() as u64, &mut encoded);
            encoded.put_slice(&field);
        }
        Ok(Self { fields: encoded.freeze(), count })
    }

    /// Bytes that the next `count` fields take in the canonical encoding.
    fn encoded_length(mut cursor: Cursor, count: u8) -> Result<usize, DecodeError> {
        let mut length = 0;
        let mut encoded_length = 0;
        for _ in 0..count {
            let field_length = cursor.varint()?;
            if field_length == 0 {
                return Err(Violation::NamespaceFieldEmpty.into());
            }
            length = field_length.saturating_add(length);
            if (FULL_TRACK_NAME_LENGTH_MAX as u64) < length {
                return Err(Violation::NameTooLong.into());
            }
            let field = cursor.bytes(field_length)?;
            encoded_length += varint::size(field_length) + field.len();
        }
        Ok(encoded_length)
    }

    /// Appends the tuple.
    pub fn encode(&self, out: &mut impl BufMut) {
        varint::encode(u64::from(self.count), out);
        out.put_slice(&self.fields);
    }
}

/// The fields of a [`TrackNamespace`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, size) = varint::decode(self.rest).ok()?;
        let end = size.checked_add(usize::try_from(length).ok()?)?;
        let field = self.rest.get(size..end)?;
        self.rest = self.rest.get(end..)?;
        Some(field)
    }
}

/// A namespace and a name in it: what a track is called everywhere.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FullTrackName {
    namespace: TrackNamespace,
    name: Bytes,
}

impl FullTrackName {
    /// The track `name` of `namespace`.
    ///
    /// # Errors
    /// If both together have more than 4,096 bytes.
    pub fn new(namespace: TrackNamespace, name: Bytes) -> Result<Self, NameError> {
        if FULL_TRACK_NAME_LENGTH_MAX < namespace.length() + name.len() {
            return Err(NameError::TooLong);
        }
        Ok(Self { namespace, name })
    }

    /// The namespace.
    pub const fn namespace(&self) -> &TrackNamespace {
        &self.namespace
    }

    /// The name in its namespace; may be empty.
    pub const fn name(&self) -> &Bytes {
        &self.name
    }

    /// The namespace and the name.
    pub fn into_parts(self) -> (TrackNamespace, Bytes) {
        (self.namespace, self.name)
    }

    /// The next full track name, copied: a name lives long, and must not keep a receive buffer
    /// alive.
    ///
    /// # Errors
    /// If the bytes end before it does, or it breaks one of [`NameError`]'s rules.
    #[expect(clippy::disallowed_methods, reason = "a name outlives the buffer it came in")]
    pub fn decode(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        let namespace = TrackNamespace::decode(cursor)?;
        let name_length = cursor.varint()?;
        if (FULL_TRACK_NAME_LENGTH_MAX as u64)
            < name_length.saturating_add(namespace.length() as u64)
        {
            return Err(Violation::NameTooLong.into());
        }
        let name = Bytes::copy_from_slice(&cursor.bytes(name_length)?);
        Ok(Self { namespace, name })
    }

    /// Appends the full track name.
    pub fn encode(&self, out: &mut impl BufMut) {
        self.namespace.encode(out);
        varint::encode(self.name.len() as u64, out);
        out.put_slice(&self.name);
    }
}

/// Writes one field in the draft's recommended rendering: `[A-Za-z0-9_]` as is, else `.xx`.
fn render(bytes: &[u8], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            write!(formatter, "{}", char::from(byte))?;
        } else {
            write!(formatter, ".{byte:02x}")?;
        }
    }
    Ok(())
}

impl fmt::Display for TrackNamespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, field) in self.fields().enumerate() {
            if 0 < index {
                formatter.write_str("-")?;
            }
            render(field, formatter)?;
        }
        Ok(())
    }
}

impl fmt::Display for FullTrackName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}--", self.namespace)?;
        render(&self.name, formatter)
    }
}

impl fmt::Debug for TrackNamespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TrackNamespace({self})")
    }
}

impl fmt::Debug for FullTrackName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FullTrackName({self})")
    }
}

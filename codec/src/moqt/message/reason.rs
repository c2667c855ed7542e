//! Reason phrases (draft-22 section 8.5).

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{
    cursor::Cursor,
    error::{DecodeError, Violation},
    moqt::varint,
};

/// Bytes that a reason phrase may have.
pub const REASON_LENGTH_MAX: usize = 1024;

/// Why something failed, for people: at most 1,024 bytes of what should be UTF-8.
///
/// A peer's bytes are kept as they are, since nothing depends on them.
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct Reason(Bytes);

impl Reason {
    /// As much of `text` as fits.
    pub fn new(text: &str) -> Self {
        Self(Bytes::from(text[..text.floor_char_boundary(REASON_LENGTH_MAX)].to_owned()))
    }

    /// The text, up to the first byte that is not UTF-8. Unescaped: not for logs.
    pub fn as_str(&self) -> &str {
        self.0.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }

    /// The bytes as they came.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Whether there is no text.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn decode(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        let length = cursor.varint()?;
        if (REASON_LENGTH_MAX as u64) < length {
            return Err(Violation::ReasonTooLong.into());
        }
        cursor.bytes(length).map(Self)
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        varint::encode(self.0.len() as u64, out);
        out.put_slice(&self.0);
    }
}

/// The text with control characters, quotes and what is not UTF-8 escaped: safe in a log.
impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            write!(formatter, "{}", chunk.valid().escape_debug())?;
            for byte in chunk.invalid() {
                write!(formatter, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{self}\"")
    }
}

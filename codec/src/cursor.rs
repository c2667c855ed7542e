//! A reader over bytes that are there.

use bytes::{Buf as _, Bytes};

use crate::{
    error::{DecodeError, Violation},
    moqt::varint,
};

/// Reads values off the front of a [`Bytes`]. What it hands out are slices, not copies.
#[derive(Clone, Debug)]
pub struct Cursor {
    bytes: Bytes,
}

impl Cursor {
    /// A reader of all of `bytes`.
    pub const fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// The next variable-length integer.
    ///
    /// # Errors
    /// [`DecodeError::Incomplete`] if the bytes end before it does.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let (value, size) = varint::decode(&self.bytes)?;
        self.bytes.advance(size);
        Ok(value)
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`DecodeError::Incomplete`] if there is none.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.bytes.try_get_u8().map_err(|_| DecodeError::Incomplete)
    }

    /// The next `length` bytes, as a slice.
    ///
    /// # Errors
    /// [`DecodeError::Incomplete`] if there are fewer.
    pub fn bytes(&mut self, length: u64) -> Result<Bytes, DecodeError> {
        match usize::try_from(length) {
            Ok(length) if length <= self.bytes.len() => Ok(self.bytes.split_to(length)),
            _ => Err(DecodeError::Incomplete),
        }
    }

    /// The next bytes, whose length stands before them as a variable-length integer.
    ///
    /// # Errors
    /// [`DecodeError::Incomplete`] if the bytes end before they do.
    pub fn length_prefixed(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.varint()?;
        self.bytes(length)
    }

    /// Bytes not read yet.
    pub const fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Whether everything is read.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is not read yet, without reading it.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Everything not read yet, as a slice; nothing is left.
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes)
    }
}

/// The value that `read` makes of exactly these bytes.
///
/// # Errors
/// What `read` says; `violation` if the bytes are too few or too many.
pub(crate) fn exactly<T>(
    bytes: Bytes,
    violation: Violation,
    read: impl FnOnce(&mut Cursor) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let value = read(&mut cursor).map_err(|error| error.or_if_incomplete(violation))?;
    if cursor.is_empty() { Ok(value) } else { Err(violation.into()) }
}

//! Key-value pairs (draft-22 section 8.3): ascending types, an integer for an even one, bytes for
//! an odd one.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::varint;
use crate::error::{DecodeError, EncodeError, Violation};

/// Bytes that a pair's value may have.
pub const VALUE_LENGTH_MAX: usize = 65_535;

/// One pair.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyValue {
    /// What the pair is about; even for an integer, odd for bytes.
    pub key_type: u64,
    /// Its value.
    pub value: Value,
}

/// A pair's value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// Of an even type.
    Integer(u64),
    /// Of an odd type; at most 65,535 bytes.
    Bytes(Bytes),
}

/// A value that borrows from its block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ValueRef<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
}

/// The pairs of a block, borrowed. Ends after the first error.
#[derive(Clone, Debug)]
pub(crate) struct PairsRef<'a> {
    rest: &'a [u8],
    previous_type: u64,
}

impl<'a> PairsRef<'a> {
    pub(crate) const fn new(block: &'a [u8]) -> Self {
        Self { rest: block, previous_type: 0 }
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let (value, size) = varint::decode(self.rest)
            .map_err(|error| error.or_if_incomplete(Violation::KeyValueTruncated))?;
        self.rest = &self.rest[size..];
        Ok(value)
    }

    fn pair(&mut self) -> Result<(u64, ValueRef<'a>), DecodeError> {
        let delta = self.varint()?;
        let key_type = self.previous_type.checked_add(delta).ok_or(Violation::KeyTypeOverflow)?;
        self.previous_type = key_type;
        let integer_or_length = self.varint()?;
        if key_type % 2 == 0 {
            return Ok((key_type, ValueRef::Integer(integer_or_length)));
        }
        if (VALUE_LENGTH_MAX as u64) < integer_or_length {
            return Err(Violation::KeyValueTooLong.into());
        }
        let length = usize::try_from(integer_or_length).unwrap_or(usize::MAX);
        let Some((value, rest)) = self.rest.split_at_checked(length) else {
            return Err(Violation::KeyValueTruncated.into());
        };
        self.rest = rest;
        Ok((key_type, ValueRef::Bytes(value)))
    }
}

impl<'a> Iterator for PairsRef<'a> {
    type Item = Result<(u64, ValueRef<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let pair = self.pair();
        if pair.is_err() {
            self.rest = &[];
        }
        Some(pair)
    }
}

/// The pairs of a block, which are slices of it. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    block: &'a Bytes,
    pairs: PairsRef<'a>,
}

impl<'a> Pairs<'a> {
    /// The pairs of `block`.
    pub fn new(block: &'a Bytes) -> Self {
        Self { block, pairs: PairsRef::new(block) }
    }
}

impl Iterator for Pairs<'_> {
    type Item = Result<KeyValue, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.pairs.next()?;
        Some(pair.map(|(key_type, value)| {
            let value = match value {
                ValueRef::Integer(integer) => Value::Integer(integer),
                ValueRef::Bytes(bytes) => Value::Bytes(self.block.slice_ref(bytes)),
            };
            KeyValue { key_type, value }
        }))
    }
}

/// Makes a block of pairs, in whatever order they are given; pairs of one type keep theirs.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pairs: Vec<KeyValue>,
}

impl Builder {
    /// A block without pairs.
    pub const fn new() -> Self {
        Self { pairs: Vec::new() }
    }

    /// Adds an integer; `key_type` is even.
    #[must_use]
    pub fn integer(self, key_type: u64, value: u64) -> Self {
        self.pair(KeyValue { key_type, value: Value::Integer(value) })
    }

    /// Adds bytes; `key_type` is odd.
    #[must_use]
    pub fn bytes(self, key_type: u64, value: impl Into<Bytes>) -> Self {
        self.pair(KeyValue { key_type, value: Value::Bytes(value.into()) })
    }

    /// Adds a pair.
    #[must_use]
    pub fn pair(mut self, pair: KeyValue) -> Self {
        self.pairs.push(pair);
        self
    }

    /// The block.
    ///
    /// # Errors
    /// If a type's parity is not its value's, or bytes are more than 65,535.
    pub fn build(self) -> Result<Bytes, EncodeError> {
        let mut out = BytesMut::new();
        self.encode(&mut out)?;
        Ok(out.freeze())
    }

    /// Appends the block to `out`.
    pub(crate) fn encode(mut self, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.pairs.sort_by_key(|pair| pair.key_type);
        let mut previous_type = 0;
        for KeyValue { key_type, value } in self.pairs {
            varint::encode(key_type - previous_type, out);
            previous_type = key_type;
            match value {
                Value::Integer(integer) if key_type % 2 == 0 => varint::encode(integer, out),
                Value::Bytes(bytes) if key_type % 2 == 1 => {
                    if VALUE_LENGTH_MAX < bytes.len() {
                        return Err(EncodeError::TooLong("key-value value"));
                    }
                    varint::encode(bytes.len() as u64, out);
                    out.put_slice(&bytes);
                }
                Value::Integer(_) | Value::Bytes(_) => {
                    return Err(EncodeError::OutOfRange("key-value type's parity"));
                }
            }
        }
        Ok(())
    }
}

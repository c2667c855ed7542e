//! The setup option AIP (0x4A1), which offers CALL.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{
    cursor::exactly,
    error::{DecodeError, Violation},
    moqt::varint,
};

/// The profile spoken here.
pub const PROFILE_VERSION: u8 = 1;

/// What an end offers: both offer it, or there is no CALL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AipOption {
    /// The profile's version; 1 is [`PROFILE_VERSION`].
    pub profile_version: u8,
    /// Content types offered besides `json`, most wanted first.
    pub content_types: Vec<Bytes>,
}

impl Default for AipOption {
    fn default() -> Self {
        Self { profile_version: PROFILE_VERSION, content_types: Vec::new() }
    }
}

impl AipOption {
    /// The option whose value is `value`.
    ///
    /// # Errors
    /// If it is empty, or its content types are cut short.
    pub fn decode(value: Bytes) -> Result<Self, DecodeError> {
        exactly(value, Violation::AipOption, |cursor| {
            let profile_version = cursor.u8()?;
            let mut content_types = Vec::new();
            while !cursor.is_empty() {
                content_types.push(cursor.length_prefixed()?);
            }
            Ok(Self { profile_version, content_types })
        })
    }

    /// The option's value.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(self.profile_version);
        for content_type in &self.content_types {
            varint::encode(content_type.len() as u64, &mut out);
            out.put_slice(content_type);
        }
        out.freeze()
    }
}

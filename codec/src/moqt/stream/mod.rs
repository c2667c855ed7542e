//! Unidirectional streams (draft-22 sections 11.3 to 11.5): which kind one is, and what it holds.

pub mod fetch;
pub mod subgroup;

use super::{message::MessageType, varint};
use crate::error::{DecodeError, Violation};

/// The type of a stream of padding, which is read and thrown away.
pub const PADDING: u64 = 0x132b_3e28;

/// What a unidirectional stream holds.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StreamType {
    /// Control messages, SETUP first.
    Control,
    /// A FETCH's objects, or a fill's.
    Fetch,
    /// A subgroup's objects.
    Subgroup,
    /// Zeros.
    Padding,
}

impl StreamType {
    /// The type of the stream that begins with `bytes`. Looks at its first integer, which belongs
    /// to what the stream holds: the stream's own decoder wants it too.
    ///
    /// # Errors
    /// [`DecodeError::Incomplete`] if that is cut short, [`Violation::UnknownStreamType`] if there
    /// is no such type.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const CONTROL: u64 = MessageType::Setup.code();
        let (stream_type, _) = varint::decode(bytes)?;
        match stream_type {
            CONTROL => Ok(Self::Control),
            fetch::STREAM_TYPE => Ok(Self::Fetch),
            PADDING => Ok(Self::Padding),
            flags if subgroup::are_flags(flags) => Ok(Self::Subgroup),
            _ => Err(Violation::UnknownStreamType.into()),
        }
    }
}

/// `base` with each bit whose condition holds.
pub(super) fn flags<const N: usize>(base: u64, bits: [(bool, u64); N]) -> u64 {
    bits.into_iter().fold(base, |flags, (is_set, bit)| if is_set { flags | bit } else { flags })
}

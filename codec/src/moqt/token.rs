//! Authorization tokens (draft-22 section 8.9).

use bytes::{BufMut, Bytes};

use super::varint;
use crate::{
    cursor::{Cursor, exactly},
    error::{DecodeError, Violation},
};

const DELETE: u64 = 0;
const REGISTER: u64 = 1;
const USE_ALIAS: u64 = 2;
const USE_VALUE: u64 = 3;

/// An AUTHORIZATION_TOKEN's structure.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Token {
    /// Forget an alias.
    Delete {
        /// The alias.
        alias: u64,
    },
    /// Use this token and remember it under an alias.
    Register {
        /// The alias.
        alias: u64,
        /// What kind of token it is: 0 out of band, 1 C4M.
        token_type: u64,
        /// The token.
        value: Bytes,
    },
    /// Use the token remembered under an alias.
    UseAlias {
        /// The alias.
        alias: u64,
    },
    /// Use this token, once.
    UseValue {
        /// What kind of token it is: 0 out of band, 1 C4M.
        token_type: u64,
        /// The token.
        value: Bytes,
    },
}

impl Token {
    /// The token whose structure is `bytes`, all of it.
    ///
    /// # Errors
    /// [`Violation::TokenMalformed`] if it is none.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        exactly(bytes, Violation::TokenMalformed, |cursor| match cursor.varint()? {
            DELETE => Ok(Self::Delete { alias: cursor.varint()? }),
            REGISTER => {
                let alias = cursor.varint()?;
                let (token_type, value) = Self::decode_value(cursor)?;
                Ok(Self::Register { alias, token_type, value })
            }
            USE_ALIAS => Ok(Self::UseAlias { alias: cursor.varint()? }),
            USE_VALUE => {
                let (token_type, value) = Self::decode_value(cursor)?;
                Ok(Self::UseValue { token_type, value })
            }
            _ => Err(Violation::TokenMalformed.into()),
        })
    }

    fn decode_value(cursor: &mut Cursor) -> Result<(u64, Bytes), DecodeError> {
        Ok((cursor.varint()?, cursor.rest()))
    }

    /// Bytes of the token's structure.
    pub const fn encoded_length(&self) -> usize {
        // Every alias type is one byte.
        match self {
            Self::Delete { alias } | Self::UseAlias { alias } => 1 + varint::size(*alias),
            Self::Register { alias, token_type, value } => {
                1 + varint::size(*alias) + varint::size(*token_type) + value.len()
            }
            Self::UseValue { token_type, value } => 1 + varint::size(*token_type) + value.len(),
        }
    }

    /// Appends the token's structure.
    pub fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Delete { alias } => {
                varint::encode(DELETE, out);
                varint::encode(*alias, out);
            }
            Self::Register { alias, token_type, value } => {
                varint::encode(REGISTER, out);
                varint::encode(*alias, out);
                varint::encode(*token_type, out);
                out.put_slice(value);
            }
            Self::UseAlias { alias } => {
                varint::encode(USE_ALIAS, out);
                varint::encode(*alias, out);
            }
            Self::UseValue { token_type, value } => {
                varint::encode(USE_VALUE, out);
                varint::encode(*token_type, out);
                out.put_slice(value);
            }
        }
    }
}

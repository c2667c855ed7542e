//! SETUP (draft-22 section 9.1): the control stream's first message.

use bytes::{Bytes, BytesMut};

use crate::{
    aip::setup_option::AipOption,
    cursor::Cursor,
    error::{DecodeError, EncodeError},
    moqt::{key_value::KeyValue, token::Token, version::Version},
};

/// What an end says of itself. The default is an empty SETUP.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Setup {
    /// Path and query; from a client over raw QUIC only.
    pub path: Option<Bytes>,
    /// Host and port; from a client over raw QUIC only.
    pub authority: Option<Bytes>,
    /// Tokens for the session as a whole.
    pub tokens: Vec<Token>,
    /// Bytes of tokens that the sender remembers by alias. 0.
    pub max_auth_token_cache_size: u64,
    /// Ranges that one request to the sender may have in its filters; 0 forbids filters. 0 in
    /// draft 18, which has no such option.
    pub max_filter_ranges: u64,
    /// The implementation's name and version, which should be UTF-8.
    pub implementation: Option<Bytes>,
    /// Updates of one request that may wait for the sender's answer; 0 is no limit. 0 in draft
    /// 18, which has no such option.
    pub max_request_updates: u64,
    /// The offer of CALL.
    pub aip: Option<AipOption>,
    /// Options that are not understood, in the order of their types.
    pub unknown: Vec<KeyValue>,
}

impl Setup {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        todo!("{version:?} {body:?}")
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        todo!("{version:?} {out:?}")
    }
}

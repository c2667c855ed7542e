//! SETUP (draft-22 section 9.1): the control stream's first message.

use bytes::{Bytes, BytesMut};

use crate::{
    aip::{hops::RelayId, setup_option::AipOption},
    cursor::Cursor,
    error::{DecodeError, EncodeError, Violation},
    moqt::{
        key_value::{Builder, KeyValue, Pairs, Value},
        setup_option::{
            AIP, AUTHORITY, AUTHORIZATION_TOKEN, MAX_AUTH_TOKEN_CACHE_SIZE, MAX_FILTER_RANGES,
            MAX_REQUEST_UPDATES, MOQT_IMPLEMENTATION, PATH, RELAY_ID,
        },
        token::Token,
        version::Version,
    },
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
    /// The sender's number as a relay that speaks HOPS and COST; never [`RelayId::UNKNOWN`].
    pub relay_id: Option<RelayId>,
    /// Options that are not understood, in the order of their types.
    pub unknown: Vec<KeyValue>,
}

impl Setup {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        let block = body.rest();
        let mut setup = Self::default();
        let mut previous_type = None;
        for pair in Pairs::new(&block) {
            let pair = pair?;
            let repeats = previous_type.replace(pair.key_type) == Some(pair.key_type);
            if repeats && is_known(version, pair.key_type) && pair.key_type != AUTHORIZATION_TOKEN {
                return Err(Violation::SetupOptionDuplicate.into());
            }
            setup.set(version, pair)?;
        }
        Ok(setup)
    }

    fn set(&mut self, version: Version, option: KeyValue) -> Result<(), DecodeError> {
        match (option.key_type, option.value) {
            (PATH, Value::Bytes(path)) => self.path = Some(path),
            (AUTHORITY, Value::Bytes(authority)) => self.authority = Some(authority),
            (AUTHORIZATION_TOKEN, Value::Bytes(token)) => self.tokens.push(Token::decode(token)?),
            (MAX_AUTH_TOKEN_CACHE_SIZE, Value::Integer(size)) => {
                self.max_auth_token_cache_size = size;
            }
            (MAX_FILTER_RANGES, Value::Integer(count)) if Version::Draft19 <= version => {
                self.max_filter_ranges = count;
            }
            (MAX_REQUEST_UPDATES, Value::Integer(count)) if Version::Draft19 <= version => {
                self.max_request_updates = count;
            }
            (MOQT_IMPLEMENTATION, Value::Bytes(name)) => self.implementation = Some(name),
            (AIP, Value::Bytes(value)) => self.aip = Some(AipOption::decode(value)?),
            (RELAY_ID, Value::Integer(relay)) => {
                self.relay_id = Some(RelayId(relay)).filter(|relay| *relay != RelayId::UNKNOWN);
            }
            (key_type, value) => self.unknown.push(KeyValue { key_type, value }),
        }
        Ok(())
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let mut options = Builder::new();
        for (key_type, value) in [
            (PATH, &self.path),
            (AUTHORITY, &self.authority),
            (MOQT_IMPLEMENTATION, &self.implementation),
        ] {
            if let Some(value) = value {
                options = options.bytes(key_type, value.clone());
            }
        }
        for token in &self.tokens {
            let mut value = BytesMut::with_capacity(token.encoded_length());
            token.encode(&mut value);
            options = options.bytes(AUTHORIZATION_TOKEN, value);
        }
        for (key_type, value) in [
            (MAX_AUTH_TOKEN_CACHE_SIZE, self.max_auth_token_cache_size),
            (MAX_FILTER_RANGES, self.max_filter_ranges),
            (MAX_REQUEST_UPDATES, self.max_request_updates),
        ] {
            if value == 0 {
                continue;
            }
            if !is_known(version, key_type) {
                return Err(EncodeError::Unsupported("a limit in SETUP"));
            }
            options = options.integer(key_type, value);
        }
        if let Some(aip) = &self.aip {
            options = options.bytes(AIP, aip.encode());
        }
        if let Some(relay) = self.relay_id {
            options = options.integer(RELAY_ID, relay.0);
        }
        for option in &self.unknown {
            if is_known(version, option.key_type) {
                return Err(EncodeError::OutOfRange("the type of an unknown setup option"));
            }
            options = options.pair(option.clone());
        }
        options.encode(out)
    }
}

/// Whether `key_type` is an option of this draft, or AIP's.
const fn is_known(version: Version, key_type: u64) -> bool {
    match key_type {
        PATH
        | AUTHORITY
        | AUTHORIZATION_TOKEN
        | MAX_AUTH_TOKEN_CACHE_SIZE
        | MOQT_IMPLEMENTATION
        | AIP
        | RELAY_ID => true,
        MAX_FILTER_RANGES | MAX_REQUEST_UPDATES => !matches!(version, Version::Draft18),
        _ => false,
    }
}

//! The types of SETUP's options (draft-22 section 9.1).

/// PATH, bytes: path and query; from a client over raw QUIC only.
pub const PATH: u64 = 0x01;
/// AUTHORIZATION_TOKEN, bytes; may repeat.
pub const AUTHORIZATION_TOKEN: u64 = 0x03;
/// MAX_AUTH_TOKEN_CACHE_SIZE, integer, bytes; absent is 0.
pub const MAX_AUTH_TOKEN_CACHE_SIZE: u64 = 0x04;
/// AUTHORITY, bytes: host and port; from a client over raw QUIC only.
pub const AUTHORITY: u64 = 0x05;
/// MAX_FILTER_RANGES, integer; absent is 0: no range filters. Drafts 19 and later.
pub const MAX_FILTER_RANGES: u64 = 0x06;
/// MOQT_IMPLEMENTATION, bytes: UTF-8.
pub const MOQT_IMPLEMENTATION: u64 = 0x07;
/// MAX_REQUEST_UPDATES, integer; absent or 0 is no limit. Drafts 19 and later.
pub const MAX_REQUEST_UPDATES: u64 = 0x08;
/// AIP, bytes: see [`crate::aip::setup_option::AipOption`].
pub const AIP: u64 = 0x4a1;
/// RELAY_ID, integer: AIP's; the sender is a relay of this number, see
/// [`crate::aip::hops::RelayId`]. Absent or 0 is none.
pub const RELAY_ID: u64 = 0x4a4;

//! Limits and offers of one session.

use std::time::Duration;

use aip_codec::aip::{hops::RelayId, setup_option::AipOption};

/// Limits of one session, and what its SETUP offers. Every queue has a limit here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// MOQT_IMPLEMENTATION: what we say we are. `aip/<version>`.
    pub implementation: String,
    /// AUTHORITY, sent by clients only. None.
    pub authority: Option<String>,
    /// PATH, sent by clients only. None.
    pub path: Option<String>,
    /// Whether the session is one of WebTransport, whose request has said what AUTHORITY and PATH would
    /// say: from either side they are faults then. false.
    pub webtransport: bool,
    /// AIP offer; `None` does not speak CALL. Profile 1, content type `json`.
    pub aip: Option<AipOption>,
    /// RELAY_ID: our number as a relay; `None` takes and sends neither HOPS nor COST. None.
    pub relay_id: Option<RelayId>,
    /// MAX_AUTH_TOKEN_CACHE_SIZE: bytes of aliased tokens that we keep for the peer. 4,096.
    pub auth_token_cache_size_max: u64,
    /// MAX_FILTER_RANGES: ranges that a request of the peer may carry; 0 forbids range filters. 0.
    pub filter_ranges_max: u64,
    /// MAX_REQUEST_UPDATES: updates of one request that may wait for our answer. 16.
    pub request_updates_max: u64,
    /// Requests of the peer that may be open at one time; one more gets EXCESSIVE_LOAD. 10,000.
    pub requests_max: usize,
    /// Gaps in the peer's request numbers that may be filled later; of more, the first is taken for
    /// used. 16,384.
    pub request_gaps_max: usize,
    /// Time for the peer's SETUP to arrive. 5 s.
    pub setup_timeout: Duration,
    /// Time for a begun control or request message to arrive whole. 10 s.
    pub control_message_timeout: Duration,
    /// Time for a begun object's header and payload to arrive whole. 30 s.
    pub data_stream_timeout: Duration,
    /// Bytes that may come before the peer's SETUP; streams beyond are refused. 65,536.
    pub early_bytes_max: usize,
    /// Data streams of unknown track aliases that are held until the alias is told. 256.
    pub unknown_alias_streams_max: usize,
    /// Datagrams of unknown track aliases that are held until the alias is told. 64.
    pub unknown_alias_datagrams_max: usize,
    /// How long a stream or datagram of an unknown alias is held. 5 s.
    pub unknown_alias_timeout: Duration,
    /// Whether a peer that resets most of what it asks before it is answered is disconnected. true;
    /// not between the shards of one relay, where each speaks for many.
    pub minds_resets: bool,
    /// What may wait for the peer's network.
    pub delivery: DeliveryLimits,
}

/// What may wait for a peer's network, and for how long. Bytes count with what it costs to keep
/// them ([`crate::account`]).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeliveryLimits {
    /// Bytes that may wait for one subscription while some leave; more ends it TOO_FAR_BEHIND.
    /// 8 MiB.
    pub queued_bytes_max: usize,
    /// Bytes that may wait for one subscription once none have left for `standstill_max`, and ever
    /// for one with a delivery timeout, which gives up its least important streams. 768 KiB.
    pub standing_bytes_max: usize,
    /// How long a subscription may stand still and keep more than `standing_bytes_max`. 3 s.
    pub standstill_max: Duration,
    /// How long a subscription's queue may stand still before it ends TOO_FAR_BEHIND. 6 s.
    pub stall_max: Duration,
    /// How long the messages' queue may stand still before the session ends
    /// CONTROL_MESSAGE_TIMEOUT. 30 s.
    pub message_stall_max: Duration,
    /// Bytes of messages that may wait; more ends the session CONTROL_MESSAGE_TIMEOUT. 16 MiB.
    pub message_bytes_max: usize,
    /// Ended subgroups with a delivery timeout that are watched until then; one more ends the
    /// watch over the oldest by a reset. 1,024.
    pub ended_subgroups_max: usize,
}

impl Default for DeliveryLimits {
    fn default() -> Self {
        Self {
            queued_bytes_max: 8 << 20,
            standing_bytes_max: 768 << 10,
            standstill_max: Duration::from_secs(3),
            stall_max: Duration::from_secs(6),
            message_stall_max: Duration::from_secs(30),
            message_bytes_max: 16 << 20,
            ended_subgroups_max: 1_024,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            implementation: concat!("aip/", env!("CARGO_PKG_VERSION")).to_owned(),
            authority: None,
            path: None,
            webtransport: false,
            aip: Some(AipOption {
                profile_version: 1,
                content_types: vec![bytes::Bytes::from_static(b"json")],
            }),
            relay_id: None,
            auth_token_cache_size_max: 4096,
            filter_ranges_max: 0,
            request_updates_max: 16,
            requests_max: 10_000,
            request_gaps_max: 16_384,
            setup_timeout: Duration::from_secs(5),
            control_message_timeout: Duration::from_secs(10),
            data_stream_timeout: Duration::from_secs(30),
            early_bytes_max: 65_536,
            unknown_alias_streams_max: 256,
            unknown_alias_datagrams_max: 64,
            unknown_alias_timeout: Duration::from_secs(5),
            minds_resets: true,
            delivery: DeliveryLimits::default(),
        }
    }
}

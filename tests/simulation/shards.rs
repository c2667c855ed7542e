//! What a relay must and must not do, done by one of three shards.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod relay;

/// Shards of each relay.
const SHARDS: usize = 3;

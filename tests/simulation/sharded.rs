//! What a relay must and must not do, done by one of three shards.

/// Shards of each relay.
const SHARDS: usize = 3;

#[path = "relay/mod.rs"]
mod relay;

//! Relay and clients on virtual links.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

/// Shards of each relay.
const SHARDS: usize = 1;

mod relay;
mod runner;
mod swarm;
mod tracks;

/// How many seeds an ordinary run tries; `make simulate` tries more.
const SEEDS: u64 = 500;

#[test]
fn swarm_of_many_seeds() {
    let failed = runner::run(0..SEEDS, |seed| swarm::check(seed, false), |_, _| {});
    assert_eq!(failed, [0_u64; 0], "replay one by: make simulate SEED=<seed>");
}

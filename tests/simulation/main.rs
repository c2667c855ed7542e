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

/// Worlds that have shown faults, mended since.
const ONCE_FAILED: [u64; 6] = [7_935, 13_293, 13_590, 21_401, 23_369, 42_035];

#[test]
fn worlds_that_once_failed() {
    for seed in ONCE_FAILED {
        swarm::check(seed, false);
    }
}

#[test]
fn swarm_of_many_seeds() {
    let failed = runner::run(0..SEEDS, |seed| swarm::check(seed, false), |_, _| {});
    assert_eq!(failed, [0_u64; 0], "replay one by: make simulate SEED=<seed>");
}

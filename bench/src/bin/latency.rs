//! `aip-latency`: what an object and a call take through our relay, beside bare quiche.

use std::path::PathBuf;

use aip_bench::latency::{self, Plan};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What an object and a call take through our relay, beside bare quiche in the same run.
///
/// Both cores are kept busy, so that nobody has to be woken.
#[derive(Parser)]
struct Arguments {
    /// Exchanges of each kind in each round
    #[arg(long, default_value_t = 20_000)]
    exchanges: usize,
    /// Rounds, in which all kinds have their turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes of an object, and of a call's question and answer
    #[arg(long, default_value_t = 1_000)]
    size: usize,
    /// The core that serves
    #[arg(long, default_value_t = 0)]
    relay_core: usize,
    /// The core of those who ask and answer
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Where the figures go as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[expect(clippy::print_stdout, reason = "a program for people")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { exchanges, rounds, size, relay_core, load_core, json } = Arguments::parse();
    let latencies = latency::run(&Plan { exchanges, rounds, size, relay_core, load_core })?;
    println!("{:>52} {:>9} {:>9}", "µs", "p50", "p99");
    for times in &latencies.0 {
        println!("{:>52} {:>9.2} {:>9.2}", times.kind.name(), times.p50, times.p99);
    }
    if let Some((object, call)) = latencies.ratios() {
        println!("{:>52} {object:>9.2}", "an object / a round trip of bare quiche, p50");
        println!("{:>52} {call:>9.2}", "a call / the same passed on by bare quiche, p50");
    }
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&latencies)? + "\n")?;
    }
    Ok(())
}

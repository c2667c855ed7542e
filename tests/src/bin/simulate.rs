//! `aip-simulate`: worlds of relays and clients, each made by a seed, on all cores.
#![expect(clippy::unwrap_used, reason = "what cannot be set up fails the seed")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to people")]

#[path = "../../simulation/runner.rs"]
mod runner;
#[path = "../../simulation/swarm/mod.rs"]
mod swarm;

use std::process::ExitCode;

const HELP: &str = "\
Worlds of relays and clients in virtual time, each made by a seed: who is there, what they do, what
fails. Checkers look on; each seed runs twice and must do the same.

Usage: aip-simulate [--seeds N] [--first SEED]    N seeds from SEED (0) on; 20000
       aip-simulate --seed SEED [--trace]         one seed; --trace tells all that is sent

Exit status: 0 all hold, 1 a seed failed, 2 wrong usage.";

/// What was asked for.
struct Arguments {
    first: u64,
    count: u64,
    trace: bool,
}

fn arguments(mut given: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments { first: 0, count: 20_000, trace: false };
    while let Some(name) = given.next() {
        let mut number = || given.next()?.parse().ok();
        match name.as_str() {
            "--seeds" => arguments.count = number()?,
            "--first" => arguments.first = number()?,
            "--seed" => (arguments.first, arguments.count) = (number()?, 1),
            "--trace" => arguments.trace = true,
            _ => return None,
        }
    }
    Some(arguments)
}

fn main() -> ExitCode {
    let Some(Arguments { first, count, trace }) = arguments(std::env::args().skip(1)) else {
        println!("{HELP}");
        let asked = std::env::args().any(|argument| argument == "--help" || argument == "-h");
        return ExitCode::from(if asked { 0 } else { 2 });
    };
    let seeds = first..first.saturating_add(count);
    let failed = runner::run(
        seeds,
        |seed| swarm::check(seed, trace),
        |done, time| {
            #[expect(clippy::cast_precision_loss, reason = "people read it")]
            let rate = done as f64 / time.as_secs_f64();
            println!("{done} of {count} seeds, {:.0} s, {rate:.1} seeds/s", time.as_secs_f64());
        },
    );
    for seed in &failed {
        eprintln!("seed {seed} failed. Replay it: make simulate SEED={seed} TRACE=1");
    }
    ExitCode::from(u8::from(!failed.is_empty()))
}

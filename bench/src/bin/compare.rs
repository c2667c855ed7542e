//! `aip-compare`: our relay and other people's, one after the other under the same load.

use std::path::PathBuf;

use aip_bench::compare::{
    self, Plan, cell,
    contestant::{ALL, Contestant, Kind},
};
use clap::Parser;

/// Our relay and other people's, one after the other under the same load.
///
/// Writes results.json, README.md and plots into a folder.
#[derive(Parser)]
struct Arguments {
    /// Where aip-relay, aip-load and aip-control are; beside this program by default
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Where other people's relays are, or are installed
    #[arg(long, default_value = "target/interop")]
    peers: PathBuf,
    /// Install those that are missing; takes many minutes, once
    #[arg(long)]
    install: bool,
    /// Every shape with every number of subscribers; takes hours
    #[arg(long)]
    full: bool,
    /// Only those whose name holds one of these, and our own
    #[arg(long)]
    only: Vec<String>,
    /// Only cells whose name holds this, as `1200 B`
    #[arg(long)]
    cell: Option<String>,
    /// Runs of each, in alternating order
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Measured seconds of each run
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The core that relays run on
    #[arg(long, default_value_t = 0)]
    relay_core: usize,
    /// The core that the load runs on
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Sessions whose memory is measured while they get nothing; 0 leaves it out
    #[arg(long, default_value_t = 500)]
    idle_sessions: usize,
    /// Where the results go
    #[arg(long, default_value = "bench/compare")]
    out: PathBuf,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let programs = match arguments.programs {
        Some(programs) => programs,
        None => std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default(),
    };
    let programs = std::path::absolute(programs)?;
    let peers = std::path::absolute(arguments.peers)?;
    for needed in ["aip-relay", "aip-load", "aip-control"] {
        if !programs.join(needed).is_file() {
            let place = programs.display();
            return Err(format!("{needed} is not in {place}: build it, or use --programs").into());
        }
    }
    let mut cells = if arguments.full { cell::full() } else { cell::short() };
    if let Some(wanted) = &arguments.cell {
        cells.retain(|cell| cell.name.contains(wanted.as_str()));
    }
    let wanted = |one: &Contestant| {
        arguments.only.is_empty()
            || one.kind == Kind::Ours
            || arguments.only.iter().any(|word| one.name.contains(word.as_str()))
    };
    let mut missing = Vec::new();
    let mut contestants = Vec::new();
    for contestant in ALL.into_iter().filter(wanted) {
        if arguments.install && !contestant.is_installed(&programs, &peers) {
            eprintln!("installing {}", contestant.name);
            if let Some(mut command) = contestant.install(&peers) {
                command.status()?;
            }
        }
        if contestant.is_installed(&programs, &peers) {
            contestants.push(contestant);
        } else {
            let line = contestant.install_line(&peers);
            eprintln!("{} is missing, install it by --install or: {line}", contestant.name);
            missing.push((contestant.name.to_owned(), contestant.install_line("PEERS".as_ref())));
        }
    }
    let plan = Plan {
        programs,
        peers,
        cells,
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        relay_core: arguments.relay_core,
        load_core: arguments.load_core,
        idle_sessions: arguments.idle_sessions,
    };
    let mut comparison = compare::compare(&plan, &contestants, |words| eprintln!("{words}"))?;
    comparison.missing = missing;
    compare::write(&comparison, &arguments.out)?;
    println!("{}", compare::table::page(&comparison));
    Ok(())
}

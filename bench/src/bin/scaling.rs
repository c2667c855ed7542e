//! `aip-scaling`: what a delivery, a session and a namespace cost as their number grows.

use std::{fs, path::PathBuf, process::Command};

use aip_bench::{
    compare::{
        Plan,
        cell::{Cell, Reach},
        contestant::{ALL, Kind},
        run::Stage,
    },
    scaling::{self, Namespaces},
};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a delivery, a session and a namespace cost as their number grows. Writes a page.
#[derive(Parser)]
struct Arguments {
    /// Where aip-relay and aip-load are; beside this program by default
    #[arg(long)]
    programs: Option<PathBuf>,
    /// The most subscribers
    #[arg(long, default_value_t = 10_000)]
    subscribers: usize,
    /// The most namespaces
    #[arg(long, default_value_t = 1_000_000)]
    namespaces: usize,
    /// Objects a second
    #[arg(long, default_value_t = 3.0)]
    rate: f64,
    /// Measured seconds of each run
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Where the page goes
    #[arg(long, default_value = "bench/SCALING.md")]
    out: PathBuf,
    /// Measures so many namespaces in this process, and prints JSON
    #[arg(long, hide = true)]
    only_namespaces: Option<usize>,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    if let Some(count) = arguments.only_namespaces {
        println!("{}", serde_json::to_string(&scaling::namespaces(count))?);
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let programs = arguments.programs.clone();
    let programs = programs.or_else(|| program.parent().map(PathBuf::from)).unwrap_or_default();
    let plan = Plan {
        programs: std::path::absolute(programs)?,
        peers: PathBuf::new(),
        cells: Vec::new(),
        rounds: 1,
        seconds: arguments.seconds,
        relay_core: 0,
        load_core: 1,
        idle_sessions: 0,
    };
    let folder = tempfile::tempdir()?;
    let stage = Stage::new(&plan, folder.path())?;
    let ours = ALL.iter().find(|one| one.kind == Kind::Ours).ok_or("our relay is not known")?;
    let (mut rows, mut stopped) = (Vec::new(), None);
    let counts = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000];
    for subscribers in counts.into_iter().filter(|count| *count <= arguments.subscribers) {
        let cell = Cell {
            name: format!("1200 B × {}/s", arguments.rate),
            size: 1_200,
            rate: arguments.rate,
            group: 30,
            subscribers,
            reach: Reach::Everyone,
        };
        let row = stage.measure(ours, &cell, 0);
        eprintln!("{subscribers} subscribers: {:?} µs, {:?}", row.cpu_microseconds, row.failed);
        if let Some(reason) = &row.failed {
            stopped = Some(format!("{subscribers} subscribers: {reason}"));
            break;
        }
        rows.push(row);
    }
    let mut namespaces: Vec<Namespaces> = Vec::new();
    let counts = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
    for count in counts.into_iter().filter(|count| *count <= arguments.namespaces) {
        let output =
            Command::new(&program).args(["--only-namespaces", &count.to_string()]).output()?;
        namespaces.push(serde_json::from_slice(&output.stdout)?);
        eprintln!("{count} namespaces: {:?}", namespaces.last());
    }
    let page = scaling::page(&rows, &namespaces, arguments.rate, stopped.as_deref());
    fs::write(&arguments.out, &page)?;
    println!("{page}");
    Ok(())
}

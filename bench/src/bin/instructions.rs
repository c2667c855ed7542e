//! `aip-instructions`: how many instructions the hot paths take, beside a committed baseline.

use std::{fs, path::PathBuf, process::ExitCode};

use aip_bench::{
    baseline::{Baseline, Verdict},
    callgrind, scenario,
};
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many instructions the hot paths take, beside a committed baseline.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The baseline
    #[arg(long, default_value = "bench/baseline.json", global = true)]
    baseline: PathBuf,
    /// Only scenarios whose name holds this
    #[arg(long, default_value = "", global = true)]
    only: String,
}

#[derive(Subcommand)]
enum Command {
    /// Counts, and fails if one is more than 0.5 % above its baseline
    Check,
    /// Counts, and writes those that are better into the baseline
    Update {
        /// Those that are worse, too: for changes that are worth it
        #[arg(long)]
        allow_worse: bool,
    },
    /// Runs one scenario, for callgrind to count
    #[command(hide = true)]
    Run {
        /// Its name
        name: String,
    },
}

fn toolchain() -> String {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!("{} {profile}", std::env::consts::ARCH)
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let worse_too = match arguments.command {
        Command::Run { name } => {
            let scenario = scenario::scenario(&name).ok_or("there is no such scenario")?;
            callgrind::run(scenario);
            return Ok(ExitCode::SUCCESS);
        }
        Command::Check => None,
        Command::Update { allow_worse } => Some(allow_worse),
    };
    let mut baseline: Baseline = match fs::read_to_string(&arguments.baseline) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) if worse_too.is_some() => Baseline::default(),
        Err(error) => return Err(format!("{}: {error}", arguments.baseline.display()).into()),
    };
    let (program, mut failed) = (std::env::current_exe()?, false);
    let wanted = scenario::ALL.iter().filter(|(name, _)| name.contains(&arguments.only));
    println!("{:>26} {:>10} {:>10}  instructions of each", "scenario", "now", "baseline");
    for (name, unit) in wanted {
        let times = scenario::times(name).ok_or("there is no such scenario")?;
        let count = callgrind::count(&program, name, times)?;
        let verdict = baseline.judge(name, count);
        let before = baseline.instructions.get(*name).copied().unwrap_or_default();
        let word = match verdict {
            Verdict::New => "new",
            Verdict::Same => "",
            Verdict::Better => "BETTER: keep it with `make bench-baseline`",
            Verdict::Worse => "WORSE",
        };
        println!("{name:>26} {count:>10.1} {before:>10.1}  {unit} {word}");
        failed |= matches!(verdict, Verdict::Worse | Verdict::New);
        if let Some(worse) = worse_too {
            baseline.take(name, count, worse);
        }
    }
    if worse_too.is_some() {
        baseline.toolchain = toolchain();
        fs::write(&arguments.baseline, serde_json::to_string_pretty(&baseline)? + "\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    if failed {
        eprintln!(
            "a count is above its baseline, or has none; a rise that is worth it is kept with"
        );
        eprintln!("`make bench-baseline ARGUMENTS=--allow-worse`");
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

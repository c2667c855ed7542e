//! `aip-load together` and `aip-load merge` on the command line: one load of several processes.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use aip_load::{clock, duration, interrupt::Interrupt, merge, report::Report};
use clap::Args;

use crate::arguments::Output;

pub(crate) const EXAMPLES: &str = "\
Examples:
  Four processes on this machine, each 500 calls a second from 100 agents, as one report:
    aip-load together --processes 4 --json all.json \\
        -- mcp --url http://127.0.0.1:3001/mcp --tool echo --arrivals poisson:500 --agents 100
  On several hosts: let them begin at the same time, bring their reports together, and merge them:
    aip-load mcp --begin-at 1800000000 --seed 1 --json one.json …    (on the first host)
    aip-load mcp --begin-at 1800000000 --seed 2 --json two.json …    (on the second)
    aip-load merge one.json two.json --json all.json";

pub(crate) const MERGE_EXAMPLES: &str = "\
Examples:
  aip-load merge one.json two.json --json all.json --html all.html --assert 'p99 < 50ms'
Reports must be of the same plan. Counts and rates add; histograms merge count by count, so that
percentiles are those of all answers together.";

#[derive(Args, Debug)]
pub(crate) struct TogetherArguments {
    /// Processes. Each carries out the whole plan, with a seed of its own: rates add.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=256)
    )]
    processes: u32,
    /// After how long all begin: the time for connecting.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    begin_after: Duration,
    #[command(flatten)]
    pub(crate) output: Output,
    /// The subcommand to run, and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs `aip-load together`.
///
/// # Errors
/// If a process gave no report, or they do not add up.
pub(crate) fn run(asked: &TogetherArguments) -> Result<Report, String> {
    // Ctrl-C goes to all processes at once; this one waits for their reports.
    let _interrupt = Interrupt::on_signals().map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let (subcommand, arguments) = asked.command.split_first().ok_or("a subcommand is needed")?;
    let begin = clock::unix_nanoseconds() as f64 / 1e9 + asked.begin_after.as_secs_f64();
    let mut children = Vec::new();
    for process in 1..=asked.processes {
        let child = Command::new(&program)
            .arg(subcommand)
            .args(["--quiet", "--json", "-", "--seed", &process.to_string()])
            .args(["--begin-at", &format!("{begin:.3}")])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        children.push(child);
    }
    let (mut reports, mut failed) = (Vec::new(), None);
    // All are waited for, so that none is left behind.
    for child in children {
        match report_of(child) {
            Ok(report) => reports.push(report),
            Err(reason) => failed = Some(reason),
        }
    }
    if let Some(reason) = failed {
        return Err(reason);
    }
    merge::merge(&reports)
}

fn report_of(child: Child) -> Result<Report, String> {
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("a process gave no report: {}", said.trim().lines().last().unwrap_or("no words"))
    })
}

#[derive(Args, Debug)]
pub(crate) struct MergeArguments {
    /// Reports of processes that ran the same plan at the same time.
    #[arg(required = true, num_args = 1.., value_name = "FILE")]
    reports: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Runs `aip-load merge`.
///
/// # Errors
/// Why they do not add up.
pub(crate) fn run_merge(asked: &MergeArguments) -> Result<Report, String> {
    let reports =
        asked.reports.iter().map(|path| Report::load(path)).collect::<Result<Vec<_>, _>>()?;
    merge::merge(&reports)
}

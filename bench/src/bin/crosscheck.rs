//! `aip-crosscheck`: whether aip-load and load generators that others wrote say the same of one target.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use aip_bench::crosscheck::{
    Plan,
    tool::{ALL, Tool},
};
use aip_load::environment::Environment;
use clap::Parser;

/// aip-load beside wrk, oha and aiomoqt, on the same targets in one run.
///
/// Prints both sides' percentiles and whether they agree within the noise, which is how far apart
/// the rounds of one tool lie. Exit code 1 if they do not.
#[derive(Parser)]
struct Arguments {
    /// Where aip-relay, aip-load and examples/waiting_server are; beside this program by default
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Where other people's tools are, or are installed
    #[arg(long, default_value = "target/crosscheck")]
    tools: PathBuf,
    /// Install those that are missing: wrk from Debian, oha from the Rust registry, aiomoqt from PyPI
    #[arg(long)]
    install: bool,
    /// Only these: wrk, oha, aiomoqt
    #[arg(long)]
    only: Vec<String>,
    /// Rounds of each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of each
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Write the tables to a file, too
    #[arg(long)]
    out: Option<PathBuf>,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let programs = match arguments.programs {
        Some(programs) => programs,
        None => std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default(),
    };
    let tools_folder = std::path::absolute(&arguments.tools)?;
    let wanted = |tool: &Tool| {
        arguments.only.is_empty() || arguments.only.iter().any(|name| name == tool.name())
    };
    let mut tools = Vec::new();
    for tool in ALL.into_iter().filter(wanted) {
        if arguments.install && !tool.is_installed(&tools_folder) {
            let line = tool.install(&tools_folder);
            eprintln!("installing {}: {line}", tool.name());
            Command::new("sh").args(["-c", &line]).status()?;
        }
        if tool.is_installed(&tools_folder) {
            tools.push(tool);
        } else {
            eprintln!("{} is left out; to have it: {}", tool.name(), tool.install(&tools_folder));
        }
    }
    if tools.is_empty() {
        return Err("there is nothing to hold aip-load against; --install gets it".into());
    }
    let environment = Environment::observe();
    let (rounds, seconds) = (arguments.rounds.max(1), arguments.seconds);
    let plan = Plan { programs, tools: tools_folder, rounds, seconds };
    let figures = plan.run(&tools, |words| eprintln!("{words}"))?;
    let (tables, all) = figures.text();
    let text = format!(
        "# aip-load beside load generators that others wrote\n\n\
         Medians of {rounds} rounds of {seconds} s each on {} × {}, load average {:.2} when they began. \
         Noise is how far apart the rounds of one tool lie, the wider of both. Both HTTP tools call one \
         tool of one server, which takes 2 ms and an exponential time of mean 8 ms.\n\n{tables}",
        environment.cores, environment.cpu, environment.load_before,
    );
    println!("{text}");
    if let Some(path) = arguments.out {
        fs::write(path, text)?;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

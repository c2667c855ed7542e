//! `aip-load`: load on MOQT relays and MCP servers, with honest tails.

mod arguments;
mod command_ceiling;
mod command_mcp;
mod command_relay;
mod command_together;

use std::{io::Write as _, process::ExitCode};

use aip_load::{
    assertion::{self, Assertion},
    compare,
    report::{Report, hgrm, html, otlp, prometheus, table},
};
use clap::Parser as _;

use arguments::{Arguments, Command, Output};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A condition did not hold, or a comparison found something worse.
const FAILED: u8 = 1;
/// What was asked cannot be done.
const SETUP: u8 = 2;
/// The run's figures may not be believed.
const INVALID: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    let code = match arguments.command {
        Command::Relay(relay) => conclude(|| command_relay::run(&relay).map(Some), &relay.output),
        Command::Mcp(mcp) => conclude(|| command_mcp::run(&mcp), &mcp.output),
        Command::Ceiling(asked) => run_ceiling(&asked),
        Command::Together(asked) => {
            conclude(|| command_together::run(&asked).map(Some), &asked.output)
        }
        Command::Merge(asked) => {
            conclude(|| command_together::run_merge(&asked).map(Some), &asked.output)
        }
        Command::Table(asked) => run_table(&asked),
        Command::Compare(asked) => run_compare(&asked),
    };
    ExitCode::from(code)
}

/// The log goes to stderr; thousands of agents would say too much there, so only errors by default.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// Says a line where results go.
fn say(text: &str) {
    // Whoever closed standard output does not want to hear it.
    _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// Says a line where what is no result goes.
fn remark(text: &str) {
    // Nobody is left to tell.
    _ = writeln!(std::io::stderr(), "aip-load: {text}");
}

/// Runs, puts the report out, and judges it. Conditions are read first: nobody is to wait for a
/// run to learn of a misspelt one.
fn conclude(run: impl FnOnce() -> Result<Option<Report>, String>, output: &Output) -> u8 {
    let assertions = match parse_assertions(output) {
        Ok(assertions) => assertions,
        Err(reason) => {
            remark(&reason);
            return SETUP;
        }
    };
    let report = match run() {
        Ok(Some(report)) => report,
        Ok(None) => return 0,
        Err(reason) => {
            remark(&reason);
            return SETUP;
        }
    };
    if let Err(reason) = write(&report, output) {
        remark(&reason);
        return SETUP;
    }
    let mut code = 0;
    for assertion in &assertions {
        let verdict = assertion.check(&report);
        remark(&verdict.text);
        if !verdict.holds {
            code = FAILED;
        }
    }
    if report.validity.is_valid() { code } else { INVALID }
}

fn parse_assertions(output: &Output) -> Result<Vec<Assertion>, String> {
    let mut all = Vec::new();
    for text in &output.assert {
        all.extend(assertion::parse_all(text).map_err(|error| error.to_string())?);
    }
    Ok(all)
}

fn write_file(path: &std::path::Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(report: &Report, output: &Output) -> Result<(), String> {
    match &output.json {
        Some(path) if path.as_os_str() == "-" => say(&report.to_json()),
        Some(path) => {
            write_file(path, &report.to_json())?;
            say(&table::text(report));
        }
        None => say(&table::text(report)),
    }
    if let Some(path) = &output.hgrm {
        let main = report.main().ok_or("there are no times to write")?;
        write_file(path, &hgrm::text(&main.times()?))?;
    }
    if let Some(path) = &output.html {
        write_file(path, &html::text(report)?)?;
    }
    if let Some(path) = &output.prometheus {
        write_file(path, &prometheus::text(report))?;
    }
    if let Some(url) = &output.otlp {
        otlp::export(report, url, &output.otlp_header)?;
    }
    Ok(())
}

fn run_table(asked: &arguments::TableArguments) -> u8 {
    let mut rows = Vec::new();
    for path in &asked.reports {
        match Report::load(path) {
            Ok(report) => {
                let name = path.file_stem().unwrap_or(path.as_os_str());
                rows.push((name.to_string_lossy().into_owned(), report));
            }
            Err(reason) => {
                remark(&reason);
                return SETUP;
            }
        }
    }
    say(&table::rows(&rows));
    let Some(path) = &asked.html else { return 0 };
    let page = html::side_by_side(&asked.title, &rows);
    match page.and_then(|page| write_file(path, &page)) {
        Ok(()) => 0,
        Err(reason) => {
            remark(&reason);
            SETUP
        }
    }
}

fn run_ceiling(asked: &command_ceiling::CeilingArguments) -> u8 {
    match command_ceiling::run(asked) {
        Ok((text, passed, valid)) => {
            say(&text);
            match (passed, valid) {
                (_, false) => INVALID,
                (true, true) => 0,
                (false, true) => FAILED,
            }
        }
        Err(reason) => {
            remark(&reason);
            SETUP
        }
    }
}

fn run_compare(asked: &arguments::CompareArguments) -> u8 {
    let load = |path: &std::path::Path| Report::load(path);
    let (before, after) = match (load(&asked.before), load(&asked.after)) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(reason), _) | (_, Err(reason)) => {
            remark(&reason);
            return SETUP;
        }
    };
    let options = compare::Options { tolerance: asked.tolerance / 100.0, force: asked.force };
    match compare::compare(&before, &after, options) {
        Ok(comparison) => {
            say(&comparison.text);
            for regression in &comparison.regressions {
                remark(&format!("worse: {regression}"));
            }
            if comparison.regressions.is_empty() { 0 } else { FAILED }
        }
        Err(refused @ compare::Refused::Invalid(..)) => {
            remark(&refused.to_string());
            INVALID
        }
        Err(refused @ compare::Refused::Plans(..)) => {
            remark(&refused.to_string());
            SETUP
        }
    }
}

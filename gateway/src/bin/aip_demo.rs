//! `aip-demo`: agents use an MCP server through a relay, and what comes of it.

use std::{path::PathBuf, process::ExitCode};

use aip_gateway::demonstration::{self, Failure, library};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Agents use an MCP server through a relay: starts everything, uses it, and says what came of it.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// An MCP server of your own, as a command line of the shell, instead of a library over a
    /// folder: --server 'npx -y @modelcontextprotocol/server-everything'
    #[arg(long, value_name = "COMMAND")]
    server: Option<String>,
    /// Agents; half of them over HTTP, half over standard streams.
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=200))]
    agents: u16,
    /// Calls of a tool, over all agents.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    calls: usize,
    /// Reads of one resource by each agent.
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    reads: usize,
    /// Leave everything up until Ctrl-C, and say how an MCP client reaches it.
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// An MCP server over a folder of text, on standard streams.
    Library {
        /// The folder.
        folder: PathBuf,
        /// Only MCP 2026-07-28 (true), or only revisions before it (false).
        #[arg(long)]
        modern: Option<bool>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    aip_gateway::log::start();
    let done = match arguments.command {
        Some(Command::Library { folder, modern }) => library::run(folder, modern).await,
        None => {
            let options = demonstration::Options {
                server: arguments.server,
                agents: arguments.agents.into(),
                calls: arguments.calls,
                reads: arguments.reads,
                keep: arguments.keep,
            };
            match demonstration::run(options, stopped()).await {
                Err(Failure::Stopped) => return ExitCode::from(130),
                Err(Failure::Error(reason)) => Err(reason),
                Ok(()) => Ok(()),
            }
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            tracing::error!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Done at the first SIGTERM or SIGINT.
async fn stopped() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

//! `aip-demo`: agents use an MCP server through a relay, and what comes of it.

use std::{path::PathBuf, process::ExitCode};

use aip_gateway::demonstration::library;
use clap::{Parser, Subcommand};

/// Agents use an MCP server through a relay: starts everything, uses it, and says what came of it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
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
        None => Err("not built yet".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            tracing::error!("{reason}");
            ExitCode::FAILURE
        }
    }
}

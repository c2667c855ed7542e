//! The command line.

use std::{
    io::{IsTerminal as _, stderr},
    path::PathBuf,
    time::Duration,
};

use aip_engine::io::Trust;
use aip_load::{interrupt::Interrupt, live, progress::Viewer};
use clap::{Args, Parser, Subcommand};

/// Load on MOQT relays and MCP servers, with honest tails.
///
/// Load is open: what is due is sent when it is due, and latency counts from then, so that a target
/// that stops shows in the tail. Every run checks the generator itself; a run that it could not
/// carry out as planned is marked invalid.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done, and every condition holds
  1  a condition of --assert does not hold, or `compare` found something worse
  2  what was asked cannot be done: usage, no connection, no such file
  3  the run is invalid: the generator could not keep to its plan";

const CEILING_EXAMPLES: &str = "\
Examples:
  The most calls a second of a server:
    aip-load ceiling --objective 'p99 < 20ms, errors < 0.1%' --vary '--arrivals=poisson:{}' \\
        -- mcp --url http://127.0.0.1:3001/mcp --tool echo
  The most subscribers of a relay:
    aip-load ceiling --objective 'last.p99 < 50ms, lost == 0' --vary '--subscribers={}' --max 10000 \\
        -- relay --relay moqt://127.0.0.1:4443 --insecure --shape audio";

const COMPARE_EXAMPLES: &str = "\
Examples:
  Two runs of the same plan; exit code 1 if the second is more than 20 per cent worse:
    aip-load compare before.json after.json --tolerance 20
  The same plan by two ways, whatever their fingerprints are:
    aip-load compare http.json relay.json --force";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bare MOQT fan-out: one publisher, up to 10,000 subscribers, against any relay.
    #[command(after_help = crate::command_relay::EXAMPLES)]
    Relay(Box<crate::command_relay::RelayArguments>),
    /// An MCP server through a relay, over Streamable HTTP, or over stdio.
    #[command(after_help = crate::command_mcp::EXAMPLES)]
    Mcp(Box<crate::command_mcp::McpArguments>),
    /// Find the highest rate, or number of subscribers, that meets an objective, by bisection.
    #[command(after_help = CEILING_EXAMPLES)]
    Ceiling(crate::command_ceiling::CeilingArguments),
    /// Run the same load in several processes at the same time, and make one report of theirs.
    #[command(after_help = crate::command_together::EXAMPLES)]
    Together(crate::command_together::TogetherArguments),
    /// Make one report of those of several processes or hosts; histograms merge exactly.
    #[command(after_help = crate::command_together::MERGE_EXAMPLES)]
    Merge(crate::command_together::MergeArguments),
    /// Show reports side by side, one a row.
    Table(TableArguments),
    /// Say whether the second report's run is worse than the first's.
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(CompareArguments),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Output {
    /// Write the report as JSON to a file; `-`: to standard output instead of the table.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the latencies as HdrHistogram percentile text.
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Write the report as one HTML file with plots, which needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the figures as Prometheus text, for a push gateway or a textfile collector.
    #[arg(long, value_name = "FILE")]
    pub(crate) prometheus: Option<PathBuf>,
    /// Send the report to an OpenTelemetry collector, by OTLP over HTTP: http://HOST:4318.
    #[arg(long, value_name = "URL")]
    pub(crate) otlp: Option<String>,
    /// A header for the collector, as NAME=VALUE; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", requires = "otlp", value_parser = header)]
    pub(crate) otlp_header: Vec<(String, String)>,
    /// Conditions, as 'p99 < 50ms, errors < 0.1%, lost == 0, rate > 1000'; may be repeated.
    #[arg(long, value_name = "CONDITIONS")]
    pub(crate) assert: Vec<String>,
    /// Show nothing while the run goes on.
    #[arg(long)]
    pub(crate) quiet: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

impl Output {
    /// Whoever looks at a run: the terminal of standard error, if there is one and it is wanted.
    pub(crate) fn viewer(&self, title: &str, interrupt: &Interrupt) -> Viewer {
        if self.quiet || !stderr().is_terminal() {
            return Viewer::nobody();
        }
        // A terminal that cannot be drawn on is no reason not to run.
        live::open(title, interrupt.clone()).unwrap_or_else(|_| Viewer::nobody())
    }
}

/// A moment as `date +%s` writes it, in nanoseconds.
pub(crate) fn moment(text: &str) -> Result<u64, String> {
    let seconds: f64 = text.parse().map_err(|_| "seconds since 1970 are wanted, as of date +%s")?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    u64::try_from(time.as_nanos()).map_err(|error| error.to_string())
}

#[derive(Args, Debug)]
pub(crate) struct TrustArguments {
    /// Believe a relay whose certificate is signed by an authority of this PEM file.
    #[arg(long, value_name = "FILE", group = "trust")]
    ca: Option<PathBuf>,
    /// Believe a relay whose certificate has this SHA-256, in hexadecimal digits.
    #[arg(long, value_name = "HEX", group = "trust")]
    certificate_sha256: Vec<String>,
    /// Believe any relay. For tests on one's own machine.
    #[arg(long, group = "trust")]
    insecure: bool,
}

impl TrustArguments {
    pub(crate) fn trust(&self) -> Result<Trust, String> {
        if let Some(ca) = &self.ca {
            return Ok(Trust::Ca(ca.clone()));
        }
        if self.insecure {
            return Ok(Trust::Insecure);
        }
        if self.certificate_sha256.is_empty() {
            let reason = "say why to believe the relay: --ca FILE, --certificate-sha256 HEX, or \
                          --insecure on one's own machine";
            return Err(reason.to_owned());
        }
        let pins = self.certificate_sha256.iter().map(|text| pin(text));
        Ok(Trust::CertificateSha256(pins.collect::<Result<_, _>>()?))
    }
}

fn pin(text: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("`{text}` is no SHA-256: 64 hexadecimal digits");
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let mut pin = [0; 32];
    if digits.len() != 64 {
        return Err(wrong());
    }
    for (byte, pair) in pin.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(pin)
}

#[derive(Args, Debug)]
pub(crate) struct TableArguments {
    /// Reports of this program.
    #[arg(required = true, num_args = 1.., value_name = "FILE")]
    pub(crate) reports: Vec<PathBuf>,
    /// Write them as one HTML file, too, with a line of each in one plot.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// The page's title.
    #[arg(long, value_name = "TEXT", default_value = "aip-load: reports side by side")]
    pub(crate) title: String,
}

#[derive(Args, Debug)]
pub(crate) struct CompareArguments {
    /// The report to compare with.
    pub(crate) before: PathBuf,
    /// The report to judge.
    pub(crate) after: PathBuf,
    /// By how many per cent p50, p99 or the rate may be worse.
    #[arg(long, value_name = "PER CENT", default_value_t = 10.0)]
    pub(crate) tolerance: f64,
    /// Compare reports of different plans.
    #[arg(long)]
    pub(crate) force: bool,
}

//! The command line.

use std::{io::IsTerminal as _, io::Write as _, path::PathBuf, time::Duration};

use aip_engine::io::{Target, Trust};
use aip_load::{
    check, duration,
    relay::{self, Churn, Delivery, Plan, Progress, Shape},
    report::{self, Report},
    schedule::{Arrivals, Spacing},
    watch::Watch,
};
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

const RELAY_EXAMPLES: &str = "\
Examples:
  Speech to 200 subscribers of a relay on this machine, watching its process:
    aip-load relay --relay moqt://127.0.0.1:4443 --insecure --shape audio \\
        --subscribers 200 --watch aip-relay
  4 KiB objects, 100 a second by Poisson, published at one relay and read at another, as a check:
    aip-load relay --relay moqt://b.example:4443 --origin moqt://a.example:4443 --ca ca.pem \\
        --size 4096 --arrivals poisson:100 --json run.json --assert 'p99 < 50ms, lost == 0'";

const MCP_EXAMPLES: &str = "\
Examples:
  A server that was never seen before: its tools are discovered, arguments made from their schemas,
  and a tool that does not say it only reads is asked about first:
    aip-load mcp --url http://127.0.0.1:3001/mcp
    aip-load mcp -- npx -y @modelcontextprotocol/server-everything
  One tool, 500 calls a second by Poisson from 100 agents, as a check:
    aip-load mcp --url http://127.0.0.1:3001/mcp --tool echo --arrivals poisson:500 --agents 100 \\
        --json run.json --assert 'p99 < 50ms, errors < 0.1%'
  The same server through a relay, with a plan:
    aip-load mcp --relay moqt://127.0.0.1:4443 --insecure --server files --plan mixed";

const CEILING_EXAMPLES: &str = "\
Examples:
  The most calls a second of a server:
    aip-load ceiling --objective 'p99 < 20ms, errors < 0.1%' --vary '--arrivals=poisson:{}' \\
        -- mcp --url http://127.0.0.1:3001/mcp --tool echo
  The most subscribers of a relay:
    aip-load ceiling --objective 'last.p99 < 50ms, lost == 0' --vary '--subscribers={}' --max 10000 \\
        -- relay --relay moqt://127.0.0.1:4443 --insecure --shape audio";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bare MOQT fan-out: one publisher, up to 10,000 subscribers, against any relay.
    #[command(after_help = RELAY_EXAMPLES)]
    Relay(Box<RelayArguments>),
    /// An MCP server through a relay, over Streamable HTTP, or over stdio.
    #[command(after_help = MCP_EXAMPLES)]
    Mcp(Box<crate::command_mcp::McpArguments>),
    /// Find the highest rate, or number of subscribers, that meets an objective, by bisection.
    #[command(after_help = CEILING_EXAMPLES)]
    Ceiling(crate::command_ceiling::CeilingArguments),
    /// Make one report of those of several processes; histograms merge exactly.
    Merge(crate::command_ceiling::MergeArguments),
    /// Say whether the second report's run is worse than the first's.
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
    /// Conditions, as 'p99 < 50ms, errors < 0.1%, lost == 0, rate > 1000'; may be repeated.
    #[arg(long, value_name = "CONDITIONS")]
    pub(crate) assert: Vec<String>,
    /// Show nothing while the run goes on.
    #[arg(long)]
    pub(crate) quiet: bool,
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

/// When load counts.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Phases {
    /// The time that figures are made of.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    duration: Duration,
    /// Load before that, which does not count.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration::parse)]
    warm_up: Duration,
    /// Load after that, which does not count.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    cool_down: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct RelayArguments {
    /// The subscribers' relay: moqt://HOST:PORT. More than one: subscribers in turn.
    #[arg(long, value_name = "URL", required = true)]
    relay: Vec<String>,
    /// The publisher's relay, if it is another than the first --relay.
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
    /// A ready shape; --size, --arrivals and --group change parts of it.
    #[arg(long, value_name = "SHAPE", default_value = "packet")]
    shape: Shape,
    /// Bytes of a payload, at least 36.
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// When objects are due: constant:RATE, poisson:RATE, ramp:A..B, step:A..B/N,
    /// spike:A^B@AT+LENGTH, trace:FILE; poisson- before a shape makes its gaps random.
    #[arg(long, value_name = "ARRIVALS")]
    arrivals: Option<Arrivals>,
    /// Objects of a group, which is a stream.
    #[arg(long, value_name = "NUMBER")]
    group: Option<u64>,
    /// How objects travel.
    #[arg(long, default_value = "stream")]
    delivery: Delivery,
    /// Subscribers, each with a connection of its own; 1 to 10,000.
    #[arg(
        long,
        short,
        value_name = "NUMBER",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    subscribers: u32,
    /// Connections begun a second.
    #[arg(long, value_name = "RATE", default_value_t = 500.0)]
    connect_rate: f64,
    /// Subscriptions ended and begun again, a second altogether, while objects flow.
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    churn_subscribe: f64,
    /// Connections closed and opened again, a second altogether, while objects flow.
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    churn_reconnect: f64,
    /// Drafts to offer, first choice first: 18 to 22. All by default.
    #[arg(long, value_name = "NUMBER", value_delimiter = ',')]
    draft: Vec<u8>,
    #[command(flatten)]
    phases: Phases,
    /// How long what is under way is waited for in the end.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration::parse)]
    drain: Duration,
    /// How long everybody may take to connect and subscribe.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    setup: Duration,
    /// A delivery that takes longer counts as late.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    late: Option<Duration>,
    /// UDP sockets that the connections share, in turn. One is cheapest for the generator; a relay
    /// that spreads its clients over threads by their address needs more.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    sockets: usize,
    /// Watch a process's CPU, memory and context switches, by number or program name.
    #[arg(long, value_name = "PID|NAME")]
    watch: Vec<String>,
    /// Seed of arrivals and payloads.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// The run is invalid if 1 of 100 objects is published later than this after it was due.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = duration::parse)]
    lag_max: Duration,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Runs `aip-load relay`.
///
/// # Errors
/// Why there is no report, in words.
pub(crate) fn run_relay(asked: RelayArguments) -> Result<Report, String> {
    let trust = asked.trust.trust()?;
    let target = |url: &String| Target::new(url, trust.clone()).map_err(|error| error.to_string());
    let relays = asked.relay.iter().map(target).collect::<Result<Vec<_>, _>>()?;
    let origin = match &asked.origin {
        Some(url) => target(url)?,
        None => relays.first().cloned().ok_or("--relay is needed")?,
    };
    let watch = Watch::new(&asked.watch)?;
    let limits = check::Limits {
        lag_p99_max: u64::try_from(asked.lag_max.as_nanos()).unwrap_or(u64::MAX),
        ..check::Limits::default()
    };
    let (seed, sockets) = (asked.seed, asked.sockets);
    let show = if asked.output.quiet { |_: &Progress| {} } else { live };
    let plan = plan(&asked);
    let options = relay::Options { origin, relays, seed, sockets, watch, limits, show };
    let report = relay::run(plan, options).map_err(|error| error.to_string());
    clear_line();
    report
}

fn plan(asked: &RelayArguments) -> Plan {
    let (size, rate, group) = asked.shape.figures();
    let constant = || Arrivals {
        shape: aip_load::schedule::Shape::Constant(f64::from(rate)),
        spacing: Spacing::Even,
    };
    Plan {
        size: asked.size.unwrap_or(size),
        arrivals: asked.arrivals.clone().unwrap_or_else(constant),
        group_length: asked.group.unwrap_or(group),
        delivery: asked.delivery,
        subscribers: asked.subscribers as usize,
        connect_rate: asked.connect_rate,
        churn: Churn { subscribe: asked.churn_subscribe, reconnect: asked.churn_reconnect },
        drafts: asked.draft.clone(),
        warm_up: asked.phases.warm_up,
        measured: asked.phases.duration,
        cool_down: asked.phases.cool_down,
        drain: asked.drain,
        setup: asked.setup,
        late_nanoseconds: asked.late.and_then(|late| u64::try_from(late.as_nanos()).ok()),
    }
}

/// One line on the terminal, rewritten.
fn live(progress: &Progress) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let second = progress.timeline.last().cloned().unwrap_or_default();
    // Nobody is left to tell.
    _ = write!(
        std::io::stderr(),
        "\r\x1b[2K{}: {} subscribers, {} published; last second: {}/s, p50 {}, p99 {}, max {}; {} errors",
        progress.stage,
        progress.ready,
        report::count(progress.published),
        report::count(second.ok),
        report::time(second.p50),
        report::time(second.p99),
        report::time(second.max),
        progress.errors,
    );
}

pub(crate) fn clear_line() {
    if std::io::stderr().is_terminal() {
        // Nobody is left to tell.
        _ = write!(std::io::stderr(), "\r\x1b[2K");
    }
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

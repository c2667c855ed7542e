//! `aip-load mcp` on the command line.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    sync::Arc,
    time::Duration,
};

use aip_engine::io::Target as RelayTarget;
use aip_gateway::name::ServerName;
use aip_load::{
    check, duration,
    mcp::{self, Opener, Options, Plan, Progress, Target, discover::Offer, discover::Tool},
    report::{self, Report},
    schedule::Arrivals,
    watch::Watch,
};
use clap::Args;

use crate::arguments::{Output, TrustArguments, clear_line};

#[derive(Args, Debug)]
pub(crate) struct McpArguments {
    /// A Streamable HTTP endpoint: http://HOST:PORT/mcp.
    #[arg(long, value_name = "URL", group = "where")]
    url: Option<String>,
    /// A relay on which the server is published: moqt://HOST:PORT. Needs --server.
    #[arg(long, value_name = "URL", group = "where", requires = "server")]
    relay: Option<String>,
    /// The server's name at the relay: [AUTHORITY/]NAME.
    #[arg(long, value_name = "NAME", requires = "relay")]
    server: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
    /// Revisions of MCP to speak over HTTP and stdio.
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    revision: Era,
    /// What agents do: a TOML file, or one of calls, churn, lists, mixed. Without one: calls, reads
    /// and lists as six to three to one.
    #[arg(long, value_name = "FILE|NAME")]
    plan: Option<String>,
    /// Call this tool, whatever it says of itself; may be repeated. Then no other is called.
    #[arg(long, value_name = "NAME")]
    tool: Vec<String>,
    /// Call tools that do not say that they only read without asking.
    #[arg(long)]
    yes: bool,
    /// When requests are due: constant:RATE, poisson:RATE, ramp:A..B, step:A..B/N,
    /// spike:A^B@AT+LENGTH, trace:FILE; poisson- before a shape makes its gaps random.
    #[arg(long, value_name = "ARRIVALS")]
    arrivals: Option<Arrivals>,
    /// Agents, each with a connection of its own (with stdio they share one process).
    #[arg(long, value_name = "NUMBER")]
    agents: Option<usize>,
    /// Each agent asks again when it was answered. Hides what a slow server does to those who would
    /// have come meanwhile.
    #[arg(long, conflicts_with = "arrivals")]
    closed: bool,
    /// The time that figures are made of.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    duration: Option<Duration>,
    /// Load before that, which does not count.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    warm_up: Option<Duration>,
    /// How long an answer is waited for.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// An answer that takes longer counts as late.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    late: Option<Duration>,
    /// Watch a process's CPU, memory and context switches, by number or program name.
    #[arg(long, value_name = "PID|NAME")]
    watch: Vec<String>,
    /// Seed of arrivals, choices and arguments.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// The run is invalid if 1 of 100 requests is sent later than this after it was due.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = duration::parse)]
    lag_max: Duration,
    #[command(flatten)]
    pub(crate) output: Output,
    /// The program that is the server, and its arguments.
    #[arg(last = true, value_name = "COMMAND", group = "where", required_unless_present_any = ["url", "relay"])]
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Era {
    /// 2026-07-28 if the server answers `server/discover`, else a session.
    Auto,
    /// 2026-07-28 only.
    Modern,
    /// 2025-11-25 and before only: sessions.
    Legacy,
}

/// Runs `aip-load mcp`.
///
/// # Errors
/// Why there is no report, in words.
pub(crate) fn run(asked: McpArguments) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no threads can be had: {error}"))?;
    let report = runtime.block_on(run_in(&asked));
    clear_line();
    runtime.shutdown_background();
    report
}

async fn run_in(asked: &McpArguments) -> Result<Report, String> {
    let mut plan = plan(asked)?;
    let legacy = match asked.revision {
        Era::Auto => None,
        Era::Modern => Some(false),
        Era::Legacy => Some(true),
    };
    let opener = Arc::new(Opener::new(target(asked)?, legacy, Duration::from_secs(30))?);
    let first = opener.open().await?;
    let offer = Offer::of(&first).await?;
    let allowed = offer.allowed(&asked.tool, |tool| may_call(tool, asked.yes));
    for name in &asked.tool {
        if !offer.tools.iter().any(|tool| tool.name == *name) {
            let names: Vec<_> = offer.tools.iter().map(|tool| tool.name.as_str()).collect();
            return Err(format!("there is no tool `{name}`; there are: {}", names.join(", ")));
        }
    }
    offer.complete(&mut plan, &allowed, asked.seed);
    if !asked.tool.is_empty() && asked.plan.is_none() {
        plan.requests.retain(|request| request.tool.is_some());
    }
    opener.close(&first).await;
    let options = Options {
        seed: asked.seed,
        late: asked.late,
        watch: Watch::new(&asked.watch)?,
        limits: check::Limits {
            lag_p99_max: u64::try_from(asked.lag_max.as_nanos()).unwrap_or(u64::MAX),
            ..check::Limits::default()
        },
        show: if asked.output.quiet { |_: &Progress| {} } else { live },
    };
    tokio::select! {
        report = mcp::run(plan, opener, options) => report,
        _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
    }
}

fn plan(asked: &McpArguments) -> Result<Plan, String> {
    let mut plan = match &asked.plan {
        Some(name) => Plan::load(name)?,
        None => Plan::default(),
    };
    if let Some(arrivals) = &asked.arrivals {
        plan.arrivals = arrivals.clone();
    }
    plan.closed |= asked.closed;
    plan.agents = asked.agents.unwrap_or(plan.agents);
    plan.duration = asked.duration.unwrap_or(plan.duration);
    plan.warm_up = asked.warm_up.unwrap_or(plan.warm_up);
    plan.timeout = asked.timeout.unwrap_or(plan.timeout);
    Ok(plan)
}

fn target(asked: &McpArguments) -> Result<Target, String> {
    if let Some(url) = &asked.url {
        return Ok(Target::Http { url: url.clone() });
    }
    let (Some(url), Some(server)) = (&asked.relay, &asked.server) else {
        return Ok(Target::Stdio { command: asked.command.clone() });
    };
    let relay = RelayTarget::new(url, asked.trust.trust()?).map_err(|error| error.to_string())?;
    let server = ServerName::parse(server, "localhost").map_err(|error| error.to_string())?;
    Ok(Target::Aip { relay: Box::new(relay), server })
}

/// Whether a tool that does not say that it only reads may be called.
fn may_call(tool: &Tool, yes: bool) -> bool {
    if yes {
        return true;
    }
    let mut stderr = std::io::stderr();
    let name = tool.name.escape_debug();
    if !std::io::stdin().is_terminal() {
        // Nobody is left to tell.
        _ = writeln!(
            stderr,
            "aip-load: {name} is not called: it does not say that it only reads \
                     (--tool or --yes allows it)"
        );
        return false;
    }
    // Nobody is left to tell.
    _ = write!(
        stderr,
        "The tool {name} does not say that it only reads. Call it under load? [y/N] "
    );
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// One line on the terminal, rewritten.
fn live(progress: &Progress) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let second = progress.timeline.len().checked_sub(2).and_then(|at| progress.timeline.get(at));
    let second = second.cloned().unwrap_or_default();
    // Nobody is left to tell.
    _ = write!(
        std::io::stderr(),
        "\r\x1b[2K{:.0} of {:.0} s, {} under way; last second: {}/s, p50 {}, p99 {}, max {}; {} errors",
        progress.elapsed.as_secs_f64(),
        progress.total.as_secs_f64(),
        progress.under_way,
        report::count(second.ok),
        report::time(second.p50),
        report::time(second.p99),
        report::time(second.max),
        progress.errors,
    );
}

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
    interrupt::Interrupt,
    mcp::{
        self, Opener, Options, Plan, Target,
        discover::{self, Offer, Tool},
    },
    report::Report,
    schedule::Arrivals,
    watch::Watch,
};
use clap::Args;

use crate::arguments::{Output, TrustArguments, moment};

pub(crate) const EXAMPLES: &str = "\
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

#[derive(Args, Debug)]
pub(crate) struct McpArguments {
    /// A Streamable HTTP endpoint: http://HOST:PORT/mcp. More than one: agents in turn.
    #[arg(long, value_name = "URL", group = "where")]
    url: Vec<String>,
    /// A relay on which the server is published: moqt://HOST:PORT. More than one: agents in turn.
    /// Needs --server.
    #[arg(long, value_name = "URL", group = "where", requires = "server")]
    relay: Vec<String>,
    /// The server's name at the relay: [AUTHORITY/]NAME.
    #[arg(long, value_name = "NAME", requires = "relay")]
    server: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
    /// Revisions of MCP to speak over HTTP and stdio.
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    revision: Era,
    /// What agents do: a TOML file, or one of agents, cache, calls, churn, connects, lists, mixed,
    /// storm (--show-plan prints it). Without one: calls, reads and lists as six to three to one.
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
    /// Load after that, which does not count.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    cool_down: Option<Duration>,
    /// How long an answer is waited for.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// An answer that takes longer counts as late.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    late: Option<Duration>,
    /// Watch a process's CPU, memory and context switches, by number or program name.
    #[arg(long, value_name = "PID|NAME")]
    watch: Vec<String>,
    /// Seed of arrivals, of choices, and of what templates draw.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// The run is invalid if 1 of 100 requests is sent later than this after it was due.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = duration::parse)]
    lag_max: Duration,
    /// Send the first request at this time, in seconds since 1970, and not as soon as all agents are
    /// connected: several processes and hosts can begin together.
    #[arg(long, value_name = "SECONDS", value_parser = moment)]
    begin_at: Option<u64>,
    /// Print the plan as it would be carried out, arguments included, and send nothing.
    #[arg(long)]
    show_plan: bool,
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

/// Runs `aip-load mcp`. `None`: only the plan was wanted, and was said.
///
/// # Errors
/// Why there is no report, in words.
pub(crate) fn run(asked: &McpArguments) -> Result<Option<Report>, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no threads can be had: {error}"))?;
    let report = runtime.block_on(run_in(asked));
    runtime.shutdown_background();
    report
}

async fn run_in(asked: &McpArguments) -> Result<Option<Report>, String> {
    let mut plan = plan(asked)?;
    let legacy = match asked.revision {
        Era::Auto => None,
        Era::Modern => Some(false),
        Era::Legacy => Some(true),
    };
    let watch = Watch::new(&asked.watch)?;
    let opener = Arc::new(Opener::new(target(asked)?, legacy, Duration::from_secs(30))?);
    complete_plan(asked, &opener, &mut plan).await?;
    if asked.show_plan {
        crate::say(&toml::to_string(&plan).map_err(|error| error.to_string())?);
        return Ok(None);
    }
    // From here on, Ctrl-C ends the run, and no longer the program.
    let interrupt = Interrupt::on_signals().map_err(|error| error.to_string())?;
    let title = format!("aip-load mcp: {}", opener.target().title());
    let options = Options {
        seed: asked.seed,
        late: asked.late,
        watch,
        limits: check::Limits {
            lag_p99_max: u64::try_from(asked.lag_max.as_nanos()).unwrap_or(u64::MAX),
            ..check::Limits::default()
        },
        begin_at: asked.begin_at,
        viewer: asked.output.viewer(&title, &interrupt),
        interrupt,
    };
    mcp::run(plan, opener, options).await.map(Some)
}

/// Asks the server what it offers, and completes the plan by that.
async fn complete_plan(
    asked: &McpArguments,
    opener: &Arc<Opener>,
    plan: &mut Plan,
) -> Result<(), String> {
    let first = opener.open(0).await?;
    let offer = Offer::of(&first).await?;
    let besides =
        if asked.tool.is_empty() { choose(&offer.unsure(), asked.yes) } else { Vec::new() };
    let allowed = offer.allowed(&asked.tool, &besides);
    for name in &asked.tool {
        if !offer.tools.iter().any(|tool| tool.name == *name) {
            let names: Vec<_> = offer.tools.iter().map(|tool| tool.name.as_str()).collect();
            return Err(format!("there is no tool `{name}`; there are: {}", names.join(", ")));
        }
    }
    let filled_in = offer.complete(plan, &allowed);
    if asked.tool.is_empty() {
        for words in discover::try_once(&first, plan, &filled_in).await {
            crate::remark(&format!("{words} (--tool calls it all the same)"));
        }
    }
    if !asked.tool.is_empty() && asked.plan.is_none() {
        plan.requests.retain(|request| request.tool.is_some());
    }
    opener.close(&first).await;
    Ok(())
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
    plan.cool_down = asked.cool_down.unwrap_or(plan.cool_down);
    plan.timeout = asked.timeout.unwrap_or(plan.timeout);
    Ok(plan)
}

fn target(asked: &McpArguments) -> Result<Target, String> {
    if !asked.url.is_empty() {
        return Ok(Target::Http { urls: asked.url.clone() });
    }
    let Some(server) = &asked.server else {
        return Ok(Target::Stdio { command: asked.command.clone() });
    };
    let trust = asked.trust.trust()?;
    let relay =
        |url: &String| RelayTarget::new(url, trust.clone()).map_err(|error| error.to_string());
    let relays = asked.relay.iter().map(relay).collect::<Result<Vec<_>, _>>()?;
    let server = ServerName::parse(server, "localhost").map_err(|error| error.to_string())?;
    Ok(Target::Aip { relays, server })
}

/// Those of the tools which do not say that they only read that may be called all the same: whoever
/// sits at the terminal is asked, once.
fn choose(unsure: &[&Tool], yes: bool) -> Vec<String> {
    let names: Vec<_> = unsure.iter().map(|tool| tool.name.clone()).collect();
    if names.is_empty() || yes {
        return names;
    }
    let shown: Vec<_> = names.iter().map(|name| name.escape_debug().to_string()).collect();
    let shown = shown.join(", ");
    let mut stderr = std::io::stderr();
    if !std::io::stdin().is_terminal() {
        crate::remark(&format!(
            "not called, since they do not say that they only read: {shown} (--tool NAME or --yes \
             allows it)"
        ));
        return Vec::new();
    }
    // Nobody is left to tell.
    _ = write!(
        stderr,
        "These tools do not say that they only read: {shown}.\n\
         Which of them may be called under load? Names with commas, all, or none [none]: "
    );
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer).is_err() {
        return Vec::new();
    }
    chosen(&names, &answer)
}

/// What an answer chooses of these names.
fn chosen(names: &[String], answer: &str) -> Vec<String> {
    if answer.trim() == "all" {
        return names.to_vec();
    }
    let wanted: Vec<_> = answer.split(',').map(str::trim).collect();
    names.iter().filter(|name| wanted.contains(&name.as_str())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_named_is_chosen() {
        let names = ["write".to_owned(), "delete".to_owned()];
        assert_eq!(chosen(&names, "all\n"), names);
        assert_eq!(chosen(&names, " delete , other\n"), ["delete"]);
        for answer in ["", "\n", "none", "n", "ALL", "y", "del"] {
            assert_eq!(chosen(&names, answer), Vec::<String>::new(), "{answer}");
        }
    }
}

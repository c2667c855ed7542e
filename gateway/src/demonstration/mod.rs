//! A demonstration: agents of an MCP server, through a relay.
//!
//! Everything is real: the relay, the edges and the server are processes, the agents are MCP
//! clients over standard streams and HTTP. What is counted is counted where it happens.

mod agent;
mod children;
pub mod library;
mod plan;
mod report;
mod shelf;

use std::{future::Future, path::PathBuf, time::Duration};

use self::{
    agent::{Agent, Outcome},
    children::{Child, Children},
    plan::Plan,
    report::Report,
    shelf::Shelf,
};

/// How long a part may take to begin.
const BEGIN: Duration = Duration::from_secs(20);
/// The same for a server of other people, which may have to be fetched first.
const BEGIN_OTHERS: Duration = Duration::from_secs(180);
/// What the server is called at the relay.
const NAME: &str = "demo";

/// What is shown.
#[derive(Clone, Debug)]
pub struct Options {
    /// A command that is an MCP server, instead of the library over a folder.
    pub server: Option<String>,
    /// Agents. 8.
    pub agents: usize,
    /// Calls of a tool, over all agents. 1,000.
    pub calls: usize,
    /// Reads of one resource by each agent. 10.
    pub reads: usize,
    /// Whether to leave everything up until Ctrl-C.
    pub keep: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { server: None, agents: 8, calls: 1_000, reads: 10, keep: false }
    }
}

/// Why it is not shown to the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// It was stopped.
    Stopped,
    /// It did not go as it should.
    Error(String),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Error(reason)
    }
}

/// What runs besides the agents.
#[derive(Default)]
struct Stage {
    children: Children,
    /// The edge beside the server.
    serving: Option<Child>,
    agents: Vec<Agent>,
    /// What came of it, once it is known.
    report: Option<Report>,
}

/// Where everything is.
#[derive(Clone, Debug)]
struct Places {
    relay: Relay,
    /// The edge that agents reach by HTTP.
    url: String,
}

/// Where the relay is, and how to know it.
#[derive(Clone, Debug)]
struct Relay {
    url: String,
    certificate_sha256: String,
}

impl Relay {
    /// The arguments that lead an edge to it.
    fn arguments(&self) -> Vec<String> {
        ["--relay", &self.url, "--certificate-sha256", &self.certificate_sha256]
            .map(str::to_owned)
            .into()
    }
}

/// Shows it. `stop` ends it early; nothing is left running, whatever happens.
///
/// # Errors
/// Why it was not shown to the end, or did not go as it should.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<(), Failure> {
    let shelf = Shelf::new().map_err(|error| format!("no folder can be made: {error}"))?;
    let mut stage = Stage::default();
    let shown = tokio::select! {
        shown = show(&mut stage, &options, &shelf) => shown.map_err(Failure::Error),
        () = stop => Err(Failure::Stopped),
    };
    let report = stage.report.take();
    let served = stage.strike().await;
    let Some(report) = report else { return shown };
    report.say(served);
    if !options.keep {
        report::say(report::FOR_LATER);
    }
    Ok(report.verdict()?)
}

async fn show(stage: &mut Stage, options: &Options, shelf: &Shelf) -> Result<(), String> {
    let places = stage.set(options, shelf).await?;
    report::say(&format!(
        "relay at {}, server `{NAME}`, HTTP edge at {}",
        places.relay.url, places.url
    ));
    stage.begin_agents(&places, options).await?;
    let agents = &stage.agents;
    let plan = Plan::make(agents, options, shelf).await?;
    for line in plan.describe() {
        report::say(&line);
    }
    let mut outcome = act(agents, &plan, options, shelf).await;
    let asked = plan.asked(agents).await;
    for agent in agents {
        outcome.agents.push(agent.describe());
    }
    let report = Report { outcome, must_be_told: plan.follows_changes(), asked };
    if options.keep {
        report::say(&report.table());
        report::say(&report::snippet(&places));
        report::say("everything stays up until Ctrl-C");
        stage.report = Some(report);
        // Ended by `stop`.
        return std::future::pending().await;
    }
    stage.report = Some(report);
    Ok(())
}

/// All agents do at once what the plan says.
async fn act(agents: &[Agent], plan: &Plan, options: &Options, shelf: &Shelf) -> Outcome {
    let mut outcome = Outcome::default();
    let share = |index: usize| {
        options.calls / agents.len() + usize::from(index < options.calls % agents.len())
    };
    let working = agents
        .iter()
        .enumerate()
        .map(|(index, agent)| agent.work(index, share(index), options.reads, plan));
    for done in futures::future::join_all(working).await {
        outcome.add(&done);
    }
    if plan.follows_changes() {
        let hearing = agents.iter().map(|agent| agent.hear(plan, shelf.new_text()));
        let (changed, heard) = tokio::join!(shelf.change(), futures::future::join_all(hearing));
        if let Err(error) = changed {
            outcome.fail(&format!("the file cannot be changed: {error}"));
        }
        for done in heard {
            outcome.add(&done);
        }
    }
    outcome
}

impl Stage {
    /// Starts relay, server and edges.
    async fn set(&mut self, options: &Options, shelf: &Shelf) -> Result<Places, String> {
        let arguments = ["--listen", "127.0.0.1:0", "--dev-cert", "--open"].map(str::to_owned);
        let relay = relay_of(self.children.start("aip-relay", &arguments)?).await?;
        let mut arguments = vec!["serve".to_owned(), "--name".to_owned(), NAME.to_owned()];
        arguments.extend(relay.arguments());
        arguments.push("--".to_owned());
        match &options.server {
            Some(command) => {
                arguments.extend(["sh".to_owned(), "-c".to_owned(), format!("exec {command}")]);
            }
            None => {
                let program = children::beside("aip-demo")?;
                let folder = shelf.folder().to_string_lossy().into_owned();
                let program = program.to_string_lossy().into_owned();
                arguments.extend([program, "library".to_owned(), folder]);
            }
        }
        let serving = self.serving.insert(Child::begin("aip-mcp", &arguments)?);
        let patience = if options.server.is_some() { BEGIN_OTHERS } else { BEGIN };
        serving.wait_for("published", patience).await?;
        let mut arguments = vec!["connect".to_owned(), "--server".to_owned(), NAME.to_owned()];
        arguments.extend(["--listen".to_owned(), "127.0.0.1:0".to_owned()]);
        arguments.extend(relay.arguments());
        let listening = self.children.start("aip-mcp", &arguments)?;
        let line = listening.wait_for("listening on http://", BEGIN).await?;
        let url = line.split_whitespace().find(|word| word.starts_with("http://"));
        let url = url.ok_or("the edge does not say its URL")?.to_owned();
        Ok(Places { relay, url })
    }

    /// Half of the agents over HTTP, half over standard streams of an edge of their own; one of
    /// each kind keeps to sessions, and the others do what the server does.
    async fn begin_agents(&mut self, places: &Places, options: &Options) -> Result<(), String> {
        for index in 0..options.agents {
            let sessions = index / 2 == 0;
            let agent = if index % 2 == 0 {
                Agent::over_http(index, &places.url, sessions).await
            } else {
                let mut arguments =
                    vec!["connect".to_owned(), "--server".to_owned(), NAME.to_owned()];
                arguments.extend(places.relay.arguments());
                Agent::over_stdio(index, &mut self.children, &arguments, sessions).await
            };
            self.agents.push(agent?);
        }
        Ok(())
    }

    /// Ends everything, the relay last, and gives what the edge beside the server has counted.
    async fn strike(mut self) -> Option<Served> {
        futures::future::join_all(self.agents.into_iter().map(Agent::end)).await;
        let served = match &mut self.serving {
            Some(serving) => Served::of(&serving.end().await),
            None => None,
        };
        self.children.end().await;
        served
    }
}

/// What the edge beside the server has counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Served {
    track_reads: u64,
    calls: u64,
}

impl Served {
    /// From the last line of its log.
    fn of(lines: &[String]) -> Option<Self> {
        let line = lines.iter().rev().find(|line| line.contains("track_reads="))?;
        let number = |name: &str| {
            let (_, after) = line.split_once(name)?;
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            after[..end].parse().ok()
        };
        Some(Self { track_reads: number(" track_reads=")?, calls: number(" calls=")? })
    }
}

/// Waits until the relay says where it is and what its certificate is.
async fn relay_of(relay: &mut Child) -> Result<Relay, String> {
    let (mut address, mut certificate) = (None, None);
    while address.is_none() || certificate.is_none() {
        let line = relay.line(BEGIN).await?;
        if let Some((_, rest)) = line.split_once("listening on ") {
            address = rest.split_whitespace().next().map(ToOwned::to_owned);
        }
        let words = line.split(|c: char| !c.is_ascii_alphanumeric());
        let is_hash = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
        certificate = words.into_iter().find(is_hash).map(ToOwned::to_owned).or(certificate);
    }
    let (Some(address), Some(certificate_sha256)) = (address, certificate) else {
        return Err("the relay does not say where it is".to_owned());
    };
    Ok(Relay { url: format!("moqt://{address}"), certificate_sha256 })
}

/// The folder of the programs that belong together.
fn programs() -> Option<PathBuf> {
    std::env::current_exe().ok()?.parent().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_last_line_is_read() {
        let line =
            "2026-11-22T17:00:00Z  INFO aip_mcp: ended track_reads=12 calls=1034 called_reads=1";
        let served = Served::of(&["x".to_owned(), line.to_owned()]);
        assert_eq!(served, Some(Served { track_reads: 12, calls: 1_034 }));
        assert_eq!(Served::of(&["no".to_owned()]), None);
    }
}

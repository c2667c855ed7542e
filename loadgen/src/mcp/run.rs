//! A run against an MCP server.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aip_gateway::message::{Id, Message};
use serde_json::{Map, Value};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    pace::{self, Due},
    plan::{Plan, Request},
    recorder::{End, Recorder, Sample},
    target::{Connection, Failure, Opener},
    template::{Facts, fill, fill_text},
};
use crate::{
    check, clock,
    environment::Environment,
    fingerprint, process,
    report::{FORMAT, Interval, Report},
    watch::Watch,
};

/// Requests under way at one time; one more is not sent, and is an error.
const UNDER_WAY_MAX: usize = 100_000;
/// Connections that are being opened at one time.
const OPENING_MAX: usize = 64;
/// Before the first request.
const SETTLE: Duration = Duration::from_millis(100);

/// How a run is carried out; nothing here changes what is asked of the server.
#[derive(Debug)]
pub struct Options {
    /// Seed of arrivals, choices and arguments.
    pub seed: u64,
    /// An answer that takes longer is late.
    pub late: Option<Duration>,
    /// Processes to watch.
    pub watch: Watch,
    /// What the generator must keep to.
    pub limits: check::Limits,
    /// Told of the run while it goes on, twice a second.
    pub show: fn(&Progress),
}

/// What others may see of a run while it goes on.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Since the beginning.
    pub elapsed: Duration,
    /// In all.
    pub total: Duration,
    /// Requests under way.
    pub under_way: usize,
    /// Errors so far.
    pub errors: u64,
    /// The seconds so far.
    pub timeline: Vec<Interval>,
}

/// One agent.
#[derive(Debug)]
struct Agent {
    connection: Mutex<Arc<Connection>>,
}

impl Agent {
    fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What all tasks of a run share.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    seed: u64,
    /// Cumulated weights of the plan's requests.
    weights: Vec<f64>,
    opener: Arc<Opener>,
    agents: Vec<Agent>,
    recorder: Recorder,
    origin: Instant,
    under_way: Semaphore,
    heard: Arc<AtomicU64>,
}

/// Runs a plan.
///
/// # Errors
/// If not every agent can connect.
pub async fn run(plan: Plan, opener: Arc<Opener>, mut options: Options) -> Result<Report, String> {
    plan.check()?;
    if plan.requests.is_empty() {
        return Err("nothing is to be asked: no tool may be called and no resource is there. \
                    Name a tool with --tool, or allow all with --yes"
            .to_owned());
    }
    let mut environment = Environment::observe();
    let recorder = Recorder::new(plan.requests.len(), plan.warm_up, plan.duration, options.late);
    let agents = open_agents(&plan, &opener, &recorder).await?;
    let mut sum = 0.0;
    let weigh = |request: &Request| {
        sum += request.weight();
        sum
    };
    let weights = plan.requests.iter().map(weigh).collect();
    let shared = Arc::new(Shared {
        seed: options.seed,
        weights,
        opener,
        agents,
        recorder,
        origin: clock::now() + SETTLE,
        under_way: Semaphore::new(UNDER_WAY_MAX),
        heard: Arc::default(),
        plan,
    });
    let busy = drive(&shared, &mut options).await?;
    environment.conclude();
    let closing = shared.agents.iter().map(Agent::connection).map(|connection| {
        let opener = Arc::clone(&shared.opener);
        tokio::spawn(async move { opener.close(&connection).await })
    });
    for closed in closing.collect::<Vec<_>>() {
        // A task that panicked has said so.
        _ = closed.await;
    }
    Ok(report(&shared, &options, busy, environment))
}

/// Opens every agent's connection, some at a time.
async fn open_agents(
    plan: &Plan,
    opener: &Arc<Opener>,
    recorder: &Recorder,
) -> Result<Vec<Agent>, String> {
    let is_stdio = matches!(opener.target(), super::Target::Stdio { .. });
    let connections = if plan.shared.unwrap_or(is_stdio) { 1 } else { plan.agents };
    let mut opening = JoinSet::new();
    let permits = Arc::new(Semaphore::new(OPENING_MAX));
    for _ in 0..connections {
        let (opener, permits) = (Arc::clone(opener), Arc::clone(&permits));
        opening.spawn(async move {
            let permit = permits.acquire_owned().await;
            let since = clock::now();
            let opened = opener.open().await;
            drop(permit);
            (opened, clock::now() - since)
        });
    }
    let mut opened = Vec::new();
    while let Some(done) = opening.join_next().await {
        let (connection, took) = done.map_err(|error| error.to_string())?;
        recorder.connected(took);
        opened.push(Arc::new(connection?));
    }
    let agent = |index: usize| {
        let connection = Arc::clone(&opened[index % opened.len()]);
        Agent { connection: Mutex::new(connection) }
    };
    Ok((0..plan.agents).map(agent).collect())
}

/// Carries the plan out; gives the share of all its cores that this process was busy while it
/// measured.
async fn drive(shared: &Arc<Shared>, options: &mut Options) -> Result<f64, String> {
    let plan = &shared.plan;
    let mut tasks = JoinSet::new();
    for index in 0..plan.listeners {
        tasks.spawn(listen(Arc::clone(shared), index));
    }
    let end = plan.warm_up + plan.duration + plan.cool_down;
    let side = tokio::spawn(reconnect(Arc::clone(shared), end));
    let storm = tokio::spawn(storm(Arc::clone(shared)));
    let driving = if plan.closed {
        tokio::spawn(drive_closed(Arc::clone(shared), end))
    } else {
        let schedule =
            plan.arrivals.schedule(plan.warm_up, plan.duration, plan.cool_down, shared.seed);
        let arrivals = pace::start(schedule, shared.origin)?;
        tokio::spawn(drive_open(Arc::clone(shared), arrivals))
    };
    let busy = watch(shared, &driving, options).await;
    let done = driving.await.map_err(|error| error.to_string());
    side.abort();
    storm.abort();
    tasks.abort_all();
    done?;
    Ok(busy)
}

/// Sends what is due when it is due, whoever has not answered.
async fn drive_open(shared: Arc<Shared>, mut arrivals: tokio::sync::mpsc::Receiver<Due>) {
    let mut random = fastrand::Rng::with_seed(shared.seed ^ 0x5eed);
    let mut under_way = JoinSet::new();
    while let Some(Due { sequence, offset }) = arrivals.recv().await {
        while under_way.try_join_next().is_some() {}
        let kind = shared.choose(&mut random);
        let hot = random.f64();
        let cancel = random.f64() < shared.plan.cancel;
        let agent = usize::try_from(sequence).unwrap_or(0) % shared.agents.len();
        if shared.under_way.available_permits() == 0 {
            let end = End::Error(format!("not sent: {UNDER_WAY_MAX} under way"));
            let now = shared.since();
            shared.recorder.record(Sample { kind, due: offset, sent: now, done: now, end });
            continue;
        }
        let task = Task { kind, hot, cancel, agent, sequence, due: offset };
        let shared = Arc::clone(&shared);
        under_way.spawn(async move { shared.carry_out(task).await });
    }
    while under_way.join_next().await.is_some() {}
}

/// Each agent asks again when it was answered.
async fn drive_closed(shared: Arc<Shared>, end: Duration) {
    let mut agents = JoinSet::new();
    for agent in 0..shared.agents.len() {
        let shared = Arc::clone(&shared);
        agents.spawn(async move {
            let seed = shared.seed ^ (agent as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = fastrand::Rng::with_seed(seed);
            tokio::time::sleep_until(shared.origin.into()).await;
            let mut turn = 0;
            while shared.since() < end {
                let task = Task {
                    kind: shared.choose(&mut random),
                    hot: random.f64(),
                    cancel: random.f64() < shared.plan.cancel,
                    agent,
                    sequence: (agent as u64) << 40 | turn,
                    due: shared.since(),
                };
                turn += 1;
                shared.carry_out(task).await;
                if !shared.plan.think.is_zero() {
                    tokio::time::sleep(shared.plan.think).await;
                }
            }
        });
    }
    while agents.join_next().await.is_some() {}
}

/// Reconnects agents at the plan's rate.
async fn reconnect(shared: Arc<Shared>, end: Duration) {
    if shared.plan.reconnect == 0.0 {
        return;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / shared.plan.reconnect));
    for index in 0.. {
        ticks.tick().await;
        if end <= shared.since() {
            return;
        }
        shared.replace(index % shared.agents.len()).await;
    }
}

/// Reconnects the plan's share of agents at once, in the middle.
async fn storm(shared: Arc<Shared>) {
    let share = shared.plan.storm;
    if share == 0.0 {
        return;
    }
    let middle = shared.origin + shared.plan.warm_up + shared.plan.duration / 2;
    tokio::time::sleep_until(middle.into()).await;
    let mut all = JoinSet::new();
    let chosen = (0..shared.agents.len())
        .filter(|index| (*index as f64) < (shared.agents.len() as f64 * share).ceil());
    for index in chosen {
        let shared = Arc::clone(&shared);
        all.spawn(async move { shared.replace(index).await });
    }
    while all.join_next().await.is_some() {}
}

/// Listens for changes until the run is over.
async fn listen(shared: Arc<Shared>, index: usize) {
    let connection = shared.agents[index % shared.agents.len()].connection();
    let mut filter = Map::new();
    for list in ["toolsListChanged", "promptsListChanged", "resourcesListChanged"] {
        filter.insert(list.to_owned(), Value::Bool(true));
    }
    filter.insert("resourceSubscriptions".to_owned(), Value::from(shared.plan.listen.clone()));
    let params = Map::from_iter([("notifications".to_owned(), Value::Object(filter))]);
    let id = Id::from_number(1 << 50 | index as u64);
    let request = Message::request(id, "subscriptions/listen", &connection.params(&params));
    let heard = Arc::clone(&shared.heard);
    if let Err(failure) = connection.listen(request, &heard).await {
        shared.recorder.error(&format!("listen: {}", failure.kind()));
    }
}

/// Looks at the run, and at whom it watches, until it is over.
async fn watch(
    shared: &Shared,
    driving: &tokio::task::JoinHandle<()>,
    options: &mut Options,
) -> f64 {
    let plan = &shared.plan;
    let total = plan.warm_up + plan.duration + plan.cool_down;
    let (mut begun, mut busy) = (None, None);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut shown = Duration::ZERO;
    while !driving.is_finished() {
        ticks.tick().await;
        let elapsed = shared.since();
        if begun.is_none() && plan.warm_up <= elapsed {
            options.watch.begin();
            begun = Some((elapsed, process::cpu_seconds()));
        }
        if let (Some((since, before)), None) = (begun, busy) {
            options.watch.look();
            if plan.warm_up + plan.duration <= elapsed {
                let seconds = (elapsed - since).as_secs_f64();
                busy = Some((process::cpu_seconds() - before) / seconds.max(1e-3));
            }
        }
        if shown + Duration::from_millis(500) <= elapsed {
            shown = elapsed;
            (options.show)(&Progress {
                elapsed,
                total,
                under_way: UNDER_WAY_MAX - shared.under_way.available_permits(),
                errors: shared.recorder.errors(),
                timeline: shared.recorder.timeline(),
            });
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    busy.unwrap_or_default() / cores as f64
}

/// One request to be made.
#[derive(Clone, Copy, Debug)]
struct Task {
    kind: usize,
    hot: f64,
    cancel: bool,
    agent: usize,
    sequence: u64,
    due: Duration,
}

impl Shared {
    /// Since the beginning.
    fn since(&self) -> Duration {
        clock::now().saturating_duration_since(self.origin)
    }

    /// One of the plan's requests, by weight.
    fn choose(&self, random: &mut fastrand::Rng) -> usize {
        let sum = self.weights.last().copied().unwrap_or_default();
        let at = random.f64() * sum;
        self.weights.iter().position(|weight| at < *weight).unwrap_or_default()
    }

    /// Makes a request, and records how it ended.
    async fn carry_out(&self, task: Task) {
        let Ok(_permit) = self.under_way.acquire().await else { return };
        let request = &self.plan.requests[task.kind];
        let sent = self.since();
        let end = if request.method == "connect" {
            self.cold_connect().await
        } else {
            self.ask(request, task).await
        };
        let (kind, due, done) = (task.kind, task.due, self.since());
        self.recorder.record(Sample { kind, due, sent, done, end });
    }

    async fn cold_connect(&self) -> End {
        match tokio::time::timeout(self.plan.timeout, self.opener.open()).await {
            Ok(Ok(connection)) => {
                let opener = Arc::clone(&self.opener);
                tokio::spawn(async move { opener.close(&connection).await });
                End::Right(0)
            }
            Ok(Err(reason)) => End::Error(format!("connect: {reason}")),
            Err(_) => End::Lost("timeout of connect".to_owned()),
        }
    }

    async fn ask(&self, request: &Request, task: Task) -> End {
        let facts = Facts { sequence: task.sequence, agent: task.agent };
        let connection = self.agents[task.agent].connection();
        let params = connection.params(&params(request, facts, task.hot, self.seed));
        let message = Message::request(Id::from_number(task.sequence), &request.method, &params);
        let asking = tokio::time::timeout(self.plan.timeout, connection.ask(message));
        let answer = if task.cancel {
            // Dropping what asks cancels the request.
            match tokio::time::timeout(self.plan.cancel_after, asking).await {
                Ok(answer) => answer,
                Err(_) => return End::Cancelled,
            }
        } else {
            asking.await
        };
        match answer {
            Ok(Ok(answer)) => {
                let expected = request.expect.as_ref();
                let expected = expected.map(|text| fill_text(text, facts, self.seed));
                if expected.is_some_and(|text| !answer.body().contains(&text)) {
                    return End::Wrong;
                }
                End::Right(answer.body().len() as u64)
            }
            Ok(Err(failure @ Failure::Lost)) => End::Lost(failure.kind()),
            Ok(Err(failure)) => End::Error(failure.kind()),
            Err(_) => End::Lost("timeout".to_owned()),
        }
    }

    /// Opens an agent's next connection, then ends the one before.
    async fn replace(&self, index: usize) {
        let since = clock::now();
        match self.opener.open().await {
            Ok(connection) => {
                self.recorder.connected(clock::now() - since);
                let connection = Arc::new(connection);
                let before = {
                    let agent = &self.agents[index];
                    let mut held = agent.connection.lock().unwrap_or_else(PoisonError::into_inner);
                    std::mem::replace(&mut *held, connection)
                };
                // Requests under way hold it: they end first.
                let opener = Arc::clone(&self.opener);
                let patience = self.plan.timeout;
                tokio::spawn(async move {
                    let until = clock::now() + patience;
                    while 1 < Arc::strong_count(&before) && clock::now() < until {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    opener.close(&before).await;
                });
            }
            Err(reason) => self.recorder.error(&format!("reconnect: {reason}")),
        }
    }
}

/// A request's params without `_meta`.
fn params(request: &Request, facts: Facts, hot: f64, seed: u64) -> Map<String, Value> {
    let mut params = Map::new();
    let named = request.tool.as_ref().or(request.prompt.as_ref());
    if let Some(name) = named {
        params.insert("name".to_owned(), Value::from(name.as_str()));
    }
    if let Some(arguments) = &request.arguments {
        params.insert("arguments".to_owned(), Value::Object(fill(arguments, facts, seed)));
    } else if named.is_some() {
        params.insert("arguments".to_owned(), Value::Object(Map::new()));
    }
    if !request.uris.is_empty() {
        let turn = usize::try_from(facts.sequence).unwrap_or(0) % request.uris.len();
        let index = if hot < request.hot { 0 } else { turn };
        params.insert("uri".to_owned(), Value::from(request.uris[index].as_str()));
    }
    params
}

fn report(shared: &Shared, options: &Options, busy: f64, environment: Environment) -> Report {
    let plan = &shared.plan;
    let titles: Vec<String> = plan.requests.iter().map(Request::title).collect();
    let summary = shared.recorder.conclude(&titles, plan.closed);
    let seconds = plan.duration.as_secs_f64();
    let load_before = environment.load_before / environment.cores.max(1) as f64;
    let seen = check::Seen { lag: summary.lag.clone(), busy, load_before };
    let mut validity = check::judge(&seen, options.limits);
    if plan.closed {
        validity.warnings.push(
            "closed loop: each agent waits for its answer before it asks again, so what a stop of \
             the target would have done to requests that were due meanwhile is not in these times"
                .to_owned(),
        );
    }
    if !environment.optimised {
        let warning = "this is a debug build of aip-load: its own cost is several times higher";
        validity.warnings.push(warning.to_owned());
    }
    let mut figures = BTreeMap::new();
    figures.insert("generator busy (share of all cores)".to_owned(), busy);
    if 0.0 < plan.cancel {
        figures.insert("cancelled as planned".to_owned(), summary.cancelled as f64);
    }
    if 0 < plan.listeners {
        let heard = shared.heard.load(Ordering::Relaxed);
        figures.insert("notifications heard".to_owned(), heard as f64);
    }
    let json = serde_json::to_value(plan).unwrap_or_default();
    Report {
        format: FORMAT.to_owned(),
        command: "mcp".to_owned(),
        target: shared.opener.target().title(),
        validity,
        seed: shared.seed,
        fingerprint: fingerprint(&json),
        plan: json,
        environment,
        seconds,
        counts: summary.counts,
        series: summary.series,
        figures,
        timeline: shared.recorder.timeline(),
        processes: options.watch.usage(seconds),
    }
}

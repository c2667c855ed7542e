//! A run against an MCP server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    agents::{self, Agent},
    drive,
    listen::{self, Ear},
    observe::{self, Seen},
    pace,
    plan::{Plan, Request},
    recorder::{Recorder, Titles},
    target::Opener,
};
use crate::{
    check,
    clock::{self, Clock},
    environment::Environment,
    fingerprint,
    interrupt::Interrupt,
    progress::Viewer,
    report::{FORMAT, Report, Series},
    watch::Watch,
};

/// Requests under way at one time; one more is not sent, and is an error.
pub(super) const UNDER_WAY_MAX: usize = 100_000;
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
    /// When the first request is due, in nanoseconds since the Unix epoch, so that several processes
    /// begin together; `None`: as soon as all agents are connected.
    pub begin_at: Option<u64>,
    /// Whoever looks at the run.
    pub viewer: Viewer,
    /// Ends the run before its end.
    pub interrupt: Interrupt,
}

/// What all tasks of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) seed: u64,
    /// Cumulated weights of the plan's requests.
    pub(super) weights: Vec<f64>,
    pub(super) opener: Arc<Opener>,
    /// Relays or endpoints that agents use in turn.
    pub(super) places: usize,
    pub(super) agents: Vec<Agent>,
    pub(super) recorder: Recorder,
    pub(super) origin: Instant,
    pub(super) under_way: Semaphore,
    pub(super) ear: Mutex<Ear>,
    pub(super) interrupt: Interrupt,
}

impl Shared {
    /// Since the beginning.
    pub(super) fn since(&self) -> Duration {
        clock::now().saturating_duration_since(self.origin)
    }

    /// Of the whole load.
    pub(super) fn total(&self) -> Duration {
        self.plan.warm_up + self.plan.duration + self.plan.cool_down
    }
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
    let titles = Titles {
        kinds: plan.requests.iter().map(Request::labels).collect(),
        places: opener.target().places(),
    };
    let places = titles.places.len();
    let recorder = Recorder::new(titles, plan.warm_up, plan.duration, options.late);
    let agents = agents::open(&plan, &opener, &recorder, &mut options).await?;
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
        places,
        agents,
        recorder,
        origin: origin(options.begin_at)?,
        under_way: Semaphore::new(UNDER_WAY_MAX),
        ear: Mutex::new(Ear::new(plan.listeners)),
        interrupt: options.interrupt.clone(),
        plan,
    });
    let seen = carry_out(&shared, &mut options).await?;
    environment.conclude();
    agents::close(&shared).await;
    Ok(report(&shared, &options, &seen, environment))
}

/// When the first request is due.
fn origin(begin_at: Option<u64>) -> Result<Instant, String> {
    let now = clock::now();
    let Some(at) = begin_at else { return Ok(now + SETTLE) };
    let origin = Clock::start().instant(at);
    if origin < now {
        return Err("--begin-at had passed before all agents were connected".to_owned());
    }
    Ok(origin)
}

/// Carries the plan out; gives what was seen of this process meanwhile.
async fn carry_out(shared: &Arc<Shared>, options: &mut Options) -> Result<Seen, String> {
    let plan = &shared.plan;
    let mut beside = JoinSet::new();
    for index in 0..plan.listeners {
        beside.spawn(listen::listen(Arc::clone(shared), index));
    }
    if let Some(trigger) = &plan.trigger {
        beside.spawn(listen::trigger(Arc::clone(shared), trigger.clone()));
    }
    beside.spawn(agents::reconnect(Arc::clone(shared)));
    beside.spawn(agents::storm(Arc::clone(shared)));
    let driving = if plan.closed {
        tokio::spawn(drive::closed(Arc::clone(shared)))
    } else {
        let schedule =
            plan.arrivals.schedule(plan.warm_up, plan.duration, plan.cool_down, shared.seed);
        let arrivals = pace::start(schedule, shared.origin)?;
        tokio::spawn(drive::open(Arc::clone(shared), arrivals))
    };
    let seen = observe::watch(shared, &driving, options).await;
    let done = driving.await.map_err(|error| error.to_string());
    beside.abort_all();
    done?;
    Ok(seen)
}

fn report(shared: &Shared, options: &Options, seen: &Seen, environment: Environment) -> Report {
    let plan = &shared.plan;
    let mut summary = shared.recorder.conclude(shared.since(), plan.closed);
    let load_before = environment.load_before / environment.cores.max(1) as f64;
    let judged = check::Seen { lag: summary.lag.clone(), busy: seen.busy, load_before };
    let mut validity = check::judge(&judged, options.limits);
    check::note_build(&mut validity, &environment);
    check::note_interruption(&mut validity, seen.measured, plan.duration);
    if plan.closed {
        validity.warnings.push(
            "closed loop: each agent waits for its answer before it asks again, so what a stop of \
             the target would have done to requests that were due meanwhile is not in these times"
                .to_owned(),
        );
    }
    let mut figures = BTreeMap::new();
    figures.insert("generator busy (share of all cores)".to_owned(), seen.busy);
    if 0.0 < plan.cancel {
        figures.insert("cancelled as planned".to_owned(), summary.cancelled as f64);
    }
    if 0 < plan.listeners {
        let ear = listen::lock(&shared.ear);
        figures.extend(ear.figures());
        if plan.trigger.is_some() {
            summary.series.push(Series::new("heard", [], ear.heard()));
            summary.series.push(Series::new("heard by the last", [], ear.last()));
        }
    }
    let seconds = seen.measured.as_secs_f64();
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
        timeline: summary.timeline,
        processes: options.watch.usage(seconds),
    }
}

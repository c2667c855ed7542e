//! `aip-load relay`: bare MOQT fan-out against any relay.

mod churn;
mod driver;
pub mod payload;
pub mod plan;
mod publisher;
mod subscriber;
mod tally;

use std::{
    collections::BTreeMap,
    net::ToSocketAddrs as _,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use aip_codec::{
    Version,
    moqt::name::{FullTrackName, TrackNamespace},
};
use aip_engine::io::{self, Config, Dial, Handle, Quic, Target};
use bytes::Bytes;

pub use self::{
    driver::{FanOut, Outcome, Parts, Places, Progress, Told},
    plan::{Churn, Delivery, Plan, Shape},
    tally::{Coarse, Tally},
};
use crate::{
    check,
    clock::{self, Clock},
    environment::Environment,
    fingerprint,
    report::{FORMAT, Report, Series},
    watch::Watch,
};

/// How a run is carried out; nothing here changes what is asked of the relay.
#[derive(Debug)]
pub struct Options {
    /// The publisher's relay.
    pub origin: Target,
    /// The subscribers' relays, in turn.
    pub relays: Vec<Target>,
    /// Seed of arrivals and filler.
    pub seed: u64,
    /// UDP sockets that the subscribers share.
    pub sockets: usize,
    /// Processes to watch.
    pub watch: Watch,
    /// What the generator must keep to.
    pub limits: check::Limits,
    /// Told of the run while it goes on, about five times a second.
    pub show: fn(&Progress),
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing could begin.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A relay has no address.
    #[error("{0} has no address: {1}")]
    Address(String, String),
    /// The plan cannot be carried out.
    #[error("{0}")]
    Plan(String),
    /// The run ended before its end.
    #[error("{0}")]
    Failed(String),
}

/// Runs a plan.
///
/// # Errors
/// If the relay cannot be reached, refuses, or not all subscribers are ready in time.
pub fn run(plan: Plan, mut options: Options) -> Result<Report, Error> {
    check_plan(&plan)?;
    let mut environment = Environment::observe();
    let places = Places {
        origin: resolve(&options.origin)?,
        relays: options.relays.iter().map(resolve).collect::<Result<_, _>>()?,
    };
    let mut random = fastrand::Rng::with_seed(clock::unix_nanoseconds());
    let run = random.u32(..);
    let track = track(run)?;
    let config = config(&plan, &options)?;
    let (tell, told) = mpsc::channel();
    let progress = Arc::new(Mutex::new(Progress::default()));
    let parts = Parts {
        places,
        track,
        run,
        seed: options.seed,
        clock: Clock::start(),
        tell,
        progress: Arc::clone(&progress),
    };
    let driven = plan.clone();
    let handle = io::spawn(config, move || FanOut::new(driven, parts, clock::now()))?;
    let waited = wait(&handle, &told, &progress, &mut options);
    handle.shutdown();
    handle.join()?;
    let (outcome, busy) = waited?;
    if let Some(reason) = outcome.failed {
        return Err(Error::Failed(reason));
    }
    environment.conclude();
    Ok(report(&plan, &options, *outcome, busy, environment))
}

fn check_plan(plan: &Plan) -> Result<(), Error> {
    let wrong = |reason: &str| Err(Error::Plan(reason.to_owned()));
    if plan.size < payload::HEADER {
        return wrong("a payload has at least 36 bytes: number, times and checksum");
    }
    if plan.delivery == Delivery::Datagram && 1_150 < plan.size {
        return wrong("a datagram holds at most 1,150 bytes here; use --delivery stream");
    }
    if plan.subscribers == 0 || plan.group_length == 0 || plan.measured.is_zero() {
        return wrong("subscribers, group length and measured time must be above 0");
    }
    if !(plan.connect_rate.is_finite() && 0.0 < plan.connect_rate) {
        return wrong("the connect rate must be above 0");
    }
    Ok(())
}

fn resolve(target: &Target) -> Result<std::net::SocketAddr, Error> {
    let failed = |reason: String| Error::Address(target.url.to_string(), reason);
    let mut addresses = (target.url.host(), target.url.port())
        .to_socket_addrs()
        .map_err(|error| failed(error.to_string()))?;
    addresses.next().ok_or_else(|| failed("none".to_owned()))
}

fn track(run: u32) -> Result<FullTrackName, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Plan(error.to_string());
    let fields = [b"aip-load".to_vec(), format!("{run:08x}").into_bytes()];
    let namespace = TrackNamespace::new(fields).map_err(|error| wrong(&error))?;
    FullTrackName::new(namespace, Bytes::from_static(b"objects")).map_err(|error| wrong(&error))
}

fn config(plan: &Plan, options: &Options) -> Result<Config, Error> {
    let mut targets = vec![options.origin.clone()];
    targets.extend(options.relays.iter().cloned());
    let mut dial = Dial::default();
    dial.on_request = true;
    dial.timeout = Duration::from_secs(10);
    if !plan.drafts.is_empty() {
        dial.versions = drafts(&plan.drafts)?;
    }
    let mut quic = Quic::default();
    quic.idle_timeout = Duration::from_secs(30);
    quic.keep_alive = Duration::from_secs(10);
    quic.streams_unidirectional_max = 10_000;
    let mut config = Config::client(targets).with_dial(dial).with_quic(quic).with_signals(true);
    config.client_sockets = options.sockets.max(1);
    // An object that is due is not to wait for the poll, which wakes up to a millisecond late.
    config.spin = Duration::from_millis(1);
    config.drain_timeout = Duration::from_millis(500);
    Ok(config)
}

fn drafts(numbers: &[u8]) -> Result<Vec<Version>, Error> {
    let find = |number: &u8| {
        let found = Version::PREFERENCE.into_iter().find(|version| version.number() == *number);
        found.ok_or_else(|| Error::Plan(format!("draft {number} is not spoken; 18 to 22 are")))
    };
    numbers.iter().map(find).collect()
}

/// Waits for the end of the run; gives what came of it, and how busy the worker was.
fn wait(
    handle: &Handle<()>,
    told: &mpsc::Receiver<Told>,
    progress: &Mutex<Progress>,
    options: &mut Options,
) -> Result<(Box<Outcome>, f64), Error> {
    let (mut began, mut busy) = (None, 0.0);
    loop {
        match told.recv_timeout(Duration::from_millis(200)) {
            Ok(Told::Measuring) => {
                options.watch.begin();
                began = Some((clock::now(), handle.counters()));
            }
            Ok(Told::Measured) => options.watch.look(),
            Ok(Told::Over(outcome)) => return Ok((outcome, busy)),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Some((since, before)) = &began {
                    let seconds = clock::now().duration_since(*since).as_secs_f64();
                    let after = handle.counters().busy_nanoseconds_total;
                    let nanoseconds = after.saturating_sub(before.busy_nanoseconds_total);
                    busy = nanoseconds as f64 / 1e9 / seconds.max(1e-3);
                }
                (options.show)(&progress.lock().unwrap_or_else(PoisonError::into_inner));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Error::Failed("the worker ended".to_owned()));
            }
        }
    }
}

fn report(
    plan: &Plan,
    options: &Options,
    outcome: Outcome,
    busy: f64,
    environment: Environment,
) -> Report {
    let Outcome { tally, lag, connect, subscribe, draft, upstream_subscriptions, .. } = outcome;
    let seconds = plan.measured.as_secs_f64();
    let load_before = environment.load_before / environment.cores.max(1) as f64;
    let seen = check::Seen { lag: lag.clone(), busy, load_before };
    let mut validity = check::judge(&seen, options.limits);
    if !environment.optimised {
        let warning = "this is a debug build of aip-load: its own cost is several times higher";
        validity.warnings.push(warning.to_owned());
    }
    let mut series = vec![
        Series::new("latency", [], &tally.latency),
        Series::new("service", [], &tally.service),
        Series::new("last", [], &tally.last),
    ];
    for (name, times) in [("connect", &connect), ("subscribe", &subscribe), ("lag", &lag)] {
        series.push(Series::new(name, [], times));
    }
    let mut figures = subscriber_figures(&tally);
    figures.insert("draft".to_owned(), f64::from(draft));
    figures.insert("generator busy (share of a core)".to_owned(), busy);
    figures.insert("objects not delivered to all".to_owned(), tally.incomplete as f64);
    figures.insert("upstream subscriptions at the end".to_owned(), upstream_subscriptions as f64);
    let processes = options.watch.usage(seconds);
    let cpu: f64 = processes.iter().map(|usage| usage.cpu_seconds).sum();
    if !processes.is_empty() && 0 < tally.counts.ok {
        let each = cpu * 1e6 / tally.counts.ok as f64;
        figures.insert("watched CPU per delivered object (µs)".to_owned(), each);
    }
    let plan = serde_json::to_value(plan).unwrap_or_default();
    Report {
        format: FORMAT.to_owned(),
        command: "relay".to_owned(),
        target: target(options),
        validity,
        seed: options.seed,
        fingerprint: fingerprint(&plan),
        plan,
        environment,
        seconds,
        counts: tally.counts,
        series,
        figures,
        timeline: tally.timeline,
        processes,
    }
}

fn target(options: &Options) -> String {
    let relays: Vec<_> = options.relays.iter().map(|target| target.url.to_string()).collect();
    if options.relays.iter().all(|target| target.url == options.origin.url) {
        options.origin.url.to_string()
    } else {
        format!("{} → {}", options.origin.url, relays.join(", "))
    }
}

/// How unlike the subscribers were.
fn subscriber_figures(tally: &Tally) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    let mut means: Vec<f64> = tally.subscribers().filter_map(|(times, _)| times.mean()).collect();
    let mut tails: Vec<f64> =
        tally.subscribers().filter_map(|(times, _)| times.quantile(0.99)).collect();
    for (what, values) in [("mean", &mut means), ("p99", &mut tails)] {
        values.sort_by(f64::total_cmp);
        let picks = [("best", 0), ("median", values.len() / 2), ("worst", values.len().max(1) - 1)];
        for (which, index) in picks {
            if let Some(value) = values.get(index) {
                figures.insert(format!("subscribers' {what} latency, {which} (ms)"), value / 1e6);
            }
        }
    }
    let losers = tally.subscribers().filter(|(_, lost)| 0 < *lost).count();
    figures.insert("subscribers that lost something".to_owned(), losers as f64);
    figures
}

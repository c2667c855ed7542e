//! `aip-load relay`: bare MOQT fan-out against any relay.

#[cfg(test)]
mod allocation;
mod churn;
mod driver;
pub mod payload;
pub mod plan;
mod publisher;
mod report;
mod subscriber;
mod tally;

use std::{
    net::ToSocketAddrs as _,
    path::PathBuf,
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
    driver::{FanOut, Outcome, Parts, Places, Told},
    plan::{Churn, Delivery, Plan, Shape},
    tally::{Share, Tally},
};
use crate::{
    check,
    clock::{self, Clock},
    environment::Environment,
    interrupt::Interrupt,
    progress::{Progress, Viewer},
    report::Report,
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
    /// When the first object is due, in nanoseconds since the Unix epoch, so that several processes
    /// begin together; `None`: as soon as all are ready.
    pub begin_at: Option<u64>,
    /// Whoever looks at the run.
    pub viewer: Viewer,
    /// Ends the run before its end.
    pub interrupt: Interrupt,
    /// Where a line for each subscriber is written, as comma-separated values.
    pub subscribers_file: Option<PathBuf>,
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
    let progress = options.viewer.looks().then(Arc::<Mutex<Progress>>::default);
    let parts = Parts {
        places,
        track,
        run,
        seed: options.seed,
        clock: Clock::start(),
        begin_at: options.begin_at,
        tell,
        progress: progress.clone(),
    };
    let driven = plan.clone();
    let handle = io::spawn(config, move || FanOut::new(driven, parts, clock::now()))?;
    let waited = wait(&handle, &told, progress.as_deref(), &mut options);
    handle.shutdown();
    handle.join()?;
    let (outcome, busy) = waited?;
    if let Some(reason) = outcome.failed {
        return Err(Error::Failed(reason));
    }
    environment.conclude();
    if let Some(path) = &options.subscribers_file {
        report::write_subscribers(&outcome.tally, options.relays.len(), path)
            .map_err(|error| Error::Failed(format!("{}: {error}", path.display())))?;
    }
    Ok(report::report(&plan, &options, *outcome, busy, environment))
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
    let mut config = Config::client(targets).with_dial(dial).with_quic(quic);
    config.client_sockets = options.sockets.max(1);
    // An object that is due is not to wait for the poll, which wakes up to a millisecond late.
    config.spin = Duration::from_millis(1);
    // An interrupted run still waits for what is under way.
    config.drain_timeout = plan.drain + Duration::from_secs(1);
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
    progress: Option<&Mutex<Progress>>,
    options: &mut Options,
) -> Result<(Box<Outcome>, f64), Error> {
    let (mut began, mut busy) = (None, 0.0);
    let mut ending = false;
    loop {
        if options.interrupt.is_set() && !ending {
            ending = true;
            handle.shutdown();
        }
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
                if let Some(progress) = progress {
                    let seen = progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    options.viewer.show(&seen);
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Error::Failed("the worker ended".to_owned()));
            }
        }
    }
}

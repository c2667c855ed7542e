//! From a configuration to running workers.

use std::{
    fs::{self, DirBuilder},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use mio::Poll;

use super::{
    admin::Admin,
    clock::Clock,
    config::{Config, Identity},
    endpoint::{Endpoint, Site},
    error::Error,
    export::Export,
    hub::{Hub, WORKERS_MAX, Watch},
    keys::Keys,
    mailbox::{Mailbox, Receiver},
    record,
    signals::Signals,
    status::Status,
    steering, tls,
    udp::Socket,
    wake::Wake,
    worker::{Parts, SIGNALS, WAKE, Worker},
};
use crate::{
    metrics::{Counters, Snapshot},
    shard::Place,
    transport::Driver,
};

/// The record of connections in the state directory.
const RECORD: &str = "connections";

/// What is known once everything is bound.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ready {
    /// The addresses listened on, with their real ports, in the order of [`Config::listen`].
    pub addresses: Vec<SocketAddr>,
    /// SHA-256 of the certificate shown, if anything is listened on: what clients may pin.
    pub certificate_sha256: Option<[u8; 32]>,
    /// The same if the certificate is a development certificate, which is printed nowhere else.
    pub development_certificate_sha256: Option<[u8; 32]>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served, with the real port.
    pub admin: Option<SocketAddr>,
}

/// Workers, each on a thread of its own. Dropping this lets them run on.
#[derive(Debug)]
pub struct Handle<C> {
    /// By worker.
    mailboxes: Vec<Mailbox<C>>,
    ready: Ready,
    status: Arc<Status>,
    threads: Vec<thread::JoinHandle<Result<(), Error>>>,
    ended: mpsc::Receiver<()>,
}

impl<C> Handle<C> {
    /// The way to the first worker's driver.
    pub fn mailbox(&self) -> Mailbox<C> {
        self.mailboxes[0].clone()
    }

    /// The ways to all workers' drivers.
    pub fn mailboxes(&self) -> &[Mailbox<C>] {
        &self.mailboxes
    }

    /// What is known once everything is bound.
    pub const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The addresses listened on, with their real ports, in the order of [`Config::listen`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.ready.addresses
    }

    /// SHA-256 of the certificate shown, if anything is listened on: what clients may pin.
    pub const fn certificate_sha256(&self) -> Option<[u8; 32]> {
        self.ready.certificate_sha256
    }

    /// The counters of all workers together, as they were at most about a second ago.
    pub fn counters(&self) -> Counters {
        self.status.snapshot().worker
    }

    /// The counters of each worker.
    pub fn counters_by_worker(&self) -> Vec<Counters> {
        self.status.workers()
    }

    /// Everything that is counted, as it was at most about a second ago.
    pub fn metrics(&self) -> Snapshot {
        self.status.snapshot()
    }

    /// Tells the workers to drain ([`Driver::handle_drain`]) and then to end. Does not wait.
    pub fn shutdown(&self) {
        for mailbox in &self.mailboxes {
            mailbox.drain();
        }
    }

    /// Waits until all workers have ended.
    ///
    /// # Errors
    /// What ended the first of those that were not told to end.
    pub fn join(self) -> Result<(), Error> {
        let outcomes = self.threads.into_iter().map(thread::JoinHandle::join);
        let outcomes: Vec<_> =
            outcomes.map(|outcome| outcome.unwrap_or(Err(Error::Panicked))).collect();
        outcomes.into_iter().collect()
    }

    /// Waits until all workers have ended, but no longer than `timeout`; says whether they have.
    pub fn wait(&self, timeout: Duration) -> bool {
        !matches!(self.ended.recv_timeout(timeout), Err(mpsc::RecvTimeoutError::Timeout))
    }
}

/// Runs the driver that `driver` makes on a thread of its own.
///
/// `driver` is called once, on that thread; drivers need not be [`Send`].
///
/// # Errors
/// Whatever is wrong with `config`, and what the system refuses: nothing then runs. More than one
/// worker needs [`spawn_workers`].
pub fn spawn<D, F>(config: Config, driver: F) -> Result<Handle<D::Command>, Error>
where
    D: Driver,
    D::Command: 'static,
    F: FnOnce() -> D + Send + 'static,
{
    if config.workers != 1 {
        return Err(Error::Config("workers: this driver runs on one".to_owned()));
    }
    let mut driver = Some(driver);
    start(config, |_| driver.take())
}

/// Runs as many drivers as `config` has workers, each on a thread of its own.
///
/// `driver` is called on each of these threads, and told which one it is; drivers need not be
/// [`Send`].
///
/// # Errors
/// Whatever is wrong with `config`, and what the system refuses: nothing then runs.
pub fn spawn_workers<D, F>(config: Config, driver: F) -> Result<Handle<D::Command>, Error>
where
    D: Driver,
    D::Command: 'static,
    F: Fn(Place) -> D + Clone + Send + 'static,
{
    start(config, |place| {
        let driver = driver.clone();
        Some(move || driver(place))
    })
}

/// Runs what `driver` makes for each worker.
fn start<D, F>(
    config: Config,
    mut driver: impl FnMut(Place) -> Option<F>,
) -> Result<Handle<D::Command>, Error>
where
    D: Driver,
    D::Command: 'static,
    F: FnOnce() -> D + Send + 'static,
{
    let Prepared { parts, ready, status, common } = Prepared::new(config)?;
    let mailboxes = parts.iter().map(|parts| parts.receiver.mailbox()).collect();
    let (alive, ended) = mpsc::channel();
    let count = parts.len();
    let mut threads = Vec::with_capacity(count);
    for (index, parts) in parts.into_iter().enumerate() {
        let place = Place { index, count };
        let Some(driver) = driver(place) else { break };
        let common = common.clone();
        threads.push(begin(place, parts, driver, (common, alive.clone()))?);
    }
    Ok(Handle { mailboxes, ready, status, threads, ended })
}

/// What is kept until the last worker has ended, and what it tells the others by.
#[derive(Clone)]
struct Common {
    hub: Arc<Hub>,
    /// Held only.
    _admin: Option<Arc<Admin>>,
    /// Held only.
    _export: Option<Arc<Export>>,
}

/// Runs one worker on a thread of its own. `kept` is let go when it has ended.
fn begin<D, F, K>(
    place: Place,
    parts: Parts<D::Command>,
    driver: F,
    kept: (Common, K),
) -> Result<thread::JoinHandle<Result<(), Error>>, Error>
where
    D: Driver,
    D::Command: 'static,
    F: FnOnce() -> D + Send + 'static,
    K: Send + 'static,
{
    let watch = Watch::new(Arc::clone(&kept.0.hub));
    thread::Builder::new()
        .name(format!("aip-worker-{}", place.index))
        .spawn(move || {
            let (_common, _kept) = kept;
            let outcome = Worker::new(parts, driver()).run();
            if outcome.is_ok() {
                watch.end();
            }
            outcome
        })
        .map_err(|source| Error::System { what: "thread", source })
}

/// Runs as many drivers as `config` has workers, the first on this thread, until they have drained,
/// which a signal begins if [`Config::signals`] says so.
///
/// `driver` is called on each of their threads, and told which one it is. `ready` is called once,
/// when packets to the addresses listened on are received.
///
/// # Errors
/// Whatever is wrong with `config`, and what the system refuses.
pub fn run<D, F>(config: Config, driver: F, ready: impl FnOnce(&Ready)) -> Result<(), Error>
where
    D: Driver,
    D::Command: 'static,
    F: Fn(Place) -> D + Clone + Send + 'static,
{
    let Prepared { parts, ready: known, common, .. } = Prepared::new(config)?;
    let count = parts.len();
    let mut parts = parts.into_iter().enumerate();
    let Some((_, first)) = parts.next() else { return Ok(()) };
    let watch = Watch::new(Arc::clone(&common.hub));
    let mut threads = Vec::with_capacity(count - 1);
    for (index, parts) in parts {
        let place = Place { index, count };
        let driver = driver.clone();
        threads.push(begin(place, parts, move || driver(place), (common.clone(), ()))?);
    }
    ready(&known);
    let outcome = Worker::new(first, driver(Place { index: 0, count })).run();
    if outcome.is_ok() {
        watch.end();
    } else {
        drop(watch);
    }
    let others = threads.into_iter().map(|it| it.join().unwrap_or(Err(Error::Panicked)));
    let others: Vec<_> = others.collect();
    others.into_iter().fold(outcome, Result::and)
}

/// Everything bound, nothing running.
struct Prepared<C> {
    /// By worker.
    parts: Vec<Parts<C>>,
    ready: Ready,
    status: Arc<Status>,
    common: Common,
}

/// What a worker is told and woken by.
struct Ear<C> {
    poll: Poll,
    wake: Arc<Wake>,
    receiver: Receiver<C>,
}

impl<C> Ear<C> {
    fn new(capacity: usize) -> Result<Self, Error> {
        let poll = Poll::new().map_err(system("poll"))?;
        let wake = Arc::new(Wake::new(poll.registry(), WAKE).map_err(system("waker"))?);
        let receiver = Receiver::new(Arc::clone(&wake), capacity);
        Ok(Self { poll, wake, receiver })
    }
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::System { what, source }
}

impl<C> Prepared<C> {
    fn new(config: Config) -> Result<Self, Error> {
        check(&config)?;
        let now = Clock::new().now();
        let ears = (0..config.workers)
            .map(|_| Ear::new(config.mailbox_capacity))
            .collect::<Result<Vec<Ear<C>>, _>>()?;
        let certificate = match &config.identity {
            Some(identity) if !config.listen.is_empty() => Some(tls::Certificate::new(identity)?),
            _ => None,
        };
        let status = Arc::new(Status::new(config.workers));
        let mut sockets = listen(&config)?.into_iter();
        let (hub, seats) = Hub::new(ears.iter().map(|ear| Arc::clone(&ear.wake)).collect());
        if let Some(path) = &config.state_directory {
            make_state_directory(path)?;
        }
        let keys = Keys::new(&config, now)?;
        let mut parts: Vec<Parts<C>> = Vec::with_capacity(config.workers);
        for (ear, seat) in ears.into_iter().zip(seats) {
            let (Ear { poll, wake, receiver }, worker) = (ear, seat.index());
            let registry = poll.registry().try_clone().map_err(system("poll"))?;
            let signals = if config.signals && worker == 0 {
                Some(Signals::new(&registry, SIGNALS).map_err(system("signals"))?)
            } else {
                None
            };
            let mut config = config.clone();
            if worker != 0 {
                // The first one dials, for all.
                config.targets.clear();
            }
            let sockets = sockets.next().unwrap_or_default();
            let (hub, keys) = (Arc::clone(&hub), keys.clone());
            let site = Site { hub, worker, sockets, keys };
            let endpoint = Endpoint::new(config, certificate.as_ref(), registry, site, now)?;
            let status = Arc::clone(&status);
            parts.push(Parts { poll, wake, receiver, endpoint, signals, status, seat });
        }
        let admin = match config.admin {
            Some(address) => Some(Arc::new(Admin::new(address, Arc::clone(&status))?)),
            None => None,
        };
        let export = match &config.telemetry {
            Some(telemetry) => {
                Some(Arc::new(Export::new(Arc::clone(telemetry), Arc::clone(&status))?))
            }
            None => None,
        };
        let development = matches!(config.identity, Some(Identity::Development));
        // Last: who could not begin would have said nothing to those that it finds there.
        leave_record(&config, &keys, &mut parts, now);
        let certificate_sha256 = certificate.map(|certificate| certificate.sha256);
        let ready = Ready {
            addresses: parts.first().map_or_else(Vec::new, |parts| parts.endpoint.addresses()),
            certificate_sha256,
            development_certificate_sha256: certificate_sha256.filter(|_| development),
            admin: admin.as_ref().map(|admin| admin.address()),
        };
        Ok(Self { parts, ready, status, common: Common { hub, _admin: admin, _export: export } })
    }
}

/// Makes the state directory, or says who else may change what is in it.
fn make_state_directory(path: &Path) -> Result<(), Error> {
    let wrong =
        |error: std::io::Error| Error::File { path: path.to_owned(), reason: error.to_string() };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(wrong)?;
    let made = fs::metadata(path).map_err(wrong)?;
    // SAFETY: geteuid has no preconditions and cannot fail.
    let own = unsafe { libc::geteuid() };
    if made.uid() != own || made.mode() & 0o022 != 0 {
        tracing::warn!(path = %path.display(), "others may change the state directory");
    }
    Ok(())
}

/// Lets workers note their connections in the state directory, and the first end those that were noted
/// there. Without that a relay works as well.
fn leave_record<C>(config: &Config, keys: &Keys, parts: &mut [Parts<C>], now: Instant) {
    let Some(folder) = &config.state_directory else { return };
    let path = folder.join(RECORD);
    let notes_max = u32::try_from(config.handshake.connections_max).unwrap_or(u32::MAX);
    let (mut left, record) = record::open(&path, &keys.reset, notes_max);
    match &record {
        Ok(_) => {
            tracing::info!(path = %path.display(), left = left.len(), "connections are noted");
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "connections are not noted");
        }
    }
    for parts in parts {
        let record = record.as_ref().ok().map(|record| record.of_worker(parts.seat.index()));
        parts.endpoint.leave(record, std::mem::take(&mut left), now);
    }
}

/// Each worker's sockets, one for each address.
fn listen(config: &Config) -> Result<Vec<Vec<Socket>>, Error> {
    let mut sockets: Vec<Vec<Socket>> = (0..config.workers).map(|_| Vec::new()).collect();
    for &address in &config.listen {
        let bind = |source| Error::Bind { address, source };
        let group = Socket::bind_group(address, config.workers).map_err(bind)?;
        if config.steer
            && 1 < config.workers
            && let Some(first) = group.first()
            && let Err(error) = steering::attach(first.fd())
        {
            tracing::warn!(%error, %address, "the kernel does not steer packets to workers; they do");
        }
        for (worker, socket) in sockets.iter_mut().zip(group) {
            worker.push(socket);
        }
    }
    Ok(sockets)
}

/// What is wrong with a configuration whatever the system says.
fn check(config: &Config) -> Result<(), Error> {
    let wrong = |reason: &str| Err(Error::Config(reason.to_owned()));
    if !(1..=WORKERS_MAX).contains(&config.workers) {
        return wrong("workers must be between 1 and 64");
    }
    if config.listen.is_empty() != config.identity.is_none() {
        return wrong("a certificate is needed to listen, and for nothing else");
    }
    if config.listen.is_empty() && config.targets.is_empty() {
        return wrong("nothing to listen on and nothing to connect to");
    }
    // Each worker has as many notes in the record as there may be connections.
    let notes = config.workers.saturating_mul(config.handshake.connections_max);
    if config.state_directory.is_some() && record::NOTES_MAX <= notes as u64 {
        return wrong(
            "a state directory holds less than 16,777,216 connections: fewer workers, or \
                      a lower connections_max",
        );
    }
    if !config.targets.is_empty()
        && config.quic.keep_alive.is_zero()
        && !config.dial.silence.is_zero()
    {
        return wrong(
            "without keep_alive no silence of a target is noticed: dial.silence must be 0, \
                      too",
        );
    }
    config.quic.check()?;
    config.handshake.check()?;
    config.dial.check()
}

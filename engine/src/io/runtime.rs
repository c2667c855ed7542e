//! From a configuration to a running worker.

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use mio::Poll;

use super::{
    admin::Admin,
    clock::Clock,
    config::{Config, Identity},
    endpoint::Endpoint,
    error::Error,
    mailbox::{Mailbox, Receiver},
    signals::Signals,
    status::Status,
    tls,
    wake::Wake,
    worker::{Parts, SIGNALS, WAKE, Worker},
};
use crate::{
    metrics::{Counters, Snapshot},
    transport::Driver,
};

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

/// A worker on a thread of its own. Dropping this lets the worker run on.
#[derive(Debug)]
pub struct Handle<C> {
    mailbox: Mailbox<C>,
    ready: Ready,
    status: Arc<Status>,
    thread: thread::JoinHandle<Result<(), Error>>,
    ended: mpsc::Receiver<()>,
}

impl<C> Handle<C> {
    /// The way to the worker's driver.
    pub fn mailbox(&self) -> Mailbox<C> {
        self.mailbox.clone()
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

    /// The counters, as they were at most about a second ago.
    pub fn counters(&self) -> Counters {
        self.status.snapshot().worker
    }

    /// Everything that is counted, as it was at most about a second ago.
    pub fn metrics(&self) -> Snapshot {
        self.status.snapshot()
    }

    /// Tells the worker to drain ([`Driver::handle_drain`]) and then to end. Does not wait.
    pub fn shutdown(&self) {
        self.mailbox.drain();
    }

    /// Waits until the worker has ended.
    ///
    /// # Errors
    /// What ended it, unless it was told to end.
    pub fn join(self) -> Result<(), Error> {
        self.thread.join().unwrap_or(Err(Error::Panicked))
    }

    /// Waits until the worker has ended, but no longer than `timeout`; says whether it has.
    pub fn wait(&self, timeout: Duration) -> bool {
        !matches!(self.ended.recv_timeout(timeout), Err(mpsc::RecvTimeoutError::Timeout))
    }
}

/// Runs the driver that `driver` makes on a thread of its own.
///
/// `driver` is called once, on that thread; drivers need not be [`Send`].
///
/// # Errors
/// Whatever is wrong with `config`, and what the system refuses: nothing then runs.
pub fn spawn<D, F>(config: Config, driver: F) -> Result<Handle<D::Command>, Error>
where
    D: Driver,
    D::Command: 'static,
    F: FnOnce() -> D + Send + 'static,
{
    let Prepared { parts, ready, admin } = Prepared::new(config)?;
    let mailbox = parts.receiver.mailbox();
    let status = Arc::clone(&parts.status);
    let (alive, ended) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("aip-worker-0".to_owned())
        .spawn(move || {
            let _alive = alive;
            let _admin = admin;
            Worker::new(parts, driver()).run()
        })
        .map_err(|source| Error::System { what: "thread", source })?;
    Ok(Handle { mailbox, ready, status, thread, ended })
}

/// Runs a driver on this thread until it has drained, which a signal begins if
/// [`Config::signals`] says so.
///
/// `ready` is called once, when packets to the addresses listened on are received.
///
/// # Errors
/// Whatever is wrong with `config`, and what the system refuses.
pub fn run<D: Driver>(config: Config, driver: D, ready: impl FnOnce(&Ready)) -> Result<(), Error> {
    let Prepared { parts, ready: known, admin } = Prepared::new(config)?;
    ready(&known);
    let outcome = Worker::new(parts, driver).run();
    drop(admin);
    outcome
}

/// Everything bound, nothing running.
struct Prepared<C> {
    parts: Parts<C>,
    ready: Ready,
    admin: Option<Admin>,
}

impl<C> Prepared<C> {
    fn new(config: Config) -> Result<Self, Error> {
        check(&config)?;
        let system = |what| move |source| Error::System { what, source };
        let now = Clock::new().now();
        let poll = Poll::new().map_err(system("poll"))?;
        let registry = poll.registry().try_clone().map_err(system("poll"))?;
        let wake = Arc::new(Wake::new(&registry, WAKE).map_err(system("waker"))?);
        let receiver = Receiver::new(Arc::clone(&wake), config.mailbox_capacity);
        let signals = if config.signals {
            Some(Signals::new(&registry, SIGNALS).map_err(system("signals"))?)
        } else {
            None
        };
        let certificate = match &config.identity {
            Some(identity) if !config.listen.is_empty() => Some(tls::Certificate::new(identity)?),
            _ => None,
        };
        let status = Arc::new(Status::default());
        let admin = match config.admin {
            Some(address) => Some(Admin::new(address, Arc::clone(&status))?),
            None => None,
        };
        let development = matches!(config.identity, Some(Identity::Development));
        let endpoint = Endpoint::new(config, certificate.as_ref(), registry, now)?;
        let certificate_sha256 = certificate.map(|certificate| certificate.sha256);
        let ready = Ready {
            addresses: endpoint.addresses(),
            certificate_sha256,
            development_certificate_sha256: certificate_sha256.filter(|_| development),
            admin: admin.as_ref().map(Admin::address),
        };
        let parts = Parts { poll, wake, receiver, endpoint, signals, status };
        Ok(Self { parts, ready, admin })
    }
}

/// What is wrong with a configuration whatever the system says.
fn check(config: &Config) -> Result<(), Error> {
    let wrong = |reason: &str| Err(Error::Config(reason.to_owned()));
    if config.workers != 1 {
        return wrong("workers: only 1 works yet");
    }
    if config.listen.is_empty() != config.identity.is_none() {
        return wrong("a certificate is needed to listen, and for nothing else");
    }
    if config.listen.is_empty() && config.targets.is_empty() {
        return wrong("nothing to listen on and nothing to connect to");
    }
    config.quic.check()?;
    config.handshake.check()?;
    config.dial.check()
}

//! Settings of a worker. Every limit is here, with its default.

use std::{net::SocketAddr, num::NonZero, path::PathBuf, sync::Arc, thread, time::Duration};

use aip_codec::Version;
use aip_telemetry::Telemetry;
use serde::Deserialize;

use super::{error::Error, hub::WORKERS_MAX, target::Target};

/// What [`super::spawn`] and [`super::run`] need to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Addresses to listen on; port 0 lets the system choose. None by default: a client.
    pub listen: Vec<SocketAddr>,
    /// What a listener shows for a certificate. Needed exactly if `listen` is not empty.
    pub identity: Option<Identity>,
    /// Servers to connect to, and to connect to again, for ever. [`crate::transport::Peer::target`]
    /// counts in this list.
    pub targets: Vec<Target>,
    /// Worker threads, 1 to 64, each with sockets and connections of its own. 1.
    pub workers: usize,
    /// Whether the kernel is asked to give each worker the packets of its connections; otherwise the
    /// workers hand them to each other, as they do if it refuses. true.
    pub steer: bool,
    /// Whether SIGTERM and SIGINT drain the worker. false; binaries set it.
    pub signals: bool,
    /// Where `/metrics`, `/healthz` and `/readyz` are served over plain HTTP. Nowhere by default.
    pub admin: Option<SocketAddr>,
    /// Who is told of spans and metrics, on a thread of its own. Nobody by default.
    pub telemetry: Option<Arc<Telemetry>>,
    /// Where what outlives the process is kept: the key of stateless resets, if none is named
    /// otherwise, and the connections that the next process ends at once. Made if it is not there.
    /// Nowhere by default.
    pub state_directory: Option<PathBuf>,
    /// Bytes of memory that the process may have: above three quarters of them no new connections and
    /// requests are taken. As many as there are by default.
    pub memory_max: Option<u64>,
    /// Commands that may wait in the mailbox. 4,096.
    pub mailbox_capacity: usize,
    /// How long a drain may take before connections are closed with GOAWAY_TIMEOUT. 5 s.
    pub drain_timeout: Duration,
    /// Limits of each connection.
    pub quic: Quic,
    /// How connections are accepted.
    pub handshake: Handshake,
    /// How targets are dialled.
    pub dial: Dial,
    /// Sockets of each address family that connections which we open go out by, in turn. 1.
    pub client_sockets: usize,
    /// The last time before what the driver wants that is waited for awake: a sleep ends up to a
    /// millisecond late. Zero: always asleep.
    pub spin: Duration,
    /// How long a worker that had something to do looks for more before it sleeps: to be woken takes
    /// tens of microseconds. Meanwhile it keeps its core busy. Zero: it sleeps at once.
    pub awake: Duration,
    /// How long a worker with nothing to do lets acknowledgements gather while many peers owe one,
    /// rather than be woken by each. What else comes meanwhile waits, too. 0.2 ms; zero is never.
    pub nap: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            identity: None,
            targets: Vec::new(),
            workers: 1,
            steer: true,
            signals: false,
            admin: None,
            telemetry: None,
            state_directory: None,
            memory_max: None,
            mailbox_capacity: 4_096,
            drain_timeout: Duration::from_secs(5),
            quic: Quic::default(),
            handshake: Handshake::default(),
            dial: Dial::default(),
            client_sockets: 1,
            spin: Duration::ZERO,
            awake: Duration::ZERO,
            nap: Duration::from_micros(200),
        }
    }
}

impl Config {
    /// A client of these targets.
    pub fn client(targets: Vec<Target>) -> Self {
        let dial = Dial {
            silence: Duration::ZERO,
            backoff_max: Duration::from_secs(10),
            ..Dial::default()
        };
        Self { targets, dial, ..Self::default() }
    }

    /// A server at these addresses.
    pub fn server(listen: Vec<SocketAddr>, identity: Identity) -> Self {
        Self { listen, identity: Some(identity), ..Self::default() }
    }

    /// As many workers as this process may use cores: affinity and the limits of its control groups
    /// count. 1 if the system does not say.
    pub fn workers_of_machine() -> usize {
        thread::available_parallelism().map_or(1, NonZero::get).min(WORKERS_MAX)
    }

    /// The same with so many workers.
    #[must_use]
    pub fn with_workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// The same with these targets.
    #[must_use]
    pub fn with_targets(self, targets: Vec<Target>) -> Self {
        Self { targets, ..self }
    }

    /// The same with these limits of each connection.
    #[must_use]
    pub fn with_quic(self, quic: Quic) -> Self {
        Self { quic, ..self }
    }

    /// The same with this way to accept connections.
    #[must_use]
    pub fn with_handshake(self, handshake: Handshake) -> Self {
        Self { handshake, ..self }
    }

    /// The same with this way to dial.
    #[must_use]
    pub fn with_dial(self, dial: Dial) -> Self {
        Self { dial, ..self }
    }

    /// The same with this time to drain.
    #[must_use]
    pub fn with_drain_timeout(self, drain_timeout: Duration) -> Self {
        Self { drain_timeout, ..self }
    }

    /// The same with naps of this length.
    #[must_use]
    pub fn with_nap(self, nap: Duration) -> Self {
        Self { nap, ..self }
    }

    /// The same, draining on SIGTERM and SIGINT.
    #[must_use]
    pub fn with_signals(self, signals: bool) -> Self {
        Self { signals, ..self }
    }

    /// The same, telling a collector of spans and metrics.
    #[must_use]
    pub fn with_telemetry(self, telemetry: Option<Arc<Telemetry>>) -> Self {
        Self { telemetry, ..self }
    }

    /// The same with an admin endpoint.
    #[must_use]
    pub fn with_admin(self, admin: SocketAddr) -> Self {
        Self { admin: Some(admin), ..self }
    }
}

/// What a server shows for a certificate.
#[derive(Clone, Debug)]
pub enum Identity {
    /// PEM files.
    Files {
        /// The leaf certificate, then its intermediates.
        certificate: PathBuf,
        /// The leaf's private key.
        key: PathBuf,
    },
    /// A new self-signed certificate for localhost, valid for ten days at most and never written
    /// to a file. Its SHA-256 goes to stderr; clients pin that.
    Development,
}

/// Limits of each connection. Sizes in bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Quic {
    /// Silence after which a connection is taken for dead. 5 s; zero is never.
    #[serde(with = "super::config_file::duration")]
    pub idle_timeout: Duration,
    /// Silence after which a connection is kept alive by a PING. 1.5 s; zero is never, and needs a
    /// [`Dial::silence`] of zero, too.
    #[serde(with = "super::config_file::duration")]
    pub keep_alive: Duration,
    /// What a peer may have under way on one stream at first. 1 MiB.
    pub stream_window: u64,
    /// What the window of a stream may grow to with use. 4 MiB.
    pub stream_window_max: u64,
    /// What a peer may have under way on all streams at first. 2 MiB.
    pub connection_window: u64,
    /// What the window of all streams may grow to with use. 8 MiB.
    pub connection_window_max: u64,
    /// Bidirectional streams that a peer may have open at once. 100.
    pub streams_bidirectional_max: u64,
    /// Unidirectional streams that a peer may have open at once. 1,000.
    pub streams_unidirectional_max: u64,
    /// Datagrams that may wait on each side. 1,024.
    pub datagrams_max: usize,
    /// The largest UDP payload that is tried. 1,452.
    pub udp_payload_max: usize,
    /// Packets that a new connection may send before the first acknowledgement. 32.
    pub initial_congestion_window_packets: usize,
    /// Bytes read from one connection in one turn before the others have theirs. 256 KiB.
    pub read_budget: usize,
}

impl Default for Quic {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_millis(1_500),
            stream_window: 1 << 20,
            stream_window_max: 4 << 20,
            connection_window: 2 << 20,
            connection_window_max: 8 << 20,
            streams_bidirectional_max: 100,
            streams_unidirectional_max: 1_000,
            datagrams_max: 1_024,
            udp_payload_max: 1_452,
            initial_congestion_window_packets: 32,
            read_budget: 256 << 10,
        }
    }
}

/// When a client must prove its address by a Retry token before a handshake costs anything.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum RetryPolicy {
    /// Always.
    Always,
    /// While more than [`Handshake::half_open_max`] handshakes are under way. The default.
    #[default]
    Auto,
    /// Never.
    Never,
}

/// How connections are accepted.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Handshake {
    /// When an address must be proven. `auto`.
    pub retry: RetryPolicy,
    /// Handshakes under way above which addresses must be proven. 256.
    pub half_open_max: usize,
    /// Time in which a handshake must end. 5 s.
    #[serde(with = "super::config_file::duration")]
    pub timeout: Duration,
    /// Connections at once, of either side; more are ignored. 65,536.
    pub connections_max: usize,
    /// A file of at least 32 secret bytes, from which stateless reset tokens are derived, so that
    /// a restarted server can end the connections of the one before. If unset, it is kept in
    /// [`Config::state_directory`]; without one, it is random at each start.
    pub stateless_reset_key: Option<PathBuf>,
    /// Stateless resets that may be sent in one second to those who ask for them, and as many more to
    /// the connections that the process before has left in [`Config::state_directory`]. 1,000.
    pub stateless_resets_per_second: u32,
}

impl Default for Handshake {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::Auto,
            half_open_max: 256,
            timeout: Duration::from_secs(5),
            connections_max: 65_536,
            stateless_reset_key: None,
            stateless_resets_per_second: 1_000,
        }
    }
}

/// How targets are dialled. Tries never end; each waits twice as long as the one before, with
/// jitter, until a connection has lasted.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Dial {
    /// The wait after a first failure. 0.1 s.
    #[serde(with = "super::config_file::duration")]
    pub backoff_min: Duration,
    /// The longest wait. 3 s; 10 s for [`Config::client`].
    #[serde(with = "super::config_file::duration")]
    pub backoff_max: Duration,
    /// Time in which a handshake must end; then it begins anew. 3 s.
    #[serde(with = "super::config_file::duration")]
    pub timeout: Duration,
    /// Silence after which a target is asked for a sign of life and, if its answer takes longer than
    /// answers do, the driver is told ([`crate::transport::Driver::handle_silence`]): a relay then
    /// asks others. 1 s; zero is never, as for [`Config::client`].
    #[serde(with = "super::config_file::duration")]
    pub silence: Duration,
    /// Hosts to which a target may send us (GOAWAY with a URI), beside those of the targets. None.
    pub goaway_hosts: Vec<String>,
    /// Whether targets are dialled only when the driver asks, and as often as it asks
    /// ([`crate::transport::Driver::poll_connect`]). false.
    #[serde(skip)]
    pub on_request: bool,
    /// Drafts that are offered, first choice first. All.
    #[serde(skip, default = "every_version")]
    pub versions: Vec<Version>,
}

fn every_version() -> Vec<Version> {
    Version::PREFERENCE.to_vec()
}

impl Default for Dial {
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(3),
            timeout: Duration::from_secs(3),
            silence: Duration::from_secs(1),
            goaway_hosts: Vec::new(),
            on_request: false,
            versions: every_version(),
        }
    }
}

/// An error unless `holds`.
fn demand(holds: bool, reason: &str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Config(reason.to_owned())) }
}

impl Quic {
    /// What is wrong with it, if anything.
    pub(super) fn check(&self) -> Result<(), Error> {
        demand(
            self.stream_window <= self.stream_window_max
                && self.connection_window <= self.connection_window_max,
            "a window cannot be larger than what it may grow to",
        )?;
        demand(
            0 < self.stream_window && 0 < self.connection_window,
            "a window of 0 bytes lets nothing through",
        )?;
        // Larger numbers would not fit the transport parameters, for which quiche has 128 bytes.
        demand(
            self.stream_window < 1 << 30 && self.connection_window < 1 << 30,
            "a window must be less than 1 GiB at first",
        )?;
        let streams = 1..=16_380;
        demand(
            streams.contains(&self.streams_bidirectional_max)
                && streams.contains(&self.streams_unidirectional_max),
            "streams of either kind must be between 1 and 16,380",
        )?;
        demand(
            (1_200..=1_500).contains(&self.udp_payload_max),
            "udp_payload_max must be between 1,200 and 1,500",
        )?;
        demand(0 < self.read_budget, "a read_budget of 0 reads nothing")?;
        demand(
            2 <= self.initial_congestion_window_packets,
            "initial_congestion_window_packets must be at least 2",
        )
    }
}

impl Handshake {
    /// What is wrong with it, if anything.
    pub(super) fn check(&self) -> Result<(), Error> {
        demand(
            (1..=1 << 24).contains(&self.connections_max),
            "connections_max must be between 1 and 16,777,216",
        )?;
        demand(!self.timeout.is_zero(), "a handshake needs time")
    }
}

impl Dial {
    /// What is wrong with it, if anything.
    pub(super) fn check(&self) -> Result<(), Error> {
        demand(
            self.backoff_min <= self.backoff_max && !self.backoff_min.is_zero(),
            "backoff_min must be above zero and at most backoff_max",
        )?;
        demand(!self.versions.is_empty(), "at least one draft must be offered")?;
        demand(!self.timeout.is_zero(), "a handshake needs time")
    }
}

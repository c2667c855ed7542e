//! A worker's sockets, connections and timers: everything but the driver.

mod farewell;
mod targets;
mod transmit;

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Interest, Registry, Token};

use self::{farewell::Farewells, targets::Targets};
use super::{
    accept::Acceptor,
    chunk_pool::ChunkPool,
    cid::Issuer,
    config::Config,
    connection::{Begin, Connection, Context, Role},
    connection_table::{ConnectionTable, generation_of},
    error::Error,
    gathering::Standing,
    hub::{Hub, Seat, Stray},
    keys::Keys,
    packet::Packet,
    stateless_reset::ResetKey,
    steering,
    target::{Scheme, Target, Url},
    timer_wheel::{Tick, TimerWheel},
    tls,
    udp::{Blocked, ReceiveBatch, SendBatch, Socket},
    webtransport::{Destination, Numbered, WebTransport},
};
use crate::{metrics::Counters, transport::SessionId};

/// Messages and bytes received from one socket in one turn.
const RECEIVE_CALLS: usize = 8;
const RECEIVE_BYTES: usize = 1 << 20;
/// Connections that send in one turn, before packets are received again.
const SENDERS_MAX: usize = 256;
/// How long to wait when the system has no memory for packets.
const MEMORY_WAIT: Duration = Duration::from_millis(1);
/// How long to wait when the socket is full, though the poll should tell when it is not.
const SOCKET_WAIT: Duration = Duration::from_millis(10);
/// Connections that we opened among which the one is looked for that a stateless reset ends.
const STRANGERS_ASKED_MAX: usize = 64;
/// Tokens of the poll below this are the worker's.
pub(super) const SOCKET_TOKENS: usize = 16;

/// One socket with what waits to leave it.
struct Port {
    socket: Socket,
    listening: bool,
    out: SendBatch,
    blocked: Option<Blocked>,
    /// Connections that wait for the socket to take more.
    stalled: Vec<u32>,
}

/// Which of the process's workers an endpoint is of, and what it has from the process.
pub(in crate::io) struct Site {
    pub(in crate::io) hub: Arc<Hub>,
    pub(in crate::io) worker: usize,
    /// Where it listens, in the order of the configuration.
    pub(in crate::io) sockets: Vec<Socket>,
    pub(in crate::io) keys: Keys,
}

/// How a datagram came.
#[derive(Clone, Copy)]
struct Way {
    /// The socket's index.
    port: usize,
    from: SocketAddr,
    to: SocketAddr,
}

/// Sockets, connections and timers.
pub(super) struct Endpoint {
    config: Config,
    registry: Registry,
    ports: Vec<Port>,
    acceptor: Option<Acceptor>,
    pub(super) targets: Targets,
    /// Counts the connections that we open: they take the sockets in turn.
    client_turn: usize,
    site: Site,
    ids: Issuer,
    reset_key: ResetKey,
    table: ConnectionTable,
    wheel: TimerWheel<SessionId>,
    fired: Vec<(Tick, SessionId)>,
    /// Connections to be attended to in this turn, or in the next.
    attended: VecDeque<u32>,
    /// Connections whose peer owes an acknowledgement.
    owing: usize,
    /// Connections for which something waits until their peer has acknowledged.
    held: usize,
    pool: ChunkPool,
    farewells: Farewells,
    /// How far our clock is behind the system's, by which quiche goes.
    stopped: Duration,
    numbered: Numbered,
    pub(super) counters: Counters,
}

impl Endpoint {
    /// An endpoint that listens where `config` says.
    pub(super) fn new(
        config: Config,
        certificate: Option<&tls::Certificate>,
        registry: Registry,
        mut site: Site,
        now: Instant,
    ) -> Result<Self, Error> {
        let worker = u8::try_from(site.worker).unwrap_or_default();
        let acceptor = certificate
            .map(|certificate| Acceptor::new(&config, certificate, &site.keys, worker, now))
            .transpose()?;
        let targets = Targets::new(&config)?;
        let sockets = std::mem::take(&mut site.sockets);
        let mut endpoint = Self {
            registry,
            ports: Vec::new(),
            acceptor,
            targets,
            client_turn: 0,
            ids: Issuer::new(worker)?,
            reset_key: site.keys.reset.clone(),
            farewells: Farewells::new(now),
            site,
            table: ConnectionTable::default(),
            wheel: TimerWheel::new(now),
            fired: Vec::new(),
            attended: VecDeque::new(),
            owing: 0,
            held: 0,
            pool: ChunkPool::default(),
            stopped: Duration::ZERO,
            numbered: Numbered::default(),
            counters: Counters::default(),
            config,
        };
        for socket in sockets {
            let address = socket.local();
            endpoint.add(socket, true).map_err(|source| Error::Bind { address, source })?;
        }
        Ok(endpoint)
    }

    /// Where it listens.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let listening = self.ports.iter().filter(|port| port.listening);
        listening.map(|port| port.socket.local()).collect()
    }

    fn add(&mut self, mut socket: Socket, listening: bool) -> io::Result<usize> {
        let index = self.ports.len();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(socket.source(), Token(SOCKET_TOKENS + index), interest)?;
        self.ports.push(Port {
            socket,
            listening,
            out: SendBatch::new(),
            blocked: None,
            stalled: Vec::new(),
        });
        Ok(index)
    }

    /// The socket for connections that we open to addresses of this family.
    fn client_port(&mut self, v6: bool) -> io::Result<usize> {
        let fits = |port: &Port| !port.listening && port.socket.local().is_ipv6() == v6;
        let sockets = self.config.client_sockets.max(1);
        let turn = self.client_turn % sockets;
        self.client_turn = self.client_turn.wrapping_add(1);
        let mut opened = self.ports.iter().enumerate().filter(|(_, port)| fits(port));
        if let Some((index, _)) = opened.nth(turn) {
            return Ok(index);
        }
        let any =
            if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        self.add(Socket::bind(SocketAddr::new(any, 0), false)?, false)
    }

    /// Takes note that a socket may have something to be received.
    pub(super) fn note_readable(&mut self, token: Token) {
        let port = self.ports.get_mut(token.0.wrapping_sub(SOCKET_TOKENS));
        if let Some(port) = port {
            port.socket.readable = true;
        }
    }

    /// Whether there is work that needs no waiting.
    pub(super) fn is_busy(&self) -> bool {
        !self.attended.is_empty() || self.ports.iter().any(|port| port.socket.readable)
    }

    /// How it stands with what peers owe.
    pub(super) const fn standing(&self) -> Standing {
        let received = self.counters.udp_received_total;
        Standing { received, owing: self.owing, held: self.held }
    }

    /// When it has something to do at the latest.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let retry = |port: &Port| match port.blocked? {
            Blocked::Memory => Some(now + MEMORY_WAIT),
            Blocked::Socket => Some(now + SOCKET_WAIT),
        };
        let timers = self.wheel.next().into_iter().chain(self.farewells.next());
        self.ports.iter().filter_map(retry).chain(timers).min()
    }

    /// Receives what is there, up to a bound.
    pub(super) fn receive(&mut self, batch: &mut ReceiveBatch, now: Instant) {
        for index in 0..self.ports.len() {
            let mut bytes = 0;
            for _ in 0..RECEIVE_CALLS {
                if !self.ports[index].socket.readable || RECEIVE_BYTES <= bytes {
                    break;
                }
                bytes += self.receive_once(index, batch, now);
            }
        }
    }

    fn receive_once(&mut self, index: usize, batch: &mut ReceiveBatch, now: Instant) -> usize {
        self.counters.udp_receive_calls_total += 1;
        let socket = &mut self.ports[index].socket;
        let count = match batch.receive(socket.fd()) {
            Ok((count, more)) => {
                socket.readable = more;
                count
            }
            Err(error) => {
                // An error that was about something sent is reported once; what is to be
                // received follows.
                let again = !matches!(error.kind(), io::ErrorKind::WouldBlock);
                socket.readable = again;
                self.counters.udp_receive_errors_total += u64::from(again);
                return 0;
            }
        };
        let mut bytes = 0;
        for message in 0..count {
            let Some(message) = batch.message(message) else { continue };
            let to = self.ports[index].socket.to(message.local);
            let way = Way { port: index, from: message.from, to };
            for datagram in message.datagrams {
                bytes += datagram.len();
                self.counters.udp_received_total += 1;
                if !self.is_elsewhere(way, datagram) {
                    self.handle_datagram(way, datagram, now);
                }
            }
        }
        self.counters.udp_received_bytes_total += bytes as u64;
        bytes
    }

    /// Whether a datagram is for another worker, which has then got it.
    fn is_elsewhere(&mut self, way: Way, datagram: &[u8]) -> bool {
        let (hub, own) = (&self.site.hub, self.site.worker);
        if hub.workers() == 1 || !self.ports[way.port].listening {
            return false;
        }
        let worker = steering::worker_of(datagram, hub.workers());
        let Some(worker) = worker.filter(|worker| *worker != own) else { return false };
        let Way { port, from, to } = way;
        let stray = Stray { port, from, to, bytes: datagram.to_vec() };
        if Seat::hand_over(hub, (own, worker), stray) {
            self.counters.datagrams_misrouted_total += 1;
        } else {
            self.counters.datagrams_misrouted_dropped_total += 1;
        }
        true
    }

    /// A datagram that came to another worker.
    pub(super) fn handle_stray(&mut self, mut stray: Stray, now: Instant) {
        let way = Way { port: stray.port, from: stray.from, to: stray.to };
        if self.ports.get(way.port).is_some_and(|port| port.listening) {
            self.handle_datagram(way, &mut stray.bytes, now);
        }
    }

    fn handle_datagram(&mut self, way: Way, datagram: &mut [u8], now: Instant) {
        let found =
            Packet::parse(datagram).map(|packet| self.table.find(&packet, way.from, &self.ids));
        match found {
            None => self.counters.packets_dropped_total += 1,
            Some(Some(slot)) => self.deliver(slot, way, datagram, now),
            Some(None) if self.ports[way.port].listening => {
                self.handle_stranger(way, datagram, now);
            }
            Some(None) => {
                // A server that does not know us answers under a random id.
                self.counters.packets_dropped_total += 1;
                let mut index = 0;
                // With many connections, asking each would cost more than their timeouts do.
                if STRANGERS_ASKED_MAX < self.table.clients() {
                    return;
                }
                while let Some(slot) = self.table.find_client(way.from, index) {
                    self.deliver(slot, way, datagram, now);
                    index += 1;
                }
            }
        }
    }

    fn deliver(&mut self, slot: u32, way: Way, datagram: &mut [u8], now: Instant) {
        let Some(connection) = self.table.get(slot) else { return };
        connection.receive(datagram, quiche::RecvInfo { from: way.from, to: way.to }, now);
        self.owing -= usize::from(std::mem::take(&mut connection.owed));
        self.attend(slot);
    }

    /// A packet for no connection there is, at a socket that listens.
    fn handle_stranger(&mut self, way: Way, datagram: &mut [u8], now: Instant) {
        let Way { port, from, to } = way;
        let Some(acceptor) = &mut self.acceptor else { return };
        let next = self.table.next();
        let verdict = acceptor.handle(
            super::accept::Stranger { from, to, datagram },
            super::accept::Room { next, connections: self.site.hub.connections(), ids: &self.ids },
            &mut self.counters,
            now,
        );
        match verdict {
            super::accept::Verdict::Ignore => {}
            super::accept::Verdict::Answer(answer) => {
                let out = &mut self.ports[port];
                out.out.push(from, out.socket.from(to), answer.bytes());
            }
            super::accept::Verdict::Accept { quic, initial, session } => {
                let begin = Begin {
                    session,
                    role: Role::Server,
                    socket: port,
                    local: to,
                    peer: from,
                    limits: &self.config.quic,
                    deadline: now + self.config.handshake.timeout,
                    silence: Duration::ZERO,
                    trust: None,
                    webtransport: None,
                };
                let mut connection = Connection::new(begin, *quic);
                connection.initial = Some(initial);
                let slot = self.admit(connection);
                self.deliver(slot, way, datagram, now);
            }
        }
    }

    /// Begins a handshake with a target.
    pub(super) fn connect(
        &mut self,
        role: Role,
        address: SocketAddr,
        now: Instant,
    ) -> Result<SessionId, String> {
        let Role::Client { target: index, .. } = role else { return Err("no client".to_owned()) };
        let port = self.client_port(address.is_ipv6()).map_err(|error| error.to_string())?;
        let local = self.ports[port].socket.local();
        let (slot, session) = self.table.next().ok_or("too many connections")?;
        if self.config.handshake.connections_max <= self.site.hub.connections() {
            return Err("too many connections".to_owned());
        }
        let id = self.ids.issue(slot, generation_of(session)).map_err(|error| error.to_string())?;
        let (target, settings) =
            self.targets.get_mut(index).ok_or_else(|| format!("there is no target {index}"))?;
        let quic = quiche::connect_with_buffer_factory(
            tls::server_name(target),
            &quiche::ConnectionId::from_ref(&id),
            local,
            address,
            settings,
        )
        .map_err(|error| error.to_string())?;
        let Target { url, trust } = target;
        let webtransport = (url.scheme() == Scheme::Https)
            .then(|| WebTransport::client(&self.config.dial.versions, Destination::of(url)));
        let begin = Begin {
            session,
            role,
            socket: port,
            local,
            peer: address,
            limits: &self.config.quic,
            deadline: now + self.config.dial.timeout,
            silence: self.config.dial.silence,
            trust: trust.clone(),
            webtransport,
        };
        let slot = self.admit(Connection::new(begin, quic));
        self.counters.dials_total += 1;
        self.attend(slot);
        Ok(session)
    }

    /// Takes a connection in; which slot is its.
    fn admit(&mut self, connection: Connection) -> u32 {
        let slot = self.table.insert(connection);
        self.counters.connections += 1;
        self.site.hub.connection_begun();
        slot
    }

    /// Connections that wait to be attended to.
    pub(super) fn attended(&self) -> usize {
        self.attended.len()
    }

    /// The session of the next connection to be attended to. It stays on the list.
    pub(super) fn first_attended(&mut self) -> Option<SessionId> {
        while let Some(&slot) = self.attended.front() {
            if let Some(connection) = self.table.get(slot) {
                return Some(connection.session);
            }
            self.attended.pop_front();
        }
        None
    }

    /// The next connection to be attended to. It is taken off the list.
    pub(super) fn next_attended(&mut self) -> Option<u32> {
        let slot = self.attended.pop_front()?;
        if let Some(connection) = self.table.get(slot) {
            connection.attended = false;
        }
        Some(slot)
    }

    /// Puts a connection on the list.
    pub(super) fn attend(&mut self, slot: u32) {
        if let Some(connection) = self.table.get(slot)
            && !std::mem::replace(&mut connection.attended, true)
        {
            self.attended.push_back(slot);
        }
    }

    /// A connection, and what it needs.
    pub(super) fn connection(
        &mut self,
        slot: u32,
        now: Instant,
    ) -> Option<(&mut Connection, Context<'_>)> {
        let connection = self.table.get(slot)?;
        let (pool, counters, stopped) = (&mut self.pool, &mut self.counters, self.stopped);
        let numbered = &mut self.numbered;
        Some((connection, Context { pool, counters, numbered, now, stopped }))
    }

    /// The slot of a session that has not ended.
    pub(super) fn slot(&self, session: SessionId) -> Option<u32> {
        self.table.slot(session)
    }

    /// Every connection's slot.
    pub(super) fn slots(&self) -> Vec<u32> {
        self.table.slots().collect()
    }

    /// Whether a session is up, or a handshake under way.
    pub(super) fn is_any_up(&mut self) -> bool {
        self.slots()
            .into_iter()
            .any(|slot| self.table.get(slot).is_some_and(|it| it.is_up() || it.is_half_open()))
    }

    /// The handshake is over: the peer knows our id, and may be given more.
    pub(super) fn note_connected(&mut self, slot: u32) {
        self.table.forget_initial(slot);
        if let Some(connection) = self.table.get(slot)
            && connection.role == Role::Server
            && let Some(acceptor) = &mut self.acceptor
        {
            acceptor.half_open -= 1;
        }
    }

    /// The handshake failed.
    pub(super) fn note_failed(&mut self, role: Role) {
        if role == Role::Server {
            self.counters.handshakes_failed_total += 1;
            if let Some(acceptor) = &mut self.acceptor {
                acceptor.half_open -= 1;
            }
        } else {
            self.counters.dials_failed_total += 1;
        }
    }

    /// Accepts no more connections.
    pub(super) fn refuse(&mut self) {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.refuse = true;
        }
    }

    /// How many connections may send in one turn.
    pub(super) const fn senders_max() -> usize {
        SENDERS_MAX
    }

    /// The process was stopped: whoever was not heard meanwhile need not be dead.
    pub(super) fn handle_stop(&mut self, stopped: Duration, now: Instant) {
        self.stopped = stopped;
        for slot in self.slots() {
            if let Some(connection) = self.table.get(slot) {
                connection.handle_stop(now);
            }
            self.attend(slot);
        }
    }

    /// A target is elsewhere from now on.
    ///
    /// # Errors
    /// If nothing could be believed there: it stays where it was.
    pub(super) fn follow(&mut self, target: usize, url: Url) -> Result<(), Error> {
        self.targets.follow(target, url, &self.config)
    }

    /// Memory is short, or no longer.
    pub(super) fn handle_shortage(&mut self, is_short: bool) {
        self.counters.memory_short = u64::from(is_short);
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.is_short = is_short;
        }
    }

    /// Fills in what is known only here.
    pub(super) fn observe(&mut self) {
        self.counters.chunks_allocated_total = self.pool.allocated();
        self.counters.handshakes_half_open =
            self.acceptor.as_ref().map_or(0, |acceptor| acceptor.half_open as u64);
    }

    /// The configuration.
    pub(super) const fn config(&self) -> &Config {
        &self.config
    }
}

//! Many agents on one worker: each an edge with a session of its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aip_engine::{
    client,
    io::{self, Config, Dial, Handle, Mailbox, Target},
    transport::{Action, Closed, Connect, Driver, Peer, SessionId, StreamId},
};
use aip_gateway::link::{COMMANDS_MAX, Connection, Edge, Envelope, Limits, Link};
use bytes::Bytes;
use tokio::sync::watch;

/// Time before a lost connection is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// Commands that may wait for the worker, of all agents.
const MAILBOX: usize = 64 * COMMANDS_MAX;

/// The worker, and the way to it.
pub(super) struct Tier {
    /// Used once, in the end.
    handle: Mutex<Handle<Order>>,
    mailbox: Mailbox<Order>,
    next: AtomicUsize,
}

impl std::fmt::Debug for Tier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tier").field("opened", &self.next).finish_non_exhaustive()
    }
}

impl Drop for Tier {
    fn drop(&mut self) {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).shutdown();
    }
}

/// What other threads tell the worker.
pub(super) enum Order {
    /// A new link of an agent.
    Open { index: usize, agent: usize, edge: Box<Edge> },
    /// An agent is no more.
    Close { index: usize },
    /// An agent wants something.
    Tell { index: usize, envelope: Envelope },
}

impl Tier {
    /// A worker without agents.
    pub(super) fn new(relays: &[Target]) -> Result<Self, String> {
        let addresses = relays.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        let mut dial = Dial::default();
        dial.on_request = true;
        let mut config = Config::client(relays.to_vec()).with_dial(dial);
        config.mailbox_capacity = MAILBOX;
        config.drain_timeout = Duration::from_millis(500);
        let handle =
            io::spawn(config, move || Agents::new(addresses)).map_err(|error| error.to_string())?;
        let mailbox = handle.mailbox();
        Ok(Self { handle: Mutex::new(handle), mailbox, next: AtomicUsize::new(0) })
    }

    /// A new link of an agent; its connection is begun at once, and again whenever it is lost.
    pub(super) fn open(&self, agent: usize) -> Result<(Link, usize), String> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let keys = Arc::new(AtomicU64::new(0));
        let (changed, connection) = watch::channel(Connection::Down { reason: None });
        let mailbox = self.mailbox.clone();
        let send = move |envelope| mailbox.send(Order::Tell { index, envelope }).is_ok();
        let link = Link::over(send, Arc::clone(&keys), connection);
        let (config, limits) = (client::Config::default(), Limits { served_max: 1 });
        // An agent publishes nothing: what is served is refused.
        let (edge, _) = Edge::new(config, limits, link.clone(), keys, changed);
        let order = Order::Open { index, agent, edge: Box::new(edge) };
        self.mailbox.send(order).map_err(|_| "the worker takes no more".to_owned())?;
        Ok((link, index))
    }

    /// Ends an agent.
    pub(super) fn close(&self, index: usize) {
        if self.mailbox.send(Order::Close { index }).is_err() {
            tracing::debug!("the worker took no order to close an agent");
        }
    }
}

/// A relay's address.
fn address(relay: &Target) -> Result<SocketAddr, String> {
    let mut addresses = (relay.url.host(), relay.url.port())
        .to_socket_addrs()
        .map_err(|error| format!("{}: {error}", relay.url))?;
    addresses.next().ok_or_else(|| format!("{} has no address", relay.url))
}

/// All agents, as one driver.
struct Agents {
    /// Of the relays, which agents use in turn.
    addresses: Vec<SocketAddr>,
    /// Each link's edge, and the number of its agent.
    edges: BTreeMap<usize, (usize, Box<Edge>)>,
    sessions: HashMap<SessionId, usize>,
    session_of: HashMap<usize, SessionId>,
    /// When agents want the time, one entry for each that does.
    deadlines: BTreeSet<(Instant, usize)>,
    deadline_of: HashMap<usize, Instant>,
    retries: VecDeque<(Instant, usize)>,
    connects: VecDeque<Connect>,
    actions: VecDeque<(SessionId, Action)>,
}

impl Agents {
    fn new(addresses: Vec<SocketAddr>) -> Self {
        Self {
            addresses,
            edges: BTreeMap::new(),
            sessions: HashMap::new(),
            session_of: HashMap::new(),
            deadlines: BTreeSet::new(),
            deadline_of: HashMap::new(),
            retries: VecDeque::new(),
            connects: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// Tells an agent's edge something, and takes what it wants.
    fn with(&mut self, index: usize, tell: impl FnOnce(&mut Edge)) {
        let Some((_, edge)) = self.edges.get_mut(&index) else { return };
        tell(edge);
        while let Some(action) = edge.poll_action() {
            self.actions.push_back(action);
        }
        let deadline = edge.poll_timeout();
        let before = match deadline {
            Some(deadline) => self.deadline_of.insert(index, deadline),
            None => self.deadline_of.remove(&index),
        };
        if before != deadline {
            if let Some(before) = before {
                self.deadlines.remove(&(before, index));
            }
            if let Some(deadline) = deadline {
                self.deadlines.insert((deadline, index));
            }
        }
    }

    fn with_session(&mut self, session: SessionId, tell: impl FnOnce(&mut Edge)) {
        if let Some(&index) = self.sessions.get(&session) {
            self.with(index, tell);
        }
    }

    fn connect(&mut self, index: usize) {
        let Some(&(agent, _)) = self.edges.get(&index) else { return };
        let target = agent % self.addresses.len().max(1);
        let Some(&address) = self.addresses.get(target) else { return };
        self.connects.push_back(Connect { target, address, key: index as u64 });
    }

    fn close(&mut self, index: usize) {
        self.edges.remove(&index);
        if let Some(deadline) = self.deadline_of.remove(&index) {
            self.deadlines.remove(&(deadline, index));
        }
        if let Some(session) = self.session_of.remove(&index) {
            let code = aip_codec::moqt::error_code::SessionCode::NO_ERROR;
            self.actions.push_back((session, Action::Close { code, reason: String::new() }));
        }
    }
}

impl Driver for Agents {
    type Command = Order;

    fn handle_connected(&mut self, session: SessionId, peer: Peer, now: Instant) {
        let index = peer.key.and_then(|key| usize::try_from(key).ok());
        let Some(index) = index.filter(|index| self.edges.contains_key(index)) else {
            let code = aip_codec::moqt::error_code::SessionCode::NO_ERROR;
            self.actions.push_back((session, Action::Close { code, reason: String::new() }));
            return;
        };
        self.sessions.insert(session, index);
        self.session_of.insert(index, session);
        self.with(index, |edge| edge.handle_connected(session, peer, now));
    }

    fn handle_stream(
        &mut self,
        session: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) {
        self.with_session(session, |edge| edge.handle_stream(session, stream, bytes, fin, now));
    }

    fn handle_reset(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.with_session(session, |edge| edge.handle_reset(session, stream, code, now));
    }

    fn handle_stop(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.with_session(session, |edge| edge.handle_stop(session, stream, code, now));
    }

    fn handle_datagram(&mut self, session: SessionId, bytes: Bytes, now: Instant) {
        self.with_session(session, |edge| edge.handle_datagram(session, bytes, now));
    }

    fn handle_sent(&mut self, session: SessionId, stream: StreamId, length: usize, now: Instant) {
        self.with_session(session, |edge| edge.handle_sent(session, stream, length, now));
    }

    fn handle_closed(&mut self, session: SessionId, closed: Closed, now: Instant) {
        let Some(index) = self.sessions.remove(&session) else { return };
        if self.session_of.get(&index) == Some(&session) {
            self.session_of.remove(&index);
        }
        self.with(index, |edge| edge.handle_closed(session, closed, now));
        if self.edges.contains_key(&index) {
            self.retries.push_back((now + RETRY, index));
        }
    }

    fn handle_unreachable(&mut self, _target: usize, _reason: &str, _now: Instant) {}

    fn handle_connect_failed(&mut self, key: u64, reason: &str, now: Instant) {
        let Ok(index) = usize::try_from(key) else { return };
        self.with(index, |edge| edge.handle_unreachable(0, reason, now));
        if self.edges.contains_key(&index) {
            self.retries.push_back((now + RETRY, index));
        }
    }

    fn handle_command(&mut self, order: Order, now: Instant) {
        match order {
            Order::Open { index, agent, edge } => {
                self.edges.insert(index, (agent, edge));
                self.connect(index);
            }
            Order::Close { index } => self.close(index),
            Order::Tell { index, envelope } => {
                self.with(index, |edge| edge.handle_command(envelope, now));
            }
        }
    }

    fn handle_drain(&mut self, _now: Instant) {}

    fn is_drained(&self) -> bool {
        true
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(due, index)) = self.retries.front()
            && due <= now
        {
            self.retries.pop_front();
            if self.edges.contains_key(&index) {
                self.connect(index);
            }
        }
        while let Some(&(deadline, index)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, index));
            self.deadline_of.remove(&index);
            self.with(index, |edge| edge.handle_timeout(now));
        }
    }

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        self.actions.pop_front()
    }

    fn poll_connect(&mut self) -> Option<Connect> {
        self.connects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let edge = self.deadlines.first().map(|(deadline, _)| *deadline);
        let retry = self.retries.front().map(|(due, _)| *due);
        edge.into_iter().chain(retry).min()
    }
}

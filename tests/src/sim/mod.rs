//! A world of nodes on virtual links: seeded, in virtual time, without sockets.
//!
//! Links carry streams and datagrams, as the seam above QUIC has them. Bytes of one stream come in
//! order; streams overtake each other. A seed makes everything; the same seed makes the same trace.

pub mod heard;
pub mod node;
pub mod peer;
pub mod random;
pub mod shards;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use aip_codec::Version;
use aip_engine::transport::{Action, Closed, Peer, SessionId, Side, StreamId};
use bytes::Bytes;

use self::{node::Node, random::Random, shards::Shards};

/// A node's number in its world.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct NodeId(pub usize);

/// A connection's number in its world.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub usize);

/// How links behave.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shortest and longest way of a piece of a stream, in microseconds.
    pub delay: (u64, u64),
    /// Of 1,000 pieces, those that are cut in two.
    pub cut: u64,
    /// Of 1,000 unidirectional streams, those that are reset on the way.
    pub stream_loss: u64,
    /// Of 1,000 datagrams, those that are lost.
    pub datagram_loss: u64,
}

impl Weather {
    /// Short ways, nothing lost.
    pub const CALM: Self = Self { delay: (100, 400), cut: 0, stream_loss: 0, datagram_loss: 0 };
}

/// One direction of a stream.
#[derive(Debug, Default)]
struct Pipe {
    pending: VecDeque<(Bytes, bool)>,
    moving: bool,
    paused: bool,
    /// Reset, stopped or finished: nothing more comes.
    closed: bool,
}

#[derive(Debug)]
struct Link {
    ends: [(NodeId, SessionId); 2],
    up: bool,
    partitioned: bool,
    /// How often it was partitioned.
    partitions: u64,
    /// Ends that have been told that it is gone.
    told: usize,
    /// Whether its client keeps it up as a way to a target.
    dialled: bool,
    /// Whether its client was told that nothing comes.
    silent: bool,
    /// Bytes that wait to be sent, by end.
    queued: [usize; 2],
    pipes: BTreeMap<(usize, StreamId), Pipe>,
    /// How long each of its datagrams may wait to be sent.
    patience: Vec<Option<Duration>>,
}

#[derive(Debug)]
enum Occurrence {
    /// The next piece of a stream arrives at the other end of `from`.
    Piece {
        link: LinkId,
        from: usize,
        stream: StreamId,
    },
    Reset {
        link: LinkId,
        from: usize,
        stream: StreamId,
        code: u64,
    },
    Stop {
        link: LinkId,
        from: usize,
        stream: StreamId,
        code: u64,
    },
    Datagram {
        link: LinkId,
        from: usize,
        bytes: Bytes,
    },
    Closed {
        link: LinkId,
        end: usize,
        closed: Closed,
    },
    /// The client of a connection is told that nothing comes, if nothing has gone through it since.
    Silence {
        link: LinkId,
        partitions: u64,
    },
    /// Both ends of a connection give up, if nothing has gone through it since.
    Idle {
        link: LinkId,
        partitions: u64,
    },
}

impl Occurrence {
    /// The end of a connection that is told of it.
    const fn hearer(&self) -> Option<(LinkId, usize)> {
        match *self {
            Self::Piece { link, from, .. }
            | Self::Reset { link, from, .. }
            | Self::Stop { link, from, .. }
            | Self::Datagram { link, from, .. } => Some((link, 1 - from)),
            Self::Closed { link, end, .. } => Some((link, end)),
            Self::Silence { .. } | Self::Idle { .. } => None,
        }
    }
}

/// How long a connection to a target may be silent before its client is told.
const SILENCE: Duration = Duration::from_secs(1);
/// More at one moment than any world has to do: something goes round in circles.
const AT_ONCE_MAX: u64 = 1_000_000;

/// Nodes, links between them, and a clock that jumps to whatever is next.
#[derive(Debug)]
pub struct World {
    /// Where chance comes from.
    pub random: Random,
    /// How links behave from now on.
    pub weather: Weather,
    nodes: Vec<Box<dyn Node>>,
    links: Vec<Link>,
    occurrences: BTreeMap<(Instant, u64), Occurrence>,
    sequence: u64,
    next_session: u64,
    start: Instant,
    now: Instant,
    /// A running hash of all that happened.
    trace: u64,
    /// How long a connection lives when nothing goes through it; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// Sessions that were closed for a peer's fault: who closed, and why.
    pub faults: Vec<(NodeId, String)>,
    /// Whether all that nodes do is written to standard error.
    pub tells_all: bool,
    /// Ends of connections that were told of their loss.
    losses: u64,
    /// Things that happened at this very moment.
    at_once: u64,
}

impl World {
    /// An empty world.
    pub fn new(seed: u64, weather: Weather) -> Self {
        #[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
        let start = Instant::now();
        Self {
            random: Random::new(seed),
            weather,
            nodes: Vec::new(),
            links: Vec::new(),
            occurrences: BTreeMap::new(),
            sequence: 0,
            next_session: 0,
            start,
            now: start,
            trace: 0xcbf2_9ce4_8422_2325,
            idle_timeout: None,
            faults: Vec::new(),
            tells_all: false,
            losses: 0,
            at_once: 0,
        }
    }

    /// Adds a node.
    pub fn add(&mut self, node: impl Node + 'static) -> NodeId {
        self.nodes.push(Box::new(node));
        NodeId(self.nodes.len() - 1)
    }

    /// Adds a node.
    pub fn add_boxed(&mut self, node: Box<dyn Node>) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    /// The time in this world.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// The hash of all that happened so far.
    pub const fn trace(&self) -> u64 {
        self.trace
    }

    /// How long each datagram may wait that was sent on a link, either way.
    pub fn patience(&self, link: LinkId) -> &[Option<Duration>] {
        &self.links[link.0].patience
    }

    /// A node, to look at or to tell something; its actions are carried out afterwards.
    ///
    /// # Panics
    /// If the node is of another type.
    pub fn with<N: Node + 'static, R>(
        &mut self,
        id: NodeId,
        tell: impl FnOnce(&mut N, Instant) -> R,
    ) -> R {
        let now = self.now;
        let node = self.nodes[id.0].as_any().downcast_mut::<N>();
        let result = tell(node.expect("the node is of this type"), now);
        self.carry_out(id);
        result
    }

    /// Connects `client` to `server`; the handshake is over at once.
    pub fn connect(
        &mut self,
        client: NodeId,
        server: NodeId,
        version: Version,
        target: Option<usize>,
    ) -> LinkId {
        let mut session = || {
            self.next_session += 1;
            SessionId(self.next_session)
        };
        let ends = [(client, session()), (server, session())];
        let link = LinkId(self.links.len());
        self.links.push(Link {
            ends,
            up: true,
            partitioned: false,
            partitions: 0,
            told: 0,
            dialled: target.is_some(),
            silent: false,
            queued: [0; 2],
            pipes: BTreeMap::new(),
            patience: Vec::new(),
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 4433));
        let now = self.now;
        for (end, side) in [(1, Side::Server), (0, Side::Client)] {
            let mut peer = Peer::new(side, version, address);
            if side == Side::Client {
                peer.target = target;
            }
            let (node, session) = ends[end];
            self.nodes[node.0].handle_connected(session, peer, now);
            self.carry_out(node);
        }
        link
    }

    /// Ends a connection without a word from either side.
    pub fn kill(&mut self, link: LinkId) {
        if !std::mem::replace(&mut self.links[link.0].up, false) {
            return;
        }
        for end in 0..2 {
            self.schedule(
                Duration::from_millis(1),
                Occurrence::Closed { link, end, closed: Closed::TimedOut },
            );
        }
    }

    /// Puts another node in the place of one that is gone without a word: what was at its side of
    /// its connections is no more, and the other sides hear of it after `heard`.
    pub fn replace(&mut self, id: NodeId, node: Box<dyn Node>, heard: Duration) {
        self.nodes[id.0] = node;
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            let Some(end) = link.ends.iter().position(|(other, _)| *other == id) else { continue };
            if !std::mem::replace(&mut link.up, false) {
                continue;
            }
            link.told += 1;
            let closed = Closed::TimedOut;
            let partitions = link.partitions;
            let link = LinkId(index);
            if end == 1 && SILENCE < heard {
                self.schedule(SILENCE, Occurrence::Silence { link, partitions });
            }
            self.schedule(heard, Occurrence::Closed { link, end: 1 - end, closed });
        }
    }

    /// Holds everything on a connection back, or lets it go.
    pub fn partition(&mut self, link: LinkId, partitioned: bool) {
        let entry = &mut self.links[link.0];
        if entry.partitioned == partitioned {
            return;
        }
        entry.partitioned = partitioned;
        entry.partitions += 1;
        let partitions = entry.partitions;
        if partitioned {
            self.schedule(SILENCE, Occurrence::Silence { link, partitions });
        } else {
            self.tell_silence(link, false);
        }
        if partitioned && let Some(timeout) = self.idle_timeout {
            self.schedule(timeout, Occurrence::Idle { link, partitions });
        }
        if !partitioned {
            let held: Vec<_> = self.links[link.0]
                .pipes
                .iter()
                .filter(|(_, pipe)| !pipe.moving && !pipe.pending.is_empty() && !pipe.paused)
                .map(|(key, _)| *key)
                .collect();
            for (from, stream) in held {
                self.move_on(link, from, stream);
            }
        }
    }

    /// Whether a connection is up and lets things through.
    pub fn is_open(&self, link: LinkId) -> bool {
        self.links[link.0].up && !self.links[link.0].partitioned
    }

    /// Whether a connection is up.
    pub fn is_up(&self, link: LinkId) -> bool {
        self.links[link.0].up
    }

    /// Whether both ends of a connection that is gone have been told so.
    pub fn is_told(&self, link: LinkId) -> bool {
        self.links[link.0].told == 2
    }

    /// Runs until nothing is on its way, at most for `limit`. Timers that are further away wait.
    pub fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        while self.step(end) {}
        self.now = end;
        self.fire_timers();
        self.check_accounts();
    }

    /// Asserts that what each relay counts as waiting adds up, level by level, and is what waits.
    ///
    /// # Panics
    /// If it does not.
    pub fn check_accounts(&mut self) {
        for index in 0..self.nodes.len() {
            let id = NodeId(index);
            // Of a connection that is gone, who has not been told still counts.
            let all_told = self.links.iter().all(|link| {
                link.up && link.told == 0
                    || link.told == 2
                    || link.ends.iter().all(|(node, _)| *node != id)
            });
            let queued = self.queued(id);
            let Some(relay) = self.nodes[index].as_any().downcast_mut::<Shards>() else { continue };
            assert!(relay.accounts_add_up(), "{id:?}: {:?}", relay.load());
            if all_told && relay.relays().count() == 1 {
                assert_eq!(relay.load().queued.bytes, queued, "{id:?}: counted, waiting");
            }
        }
    }

    /// What contradicts itself in a relay, if anything does.
    pub fn contradiction(&mut self) -> Option<String> {
        let mut relays = self.nodes.iter_mut().filter_map(|node| node.as_any().downcast_mut());
        relays.find_map(|relay: &mut Shards| relay.contradiction())
    }

    /// Runs until `done` says so; false if it does not within `limit`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return done(self);
            }
        }
    }

    /// The next thing that happens before `end`; false if nothing does.
    ///
    /// # Panics
    /// If too much happens at one moment: something goes round in circles.
    pub fn step(&mut self, end: Instant) -> bool {
        let occurrence = self.occurrences.first_key_value().map(|((when, _), _)| *when);
        let timer = self.nodes.iter().filter_map(|node| node.poll_timeout()).min();
        let next = match (occurrence, timer) {
            (Some(occurrence), Some(timer)) => occurrence.min(timer),
            (Some(when), None) | (None, Some(when)) => when,
            (None, None) => return false,
        };
        if end < next {
            return false;
        }
        self.at_once = if self.now < next { 0 } else { self.at_once + 1 };
        assert!(self.at_once < AT_ONCE_MAX, "time stands still");
        self.now = self.now.max(next);
        if occurrence.is_some_and(|when| when <= next) {
            if let Some((_, occurrence)) = self.occurrences.pop_first() {
                self.happen(occurrence);
            }
        } else {
            self.fire_timers();
        }
        true
    }

    fn fire_timers(&mut self) {
        for id in 0..self.nodes.len() {
            if self.nodes[id].poll_timeout().is_some_and(|when| when <= self.now) {
                self.nodes[id].handle_turn(None, self.now);
                self.carry_out(NodeId(id));
                self.nodes[id].handle_timeout(self.now);
                self.carry_out(NodeId(id));
            }
        }
    }

    fn schedule(&mut self, after: Duration, occurrence: Occurrence) {
        self.sequence += 1;
        self.occurrences.insert((self.now + after, self.sequence), occurrence);
    }

    fn delay(&mut self) -> Duration {
        let (shortest, longest) = self.weather.delay;
        Duration::from_micros(self.random.between(shortest, longest))
    }

    fn note(&mut self, words: &[u64]) {
        for word in words {
            self.trace = (self.trace ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn carry_out(&mut self, id: NodeId) {
        let mut count = 0_u64;
        while let Some((session, action)) = self.nodes[id.0].poll_action() {
            count += 1;
            assert!(count < AT_ONCE_MAX, "{id:?} has no end of wishes");
            let (index, from) = end_of(session);
            if self.links.get(index).is_none_or(|link| !link.up) {
                continue;
            }
            if self.tells_all {
                self.tell_of(index, from, &action);
            }
            self.act(LinkId(index), from, action);
        }
    }

    #[expect(clippy::print_stderr, reason = "asked for, to follow a seed")]
    fn tell_of(&self, link: usize, from: usize, action: &Action) {
        let [client, server] = self.links[link].ends.map(|(node, _)| node.0);
        let arrow = if from == 0 { "->" } else { "<-" };
        eprintln!("{:?} {client} {arrow} {server}: {}", self.elapsed(), describe(action));
    }

    fn act(&mut self, link: LinkId, from: usize, action: Action) {
        match action {
            Action::Send { stream, bytes, fin } => self.send(link, from, stream, bytes, fin),
            Action::Reset { stream, code } => {
                let pipe = self.links[link.0].pipes.entry((from, stream)).or_default();
                let was_closed = std::mem::replace(&mut pipe.closed, true);
                // Also if the peer's stop is still on its way here.
                self.drop_pending(link, from, stream);
                if was_closed {
                    return;
                }
                let delay = self.delay();
                self.schedule(delay, Occurrence::Reset { link, from, stream, code });
            }
            Action::Stop { stream, code } => {
                let pipe = self.links[link.0].pipes.entry((1 - from, stream)).or_default();
                if std::mem::replace(&mut pipe.closed, true) {
                    return;
                }
                let delay = self.delay();
                self.schedule(delay, Occurrence::Stop { link, from, stream, code });
            }
            Action::Pause { stream } => {
                self.links[link.0].pipes.entry((1 - from, stream)).or_default().paused = true;
            }
            Action::Resume { stream } => {
                let pipe = self.links[link.0].pipes.entry((1 - from, stream)).or_default();
                pipe.paused = false;
                self.move_on(link, 1 - from, stream);
            }
            Action::Prioritize { .. } => {}
            Action::SendDatagram { bytes, expires } => {
                let patience = expires.map(|expires| expires - self.now);
                self.links[link.0].patience.push(patience);
                if !self.random.chance(self.weather.datagram_loss) {
                    let delay = self.delay();
                    self.schedule(delay, Occurrence::Datagram { link, from, bytes });
                }
            }
            Action::Close { code, reason } => self.close(link, from, code.0, reason),
        }
    }

    fn close(&mut self, link: LinkId, from: usize, code: u64, reason: String) {
        // Nobody is heard over a link that is cut: that is no fault of theirs.
        if code != 0 && !self.links[link.0].partitioned {
            let (node, _) = self.links[link.0].ends[from];
            self.faults.push((node, format!("{code:#x} {reason}")));
        }
        self.links[link.0].up = false;
        let reason = Bytes::from(reason);
        let peer =
            Occurrence::Closed { link, end: 1 - from, closed: Closed::ByPeer { code, reason } };
        self.schedule(Duration::from_millis(1), peer);
        let local = Occurrence::Closed { link, end: from, closed: Closed::Locally };
        self.schedule(Duration::ZERO, local);
    }

    fn send(&mut self, link: LinkId, from: usize, stream: StreamId, bytes: Bytes, fin: bool) {
        let is_new = !self.links[link.0].pipes.contains_key(&(from, stream));
        let lossy = is_new && !stream.is_bidirectional() && stream.0 >> 2 != 0;
        if lossy && self.random.chance(self.weather.stream_loss) {
            self.links[link.0].pipes.entry((from, stream)).or_default().closed = true;
            let delay = self.delay();
            self.schedule(delay, Occurrence::Reset { link, from, stream, code: 0 });
        }
        let pipe = self.links[link.0].pipes.entry((from, stream)).or_default();
        if pipe.closed {
            let length = bytes.len();
            self.told_sent(link, from, stream, length);
            return;
        }
        self.links[link.0].queued[from] += bytes.len();
        if 1 < bytes.len() && self.random.chance(self.weather.cut) {
            let at = self.random.index(bytes.len() - 1) + 1;
            let pipe = self.links[link.0].pipes.entry((from, stream)).or_default();
            pipe.pending.push_back((bytes.slice(..at), false));
            pipe.pending.push_back((bytes.slice(at..), fin));
        } else {
            let pipe = self.links[link.0].pipes.entry((from, stream)).or_default();
            pipe.pending.push_back((bytes, fin));
        }
        self.move_on(link, from, stream);
    }

    /// Sends the next piece on its way, if none is and nothing holds it.
    fn move_on(&mut self, link: LinkId, from: usize, stream: StreamId) {
        let partitioned = self.links[link.0].partitioned;
        let Some(pipe) = self.links[link.0].pipes.get_mut(&(from, stream)) else { return };
        if pipe.moving || pipe.paused || pipe.pending.is_empty() || partitioned {
            return;
        }
        pipe.moving = true;
        let delay = self.delay();
        self.schedule(delay, Occurrence::Piece { link, from, stream });
    }

    fn drop_pending(&mut self, link: LinkId, from: usize, stream: StreamId) {
        let Some(pipe) = self.links[link.0].pipes.get_mut(&(from, stream)) else { return };
        let dropped: usize = pipe.pending.drain(..).map(|(bytes, _)| bytes.len()).sum();
        self.links[link.0].queued[from] -= dropped;
        self.told_sent(link, from, stream, dropped);
    }

    fn told_sent(&mut self, link: LinkId, from: usize, stream: StreamId, length: usize) {
        let (node, session) = self.links[link.0].ends[from];
        let now = self.now;
        if 0 < length {
            self.nodes[node.0].handle_sent(session, stream, length, now);
        }
    }

    fn happen(&mut self, occurrence: Occurrence) {
        if let Some((link, end)) = occurrence.hearer() {
            let (node, session) = self.links[link.0].ends[end];
            self.nodes[node.0].handle_turn(Some(session), self.now);
            self.carry_out(node);
        }
        match occurrence {
            Occurrence::Piece { link, from, stream } => self.piece(link, from, stream),
            Occurrence::Reset { link, from, stream, code } => {
                self.tell(link, 1 - from, &[1, stream.0, code], |node, session, now| {
                    node.handle_reset(session, stream, code, now);
                });
            }
            Occurrence::Stop { link, from, stream, code } => {
                self.drop_pending(link, 1 - from, stream);
                self.tell(link, 1 - from, &[2, stream.0, code], |node, session, now| {
                    node.handle_stop(session, stream, code, now);
                });
            }
            Occurrence::Datagram { link, from, bytes } => {
                let words = [3, bytes.len() as u64];
                self.tell(link, 1 - from, &words, |node, session, now| {
                    node.handle_datagram(session, bytes, now);
                });
            }
            Occurrence::Silence { link, partitions } => {
                if self.links[link.0].partitions == partitions {
                    self.tell_silence(link, true);
                }
            }
            Occurrence::Idle { link, partitions } => {
                if self.links[link.0].partitions == partitions {
                    self.kill(link);
                }
            }
            Occurrence::Closed { link, end, closed } => {
                let (node, session) = self.links[link.0].ends[end];
                self.note(&[4, session.0]);
                self.links[link.0].told += 1;
                self.losses += 1;
                let now = self.now;
                self.nodes[node.0].handle_closed(session, closed, now);
                self.carry_out(node);
            }
        }
    }

    /// Tells the client of a connection to a target that nothing comes, or that something does again.
    fn tell_silence(&mut self, link: LinkId, silent: bool) {
        let entry = &mut self.links[link.0];
        if !entry.dialled || entry.silent == silent {
            return;
        }
        entry.silent = silent;
        let (node, session) = entry.ends[0];
        self.note(&[6, session.0, u64::from(silent)]);
        let now = self.now;
        self.nodes[node.0].handle_silence(session, silent, now);
        self.carry_out(node);
    }

    fn piece(&mut self, link: LinkId, from: usize, stream: StreamId) {
        let open = self.links[link.0].up && !self.links[link.0].partitioned;
        let Some(pipe) = self.links[link.0].pipes.get_mut(&(from, stream)) else { return };
        pipe.moving = false;
        if pipe.closed || pipe.paused || !open {
            return;
        }
        let Some((bytes, fin)) = pipe.pending.pop_front() else { return };
        if fin {
            pipe.closed = true;
        }
        let length = bytes.len();
        self.links[link.0].queued[from] -= length;
        let words = [5, stream.0, length as u64, u64::from(fin), hash(&bytes)];
        self.tell(link, 1 - from, &words, |node, session, now| {
            node.handle_stream(session, stream, bytes, fin, now);
        });
        self.told_sent(link, from, stream, length);
        let (sender, _) = self.links[link.0].ends[from];
        self.carry_out(sender);
        self.move_on(link, from, stream);
    }

    /// Tells one end of a live connection something, and carries out what it wants then.
    fn tell(
        &mut self,
        link: LinkId,
        end: usize,
        words: &[u64],
        tell: impl FnOnce(&mut dyn Node, SessionId, Instant),
    ) {
        if !self.links[link.0].up {
            return;
        }
        let (node, session) = self.links[link.0].ends[end];
        self.note(words);
        self.note(&[session.0]);
        tell(self.nodes[node.0].as_mut(), session, self.now);
        self.carry_out(node);
    }

    /// Bytes that a node has handed over and that are not on their way.
    pub fn queued(&self, node: NodeId) -> usize {
        self.links
            .iter()
            .filter(|link| link.up)
            .flat_map(|link| link.ends.iter().zip(link.queued))
            .filter(|((end, _), _)| *end == node)
            .map(|(_, queued)| queued)
            .sum()
    }

    /// The sessions at the ends of a connection: the client's, the server's.
    pub fn sessions(&self, link: LinkId) -> [SessionId; 2] {
        self.links[link.0].ends.map(|(_, session)| session)
    }

    /// Ends of connections that were told of their loss, so far.
    pub const fn losses(&self) -> u64 {
        self.losses
    }

    /// Connections that are up.
    pub fn live_links(&self) -> BTreeSet<LinkId> {
        (0..self.links.len()).map(LinkId).filter(|link| self.is_up(*link)).collect()
    }
}

/// The connection that a session is an end of, and which end.
fn end_of(session: SessionId) -> (usize, usize) {
    let number = usize::try_from(session.0).unwrap_or(usize::MAX) - 1;
    (number / 2, number % 2)
}

/// An action in few words.
fn describe(action: &Action) -> String {
    match action {
        Action::Send { stream, bytes, fin } => {
            let fin = if *fin { " fin" } else { "" };
            let head = &bytes[..bytes.len().min(12)];
            format!("{stream} {} bytes {}{fin}", bytes.len(), head.escape_ascii())
        }
        other => format!("{other:?}"),
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

//! A worker with a driver that tells a test everything and does what the test says.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    sync::mpsc,
    time::{Duration, Instant},
};

use aip_engine::{
    io::{self, Config, Handle, Identity, Target, Trust},
    transport::{Action, Closed, Connect, Driver, Move, Peer, SessionId, Side, StreamId},
};
use bytes::Bytes;

/// The longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a driver was told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Connected(SessionId, Peer),
    Stream(SessionId, StreamId, Bytes, bool),
    Reset(SessionId, StreamId, u64),
    Stop(SessionId, StreamId, u64),
    Datagram(SessionId, Bytes),
    Sent(SessionId, StreamId, usize),
    Closed(SessionId, Closed),
    Unreachable(usize, String),
    ConnectFailed(u64, String),
    Drain,
}

/// What a test tells a driver.
pub(crate) enum Command {
    Do(SessionId, Action),
    Connect(Connect),
    Move(Move),
    Panic,
    Drained,
}

/// What a driver does by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    /// Send back what comes: on the same stream, or on a new one for one that cannot answer.
    pub(crate) echo: bool,
    /// Tell of streams' bytes. Off for what is too much to tell.
    pub(crate) quiet: bool,
    /// Be drained as soon as asked.
    pub(crate) drains: bool,
}

struct Probe {
    habits: Habits,
    tell: mpsc::Sender<Told>,
    actions: VecDeque<(SessionId, Action)>,
    connects: VecDeque<Connect>,
    moves: VecDeque<Move>,
    sides: HashMap<SessionId, Side>,
    /// Unidirectional echoes: the stream that answers a stream.
    answers: HashMap<(SessionId, StreamId), StreamId>,
    opened: HashMap<SessionId, u64>,
    drained: bool,
}

impl Probe {
    fn new(habits: Habits, tell: mpsc::Sender<Told>) -> Self {
        Self {
            habits,
            tell,
            actions: VecDeque::new(),
            connects: VecDeque::new(),
            moves: VecDeque::new(),
            sides: HashMap::new(),
            answers: HashMap::new(),
            opened: HashMap::new(),
            drained: false,
        }
    }

    fn tell(&self, told: Told) {
        // The test may be over.
        drop(self.tell.send(told));
    }

    fn echo(&mut self, session: SessionId, stream: StreamId, bytes: Bytes, fin: bool) {
        let answer = if stream.is_bidirectional() {
            stream
        } else {
            let side = self.sides[&session];
            let opened = self.opened.entry(session).or_default();
            *self.answers.entry((session, stream)).or_insert_with(|| {
                *opened += 1;
                StreamId::new(side, false, *opened - 1)
            })
        };
        if fin {
            self.answers.remove(&(session, stream));
        }
        let ours = stream.is_bidirectional() && stream.opener() == self.sides[&session];
        if !ours {
            self.actions.push_back((session, Action::Send { stream: answer, bytes, fin }));
        }
    }
}

impl Driver for Probe {
    type Command = Command;

    fn handle_connected(&mut self, session: SessionId, peer: Peer, _: Instant) {
        self.sides.insert(session, peer.side);
        self.tell(Told::Connected(session, peer));
    }

    fn handle_stream(
        &mut self,
        session: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        _: Instant,
    ) {
        if !self.habits.quiet {
            self.tell(Told::Stream(session, stream, bytes.clone(), fin));
        }
        if self.habits.echo {
            self.echo(session, stream, bytes, fin);
        }
    }

    fn handle_reset(&mut self, session: SessionId, stream: StreamId, code: u64, _: Instant) {
        self.tell(Told::Reset(session, stream, code));
    }

    fn handle_stop(&mut self, session: SessionId, stream: StreamId, code: u64, _: Instant) {
        self.tell(Told::Stop(session, stream, code));
    }

    fn handle_datagram(&mut self, session: SessionId, bytes: Bytes, _: Instant) {
        self.tell(Told::Datagram(session, bytes.clone()));
        if self.habits.echo {
            self.actions.push_back((session, Action::SendDatagram { bytes, expires: None }));
        }
    }

    fn handle_sent(&mut self, session: SessionId, stream: StreamId, length: usize, _: Instant) {
        if !self.habits.quiet {
            self.tell(Told::Sent(session, stream, length));
        }
    }

    fn handle_closed(&mut self, session: SessionId, closed: Closed, _: Instant) {
        self.sides.remove(&session);
        self.tell(Told::Closed(session, closed));
    }

    fn handle_unreachable(&mut self, target: usize, reason: &str, _: Instant) {
        self.tell(Told::Unreachable(target, reason.to_owned()));
    }

    fn handle_connect_failed(&mut self, key: u64, reason: &str, _: Instant) {
        self.tell(Told::ConnectFailed(key, reason.to_owned()));
    }

    fn handle_command(&mut self, command: Command, _: Instant) {
        match command {
            Command::Do(session, action) => self.actions.push_back((session, action)),
            Command::Connect(connect) => self.connects.push_back(connect),
            Command::Move(to) => self.moves.push_back(to),
            Command::Panic => panic!("as it was told"),
            Command::Drained => self.drained = true,
        }
    }

    fn handle_drain(&mut self, _: Instant) {
        self.tell(Told::Drain);
        self.drained |= self.habits.drains;
    }

    fn is_drained(&self) -> bool {
        self.drained
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        self.actions.pop_front()
    }

    fn poll_connect(&mut self) -> Option<Connect> {
        self.connects.pop_front()
    }

    fn poll_move(&mut self) -> Option<Move> {
        self.moves.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// A worker under test.
pub(crate) struct Node {
    pub(crate) handle: Handle<Command>,
    told: mpsc::Receiver<Told>,
    /// Told, and not yet waited for.
    kept: RefCell<VecDeque<Told>>,
}

impl Node {
    pub(crate) fn new(config: Config, habits: Habits) -> Self {
        let (tell, told) = mpsc::channel();
        let handle = io::spawn(config, move || Probe::new(habits, tell)).unwrap();
        Self { handle, told, kept: RefCell::new(VecDeque::new()) }
    }

    /// As many workers as `config` says, of which the first takes commands. Sessions of different
    /// workers may have one number.
    pub(crate) fn of_workers(config: Config, habits: Habits) -> Self {
        let (tell, told) = mpsc::channel();
        let probe = move |_| Probe::new(habits, tell.clone());
        let handle = io::spawn_workers(config, probe).unwrap();
        Self { handle, told, kept: RefCell::new(VecDeque::new()) }
    }

    /// A server on a port of the system's choice.
    pub(crate) fn server(habits: Habits) -> Self {
        Self::new(server_config(), habits)
    }

    /// A client of one server, whose certificate it pins.
    pub(crate) fn client(server: &Self, habits: Habits) -> Self {
        Self::new(Config::client(vec![server.target()]), habits)
    }

    /// How to reach this server.
    pub(crate) fn target(&self) -> Target {
        self.target_at(self.port())
    }

    /// How to reach this server by another port.
    pub(crate) fn target_at(&self, port: u16) -> Target {
        self.target_of(&format!("127.0.0.1:{port}"))
    }

    /// How to reach this server at another address.
    pub(crate) fn target_of(&self, authority: &str) -> Target {
        let pin = self.handle.certificate_sha256().unwrap();
        let url = format!("moqt://{authority}/path?query=1");
        Target::new(&url, Trust::CertificateSha256(vec![pin])).unwrap()
    }

    pub(crate) fn port(&self) -> u16 {
        self.handle.addresses()[0].port()
    }

    pub(crate) fn act(&self, session: SessionId, action: Action) {
        self.command(Command::Do(session, action));
    }

    pub(crate) fn connect(&self, connect: Connect) {
        self.command(Command::Connect(connect));
    }

    /// A target says that it is elsewhere.
    pub(crate) fn move_to(&self, target: usize, uri: &str) {
        self.command(Command::Move(Move { target, uri: Bytes::from(uri.to_owned()) }));
    }

    pub(crate) fn panic(&self) {
        self.command(Command::Panic);
    }

    fn command(&self, mut command: Command) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(rejected) = self.handle.mailbox().send(command) {
            let io::Rejected::Full(back) = rejected else { panic!("the worker has ended") };
            assert!(Instant::now() < deadline, "the mailbox stays full");
            std::thread::yield_now();
            command = back;
        }
    }

    pub(crate) fn send(
        &self,
        session: SessionId,
        stream: StreamId,
        bytes: impl Into<Bytes>,
        fin: bool,
    ) {
        self.act(session, Action::Send { stream, bytes: bytes.into(), fin });
    }

    /// Waits for what `wanted` makes something of. What it does not is kept for other waits.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, mut wanted: impl FnMut(&Told) -> Option<T>) -> T {
        self.wait_within(PATIENCE, what, &mut wanted)
    }

    #[track_caller]
    pub(crate) fn wait_within<T>(
        &self,
        patience: Duration,
        what: &str,
        wanted: &mut dyn FnMut(&Told) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + patience;
        let mut kept = self.kept.borrow_mut();
        for index in 0..kept.len() {
            if let Some(found) = wanted(&kept[index]) {
                kept.remove(index);
                return found;
            }
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(told) = self.told.recv_timeout(left) else {
                let last: Vec<_> = kept.iter().rev().take(8).collect();
                panic!("waited for {what}; last told: {last:?}");
            };
            if let Some(found) = wanted(&told) {
                return found;
            }
            kept.push_back(told);
        }
    }

    /// Waits for a session.
    #[track_caller]
    pub(crate) fn connected(&self) -> (SessionId, Peer) {
        self.wait("a session", |told| match told {
            Told::Connected(session, peer) => Some((*session, peer.clone())),
            _ => None,
        })
    }

    /// Waits until a session is over.
    #[track_caller]
    pub(crate) fn closed(&self, session: SessionId) -> Closed {
        self.closed_within(PATIENCE, session)
    }

    #[track_caller]
    pub(crate) fn closed_within(&self, patience: Duration, session: SessionId) -> Closed {
        self.wait_within(patience, "the end of a session", &mut |told| match told {
            Told::Closed(ended, closed) if *ended == session => Some(closed.clone()),
            _ => None,
        })
    }

    /// Waits until a stream has ended; gives what came on it.
    #[track_caller]
    pub(crate) fn whole_stream(&self, session: SessionId, stream: StreamId) -> Vec<u8> {
        let mut whole = Vec::new();
        loop {
            let fin = self.wait("a stream's end", |told| match told {
                Told::Stream(of, on, bytes, fin) if (*of, *on) == (session, stream) => {
                    whole.extend_from_slice(bytes);
                    Some(*fin)
                }
                _ => None,
            });
            if fin {
                return whole;
            }
        }
    }

    /// Waits until so many bytes have come on a stream.
    #[track_caller]
    pub(crate) fn bytes(&self, session: SessionId, stream: StreamId, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            self.wait("bytes of a stream", |told| match told {
                Told::Stream(of, on, bytes, _) if (*of, *on) == (session, stream) => {
                    all.extend_from_slice(bytes);
                    Some(())
                }
                _ => None,
            });
        }
        assert_eq!(all.len(), count, "more came than was waited for");
        all
    }

    #[track_caller]
    pub(crate) fn reset(&self, session: SessionId, stream: StreamId) -> u64 {
        self.wait("a reset", |told| match told {
            Told::Reset(of, on, code) if (*of, *on) == (session, stream) => Some(*code),
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn stop(&self, session: SessionId, stream: StreamId) -> u64 {
        self.wait("a stop", |told| match told {
            Told::Stop(of, on, code) if (*of, *on) == (session, stream) => Some(*code),
            _ => None,
        })
    }

    /// Waits until so many bytes have left a stream's queue.
    #[track_caller]
    pub(crate) fn sent(&self, session: SessionId, stream: StreamId, count: usize) {
        let mut all = 0;
        while all < count {
            all += self.wait("sent bytes", |told| match told {
                Told::Sent(of, on, length) if (*of, *on) == (session, stream) => Some(*length),
                _ => None,
            });
        }
        assert_eq!(all, count, "more was told as sent than was sent");
    }

    /// Nothing of what `unwanted` names was told so far.
    #[track_caller]
    pub(crate) fn never(&self, what: &str, unwanted: impl Fn(&Told) -> bool) {
        let mut kept = self.kept.borrow_mut();
        kept.extend(self.told.try_iter());
        if let Some(told) = kept.iter().find(|told| unwanted(told)) {
            panic!("{what}: {told:?}");
        }
    }

    /// Ends the worker at once.
    pub(crate) fn end(self) {
        self.handle.shutdown();
        drop(self.handle.mailbox().send(Command::Drained));
        assert!(self.handle.wait(PATIENCE), "it does not end");
        self.handle.join().unwrap();
    }
}

pub(crate) fn server_config() -> Config {
    Config::server(vec!["127.0.0.1:0".parse().unwrap()], Identity::Development)
}

/// Two connected nodes, and their sessions.
pub(crate) struct Pair {
    pub(crate) server: Node,
    pub(crate) client: Node,
    /// The server's name of the session.
    pub(crate) accepted: SessionId,
    /// The client's name of the session.
    pub(crate) dialled: SessionId,
}

pub(crate) fn pair(server: Habits, client: Habits) -> Pair {
    let server = Node::server(server);
    let client = Node::client(&server, client);
    Pair::of(server, client)
}

impl Pair {
    pub(crate) fn of(server: Node, client: Node) -> Self {
        let (dialled, _) = client.connected();
        let (accepted, _) = server.connected();
        Self { server, client, accepted, dialled }
    }
}

/// Bytes that repeat late and are the same each time.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) const fn client_uni(index: u64) -> StreamId {
    StreamId::new(Side::Client, false, index)
}

pub(crate) const fn client_bidi(index: u64) -> StreamId {
    StreamId::new(Side::Client, true, index)
}

pub(crate) const fn server_uni(index: u64) -> StreamId {
    StreamId::new(Side::Server, false, index)
}

pub(crate) const fn server_bidi(index: u64) -> StreamId {
    StreamId::new(Side::Server, true, index)
}

impl Node {
    /// Waits until the counters say so.
    #[track_caller]
    pub(crate) fn counted(
        &self,
        what: &str,
        holds: impl Fn(&aip_engine::metrics::Counters) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counters = self.handle.counters();
            if holds(&counters) {
                return;
            }
            assert!(Instant::now() < deadline, "waited for {what}: {counters:?}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

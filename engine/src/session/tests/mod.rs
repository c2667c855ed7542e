//! Tests of one session: two joined back to back, and one against bytes.
#![expect(clippy::cast_possible_truncation, reason = "numbers in tests are small")]

mod delivery;
mod early;
mod hops;
mod lifecycle;
mod limits;
mod overload;
mod violations;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use aip_codec::{
    Version,
    moqt::{
        error_code::SessionCode,
        id::{GroupId, ObjectId, TrackAlias},
        message::Message,
        name::{FullTrackName, TrackNamespace},
        parameter::Parameters,
        property::Properties,
        stream::subgroup::{Encoder, ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupMode},
    },
};
use bytes::{Bytes, BytesMut};

use super::{Config, Event, Session};
use crate::transport::{Action, Side, StreamId};

/// Every draft, oldest first.
const DRAFTS: [Version; 5] =
    [Version::Draft18, Version::Draft19, Version::Draft20, Version::Draft21, Version::Draft22];

#[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
fn start() -> Instant {
    Instant::now()
}

fn namespace() -> TrackNamespace {
    TrackNamespace::new(["moq-test", "interop"]).unwrap()
}

fn track(name: &str) -> FullTrackName {
    FullTrackName::new(namespace(), Bytes::from(name.to_owned())).unwrap()
}

fn encode(version: Version, message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(version, &mut out).unwrap();
    out.freeze()
}

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>().into()
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn header(alias: u64, group: u64) -> SubgroupHeader {
    SubgroupHeader {
        track_alias: TrackAlias(alias),
        group: GroupId(group),
        subgroup: SubgroupMode::Zero,
        priority: None,
        properties: false,
        end_of_group: true,
        first_object: true,
    }
}

/// One object of a subgroup stream, as the first on it.
fn object(number: u64, payload: &str) -> Bytes {
    let mut out = BytesMut::new();
    let header = ObjectHeader {
        object: ObjectId(number),
        properties: Properties::default(),
        payload_length: payload.len() as u64,
        status: ObjectStatus::Normal,
    };
    Encoder::new(false).object(&header, &mut out).unwrap();
    out.extend_from_slice(payload.as_bytes());
    out.freeze()
}

/// A whole subgroup stream.
fn subgroup(alias: u64, group: u64, payload: &str) -> Bytes {
    let mut out = BytesMut::new();
    header(alias, group).encode(&mut out);
    out.extend_from_slice(&object(0, payload));
    out.freeze()
}

/// Two sessions joined back to back; whatever one wants done happens at the other at once.
struct Pair {
    client: Session,
    server: Session,
    now: Instant,
    /// What one side does not want to read now.
    held: HashMap<(Side, StreamId), VecDeque<(Bytes, bool)>>,
    paused: HashSet<(Side, StreamId)>,
    /// Streams that are not to arrive for now, by who would receive them.
    detained: HashSet<(Side, StreamId)>,
    closed: Vec<(Side, SessionCode, String)>,
}

impl Pair {
    fn new(version: Version) -> Self {
        Self::with(version, Config::default(), Config::default())
    }

    fn with(version: Version, client: Config, server: Config) -> Self {
        let now = start();
        let mut pair = Self {
            client: Session::new(client, Side::Client, version, now),
            server: Session::new(server, Side::Server, version, now),
            now,
            held: HashMap::new(),
            paused: HashSet::new(),
            detained: HashSet::new(),
            closed: Vec::new(),
        };
        pair.shuttle();
        let established = |event: Vec<Event>| matches!(event[..], [Event::Established { .. }]);
        assert!(established(events(&mut pair.client)));
        assert!(established(events(&mut pair.server)));
        pair
    }

    fn side(&mut self, side: Side) -> &mut Session {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Carries out all actions until there are none.
    fn shuttle(&mut self) {
        loop {
            let from = if let Some(action) = self.client.poll_action() {
                (Side::Client, action)
            } else if let Some(action) = self.server.poll_action() {
                (Side::Server, action)
            } else {
                return;
            };
            self.act(from.0, from.1);
        }
    }

    fn act(&mut self, from: Side, action: Action) {
        let (to, now) = (from.peer(), self.now);
        match action {
            Action::Send { stream, bytes, fin } => {
                let length = bytes.len();
                self.held.entry((to, stream)).or_default().push_back((bytes, fin));
                self.deliver(to, stream);
                self.side(from).handle_sent(stream, length, now);
            }
            Action::Reset { stream, code } => {
                self.held.remove(&(to, stream));
                self.side(to).handle_reset(stream, code, now);
            }
            Action::Stop { stream, code } => {
                self.held.remove(&(from, stream));
                self.side(to).handle_stop(stream, code, now);
            }
            Action::Pause { stream } => {
                self.paused.insert((from, stream));
            }
            Action::Resume { stream } => {
                self.paused.remove(&(from, stream));
                self.deliver(from, stream);
            }
            Action::Prioritize { .. } => {}
            Action::SendDatagram { bytes, .. } => self.side(to).handle_datagram(bytes, now),
            Action::Close { code, reason } => self.closed.push((from, code, reason)),
        }
    }

    fn deliver(&mut self, to: Side, stream: StreamId) {
        let now = self.now;
        while !self.paused.contains(&(to, stream)) && !self.detained.contains(&(to, stream)) {
            let Some((bytes, fin)) = self.held.get_mut(&(to, stream)).and_then(VecDeque::pop_front)
            else {
                return;
            };
            self.side(to).handle_stream(stream, bytes, fin, now);
        }
    }

    fn detain(&mut self, to: Side, stream: StreamId) {
        self.detained.insert((to, stream));
    }

    fn release(&mut self, to: Side, stream: StreamId) {
        self.detained.remove(&(to, stream));
        self.deliver(to, stream);
        self.shuttle();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        self.client.handle_timeout(now);
        self.server.handle_timeout(now);
        self.shuttle();
    }

    #[track_caller]
    fn client_events(&mut self) -> Vec<Event> {
        self.shuttle();
        assert_eq!(self.closed, []);
        events(&mut self.client)
    }

    #[track_caller]
    fn server_events(&mut self) -> Vec<Event> {
        self.shuttle();
        assert_eq!(self.closed, []);
        events(&mut self.server)
    }
}

/// A session whose peer is this test, byte by byte.
struct Victim {
    session: Session,
    version: Version,
    now: Instant,
    sent: BTreeMap<StreamId, BytesMut>,
    finished: BTreeSet<StreamId>,
    resets: Vec<(StreamId, u64)>,
    stops: Vec<(StreamId, u64)>,
    closed: Option<SessionCode>,
}

impl Victim {
    /// A session that has not heard of its peer.
    fn new(side: Side, version: Version) -> Self {
        Self::with(Config::default(), side, version)
    }

    fn with(config: Config, side: Side, version: Version) -> Self {
        let now = start();
        let mut victim = Self {
            session: Session::new(config, side, version, now),
            version,
            now,
            sent: BTreeMap::new(),
            finished: BTreeSet::new(),
            resets: Vec::new(),
            stops: Vec::new(),
            closed: None,
        };
        victim.drain();
        victim
    }

    /// A session that has its peer's empty SETUP.
    fn established(side: Side, version: Version) -> Self {
        let mut victim = Self::new(side, version);
        victim.setup("af000000");
        victim
    }

    fn setup(&mut self, text: &str) {
        self.bytes(self.uni(0), hex(text), false);
    }

    /// The peer's `index`-th unidirectional stream.
    fn uni(&self, index: u64) -> StreamId {
        StreamId::new(self.session.side().peer(), false, index)
    }

    /// The peer's `index`-th bidirectional stream.
    fn bidi(&self, index: u64) -> StreamId {
        StreamId::new(self.session.side().peer(), true, index)
    }

    /// Our `index`-th request's stream.
    fn own(&self, index: u64) -> StreamId {
        StreamId::new(self.session.side(), true, index)
    }

    fn bytes(&mut self, stream: StreamId, bytes: Bytes, fin: bool) {
        self.session.handle_stream(stream, bytes, fin, self.now);
        self.drain();
    }

    fn message(&mut self, stream: StreamId, message: &Message) {
        let bytes = encode(self.version, message);
        self.bytes(stream, bytes, false);
    }

    fn reset(&mut self, stream: StreamId, code: u64) {
        self.session.handle_reset(stream, code, self.now);
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send { stream, bytes, fin } => {
                    self.sent.entry(stream).or_default().extend_from_slice(&bytes);
                    if fin {
                        self.finished.insert(stream);
                    }
                    self.session.handle_sent(stream, bytes.len(), self.now);
                }
                Action::Reset { stream, code } => self.resets.push((stream, code)),
                Action::Stop { stream, code } => self.stops.push((stream, code)),
                Action::Close { code, .. } => self.closed = Some(code),
                Action::Prioritize { .. }
                | Action::Pause { .. }
                | Action::Resume { .. }
                | Action::SendDatagram { .. } => {}
            }
        }
    }

    /// The messages that were sent on a stream.
    fn answers(&self, stream: StreamId) -> Vec<Message> {
        use aip_codec::moqt::message::FrameDecoder;
        let mut decoder = FrameDecoder::new(self.version);
        let bytes = self.sent.get(&stream).cloned().unwrap_or_default();
        decoder.push(bytes.freeze());
        let mut messages = Vec::new();
        while let Some(frame) = decoder.poll().unwrap() {
            messages.push(Message::decode(self.version, frame.kind, frame.body).unwrap());
        }
        messages
    }

    fn events(&mut self) -> Vec<Event> {
        events(&mut self.session)
    }

    fn subscribe(&mut self) -> aip_codec::moqt::id::RequestId {
        let request = self.session.subscribe(track("t"), Parameters::default()).unwrap();
        self.drain();
        request
    }
}

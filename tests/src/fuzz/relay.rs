//! A relay and peers that do whatever a list of operations says.
//!
//! Three peers are sessions of ours, which do nothing wrong: whatever the order of what they do,
//! neither they nor the relay may find a fault in the other. A fourth sends bytes.

use std::{
    collections::{HashSet, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use aip_codec::{
    Version,
    moqt::{
        error_code::{RequestCode, ResetCode, SessionCode},
        id::{RequestId, TrackAlias},
        location::Location,
        name::{FullTrackName, TrackNamespace},
        parameter::{GroupOrder, Parameter, Parameters},
        property::Properties,
    },
};
use aip_engine::{
    relay::{Config, Relay},
    session::{Event, Request},
    transport::{Action, Closed, Peer as TransportPeer, SessionId, Side, StreamId},
};
use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;

use crate::sim::{
    node::Node as _,
    peer::{FetchItem, Peer, Subgroup},
};

/// Peers that are sessions.
const PEERS: usize = 3;
/// The one that sends bytes.
const STRANGER: SessionId = SessionId(99);
/// Operations of one story.
const OPERATIONS_MAX: usize = 24;
/// Bytes that the relay may cache.
const CACHE_MAX: usize = 4_096;

/// Tracks that the relay may know.
const TRACKS_MAX: usize = 16;
/// Actions that one operation may cause before all must be at rest.
const ACTIONS_MAX: usize = 100_000;

/// One thing that happens.
#[derive(Arbitrary, Debug)]
enum Operation<'a> {
    /// A peer goes and comes again, with another draft.
    Reconnect {
        peer: u8,
        draft: u8,
    },
    Announce {
        peer: u8,
        deep: bool,
    },
    Watch {
        peer: u8,
        tracks: bool,
        deep: bool,
    },
    Subscribe {
        peer: u8,
        track: u8,
        forward: bool,
        rendezvous: bool,
    },
    Publish {
        peer: u8,
        track: u8,
    },
    Fetch {
        peer: u8,
        track: u8,
        from: u8,
        to: u8,
        descending: bool,
    },
    Status {
        peer: u8,
        track: u8,
    },
    Update {
        peer: u8,
        request: u8,
        forward: bool,
    },
    Cancel {
        peer: u8,
        request: u8,
    },
    Accept {
        peer: u8,
        properties: bool,
    },
    Refuse {
        peer: u8,
    },
    Send {
        peer: u8,
        track: u8,
        group: u8,
        objects: u8,
        length: u16,
    },
    Wait {
        tenths: u8,
    },
    Bytes {
        stream: u8,
        bytes: &'a [u8],
        fin: bool,
    },
    Datagram {
        bytes: &'a [u8],
    },
    Reset {
        stream: u8,
    },
    Stop {
        stream: u8,
    },
    StrangerLeaves,
}

/// A list of operations, as `arbitrary` reads it.
///
/// # Panics
/// If what has to hold does not.
pub fn relay(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let mut story = Story::new();
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(operation) = Operation::arbitrary(&mut input) else { break };
        story.perform(&operation);
        story.settle();
    }
    story.check();
    story.end();
}

struct Story {
    relay: Relay,
    peers: Vec<Peer>,
    /// The session of each peer, and whether it is up.
    sessions: Vec<SessionId>,
    /// Requests of each peer, of either side.
    requests: Vec<Vec<RequestId>>,
    /// Tracks that the relay has subscribed to at each peer.
    serving: Vec<Vec<(RequestId, u64)>>,
    stranger: bool,
    /// How often the stranger was sent away.
    faults: u64,
    /// Streams of which nothing more arrives, and who wrote them.
    stopped: HashSet<(SessionId, StreamId, Side)>,
    /// What is on its way, and from where: from peers, which are clients, or from the relay.
    wire: VecDeque<(Side, SessionId, Action)>,
    next_session: u64,
    now: Instant,
}

fn namespace(deep: bool) -> TrackNamespace {
    let fields: &[&str] = if deep { &["a", "b"] } else { &["a"] };
    TrackNamespace::new(fields.iter().copied()).expect("a short namespace")
}

fn track(number: u8) -> FullTrackName {
    let name = Bytes::from(vec![b't', number % 3]);
    FullTrackName::new(namespace(number.is_multiple_of(2)), name).expect("a short name")
}

impl Story {
    fn new() -> Self {
        let mut config = Config::default();
        config.cache_bytes_max = CACHE_MAX;
        config.cache_groups_max = 8;
        config.session.delivery.queued_bytes_max = 16 << 10;
        config.tracks_max = TRACKS_MAX;
        #[expect(clippy::disallowed_methods, reason = "any instant: only differences matter")]
        let now = Instant::now();
        let mut story = Self {
            relay: Relay::new(config),
            peers: (0..PEERS).map(|_| Peer::default()).collect(),
            sessions: vec![SessionId(0); PEERS],
            requests: vec![Vec::new(); PEERS],
            serving: vec![Vec::new(); PEERS],
            stranger: false,
            faults: 0,
            stopped: HashSet::new(),
            wire: VecDeque::new(),
            next_session: 100,
            now,
        };
        for peer in 0..PEERS {
            story.connect(peer, Version::PREFERENCE[peer * 2]);
        }
        story.settle();
        story
    }

    fn connect(&mut self, peer: usize, version: Version) {
        self.next_session += 1;
        let id = SessionId(self.next_session);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let of = |side| TransportPeer::new(side, version, address);
        self.sessions[peer] = id;
        self.peers[peer].handle_connected(id, of(Side::Client), self.now);
        self.relay.handle_connected(id, of(Side::Server), self.now);
    }

    fn disconnect(&mut self, peer: usize) {
        let id = self.sessions[peer];
        self.peers[peer].handle_closed(id, Closed::TimedOut, self.now);
        self.relay.handle_closed(id, Closed::TimedOut, self.now);
        self.peers[peer].events.clear();
        self.requests[peer].clear();
        self.serving[peer].clear();
    }

    fn perform(&mut self, operation: &Operation<'_>) {
        match *operation {
            Operation::Reconnect { peer, draft } => {
                let peer = usize::from(peer) % PEERS;
                self.disconnect(peer);
                let drafts = Version::PREFERENCE;
                self.connect(peer, drafts[usize::from(draft) % drafts.len()]);
            }
            Operation::Accept { peer, properties } => self.accept(peer, properties),
            Operation::Refuse { peer } => self.refuse(peer),
            Operation::Send { peer, track, group, objects, length } => {
                self.send(peer, track, group, (objects % 4, length % 2_000));
            }
            Operation::Wait { tenths } => {
                self.now += Duration::from_millis(u64::from(tenths) * 100);
                self.relay.handle_timeout(self.now);
                for peer in &mut self.peers {
                    peer.handle_timeout(self.now);
                }
            }
            Operation::Bytes { .. }
            | Operation::Datagram { .. }
            | Operation::Reset { .. }
            | Operation::Stop { .. }
            | Operation::StrangerLeaves => self.strange(operation),
            Operation::Announce { .. }
            | Operation::Watch { .. }
            | Operation::Subscribe { .. }
            | Operation::Publish { .. }
            | Operation::Fetch { .. }
            | Operation::Status { .. }
            | Operation::Update { .. }
            | Operation::Cancel { .. } => self.ask(operation),
        }
    }
}

impl Story {
    /// The index of a peer that is connected, and its session established.
    fn ready(&mut self, peer: u8) -> Option<usize> {
        let peer = usize::from(peer) % PEERS;
        let node = &mut self.peers[peer];
        (node.is_connected() && node.session().is_established()).then_some(peer)
    }

    fn ask(&mut self, operation: &Operation<'_>) {
        let (Operation::Announce { peer, .. }
        | Operation::Watch { peer, .. }
        | Operation::Subscribe { peer, .. }
        | Operation::Publish { peer, .. }
        | Operation::Fetch { peer, .. }
        | Operation::Status { peer, .. }
        | Operation::Update { peer, .. }
        | Operation::Cancel { peer, .. }) = *operation
        else {
            return;
        };
        let Some(peer) = self.ready(peer) else { return };
        let known = self.requests[peer].clone();
        let session = self.peers[peer].session();
        let none = Parameters::default;
        let asked = match *operation {
            Operation::Announce { deep, .. } => session.publish_namespace(namespace(deep), none()),
            Operation::Watch { tracks: true, deep, .. } => {
                session.subscribe_tracks(namespace(deep), none())
            }
            Operation::Watch { deep, .. } => session.subscribe_namespace(namespace(deep), none()),
            Operation::Subscribe { track: number, forward, rendezvous, .. } => {
                let mut parameters = none().with(Parameter::Forward(forward));
                if rendezvous {
                    parameters = parameters.with(Parameter::RendezvousTimeout(2_000));
                }
                session.subscribe(track(number), parameters)
            }
            Operation::Publish { track: number, .. } => {
                let alias = TrackAlias(alias_of(&track(number)));
                session.publish(track(number), alias, none(), Properties::default())
            }
            Operation::Fetch { track: number, from, to, descending, .. } => {
                let order = if descending { GroupOrder::Descending } else { GroupOrder::Ascending };
                let (start, end) = (Location::new(from.into(), 0), Location::new(to.into(), 9));
                let parameters = none().with(Parameter::GroupOrder(order));
                session.fetch_range(track(number), start.min(end), end.max(start), parameters)
            }
            Operation::Status { track: number, .. } => session.track_status(track(number), none()),
            Operation::Update { request, forward, .. } => {
                let Some(request) = pick(&known, request) else { return };
                session.update(request, none().with(Parameter::Forward(forward)))
            }
            Operation::Cancel { request, .. } => {
                if let Some(request) = pick(&known, request) {
                    session.cancel(request, ResetCode::CANCELLED);
                }
                return;
            }
            _ => return,
        };
        let is_subscription = matches!(operation, Operation::Subscribe { .. });
        if let Ok(request) = asked
            && is_subscription
        {
            self.requests[peer].push(request);
        }
    }

    /// A publisher accepts what it was asked for.
    fn accept(&mut self, peer: u8, with_object: bool) {
        let Some(peer) = self.ready(peer) else { return };
        let node = &mut self.peers[peer];
        for (request, body) in node.take_requests() {
            match body {
                Request::Subscribe(subscribe) => {
                    let alias = alias_of(&subscribe.track);
                    node.accept_subscribe(request, alias, Parameters::default());
                    self.serving[peer].push((request, alias));
                }
                Request::Fetch(_) => {
                    // Behind whatever may be asked for.
                    let end = Location::new(300, 0);
                    node.session().accept_fetch(request, false, end, Properties::default());
                    let object = FetchItem::Object(Location::new(1, 0), Bytes::from_static(b"x"));
                    let items = [object];
                    let items = if with_object { &items[..] } else { &[] };
                    node.send_fetch(request, GroupOrder::Ascending, items);
                }
                Request::Call(_) => {}
                Request::Publish(_)
                | Request::TrackStatus(_)
                | Request::PublishNamespace(_)
                | Request::SubscribeNamespace(_)
                | Request::SubscribeTracks(_) => node.accept(request),
            }
        }
    }

    fn refuse(&mut self, peer: u8) {
        let Some(peer) = self.ready(peer) else { return };
        let node = &mut self.peers[peer];
        for (request, _) in node.take_requests() {
            node.session().reject_with(request, RequestCode::DOES_NOT_EXIST, "no");
        }
    }

    /// A publisher sends a group to who has subscribed to a track.
    fn send(&mut self, peer: u8, number: u8, group: u8, (objects, length): (u8, u16)) {
        let Some(peer) = self.ready(peer) else { return };
        let node = &mut self.peers[peer];
        for (request, alias) in &self.serving[peer] {
            if *alias != alias_of(&track(number)) {
                continue;
            }
            let payload = Bytes::from(vec![group; length.into()]);
            let objects: Vec<_> =
                (0..u64::from(objects)).map(|object| (object, payload.clone())).collect();
            node.send_subgroup(*request, &Subgroup::new(*alias, group.into()), &objects);
        }
    }

    /// The stranger does something.
    fn strange(&mut self, operation: &Operation<'_>) {
        if !self.stranger {
            self.stranger = true;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
            let peer = TransportPeer::new(Side::Server, Version::Draft22, address);
            self.relay.handle_connected(STRANGER, peer, self.now);
            // Without a SETUP it would not come far.
            let setup = Bytes::from_static(b"\xaf\x00\x00\x00");
            let control = StreamId::new(Side::Client, false, 0);
            self.relay.handle_stream(STRANGER, control, setup, false, self.now);
        }
        let id = |stream: u8| {
            StreamId::new(Side::Client, stream.is_multiple_of(2), u64::from(stream >> 1 & 7))
        };
        let now = self.now;
        match *operation {
            Operation::Bytes { stream, bytes, fin } => {
                let bytes = Bytes::from(bytes.to_vec());
                self.relay.handle_stream(STRANGER, id(stream), bytes, fin, now);
            }
            Operation::Datagram { bytes } => {
                self.relay.handle_datagram(STRANGER, Bytes::from(bytes.to_vec()), now);
            }
            Operation::Reset { stream } => self.relay.handle_reset(STRANGER, id(stream), 1, now),
            Operation::Stop { stream } => self.relay.handle_stop(STRANGER, id(stream), 1, now),
            _ => self.stranger_leaves(Closed::TimedOut),
        }
    }

    fn stranger_leaves(&mut self, closed: Closed) {
        if self.stranger {
            self.stranger = false;
            self.relay.handle_closed(STRANGER, closed, self.now);
        }
    }

    /// Carries what each has to say to the other, until nobody has.
    fn settle(&mut self) {
        for _ in 0..ACTIONS_MAX {
            self.take_actions();
            match self.wire.pop_front() {
                Some((Side::Server, id, action)) => self.act_for_relay(id, action),
                Some((Side::Client, id, action)) => self.act_for_peer(id, action),
                None => return,
            }
        }
        panic!("they never come to rest");
    }

    /// Takes what everyone wants, as has to be done whenever one was told something.
    fn take_actions(&mut self) {
        while let Some((id, action)) = self.relay.poll_action() {
            if id == STRANGER {
                self.act_for_stranger(action);
            } else {
                self.put_on_wire(Side::Server, id, action);
            }
        }
        for peer in 0..PEERS {
            let id = self.sessions[peer];
            while let Some((_, action)) = self.peers[peer].poll_action() {
                self.put_on_wire(Side::Client, id, action);
            }
            // What else they hear is of no use here.
            self.peers[peer].events.retain(|event| matches!(event, Event::Request { .. }));
        }
    }

    /// Nothing more arrives of what its reader has stopped, from now on.
    fn put_on_wire(&mut self, from: Side, id: SessionId, action: Action) {
        let writer = from.peer();
        if let Action::Stop { stream, .. } = action
            && !self.stopped.insert((id, stream, writer))
        {
            return;
        }
        self.wire.push_back((from, id, action));
    }

    fn act_for_stranger(&mut self, action: Action) {
        match action {
            Action::Send { stream, bytes, .. } => {
                self.relay.handle_sent(STRANGER, stream, bytes.len(), self.now);
            }
            Action::Close { code, .. } => {
                self.faults += u64::from(code != SessionCode::NO_ERROR);
                self.stranger_leaves(Closed::Locally);
            }
            _ => {}
        }
    }

    fn act_for_relay(&mut self, id: SessionId, action: Action) {
        let now = self.now;
        let Some(peer) = self.sessions.iter().position(|other| *other == id) else { return };
        let node = &mut self.peers[peer];
        match action {
            Action::Send { stream, bytes, fin } => {
                let length = bytes.len();
                if !self.stopped.contains(&(id, stream, Side::Server)) {
                    node.handle_stream(id, stream, bytes, fin, now);
                }
                self.relay.handle_sent(id, stream, length, now);
            }
            Action::Reset { stream, code } => {
                if self.stopped.insert((id, stream, Side::Server)) {
                    node.handle_reset(id, stream, code, now);
                }
            }
            Action::Stop { stream, code } => node.handle_stop(id, stream, code, now),
            Action::SendDatagram { bytes, .. } => node.handle_datagram(id, bytes, now),
            Action::Close { code, reason } => panic!("the relay closes: {code} {reason}"),
            Action::Prioritize { .. } | Action::Pause { .. } | Action::Resume { .. } => {}
        }
    }

    fn act_for_peer(&mut self, id: SessionId, action: Action) {
        let now = self.now;
        let Some(peer) = self.sessions.iter().position(|other| *other == id) else { return };
        match action {
            Action::Send { stream, bytes, fin } => {
                let length = bytes.len();
                if !self.stopped.contains(&(id, stream, Side::Client)) {
                    self.relay.handle_stream(id, stream, bytes, fin, now);
                }
                self.peers[peer].handle_sent(id, stream, length, now);
            }
            Action::Reset { stream, code } => {
                if self.stopped.insert((id, stream, Side::Client)) {
                    self.relay.handle_reset(id, stream, code, now);
                }
            }
            Action::Stop { stream, code } => self.relay.handle_stop(id, stream, code, now),
            Action::SendDatagram { bytes, .. } => self.relay.handle_datagram(id, bytes, now),
            Action::Close { code, reason } => panic!("a peer closes: {code} {reason}"),
            Action::Prioritize { .. } | Action::Pause { .. } | Action::Resume { .. } => {}
        }
    }

    /// What holds while everyone is there.
    fn check(&self) {
        let service = self.relay.metrics();
        let violations: u64 = service.violations.iter().map(|(_, count)| count).sum();
        assert_eq!(violations, self.faults, "a fault that nobody made");
        assert!(service.queued_bytes.get("session_max") <= service.queued_bytes.get("relay"));
        assert_eq!(service.queued_bytes.get("relay"), 0, "everything was taken");
        assert!(service.counters.tracks <= TRACKS_MAX as u64);
        let (sessions, ..) = self.relay.counts();
        assert_eq!(sessions, PEERS + usize::from(self.stranger));
    }

    /// When everyone has left and time has passed, nothing is there any more.
    fn end(mut self) {
        for peer in 0..PEERS {
            self.disconnect(peer);
        }
        self.stranger_leaves(Closed::TimedOut);
        self.now += Duration::from_secs(700);
        self.relay.handle_timeout(self.now);
        assert_eq!(self.relay.poll_action(), None, "there is nobody to tell");
        assert_eq!(self.relay.counts(), (0, 0, 0), "sessions, tracks, namespaces");
        let counters = self.relay.metrics().counters;
        assert_eq!((counters.subscriptions, counters.upstream_subscriptions), (0, 0));
        assert_eq!((counters.cache_bytes, counters.cache_groups), (0, 0), "the cache");
        assert_eq!(self.relay.poll_timeout(), None, "nothing is waited for");
    }
}

/// A publisher's alias of a track: one for each.
fn alias_of(track: &FullTrackName) -> u64 {
    let name = track.name().get(1).copied().unwrap_or_default();
    u64::from(name) * 8 + track.namespace().fields().count() as u64
}

fn pick(requests: &[RequestId], at: u8) -> Option<RequestId> {
    requests.get(usize::from(at) % requests.len().max(1)).copied()
}

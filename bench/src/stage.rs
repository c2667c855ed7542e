//! A relay with one publisher and any number of subscribers, joined in memory: what the benchmarks
//! of the relay share.

use std::time::Instant;

use aip_codec::{
    Version,
    moqt::{
        id::{GroupId, ObjectId, TrackAlias},
        location::Location,
        name::{FullTrackName, TrackNamespace},
        parameter::{Parameter, Parameters},
        property::Properties,
        stream::subgroup::{SubgroupHeader, SubgroupMode},
    },
};
use aip_engine::{
    relay::{self, Relay},
    session::{self, Event, Request, Session},
    transport::{Action, Driver as _, Peer, SessionId, Side, StreamId},
};
use bytes::{BufMut as _, Bytes, BytesMut};

/// Objects of a group.
pub const OBJECTS_PER_GROUP: u64 = 1_000;
const ALIAS: TrackAlias = TrackAlias(9);

/// A relay in the midst of forwarding one track.
#[derive(Debug)]
pub struct Stage {
    relay: Relay,
    peers: Vec<Session>,
    now: Instant,
    track: FullTrackName,
    object: Bytes,
    sent: u64,
    stream: StreamId,
    next_stream: u64,
    names: usize,
}

fn track(namespace: &TrackNamespace, name: &'static str) -> FullTrackName {
    FullTrackName::new(namespace.clone(), Bytes::from_static(name.as_bytes())).expect("short")
}

impl Stage {
    /// A relay with `subscribers` subscribers of a track whose objects are `size` bytes.
    ///
    /// # Panics
    /// If the sessions do not come about: never, in memory.
    pub fn new(subscribers: usize, size: usize) -> Self {
        Self::with(subscribers, size, Parameters::default())
    }

    /// The same with a subscriber that wants nothing yet, so that objects only reach the cache.
    pub fn caching(size: usize) -> Self {
        Self::with(1, size, Parameters::default().with(Parameter::Forward(false)))
    }

    fn with(subscribers: usize, size: usize, parameters: Parameters) -> Self {
        #[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
        let now = Instant::now();
        let mut object = BytesMut::new();
        object.put_u8(0);
        aip_codec::moqt::varint::encode(size as u64, &mut object);
        object.put_bytes(b'x', size);
        let namespace = TrackNamespace::new(["bench"]).expect("a valid namespace");
        let mut stage = Self {
            relay: Relay::new(config()),
            peers: Vec::new(),
            now,
            track: track(&namespace, "track"),
            object: object.freeze(),
            sent: 0,
            stream: StreamId(0),
            next_stream: 1,
            names: 0,
        };
        for _ in 0..=subscribers {
            stage.connect();
        }
        stage.peers[0]
            .publish_namespace(namespace, Parameters::default())
            .expect("the session is open");
        stage.pump();
        for subscriber in &mut stage.peers[1..] {
            let asked = subscriber.subscribe(stage.track.clone(), parameters.clone());
            asked.expect("it is open");
        }
        stage.pump();
        stage
    }

    fn connect(&mut self) {
        let session = SessionId(self.peers.len() as u64);
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let peer = Peer::new(Side::Server, Version::Draft22, address);
        self.relay.handle_connected(session, peer, self.now);
        let config = config().session;
        self.peers.push(Session::new(config, Side::Client, Version::Draft22, self.now));
        self.pump();
    }

    /// Carries everything to and fro until nothing is left.
    fn pump(&mut self) {
        loop {
            let mut quiet = true;
            while let Some((session, action)) = self.relay.poll_action() {
                quiet = false;
                if let Action::Send { stream, bytes, fin } = action {
                    self.relay.handle_sent(session, stream, bytes.len(), self.now);
                    let peer = usize::try_from(session.0).unwrap_or(0);
                    self.peers[peer].handle_stream(stream, bytes, fin, self.now);
                }
            }
            for index in 0..self.peers.len() {
                quiet &= !self.pump_peer(index);
            }
            if quiet {
                return;
            }
        }
    }

    fn pump_peer(&mut self, index: usize) -> bool {
        let mut moved = false;
        while let Some(event) = self.peers[index].poll_event() {
            if let Event::Request { request, body: Request::Subscribe(_), .. } = event {
                let (parameters, properties) = (Parameters::default(), Properties::default());
                let alias = TrackAlias(ALIAS.0 + self.names as u64);
                self.peers[index].accept_subscribe(request, alias, parameters, properties);
            }
        }
        while let Some(action) = self.peers[index].poll_action() {
            moved = true;
            if let Action::Send { stream, bytes, fin } = action {
                self.peers[index].handle_sent(stream, bytes.len(), self.now);
                self.relay.handle_stream(SessionId(index as u64), stream, bytes, fin, self.now);
            }
        }
        moved
    }

    /// The publisher publishes so many further namespaces.
    ///
    /// # Panics
    /// If it may not: never, in memory.
    pub fn publish_namespaces(&mut self, count: usize) {
        for index in 0..count {
            let fields = ["tools".to_owned(), index.to_string()];
            let namespace = TrackNamespace::new(fields).expect("short");
            self.peers[0].publish_namespace(namespace, Parameters::default()).expect("it is open");
            if index % 1_000 == 0 {
                self.pump();
            }
        }
        self.pump();
    }

    /// A subscriber asks for a new track in one of `count` namespaces and the publisher, whom the
    /// relay has to find, accepts.
    ///
    /// # Panics
    /// If the request is not answered: never, in memory.
    pub fn find(&mut self, count: usize) {
        self.names += 1;
        // Far apart, so that none is found where the one before it was.
        let index = self.names * 7_919 % count;
        let fields = ["tools".to_owned(), index.to_string()];
        let namespace = TrackNamespace::new(fields).expect("short");
        let name = Bytes::from(self.names.to_string());
        let track = FullTrackName::new(namespace, name).expect("short");
        self.peers[1].subscribe(track, Parameters::default()).expect("it is open");
        self.pump();
    }

    /// One object comes in and goes out to every subscriber; how many pieces went out.
    pub fn forward(&mut self) -> usize {
        self.publish();
        let mut pieces = 0;
        while let Some((session, action)) = self.relay.poll_action() {
            if let Action::Send { stream, bytes, .. } = action {
                pieces += 1;
                self.relay.handle_sent(session, stream, bytes.len(), self.now);
            }
        }
        pieces
    }

    /// One object comes in, goes out to every subscriber and is read by each.
    pub fn deliver(&mut self) {
        self.publish();
        self.pump();
    }

    /// The first subscriber calls the publisher, and says nothing more yet.
    ///
    /// # Panics
    /// If it may not: never, in memory.
    pub fn call(&mut self) {
        let namespace = TrackNamespace::new(["bench"]).expect("a valid namespace");
        let name = Bytes::from_static(b"method");
        self.peers[1].call(namespace, name, Parameters::default()).expect("it is open");
        self.pump();
    }

    /// A record of the call, of an object's size, comes in and goes out; how many bytes went out.
    pub fn pass_record(&mut self) -> usize {
        // Its first stream carries the subscription.
        let stream = StreamId::new(Side::Client, true, 1);
        self.relay.handle_stream(SessionId(1), stream, self.object.clone(), false, self.now);
        let mut bytes_out = 0;
        while let Some((session, action)) = self.relay.poll_action() {
            if let Action::Send { stream, bytes, .. } = action {
                bytes_out += bytes.len();
                self.relay.handle_sent(session, stream, bytes.len(), self.now);
            }
        }
        bytes_out
    }

    fn publish(&mut self) {
        if self.sent.is_multiple_of(OBJECTS_PER_GROUP) {
            self.begin_group();
        }
        self.sent += 1;
        let object = self.object.clone();
        self.relay.handle_stream(SessionId(0), self.stream, object, false, self.now);
    }

    fn begin_group(&mut self) {
        if 0 < self.sent {
            self.relay.handle_stream(SessionId(0), self.stream, Bytes::new(), true, self.now);
        }
        self.stream = StreamId::new(Side::Client, false, self.next_stream);
        self.next_stream += 1;
        let header = SubgroupHeader {
            track_alias: ALIAS,
            group: GroupId(self.sent / OBJECTS_PER_GROUP),
            subgroup: SubgroupMode::Zero,
            priority: None,
            properties: false,
            end_of_group: true,
            first_object: true,
        };
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes);
        self.relay.handle_stream(SessionId(0), self.stream, bytes.freeze(), false, self.now);
    }

    /// The first subscriber fetches the first group; how many bytes came.
    ///
    /// # Panics
    /// If it may not: never, in memory.
    pub fn fetch(&mut self) -> usize {
        let start = Location { group: GroupId(0), object: ObjectId(0) };
        let end = Location { group: GroupId(0), object: ObjectId(u64::MAX) };
        let (track, parameters) = (self.track.clone(), Parameters::default());
        self.peers[1].fetch_range(track, start, end, parameters).expect("it is open");
        let mut bytes = 0;
        loop {
            let moved = self.pump_peer(1);
            let before = bytes;
            while let Some((session, action)) = self.relay.poll_action() {
                if let Action::Send { stream, bytes: piece, fin } = action {
                    bytes += piece.len();
                    self.relay.handle_sent(session, stream, piece.len(), self.now);
                    self.peers[1].handle_stream(stream, piece, fin, self.now);
                }
            }
            if !moved && before == bytes {
                return bytes;
            }
        }
    }
}

/// A relay's limits, where a benchmark would reach them.
fn config() -> relay::Config {
    let mut config = relay::Config::default();
    let unlimited = relay::Rate { per_second: 0, burst: 0 };
    (config.session_request_rate, config.identity_request_rate) = (unlimited, unlimited);
    config.namespaces_max = 2_000_000;
    config.session_namespaces_max = 2_000_000;
    config.session.requests_max = 4_000_000;
    config
}

/// Two sessions that talk to each other.
#[derive(Debug)]
pub struct Pair {
    sides: [Session; 2],
    request: Option<aip_codec::moqt::id::RequestId>,
    stream: Option<StreamId>,
    now: Instant,
    object: Bytes,
}

impl Pair {
    /// Two sessions, of which the client has subscribed to a track of the server's.
    ///
    /// # Panics
    /// If they do not come about: never, in memory.
    pub fn new(size: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
        let now = Instant::now();
        let side = |side| Session::new(session::Config::default(), side, Version::Draft22, now);
        let mut object = BytesMut::new();
        object.put_u8(0);
        aip_codec::moqt::varint::encode(size as u64, &mut object);
        object.put_bytes(b'x', size);
        let object = object.freeze();
        let sides = [side(Side::Client), side(Side::Server)];
        let mut pair = Self { sides, request: None, stream: None, now, object };
        pair.turn();
        let namespace = TrackNamespace::new(["bench"]).expect("a valid namespace");
        let asked = pair.sides[0].subscribe(track(&namespace, "track"), Parameters::default());
        asked.expect("it is open");
        pair.turn();
        let request = pair.request.expect("the request has come");
        let (parameters, properties) = (Parameters::default(), Properties::default());
        pair.sides[1].accept_subscribe(request, ALIAS, parameters, properties);
        let header = SubgroupHeader {
            track_alias: ALIAS,
            group: GroupId(0),
            subgroup: SubgroupMode::Zero,
            priority: None,
            properties: false,
            end_of_group: true,
            first_object: true,
        };
        let delivery = session::Delivery::default();
        pair.stream = pair.sides[1].open_subgroup(request, &header, &delivery);
        pair.turn();
        pair
    }

    /// The server sends an object, the client takes it; what each had to tell is taken, too.
    pub fn send(&mut self) -> usize {
        if let Some(stream) = self.stream {
            self.sides[1].send(stream, self.object.clone(), false);
        }
        self.turn()
    }

    fn turn(&mut self) -> usize {
        let mut events = 0;
        loop {
            let mut quiet = true;
            for side in 0..2 {
                while let Some(action) = self.sides[side].poll_action() {
                    quiet = false;
                    if let Action::Send { stream, bytes, fin } = action {
                        self.sides[side].handle_sent(stream, bytes.len(), self.now);
                        self.sides[1 - side].handle_stream(stream, bytes, fin, self.now);
                    }
                }
                while let Some(event) = self.sides[side].poll_event() {
                    events += 1;
                    if let Event::Request { request, .. } = event {
                        self.request = Some(request);
                    }
                }
            }
            if quiet {
                return events;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subscriber_gets_every_object_in_one_piece() {
        let mut stage = Stage::new(10, 100);
        stage.forward();
        assert_eq!(stage.forward(), 10);
    }

    #[test]
    fn what_is_cached_is_fetched() {
        let mut stage = Stage::caching(100);
        for _ in 0..OBJECTS_PER_GROUP {
            assert_eq!(stage.forward(), 0);
        }
        // The group has to be over.
        stage.forward();
        let all = 100 * usize::try_from(OBJECTS_PER_GROUP).unwrap();
        assert!((all..2 * all).contains(&stage.fetch()));
        assert!((all..2 * all).contains(&stage.fetch()));
    }

    #[test]
    fn a_record_goes_out_as_it_came() {
        let mut stage = Stage::new(1, 100);
        stage.call();
        assert_eq!(stage.pass_record(), stage.object.len());
        assert_eq!(stage.pass_record(), stage.object.len());
    }

    #[test]
    fn a_track_is_found_among_many_namespaces() {
        let mut stage = Stage::new(1, 100);
        stage.publish_namespaces(2_000);
        stage.find(2_000);
        stage.find(2_000);
        assert_eq!(stage.names, 2);
    }

    #[test]
    fn a_session_takes_what_the_other_sends() {
        let mut pair = Pair::new(100);
        assert_eq!(pair.send(), 1);
    }
}

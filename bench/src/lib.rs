//! A relay with one publisher and any number of subscribers, joined in memory: what the benchmarks
//! of the relay share.
#![warn(missing_docs)]

pub mod compare;
pub mod control;

use std::time::Instant;

use aip_codec::{
    Version,
    moqt::{
        id::{GroupId, TrackAlias},
        name::{FullTrackName, TrackNamespace},
        parameter::Parameters,
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

/// Objects in each group of [`Stage::forward`].
const OBJECTS_PER_GROUP: u64 = 1_000;

/// A relay in the midst of forwarding one track.
#[derive(Debug)]
pub struct Stage {
    relay: Relay,
    peers: Vec<Session>,
    now: Instant,
    object: Bytes,
    sent: u64,
    stream: StreamId,
    next_stream: u64,
}

impl Stage {
    /// A relay with `subscribers` subscribers of a track whose objects are `size` bytes.
    ///
    /// # Panics
    /// If the sessions do not come about: never, in memory.
    pub fn new(subscribers: usize, size: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
        let now = Instant::now();
        let relay = Relay::new(relay::Config::default());
        let mut object = BytesMut::new();
        object.put_u8(0);
        aip_codec::moqt::varint::encode(size as u64, &mut object);
        object.put_bytes(b'x', size);
        let mut stage = Self {
            relay,
            peers: Vec::new(),
            now,
            object: object.freeze(),
            sent: 0,
            stream: StreamId(0),
            next_stream: 1,
        };
        for _ in 0..=subscribers {
            stage.connect();
        }
        let namespace = TrackNamespace::new(["bench"]).expect("a valid namespace");
        let track =
            FullTrackName::new(namespace.clone(), Bytes::from_static(b"track")).expect("short");
        stage.peers[0]
            .publish_namespace(namespace, Parameters::default())
            .expect("the session is open");
        stage.pump();
        for subscriber in &mut stage.peers[1..] {
            subscriber.subscribe(track.clone(), Parameters::default()).expect("it is open");
        }
        stage.pump();
        stage
    }

    fn connect(&mut self) {
        let session = SessionId(self.peers.len() as u64);
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let peer = Peer::new(Side::Server, Version::Draft22, address);
        self.relay.handle_connected(session, peer, self.now);
        let config = session::Config::default();
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
                self.peers[index].accept_subscribe(request, TrackAlias(9), parameters, properties);
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

    /// One object comes in and goes out to every subscriber; how many pieces went out.
    pub fn forward(&mut self) -> usize {
        if self.sent.is_multiple_of(OBJECTS_PER_GROUP) {
            self.begin_group();
        }
        self.sent += 1;
        let object = self.object.clone();
        self.relay.handle_stream(SessionId(0), self.stream, object, false, self.now);
        self.drain()
    }

    fn begin_group(&mut self) {
        if 0 < self.sent {
            self.relay.handle_stream(SessionId(0), self.stream, Bytes::new(), true, self.now);
        }
        self.stream = StreamId::new(Side::Client, false, self.next_stream);
        self.next_stream += 1;
        let header = SubgroupHeader {
            track_alias: TrackAlias(9),
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

    /// Takes what the relay wants sent, as a transport would.
    fn drain(&mut self) -> usize {
        let mut pieces = 0;
        while let Some((session, action)) = self.relay.poll_action() {
            if let Action::Send { stream, bytes, .. } = action {
                pieces += 1;
                self.relay.handle_sent(session, stream, bytes.len(), self.now);
            }
        }
        pieces
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
}

//! The least that a relay of bare quiche does: bytes of a publisher's streams go on, unread, to
//! everyone who subscribed.
//!
//! Sessions are set up as MOQT wants it, so that the same load drives it as drives relays. From
//! then on no MOQT is spoken: no object is parsed, cached, ordered, counted or timed out. What a
//! relay costs beyond this is what MOQT costs in it.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use aip_codec::{
    Version,
    moqt::{
        id::{RequestId, TrackAlias},
        name::FullTrackName,
        parameter::Parameters,
        property::Properties,
    },
};
use aip_engine::{
    session::{self, Event, Request, Response, Session},
    transport::{Action, Side, StreamId},
};
use bytes::Bytes;

use super::{
    batch::{Incoming, Outgoing},
    links::Links,
};

/// How often connections are asked whether a timer of theirs is due.
const SWEEP: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Member {
    session: Option<Session>,
    subscribed: bool,
    /// The publisher's stream, and ours in its place.
    streams: HashMap<u64, u64>,
    next_stream: u64,
}

impl Member {
    fn new() -> Self {
        // Our first stream is the session's control stream.
        Self { session: None, subscribed: false, streams: HashMap::new(), next_stream: 1 }
    }
}

/// See the module.
#[derive(Debug)]
pub struct QuicheRelay {
    links: Links,
    /// By connection.
    members: Vec<Member>,
    publisher: Option<usize>,
    track: Option<(FullTrackName, Option<TrackAlias>)>,
    unanswered: Vec<(usize, RequestId)>,
}

impl QuicheRelay {
    /// A relay at an address of 127.0.0.1.
    ///
    /// # Errors
    /// If the address is taken, or the certificate is none.
    pub fn new(listen: SocketAddr, certificate: &Path, key: &Path) -> io::Result<Self> {
        Ok(Self {
            links: Links::new(listen, certificate, key)?,
            members: Vec::new(),
            publisher: None,
            track: None,
            unanswered: Vec::new(),
        })
    }

    /// Serves until the process is killed.
    ///
    /// # Errors
    /// If the system refuses to wait for packets.
    #[expect(clippy::disallowed_methods, reason = "a control has no other clock reader")]
    pub fn run(mut self) -> io::Result<()> {
        let mut poll = mio::Poll::new()?;
        let mut source = mio::net::UdpSocket::from_std(self.links.socket().try_clone()?);
        poll.registry().register(&mut source, mio::Token(0), mio::Interest::READABLE)?;
        let mut events = mio::Events::with_capacity(8);
        let mut incoming = Incoming::default();
        let mut outgoing = Outgoing::new(self.links.socket());
        let mut swept = Instant::now();
        loop {
            let count = self.links.receive(&mut incoming);
            self.members.resize_with(self.links.count(), Member::new);
            let now = Instant::now();
            for index in self.links.take_touched() {
                self.attend(index, now);
            }
            if SWEEP <= now - swept {
                swept = now;
                self.links.sweep(now);
            }
            for index in self.links.take_touched() {
                self.links.transmit(index, &mut outgoing);
            }
            outgoing.flush();
            if count == 0 {
                poll.poll(&mut events, Some(SWEEP))?;
            }
        }
    }

    /// Reads what came for a connection, and acts on it.
    fn attend(&mut self, index: usize, now: Instant) {
        self.links.touch(index);
        let quic = self.links.get(index);
        if !quic.is_established() {
            return;
        }
        let member = &mut self.members[index];
        if member.session.is_none() {
            let protocol = quic.application_proto();
            let version =
                Version::PREFERENCE.into_iter().find(|it| it.alpn().as_bytes() == protocol);
            let Some(version) = version else { return };
            let mut config = session::Config::default();
            config.aip = None;
            member.session = Some(Session::new(config, Side::Server, version, now));
        }
        while let Some(stream) = self.links.get(index).stream_readable_next() {
            self.read(index, stream, now);
        }
        self.signal(index);
    }

    fn read(&mut self, index: usize, stream: u64, now: Instant) {
        let first = StreamId::new(Side::Client, false, 0);
        let is_data = !StreamId(stream).is_bidirectional() && StreamId(stream) != first;
        while let Some((bytes, fin)) = self.links.read(index, stream) {
            if is_data && self.publisher == Some(index) {
                self.fan_out(stream, &bytes, fin);
            } else if let Some(session) = &mut self.members[index].session {
                session.handle_stream(StreamId(stream), bytes, fin, now);
            }
            if fin {
                return;
            }
        }
    }

    fn fan_out(&mut self, stream: u64, bytes: &Bytes, fin: bool) {
        for (index, member) in self.members.iter_mut().enumerate() {
            if !member.subscribed || self.links.get(index).is_closed() {
                continue;
            }
            let ours = *member.streams.entry(stream).or_insert_with(|| {
                member.next_stream += 1;
                StreamId::new(Side::Server, false, member.next_stream - 1).0
            });
            if fin {
                member.streams.remove(&stream);
            }
            self.links.send(index, ours, bytes.clone(), fin);
        }
    }

    /// The few steps until everybody is subscribed.
    fn signal(&mut self, index: usize) {
        while let Some(event) = self.members[index].session.as_mut().and_then(Session::poll_event) {
            match event {
                Event::Request { request, body, .. } => self.request(index, request, body),
                Event::Response { body: Response::SubscribeOk(body), .. } => {
                    if let Some((_, alias)) = &mut self.track {
                        *alias = Some(body.track_alias);
                    }
                    for (subscriber, request) in std::mem::take(&mut self.unanswered) {
                        self.accept(subscriber, request, body.track_alias);
                    }
                }
                _ => {}
            }
        }
        self.act(index);
    }

    /// Carries out what a session wants.
    fn act(&mut self, index: usize) {
        while let Some(action) = self.members[index].session.as_mut().and_then(Session::poll_action)
        {
            if let Action::Send { stream, bytes, fin } = action {
                self.links.send(index, stream.0, bytes, fin);
            }
        }
    }

    fn request(&mut self, index: usize, request: RequestId, body: Request) {
        match body {
            Request::PublishNamespace(_) => {
                self.publisher = Some(index);
                let (parameters, properties) = (Parameters::default(), Properties::default());
                if let Some(session) = &mut self.members[index].session {
                    session.accept(request, parameters, properties);
                }
            }
            Request::Subscribe(body) => match &self.track {
                Some((_, Some(alias))) => self.accept(index, request, *alias),
                Some((_, None)) => self.unanswered.push((index, request)),
                None => {
                    self.unanswered.push((index, request));
                    self.track = Some((body.track.clone(), None));
                    let Some(publisher) = self.publisher else { return };
                    if let Some(session) = &mut self.members[publisher].session {
                        // A closed publisher ends the run all the same.
                        _ = session.subscribe(body.track, Parameters::default());
                    }
                    self.act(publisher);
                }
            },
            _ => {}
        }
    }

    fn accept(&mut self, index: usize, request: RequestId, alias: TrackAlias) {
        let member = &mut self.members[index];
        if let Some(session) = &mut member.session {
            let (parameters, properties) = (Parameters::default(), Properties::default());
            session.accept_subscribe(request, alias, parameters, properties);
        }
        member.subscribed = true;
        self.act(index);
    }
}

//! The least that a relay of bare quiche does: bytes of a publisher's streams go on, unread, to
//! everyone who subscribed.
//!
//! Sessions are set up as MOQT wants it, so that the same load drives it as drives relays. From
//! then on no MOQT is spoken: no object is parsed, cached, ordered, counted or timed out. What a
//! relay costs beyond this is what MOQT costs in it.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
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
use bytes::{BufMut as _, Bytes, BytesMut};

use super::batch::{self, Incoming, Outgoing};

/// Bytes of the longest packet that is sent.
const DATAGRAM_MAX: usize = 1_452;
/// Bytes of our connection ids: the connection's index, and filler.
const ID: usize = 16;
const TAG: u8 = 0xaa;
/// How often connections are asked whether a timer of theirs is due.
const SWEEP: Duration = Duration::from_millis(10);
/// What is read from a stream at once.
const CHUNK: usize = 64 << 10;

/// Makes quiche keep references to bytes instead of copies.
#[derive(Clone, Debug, Default)]
struct Shared;

#[expect(clippy::disallowed_methods, reason = "these are quiche's own bytes, of control frames")]
impl quiche::BufFactory for Shared {
    type Buf = Bytes;
    type DgramBuf = Bytes;

    fn buf_from_slice(bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(bytes)
    }

    fn dgram_buf_from_slice(bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(bytes)
    }
}

struct Member {
    quic: quiche::Connection<Shared>,
    address: SocketAddrV4,
    session: Option<Session>,
    subscribed: bool,
    /// The publisher's stream, and ours in its place.
    streams: HashMap<u64, u64>,
    next_stream: u64,
    /// What quiche did not take yet.
    waiting: VecDeque<(u64, Bytes, bool)>,
    touched: bool,
}

/// See the module.
pub struct QuicheRelay {
    socket: UdpSocket,
    local: SocketAddr,
    config: quiche::Config,
    members: Vec<Member>,
    /// Connections by the id that a client chose for its first packets.
    first_ids: HashMap<Vec<u8>, usize>,
    publisher: Option<usize>,
    track: Option<(FullTrackName, Option<TrackAlias>)>,
    unanswered: Vec<(usize, RequestId)>,
    touched: Vec<usize>,
}

impl std::fmt::Debug for QuicheRelay {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("QuicheRelay").field("local", &self.local).finish_non_exhaustive()
    }
}

fn failed(error: quiche::Error) -> io::Error {
    io::Error::other(error)
}

fn configure(certificate: &Path, key: &Path) -> io::Result<quiche::Config> {
    let mut config = quiche::Config::new(quiche::PROTOCOL_VERSION).map_err(failed)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    config.load_cert_chain_from_pem_file(&text(certificate)).map_err(failed)?;
    config.load_priv_key_from_pem_file(&text(key)).map_err(failed)?;
    let protocols: Vec<_> = Version::PREFERENCE.iter().map(|it| it.alpn().as_bytes()).collect();
    config.set_application_protos(&protocols).map_err(failed)?;
    config.set_max_idle_timeout(30_000);
    config.set_max_recv_udp_payload_size(2_048);
    config.set_max_send_udp_payload_size(DATAGRAM_MAX);
    config.set_initial_max_data(8 << 20);
    config.set_max_connection_window(8 << 20);
    config.set_initial_max_stream_data_bidi_local(4 << 20);
    config.set_initial_max_stream_data_bidi_remote(4 << 20);
    config.set_initial_max_stream_data_uni(4 << 20);
    config.set_max_stream_window(4 << 20);
    config.set_initial_max_streams_bidi(100);
    config.set_initial_max_streams_uni(1_000);
    config.set_initial_congestion_window_packets(100);
    config.set_cc_algorithm(quiche::CongestionControlAlgorithm::CUBIC);
    Ok(config)
}

impl QuicheRelay {
    /// A relay at an address of 127.0.0.1.
    ///
    /// # Errors
    /// If the address is taken, or the certificate is none.
    pub fn new(listen: SocketAddr, certificate: &Path, key: &Path) -> io::Result<Self> {
        let socket = batch::socket(listen)?;
        Ok(Self {
            local: socket.local_addr()?,
            socket,
            config: configure(certificate, key)?,
            members: Vec::new(),
            first_ids: HashMap::new(),
            publisher: None,
            track: None,
            unanswered: Vec::new(),
            touched: Vec::new(),
        })
    }

    /// Serves until the process is killed.
    ///
    /// # Errors
    /// If the system refuses to wait for packets.
    #[expect(clippy::disallowed_methods, reason = "a control has no other clock reader")]
    pub fn run(mut self) -> io::Result<()> {
        let mut poll = mio::Poll::new()?;
        let mut source = mio::net::UdpSocket::from_std(self.socket.try_clone()?);
        poll.registry().register(&mut source, mio::Token(0), mio::Interest::READABLE)?;
        let mut events = mio::Events::with_capacity(8);
        let (mut incoming, mut outgoing) = (Incoming::default(), Outgoing::new(&self.socket));
        let descriptor = self.socket.as_raw_fd();
        let mut swept = Instant::now();
        loop {
            let count = incoming.receive(descriptor, |bytes, from| self.packet(bytes, from));
            let now = Instant::now();
            for index in std::mem::take(&mut self.touched) {
                self.attend(index, now);
            }
            if SWEEP <= now - swept {
                swept = now;
                self.sweep(now);
            }
            for index in std::mem::take(&mut self.touched) {
                self.transmit(index, &mut outgoing);
            }
            outgoing.flush();
            if count == 0 {
                poll.poll(&mut events, Some(SWEEP))?;
            }
        }
    }

    fn touch(&mut self, index: usize) {
        if !std::mem::replace(&mut self.members[index].touched, true) {
            self.touched.push(index);
        }
    }

    fn packet(&mut self, bytes: &mut [u8], from: SocketAddrV4) {
        let Some(index) = self.whose(bytes, from) else { return };
        let info = quiche::RecvInfo { from: SocketAddr::V4(from), to: self.local };
        // What cannot be read is dropped, as QUIC wants it.
        _ = self.members[index].quic.recv(bytes, info);
        self.touch(index);
    }

    fn whose(&mut self, bytes: &mut [u8], from: SocketAddrV4) -> Option<usize> {
        let header = quiche::Header::from_slice(bytes, ID).ok()?;
        if let Some(index) = index_of(&header.dcid) {
            return (index < self.members.len()).then_some(index);
        }
        if let Some(index) = self.first_ids.get(&*header.dcid) {
            return Some(*index);
        }
        if header.ty != quiche::Type::Initial {
            return None;
        }
        let index = self.members.len();
        let id = id_of(index);
        let peer = SocketAddr::V4(from);
        let quic =
            quiche::accept_with_buf_factory(&id, None, self.local, peer, &mut self.config).ok()?;
        self.members.push(Member {
            quic,
            address: from,
            session: None,
            subscribed: false,
            streams: HashMap::new(),
            // Our first is the session's control stream.
            next_stream: 1,
            waiting: VecDeque::new(),
            touched: false,
        });
        self.first_ids.insert(header.dcid.to_vec(), index);
        Some(index)
    }

    /// Reads what came for a connection, and acts on it.
    fn attend(&mut self, index: usize, now: Instant) {
        self.members[index].touched = false;
        self.touch(index);
        let member = &mut self.members[index];
        if !member.quic.is_established() {
            return;
        }
        if member.session.is_none() {
            let protocol = member.quic.application_proto();
            let version =
                Version::PREFERENCE.into_iter().find(|it| it.alpn().as_bytes() == protocol);
            let Some(version) = version else { return };
            let mut config = session::Config::default();
            config.aip = None;
            member.session = Some(Session::new(config, Side::Server, version, now));
        }
        while let Some(stream) = self.members[index].quic.stream_readable_next() {
            self.read(index, stream, now);
        }
        self.signal(index);
    }

    fn read(&mut self, index: usize, stream: u64, now: Instant) {
        loop {
            let mut buffer = BytesMut::with_capacity(CHUNK).limit(CHUNK);
            let member = &mut self.members[index];
            let Ok((_, fin)) = member.quic.stream_recv_buf(stream, &mut buffer) else { return };
            let bytes = buffer.into_inner().freeze();
            let first = StreamId::new(Side::Client, false, 0);
            let is_data = !StreamId(stream).is_bidirectional() && StreamId(stream) != first;
            if is_data && self.publisher == Some(index) {
                self.fan_out(stream, &bytes, fin);
            } else if let Some(session) = &mut member.session {
                session.handle_stream(StreamId(stream), bytes, fin, now);
            }
            if fin {
                return;
            }
        }
    }

    fn fan_out(&mut self, stream: u64, bytes: &Bytes, fin: bool) {
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if !member.subscribed {
                continue;
            }
            let ours = *member.streams.entry(stream).or_insert_with(|| {
                member.next_stream += 1;
                StreamId::new(Side::Server, false, member.next_stream - 1).0
            });
            if fin {
                member.streams.remove(&stream);
            }
            member.send(ours, bytes.clone(), fin);
            self.touch(index);
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
        self.members[index].act();
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
                    self.members[publisher].act();
                    self.touch(publisher);
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
        member.act();
        self.touch(index);
    }

    fn sweep(&mut self, now: Instant) {
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if member.quic.timeout_instant().is_some_and(|due| due <= now) {
                member.quic.on_timeout();
                self.touch(index);
            }
            if self.members[index].quic.is_closed() {
                self.members[index].subscribed = false;
            }
        }
    }

    fn transmit(&mut self, index: usize, outgoing: &mut Outgoing) {
        let member = &mut self.members[index];
        member.touched = false;
        member.pump();
        let quic = &mut member.quic;
        outgoing.build(member.address, DATAGRAM_MAX, |room| {
            quic.send(room).ok().map(|(length, _)| length)
        });
    }
}

impl Member {
    /// Carries out what the session wants.
    fn act(&mut self) {
        while let Some(action) = self.session.as_mut().and_then(Session::poll_action) {
            if let Action::Send { stream, bytes, fin } = action {
                self.send(stream.0, bytes, fin);
            }
        }
    }

    fn send(&mut self, stream: u64, bytes: Bytes, fin: bool) {
        self.waiting.push_back((stream, bytes, fin));
    }

    /// Hands quiche as much as it takes.
    fn pump(&mut self) {
        while let Some((stream, bytes, fin)) = self.waiting.pop_front() {
            // quiche drops the bytes of a stream that it has no room for. One that was never used
            // is unknown until it is.
            let room = match self.quic.stream_capacity(stream) {
                Ok(room) => room,
                Err(quiche::Error::InvalidStreamState(_)) => 1,
                Err(_) => continue,
            };
            if room == 0 && !bytes.is_empty() {
                self.waiting.push_front((stream, bytes, fin));
                return;
            }
            if let Ok((_, Some(rest))) = self.quic.stream_send_zc(stream, bytes, fin) {
                self.waiting.push_front((stream, rest, fin));
                return;
            }
        }
    }
}

fn id_of(index: usize) -> quiche::ConnectionId<'static> {
    let mut id = vec![TAG; ID];
    id[1..9].copy_from_slice(&(index as u64).to_be_bytes());
    quiche::ConnectionId::from_vec(id)
}

fn index_of(id: &[u8]) -> Option<usize> {
    let ours = id.len() == ID && id[0] == TAG && id[9..].iter().all(|byte| *byte == TAG);
    let bytes = id.get(1..9)?.try_into().ok()?;
    ours.then(|| usize::try_from(u64::from_be_bytes(bytes)).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_its_index() {
        for index in [0, 7, 100_000] {
            assert_eq!(index_of(&id_of(index)), Some(index));
        }
        assert_eq!(index_of(&[1; ID]), None);
        assert_eq!(index_of(&[TAG; 4]), None);
    }
}

//! One QUIC connection to the relay under test, with nothing above it: any bytes on any stream.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    time::Instant,
};

use bytes::Bytes;
use mio::net::UdpSocket;

use super::{
    target::Endpoint,
    web::{self, State, Web},
};

/// Bytes of one UDP payload at most.
const DATAGRAM_MAX: usize = 65_535;

/// What came on a stream, and how it ended.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Everything that came and was not taken.
    pub(super) bytes: Vec<u8>,
    /// How the peer ended it.
    pub(super) end: Option<End>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// By FIN.
    Finished,
    /// By RESET_STREAM with this code.
    Reset(u64),
}

/// How a connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Closed {
    /// The peer closed the session with this application code.
    Session {
        /// Its code.
        code: u64,
        /// Its reason, for people.
        reason: String,
    },
    /// The peer closed the connection with this transport code.
    Transport {
        /// Its code.
        code: u64,
        /// Its reason, for people.
        reason: String,
    },
    /// Nothing was heard for too long, or nobody listens there.
    Silent,
}

/// A connection and its socket.
pub(super) struct Quic {
    pub(super) socket: UdpSocket,
    local: SocketAddr,
    remote: SocketAddr,
    connection: quiche::Connection,
    pub(super) received: BTreeMap<u64, Received>,
    /// Streams of ours that the peer wants no more of, and the code it said.
    pub(super) stopped: BTreeMap<u64, u64>,
    pub(super) datagrams: VecDeque<Bytes>,
    /// What flow control holds back.
    waiting: BTreeMap<u64, VecDeque<(Bytes, bool)>>,
    /// The session over HTTP/3, if there is to be one.
    web: Option<Web>,
    refused: bool,
}

impl Quic {
    /// A connection that offers this protocol; with `web`, for a session over HTTP/3.
    pub(super) fn new(endpoint: &Endpoint, alpn: &[u8], web: Option<Web>) -> io::Result<Self> {
        let remote = endpoint.address;
        let any: SocketAddr = if remote.is_ipv4() {
            (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(remote)?;
        let local = socket.local_addr()?;
        let mut config = endpoint.quic(alpn).map_err(io::Error::other)?;
        let mut id = [0; 16];
        boring::rand::rand_bytes(&mut id).map_err(io::Error::other)?;
        let connection = quiche::connect(
            endpoint.server_name(),
            &quiche::ConnectionId::from_ref(&id),
            local,
            remote,
            &mut config,
        )
        .map_err(io::Error::other)?;
        Ok(Self {
            socket,
            local,
            remote,
            connection,
            received: BTreeMap::new(),
            stopped: BTreeMap::new(),
            datagrams: VecDeque::new(),
            waiting: BTreeMap::new(),
            web,
            refused: false,
        })
    }

    /// Whether streams may be used.
    pub(super) fn is_established(&self) -> bool {
        let is_open = self.web.as_ref().is_none_or(|web| web.state == State::Open);
        is_open && self.connection.is_established()
    }

    /// Why there will be no session, if it was refused.
    pub(super) fn refusal(&self) -> Option<String> {
        match &self.web.as_ref()?.state {
            State::Refused(why) => Some(why.clone()),
            State::Asking | State::Open | State::Closed { .. } => None,
        }
    }

    /// Whether the handshake is over.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.is_established()
    }

    /// The leaf certificate (DER) that the peer showed.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        self.connection.peer_cert()
    }

    pub(super) fn closed(&self) -> Option<Closed> {
        if let Some(State::Closed { code, reason }) = self.web.as_ref().map(|web| &web.state) {
            return Some(Closed::Session { code: *code, reason: reason.clone() });
        }
        if let Some(error) = self.connection.peer_error() {
            let code = error.error_code;
            let reason = String::from_utf8_lossy(&error.reason).escape_debug().to_string();
            return Some(if error.is_app {
                Closed::Session { code, reason }
            } else {
                Closed::Transport { code, reason }
            });
        }
        if let Some(error) = self.connection.local_error().filter(|error| !error.is_app) {
            let reason = format!("found by us: {}", String::from_utf8_lossy(&error.reason));
            return Some(Closed::Transport { code: error.error_code, reason });
        }
        (self.refused || self.connection.is_closed()).then_some(Closed::Silent)
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        self.connection.timeout_instant()
    }

    pub(super) fn send(&mut self, stream: u64, bytes: Bytes, fin: bool) {
        let Some(web) = &mut self.web else {
            self.send_on(stream, bytes, fin);
            return;
        };
        let head = web.head(stream);
        let stream = Web::outward(stream);
        if let Some(head) = head {
            self.send_on(stream, head.into(), false);
        }
        self.send_on(stream, bytes, fin);
    }

    /// Sends on the connection's own stream.
    fn send_on(&mut self, stream: u64, bytes: Bytes, fin: bool) {
        self.waiting.entry(stream).or_default().push_back((bytes, fin));
        self.flush_stream(stream);
    }

    pub(super) fn reset(&mut self, stream: u64, code: u64) {
        let (stream, code) = self.outward(stream, code);
        self.waiting.remove(&stream);
        // A stream that is over already has nothing left to reset.
        self.connection.stream_shutdown(stream, quiche::Shutdown::Write, code).ok();
    }

    pub(super) fn stop(&mut self, stream: u64, code: u64) {
        let (stream, code) = self.outward(stream, code);
        self.connection.stream_shutdown(stream, quiche::Shutdown::Read, code).ok();
    }

    /// Number and code of a stream as the connection has them.
    const fn outward(&self, stream: u64, code: u64) -> (u64, u64) {
        match self.web {
            Some(_) => (Web::outward(stream), web::code_for(code)),
            None => (stream, code),
        }
    }

    /// Notes that the peer wants no more of a stream of the connection's.
    fn note_stopped(&mut self, stream: u64, code: u64) {
        let (stream, code) = match self.web {
            Some(_) => (Web::inward(stream), web::code_of(code)),
            None => (stream, code),
        };
        self.stopped.insert(stream, code);
    }

    pub(super) fn requests_left(&self) -> u64 {
        self.connection.peer_streams_left_bidi()
    }

    pub(super) fn datagram(&mut self, bytes: &[u8]) -> Result<(), quiche::Error> {
        if self.web.is_some() {
            // A quarter of the session's number stands first.
            return self.connection.dgram_send(&[&[0], bytes].concat());
        }
        self.connection.dgram_send(bytes)
    }

    pub(super) fn close(&mut self, code: u64) {
        let code = if self.web.is_some() { 0x100 } else { code };
        // Closing what is closed is no error of ours.
        self.connection.close(true, code, b"").ok();
        self.transmit();
    }

    /// Receives, runs timers, sends: whatever can be done now without waiting.
    pub(super) fn turn(&mut self, now: Instant) {
        self.receive();
        if self.timeout().is_some_and(|due| due <= now) {
            self.connection.on_timeout();
        }
        self.read_streams();
        self.read_datagrams();
        if let Some(web) = &mut self.web
            && self.connection.is_established()
        {
            web.sort(&mut self.received);
            for (stream, bytes, fin) in std::mem::take(&mut web.outbox) {
                self.send_on(stream, bytes.into(), fin);
            }
        }
        let streams: Vec<u64> = self.waiting.keys().copied().collect();
        for stream in streams {
            self.flush_stream(stream);
        }
        self.transmit();
    }

    fn receive(&mut self) {
        let mut buffer = [0; DATAGRAM_MAX];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let info = quiche::RecvInfo { from: self.remote, to: self.local };
                    // What is wrong with a packet stands in the connection's own error.
                    self.connection.recv(&mut buffer[..length], info).ok();
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.refused |= !self.connection.is_established();
                    return;
                }
                Err(_) => return,
            }
        }
    }

    fn read_streams(&mut self) {
        let mut buffer = [0; 16_384];
        for stream in self.connection.readable() {
            let received = match &mut self.web {
                Some(web) => web.raw(stream),
                None => self.received.entry(stream).or_default(),
            };
            loop {
                match self.connection.stream_recv(stream, &mut buffer) {
                    Ok((length, fin)) => {
                        received.bytes.extend_from_slice(&buffer[..length]);
                        if fin {
                            received.end = Some(End::Finished);
                            break;
                        }
                    }
                    Err(quiche::Error::StreamReset(code)) => {
                        received.end = Some(End::Reset(code));
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
    }

    fn read_datagrams(&mut self) {
        while let Ok(bytes) = self.connection.dgram_recv_buf() {
            let mut bytes: Bytes = bytes.into();
            if self.web.is_some() && bytes.first() == Some(&0) {
                drop(bytes.split_to(1));
            }
            self.datagrams.push_back(bytes);
        }
    }

    fn flush_stream(&mut self, stream: u64) {
        let Some(queue) = self.waiting.get_mut(&stream) else { return };
        while let Some((bytes, fin)) = queue.front_mut() {
            match self.connection.stream_send(stream, bytes, *fin) {
                Ok(length) if length == bytes.len() => {
                    queue.pop_front();
                }
                Ok(length) => {
                    drop(bytes.split_to(length));
                    return;
                }
                Err(quiche::Error::StreamStopped(code)) => {
                    self.waiting.remove(&stream);
                    self.note_stopped(stream, code);
                    return;
                }
                Err(quiche::Error::Done | quiche::Error::StreamLimit) => return,
                Err(_) => queue.clear(),
            }
        }
        self.waiting.remove(&stream);
    }

    /// Looks whether the peer has stopped a stream on which nothing waits.
    pub(super) fn note_stop(&mut self, stream: u64) {
        let (stream, _) = self.outward(stream, 0);
        if let Err(quiche::Error::StreamStopped(code)) = self.connection.stream_capacity(stream) {
            self.note_stopped(stream, code);
        }
    }

    fn transmit(&mut self) {
        let mut buffer = [0; 1_500];
        while let Ok((length, _)) = self.connection.send(&mut buffer) {
            // What the socket cannot take is lost, as it could be on the way: QUIC repeats it.
            drop(self.socket.send(&buffer[..length]));
        }
    }
}

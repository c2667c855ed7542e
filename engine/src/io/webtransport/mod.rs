//! One WebTransport session over HTTP/3, instead of a whole QUIC connection: between the connection's
//! streams and the driver's. It knows no quiche connection: it is told what came, and says what is
//! wanted of the connection.
//!
//! A connection carries one session. The CONNECT request chooses the draft of MOQT; until it has,
//! what comes is held, within a bound. Payloads are passed on as they are, by reference; in front of
//! a datagram there has to be a number, so its bytes are copied, once for all sessions in a row.

mod capsule;
mod code;
mod inward;
mod outward;
mod probe;
mod protocols;
mod request;
mod streams;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use aip_codec::Version;
use bytes::{Bytes, BytesMut};

pub(super) use self::outward::Numbered;
pub use self::probe::Probe;
use self::{capsule::CapsuleReader, streams::Streams};
use super::{
    connection::Event,
    http3::{self, Code, Control, Fault, FrameReader, QpackStream},
    target::Url,
};
use crate::{
    stream_map::StreamMap,
    transport::{Side, StreamId},
};

/// Bytes and pieces that are held for a session that has not begun.
const EARLY_BYTES_MAX: usize = 64 << 10;
const EARLY_MAX: usize = 256;
/// Requests on one connection, of which one begins its session.
const REQUESTS_MAX: u32 = 100;
/// The longest number that a stream or datagram begins with.
const INTEGER_MAX: usize = 8;

/// What is wanted of the connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Want {
    /// Send on one of HTTP/3's own streams.
    Send { stream: StreamId, bytes: Bytes, fin: bool },
    /// Send no more, with a code of HTTP/3's.
    Reset { stream: StreamId, code: u64 },
    /// Ask the peer to send no more, with a code of HTTP/3's.
    Stop { stream: StreamId, code: u64 },
    /// Close the connection.
    Close { code: u64, reason: &'static str },
}

/// Where a session is, as its request says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Destination {
    /// `:authority`.
    pub(super) authority: String,
    /// `:path`, with the query.
    pub(super) path: String,
}

impl Destination {
    /// Where a URL points to.
    pub(super) fn of(url: &Url) -> Self {
        // A path is never empty in HTTP.
        let slash = if url.path().starts_with('/') { "" } else { "/" };
        Self { authority: url.authority().to_owned(), path: format!("{slash}{}", url.path()) }
    }
}

/// How far the session is.
#[derive(Debug)]
enum Phase {
    /// It has not begun.
    Waiting,
    /// It goes on, by the number of its CONNECT stream.
    Open { session: u64, streams: Box<Streams> },
    /// Closed by the driver; what is queued goes before the peer is told.
    Ending { session: u64, streams: Box<Streams> },
    /// The peer is told that it is closed.
    Closing { session: u64 },
    /// Nothing more is told.
    Over,
}

/// A stream that the peer has opened, or our CONNECT stream.
#[derive(Debug)]
enum Inward {
    /// What it is does not stand here in full.
    Beginning(BytesMut),
    Control,
    Qpack(QpackStream),
    /// A request at the server; or at the client, the answer to its own.
    Request(Box<FrameReader>),
    /// The request of a session of this draft, which waits for the peer's settings; and whether it
    /// has ended.
    Held(Box<FrameReader>, Version, bool),
    /// The session's CONNECT stream.
    Connect(Box<(FrameReader, CapsuleReader)>),
    /// The session's own, behind its head.
    Session(u64),
}

/// The state of one connection over HTTP/3.
#[derive(Debug)]
pub(super) struct WebTransport {
    side: Side,
    /// The drafts that are offered, or taken, first choice first.
    versions: Vec<Version>,
    /// Where the client's request goes.
    destination: Option<Destination>,
    control: Control,
    /// Whether the peer has opened its control, encoder and decoder stream.
    critical: [bool; 3],
    phase: Phase,
    inward: StreamMap<Inward>,
    /// How the peer has closed the session.
    closed: Option<(u64, Bytes)>,
    /// What came before the session, and for which.
    early: VecDeque<(u64, Event)>,
    early_bytes: usize,
    /// Bytes of refusals, by stream, of which we were not told yet that they have left.
    refusals: StreamMap<usize>,
    /// How many requests the client has made.
    requests: u32,
    /// Whether the peer was at fault: nothing more is heard.
    failed: bool,
    wants: VecDeque<Want>,
}

/// A client's first bidirectional stream.
const CONNECT_STREAM: StreamId = StreamId(0);

impl WebTransport {
    /// A server's side, which takes these drafts, first choice first.
    pub(super) fn server(versions: &[Version]) -> Self {
        Self::new(Side::Server, versions, None)
    }

    /// A client's side, which offers these drafts.
    pub(super) fn client(versions: &[Version], destination: Destination) -> Self {
        Self::new(Side::Client, versions, Some(destination))
    }

    fn new(side: Side, versions: &[Version], destination: Option<Destination>) -> Self {
        let mut this = Self {
            side,
            versions: versions.to_vec(),
            destination,
            control: Control::new(side == Side::Server),
            critical: [false; 3],
            phase: Phase::Waiting,
            inward: StreamMap::default(),
            closed: None,
            early: VecDeque::new(),
            early_bytes: 0,
            refusals: StreamMap::default(),
            requests: 0,
            failed: false,
            wants: VecDeque::new(),
        };
        let stream = this.own_control();
        this.want(Want::Send { stream, bytes: http3::settings_frame(), fin: false });
        this
    }

    /// Our control stream: the first that we open.
    const fn own_control(&self) -> StreamId {
        StreamId::new(self.side, false, 0)
    }

    /// Whether a stream is HTTP/3's own: the driver is told nothing of it.
    fn is_own(&self, stream: StreamId) -> bool {
        stream == self.own_control() || Some(stream.0) == self.session()
    }

    /// Whether it goes on.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Whether the driver was told that it is over, or will never be.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Whether the peer has closed the session, be it in answer to our word that we have.
    pub(super) const fn is_farewell_heard(&self) -> bool {
        self.closed.is_some() || self.is_over()
    }

    /// Whether the peer is still to be told that the driver has closed the session.
    pub(super) const fn owes_farewell(&self) -> bool {
        matches!(self.phase, Phase::Ending { .. }) && self.closed.is_none()
    }

    /// What is wanted of the connection next.
    pub(super) fn poll_want(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    fn want(&mut self, want: Want) {
        self.wants.push_back(want);
    }

    const fn session(&self) -> Option<u64> {
        match self.phase {
            Phase::Open { session, .. }
            | Phase::Ending { session, .. }
            | Phase::Closing { session } => Some(session),
            Phase::Waiting | Phase::Over => None,
        }
    }

    /// Takes note of what came on the connection; what the driver is to be told of it goes to
    /// `events`.
    pub(super) fn handle(&mut self, event: Event, events: &mut VecDeque<Event>) {
        if self.failed || self.is_over() {
            return;
        }
        let result = match event {
            Event::Stream { stream, bytes, fin } => self.receive(stream, bytes, fin, events),
            Event::Reset { stream, code } => self.reset(stream, code, events),
            Event::Stop { stream, code } => self.stopped(stream, code, events),
            Event::Datagram(bytes) => self.datagram(bytes, events),
            Event::Sent { stream, length } => {
                self.sent(stream, length, events);
                Ok(())
            }
            Event::Connected { .. } | Event::Silence(_) | Event::Closed(_) | Event::Failed(_) => {
                events.push_back(event);
                Ok(())
            }
        };
        if let Err(Fault::Connection(code, reason)) = result {
            self.fail(code, reason);
        }
    }

    fn fail(&mut self, code: Code, reason: &'static str) {
        self.failed = true;
        self.want(Want::Close { code: code.0, reason });
    }
}

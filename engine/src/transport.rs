//! The seam between protocol and transport: streams and datagrams, not packets.
//!
//! What lies above ([`Driver`]) is told by `handle_*` and asked by `poll_*`; what lies below
//! (`io`, or a simulated link) carries out each [`Action`]. After any `handle_*`, drain
//! `poll_action`, then wait no longer than `poll_timeout`. Early and repeated `handle_timeout` is
//! harmless. Same inputs, same outputs.

use std::{
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use aip_codec::{Version, moqt::error_code::SessionCode};
use bytes::Bytes;

use crate::{metrics::Service, relay::CallSpan, schedule::Precedence, shard::Parcel};

/// Which end of a connection one is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Side {
    /// It opened the connection.
    Client,
    /// It accepted the connection.
    Server,
}

impl Side {
    /// The other end.
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A stream's number as QUIC numbers them (RFC 9000 section 2.1): the two low bits say who opened
/// it and whether it is unidirectional.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The `index`-th stream of its kind that `opener` opens.
    pub const fn new(opener: Side, bidirectional: bool, index: u64) -> Self {
        let opener = match opener {
            Side::Client => 0,
            Side::Server => 1,
        };
        let direction = if bidirectional { 0 } else { 2 };
        Self(index << 2 | direction | opener)
    }

    /// Who opened it.
    pub const fn opener(self) -> Side {
        if self.0 & 1 == 0 { Side::Client } else { Side::Server }
    }

    /// Whether both ends may send.
    pub const fn is_bidirectional(self) -> bool {
        self.0 & 2 == 0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// One session's number in its worker, never used again after the session's end.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What the transport must do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Queue bytes on a stream; its first use opens it, or waits until the peer allows one more.
    ///
    /// The queue holds references, never copies. What leaves it is told by
    /// [`Driver::handle_sent`]. Bytes for a stream that the peer has stopped or the connection
    /// no longer has are dropped, and told as sent.
    Send {
        /// The stream.
        stream: StreamId,
        /// The bytes; may be empty if `fin`.
        bytes: Bytes,
        /// Whether nothing follows.
        fin: bool,
    },
    /// Drop what is queued and reset the sending side (RESET_STREAM).
    Reset {
        /// The stream.
        stream: StreamId,
        /// An application error code (draft-22 section 12.4).
        code: u64,
    },
    /// Ask the peer to send no more, and deliver nothing more of it (STOP_SENDING).
    Stop {
        /// The stream.
        stream: StreamId,
        /// An application error code (draft-22 section 12.4).
        code: u64,
    },
    /// Set when a stream is sent. One that was never set stands like a request's.
    Prioritize {
        /// The stream.
        stream: StreamId,
        /// Where it stands among the others.
        precedence: Precedence,
    },
    /// Deliver no more bytes of this stream until told so; flow control then holds its sender.
    Pause {
        /// The stream.
        stream: StreamId,
    },
    /// Deliver bytes of this stream again.
    Resume {
        /// The stream.
        stream: StreamId,
    },
    /// Queue a datagram; dropped and counted if it does not fit the path or the queue, or is late.
    SendDatagram {
        /// Its bytes.
        bytes: Bytes,
        /// When it is too late for it; `None` is never.
        expires: Option<Instant>,
    },
    /// Close the connection once what is queued for it to be said has been handed to the network.
    Close {
        /// An application error code (draft-22 section 12.1).
        code: SessionCode,
        /// Why, for people; at most 1,024 bytes are sent.
        reason: String,
    },
}

/// Who is at the other end of a new connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Peer {
    /// Which end *we* are.
    pub side: Side,
    /// The draft that ALPN chose, or WebTransport's own choice of protocol.
    pub version: Version,
    /// The peer's address when the connection came up.
    pub address: SocketAddr,
    /// On connections that we opened: which of the configured targets this is, counted from 0.
    pub target: Option<usize>,
    /// Whether the session is one of WebTransport, whose request has said authority and path.
    pub webtransport: bool,
    /// On QUIC connections that we opened: the authority of its URL, for the SETUP option.
    pub authority: Option<String>,
    /// On QUIC connections that we opened: path and query of its URL, for the SETUP option; empty is
    /// none.
    pub path: Option<String>,
    /// On connections that the driver asked for: its key.
    pub key: Option<u64>,
    /// If this is no connection, but the link to another shard of the same relay: which.
    pub shard: Option<Neighbour>,
}

/// Another shard of the same relay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Neighbour {
    /// Its number; shards count from 0.
    pub index: usize,
    /// Whether it is the one that dials other relays.
    pub dials: bool,
}

impl Peer {
    /// A peer that is known by these alone.
    pub const fn new(side: Side, version: Version, address: SocketAddr) -> Self {
        Self {
            side,
            version,
            address,
            target: None,
            webtransport: false,
            authority: None,
            path: None,
            key: None,
            shard: None,
        }
    }
}

/// A connection that a driver asks for, beside those that the transport keeps up by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connect {
    /// The configured target whose trust and URL hold, counted from 0.
    pub target: usize,
    /// Where it is.
    pub address: SocketAddr,
    /// What the driver knows the connection by until it has a session.
    pub key: u64,
}

/// Where a configured target says that it is to be reached from now on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Move {
    /// The target, counted from 0.
    pub target: usize,
    /// Its words, which are untrusted.
    pub uri: Bytes,
}

/// Why a connection is no more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Closed {
    /// The peer closed it with this application code.
    ByPeer {
        /// Code of draft-22 section 12.1.
        code: u64,
        /// The peer's words: untrusted.
        reason: Bytes,
    },
    /// The peer closed it with a QUIC transport error.
    Transport {
        /// Code of RFC 9000 section 20.1.
        code: u64,
    },
    /// We closed it ([`Action::Close`]).
    Locally,
    /// Nothing was heard for the idle timeout, or the peer reset the connection statelessly.
    TimedOut,
}

/// What a transport drives: a relay's shard, or a client.
///
/// A session is known here from `handle_connected` to `handle_closed`; nothing is told of it
/// before or after.
pub trait Driver {
    /// What other threads may tell this driver through the worker's mailbox.
    type Command: Send;

    /// It is about to be driven: said once, before all else.
    fn handle_begin(&mut self, _now: Instant) {}
    /// A connection is up: its handshake is complete and its draft chosen.
    fn handle_connected(&mut self, session: SessionId, peer: Peer, now: Instant);
    /// Bytes of a stream, in order; a stream's first bytes open it. `fin`: nothing follows.
    fn handle_stream(
        &mut self,
        session: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    );
    /// The peer reset its sending side.
    fn handle_reset(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant);
    /// The peer asks us to send no more. The transport has dropped what was queued and resets.
    fn handle_stop(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant);
    /// A datagram.
    fn handle_datagram(&mut self, session: SessionId, bytes: Bytes, now: Instant);
    /// `length` bytes have left a stream's queue for the network, or were dropped from it.
    fn handle_sent(&mut self, session: SessionId, stream: StreamId, length: usize, now: Instant);
    /// On connections that we opened to a configured target: nothing has come for longer than an
    /// answer takes ([`crate::io`]'s `silence`), or something comes again.
    fn handle_silence(&mut self, _session: SessionId, _is_silent: bool, _now: Instant) {}
    /// The connection is no more.
    fn handle_closed(&mut self, session: SessionId, closed: Closed, now: Instant);
    /// A configured target could not be reached; the transport tries again by itself.
    fn handle_unreachable(&mut self, target: usize, reason: &str, now: Instant);
    /// A connection that [`Driver::poll_connect`] asked for did not come up; it is not tried again.
    fn handle_connect_failed(&mut self, _key: u64, _reason: &str, _now: Instant) {}
    /// Another thread's word.
    fn handle_command(&mut self, command: Self::Command, now: Instant);
    /// Begin to end: tell every peer (GOAWAY), take nothing new.
    fn handle_drain(&mut self, now: Instant);
    /// Whether a drain is over: nothing is left that is worth waiting for.
    fn is_drained(&self) -> bool;
    /// Time has passed. Early and repeated calls are harmless.
    fn handle_timeout(&mut self, now: Instant);
    /// The process was stopped for so long, which `now` does not count: what is said to be of a certain
    /// age is older than it seems.
    fn handle_time_lost(&mut self, _lost: Duration, _now: Instant) {}
    /// Memory is short, or no longer: while it is, no new work is to be taken.
    fn handle_shortage(&mut self, _is_short: bool, _now: Instant) {}
    /// What the transport must do next.
    fn poll_action(&mut self) -> Option<(SessionId, Action)>;
    /// What the transport must do before it tells more of a session: what concerns that session, at
    /// least. The rest may wait until all is told that has come, so that what many bytes make a driver
    /// want of a connection is done together. Everything, where a driver does not tell them apart.
    fn poll_urgent_action(&mut self, _session: SessionId) -> Option<(SessionId, Action)> {
        self.poll_action()
    }
    /// A connection to begin. `handle_connected` with its key follows, or `handle_connect_failed`.
    fn poll_connect(&mut self) -> Option<Connect> {
        None
    }
    /// A target that is to be reached elsewhere. Where that is must be permitted.
    fn poll_move(&mut self) -> Option<Move> {
        None
    }
    /// When `handle_timeout` is wanted at the latest.
    fn poll_timeout(&self) -> Option<Instant>;
    /// What another shard of the same relay hands over.
    fn handle_parcel(&mut self, _from: usize, _parcel: Parcel, _now: Instant) {}
    /// What is to be handed to another shard of the same relay. To be asked only while there is
    /// room for it: what is told here has left, and the other shard gets it, in order.
    fn poll_parcel(&mut self, _to: usize, _now: Instant) -> Option<Parcel> {
        None
    }
    /// What a relay counts; asked about once a second. Nothing, for other drivers.
    fn poll_metrics(&self) -> Option<Service> {
        None
    }
    /// Calls that have ended and are traced, once each, and how many more there were than were kept;
    /// asked about once a second. Nothing, for other drivers.
    fn take_spans(&mut self) -> (Vec<CallSpan>, u64) {
        (Vec::new(), 0)
    }
}

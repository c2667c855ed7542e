//! One side of the link between two shards: streams and datagrams, as a connection has them.
//!
//! What a session sends waits here, by the same rules of what is sent next as on the network, until
//! the other shard has room; then it has left ([`Driver::handle_sent`](crate::transport::Driver)).
//! So whatever limits what waits for a peer limits what waits for a shard, with the same verdicts.
//! What was on its way when a stream is paused waits on the other side until that is over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aip_codec::moqt::id::RequestId;
use bytes::Bytes;

use super::parcel::Content;
use crate::{
    schedule::{Precedence, Scheduler, Turn},
    stream_map::StreamMap,
    transport::{Action, SessionId, Side, StreamId},
};

/// Datagrams that may wait for one shard; one more is dropped.
const DATAGRAMS_MAX: usize = 1_024;
/// Ends of streams that may wait for one shard. A stream has at most one in each direction, but
/// streams may begin and end while the other shard takes nothing: one more, and the link is closed,
/// and begins anew.
const ENDS_MAX: usize = 1 << 18;

/// What the session must be told.
#[derive(Debug)]
pub(super) enum Heard {
    Stream { stream: StreamId, bytes: Bytes, fin: bool },
    Reset { stream: StreamId, code: u64 },
    Stop { stream: StreamId, code: u64 },
    Datagram { bytes: Bytes },
    Sent { stream: StreamId, length: usize },
}

/// One side of a link.
#[derive(Debug)]
pub(super) struct Link {
    /// The session that it carries.
    pub(super) session: SessionId,
    /// How many links between these two there were before it.
    pub(super) epoch: u32,
    /// Whether the session has closed it.
    pub(super) closed: bool,
    side: Side,
    outgoing: Scheduler<Outgoing>,
    /// One more than the highest index of ours that an action named, per kind: below it, a stream
    /// that is not known is over.
    used: [u64; 2],
    /// What has no place among the streams: their ends, and datagrams.
    aside: VecDeque<Content>,
    /// Streams of which the other side is to send no more for now, or is to go on. What is taken back
    /// before it was told is not told.
    paused: BTreeMap<StreamId, bool>,
    incoming: StreamMap<Incoming>,
    /// One more than the highest index of the other side's bidirectional streams, of which those
    /// in `skipped` were not seen yet.
    seen: u64,
    skipped: BTreeSet<u64>,
    heard: VecDeque<Heard>,
    /// Datagrams that wait in `aside`.
    datagrams: usize,
    /// Datagrams dropped because too many waited.
    pub(super) datagrams_dropped: u64,
}

/// The sending side of a stream, until its end has left.
#[derive(Debug, Default)]
struct Outgoing {
    first: Option<Bytes>,
    rest: VecDeque<Bytes>,
    fin: bool,
    /// Whether the other side takes no more for now.
    paused: bool,
}

/// The receiving side of a stream, until its end is here.
#[derive(Debug)]
enum Incoming {
    Open,
    /// It waits until it is wanted again.
    Paused(VecDeque<(Bytes, bool)>),
    /// Nothing more of it is wanted.
    Stopped,
}

impl Outgoing {
    fn push(&mut self, bytes: Bytes) {
        if self.first.is_none() && self.rest.is_empty() {
            self.first = Some(bytes);
        } else {
            self.rest.push_back(bytes);
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        self.first.take().or_else(|| self.rest.pop_front())
    }

    fn is_drained(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    fn has_something(&self) -> bool {
        !self.paused && (!self.is_drained() || self.fin)
    }

    fn queued(&self) -> usize {
        self.first.iter().chain(&self.rest).map(Bytes::len).sum()
    }
}

impl Link {
    /// The `epoch`-th link between two shards, on its `side`.
    pub(super) fn new(session: SessionId, epoch: u32, side: Side) -> Self {
        Self {
            session,
            epoch,
            closed: false,
            side,
            outgoing: Scheduler::default(),
            used: [0; 2],
            aside: VecDeque::new(),
            paused: BTreeMap::new(),
            incoming: StreamMap::default(),
            seen: 0,
            skipped: BTreeSet::new(),
            heard: VecDeque::new(),
            datagrams: 0,
            datagrams_dropped: 0,
        }
    }

    /// Does what the session wants.
    pub(super) fn execute(&mut self, action: Action) {
        match action {
            Action::Send { stream, bytes, fin } => self.send(stream, bytes, fin),
            Action::Reset { stream, code } => {
                if self.turn(stream).is_some() {
                    self.drop_outgoing(stream);
                    self.push_end(Content::Reset { stream, code });
                }
            }
            Action::Stop { stream, code } => {
                if let Some(incoming @ (Incoming::Open | Incoming::Paused(_))) =
                    self.incoming.get_mut(&stream.0)
                {
                    *incoming = Incoming::Stopped;
                    self.paused.remove(&stream);
                    self.push_end(Content::Stop { stream, code });
                }
            }
            Action::Prioritize { stream, precedence } => {
                if self.turn(stream).is_some() {
                    self.outgoing.set(stream.0, &precedence);
                }
            }
            Action::Pause { stream } => {
                if let Some(incoming @ Incoming::Open) = self.incoming.get_mut(&stream.0) {
                    *incoming = Incoming::Paused(VecDeque::new());
                    self.note_paused(stream, true);
                }
            }
            Action::Resume { stream } => self.resume(stream),
            Action::SendDatagram { .. } if DATAGRAMS_MAX <= self.datagrams => {
                self.datagrams_dropped += 1;
            }
            // There is always room for it: it is on its way before it could be late.
            Action::SendDatagram { bytes, .. } => {
                self.datagrams += 1;
                self.aside.push_back(Content::Datagram { bytes });
            }
            Action::Close { code, reason } => {
                tracing::error!(%code, reason, "the link to another shard is closed");
                self.closed = true;
            }
        }
    }

    /// The sending side of an action's stream. A number of ours that is new becomes a stream.
    fn turn(&mut self, id: StreamId) -> Option<Turn> {
        let kind = usize::from(!id.is_bidirectional());
        if id.opener() == self.side && self.used[kind] <= id.0 >> 2 {
            self.used[kind] = (id.0 >> 2) + 1;
            self.open(id);
            if id.is_bidirectional() {
                self.incoming.insert(id.0, Incoming::Open);
            }
        }
        self.outgoing.find(id.0)
    }

    fn open(&mut self, id: StreamId) {
        let precedence = Precedence::request(RequestId(id.0));
        self.outgoing.insert(id.0, &precedence, Outgoing::default());
    }

    fn send(&mut self, stream: StreamId, bytes: Bytes, fin: bool) {
        let Some(turn) = self.turn(stream) else {
            self.note_sent(stream, bytes.len());
            return;
        };
        let Some(outgoing) = self.outgoing.get_mut(turn) else { return };
        if !bytes.is_empty() {
            outgoing.push(bytes);
        }
        outgoing.fin |= fin;
        if outgoing.has_something() {
            self.outgoing.ready(turn);
        }
    }

    fn note_sent(&mut self, stream: StreamId, length: usize) {
        if 0 < length {
            self.heard.push_back(Heard::Sent { stream, length });
        }
    }

    fn drop_outgoing(&mut self, stream: StreamId) {
        if let Some(outgoing) = self.outgoing.remove(stream.0) {
            self.note_sent(stream, outgoing.queued());
        }
    }

    fn resume(&mut self, stream: StreamId) {
        let Some(incoming @ Incoming::Paused(_)) = self.incoming.get_mut(&stream.0) else {
            return;
        };
        if let Incoming::Paused(held) = std::mem::replace(incoming, Incoming::Open) {
            // Before what has come behind it and was not told yet.
            for (bytes, fin) in held.into_iter().rev() {
                self.heard.push_front(Heard::Stream { stream, bytes, fin });
            }
        }
        self.note_paused(stream, false);
    }

    /// The other side is to be told to pause, or to go on: each takes back the other.
    fn note_paused(&mut self, stream: StreamId, paused: bool) {
        if self.paused.remove(&stream).is_none() {
            self.paused.insert(stream, paused);
        }
    }

    fn push_end(&mut self, end: Content) {
        self.closed |= ENDS_MAX <= self.aside.len() - self.datagrams;
        self.aside.push_back(end);
    }

    /// What is to be handed over next and is no part of a stream: ends of streams, datagrams, and
    /// which streams are paused. It has then left.
    pub(super) fn poll_aside(&mut self) -> Option<Content> {
        if let Some(content) = self.aside.pop_front() {
            self.datagrams -= usize::from(matches!(content, Content::Datagram { .. }));
            return Some(content);
        }
        let (stream, paused) = self.paused.pop_first()?;
        Some(if paused { Content::Pause { stream } } else { Content::Resume { stream } })
    }

    /// What is to be handed over next of streams. It has then left.
    pub(super) fn poll_stream(&mut self) -> Option<Content> {
        loop {
            let turn = self.outgoing.poll()?;
            let Some(outgoing) = self.outgoing.get_mut(turn) else { continue };
            if !outgoing.has_something() {
                continue;
            }
            let bytes = outgoing.pop().unwrap_or_default();
            let (stream, length) = (StreamId(turn.stream()), bytes.len());
            let fin = outgoing.fin && outgoing.is_drained();
            let more = outgoing.has_something();
            self.outgoing.served(turn, length);
            if fin {
                self.outgoing.remove(turn.stream());
            } else if more {
                self.outgoing.ready(turn);
            }
            self.note_sent(stream, length);
            return Some(Content::Stream { stream, bytes, fin });
        }
    }

    /// The other side has said something.
    pub(super) fn receive(&mut self, content: Content) {
        match content {
            Content::Stream { stream, bytes, fin } => {
                self.note_peers(stream);
                self.incoming.entry(stream.0).or_insert(Incoming::Open);
                self.heard.push_back(Heard::Stream { stream, bytes, fin });
            }
            Content::Reset { stream, code } => {
                self.note_peers(stream);
                if !matches!(self.incoming.remove(&stream.0), Some(Incoming::Stopped)) {
                    self.heard.push_back(Heard::Reset { stream, code });
                }
            }
            Content::Stop { stream, code } => {
                // What is not known has left whole.
                if self.outgoing.find(stream.0).is_some() {
                    self.drop_outgoing(stream);
                    self.push_end(Content::Reset { stream, code });
                    self.heard.push_back(Heard::Stop { stream, code });
                }
            }
            Content::Pause { stream } => self.set_paused(stream, true),
            Content::Resume { stream } => self.set_paused(stream, false),
            Content::Datagram { bytes } => self.heard.push_back(Heard::Datagram { bytes }),
            Content::Notice(_) | Content::Close => {}
        }
    }

    /// Takes note of a stream that the other side opened, so that it can be answered.
    fn note_peers(&mut self, id: StreamId) {
        if id.opener() == self.side || !id.is_bidirectional() {
            return;
        }
        let index = id.0 >> 2;
        let is_new = if self.seen <= index {
            self.skipped.extend(self.seen..index);
            self.seen = index + 1;
            true
        } else {
            self.skipped.remove(&index)
        };
        if is_new {
            self.open(id);
        }
    }

    fn set_paused(&mut self, stream: StreamId, paused: bool) {
        let Some(turn) = self.outgoing.find(stream.0) else { return };
        let Some(outgoing) = self.outgoing.get_mut(turn) else { return };
        outgoing.paused = paused;
        if outgoing.has_something() {
            self.outgoing.ready(turn);
        }
    }

    /// What the session must be told next. What it then wants is to be done before it is told more.
    pub(super) fn hear(&mut self) -> Option<Heard> {
        loop {
            match self.heard.pop_front()? {
                Heard::Stream { stream, bytes, fin } => {
                    match self.incoming.get_mut(&stream.0) {
                        Some(Incoming::Paused(held)) => {
                            held.push_back((bytes, fin));
                            continue;
                        }
                        Some(Incoming::Open) => {
                            if fin {
                                self.incoming.remove(&stream.0);
                            }
                        }
                        Some(Incoming::Stopped) => {
                            if fin {
                                self.incoming.remove(&stream.0);
                            }
                            continue;
                        }
                        // It was reset since.
                        None => continue,
                    }
                    return Some(Heard::Stream { stream, bytes, fin });
                }
                other => return Some(other),
            }
        }
    }
}

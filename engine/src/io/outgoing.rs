//! The sending sides of one connection's streams.
//!
//! quiche takes no more bytes than the congestion window has room for, so the queue is here: per
//! stream a list of references. Streams that may send stand in a heap by urgency, then by who
//! waited longest; a stream leaves it when its queue is empty, when its flow control is used up
//! (quiche tells when it is not), or when the peer allows no more streams.
//!
//! A stream is forgotten as soon as its last byte, or its reset, has been handed to quiche.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, VecDeque},
};

use bytes::Bytes;
use quiche::Shutdown;

use super::{connection::Event, quic::Quic, stream_map::StreamMap};
use crate::{
    metrics::Counters,
    transport::{Side, StreamId},
};

/// Urgency of a stream that was never given one.
const URGENCY: u8 = 127;
/// Bytes that a stream may hand over before others of its urgency have their turn.
const SHARE: usize = 32 << 10;
/// Streams in a row that had no room, after which the connection is taken to have none.
const MISSES_MAX: u32 = 8;
/// Turns that may be stale before they are looked for.
const TURNS_SPARE: usize = 64;
/// What a stop is told with if quiche has already forgotten the stream, and with it the code.
const CANCELLED: u64 = 1;
/// What a stream is reset with if quiche refuses its bytes, which never happens.
const INTERNAL_ERROR: u64 = 0;

/// The sending sides.
#[derive(Debug)]
pub(super) struct Outgoing {
    side: Side,
    streams: StreamMap<Stream>,
    ready: BinaryHeap<Reverse<Turn>>,
    turns: u64,
    /// Streams in [`State::Blocked`].
    blocked: usize,
    /// Streams in [`State::Waiting`], per kind, by number.
    waiting: [BTreeSet<u64>; 2],
    /// One more than the highest index of ours that quiche has opened, per kind.
    opened: [u64; 2],
    /// One more than the highest index of ours that an action named, per kind: below it, a stream
    /// that is not known is over.
    used: [u64; 2],
    /// The same of the peer's bidirectional streams, of which those in `skipped` were not seen yet.
    seen: u64,
    skipped: BTreeSet<u64>,
    queued: usize,
    /// Streams that quiche has named; empty but while it is asked.
    named: Vec<u64>,
    /// Streams found stopped, and their codes; empty but while they are looked for.
    stops: Vec<(u64, u64)>,
}

/// A place in the heap: the most urgent first, then the one that waited longest.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Turn {
    urgency: u8,
    number: u64,
    stream: u64,
}

#[derive(Debug)]
struct Stream {
    first: Option<Bytes>,
    rest: VecDeque<Bytes>,
    queued: usize,
    fin: bool,
    urgency: u8,
    /// Whether quiche knows it.
    opened: bool,
    /// What it is reset with once it is open.
    reset: Option<u64>,
    state: State,
    /// The number of its valid turn, if it is ready.
    turn: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Nothing is queued.
    Idle,
    /// It has a turn.
    Ready,
    /// It has no room; quiche will tell.
    Blocked,
    /// The peer allows no more streams of its kind.
    Waiting,
}

/// How a stream's turn ended.
enum Outcome {
    Drained,
    Finished,
    Share,
    Blocked,
    Waiting,
    Stopped(u64),
    Gone,
}

/// Where the consequences of an action go.
pub(super) struct Output<'a> {
    /// What the driver must be told.
    pub(super) events: &'a mut VecDeque<Event>,
    /// What is counted.
    pub(super) counters: &'a mut Counters,
}

impl Output<'_> {
    fn sent(&mut self, stream: u64, length: usize) {
        if 0 < length {
            self.counters.stream_bytes_queued -= length as u64;
            self.counters.stream_bytes_sent_total += length as u64;
            self.events.push_back(Event::Sent { stream: StreamId(stream), length });
        }
    }

    fn dropped(&mut self, stream: u64, queued: usize) {
        if 0 < queued {
            self.counters.stream_bytes_queued -= queued as u64;
            self.refused(stream, queued);
        }
    }

    /// Bytes that were never queued.
    pub(super) fn refused(&mut self, stream: u64, length: usize) {
        if 0 < length {
            self.counters.stream_bytes_dropped_total += length as u64;
            self.events.push_back(Event::Sent { stream: StreamId(stream), length });
        }
    }
}

impl Stream {
    const fn new(opened: bool) -> Self {
        Self {
            first: None,
            rest: VecDeque::new(),
            queued: 0,
            fin: false,
            urgency: URGENCY,
            opened,
            reset: None,
            state: State::Idle,
            turn: 0,
        }
    }

    fn push(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
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

    fn clear(&mut self) -> usize {
        self.first = None;
        self.rest.clear();
        std::mem::take(&mut self.queued)
    }

    /// Hands over what there is room for; says how much, and how it ended.
    fn write(&mut self, quic: &mut Quic, id: u64) -> (usize, Outcome) {
        let mut written = 0;
        if !self.opened {
            match quic.stream_priority(id, self.urgency, true) {
                Ok(()) => self.opened = true,
                Err(quiche::Error::StreamLimit) => return (0, Outcome::Waiting),
                Err(_) => return (0, Outcome::Gone),
            }
        }
        if let Some(code) = self.reset {
            return match quic.stream_shutdown(id, Shutdown::Write, code) {
                Ok(()) => (0, Outcome::Finished),
                Err(_) => (0, Outcome::Gone),
            };
        }
        loop {
            match quic.stream_capacity(id) {
                Err(quiche::Error::StreamStopped(code)) => {
                    return (written, Outcome::Stopped(code));
                }
                Err(_) => return (written, Outcome::Gone),
                // An end without bytes needs no room.
                Ok(0) if !self.is_drained() => return (written, Outcome::Blocked),
                Ok(_) => {}
            }
            if SHARE < written && !self.is_drained() {
                return (written, Outcome::Share);
            }
            let bytes = match self.pop() {
                Some(bytes) => bytes,
                None if self.fin => Bytes::new(),
                None => return (written, Outcome::Drained),
            };
            let length = bytes.len();
            let last = self.fin && self.is_drained();
            match quic.stream_send_zc(id, bytes, last) {
                Ok((taken, rest)) => {
                    written += taken;
                    self.queued -= taken;
                    if taken < length {
                        self.first = rest;
                        return (written, Outcome::Blocked);
                    }
                }
                Err(quiche::Error::StreamStopped(code)) => {
                    return (written, Outcome::Stopped(code));
                }
                Err(error) => {
                    // There was room, so this cannot be; the bytes are lost, so is the stream.
                    tracing::error!(stream = id, %error, "QUIC refuses bytes");
                    quic.stream_shutdown(id, Shutdown::Write, INTERNAL_ERROR).ok();
                    return (written, Outcome::Gone);
                }
            }
            if last {
                return (written, Outcome::Finished);
            }
        }
    }
}

impl Outgoing {
    /// No streams yet, on our `side` of a connection.
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            streams: StreamMap::default(),
            ready: BinaryHeap::new(),
            turns: 0,
            blocked: 0,
            waiting: [BTreeSet::new(), BTreeSet::new()],
            opened: [0; 2],
            used: [0; 2],
            seen: 0,
            skipped: BTreeSet::new(),
            queued: 0,
            named: Vec::new(),
            stops: Vec::new(),
        }
    }

    /// Takes note of a stream that the peer opened, so that it can be answered, or stopped.
    pub(super) fn note_peers(&mut self, id: StreamId) {
        if id.opener() == self.side || !id.is_bidirectional() {
            return;
        }
        let index = id.0 >> 2;
        let new = if self.seen <= index {
            // No more than the streams that the peer may have open.
            self.skipped.extend(self.seen..index);
            self.seen = index + 1;
            true
        } else {
            self.skipped.remove(&index)
        };
        if new {
            self.streams.insert(id.0, Stream::new(true));
        }
    }

    /// Whether no stream has anything to hand over, not even an end.
    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.blocked == 0 && self.waiting.iter().all(BTreeSet::is_empty)
    }

    /// Queues bytes.
    pub(super) fn send(&mut self, id: StreamId, bytes: Bytes, fin: bool, output: &mut Output<'_>) {
        let length = bytes.len();
        match self.stream(id) {
            Some(stream) if !stream.fin && stream.reset.is_none() => {
                if 0 < length {
                    stream.push(bytes);
                }
                stream.fin = fin;
                let idle = stream.state == State::Idle;
                self.queued += length;
                output.counters.stream_bytes_queued += length as u64;
                if idle && (fin || 0 < length) {
                    self.make_ready(id.0);
                }
            }
            _ => output.refused(id.0, length),
        }
    }

    /// Drops what is queued and resets.
    pub(super) fn reset(
        &mut self,
        quic: &mut Quic,
        id: StreamId,
        code: u64,
        output: &mut Output<'_>,
    ) {
        let Some(stream) = self.stream(id) else {
            // All its bytes are with quiche, which may still have to send some.
            quic.stream_shutdown(id.0, Shutdown::Write, code).ok();
            return;
        };
        if stream.reset.is_some() {
            return;
        }
        let dropped = stream.clear();
        stream.fin = false;
        if stream.opened {
            quic.stream_shutdown(id.0, Shutdown::Write, code).ok();
            self.forget(id.0);
        } else {
            // The peer must learn that this number is used up.
            stream.reset = Some(code);
            if stream.state == State::Idle {
                self.make_ready(id.0);
            }
        }
        self.queued -= dropped;
        output.dropped(id.0, dropped);
    }

    /// Sets how soon a stream is sent.
    pub(super) fn prioritize(&mut self, quic: &mut Quic, id: StreamId, urgency: u8) {
        let Some(stream) = self.stream(id) else {
            if quic.stream_capacity(id.0).is_ok() {
                quic.stream_priority(id.0, urgency, true).ok();
            }
            return;
        };
        stream.urgency = urgency;
        if stream.opened && quic.stream_capacity(id.0).is_ok() {
            quic.stream_priority(id.0, urgency, true).ok();
        }
        if stream.state == State::Ready {
            self.make_ready(id.0);
        }
    }

    /// The most that quiche would still take for any stream.
    pub(super) fn room(&self, quic: &mut Quic) -> usize {
        let capacity = |id: &u64| quic.stream_capacity(*id).unwrap_or(0);
        self.streams.keys().map(capacity).max().unwrap_or(0)
    }

    /// Hands to quiche what it has room for; says how much.
    pub(super) fn pump(&mut self, quic: &mut Quic, output: &mut Output<'_>) -> usize {
        self.release_waiting(quic);
        if 0 < self.blocked {
            self.collect_writable(quic, output);
        }
        let mut handed = 0;
        let mut misses = 0;
        while misses < MISSES_MAX
            && let Some(Reverse(turn)) = self.ready.pop()
        {
            let id = turn.stream;
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            if stream.state != State::Ready || stream.turn != turn.number {
                continue;
            }
            let was_open = stream.opened;
            let (written, outcome) = stream.write(quic, id);
            if !was_open && stream.opened {
                self.note_opened(id);
            }
            self.queued -= written;
            handed += written;
            output.sent(id, written);
            misses = if written == 0 { misses } else { 0 };
            match outcome {
                Outcome::Drained => self.set_state(id, State::Idle),
                Outcome::Finished => self.forget(id),
                Outcome::Share => self.make_ready(id),
                Outcome::Blocked => {
                    misses += 1;
                    self.block(quic, id, output);
                }
                Outcome::Waiting => {
                    self.set_state(id, State::Waiting);
                    self.waiting[kind(id)].insert(id);
                }
                Outcome::Stopped(code) => self.stopped(id, code, output),
                Outcome::Gone => self.gone(id, output),
            }
        }
        handed
    }

    /// Finds streams that the peer stopped while nothing was queued for them: quiche tells of
    /// those only if asked. Says how many were asked.
    pub(super) fn scan(
        &mut self,
        quic: &mut Quic,
        thorough: bool,
        output: &mut Output<'_>,
    ) -> usize {
        let mut stopped = std::mem::take(&mut self.stops);
        #[expect(clippy::iter_over_hash_type, reason = "each is asked alone")]
        for (&id, stream) in &self.streams {
            if stream.opened
                && stream.state != State::Ready
                && let Err(error) = quic.stream_capacity(id)
            {
                stopped.push((id, stop_code(error)));
            }
        }
        if thorough || !stopped.is_empty() {
            self.collect_writable(quic, output);
        }
        for (id, code) in stopped.drain(..) {
            if self.streams.contains_key(&id) {
                self.stopped(id, code, output);
            }
        }
        self.stops = stopped;
        self.streams.len()
    }

    /// Takes note of streams that quiche says have room, or were stopped.
    ///
    /// quiche names a stream once, and then not again before it is written to. It also forgets a
    /// stream that is stopped while it is not to be named, even before anyone could ask for the
    /// code. So every stream that is not stopped is marked again, by writing nothing to it.
    fn collect_writable(&mut self, quic: &mut Quic, output: &mut Output<'_>) {
        while let Some(id) = quic.stream_writable_next() {
            // Asking also lets quiche forget a stream that was stopped after its end.
            let capacity = quic.stream_capacity(id);
            let Some(stream) = self.streams.get(&id) else { continue };
            match capacity {
                Ok(_) => {
                    if stream.state == State::Blocked {
                        self.make_ready(id);
                    }
                    self.named.push(id);
                }
                Err(error) => self.stopped(id, stop_code(error), output),
            }
        }
        for id in self.named.drain(..) {
            quic.stream_send(id, &[], false).ok();
        }
    }

    /// Lets streams go on that the peer now allows.
    fn release_waiting(&mut self, quic: &Quic) {
        let left = [quic.peer_streams_left_bidi(), quic.peer_streams_left_uni()];
        for (kind, left) in left.into_iter().enumerate() {
            let allowed = self.opened[kind] + left;
            while let Some(&id) = self.waiting[kind].first()
                && id >> 2 < allowed
            {
                self.waiting[kind].pop_first();
                self.make_ready(id);
            }
        }
    }

    /// The stream of an action. A number of ours that is new becomes a stream.
    fn stream(&mut self, id: StreamId) -> Option<&mut Stream> {
        let index = id.0 >> 2;
        let used = &mut self.used[kind(id.0)];
        if id.opener() == self.side && *used <= index {
            *used = index + 1;
            self.streams.insert(id.0, Stream::new(false));
        }
        self.streams.get_mut(&id.0)
    }

    fn note_opened(&mut self, id: u64) {
        let opened = &mut self.opened[kind(id)];
        *opened = (*opened).max((id >> 2) + 1);
    }

    fn make_ready(&mut self, id: u64) {
        self.set_state(id, State::Ready);
        self.turns += 1;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.turn = self.turns;
            let turn = Turn { urgency: stream.urgency, number: self.turns, stream: id };
            self.ready.push(Reverse(turn));
        }
        if self.streams.len() * 2 + TURNS_SPARE < self.ready.len() {
            self.drop_stale_turns();
        }
    }

    /// Drops turns that are no longer valid: their streams have been given others since.
    fn drop_stale_turns(&mut self) {
        let streams = &self.streams;
        self.ready.retain(|Reverse(turn)| {
            let stream = streams.get(&turn.stream);
            stream.is_some_and(|it| it.state == State::Ready && it.turn == turn.number)
        });
    }

    /// Asks quiche to tell when the stream has room again.
    fn block(&mut self, quic: &mut Quic, id: u64, output: &mut Output<'_>) {
        self.set_state(id, State::Blocked);
        match quic.stream_writable(id, 1) {
            Ok(false) => {}
            Ok(true) => self.make_ready(id),
            Err(error) => self.stopped(id, stop_code(error), output),
        }
    }

    fn stopped(&mut self, id: u64, code: u64, output: &mut Output<'_>) {
        output.counters.streams_stopped_total += 1;
        output.events.push_back(Event::Stop { stream: StreamId(id), code });
        self.gone(id, output);
    }

    fn gone(&mut self, id: u64, output: &mut Output<'_>) {
        let dropped = self.streams.get_mut(&id).map_or(0, Stream::clear);
        self.queued -= dropped;
        self.forget(id);
        output.dropped(id, dropped);
    }

    fn forget(&mut self, id: u64) {
        self.set_state(id, State::Idle);
        self.streams.remove(&id);
    }

    fn set_state(&mut self, id: u64, state: State) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match std::mem::replace(&mut stream.state, state) {
            State::Blocked => self.blocked -= 1,
            State::Waiting => {
                self.waiting[kind(id)].remove(&id);
            }
            State::Idle | State::Ready => {}
        }
        if state == State::Blocked {
            self.blocked += 1;
        }
    }

    /// Forgets everything; says how much was queued.
    pub(super) fn clear(&mut self, counters: &mut Counters) {
        counters.stream_bytes_queued -= self.queued as u64;
        counters.stream_bytes_dropped_total += self.queued as u64;
        *self = Self::new(self.side);
    }
}

/// 0 for bidirectional, 1 for unidirectional.
const fn kind(id: u64) -> usize {
    (id >> 1 & 1) as usize
}

/// Why an open stream that was not ended takes no more bytes: it was stopped, even if quiche has
/// forgotten it since.
const fn stop_code(error: quiche::Error) -> u64 {
    match error {
        quiche::Error::StreamStopped(code) => code,
        _ => CANCELLED,
    }
}

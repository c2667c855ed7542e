//! The sending sides of one connection's streams.
//!
//! quiche takes no more bytes than the congestion window has room for, so the queue is here: per
//! stream a list of references. The [`Scheduler`] says which stream sends next; a stream leaves it
//! when its queue is empty, when its flow control is used up (quiche tells when it is not), or when
//! the peer allows no more streams. What is with quiche can not be overtaken, so it is given little
//! at a time, and objects leave a little of the connection's flow control to messages.
//!
//! A stream is forgotten as soon as its last byte, or its reset, has been handed to quiche.

mod reserve;
mod stream;

use std::collections::{BTreeSet, VecDeque};

use aip_codec::moqt::id::RequestId;
use bytes::Bytes;
use quiche::Shutdown;

use self::{
    reserve::Reserve,
    stream::{INCREMENTAL, Outcome, State, Stream, stop_code},
};
use super::{connection::Event, quic::Quic};
use crate::{
    metrics::Counters,
    schedule::{Class, Precedence, Scheduler, Turn},
    transport::{Side, StreamId},
};

/// Streams in a row that had no room, after which the connection is taken to have none.
const MISSES_MAX: u32 = 8;
/// Bytes that quiche is given before packets are written of them.
const HANDED_MAX: usize = 32 << 10;

/// The sending sides.
#[derive(Debug)]
pub(super) struct Outgoing {
    side: Side,
    streams: Scheduler<Stream>,
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

/// What was handed to quiche.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pumped {
    pub(super) bytes: usize,
    /// How often a stream had its turn.
    pub(super) turns: usize,
    /// Whether bytes or an end of a stream were handed over.
    pub(super) has_progress: bool,
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

impl Outgoing {
    /// No streams yet, on our `side` of a connection.
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            streams: Scheduler::default(),
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
            self.insert(id, true);
        }
    }

    fn insert(&mut self, id: StreamId, opened: bool) -> Turn {
        let precedence = Precedence::request(RequestId(id.0));
        self.streams.insert(id.0, &precedence, Stream::new(opened))
    }

    /// Whether no stream has anything to hand over, not even an end.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.is_idle() && self.blocked == 0 && self.waiting.iter().all(BTreeSet::is_empty)
    }

    /// Whether a stream has something to hand over now.
    pub(super) const fn is_ready(&self) -> bool {
        !self.streams.is_idle()
    }

    /// Queues bytes.
    pub(super) fn send(&mut self, id: StreamId, bytes: Bytes, fin: bool, output: &mut Output<'_>) {
        let length = bytes.len();
        let turn = self.turn(id);
        match turn.and_then(|turn| self.streams.get_mut(turn)) {
            Some(stream) if !stream.fin && stream.reset.is_none() => {
                if 0 < length {
                    stream.push(bytes);
                }
                stream.fin = fin;
                let idle = stream.state == State::Idle;
                self.queued += length;
                output.counters.stream_bytes_queued += length as u64;
                if idle && (fin || 0 < length) {
                    self.make_ready(turn);
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
        let turn = self.turn(id);
        let Some(stream) = turn.and_then(|turn| self.streams.get_mut(turn)) else {
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
                self.make_ready(turn);
            }
        }
        self.queued -= dropped;
        output.dropped(id.0, dropped);
    }

    /// Sets when a stream is sent.
    pub(super) fn prioritize(&mut self, quic: &mut Quic, id: StreamId, precedence: Precedence) {
        let mut opened = true;
        if let Some(turn) = self.turn(id) {
            opened = self.streams.get_mut(turn).is_some_and(|stream| stream.opened);
            self.streams.set(id.0, &precedence);
        }
        // quiche would open a stream that it has forgotten.
        if opened && quic.stream_capacity(id.0).is_ok() {
            quic.stream_priority(id.0, precedence.urgency(), INCREMENTAL).ok();
        }
    }

    /// The most that quiche would still take for any stream.
    pub(super) fn room(&self, quic: &mut Quic) -> usize {
        let capacity = |(id, _)| quic.stream_capacity(id).unwrap_or(0);
        self.streams.iter().map(capacity).max().unwrap_or(0)
    }

    /// Hands to quiche what it has room for.
    pub(super) fn pump(&mut self, quic: &mut Quic, output: &mut Output<'_>) -> Pumped {
        self.release_waiting(quic);
        if 0 < self.blocked {
            self.collect_writable(quic, output);
        }
        let mut pumped = Pumped::default();
        let mut misses = 0;
        let mut reserve = Reserve::default();
        while misses < MISSES_MAX
            && pumped.bytes < HANDED_MAX
            && let Some(turn) = self.streams.poll()
        {
            pumped.turns += 1;
            let Some(precedence) = self.streams.precedence(turn) else { continue };
            let Some(stream) = self.streams.get_mut(turn) else { continue };
            let (id, was_open) = (turn.stream(), stream.opened);
            let keeps = match precedence.class {
                Class::Control | Class::Request => None,
                Class::Object => Some(&mut reserve),
            };
            let (written, outcome) = stream.write(quic, (id, precedence.urgency()), keeps);
            let is_opened = !was_open && stream.opened;
            stream.state = State::Idle;
            self.streams.served(turn, written);
            if is_opened {
                self.note_opened(id);
            }
            self.queued -= written;
            pumped.bytes += written;
            pumped.has_progress |= 0 < written || matches!(outcome, Outcome::Finished);
            output.sent(id, written);
            misses = if written == 0 { misses } else { 0 };
            match outcome {
                Outcome::Drained => {}
                Outcome::Finished => drop(self.forget(id)),
                Outcome::Share => self.make_ready(Some(turn)),
                Outcome::Blocked => {
                    misses += 1;
                    self.block(quic, turn, output);
                }
                Outcome::Waiting => {
                    self.set_state(turn, State::Waiting);
                    self.waiting[kind(id)].insert(id);
                }
                Outcome::Stopped(code) => self.stopped(id, code, output),
                Outcome::Gone => self.gone(id, output),
            }
        }
        pumped
    }

    /// Finds streams that the peer stopped while nothing was queued for them, or after their end:
    /// quiche tells of those only if asked. Says how many were asked.
    pub(super) fn scan(&mut self, quic: &mut Quic, output: &mut Output<'_>) -> usize {
        let mut stopped = std::mem::take(&mut self.stops);
        for (id, stream) in self.streams.iter() {
            if stream.opened
                && stream.state != State::Ready
                && let Err(error) = quic.stream_capacity(id)
            {
                stopped.push((id, stop_code(error)));
            }
        }
        self.collect_writable(quic, output);
        for (id, code) in stopped.drain(..) {
            if self.streams.find(id).is_some() {
                self.stopped(id, code, output);
            }
        }
        self.stops = stopped;
        self.streams.stream_count()
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
            let Some(turn) = self.streams.find(id) else { continue };
            match capacity {
                Ok(_) => {
                    if self.state(turn) == Some(State::Blocked) {
                        self.make_ready(Some(turn));
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
                self.make_ready(self.streams.find(id));
            }
        }
    }

    /// The stream of an action. A number of ours that is new becomes a stream.
    fn turn(&mut self, id: StreamId) -> Option<Turn> {
        let index = id.0 >> 2;
        if id.opener() == self.side && self.used[kind(id.0)] <= index {
            self.used[kind(id.0)] = index + 1;
            return Some(self.insert(id, false));
        }
        self.streams.find(id.0)
    }

    fn note_opened(&mut self, id: u64) {
        let opened = &mut self.opened[kind(id)];
        *opened = (*opened).max((id >> 2) + 1);
    }

    fn make_ready(&mut self, turn: Option<Turn>) {
        let Some(turn) = turn else { return };
        self.set_state(turn, State::Ready);
        self.streams.ready(turn);
    }

    /// Asks quiche to tell when the stream has room again.
    fn block(&mut self, quic: &mut Quic, turn: Turn, output: &mut Output<'_>) {
        self.set_state(turn, State::Blocked);
        match quic.stream_writable(turn.stream(), 1) {
            Ok(false) => {}
            Ok(true) => self.make_ready(Some(turn)),
            Err(error) => self.stopped(turn.stream(), stop_code(error), output),
        }
    }

    fn stopped(&mut self, id: u64, code: u64, output: &mut Output<'_>) {
        output.counters.streams_stopped_total += 1;
        output.events.push_back(Event::Stop { stream: StreamId(id), code });
        self.gone(id, output);
    }

    fn gone(&mut self, id: u64, output: &mut Output<'_>) {
        let dropped = self.forget(id).map_or(0, |mut stream| stream.clear());
        self.queued -= dropped;
        output.dropped(id, dropped);
    }

    fn forget(&mut self, id: u64) -> Option<Stream> {
        let turn = self.streams.find(id)?;
        self.set_state(turn, State::Idle);
        self.streams.remove(id)
    }

    fn state(&mut self, turn: Turn) -> Option<State> {
        self.streams.get_mut(turn).map(|stream| stream.state)
    }

    fn set_state(&mut self, turn: Turn, state: State) {
        let Some(stream) = self.streams.get_mut(turn) else { return };
        match std::mem::replace(&mut stream.state, state) {
            State::Blocked => self.blocked -= 1,
            State::Waiting => {
                self.waiting[kind(turn.stream())].remove(&turn.stream());
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

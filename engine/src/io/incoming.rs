//! The receiving sides of one connection's streams.
//!
//! Only streams that were paused or stopped are remembered, until they end.

use std::collections::VecDeque;

use bytes::Bytes;
use quiche::Shutdown;

use super::{chunk_pool::ChunkPool, connection::Event, quic::Quic};
use crate::{
    metrics::Counters,
    stream_map::StreamMap,
    transport::{Side, StreamId},
};

/// Bytes of a stopped stream that are thrown away at once.
const DISCARD: usize = 64 << 10;

/// The receiving sides.
#[derive(Debug)]
pub(super) struct Incoming {
    side: Side,
    streams: StreamMap<State>,
    /// Streams to be read though quiche does not name them again.
    resumed: VecDeque<u64>,
    /// How many more of the peer's streams may be stopped aloud, per kind: see [`Self::stop`].
    stops_left: [u64; 2],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// It is not read. `waiting`: quiche has named it since, or there was more when it was paused.
    Paused { waiting: bool },
    /// What comes is thrown away.
    Stopped,
}

impl Incoming {
    /// No streams yet, on our `side`, of a peer that may open so many of either kind at once.
    pub(super) fn new(side: Side, bidirectional_max: u64, unidirectional_max: u64) -> Self {
        Self {
            side,
            streams: StreamMap::default(),
            resumed: VecDeque::new(),
            stops_left: [bidirectional_max / 4, unidirectional_max / 4],
        }
    }

    /// Streams remembered.
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there may be something to read now.
    pub(super) fn is_ready(&self, quic: &Quic) -> bool {
        !self.resumed.is_empty() || quic.is_readable()
    }

    /// Reads one piece; `budget` says how many bytes may still be read.
    pub(super) fn read(
        &mut self,
        quic: &mut Quic,
        pool: &mut ChunkPool,
        budget: &mut usize,
        counters: &mut Counters,
    ) -> Option<Event> {
        while 0 < *budget {
            let id = self.resumed.pop_front().or_else(|| quic.stream_readable_next())?;
            match self.streams.get_mut(&id) {
                Some(State::Paused { waiting }) => *waiting = true,
                Some(State::Stopped) => {
                    *budget = budget.saturating_sub(self.discard(quic, id));
                }
                None => {
                    if let Some(event) = read_stream(quic, pool, id, counters) {
                        if let Event::Stream { bytes, .. } = &event {
                            // An event costs even if it carries no bytes.
                            *budget = budget.saturating_sub(bytes.len().max(64));
                        }
                        return Some(event);
                    }
                }
            }
        }
        None
    }

    /// Stops to read a stream, until [`Self::resume`].
    pub(super) fn pause(&mut self, quic: &mut Quic, id: StreamId) {
        if is_over(quic, id.0) {
            return;
        }
        let waiting = quic.stream_readable(id.0);
        self.streams.entry(id.0).or_insert(State::Paused { waiting });
    }

    /// Reads a stream again.
    pub(super) fn resume(&mut self, id: StreamId) {
        if let Some(&State::Paused { waiting }) = self.streams.get(&id.0) {
            self.streams.remove(&id.0);
            if waiting {
                self.resumed.push_back(id.0);
            }
        }
    }

    /// Delivers no more of a stream, and asks the peer to send no more.
    ///
    /// quiche never forgets a stream that was stopped before its end, and never allows the peer
    /// another in its place (cloudflare/quiche#1968). So only a quarter of the streams that the
    /// peer may have open is ever stopped aloud; further ones are read and thrown away.
    pub(super) fn stop(&mut self, quic: &mut Quic, id: StreamId, code: u64) {
        if is_over(quic, id.0) {
            self.streams.remove(&id.0);
            return;
        }
        let local = id.opener() == self.side;
        let left = &mut self.stops_left[usize::from(!id.is_bidirectional())];
        if (local || 0 < *left) && quic.stream_shutdown(id.0, Shutdown::Read, code).is_ok() {
            *left = left.saturating_sub(u64::from(!local));
            self.streams.remove(&id.0);
        } else {
            self.streams.insert(id.0, State::Stopped);
            self.resumed.push_back(id.0);
        }
    }

    /// Finds a paused stream that was reset, or has nothing left but its end: nobody reads it, so
    /// quiche cannot tell.
    pub(super) fn scan(&mut self, quic: &mut Quic, counters: &mut Counters) -> Option<Event> {
        #[expect(clippy::iter_over_hash_type, reason = "each is asked alone")]
        for (&id, state) in &self.streams {
            let asked = matches!(state, State::Paused { .. })
                && quic.stream_readable(id)
                && quic.stream_readable_len(id, 1) == 0;
            if !asked {
                continue;
            }
            let stream = StreamId(id);
            let event = match quic.stream_discard(id, 1) {
                Err(quiche::Error::StreamReset(code)) => {
                    counters.streams_reset_total += 1;
                    Event::Reset { stream, code }
                }
                Ok((_, true)) => Event::Stream { stream, bytes: Bytes::new(), fin: true },
                Ok(_) | Err(_) => continue,
            };
            self.streams.remove(&id);
            return Some(event);
        }
        None
    }

    /// Throws away what is there of a stopped stream; says how much.
    fn discard(&mut self, quic: &mut Quic, id: u64) -> usize {
        match quic.stream_discard(id, DISCARD) {
            Ok((length, false)) => length,
            Err(quiche::Error::Done) => 0,
            Ok((length, true)) => {
                self.streams.remove(&id);
                length
            }
            Err(_) => {
                self.streams.remove(&id);
                0
            }
        }
    }
}

/// Reads a piece of a stream that may be read.
fn read_stream(
    quic: &mut Quic,
    pool: &mut ChunkPool,
    id: u64,
    counters: &mut Counters,
) -> Option<Event> {
    let stream = StreamId(id);
    let wanted = quic.stream_readable_len(id, super::chunk_pool::CHUNK);
    match quic.stream_recv_buf(id, pool.room(wanted)) {
        Ok((length, fin)) => {
            counters.stream_bytes_received_total += length as u64;
            let bytes = if length == 0 { Bytes::new() } else { pool.piece() };
            (0 < length || fin).then_some(Event::Stream { stream, bytes, fin })
        }
        Err(quiche::Error::StreamReset(code)) => {
            counters.streams_reset_total += 1;
            Some(Event::Reset { stream, code })
        }
        Err(_) => None,
    }
}

/// Whether the peer has ended a stream and all of it was read. Not so for one of ours that is not
/// open yet.
fn is_over(quic: &mut Quic, id: u64) -> bool {
    let known = !matches!(quic.stream_capacity(id), Err(quiche::Error::InvalidStreamState(_)));
    quic.stream_finished(id) && (known || quic.stream_closed(id))
}

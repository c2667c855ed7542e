//! The sending side of one stream: its queue, and how it is emptied.

use std::collections::VecDeque;

use bytes::Bytes;
use quiche::Shutdown;

use super::reserve::Reserve;
use crate::io::quic::Quic;

/// quiche mixes the bytes that it has of streams of one urgency. That spoils little, since it has
/// few at a time; sent one stream after the other, they come to a standstill (quiche 0.30: both ends
/// wait once a bidirectional stream's window is used up).
pub(super) const INCREMENTAL: bool = true;
/// Bytes that a stream may hand over before the others have their turn.
const SHARE: usize = 16 << 10;
/// What a stop is told with if quiche has already forgotten the stream, and with it the code.
const CANCELLED: u64 = 1;
/// What a stream is reset with if quiche refuses its bytes, which never happens.
const INTERNAL_ERROR: u64 = 0;

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    first: Option<Bytes>,
    rest: VecDeque<Bytes>,
    pub(super) queued: usize,
    pub(super) fin: bool,
    /// Whether quiche knows it.
    pub(super) opened: bool,
    /// What it is reset with once it is open.
    pub(super) reset: Option<u64>,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
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
pub(super) enum Outcome {
    Drained,
    Finished,
    Share,
    Blocked,
    Waiting,
    Stopped(u64),
    Gone,
}

impl Stream {
    pub(super) const fn new(opened: bool) -> Self {
        Self {
            first: None,
            rest: VecDeque::new(),
            queued: 0,
            fin: false,
            opened,
            reset: None,
            state: State::Idle,
        }
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
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

    /// What quiche did not take goes before all else.
    fn put_back(&mut self, rest: Option<Bytes>) {
        if let Some(next) = self.first.take() {
            self.rest.push_front(next);
        }
        self.first = rest;
    }

    pub(super) fn is_drained(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    pub(super) fn clear(&mut self) -> usize {
        self.first = None;
        self.rest.clear();
        std::mem::take(&mut self.queued)
    }

    /// Hands over what there is room for, but what it has to leave to others; says how much, and
    /// how it ended.
    pub(super) fn write(
        &mut self,
        quic: &mut Quic,
        (id, urgency): (u64, u8),
        reserve: Option<&mut Reserve>,
    ) -> (usize, Outcome) {
        let mut written = 0;
        if !self.opened {
            match quic.stream_priority(id, urgency, INCREMENTAL) {
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
        let mut room = match quic.stream_capacity(id) {
            Err(quiche::Error::StreamStopped(code)) => return (0, Outcome::Stopped(code)),
            Err(_) => return (0, Outcome::Gone),
            Ok(room) => room,
        };
        if let Some(reserve) = reserve {
            room = room.saturating_sub(reserve.kept(quic, room.saturating_sub(self.queued)));
        }
        loop {
            // An end without bytes needs no room.
            if room == 0 && !self.is_drained() {
                return (written, Outcome::Blocked);
            }
            if SHARE <= written && !self.is_drained() {
                return (written, Outcome::Share);
            }
            let mut bytes = match self.pop() {
                Some(bytes) => bytes,
                None if self.fin => Bytes::new(),
                None => return (written, Outcome::Drained),
            };
            let allowed = room.min(SHARE - written.min(SHARE));
            if allowed < bytes.len() && !bytes.is_empty() {
                self.first = Some(bytes.split_off(allowed));
            }
            let length = bytes.len();
            let last = self.fin && self.is_drained();
            match quic.stream_send_zc(id, bytes, last) {
                Ok((taken, rest)) => {
                    written += taken;
                    self.queued -= taken;
                    room = room.saturating_sub(taken);
                    if taken < length {
                        self.put_back(rest);
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

/// Why an open stream that was not ended takes no more bytes: it was stopped, even if quiche has
/// forgotten it since.
pub(super) const fn stop_code(error: quiche::Error) -> u64 {
    match error {
        quiche::Error::StreamStopped(code) => code,
        _ => CANCELLED,
    }
}

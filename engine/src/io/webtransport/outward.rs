//! What the driver wants, as the connection's streams have it; and what has become of it.

use std::collections::VecDeque;

use aip_codec::moqt::error_code::{ResetCode, SessionCode};
use bytes::Bytes;

use super::{INTEGER_MAX, Phase, Want, WebTransport, capsule, code, streams::Streams};
use crate::{
    io::{
        connection::Event,
        http3::{self, Code},
    },
    transport::{Action, Closed, StreamId},
};

/// The last datagram with the number that stands before it, for the next session that it goes to: so
/// one that goes to many is copied once.
#[derive(Debug, Default)]
pub(in crate::io) struct Numbered {
    quarter: u64,
    bare: Bytes,
    whole: Bytes,
}

impl Numbered {
    /// A datagram behind a quarter of its session's number.
    pub(super) fn of(&mut self, quarter: u64, bare: Bytes) -> Bytes {
        // Bytes that are still held are where they were, and as they were.
        let same = self.quarter == quarter
            && self.bare.len() == bare.len()
            && std::ptr::eq(self.bare.as_ptr(), bare.as_ptr());
        if !same || bare.is_empty() {
            let mut whole = Vec::with_capacity(INTEGER_MAX + bare.len());
            http3::encode(quarter, &mut whole);
            whole.extend_from_slice(&bare);
            *self = Self { quarter, bare, whole: whole.into() };
        }
        self.whole.clone()
    }
}

impl WebTransport {
    pub(super) fn sent(&mut self, stream: StreamId, length: usize, events: &mut VecDeque<Event>) {
        if self.is_own(stream) {
            return;
        }
        if let Some(untold) = self.refusals.get_mut(&stream.0) {
            *untold = untold.saturating_sub(length);
            if *untold == 0 {
                self.refusals.remove(&stream.0);
            }
            return;
        }
        if let Phase::Open { streams, .. } | Phase::Ending { streams, .. } = &mut self.phase {
            let length = streams.told(stream, length);
            if 0 < length {
                events.push_back(Event::Sent { stream: streams.inward(stream), length });
            }
        }
    }

    /// What an action of the driver's is on the connection, and what must be sent before it.
    pub(in crate::io) fn outward(
        &mut self,
        action: Action,
        numbered: &mut Numbered,
    ) -> Option<(Option<Bytes>, Action)> {
        if matches!(action, Action::Close { .. }) {
            self.end_session();
            return Some((None, action));
        }
        let Phase::Open { session, streams } = &mut self.phase else { return None };
        let to = |streams: &Streams, stream| streams.outward(stream);
        Some(match action {
            Action::Send { stream, bytes, fin } => {
                let head = streams.begin(stream);
                (head, Action::Send { stream: to(streams, stream), bytes, fin })
            }
            Action::Reset { stream, code } => {
                let code = code::to_http3(code);
                (None, Action::Reset { stream: to(streams, stream), code })
            }
            Action::Stop { stream, code } => {
                let stream = to(streams, stream);
                self.inward.remove(&stream.0);
                (None, Action::Stop { stream, code: code::to_http3(code) })
            }
            Action::Prioritize { stream, precedence } => {
                (None, Action::Prioritize { stream: to(streams, stream), precedence })
            }
            Action::Pause { stream } => (None, Action::Pause { stream: to(streams, stream) }),
            Action::Resume { stream } => (None, Action::Resume { stream: to(streams, stream) }),
            Action::SendDatagram { bytes, expires } => {
                let bytes = numbered.of(*session / 4, bytes);
                (None, Action::SendDatagram { bytes, expires })
            }
            Action::Close { .. } => return None,
        })
    }

    /// The driver has closed the session.
    fn end_session(&mut self) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Open { session, streams } => Phase::Ending { session, streams },
            other => other,
        };
    }

    /// Tells the peer that the driver has closed the session: what was queued before is sent.
    pub(in crate::io) fn say_farewell(&mut self, code: SessionCode, reason: &str) {
        let Phase::Ending { session, .. } = self.phase else { return };
        self.phase = Phase::Closing { session };
        let code = u32::try_from(code.0).unwrap_or(u32::MAX);
        let bytes = capsule::close(code, reason);
        self.want(Want::Send { stream: StreamId(session), bytes, fin: true });
    }

    /// Tells the driver that the peer has closed the session, if it has: what came before is told.
    pub(in crate::io) fn finish(&mut self, events: &mut VecDeque<Event>) {
        if self.is_open()
            && let Some((code, reason)) = self.closed.take()
        {
            self.phase = Phase::Over;
            self.want(Want::Close { code: Code::NO_ERROR.0, reason: "" });
            events.push_back(Event::Closed(Closed::ByPeer { code, reason }));
        }
    }

    const fn is_closed_here(&self) -> bool {
        matches!(self.phase, Phase::Ending { .. } | Phase::Closing { .. })
    }

    /// What the end of a connection is to the driver: the codes of HTTP/3 are not its own.
    pub(in crate::io) fn end(&self, closed: Closed) -> Closed {
        match closed {
            Closed::ByPeer { code, reason } => match code::from_http3(code) {
                Some(code) => Closed::ByPeer { code, reason },
                // The peer's answer to our word that the session is closed.
                None if code == Code::NO_ERROR.0 && self.is_closed_here() => Closed::Locally,
                None if code == Code::NO_ERROR.0 => Closed::ByPeer { code: 0, reason },
                None => Closed::Transport { code },
            },
            other => other,
        }
    }
}

/// The application's code in HTTP/3's; whatever is none of its own only says that it is over.
pub(super) const fn code_of(code: u64) -> u64 {
    match code::from_http3(code) {
        Some(code) => code,
        None => ResetCode::CANCELLED.0,
    }
}

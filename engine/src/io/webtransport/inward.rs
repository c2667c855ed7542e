//! What comes on the connection, taken apart: HTTP/3's own streams, and the session's.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

use super::{
    EARLY_BYTES_MAX, EARLY_MAX, INTEGER_MAX, Inward, Phase, REQUESTS_MAX, Want, WebTransport,
    outward::code_of, streams,
};
use crate::{
    io::{
        connection::Event,
        http3::{self, Code, Fault, FrameReader, Place, QpackStream, stream_type},
    },
    transport::{Side, StreamId},
};

impl WebTransport {
    pub(super) fn receive(
        &mut self,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        match self.inward.get_mut(&stream.0) {
            None if stream.opener() == self.side => {
                self.pass(stream, bytes, fin, events);
                Ok(())
            }
            None => {
                self.inward.insert(stream.0, Inward::Beginning(BytesMut::new()));
                self.begin(stream, bytes, fin, events)
            }
            Some(Inward::Beginning(_)) => self.begin(stream, bytes, fin, events),
            Some(Inward::Session(session)) => {
                let session = *session;
                if fin {
                    self.inward.remove(&stream.0);
                }
                self.of_session(stream, session, bytes, fin, events)
            }
            Some(Inward::Control) => {
                self.control.receive(bytes)?;
                self.settings_may_be_here(events)?;
                critical_goes_on(fin)
            }
            Some(Inward::Qpack(qpack)) => {
                qpack.receive(&bytes)?;
                critical_goes_on(fin)
            }
            Some(Inward::Request(_)) => self.request(stream, bytes, fin, events),
            Some(Inward::Held(.., ended)) => {
                // The client may say no more before it is answered than that it has gone.
                *ended |= fin;
                if bytes.is_empty() {
                    return Ok(());
                }
                Err(Fault::Connection(Code::EXCESSIVE_LOAD, "data before its time"))
            }
            Some(Inward::Connect(_)) => self.connect_stream(stream, bytes, fin),
        }
    }

    /// Finds out what a stream of the peer's is.
    fn begin(
        &mut self,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        let Some(Inward::Beginning(held)) = self.inward.get_mut(&stream.0) else { return Ok(()) };
        let before = held.len();
        held.extend_from_slice(&bytes[..bytes.len().min(2 * INTEGER_MAX)]);
        let Some((kind, size)) = http3::decode(held) else {
            if fin {
                self.ended_early(stream);
            }
            return Ok(());
        };
        let of_session = if stream.is_bidirectional() {
            kind == streams::BIDIRECTIONAL
        } else {
            kind == streams::UNIDIRECTIONAL
        };
        if !of_session {
            let held = held.split_to(before).freeze();
            return self.begin_own(stream, kind, held, size, bytes, fin, events);
        }
        let Some((session, more)) = http3::decode(&held[size..]) else {
            if fin {
                self.ended_early(stream);
            }
            return Ok(());
        };
        if session % 4 != 0 {
            return Err(Fault::Connection(Code::ID_ERROR, "no session has this number"));
        }
        let mut bytes = bytes;
        bytes.advance(size + more - before);
        if fin {
            self.inward.remove(&stream.0);
        } else {
            self.inward.insert(stream.0, Inward::Session(session));
        }
        self.of_session(stream, session, bytes, fin, events)
    }

    /// A stream ended before it was known what it is.
    fn ended_early(&mut self, stream: StreamId) {
        self.inward.remove(&stream.0);
        if stream.is_bidirectional() {
            self.want(Want::Reset { stream, code: Code::REQUEST_INCOMPLETE.0 });
        }
    }

    /// Begins to read one of HTTP/3's own streams, of which `held` and `bytes` have come; its type
    /// has `size` bytes.
    #[expect(clippy::too_many_arguments, reason = "one place, and all of them matter")]
    fn begin_own(
        &mut self,
        stream: StreamId,
        kind: u64,
        held: Bytes,
        size: usize,
        mut bytes: Bytes,
        fin: bool,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        let creation = |what| Err(Fault::Connection(Code::STREAM_CREATION_ERROR, what));
        if stream.is_bidirectional() {
            if self.side == Side::Client {
                return creation("a request of a server's");
            }
            self.requests += 1;
            if REQUESTS_MAX < self.requests {
                return Err(Fault::Connection(Code::EXCESSIVE_LOAD, "too many requests"));
            }
            let mut reader = Box::new(FrameReader::new(Place::RequestAtServer));
            // What was held is the beginning of a frame's type: it makes no frame.
            reader.push(held);
            reader.poll()?;
            self.inward.insert(stream.0, Inward::Request(reader));
            return self.request(stream, bytes, fin, events);
        }
        let (place, inward) = match kind {
            stream_type::CONTROL => (0, Inward::Control),
            stream_type::QPACK_ENCODER => (1, Inward::Qpack(QpackStream::Encoder)),
            stream_type::QPACK_DECODER => {
                (2, Inward::Qpack(QpackStream::Decoder { inside: false }))
            }
            stream_type::PUSH if self.side == Side::Server => return creation("a client's push"),
            stream_type::PUSH => {
                return Err(Fault::Connection(Code::ID_ERROR, "no push was allowed"));
            }
            _ => {
                self.ignore(stream, Code::STREAM_CREATION_ERROR, fin);
                return Ok(());
            }
        };
        if std::mem::replace(&mut self.critical[place], true) {
            return creation("a second stream of its kind");
        }
        self.inward.insert(stream.0, inward);
        bytes.advance(size - held.len());
        self.receive(stream, bytes, fin, events)
    }

    /// Wants no more of a stream. Of one that is stopped nothing more is heard.
    pub(super) fn ignore(&mut self, stream: StreamId, code: Code, ended: bool) {
        self.inward.remove(&stream.0);
        if !ended {
            self.want(Want::Stop { stream, code: code.0 });
        }
    }

    /// A piece of a stream that says it is the session's.
    fn of_session(
        &mut self,
        stream: StreamId,
        session: u64,
        bytes: Bytes,
        fin: bool,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        match self.phase {
            Phase::Open { session: open, .. } if open == session => {
                events.push_back(Event::Stream { stream, bytes, fin });
            }
            Phase::Waiting if self.has_room(bytes.len()) => {
                let bytes = self.kept(&bytes);
                self.early.push_back((session, Event::Stream { stream, bytes, fin }));
            }
            Phase::Waiting => {
                self.forget_early(stream);
                self.turn_away(stream, Code::BUFFERED_STREAM_REJECTED, fin);
            }
            Phase::Open { .. } => self.turn_away(stream, Code::BUFFERED_STREAM_REJECTED, fin),
            Phase::Ending { .. } | Phase::Closing { .. } | Phase::Over => {}
        }
        Ok(())
    }

    /// A copy of bytes that are held: they would keep the whole chunk that they were received into.
    fn kept(&mut self, bytes: &[u8]) -> Bytes {
        self.early_bytes += bytes.len();
        Bytes::copy_from_slice(bytes)
    }

    /// Holds nothing more of a stream.
    fn forget_early(&mut self, stream: StreamId) {
        self.early.retain(|(_, event)| match event {
            Event::Stream { stream: other, bytes, .. } if *other == stream => {
                self.early_bytes -= bytes.len();
                false
            }
            _ => true,
        });
    }

    /// Whether so many bytes more can be held.
    fn has_room(&self, length: usize) -> bool {
        self.early.len() < EARLY_MAX && self.early_bytes + length <= EARLY_BYTES_MAX
    }

    /// Wants nothing of a stream in either direction.
    pub(super) fn turn_away(&mut self, stream: StreamId, code: Code, ended: bool) {
        self.ignore(stream, code, ended);
        if stream.is_bidirectional() {
            self.want(Want::Reset { stream, code: code.0 });
        }
    }

    /// A piece of what the peer says on a stream that we opened.
    fn pass(&self, stream: StreamId, bytes: Bytes, fin: bool, events: &mut VecDeque<Event>) {
        if let Phase::Open { streams, .. } = &self.phase {
            events.push_back(Event::Stream { stream: streams.inward(stream), bytes, fin });
        }
    }

    pub(super) fn reset(
        &mut self,
        stream: StreamId,
        code: u64,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        match self.inward.remove(&stream.0) {
            Some(Inward::Control | Inward::Qpack(_)) => {
                return Err(Fault::Connection(Code::CLOSED_CRITICAL_STREAM, "it was reset"));
            }
            Some(Inward::Connect(_)) => self.closed_by_peer(0, Bytes::new()),
            Some(Inward::Request(_)) if self.side == Side::Client => self.refused(events),
            Some(Inward::Session(session)) if self.session() == Some(session) => {
                if matches!(self.phase, Phase::Open { .. }) {
                    events.push_back(Event::Reset { stream, code: code_of(code) });
                }
            }
            None if stream.opener() == self.side => {
                if let Phase::Open { streams, .. } = &self.phase {
                    let stream = streams.inward(stream);
                    events.push_back(Event::Reset { stream, code: code_of(code) });
                }
            }
            // Whatever it was to be, it is not answered any more.
            Some(
                Inward::Held(..) | Inward::Request(_) | Inward::Session(_) | Inward::Beginning(_),
            )
            | None => {
                self.forget_early(stream);
                if stream.is_bidirectional() {
                    self.want(Want::Reset { stream, code: Code::REQUEST_REJECTED.0 });
                }
            }
        }
        Ok(())
    }

    pub(super) fn stopped(
        &mut self,
        stream: StreamId,
        code: u64,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        if stream == self.own_control() {
            return Err(Fault::Connection(Code::CLOSED_CRITICAL_STREAM, "it was stopped"));
        }
        if Some(stream.0) == self.session() {
            self.closed_by_peer(0, Bytes::new());
            return Ok(());
        }
        if let Phase::Open { streams, .. } = &self.phase
            && self.is_drivers(stream)
        {
            let stream = streams.inward(stream);
            events.push_back(Event::Stop { stream, code: code_of(code) });
        }
        Ok(())
    }

    /// Whether the driver knows of a stream on which we may send.
    fn is_drivers(&self, stream: StreamId) -> bool {
        let of_session = match self.inward.get(&stream.0) {
            Some(Inward::Session(session)) => Some(*session) == self.session(),
            Some(_) => false,
            // Ours, or the peer has ended its side.
            None => true,
        };
        of_session && !self.refusals.contains_key(&stream.0)
    }

    pub(super) fn datagram(
        &mut self,
        mut bytes: Bytes,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        let Some((quarter, size)) = http3::decode(&bytes) else {
            return Err(Fault::Connection(Code::DATAGRAM_ERROR, "a datagram of no stream"));
        };
        if 1 << 60 <= quarter {
            return Err(Fault::Connection(Code::DATAGRAM_ERROR, "a stream that cannot be"));
        }
        bytes.advance(size);
        match self.phase {
            Phase::Open { session, .. } if session == 4 * quarter => {
                events.push_back(Event::Datagram(bytes));
            }
            // The session may come next.
            Phase::Waiting if self.has_room(bytes.len()) => {
                let bytes = self.kept(&bytes);
                self.early.push_back((4 * quarter, Event::Datagram(bytes)));
            }
            // As if it was lost.
            Phase::Open { .. }
            | Phase::Waiting
            | Phase::Ending { .. }
            | Phase::Closing { .. }
            | Phase::Over => {}
        }
        Ok(())
    }
}

fn critical_goes_on(fin: bool) -> Result<(), Fault> {
    if fin {
        return Err(Fault::Connection(Code::CLOSED_CRITICAL_STREAM, "it was ended"));
    }
    Ok(())
}

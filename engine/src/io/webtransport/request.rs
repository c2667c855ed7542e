//! How a session begins, by CONNECT, and how it is closed, on that stream.

use std::collections::{BTreeMap, VecDeque};

use aip_codec::Version;
use bytes::Bytes;

use super::{
    CONNECT_STREAM, CapsuleReader, Destination, Inward, Phase, Streams, Want, WebTransport,
    protocols,
};
use crate::{
    io::{
        connection::Event,
        http3::{self, Code, Fault, Fields, Frame, FrameReader, Place},
    },
    transport::{Side, StreamId},
};

/// Names of the protocol in CONNECT: that of drafts 2 to 14, and since 15.
const PROTOCOLS: [&str; 2] = ["webtransport", "webtransport-h3"];

impl WebTransport {
    /// What waits for the peer's settings goes on, once they are here.
    pub(super) fn settings_may_be_here(
        &mut self,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        let Some(settings) = self.control.settings() else { return Ok(()) };
        if !matches!(self.phase, Phase::Waiting) {
            return Ok(());
        }
        if self.side == Side::Server {
            let Some(stream) = self.held() else { return Ok(()) };
            let Some(Inward::Held(reader, version, ended)) = self.inward.remove(&stream.0) else {
                return Ok(());
            };
            return self.accept(stream, version, *reader, ended, events);
        }
        if self.inward.contains_key(&CONNECT_STREAM.0) {
            return Ok(());
        }
        if !(settings.connect_protocol && settings.webtransport && settings.datagrams) {
            self.give_up("the server does not offer WebTransport", events);
            return Ok(());
        }
        let Some(Destination { authority, path }) = &self.destination else { return Ok(()) };
        let offered = protocols::offer(&self.versions);
        let bytes = http3::request_head(authority, path, &offered);
        let reader = Box::new(FrameReader::new(Place::RequestAtClient));
        self.inward.insert(CONNECT_STREAM.0, Inward::Request(reader));
        self.want(Want::Send { stream: CONNECT_STREAM, bytes, fin: false });
        Ok(())
    }

    /// The request that waits for the peer's settings.
    fn held(&self) -> Option<StreamId> {
        let held = self.inward.iter().find(|(_, inward)| matches!(inward, Inward::Held(..)));
        held.map(|(stream, _)| StreamId(*stream))
    }

    /// Reads a request, or the answer to ours, as far as its header list.
    pub(super) fn request(
        &mut self,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        if self.side == Side::Server && !matches!(self.phase, Phase::Waiting) {
            // A connection has one session.
            self.turn_away(stream, Code::REQUEST_REJECTED, fin);
            return Ok(());
        }
        let Some(Inward::Request(mut reader)) = self.inward.remove(&stream.0) else {
            return Ok(());
        };
        reader.push(bytes);
        loop {
            let fields = match reader.poll()? {
                Some(Frame::Headers(block)) => Fields::decode(&block)?,
                Some(_) => {
                    return Err(Fault::Connection(Code::FRAME_UNEXPECTED, "DATA before HEADERS"));
                }
                None if !fin => {
                    self.inward.insert(stream.0, Inward::Request(reader));
                    return Ok(());
                }
                None => return self.cut_short(stream, &reader, events),
            };
            if self.side == Side::Server {
                return self.answer(stream, reader, &fields, fin, events);
            }
            match fields.status() {
                Ok(100..=199) => {}
                Ok(status) => return self.answered(status, *reader, &fields, fin, events),
                Err(Fault::Stream(..)) => {
                    self.give_up("the server's answer is malformed", events);
                    return Ok(());
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// A request, or the answer to ours, ended before its header list.
    fn cut_short(
        &mut self,
        stream: StreamId,
        reader: &FrameReader,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        if !reader.is_between_frames() {
            return Err(Fault::Connection(Code::FRAME_ERROR, "a frame is cut short"));
        }
        match self.side {
            Side::Client => self.refused(events),
            Side::Server => self.want(Want::Reset { stream, code: Code::REQUEST_INCOMPLETE.0 }),
        }
        Ok(())
    }

    /// Answers a client's request.
    fn answer(
        &mut self,
        stream: StreamId,
        mut reader: Box<FrameReader>,
        fields: &Fields,
        fin: bool,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        let request = match fields.request() {
            Ok(request) => request,
            Err(Fault::Stream(code, _)) => {
                self.turn_away(stream, code, fin);
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        let is_session = |name: &str| PROTOCOLS.contains(&name);
        if request.method != "CONNECT" || !request.protocol.as_deref().is_some_and(is_session) {
            let status = if request.protocol.is_some() { 501 } else { 404 };
            self.refuse(stream, status, fin);
            return Ok(());
        }
        let offered = fields.value("wt-available-protocols");
        let version = offered.and_then(|offered| protocols::choose(&offered, &self.versions));
        match version.filter(|_| request.scheme == "https") {
            None => self.refuse(stream, 400, fin),
            Some(version) if self.control.settings().is_some() => {
                return self.accept(stream, version, *reader, fin, events);
            }
            // What a client can do must be known before its session begins.
            Some(version) if self.held().is_none() => {
                reader.detach();
                self.inward.insert(stream.0, Inward::Held(reader, version, fin));
            }
            Some(_) => self.turn_away(stream, Code::REQUEST_REJECTED, fin),
        }
        Ok(())
    }

    /// Accepts a client's session.
    fn accept(
        &mut self,
        stream: StreamId,
        version: Version,
        reader: FrameReader,
        fin: bool,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        let bytes = http3::response_head(&protocols::chosen(version));
        self.want(Want::Send { stream, bytes, fin: false });
        self.open(stream, version, reader, fin, events)
    }

    /// Answers with a status, and no more.
    fn refuse(&mut self, stream: StreamId, status: u16, ended: bool) {
        let bytes = http3::status_head(status);
        self.refusals.insert(stream.0, bytes.len());
        self.want(Want::Send { stream, bytes, fin: true });
        self.ignore(stream, Code::NO_ERROR, ended);
    }

    /// Our request was answered.
    fn answered(
        &mut self,
        status: u16,
        reader: FrameReader,
        fields: &Fields,
        fin: bool,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        if !(200..=299).contains(&status) {
            self.give_up(&format!("the server refuses the session: status {status}"), events);
            return Ok(());
        }
        let value = fields.value("wt-protocol");
        match value.and_then(|value| protocols::accepted(&value, &self.versions)) {
            Some(version) => self.open(CONNECT_STREAM, version, reader, fin, events),
            None => {
                self.give_up("the server chooses no draft of MOQT", events);
                Ok(())
            }
        }
    }

    /// The server ended or reset the CONNECT stream instead of answering.
    pub(super) fn refused(&mut self, events: &mut VecDeque<Event>) {
        self.give_up("the server refuses the session", events);
    }

    fn give_up(&mut self, why: &str, events: &mut VecDeque<Event>) {
        self.phase = Phase::Over;
        self.want(Want::Close { code: Code::NO_ERROR.0, reason: "" });
        events.push_back(Event::Failed(why.to_owned()));
    }

    /// The session begins.
    fn open(
        &mut self,
        stream: StreamId,
        version: Version,
        reader: FrameReader,
        fin: bool,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Fault> {
        let streams = Box::new(Streams::new(self.side, stream.0));
        self.phase = Phase::Open { session: stream.0, streams };
        events.push_back(Event::Connected { version });
        self.tell_early(stream.0, events);
        let connect = Box::new((reader, CapsuleReader::new()));
        self.inward.insert(stream.0, Inward::Connect(connect));
        self.connect_stream(stream, Bytes::new(), fin)
    }

    /// Tells what came before its session, and turns away what came for another.
    fn tell_early(&mut self, session: u64, events: &mut VecDeque<Event>) {
        self.early_bytes = 0;
        let mut turned_away = BTreeMap::new();
        for (of, event) in std::mem::take(&mut self.early) {
            match event {
                event if of == session => events.push_back(event),
                Event::Stream { stream, fin, .. } => {
                    *turned_away.entry(stream.0).or_default() |= fin;
                }
                // A datagram, as if it was lost.
                _ => {}
            }
        }
        for (stream, ended) in turned_away {
            self.turn_away(StreamId(stream), Code::BUFFERED_STREAM_REJECTED, ended);
        }
    }

    /// Reads the CONNECT stream of the session.
    pub(super) fn connect_stream(
        &mut self,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
    ) -> Result<(), Fault> {
        if self.closed.is_some() {
            return Ok(());
        }
        let Some(Inward::Connect(connect)) = self.inward.get_mut(&stream.0) else { return Ok(()) };
        let (reader, capsules) = &mut **connect;
        if !bytes.is_empty() {
            reader.push(bytes);
        }
        let mut close = None;
        while let Some(frame) = reader.poll()? {
            let Frame::Data(data) = frame else {
                return Err(Fault::Connection(Code::FRAME_UNEXPECTED, "no DATA behind CONNECT"));
            };
            match capsules.receive(data) {
                Ok(None) => {}
                Ok(first) if close.is_none() => close = first,
                Ok(_) | Err(_) => {
                    self.turn_away(stream, Code::MESSAGE_ERROR, fin);
                    self.closed_by_peer(0, Bytes::new());
                    return Ok(());
                }
            }
        }
        if fin && !reader.is_between_frames() {
            return Err(Fault::Connection(Code::FRAME_ERROR, "a frame is cut short"));
        }
        match close {
            Some(close) => self.closed_by_peer(close.code.into(), close.reason),
            None if fin => self.closed_by_peer(0, Bytes::new()),
            None => {}
        }
        Ok(())
    }

    /// The peer has closed the session, or answered that we did.
    pub(super) fn closed_by_peer(&mut self, code: u64, reason: Bytes) {
        self.closed.get_or_insert((code, reason));
    }
}

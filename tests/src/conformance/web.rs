//! WebTransport as a client needs it, written apart from the engine's: it carries a session, and
//! leaves everything else to the cases.
//!
//! Streams have the numbers that they would have on QUIC alone: ours stand behind HTTP/3's.

use std::collections::{BTreeMap, BTreeSet};

use aip_codec::Version;
use quiche::h3::{Header, NameValue as _, qpack};

use super::{
    quic::{End, Received},
    target::Endpoint,
};

/// The CONNECT stream, and so the session.
pub(super) const CONNECT: u64 = 0;
/// Our control stream.
pub(super) const CONTROL: u64 = 2;
/// Where a session's codes begin among HTTP/3's.
const FIRST_CODE: u64 = 0x52e4_a40f_a8db;

/// How far the session is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// CONNECT is not answered.
    Asking,
    /// It goes on.
    Open,
    /// It was refused.
    Refused(String),
    /// The relay has closed it.
    Closed { code: u64, reason: String },
}

/// A session over HTTP/3.
#[derive(Debug)]
pub(super) struct Web {
    version: Version,
    authority: String,
    path: String,
    pub(super) state: State,
    /// Everything that came and is not the session's, or not known to be.
    raw: BTreeMap<u64, Received>,
    /// The relay's streams whose head was read.
    known: BTreeSet<u64>,
    /// Ours whose head was sent.
    begun: BTreeSet<u64>,
    asked: bool,
    /// What is to be sent on HTTP/3's own streams.
    pub(super) outbox: Vec<(u64, Vec<u8>, bool)>,
}

impl Web {
    pub(super) fn new(endpoint: &Endpoint, version: Version) -> Self {
        let path = endpoint.url.path();
        let slash = if path.starts_with('/') { "" } else { "/" };
        Self {
            version,
            authority: endpoint.url.authority().to_owned(),
            path: format!("{slash}{path}"),
            state: State::Asking,
            raw: BTreeMap::new(),
            known: BTreeSet::new(),
            begun: BTreeSet::new(),
            asked: false,
            // ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, and WebTransport by drafts 2, 7, 13 and 15.
            outbox: vec![(CONTROL, control_stream(), false)],
        }
    }

    /// Where bytes of the connection's stream are kept until they are looked at.
    pub(super) fn raw(&mut self, stream: u64) -> &mut Received {
        self.raw.entry(stream).or_default()
    }

    /// The connection's number of a stream of the session's.
    pub(super) const fn outward(stream: u64) -> u64 {
        if stream.is_multiple_of(2) { stream + 4 } else { stream }
    }

    /// The session's number of a stream of the connection's.
    pub(super) const fn inward(stream: u64) -> u64 {
        if stream.is_multiple_of(2) { stream.saturating_sub(4) } else { stream }
    }

    /// What a stream begins with, if it has not begun.
    pub(super) fn head(&mut self, stream: u64) -> Option<Vec<u8>> {
        (stream.is_multiple_of(2) && self.begun.insert(stream)).then(|| {
            let kind = if stream.is_multiple_of(4) { 0x41 } else { 0x54 };
            let mut head = Vec::new();
            put(kind, &mut head);
            put(CONNECT, &mut head);
            head
        })
    }

    /// Hands what is the session's to `received`, by its numbers.
    pub(super) fn sort(&mut self, received: &mut BTreeMap<u64, Received>) {
        let streams: Vec<u64> = self.raw.keys().copied().collect();
        for stream in streams {
            match stream % 4 {
                _ if stream == CONNECT => self.connect_stream(),
                0 => self.hand_over(stream, received),
                _ if self.known.contains(&stream) => self.hand_over(stream, received),
                _ => self.begin(stream, received),
            }
        }
    }

    /// Reads what a stream of the relay's begins with.
    fn begin(&mut self, stream: u64, received: &mut BTreeMap<u64, Received>) {
        let raw = self.raw.entry(stream).or_default();
        let Some((kind, size)) = get(&raw.bytes) else { return };
        match (stream % 4, kind) {
            (3, 0x54) | (1, 0x41) => {
                let Some((_, more)) = get(&raw.bytes[size..]) else { return };
                raw.bytes.drain(..size + more);
                self.known.insert(stream);
                self.hand_over(stream, received);
            }
            // Its control stream: with SETTINGS it can be asked.
            (3, 0x0) if 1 < raw.bytes.len() && !self.asked => {
                self.asked = true;
                self.outbox.push((CONNECT, self.request(), false));
            }
            _ => {}
        }
    }

    fn hand_over(&mut self, stream: u64, received: &mut BTreeMap<u64, Received>) {
        let Some(raw) = self.raw.get_mut(&stream) else { return };
        if raw.bytes.is_empty() && raw.end.is_none() {
            return;
        }
        let to = received.entry(Self::inward(stream)).or_default();
        to.bytes.append(&mut raw.bytes);
        let end = raw.end.take().map(|end| match end {
            End::Reset(code) => End::Reset(code_of(code)),
            End::Finished => End::Finished,
        });
        to.end = to.end.or(end);
    }

    fn request(&self) -> Vec<u8> {
        let offered = format!("\"{}\"", self.version.alpn());
        headers(&[
            (":method", "CONNECT"),
            (":protocol", "webtransport"),
            (":scheme", "https"),
            (":authority", &self.authority),
            (":path", &self.path),
            ("wt-available-protocols", &offered),
        ])
    }

    /// Reads the answer to CONNECT, and how the session ends.
    fn connect_stream(&mut self) {
        let raw = self.raw.entry(CONNECT).or_default();
        while let Some((kind, length, size)) = frame(&raw.bytes) {
            let Some(payload) = raw.bytes.get(size..size + length) else { break };
            match (kind, &self.state) {
                (0x1, State::Asking) => self.state = answer(payload, self.version),
                (0x0, State::Open) => {
                    if let Some(closed) = closed(payload) {
                        self.state = closed;
                    }
                }
                _ => {}
            }
            raw.bytes.drain(..size + length);
        }
        match (raw.end, &self.state) {
            (Some(_), State::Asking) => self.state = State::Refused("no answer".to_owned()),
            (Some(_), State::Open) => {
                self.state = State::Closed { code: 0, reason: String::new() };
            }
            _ => {}
        }
    }
}

/// A frame's type, length, and where its payload begins.
fn frame(bytes: &[u8]) -> Option<(u64, usize, usize)> {
    let (kind, first) = get(bytes)?;
    let (length, second) = get(&bytes[first..])?;
    Some((kind, usize::try_from(length).ok()?, first + second))
}

/// The status of the response that a stream begins with.
pub(super) fn status(mut stream: &[u8]) -> Option<String> {
    loop {
        let (kind, length, size) = frame(stream)?;
        let payload = stream.get(size..size + length)?;
        if kind == 0x1 {
            return value(payload, ":status");
        }
        stream = &stream[size + length..];
    }
}

/// The value of a field in a header list.
fn value(block: &[u8], name: &str) -> Option<String> {
    let fields = qpack::Decoder::new().decode(block, 65_536).ok()?;
    let field = fields.iter().find(|field| field.name() == name.as_bytes())?;
    Some(String::from_utf8_lossy(field.value()).into_owned())
}

fn answer(block: &[u8], version: Version) -> State {
    let status = value(block, ":status").unwrap_or_default();
    let protocol = value(block, "wt-protocol").unwrap_or_default();
    match status.as_str() {
        "200" if protocol.trim() == format!("\"{}\"", version.alpn()) => State::Open,
        "200" => State::Refused(format!("the protocol {protocol:?} was chosen")),
        status => State::Refused(format!("status {status:?}")),
    }
}

/// CLOSE_WEBTRANSPORT_SESSION, if that is what the capsule is.
fn closed(payload: &[u8]) -> Option<State> {
    let (0x2843, length, size) = frame(payload)? else { return None };
    let (code, reason) = payload.get(size..size + length)?.split_first_chunk::<4>()?;
    let reason = String::from_utf8_lossy(reason).escape_debug().to_string();
    Some(State::Closed { code: u32::from_be_bytes(*code).into(), reason })
}

/// A HEADERS frame.
pub(super) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let list: Vec<Header> =
        fields.iter().map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes())).collect();
    let mut block = vec![0; 65_536];
    let length = qpack::Encoder::new().encode(&list, &mut block).expect("a case's fields fit");
    headers_of(&block[..length])
}

/// A HEADERS frame of these bytes.
pub(super) fn headers_of(block: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x1];
    put(block.len() as u64, &mut frame);
    frame.extend_from_slice(block);
    frame
}

/// A control stream with the settings that a client of WebTransport has.
pub(super) fn control_stream() -> Vec<u8> {
    let mut payload = Vec::new();
    for setting in [0x8, 0x33, 0x2b60_3742, 0xc671_706a, 0x14e9_cd29, 0x2c7c_f000] {
        put(setting, &mut payload);
        put(1, &mut payload);
    }
    let mut stream = vec![0x0, 0x4];
    put(payload.len() as u64, &mut stream);
    stream.extend(payload);
    stream
}

/// HTTP/3's code for one of the session's.
pub(super) const fn code_for(code: u64) -> u64 {
    FIRST_CODE + code + code / 0x1e
}

/// The session's code in one of HTTP/3's, or that itself.
pub(super) const fn code_of(code: u64) -> u64 {
    match code.checked_sub(FIRST_CODE) {
        Some(shifted) => shifted - shifted / 0x1f,
        None => code,
    }
}

/// Appends an integer of RFC 9000.
pub(super) fn put(value: u64, out: &mut Vec<u8>) {
    match value {
        0..=0x3f => out.extend(&value.to_be_bytes()[7..]),
        0x40..=0x3fff => out.extend(&(value | 0x4000).to_be_bytes()[6..]),
        0x4000..=0x3fff_ffff => out.extend(&(value | 0x8000_0000).to_be_bytes()[4..]),
        _ => out.extend((value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// The integer of RFC 9000 at the front, and its length.
fn get(bytes: &[u8]) -> Option<(u64, usize)> {
    let length = 1_usize << (bytes.first()? >> 6);
    let mut value = [0; 8];
    value[8 - length..].copy_from_slice(bytes.get(..length)?);
    value[8 - length] &= 0x3f;
    Some((u64::from_be_bytes(value), length))
}

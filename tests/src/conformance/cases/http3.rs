//! Clients that do not keep to HTTP/3, QPACK or WebTransport (O12): each is told the code of the
//! standard, and nobody else notices.

use aip_codec::Version;

use crate::conformance::{
    build,
    case::{Case, Over, case},
    failure::{Failure, Outcome, ensure},
    peer::{PATIENCE, Peer},
    quic::{Closed, End},
    stage::Stage,
    web::{self, CONNECT, CONTROL},
};

/// Codes of RFC 9114 section 8.1 and RFC 9204 section 6.
mod code {
    pub(super) const DATAGRAM_ERROR: u64 = 0x33;
    pub(super) const STREAM_CREATION_ERROR: u64 = 0x103;
    pub(super) const CLOSED_CRITICAL_STREAM: u64 = 0x104;
    pub(super) const FRAME_UNEXPECTED: u64 = 0x105;
    pub(super) const FRAME_ERROR: u64 = 0x106;
    pub(super) const EXCESSIVE_LOAD: u64 = 0x107;
    pub(super) const ID_ERROR: u64 = 0x108;
    pub(super) const SETTINGS_ERROR: u64 = 0x109;
    pub(super) const MISSING_SETTINGS: u64 = 0x10a;
    pub(super) const REQUEST_REJECTED: u64 = 0x10b;
    pub(super) const REQUEST_INCOMPLETE: u64 = 0x10d;
    pub(super) const MESSAGE_ERROR: u64 = 0x10e;
    pub(super) const QPACK_DECOMPRESSION_FAILED: u64 = 0x200;
    pub(super) const QPACK_ENCODER_STREAM_ERROR: u64 = 0x201;
    pub(super) const QPACK_DECODER_STREAM_ERROR: u64 = 0x202;
}

/// A stream's number, its bytes, and whether FIN follows.
type Said = (u64, &'static str, bool);

/// Name, what is wrong, section, what is said, the code that closes the connection.
type Row = (&'static str, &'static str, &'static str, &'static [Said], u64);

/// A control stream with no settings, and a request's beginning.
const SETTINGS: Said = (CONTROL, "00 0400", false);

const CLOSING: &[Row] = &[
    (
        "missing-settings",
        "SETTINGS come first",
        "RFC 9114 6.2.1",
        &[(CONTROL, "00 070100", false)],
        code::MISSING_SETTINGS,
    ),
    (
        "settings-twice",
        "SETTINGS come once",
        "RFC 9114 7.2.4",
        &[SETTINGS, (CONTROL, "0400", false)],
        code::FRAME_UNEXPECTED,
    ),
    (
        "setting-twice",
        "a setting is there once",
        "RFC 9114 7.2.4",
        &[(CONTROL, "00 0404 0801 0801", false)],
        code::SETTINGS_ERROR,
    ),
    (
        "setting-of-http2",
        "settings of HTTP/2 are none",
        "RFC 9114 7.2.4.1",
        &[(CONTROL, "00 0402 0201", false)],
        code::SETTINGS_ERROR,
    ),
    (
        "setting-connect-2",
        "ENABLE_CONNECT_PROTOCOL is 0 or 1",
        "RFC 9220 3",
        &[(CONTROL, "00 0402 0802", false)],
        code::SETTINGS_ERROR,
    ),
    (
        "setting-datagram-2",
        "H3_DATAGRAM is 0 or 1",
        "RFC 9297 2.1.1",
        &[(CONTROL, "00 0402 3302", false)],
        code::SETTINGS_ERROR,
    ),
    (
        "settings-cut-short",
        "a setting has a value",
        "RFC 9114 7.2.4",
        &[(CONTROL, "00 0401 08", false)],
        code::FRAME_ERROR,
    ),
    (
        "control-data",
        "DATA has no place on the control stream",
        "RFC 9114 7.2.1",
        &[SETTINGS, (CONTROL, "0000", false)],
        code::FRAME_UNEXPECTED,
    ),
    (
        "control-headers",
        "HEADERS have no place on the control stream",
        "RFC 9114 7.2.2",
        &[SETTINGS, (CONTROL, "0100", false)],
        code::FRAME_UNEXPECTED,
    ),
    (
        "control-of-http2",
        "frames of HTTP/2 are none",
        "RFC 9114 7.2.8",
        &[SETTINGS, (CONTROL, "0600", false)],
        code::FRAME_UNEXPECTED,
    ),
    (
        "control-twice",
        "there is one control stream",
        "RFC 9114 6.2.1",
        &[SETTINGS, (6, "00 0400", false)],
        code::STREAM_CREATION_ERROR,
    ),
    (
        "control-fin",
        "the control stream is not ended",
        "RFC 9114 6.2.1",
        &[(CONTROL, "00 0400", true)],
        code::CLOSED_CRITICAL_STREAM,
    ),
    (
        "goaway-empty",
        "GOAWAY is one integer",
        "RFC 9114 7.2.6",
        &[SETTINGS, (CONTROL, "0700", false)],
        code::FRAME_ERROR,
    ),
    (
        "max-push-id-falls",
        "MAX_PUSH_ID does not fall",
        "RFC 9114 7.2.7",
        &[SETTINGS, (CONTROL, "0d0105 0d0104", false)],
        code::ID_ERROR,
    ),
    (
        "push-stream",
        "a client pushes nothing",
        "RFC 9114 6.2.2",
        &[SETTINGS, (6, "01 00", false)],
        code::STREAM_CREATION_ERROR,
    ),
    (
        "request-data-first",
        "HEADERS come before DATA",
        "RFC 9114 4.1",
        &[SETTINGS, (CONNECT, "0001 61", false)],
        code::FRAME_UNEXPECTED,
    ),
    (
        "request-cancel-push",
        "CANCEL_PUSH has no place in a request",
        "RFC 9114 7.2.3",
        &[SETTINGS, (CONNECT, "0301 00", false)],
        code::FRAME_UNEXPECTED,
    ),
    (
        "request-settings",
        "SETTINGS have no place in a request",
        "RFC 9114 7.2.4",
        &[SETTINGS, (CONNECT, "0400", false)],
        code::FRAME_UNEXPECTED,
    ),
    (
        "request-push-promise",
        "a client promises nothing",
        "RFC 9114 7.2.5",
        &[SETTINGS, (CONNECT, "0503 000000", false)],
        code::FRAME_UNEXPECTED,
    ),
    (
        "request-cut-short",
        "a frame is whole",
        "RFC 9114 7.1",
        &[SETTINGS, (CONNECT, "0110 0000", true)],
        code::FRAME_ERROR,
    ),
    (
        "header-list-1-mb",
        "a header list has at most 16 KiB",
        "RFC 9114 4.2.2",
        &[SETTINGS, (CONNECT, "01 80100000 0000", false)],
        code::EXCESSIVE_LOAD,
    ),
    (
        "header-list-huge",
        "a length is not believed",
        "RFC 9114 4.2.2",
        &[SETTINGS, (CONNECT, "01 ffffffffffffffff 0000", false)],
        code::EXCESSIVE_LOAD,
    ),
    (
        "qpack-static-index",
        "the static table has 99 entries",
        "RFC 9204 3.1",
        &[SETTINGS, (CONNECT, "0104 0000ff24", false)],
        code::QPACK_DECOMPRESSION_FAILED,
    ),
    (
        "qpack-dynamic-index",
        "there is no dynamic table",
        "RFC 9204 2.2.3",
        &[SETTINGS, (CONNECT, "0103 000080", false)],
        code::QPACK_DECOMPRESSION_FAILED,
    ),
    (
        "qpack-insert-count",
        "nothing was inserted that a request could wait for",
        "RFC 9204 2.1.2",
        &[SETTINGS, (CONNECT, "0103 0200d1", false)],
        code::QPACK_DECOMPRESSION_FAILED,
    ),
    (
        "qpack-cut-short",
        "a field lies inside its list",
        "RFC 9204 4.5",
        &[SETTINGS, (CONNECT, "0104 00005005", false)],
        code::QPACK_DECOMPRESSION_FAILED,
    ),
    (
        "qpack-encoder-capacity",
        "a table's capacity is at most what was allowed",
        "RFC 9204 4.3.1",
        &[SETTINGS, (6, "02 3fe11f", false)],
        code::QPACK_ENCODER_STREAM_ERROR,
    ),
    (
        "qpack-encoder-insert",
        "nothing can be inserted",
        "RFC 9204 4.3.2",
        &[SETTINGS, (6, "02 c1 0161", false)],
        code::QPACK_ENCODER_STREAM_ERROR,
    ),
    (
        "qpack-decoder-increment",
        "nothing was inserted that could be counted",
        "RFC 9204 4.4.3",
        &[SETTINGS, (6, "03 00", false)],
        code::QPACK_DECODER_STREAM_ERROR,
    ),
    (
        "qpack-decoder-acknowledgment",
        "nothing was sent that could be acknowledged",
        "RFC 9204 4.4.1",
        &[SETTINGS, (6, "03 80", false)],
        code::QPACK_DECODER_STREAM_ERROR,
    ),
    (
        "qpack-encoder-fin",
        "the encoder's stream is not ended",
        "RFC 9204 4.2",
        &[SETTINGS, (6, "02", true)],
        code::CLOSED_CRITICAL_STREAM,
    ),
    (
        "qpack-encoder-twice",
        "there is one encoder's stream",
        "RFC 9204 4.2",
        &[SETTINGS, (6, "02", false), (10, "02", false)],
        code::STREAM_CREATION_ERROR,
    ),
    (
        "session-id",
        "a session is a request of the client's",
        "WebTransport 4.2",
        &[SETTINGS, (6, "4054 03 61", false)],
        code::ID_ERROR,
    ),
];

/// Name, what is wrong, section, the fields of a request, the code that resets its stream.
type Fields = &'static [(&'static str, &'static str)];
const MALFORMED: &[(&str, &str, Fields)] = &[
    (
        "pseudo-twice",
        "a pseudo-header field is there once",
        &[(":method", "GET"), (":method", "GET"), (":scheme", "https"), (":path", "/")],
    ),
    ("pseudo-missing", "a request has a path", &[(":method", "GET"), (":scheme", "https")]),
    (
        "pseudo-of-response",
        ":status is no request's",
        &[(":method", "GET"), (":scheme", "https"), (":path", "/"), (":status", "200")],
    ),
    (
        "pseudo-behind",
        "pseudo-header fields come first",
        &[(":method", "GET"), (":scheme", "https"), ("a", "b"), (":path", "/")],
    ),
    (
        "field-of-http1",
        "HTTP/3 has no `connection`",
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a"),
            (":path", "/"),
            ("connection", "close"),
        ],
    ),
    (
        "field-value",
        "a field's value has one line",
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a"),
            (":path", "/"),
            ("a", "b\r\nc: d"),
        ],
    ),
    (
        "connect-without-scheme",
        "an extended CONNECT has a scheme",
        &[
            (":method", "CONNECT"),
            (":protocol", "webtransport"),
            (":authority", "a"),
            (":path", "/"),
        ],
    ),
    (
        "protocol-of-get",
        ":protocol is CONNECT's",
        &[
            (":method", "GET"),
            (":protocol", "webtransport"),
            (":scheme", "https"),
            (":authority", "a"),
            (":path", "/"),
        ],
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let closing = CLOSING.iter().map(|(name, about, section, said, code)| {
        case(format!("malformed-http3-{name}"), *about, section, move |stage| {
            let peer = stage.http3()?;
            for (stream, bytes, fin) in *said {
                peer.send(*stream, &build::hex(bytes));
                if *fin {
                    peer.finish(*stream);
                }
            }
            closes(&peer, *code)
        })
    });
    let malformed = MALFORMED.iter().map(|(name, about, fields)| {
        let name = format!("malformed-http3-{name}");
        case(name, *about, "RFC 9114 4.3", move |stage| {
            let peer = asking(stage)?;
            peer.send(CONNECT, &web::headers(fields));
            is_reset(&peer, CONNECT, code::MESSAGE_ERROR)
        })
    });
    closing
        .chain(malformed)
        .chain(others())
        .map(|case| case.over(Over::WebTransport).hostile())
        .collect()
}

fn others() -> Vec<Case> {
    let named = |name: &str, about: &'static str, section, run: fn(&Stage<'_>) -> Outcome| {
        case(format!("malformed-http3-{name}"), about, section, run)
    };
    vec![
        named("request-incomplete", "a request has HEADERS", "RFC 9114 4.1", incomplete),
        named("capital-letters", "a field's name has none", "RFC 9114 4.2", capitals),
        named("header-list-inflated", "16 KiB are counted unpacked", "RFC 9114 4.2.2", inflated),
        named("control-reset", "the control stream is not reset", "RFC 9114 6.2.1", control_reset),
        named("datagram-empty", "a datagram is some stream's", "RFC 9297 2.1", datagram_empty),
        named(
            "datagram-stream",
            "a quarter of a number has 60 bits",
            "RFC 9297 2.1",
            datagram_huge,
        ),
        named("no-protocol", "a session chooses a draft", "6.2", no_protocol),
        named("unknown-protocol", "what nobody speaks is not chosen", "6.2", unknown_protocol),
        named("other-requests", "a relay has no pages", "6.2", other_requests),
        named("second-session", "a connection has one session", "WebTransport 3.1", second_session),
        named(
            "other-session",
            "streams of no session are turned away",
            "WebTransport 4.2",
            other_session,
        ),
        named("early-streams", "what comes too early is bounded", "WebTransport 4.6", early),
        named("capsule-behind-close", "nothing follows the close", "WebTransport 6", behind_close),
        named(
            "grease",
            "frames, streams and capsules of no meaning do no harm",
            "RFC 9114 9",
            grease,
        ),
    ]
}

/// A connection over HTTP/3 that has said what it is.
fn asking(stage: &Stage<'_>) -> Outcome<Peer> {
    let peer = stage.http3()?;
    peer.send(CONTROL, &web::control_stream());
    Ok(peer)
}

/// What begins a session, with these more.
fn connect(version: Version, more: &[(&str, &str)]) -> Vec<u8> {
    let offered = format!("\"{}\"", version.alpn());
    let mut fields = vec![
        (":method", "CONNECT"),
        (":protocol", "webtransport"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/"),
    ];
    if more.is_empty() {
        fields.push(("wt-available-protocols", &offered));
    }
    fields.extend_from_slice(more);
    web::headers(&fields)
}

fn closes(peer: &Peer, code: u64) -> Outcome {
    let expected = format!("the connection closed with HTTP/3's 0x{code:x}");
    match peer.wait(&expected, PATIENCE, |quic| quic.closed())? {
        Closed::Session { code: came, .. } if came == code => Ok(()),
        Closed::Session { code, reason } => {
            Err(Failure::new(expected, format!("0x{code:x}: {reason}")))
        }
        other => Err(Failure::new(expected, other.to_string())),
    }
}

fn is_reset(peer: &Peer, stream: u64, code: u64) -> Outcome {
    let end = peer.ended(stream)?;
    ensure(end == End::Reset(code), format!("the stream reset with 0x{code:x}"), end)
}

/// Waits for a response whose status is not 200.
fn is_refused(peer: &Peer, stream: u64) -> Outcome {
    let end = peer.ended(stream)?;
    let status = web::status(&peer.bytes(stream));
    let is_refusal = status.as_deref().is_some_and(|status| status.starts_with(['4', '5']));
    ensure(is_refusal && end == End::Finished, "a status that refuses, then FIN", (status, end))
}

/// Waits for status 200.
fn is_accepted(peer: &Peer, stream: u64) -> Outcome {
    let status = peer.wait("an answer to CONNECT", PATIENCE, |quic| {
        web::status(&quic.received.get(&stream)?.bytes)
    })?;
    ensure(status == "200", "status 200", status)
}

fn incomplete(stage: &Stage<'_>) -> Outcome {
    let peer = asking(stage)?;
    peer.send(CONNECT, &build::hex("21 00"));
    peer.finish(CONNECT);
    is_reset(&peer, CONNECT, code::REQUEST_INCOMPLETE)
}

fn capitals(stage: &Stage<'_>) -> Outcome {
    let peer = asking(stage)?;
    // `:method` GET, `:scheme` https, `:path` /, by their indices; then `Ab`: `c`.
    peer.send(CONNECT, &web::headers_of(&build::hex("0000 d1 d7 c1 5001 61 22 4162 01 63")));
    is_reset(&peer, CONNECT, code::MESSAGE_ERROR)
}

fn inflated(stage: &Stage<'_>) -> Outcome {
    let peer = asking(stage)?;
    let long = "a".repeat(9_000);
    let fields = [(":method", "GET"), ("x-a", &long), ("x-b", &long)];
    peer.send(CONNECT, &web::headers(&fields));
    closes(&peer, code::EXCESSIVE_LOAD)
}

fn control_reset(stage: &Stage<'_>) -> Outcome {
    let peer = asking(stage)?;
    // It is known what the stream is once its settings have let a session begin.
    peer.send(CONNECT, &connect(stage.version, &[]));
    is_accepted(&peer, CONNECT)?;
    peer.reset(CONTROL, 0x100);
    closes(&peer, code::CLOSED_CRITICAL_STREAM)
}

fn datagram_empty(stage: &Stage<'_>) -> Outcome {
    let peer = asking(stage)?;
    (0..3).try_for_each(|_| peer.datagram(&[]))?;
    closes(&peer, code::DATAGRAM_ERROR)
}

fn datagram_huge(stage: &Stage<'_>) -> Outcome {
    let peer = asking(stage)?;
    (0..3).try_for_each(|_| peer.datagram(&[0xff; 8]))?;
    closes(&peer, code::DATAGRAM_ERROR)
}

fn no_protocol(stage: &Stage<'_>) -> Outcome {
    let peer = asking(stage)?;
    peer.send(CONNECT, &connect(stage.version, &[("a", "b")]));
    is_refused(&peer, CONNECT)
}

fn unknown_protocol(stage: &Stage<'_>) -> Outcome {
    for offered in ["\"moqt-17\", \"moqt-99\"", "moqt-22", "\"moqt-22", "?1", "", "(\"moqt-22\")"] {
        let peer = asking(stage)?;
        peer.send(CONNECT, &connect(stage.version, &[("wt-available-protocols", offered)]));
        is_refused(&peer, CONNECT)?;
    }
    Ok(())
}

fn other_requests(stage: &Stage<'_>) -> Outcome {
    let peer = asking(stage)?;
    let of = |method, path| {
        [(":method", method), (":scheme", "https"), (":authority", "a"), (":path", path)]
    };
    for index in 0..20 {
        let stream = 4 * index;
        peer.send(stream, &web::headers(&of("GET", "/index.html")));
        peer.finish(stream);
        is_refused(&peer, stream)?;
    }
    // A body that nobody reads, without an end; and a proxy that is none.
    peer.send(80, &[web::headers(&of("POST", "/")), build::hex("00 05 6162636465")].concat());
    is_refused(&peer, 80)?;
    peer.send(84, &web::headers(&[(":method", "CONNECT"), (":authority", "a:1")]));
    is_refused(&peer, 84)?;
    // A session may still begin.
    peer.send(88, &connect(stage.version, &[]));
    is_accepted(&peer, 88)
}

fn second_session(stage: &Stage<'_>) -> Outcome {
    let peer = asking(stage)?;
    peer.send(CONNECT, &connect(stage.version, &[]));
    is_accepted(&peer, CONNECT)?;
    peer.send(4, &connect(stage.version, &[]));
    match peer.ended(4)? {
        End::Reset(code::REQUEST_REJECTED) => Ok(()),
        End::Finished => is_refused(&peer, 4),
        other @ End::Reset(_) => Err(Failure::new("a refusal", format!("{other:?}"))),
    }
}

fn other_session(stage: &Stage<'_>) -> Outcome {
    // Our engine's tests say with which code; here it matters that the session goes on.
    let peer = asking(stage)?;
    peer.send(CONNECT, &connect(stage.version, &[]));
    peer.send(6, &build::hex("4054 04 61"));
    peer.send(4, &build::hex("4041 08 61"));
    peer.datagram(&build::hex("0a 61"))?;
    peer.send(10, &build::hex("4054 00 af00 0000"));
    sets_up(&peer)
}

fn early(stage: &Stage<'_>) -> Outcome {
    let peer = asking(stage)?;
    for index in 0..100 {
        peer.send(6 + 4 * index, &[build::hex("4054 00 14 07 01 00 80"), vec![7; 5_000]].concat());
    }
    for _ in 0..100 {
        peer.datagram(&build::hex("00 00 01 02 03 80 70"))?;
    }
    peer.send(CONNECT, &connect(stage.version, &[]));
    is_accepted(&peer, CONNECT)
}

fn behind_close(stage: &Stage<'_>) -> Outcome {
    let peer = asking(stage)?;
    peer.send(CONNECT, &connect(stage.version, &[]));
    peer.send(CONNECT, &build::hex("0009 6843 04 00000000 0000"));
    match peer.wait("an end", PATIENCE, |quic| {
        quic.closed().map(Err).or_else(|| quic.received.get(&CONNECT)?.end.map(Ok))
    })? {
        Ok(End::Reset(code::MESSAGE_ERROR) | End::Finished) | Err(Closed::Session { .. }) => Ok(()),
        other => Err(Failure::new("H3_MESSAGE_ERROR", format!("{other:?}"))),
    }
}

/// Waits for the relay's SETUP on a stream of the session's.
fn sets_up(peer: &Peer) -> Outcome {
    let head = build::hex("4054 00 af00");
    peer.wait("the relay's SETUP", PATIENCE, |quic| {
        quic.received.values().any(|it| it.bytes.starts_with(&head)).then_some(())
    })
}

fn grease(stage: &Stage<'_>) -> Outcome {
    let peer = stage.http3()?;
    // Settings, frames and streams of reserved types; QPACK's streams with nothing to say.
    peer.send(CONTROL, &build::hex("00 0406 0801 3301 2101"));
    peer.send(CONTROL, &build::hex("21 03 010203 800f0700 03 003031"));
    peer.send(6, &build::hex("21 616263"));
    peer.finish(6);
    peer.send(10, &build::hex("02 20"));
    peer.send(14, &build::hex("03 40"));
    peer.send(CONNECT, &build::hex("40ff 03 616263"));
    peer.send(CONNECT, &connect(stage.version, &[]));
    // A capsule of no meaning, DRAIN_WEBTRANSPORT_SESSION, and a frame of no meaning.
    peer.send(CONNECT, &build::hex("00 0a 17 03 616263 800078ae 00 21 01 61"));
    peer.send(18, &build::hex("4054 00 af00 0000"));
    sets_up(&peer)
}

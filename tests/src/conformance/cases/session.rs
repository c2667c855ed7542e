//! SETUP: what it may hold, and what a relay must not mind.

use aip_codec::moqt::error_code::SessionCode;

use crate::conformance::{
    build,
    case::{Case, Over, case},
    failure::{Outcome, ensure},
    peer::{PATIENCE, Peer},
    stage::Stage,
};

/// An option that no draft defines, of the kind that is for being ignored.
const GREASE: u64 = 0x7f * 3 + 0x9d;

#[expect(clippy::too_many_lines, reason = "a table, one entry a case")]
pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(
            "setup-unknown-options",
            "unknown setup options, even repeated, are ignored",
            "9.1",
            unknown_options,
        ),
        case(
            "setup-non-minimal",
            "integers longer than they need be are accepted",
            "8.1",
            non_minimal,
        ),
        case("setup-byte-by-byte", "SETUP may come one byte at a time", "9.1", byte_by_byte),
        case(
            "setup-implementation",
            "the relay names its implementation in UTF-8",
            "9.1",
            implementation,
        ),
        case(
            "request-before-setup",
            "a request that comes before SETUP is answered or reset",
            "6.4",
            request_before_setup,
        )
        .hostile(),
        case(
            "data-before-setup",
            "data before SETUP, then a close, hurts nobody",
            "6.4",
            data_before_setup,
        )
        .hostile(),
        case(
            "datagram-before-setup",
            "a datagram before SETUP hurts nobody",
            "6.4",
            datagram_before_setup,
        )
        .hostile(),
        case(
            "close-without-setup",
            "a connection that closes at once hurts nobody",
            "6.4",
            close_without_setup,
        )
        .hostile(),
        case(
            "unknown-error-codes",
            "unknown error codes never end a session",
            "12",
            unknown_error_codes,
        ),
    ];
    cases.extend(BAD_SETUPS.iter().map(|(name, about, section, body, codes)| {
        // Over HTTP/3 neither PATH nor AUTHORITY has a place.
        let of_quic = name.contains("-path-") || name.contains("-authority");
        case(*name, *about, section, move |stage| {
            let peer = stage.bare()?;
            let control = peer.unidirectional(&[]);
            peer.send(control, &build::frame(0x2f00, &build::hex(body)));
            peer.closes_with(codes, PATIENCE)
        })
        .over(if of_quic { Over::Quic } else { Over::Any })
        .hostile()
    }));
    cases.extend(OF_QUIC.iter().map(|(name, about, section, body, codes)| {
        case(*name, *about, section, move |stage| {
            let peer = stage.bare()?;
            let control = peer.unidirectional(&[]);
            peer.send(control, &build::frame(0x2f00, &build::hex(body)));
            peer.closes_with(codes, PATIENCE)
        })
        .over(Over::WebTransport)
        .hostile()
    }));
    cases.push(
        case(
            "malformed-setup-max-filter-ranges-twice",
            "MAX_FILTER_RANGES must not repeat",
            "9.1",
            |stage| {
                let peer = stage.bare()?;
                let control = peer.unidirectional(&[]);
                peer.send(control, &build::frame(0x2f00, &build::hex("06010001")));
                peer.closes_with(&[VIOLATION], PATIENCE)
            },
        )
        .drafts(19..=22)
        .hostile(),
    );
    cases
}

const VIOLATION: u64 = SessionCode::PROTOCOL_VIOLATION.0;
const FORMATTING: u64 = SessionCode::KEY_VALUE_FORMATTING_ERROR.0;

/// Name, what it is, section, body of SETUP, codes.
type BadSetup = (&'static str, &'static str, &'static str, &'static str, &'static [u64]);

const BAD_SETUPS: &[BadSetup] = &[
    (
        "malformed-setup-path-relative",
        "PATH must begin with a slash",
        "9.1",
        "0102 6161",
        &[SessionCode::MALFORMED_PATH.0],
    ),
    (
        "malformed-setup-path-characters",
        "PATH must be one of a URI",
        "9.1",
        "0103 2f2061",
        &[SessionCode::MALFORMED_PATH.0],
    ),
    (
        "malformed-setup-authority",
        "AUTHORITY must be one of a URI",
        "9.1",
        "0503 612f62",
        &[SessionCode::MALFORMED_AUTHORITY.0],
    ),
    ("malformed-setup-path-twice", "PATH must not repeat", "9.1", "01012f 00012f", &[VIOLATION]),
    (
        "malformed-setup-authority-twice",
        "AUTHORITY must not repeat",
        "9.1",
        "050161 000161",
        &[VIOLATION],
    ),
    (
        "malformed-setup-cache-size-twice",
        "MAX_AUTH_TOKEN_CACHE_SIZE must not repeat",
        "9.1",
        "0401 0001",
        &[VIOLATION],
    ),
    (
        "malformed-setup-implementation-twice",
        "MOQT_IMPLEMENTATION must not repeat",
        "9.1",
        "070161 000161",
        &[VIOLATION],
    ),
    (
        "malformed-setup-option-cut-short",
        "an option must lie inside SETUP",
        "8.3",
        "010a2f61",
        &[VIOLATION, FORMATTING],
    ),
    (
        "malformed-setup-integer-cut-short",
        "an integer must lie inside SETUP",
        "8.3",
        "04ff00",
        &[VIOLATION, FORMATTING],
    ),
    (
        "malformed-setup-value-cut-short",
        "an option must have a value",
        "8.3",
        "04",
        &[VIOLATION, FORMATTING],
    ),
    (
        "malformed-setup-value-65536",
        "a value has at most 65,535 bytes",
        "8.3",
        "01c10000 2f",
        &[VIOLATION, FORMATTING],
    ),
    (
        "malformed-setup-value-huge",
        "a value's length is not believed",
        "8.3",
        "01ffffffffffffffffff 2f",
        &[VIOLATION, FORMATTING],
    ),
    (
        "malformed-setup-type-overflow",
        "an option's type has 64 bits",
        "8.3",
        "04 01 ffffffffffffffffff 01",
        &[VIOLATION, FORMATTING],
    ),
    (
        "malformed-setup-token-type",
        "a token's alias type is known",
        "8.9",
        "03020901",
        &[FORMATTING, SessionCode::MALFORMED_AUTH_TOKEN.0],
    ),
    (
        "malformed-setup-token-empty",
        "a token is not empty",
        "8.9",
        "0300",
        &[FORMATTING, SessionCode::MALFORMED_AUTH_TOKEN.0],
    ),
    (
        "malformed-setup-token-cut-short",
        "a token's fields lie inside it",
        "8.9",
        "030201ff",
        &[FORMATTING, SessionCode::MALFORMED_AUTH_TOKEN.0],
    ),
    (
        "malformed-setup-token-use-alias",
        "USE_ALIAS has no place in a client's SETUP",
        "8.9",
        "03020201",
        &[VIOLATION],
    ),
    (
        "malformed-setup-token-delete",
        "DELETE has no place in a client's SETUP",
        "8.9",
        "03020001",
        &[VIOLATION],
    ),
];

/// What has no place in SETUP over HTTP/3.
const OF_QUIC: &[BadSetup] = &[
    (
        "malformed-setup-path-over-webtransport",
        "WebTransport's request has said the path",
        "9.1",
        "0102 2f61",
        &[SessionCode::INVALID_PATH.0],
    ),
    (
        "malformed-setup-authority-over-webtransport",
        "WebTransport's request has said the authority",
        "9.1",
        "0503 612e62",
        &[SessionCode::INVALID_AUTHORITY.0],
    ),
];

/// A peer whose SETUP has this body; the relay's is here.
fn set_up(stage: &Stage<'_>, body: &[u8]) -> Outcome<Peer> {
    let peer = stage.bare()?;
    let control = peer.unidirectional(&[]);
    peer.send(control, &build::frame(0x2f00, body));
    peer.await_setup()?;
    Ok(peer)
}

fn unknown_options(stage: &Stage<'_>) -> Outcome {
    // Once as bytes and, an even number later, twice as an integer.
    assert_eq!(GREASE % 2, 0, "the first grease is an integer");
    let mut body = build::varint(GREASE);
    body.extend([5, 0, 6, 1, 1, b'x']);
    set_up(stage, &body)?.answers()
}

fn non_minimal(stage: &Stage<'_>) -> Outcome {
    let peer = stage.bare()?;
    // Type 0x2F00 in nine bytes; MAX_AUTH_TOKEN_CACHE_SIZE 5 as a long delta and a long value.
    let mut bytes = build::hex("ff0000000000002f00");
    let body = build::hex("ff0000000000000004 fe00000000000005");
    bytes.extend(u16::try_from(body.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(body);
    let control = peer.unidirectional(&[]);
    peer.send(control, &bytes);
    peer.await_setup()?;
    peer.answers()
}

fn byte_by_byte(stage: &Stage<'_>) -> Outcome {
    let peer = stage.bare()?;
    let control = peer.unidirectional(&[]);
    for byte in build::frame(0x2f00, &build::hex("0405 07026161 0301")) {
        peer.send(control, &[byte]);
        // Each in a packet of its own.
        let mut turns = 0;
        peer.until("time to pass", |_| {
            turns += 1;
            (1 < turns).then_some(())
        })?;
    }
    peer.await_setup()?;
    peer.answers()
}

fn implementation(stage: &Stage<'_>) -> Outcome {
    let name = stage.session()?.relays_setup().implementation.unwrap_or_default();
    ensure(std::str::from_utf8(&name).is_ok(), "MOQT_IMPLEMENTATION in UTF-8", name)
}

fn request_before_setup(stage: &Stage<'_>) -> Outcome {
    let peer = stage.bare()?;
    let stream = peer.request(&build::track_status(peer.request_id(), &build::nobodys_track()));
    peer.unidirectional(&build::frame(0x2f00, &[]));
    peer.await_setup()?;
    // An answer, or a stream that was reset: both will do, a session that closes will not.
    peer.heard(stream)?;
    peer.answers()
}

fn data_before_setup(stage: &Stage<'_>) -> Outcome {
    let peer = stage.bare()?;
    for group in 0..10 {
        let mut subgroup = build::Subgroup::new(1, group, 0).object(0, &[7; 1_000]);
        let stream = peer.unidirectional(&subgroup.take());
        peer.finish(stream);
    }
    peer.close(0);
    Ok(())
}

fn datagram_before_setup(stage: &Stage<'_>) -> Outcome {
    let peer = stage.bare()?;
    peer.datagram(&build::hex("00 01 02 03 80 70"))?;
    let control = peer.unidirectional(&[]);
    peer.send(control, &build::frame(0x2f00, &[]));
    peer.await_setup()?;
    peer.answers()
}

fn close_without_setup(stage: &Stage<'_>) -> Outcome {
    for _ in 0..5 {
        stage.bare()?.close(0);
    }
    Ok(())
}

fn unknown_error_codes(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let subscriber = stage.session()?;
    let id = subscriber.request_id();
    let stream = subscriber.request(&build::subscribe(id, &stage.track("t"), build::none()));
    let (upstream, _) = publisher.subscribed()?;
    let code = aip_codec::moqt::error_code::RequestCode(GREASE);
    publisher.say(upstream, &build::request_error(code));
    subscriber.heard(stream)?;
    subscriber.reset(stream, GREASE);
    publisher.answers()?;
    subscriber.answers()
}

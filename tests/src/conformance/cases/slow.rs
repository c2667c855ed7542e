//! Peers that dawdle (W8, W11): each is closed by a timer of the relay's.

use std::time::{Duration, Instant};

use aip_codec::moqt::{error_code::SessionCode, message::Message};

use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome},
    peer::{Heard, Peer},
    quic::Closed,
    stage::{ALIAS, Stage},
};

const TIMEOUT: &[u64] = &[SessionCode::CONTROL_MESSAGE_TIMEOUT.0];
const DATA_TIMEOUT: &[u64] = &[SessionCode::DATA_STREAM_TIMEOUT.0];
/// Longer than any relay should wait.
const LONG: Duration = Duration::from_secs(45);

pub(super) fn cases() -> Vec<Case> {
    [
        case("slow-no-setup", "a session without SETUP is closed (W8)", "6.3", no_setup),
        case("slow-setup", "a SETUP that never ends is closed (W11)", "6.3", slow_setup),
        case(
            "slow-control-message",
            "a control message that never ends is closed (W11)",
            "6.3",
            slow_control,
        ),
        case("slow-request", "a request that never ends is closed (W11)", "6.3", slow_request),
        case("slow-answer", "an answer that never ends is closed (W11)", "6.3", slow_answer),
        case("slow-object", "an object that never ends is closed (W11)", "11.3.1", slow_object),
        case(
            "slow-object-header",
            "an object's header that never ends is closed (W11)",
            "11.3.1",
            slow_object_header,
        ),
    ]
    .into_iter()
    .map(|case| case.hostile().slow())
    .collect()
}

fn no_setup(stage: &Stage<'_>) -> Outcome {
    let peer = stage.bare()?;
    peer.request(&build::track_status(peer.request_id(), &build::nobodys_track()));
    peer.closes_with(TIMEOUT, LONG)
}

/// Sends a byte now and then until the session is closed with one of `codes`.
fn drip(peer: &Peer, stream: u64, mut bytes: impl Iterator<Item = u8>, codes: &[u64]) -> Outcome {
    let began = Instant::now();
    loop {
        if let Some(byte) = bytes.next() {
            peer.send(stream, &[byte]);
        }
        match peer.closes_with(codes, Duration::from_millis(500)) {
            Ok(()) => return Ok(()),
            Err(failure) if peer.closed().is_some() => return Err(failure),
            Err(failure) if LONG < began.elapsed() => {
                return Err(Failure::new(failure.expected, "nothing within 45 s"));
            }
            Err(_) => {}
        }
    }
}

fn slow_setup(stage: &Stage<'_>) -> Outcome {
    let peer = stage.bare()?;
    // SETUP of 1,000 bytes, of one unknown option.
    let bytes = [build::hex("af00 03e8 3b 83e5"), vec![b'x'; 100]].concat();
    let control = peer.unidirectional(&[]);
    drip(&peer, control, bytes.into_iter(), TIMEOUT)
}

fn slow_control(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let bytes = [build::hex("10 03e8 83e0"), vec![b'u'; 100]].concat();
    drip(&peer, Peer::CONTROL, bytes.into_iter(), TIMEOUT)
}

fn slow_request(stage: &Stage<'_>) -> Outcome {
    let peer = stage.session()?;
    let bytes = [build::hex("03 03e8 00 01 8300"), vec![b'n'; 100]].concat();
    let stream = peer.bidirectional(&bytes[..1]);
    drip(&peer, stream, bytes.into_iter().skip(1), TIMEOUT)
}

fn slow_answer(stage: &Stage<'_>) -> Outcome {
    let (publisher, _) = stage.publisher()?;
    let subscriber = stage.session()?;
    let id = subscriber.request_id();
    let asked = subscriber.request(&build::subscribe(id, &stage.track("t"), build::none()));
    let (stream, _) = publisher.subscribed()?;
    let bytes = [build::hex("05 03e8 10 00 8300"), vec![b'r'; 100]].concat();
    let began = Instant::now();
    for byte in bytes {
        publisher.send(stream, &[byte]);
        // The session is closed, or the relay gives up its request: either frees who waits.
        if publisher.given_up(stream, Duration::from_millis(500)).is_ok()
            || publisher.closed().is_some()
            || LONG < began.elapsed()
        {
            break;
        }
    }
    match publisher.closed() {
        None if LONG < began.elapsed() => Err(Failure::new("an end", "nothing within 45 s")),
        Some(Closed::Session { code, .. }) if !TIMEOUT.contains(&code) => {
            publisher.closes_with(TIMEOUT, LONG)
        }
        _ => match subscriber.heard_within(asked, LONG)? {
            Heard::Message(Message::RequestError(_)) => Ok(()),
            other => Err(Failure::new("REQUEST_ERROR for who waits", format!("{other:?}"))),
        },
    }
}

fn slow_object(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    let mut subgroup = build::Subgroup::new(ALIAS, 1, 0).object(0, &[b'p'; 500]);
    let bytes = subgroup.take();
    let stream = live.publisher.unidirectional(&bytes[..20]);
    let rest = bytes.slice(20..120);
    drip(&live.publisher, stream, rest.into_iter(), DATA_TIMEOUT)
}

fn slow_object_header(stage: &Stage<'_>) -> Outcome {
    let live = stage.live(build::none())?;
    // Subgroup 0 of group 1: the object's properties have 1,000 bytes, which do not come.
    let bytes = [build::hex("31 07 01 00 83e8"), vec![0; 50]].concat();
    let stream = live.publisher.unidirectional(&bytes[..3]);
    drip(&live.publisher, stream, bytes.into_iter().skip(3), DATA_TIMEOUT)
}

//! What a publisher or an invited subscriber answers, spoilt; whoever asked through the relay gets
//! an answer all the same (W12).

use aip_codec::{
    Version,
    moqt::{error_code::SessionCode, message::Message},
};

use super::{FORMATTING, VIOLATION};
use crate::conformance::{
    build,
    case::{Case, case},
    failure::{Failure, Outcome},
    peer::{Heard, PATIENCE, Peer, name},
    stage::{ALIAS, Stage},
};

/// Where a response is due.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The relay has sent SUBSCRIBE.
    Subscribe,
    /// The relay has sent SUBSCRIBE and has its SUBSCRIBE_OK.
    Subscribed,
    /// The relay has sent FETCH.
    Fetch,
    /// The relay has sent PUBLISH.
    Offer,
    /// We have sent SUBSCRIBE, which waits.
    Subscribing,
    /// We have sent PUBLISH, which is accepted.
    Publishing,
}

/// A message with a good body: where it is due, its type, its body, the first draft that has it.
struct Good {
    name: &'static str,
    place: Place,
    code: u64,
    body: &'static str,
    since: u8,
    /// Whether properties stand at its end.
    has_properties: bool,
}

const GOOD: &[Good] = &[
    Good {
        name: "subscribe-ok",
        place: Place::Subscribe,
        code: 0x04,
        body: "0700",
        since: 18,
        has_properties: true,
    },
    Good {
        name: "request-error",
        place: Place::Subscribe,
        code: 0x05,
        body: "100000",
        since: 18,
        has_properties: false,
    },
    Good {
        name: "fetch-ok",
        place: Place::Fetch,
        code: 0x18,
        body: "00050600",
        since: 18,
        has_properties: true,
    },
    Good {
        name: "fetch-error",
        place: Place::Fetch,
        code: 0x05,
        body: "100000",
        since: 18,
        has_properties: false,
    },
    Good {
        name: "request-ok",
        place: Place::Offer,
        code: 0x07,
        body: "00",
        since: 18,
        has_properties: true,
    },
    Good {
        name: "publish-done",
        place: Place::Subscribed,
        code: 0x0b,
        body: "020000",
        since: 18,
        has_properties: false,
    },
    Good {
        name: "publish-done-of-publish",
        place: Place::Publishing,
        code: 0x0b,
        body: "020000",
        since: 18,
        has_properties: false,
    },
    Good {
        name: "publish-state-notify",
        place: Place::Subscribed,
        code: 0x22,
        body: "00",
        since: 20,
        has_properties: false,
    },
    Good {
        name: "request-update",
        place: Place::Subscribing,
        code: 0x02,
        body: "0200",
        since: 18,
        has_properties: false,
    },
    Good {
        name: "goaway-on-request",
        place: Place::Subscribing,
        code: 0x10,
        body: "0000",
        since: 18,
        has_properties: false,
    },
];

/// Name, what is wrong, place, type, body, codes, first draft.
type Bad = (&'static str, &'static str, Place, u64, &'static str, &'static [u64], u8);

const BAD: &[Bad] = &[
    (
        "subscribe-ok-parameter-unknown",
        "an unknown parameter cannot be skipped",
        Place::Subscribe,
        0x04,
        "07 01 7e01",
        &[VIOLATION],
        18,
    ),
    (
        "subscribe-ok-parameter-out-of-scope",
        "FORWARD has no place in SUBSCRIBE_OK",
        Place::Subscribe,
        0x04,
        "07 01 1001",
        &[VIOLATION],
        18,
    ),
    (
        "subscribe-ok-parameter-twice",
        "EXPIRES does not repeat",
        Place::Subscribe,
        0x04,
        "07 02 0801 0001",
        &[VIOLATION],
        18,
    ),
    (
        "subscribe-ok-property-huge",
        "a property's length is not believed",
        Place::Subscribe,
        0x04,
        "07 00 3bffffffffffffffffff",
        &[VIOLATION, FORMATTING],
        18,
    ),
    (
        "subscribe-ok-group-order",
        "DEFAULT_PUBLISHER_GROUP_ORDER is 1 or 2",
        Place::Subscribe,
        0x04,
        "07 00 2203",
        &[VIOLATION],
        18,
    ),
    (
        "request-error-reason-1025",
        "a reason has at most 1,024 bytes",
        Place::Subscribe,
        0x05,
        "10 00 8401",
        &[VIOLATION],
        18,
    ),
    (
        "request-error-reason-huge",
        "a reason's length is not believed",
        Place::Subscribe,
        0x05,
        "10 00 ffffffffffffffffff",
        &[VIOLATION],
        18,
    ),
    (
        "request-error-redirect-missing",
        "REDIRECT says where to",
        Place::Subscribe,
        0x05,
        "34 00 00",
        &[VIOLATION],
        18,
    ),
    (
        "request-error-redirect-uri",
        "a client redirects to no other server",
        Place::Subscribe,
        0x05,
        "34 00 00 09 6d6f71743a2f2f6162 01 0161 0174",
        &[VIOLATION],
        18,
    ),
    (
        "fetch-ok-end-of-track-2",
        "End Of Track is 0 or 1",
        Place::Fetch,
        0x18,
        "02 05 06 00",
        &[VIOLATION],
        18,
    ),
    (
        "fetch-ok-parameter",
        "FETCH_OK has no parameters",
        Place::Fetch,
        0x18,
        "00 05 06 01 0801",
        &[VIOLATION],
        18,
    ),
    (
        "fetch-ok-before-start",
        "a FETCH does not end before its beginning",
        Place::Fetch,
        0x18,
        "00 00 01 00",
        &[VIOLATION],
        18,
    ),
    (
        "request-ok-properties",
        "only TRACK_STATUS_OK has properties",
        Place::Offer,
        0x07,
        "00 0401",
        &[VIOLATION],
        18,
    ),
    (
        "request-ok-parameter-out-of-scope",
        "LARGEST_OBJECT has no place in PUBLISH_OK",
        Place::Offer,
        0x07,
        "01 090101",
        &[VIOLATION],
        18,
    ),
    (
        "publish-done-reason-1025",
        "a reason has at most 1,024 bytes",
        Place::Subscribed,
        0x0b,
        "02 00 8401",
        &[VIOLATION],
        18,
    ),
    (
        "publish-done-reason-huge",
        "a reason's length is not believed",
        Place::Publishing,
        0x0b,
        "02 00 ffffffffffffffffff",
        &[VIOLATION],
        18,
    ),
    (
        "request-update-id-parity",
        "a client's request ids are even",
        Place::Subscribing,
        0x02,
        "01 00",
        &[SessionCode::INVALID_REQUEST_ID.0],
        18,
    ),
    (
        "request-update-id-repeated",
        "an update has an id of its own",
        Place::Subscribing,
        0x02,
        "00 00",
        &[SessionCode::INVALID_REQUEST_ID.0],
        18,
    ),
    (
        "request-update-parameter-unknown",
        "an unknown parameter cannot be skipped",
        Place::Subscribing,
        0x02,
        "02 01 7e01",
        &[VIOLATION],
        18,
    ),
    (
        "request-update-prefix",
        "a subscription has no prefix",
        Place::Subscribing,
        0x02,
        "02 01 34 01 0161",
        &[VIOLATION],
        18,
    ),
    (
        "request-update-forward-2",
        "FORWARD is 0 or 1",
        Place::Subscribing,
        0x02,
        "02 01 1002",
        &[VIOLATION],
        18,
    ),
    (
        "request-update-by-publisher",
        "who is subscribed to does not update",
        Place::Subscribed,
        0x02,
        "02 00",
        &[VIOLATION],
        18,
    ),
    (
        "goaway-on-request-uri",
        "a client names no other server",
        Place::Subscribing,
        0x10,
        "09 6d6f71743a2f2f6162 00",
        &[VIOLATION],
        18,
    ),
    (
        "goaway-on-request-uri-8193",
        "a URI has at most 8,192 bytes",
        Place::Subscribing,
        0x10,
        "a001 00",
        &[VIOLATION],
        18,
    ),
    (
        "publish-state-notify-out-of-scope",
        "EXPIRES has no place in PUBLISH_STATE_NOTIFY",
        Place::Subscribed,
        0x22,
        "01 0801",
        &[VIOLATION],
        20,
    ),
    // Valid messages that have no place there.
    (
        "wrong-answer-to-subscribe-request-ok",
        "SUBSCRIBE is not answered by REQUEST_OK",
        Place::Subscribe,
        0x07,
        "00",
        &[VIOLATION],
        18,
    ),
    (
        "wrong-answer-to-subscribe-fetch-ok",
        "SUBSCRIBE is not answered by FETCH_OK",
        Place::Subscribe,
        0x18,
        "00050600",
        &[VIOLATION],
        18,
    ),
    (
        "wrong-answer-to-subscribe-publish-done",
        "PUBLISH_DONE is no first answer",
        Place::Subscribe,
        0x0b,
        "020000",
        &[VIOLATION],
        18,
    ),
    (
        "wrong-answer-to-fetch-subscribe-ok",
        "FETCH is not answered by SUBSCRIBE_OK",
        Place::Fetch,
        0x04,
        "0700",
        &[VIOLATION],
        18,
    ),
    (
        "wrong-answer-to-fetch-request-ok",
        "FETCH is not answered by REQUEST_OK",
        Place::Fetch,
        0x07,
        "00",
        &[VIOLATION],
        18,
    ),
    (
        "wrong-answer-to-publish-subscribe-ok",
        "PUBLISH is not answered by SUBSCRIBE_OK",
        Place::Offer,
        0x04,
        "0700",
        &[VIOLATION],
        18,
    ),
    (
        "second-subscribe-ok",
        "a request is answered once",
        Place::Subscribed,
        0x04,
        "0700",
        &[VIOLATION],
        18,
    ),
    (
        "second-answer-request-error",
        "a request is answered once",
        Place::Subscribed,
        0x05,
        "100000",
        &[VIOLATION],
        18,
    ),
    (
        "update-answer-without-update",
        "an answer to no update has no place",
        Place::Subscribed,
        0x07,
        "00",
        &[VIOLATION],
        18,
    ),
    (
        "publish-done-by-subscriber",
        "a subscriber does not end a publication",
        Place::Subscribing,
        0x0b,
        "020000",
        &[VIOLATION],
        18,
    ),
    (
        "publish-state-notify-by-subscriber",
        "a subscriber has no publisher's state",
        Place::Subscribing,
        0x22,
        "00",
        &[VIOLATION],
        20,
    ),
    (
        "subscribe-on-subscribe",
        "a stream has one request",
        Place::Subscribing,
        0x03,
        "02 01 0161 0174 00",
        &[VIOLATION],
        18,
    ),
    (
        "namespace-on-subscribe",
        "NAMESPACE answers SUBSCRIBE_NAMESPACE only",
        Place::Subscribe,
        0x08,
        "01 0161",
        &[VIOLATION],
        18,
    ),
    (
        "namespace-done-on-subscribe",
        "NAMESPACE_DONE answers SUBSCRIBE_NAMESPACE only",
        Place::Subscribe,
        0x0e,
        "01 0161",
        &[VIOLATION],
        18,
    ),
    (
        "publish-skipped-on-subscribe",
        "PUBLISH_SKIPPED answers SUBSCRIBE_TRACKS only",
        Place::Subscribe,
        0x0f,
        "01 0161 0174",
        &[VIOLATION],
        18,
    ),
    (
        "setup-on-request",
        "SETUP has no place on a request's stream",
        Place::Subscribing,
        0x2f00,
        "",
        &[VIOLATION],
        18,
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = GOOD.iter().flat_map(spoilt).collect();
    cases.extend(BAD.iter().map(|(name, about, place, code, body, codes, since)| {
        response(format!("malformed-{name}"), (*about).to_owned(), *place, codes, move |_| {
            let mut body = build::hex(body);
            // What is too long is there in full: only its length is wrong.
            if name.ends_with("-1025") {
                body.resize(body.len() + 1_025, b'r');
            }
            if name.ends_with("-8193") {
                body = [vec![0xa0, 0x01], vec![b'u'; 8_193], vec![0]].concat();
            }
            build::frame(*code, &body)
        })
        .drafts(*since..=22)
    }));
    cases
}

fn spoilt(good: &'static Good) -> Vec<Case> {
    let variant = |suffix: &str, about: &str, codes, frame: fn(u64, &[u8]) -> Vec<u8>| {
        let name = format!("malformed-{}-{suffix}", good.name);
        response(name, about.to_owned(), good.place, codes, move |_| {
            frame(good.code, &build::hex(good.body))
        })
        .drafts(good.since..=22)
    };
    let trailing: &[u64] =
        if good.has_properties { &[VIOLATION, FORMATTING] } else { &[VIOLATION] };
    let mut cases = vec![
        variant("length-zero", "a message is not empty", &[VIOLATION], |code, body| {
            build::framed_as(code, 0, body)
        }),
        variant("cut-short", "an integer lies inside its message", &[VIOLATION], |code, body| {
            let mut body = body.to_vec();
            if let Some(last) = body.last_mut() {
                *last = 0xff;
            }
            build::frame(code, &body)
        }),
    ];
    if 2 < good.body.len() {
        cases.push(variant(
            "length-short",
            "a message's fields end with its length",
            &[VIOLATION],
            |code, body| {
                let length = u16::try_from(body.len() - 1).unwrap_or(0);
                build::framed_as(code, length, body)
            },
        ));
    }
    // Draft 18's GOAWAY may have one integer more.
    let first = if good.code == 0x10 { good.since.max(19) } else { good.since };
    cases.push(
        variant(
            "trailing-byte",
            "nothing stands behind a message's fields",
            trailing,
            |code, body| build::frame(code, &[body, &[0]].concat()),
        )
        .drafts(first..=22),
    );
    cases
}

/// A case in which `frame` comes where a response is due.
fn response(
    name: String,
    about: String,
    place: Place,
    codes: &'static [u64],
    frame: impl Fn(Version) -> Vec<u8> + Send + Sync + 'static,
) -> Case {
    case(name, about, "9", move |stage| {
        let frame = frame(stage.version);
        match place {
            Place::Subscribe | Place::Subscribed | Place::Fetch => {
                upstream(stage, place, &frame, codes)
            }
            Place::Offer => offered(stage, &frame, codes),
            Place::Subscribing | Place::Publishing => own(stage, place, &frame, codes),
        }
    })
    .hostile()
}

/// The relay asks us, for somebody else.
fn upstream(stage: &Stage<'_>, place: Place, frame: &[u8], codes: &[u64]) -> Outcome {
    let (offender, _) = stage.publisher()?;
    let innocent = stage.session()?;
    let id = innocent.request_id();
    let track = stage.track("t");
    let request = if matches!(place, Place::Fetch) {
        let (start, end) = (build::at(1, 0), build::at(9, 9));
        build::fetch(innocent.version, id, &track, start, end, build::none())
    } else {
        build::subscribe(id, &track, build::none())
    };
    let asked = innocent.request(&request);
    let stream = match place {
        Place::Fetch => offender.fetched_from()?.0,
        _ => offender.subscribed()?.0,
    };
    if matches!(place, Place::Subscribed) {
        offender.say(stream, &build::subscribe_ok(ALIAS, build::none()));
        innocent.subscribe_ok(asked)?;
    }
    offender.send(stream, frame);
    offender.closes_with(codes, PATIENCE)?;
    // A refusal, PUBLISH_DONE, or at least the stream's end; and the session goes on.
    match innocent.heard(asked).map_err(|it| it.instead_of("an answer to who asked"))? {
        Heard::Message(
            Message::RequestError(_) | Message::PublishDone(_) | Message::FetchOk(_),
        )
        | Heard::End(_) => innocent.answers(),
        Heard::Message(other) => Err(Failure::new("a refusal", name(&other))),
    }
}

/// The relay offers us somebody else's track.
fn offered(stage: &Stage<'_>, frame: &[u8], codes: &[u64]) -> Outcome {
    let offender = stage.session()?;
    let id = offender.request_id();
    let stream = offender.request(&build::subscribe_tracks(id, &stage.namespace, build::none()));
    offender.ok(stream)?;
    let innocent = stage.session()?;
    let id = innocent.request_id();
    // A relay may hold its answer until it has that of whoever is offered the track.
    innocent.request(&build::publish(id, &stage.track("t"), ALIAS));
    let (stream, _) = offender.incoming()?;
    offender.send(stream, frame);
    offender.closes_with(codes, PATIENCE)?;
    innocent.answers()
}

/// On a request of our own.
fn own(stage: &Stage<'_>, place: Place, frame: &[u8], codes: &[u64]) -> Outcome {
    let offender: Peer = stage.session()?;
    let id = offender.request_id();
    let stream = if matches!(place, Place::Publishing) {
        let stream = offender.request(&build::publish(id, &stage.track("t"), ALIAS));
        offender.ok(stream)?;
        stream
    } else {
        let waits = aip_codec::moqt::parameter::Parameter::RendezvousTimeout(10_000);
        offender.request(&build::subscribe(id, &stage.track("t"), build::with(waits)))
    };
    offender.send(stream, frame);
    offender.closes_with(codes, PATIENCE)
}

//! Messages where they have no place: on the control stream, and first on a request's.

use aip_codec::moqt::error_code::SessionCode;

use super::{VIOLATION, offence};
use crate::conformance::{
    build,
    case::{Case, case},
    failure::Outcome,
    peer::{PATIENCE, Peer},
    stage::Stage,
};

/// Each message of the draft with a good body: name, type, body, first draft.
pub(super) const MESSAGES: &[(&str, u64, &str, u8)] = &[
    ("subscribe", 0x03, "00 010161 0174 00", 18),
    ("publish", 0x1d, "00 010161 0174 09 00", 18),
    ("track-status", 0x0d, "00 010161 0174 00", 18),
    ("publish-namespace", 0x06, "00 010161 00", 18),
    ("subscribe-namespace", 0x50, "00 010161 00", 18),
    ("subscribe-tracks", 0x51, "00 010161 00", 18),
    ("subscribe-ok", 0x04, "07 00", 18),
    ("request-ok", 0x07, "00", 18),
    ("request-error", 0x05, "10 00 00", 18),
    ("request-update", 0x02, "00 00", 18),
    ("fetch-ok", 0x18, "00 05 06 00", 18),
    ("publish-done", 0x0b, "02 00 00", 18),
    ("publish-state-notify", 0x22, "00", 20),
    ("namespace", 0x08, "01 0161", 18),
    ("namespace-done", 0x0e, "01 0161", 18),
    ("publish-skipped", 0x0f, "01 0161 0174", 18),
];

/// How many of [`MESSAGES`] are requests, which stand first.
pub(super) const REQUESTS: usize = 6;

/// Types that no message has, and some that old drafts had.
const UNKNOWN: &[(&str, u64)] = &[
    ("00", 0x00),
    ("01", 0x01),
    ("09", 0x09),
    ("0a", 0x0a),
    ("11", 0x11),
    ("14", 0x14),
    ("15", 0x15),
    ("17", 0x17),
    ("20", 0x20),
    ("21", 0x21),
    ("40", 0x40),
    ("41", 0x41),
    ("9d", 0x9d),
    ("7fff", 0x7fff),
    ("max", u64::MAX),
];

pub(super) fn cases() -> Vec<Case> {
    let on_control = MESSAGES.iter().map(|(name, code, body, since)| {
        let name = format!("control-{name}");
        let about = "the control stream has SETUP and GOAWAY only".to_owned();
        offence(name, about, "6.4.1", &[VIOLATION], move |_, peer| {
            peer.send(Peer::CONTROL, &build::frame(*code, &build::hex(body)));
            Ok(())
        })
        .drafts(*since..=22)
    });
    let first = MESSAGES[REQUESTS..].iter().map(|(name, code, body, since)| {
        let name = format!("first-{name}");
        let about = "a bidirectional stream begins with a request".to_owned();
        offence(name, about, "6.4.2", &[VIOLATION], move |_, peer| {
            peer.bidirectional(&build::frame(*code, &build::hex(body)));
            Ok(())
        })
        .drafts(*since..=22)
    });
    let unknown = UNKNOWN.iter().flat_map(|(name, code)| {
        let on_control = offence(
            format!("control-type-{name}"),
            "an unknown message ends the session".to_owned(),
            "9",
            &[VIOLATION],
            move |_, peer| {
                peer.send(Peer::CONTROL, &build::frame(*code, &[0]));
                Ok(())
            },
        );
        let first = offence(
            format!("first-type-{name}"),
            "an unknown message ends the session".to_owned(),
            "9",
            &[VIOLATION],
            move |_, peer| {
                peer.bidirectional(&build::frame(*code, &[0]));
                Ok(())
            },
        );
        [on_control, first]
    });
    on_control.chain(first).chain(unknown).chain(others()).collect()
}

type Offend = fn(&Stage<'_>, &Peer) -> Outcome;

const OTHERS: &[(&str, &str, &str, Offend)] = &[
    ("control-second-setup", "SETUP comes once", "6.3", |_, peer| {
        peer.send(Peer::CONTROL, &build::frame(0x2f00, &[]));
        Ok(())
    }),
    ("control-second-stream", "there is one control stream", "6.3", |_, peer| {
        peer.unidirectional(&build::frame(0x2f00, &[]));
        Ok(())
    }),
    ("control-fin", "the control stream is not ended", "6.3", |_, peer| {
        peer.finish(Peer::CONTROL);
        Ok(())
    }),
    ("control-reset", "the control stream is not reset", "6.3", |_, peer| {
        // A reset can overtake what was sent before it.
        peer.answers()?;
        peer.reset(Peer::CONTROL, 0);
        Ok(())
    }),
    ("control-stopped", "the relay's control stream is not stopped", "6.3", |_, peer| {
        if let Some(control) = peer.relays_control() {
            peer.stop(control, 0);
        }
        Ok(())
    }),
    ("control-two-goaways", "GOAWAY comes once on a stream", "9.2", |_, peer| {
        for _ in 0..2 {
            peer.say(Peer::CONTROL, &build::goaway(peer.version, "", true));
        }
        Ok(())
    }),
    ("control-goaway-uri", "a client names no other server", "9.2", |_, peer| {
        peer.say(Peer::CONTROL, &build::goaway(peer.version, "moqt://other", true));
        Ok(())
    }),
    ("control-goaway-uri-8193", "a URI has at most 8,192 bytes", "9.2", |_, peer| {
        let body = [build::varint(8_193), vec![b'u'; 8_193], vec![0, 1]].concat();
        peer.send(Peer::CONTROL, &build::frame(0x10, &body));
        Ok(())
    }),
    ("control-goaway-uri-huge", "a URI's length is not believed", "9.2", |_, peer| {
        peer.send(Peer::CONTROL, &build::frame(0x10, &build::varint(u64::MAX)));
        Ok(())
    }),
    ("control-goaway-length-zero", "GOAWAY is not empty", "9.2", |_, peer| {
        peer.send(Peer::CONTROL, &build::frame(0x10, &[]));
        Ok(())
    }),
    ("control-goaway-trailing-byte", "nothing stands behind GOAWAY's fields", "9.2", |_, peer| {
        peer.send(Peer::CONTROL, &build::frame(0x10, &[0, 0, 1, 0]));
        Ok(())
    }),
    ("first-setup", "SETUP has no place on a request's stream", "6.3", |_, peer| {
        peer.bidirectional(&build::frame(0x2f00, &[]));
        Ok(())
    }),
    ("first-goaway", "GOAWAY is no request", "9.2", |_, peer| {
        peer.bidirectional(&build::frame(0x10, &[0, 0]));
        Ok(())
    }),
    ("update-of-track-status", "TRACK_STATUS is not updated", "9.5", |_, peer| {
        let status = build::track_status(peer.request_id(), &build::nobodys_track());
        let update = build::update(peer.request_id(), build::none());
        peer.bidirectional(&[peer.encode(&status), peer.encode(&update)].concat());
        Ok(())
    }),
    ("two-goaways-on-request", "GOAWAY comes once on a stream", "9.2", |stage, peer| {
        let live = stage.live(build::none())?;
        let id = peer.request_id();
        let stream = peer.request(&build::subscribe(id, &live.track, build::none()));
        peer.subscribe_ok(stream)?;
        for _ in 0..2 {
            peer.say(stream, &build::goaway(peer.version, "", false));
        }
        // While the publisher is there: without it, the request could be over before the second.
        peer.closes_with(&[VIOLATION], PATIENCE)
    }),
    ("call-without-offer", "AIP's CALL has to be negotiated", "AIP 4.1", |_, peer| {
        peer.bidirectional(&build::frame(0x4a10, &build::hex("00 010161 0178 00")));
        Ok(())
    }),
];

fn others() -> Vec<Case> {
    let mut cases: Vec<Case> = OTHERS
        .iter()
        .map(|(name, about, section, offend)| {
            offence((*name).to_owned(), (*about).to_owned(), section, &[VIOLATION], *offend)
        })
        .collect();
    cases.push(goaway_18());
    cases.extend(aliases());
    cases.extend(tokens());
    cases.push(first_not_setup());
    cases
}

fn goaway_18() -> Case {
    const CODES: &[u64] = &[SessionCode::INVALID_REQUEST_ID.0];
    let name = "control-goaway-id-parity".to_owned();
    let about = "a client's GOAWAY tells of a server's request".to_owned();
    offence(name, about, "9.2", CODES, |_, peer| {
        peer.send(Peer::CONTROL, &build::frame(0x10, &[0, 0, 2]));
        Ok(())
    })
    .drafts(18..=18)
}

fn first_not_setup() -> Case {
    case(
        "malformed-control-without-setup",
        "the control stream begins with SETUP",
        "6.3",
        |stage| {
            let peer = stage.bare()?;
            // GOAWAY's type is a subgroup's, whose header ends inside its fields.
            let stream = peer.unidirectional(&build::frame(0x07, &[0]));
            peer.finish(stream);
            peer.closes_with(&[VIOLATION], PATIENCE)
        },
    )
    .hostile()
}

fn aliases() -> Vec<Case> {
    const CODES: &[u64] = &[SessionCode::DUPLICATE_TRACK_ALIAS.0];
    let about = "one alias names one track (W10)";
    let publish = offence(
        "alias-twice-publish".to_owned(),
        about.to_owned(),
        "3.1.3",
        CODES,
        |stage, peer| {
            for name in ["a", "b"] {
                peer.request(&build::publish(peer.request_id(), &stage.track(name), 5));
            }
            Ok(())
        },
    );
    let subscribe_ok =
        case("malformed-alias-twice-subscribe-ok", about, "3.1.3", |stage: &Stage<'_>| {
            let (offender, _) = stage.publisher()?;
            let innocent = stage.session()?;
            let mut asked = Vec::new();
            for name in ["a", "b"] {
                let id = innocent.request_id();
                let track = stage.track(name);
                asked.push(innocent.request(&build::subscribe(id, &track, build::none())));
                let (stream, _) = offender.subscribed()?;
                offender.say(stream, &build::subscribe_ok(5, build::none()));
            }
            offender.closes_with(CODES, PATIENCE)?;
            for stream in asked {
                innocent.heard(stream)?;
            }
            innocent.answers()
        })
        .hostile();
    vec![publish, subscribe_ok]
}

/// A block of one AUTHORIZATION_TOKEN that registers `alias` with `length` bytes.
fn register(alias: u64, length: usize) -> Vec<u8> {
    let mut token = [vec![1], build::varint(alias), vec![0]].concat();
    token.resize(token.len() + length, 7);
    [vec![1, 3], build::varint(token.len() as u64), token].concat()
}

fn announce(peer: &Peer, parameters: &[u8]) {
    let mut namespace = bytes::BytesMut::new();
    build::namespace(&[build::unique()]).encode(&mut namespace);
    let id = build::varint(peer.request_id().0);
    peer.bidirectional(&build::frame(0x06, &[&id[..], &namespace, parameters].concat()));
}

fn tokens() -> Vec<Case> {
    const DUPLICATE: &[u64] =
        &[SessionCode::DUPLICATE_AUTH_TOKEN_ALIAS.0, SessionCode::AUTH_TOKEN_CACHE_OVERFLOW.0];
    const OVERFLOW: &[u64] = &[SessionCode::AUTH_TOKEN_CACHE_OVERFLOW.0];
    vec![
        // A relay that keeps no tokens calls the first of them too many.
        offence(
            "token-alias-twice".to_owned(),
            "a live token alias is not registered again".to_owned(),
            "8.9",
            DUPLICATE,
            |_, peer| {
                announce(peer, &register(9, 1));
                announce(peer, &register(9, 1));
                Ok(())
            },
        ),
        offence(
            "token-cache-overflow".to_owned(),
            "no more tokens are registered than the relay keeps".to_owned(),
            "8.9",
            OVERFLOW,
            |_, peer| {
                let size = usize::try_from(peer.relays_setup().max_auth_token_cache_size);
                let size = size.unwrap_or(usize::MAX);
                let mut sent = 0;
                // 4,016 bytes at a time, as the relay counts them.
                for alias in 0..1_000 {
                    announce(peer, &register(alias, 4_000));
                    sent += 4_016;
                    if size < sent {
                        break;
                    }
                }
                Ok(())
            },
        ),
        case(
            "malformed-token-unknown-alias",
            "an unknown token alias is refused, or ends the session",
            "8.9",
            |stage: &Stage<'_>| {
                let peer = stage.session()?;
                announce(&peer, &build::hex("01 03 02 02 63"));
                // The draft leaves open which: REQUEST_ERROR, or UNKNOWN_AUTH_TOKEN_ALIAS.
                match peer.heard(0) {
                    Ok(crate::conformance::peer::Heard::Message(
                        aip_codec::moqt::message::Message::RequestError(_),
                    )) => peer.answers(),
                    Ok(other) => {
                        Err(crate::conformance::Failure::new("a refusal", format!("{other:?}")))
                    }
                    Err(_) => {
                        peer.closes_with(&[SessionCode::UNKNOWN_AUTH_TOKEN_ALIAS.0], PATIENCE)
                    }
                }
            },
        )
        .hostile(),
    ]
}

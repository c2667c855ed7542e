//! What a peer may not do, and the code that it is told.

use std::time::Duration;

use aip_codec::{
    Version,
    moqt::{
        error_code::{PublishDoneCode, RequestCode, SessionCode},
        id::{RequestId, TrackAlias},
        location::Location,
        message::{
            FetchOk, FetchTarget, Goaway, Message, NamespaceDone, Publish, PublishDone,
            PublishNamespace, PublishSkipped, PublishStateNotify, Reason, Redirect, RequestError,
            RequestOk, RequestUpdate, Subscribe, SubscribeNamespace, SubscribeOk, TrackStatus,
        },
        name::TrackNamespace,
        parameter::{Parameter, Parameters},
        property::Properties,
        token::Token,
    },
};
use bytes::Bytes;

use super::{DRAFTS, Victim, encode, hex, namespace, object, subgroup, track};
use crate::{session::Config, transport::Side};

const VIOLATION: SessionCode = SessionCode::PROTOCOL_VIOLATION;

fn subscribe(request_id: u64) -> Message {
    Message::Subscribe(Subscribe {
        request_id: RequestId(request_id),
        track: track("t"),
        parameters: Parameters::default(),
    })
}

fn publish(request_id: u64, alias: u64, name: &str) -> Message {
    Message::Publish(Publish {
        request_id: RequestId(request_id),
        track: track(name),
        track_alias: TrackAlias(alias),
        parameters: Parameters::default(),
        properties: Properties::default(),
    })
}

fn subscribe_ok(alias: u64) -> Message {
    Message::SubscribeOk(SubscribeOk {
        track_alias: TrackAlias(alias),
        parameters: Parameters::default(),
        properties: Properties::default(),
    })
}

fn update(request_id: u64, parameters: Parameters) -> Message {
    Message::RequestUpdate(RequestUpdate { request_id: RequestId(request_id), parameters })
}

fn publish_done() -> Message {
    Message::PublishDone(PublishDone {
        code: PublishDoneCode::TRACK_ENDED,
        stream_count: Some(9),
        reason: Reason::default(),
    })
}

fn goaway(uri: &'static str, version: Version, on_control: bool) -> Message {
    let request_id = (version == Version::Draft18 && on_control).then_some(RequestId(0));
    Message::Goaway(Goaway { uri: Bytes::from(uri), timeout: 0, request_id })
}

fn ok() -> Message {
    Message::RequestOk(RequestOk::default())
}

fn redirect(uri: &'static str, name: &'static str) -> Message {
    Message::RequestError(RequestError {
        code: RequestCode::REDIRECT,
        retry_interval: 0,
        reason: Reason::default(),
        redirect: Some(Redirect {
            uri: Bytes::from(uri),
            namespace: namespace(),
            name: Bytes::from(name),
        }),
    })
}

fn with_token(token: Token) -> Parameters {
    Parameters::default().with(Parameter::AuthorizationToken(token))
}

fn register(alias: u64, length: usize) -> Token {
    Token::Register { alias, token_type: 0, value: Bytes::from(vec![7; length]) }
}

/// Runs `offend` against both sides in every draft and checks that it is answered with `code`.
#[track_caller]
fn check(code: SessionCode, offend: impl Fn(&mut Victim)) {
    for side in [Side::Client, Side::Server] {
        check_side(side, code, &offend);
    }
}

#[track_caller]
fn check_side(side: Side, code: SessionCode, offend: impl Fn(&mut Victim)) {
    for version in DRAFTS {
        let mut victim = Victim::established(side, version);
        assert_eq!(victim.closed, None, "{side:?} {version:?}");
        offend(&mut victim);
        assert_eq!(victim.closed, Some(code), "{side:?} {version:?}");
        // A closed session is inert.
        victim.closed = None;
        offend_again(&mut victim);
        assert_eq!(victim.closed, None, "closed twice: {side:?} {version:?}");
    }
}

fn offend_again(victim: &mut Victim) {
    victim.bytes(victim.uni(90), hex("00"), false);
    victim.bytes(victim.bidi(90), hex("00"), true);
    victim.pass(Duration::from_secs(60));
    assert_eq!(victim.session.poll_timeout(), None);
}

/// The first request number of the victim's peer.
fn peers_id(victim: &Victim, index: u64) -> u64 {
    index * 2 + u64::from(victim.session.side() == Side::Client)
}

#[test]
fn the_control_stream_is_one_and_stays() {
    check(VIOLATION, |victim| victim.bytes(victim.uni(1), hex("af000000"), false));
    check(VIOLATION, |victim| victim.bytes(victim.uni(0), hex("af000000"), false));
    let soon = Duration::from_millis(100);
    check(VIOLATION, |victim| {
        victim.bytes(victim.uni(0), Bytes::new(), true);
        assert_eq!(victim.closed, None, "it may be closing the connection");
        victim.pass(soon);
    });
    check(VIOLATION, |victim| {
        victim.reset(victim.uni(0), 0);
        victim.pass(soon);
    });
    check(VIOLATION, |victim| {
        let ours = crate::transport::StreamId::new(victim.session.side(), false, 0);
        victim.session.handle_stop(ours, 0, victim.now);
        victim.pass(soon);
    });
    for message in [subscribe(0), ok(), publish_done()] {
        check(VIOLATION, |victim| victim.message(victim.uni(0), &message));
    }
}

#[test]
fn setup_says_what_its_side_may_say() {
    let path = "af00000401022f61";
    let authority = "af000004 05023a31";
    for version in DRAFTS {
        let refuse = |side, setup: &str| {
            let mut victim = Victim::new(side, version);
            victim.setup(setup);
            victim.closed
        };
        assert_eq!(refuse(Side::Server, path), None, "{version:?}");
        assert_eq!(refuse(Side::Client, path), Some(SessionCode::INVALID_PATH));
        assert_eq!(refuse(Side::Client, authority), Some(SessionCode::INVALID_AUTHORITY));
        assert_eq!(refuse(Side::Server, "af0000030101 61"), Some(SessionCode::MALFORMED_PATH));
        assert_eq!(refuse(Side::Server, "af0000030501 2f"), Some(SessionCode::MALFORMED_AUTHORITY));
        // PATH twice.
        assert_eq!(refuse(Side::Server, "af00000601012f00012f"), Some(VIOLATION));
        // A token alias used before there can be one.
        assert_eq!(refuse(Side::Server, "af00000403020201"), Some(VIOLATION));
        assert_eq!(
            refuse(Side::Server, "af00000403020901"),
            Some(SessionCode::KEY_VALUE_FORMATTING_ERROR)
        );
        // An option that nobody knows is none of our business.
        assert_eq!(refuse(Side::Server, "af000003ffffff"), Some(VIOLATION), "cut short");
        assert_eq!(refuse(Side::Server, "af0000020a01"), None);
    }
}

#[test]
fn streams_begin_as_the_draft_says() {
    for text in ["02", "0f", "16", "1e", "80c0", "f0132b3e29"] {
        check(VIOLATION, |victim| victim.bytes(victim.uni(1), hex(text), false));
    }
    for message in [ok(), publish_done(), subscribe_ok(1), update(1, Parameters::default())] {
        check(VIOLATION, |victim| victim.message(victim.bidi(0), &message));
    }
    // SETUP, GOAWAY, an unknown message.
    for text in ["af000000", "100002 0000", "3f0000", "2000"] {
        check(VIOLATION, |victim| victim.bytes(victim.bidi(0), hex(text), false));
    }
}

#[test]
fn padding_is_nobodys_fault() {
    let mut victim = Victim::established(Side::Server, Version::Draft22);
    victim.bytes(victim.uni(1), hex("f0132b3e28 000000"), false);
    victim.bytes(victim.uni(1), hex("000000"), true);
    victim.session.handle_datagram(hex("f0132b3e290000"), victim.now);
    victim.drain();
    assert_eq!(victim.closed, None);
}

#[test]
fn draft_22_has_what_draft_18_has_not() {
    let notify = Message::PublishStateNotify(PublishStateNotify::default());
    let mut victim = Victim::established(Side::Client, Version::Draft18);
    victim.subscribe();
    victim.message(victim.own(0), &subscribe_ok(1));
    let bytes = encode(Version::Draft22, &notify);
    victim.bytes(victim.own(0), bytes.clone(), false);
    assert_eq!(victim.closed, Some(VIOLATION));

    let mut victim = Victim::established(Side::Client, Version::Draft22);
    victim.subscribe();
    victim.message(victim.own(0), &subscribe_ok(1));
    victim.bytes(victim.own(0), bytes, false);
    assert_eq!(victim.closed, None);
}

#[test]
fn request_numbers_have_a_parity_and_come_once() {
    check(SessionCode::INVALID_REQUEST_ID, |victim| {
        let wrong = peers_id(victim, 0) ^ 1;
        victim.message(victim.bidi(0), &subscribe(wrong));
    });
    check(SessionCode::INVALID_REQUEST_ID, |victim| {
        let id = peers_id(victim, 0);
        victim.message(victim.bidi(0), &publish(id, 1, "a"));
        victim.message(victim.bidi(1), &publish(id, 2, "b"));
    });
    check(SessionCode::INVALID_REQUEST_ID, |victim| {
        let id = peers_id(victim, 0);
        victim.message(victim.bidi(0), &subscribe(id));
        victim.message(victim.bidi(0), &update(id, Parameters::default()));
    });
    // Streams overtake each other: any order is right.
    let mut victim = Victim::established(Side::Server, Version::Draft22);
    for (index, id) in [6, 0, 4, 2].into_iter().enumerate() {
        victim.message(victim.bidi(index as u64), &subscribe(id));
    }
    assert_eq!(victim.closed, None);
}

#[test]
fn a_client_names_no_place_to_go() {
    for version in DRAFTS {
        let mut victim = Victim::established(Side::Server, version);
        victim.message(victim.uni(0), &goaway("moqt://b", version, true));
        assert_eq!(victim.closed, Some(VIOLATION), "{version:?}");
        let mut victim = Victim::established(Side::Server, version);
        victim.message(victim.bidi(0), &subscribe(0));
        victim.message(victim.bidi(0), &goaway("moqt://b", version, false));
        assert_eq!(victim.closed, Some(VIOLATION), "{version:?}");
    }
    check_side(Side::Server, VIOLATION, |victim| {
        victim.subscribe();
        victim.message(victim.own(0), &redirect("moqt://b", "t"));
    });
    // A server may.
    for version in DRAFTS {
        let mut victim = Victim::established(Side::Client, version);
        victim.subscribe();
        victim.message(victim.own(0), &redirect("moqt://b", "t"));
        victim.message(victim.uni(0), &goaway("moqt://b", version, true));
        assert_eq!(victim.closed, None, "{version:?}");
    }
}

#[test]
fn goaway_comes_once_on_each_stream() {
    check(VIOLATION, |victim| {
        let mut message = goaway("", victim.version, true);
        if let Message::Goaway(goaway) = &mut message
            && let Some(request_id) = &mut goaway.request_id
        {
            request_id.0 = u64::from(victim.session.side() == Side::Server);
        }
        victim.message(victim.uni(0), &message);
        assert_eq!(victim.closed, None);
        victim.message(victim.uni(0), &message);
    });
    check(VIOLATION, |victim| {
        let id = peers_id(victim, 0);
        victim.message(victim.bidi(0), &subscribe(id));
        let message = goaway("", victim.version, false);
        victim.message(victim.bidi(0), &message);
        assert_eq!(victim.closed, None);
        victim.message(victim.bidi(0), &message);
    });
    // Draft 18 says on the control stream which requests it has seen: ours, so with our parity.
    let mut victim = Victim::established(Side::Client, Version::Draft18);
    let request_id = Some(RequestId(1));
    let message = Goaway { uri: Bytes::new(), timeout: 0, request_id };
    victim.message(victim.uni(0), &Message::Goaway(message));
    assert_eq!(victim.closed, Some(SessionCode::INVALID_REQUEST_ID));
}

#[test]
fn calls_are_made_only_where_both_offered_them() {
    check(VIOLATION, |victim| {
        let id = peers_id(victim, 0);
        let call = aip_codec::aip::call::Call {
            request_id: RequestId(id),
            namespace: namespace(),
            name: Bytes::from("x"),
            parameters: Parameters::default(),
        };
        victim.message(victim.bidi(0), &Message::Call(call));
    });
}

#[test]
fn parameters_have_their_place() {
    // SUBSCRIBE with: an unknown one, GROUP_ORDER 3, FORWARD 2, LARGEST_OBJECT, FORWARD twice.
    for parameters in ["017f", "012203", "011002", "01090101", "0210010001"] {
        check(VIOLATION, |victim| {
            let id = peers_id(victim, 0);
            let mut body = vec![id as u8, 1, 1, b'a', 1, b't'];
            body.extend_from_slice(&hex(parameters));
            let mut bytes = vec![3, 0, body.len() as u8];
            bytes.extend(body);
            victim.bytes(victim.bidi(0), bytes.into(), false);
        });
    }
    // REQUEST_UPDATE with what another kind of request may change.
    let prefix = Parameter::TrackNamespacePrefix(namespace());
    check(VIOLATION, |victim| {
        let id = peers_id(victim, 0);
        victim.message(victim.bidi(0), &subscribe(id));
        let parameters = Parameters::default().with(prefix.clone());
        victim.message(victim.bidi(0), &update(id + 2, parameters));
    });
    check(VIOLATION, |victim| {
        let id = peers_id(victim, 0);
        let watch = SubscribeNamespace {
            request_id: RequestId(id),
            prefix: namespace(),
            parameters: Parameters::default(),
        };
        victim.message(victim.bidi(0), &Message::SubscribeNamespace(watch));
        let parameters = Parameters::default().with(Parameter::Forward(false));
        victim.message(victim.bidi(0), &update(id + 2, parameters));
    });
    // REQUEST_OK with what another kind of request is told.
    check(VIOLATION, |victim| {
        victim.session.publish_namespace(namespace(), Parameters::default()).unwrap();
        let largest = Parameter::LargestObject(Location::new(1, 1));
        let ok = RequestOk {
            parameters: Parameters::default().with(largest),
            properties: Properties::default(),
        };
        victim.message(victim.own(0), &Message::RequestOk(ok));
    });
    check(VIOLATION, |victim| {
        victim.session.track_status(track("t"), Parameters::default()).unwrap();
        let ok = RequestOk {
            parameters: Parameters::default().with(Parameter::Expires(9)),
            properties: Properties::default(),
        };
        victim.message(victim.own(0), &Message::RequestOk(ok));
    });
    check(VIOLATION, |victim| {
        victim.session.publish_namespace(namespace(), Parameters::default()).unwrap();
        let properties = Properties::builder().integer(0x0e, 1).build().unwrap();
        let ok = RequestOk { parameters: Parameters::default(), properties };
        victim.message(victim.own(0), &Message::RequestOk(ok));
    });
}

#[test]
fn an_update_is_answered_with_what_an_update_may_be_told() {
    for version in [Version::Draft18, Version::Draft19] {
        let mut victim = Victim::established(Side::Client, version);
        let request = victim.subscribe();
        victim.message(victim.own(0), &subscribe_ok(1));
        victim.session.update(request, Parameters::default()).unwrap();
        let ok = RequestOk {
            parameters: Parameters::default().with(Parameter::Forward(true)),
            properties: Properties::default(),
        };
        victim.message(victim.own(0), &Message::RequestOk(ok));
        assert_eq!(victim.closed, Some(VIOLATION), "{version:?}");
    }
}

#[test]
fn updates_come_where_they_may() {
    check(VIOLATION, |victim| {
        let id = peers_id(victim, 0);
        let status = TrackStatus {
            request_id: RequestId(id),
            track: track("t"),
            parameters: Parameters::default(),
        };
        victim.message(victim.bidi(0), &Message::TrackStatus(status));
        victim.message(victim.bidi(0), &update(id + 2, Parameters::default()));
    });
    // Who has published a track has no say in the subscriber's fills; nor has who answers a request
    // any update.
    check(VIOLATION, |victim| {
        let id = peers_id(victim, 0);
        victim.message(victim.bidi(0), &publish(id, 1, "a"));
        let parameters = Parameters::default().with(Parameter::NewGroupRequest(0));
        victim.message(victim.bidi(0), &update(id + 2, parameters));
    });
    check(VIOLATION, |victim| {
        victim.subscribe();
        victim.message(victim.own(0), &subscribe_ok(1));
        let id = peers_id(victim, 0);
        victim.message(victim.own(0), &update(id, Parameters::default()));
    });
    check(VIOLATION, |victim| {
        victim.session.publish_namespace(namespace(), Parameters::default()).unwrap();
        victim.message(victim.own(0), &ok());
        let id = peers_id(victim, 0);
        victim.message(victim.own(0), &update(id, Parameters::default()));
    });
}

#[test]
fn answers_are_those_of_the_request() {
    let wrong = [ok(), publish_done(), publish(7, 1, "x")];
    for message in wrong {
        check(VIOLATION, |victim| {
            victim.subscribe();
            victim.message(victim.own(0), &message);
        });
    }
    check(VIOLATION, |victim| {
        victim.subscribe();
        victim.message(victim.own(0), &subscribe_ok(1));
        victim.message(victim.own(0), &subscribe_ok(1));
    });
    check(VIOLATION, |victim| {
        victim.session.publish_namespace(namespace(), Parameters::default()).unwrap();
        victim.message(victim.own(0), &subscribe_ok(1));
    });
    // An answer to an update that was not made.
    check(VIOLATION, |victim| {
        victim.subscribe();
        victim.message(victim.own(0), &subscribe_ok(1));
        victim.message(victim.own(0), &ok());
    });
    // A subscriber does not publish.
    check(VIOLATION, |victim| {
        let id = peers_id(victim, 0);
        victim.message(victim.bidi(0), &subscribe(id));
        victim.message(victim.bidi(0), &publish_done());
    });
    check(VIOLATION, |victim| {
        victim.session.subscribe_tracks(namespace(), Parameters::default()).unwrap();
        let skipped = PublishSkipped { suffix: TrackNamespace::default(), name: Bytes::from("x") };
        victim.message(victim.own(0), &Message::PublishSkipped(skipped));
    });
    // Nothing follows PUBLISH_DONE.
    check(VIOLATION, |victim| {
        victim.subscribe();
        victim.message(victim.own(0), &subscribe_ok(1));
        victim.message(victim.own(0), &publish_done());
        victim.message(victim.own(0), &publish_done());
    });
}

#[test]
fn namespaces_end_after_they_began() {
    check(VIOLATION, |victim| {
        victim.session.subscribe_namespace(namespace(), Parameters::default()).unwrap();
        victim.message(victim.own(0), &ok());
        let done = NamespaceDone { suffix: TrackNamespace::new(["x"]).unwrap() };
        victim.message(victim.own(0), &Message::NamespaceDone(done));
    });
    check(VIOLATION, |victim| {
        victim.session.subscribe_namespace(namespace(), Parameters::default()).unwrap();
        let done = NamespaceDone { suffix: TrackNamespace::default() };
        victim.message(victim.own(0), &Message::NamespaceDone(done));
    });
    check(VIOLATION, |victim| {
        victim.session.subscribe_namespace(namespace(), Parameters::default()).unwrap();
        victim.message(victim.own(0), &redirect("", "t"));
    });
}

#[test]
fn a_fetch_ends_behind_its_beginning() {
    let fetch_ok = |end| {
        Message::FetchOk(FetchOk {
            end_of_track: false,
            end,
            parameters: Parameters::default(),
            properties: Properties::default(),
        })
    };
    for version in DRAFTS {
        for (end, code) in [((4, 9), Some(VIOLATION)), ((5, 2), Some(VIOLATION)), ((5, 9), None)] {
            let mut victim = Victim::established(Side::Client, version);
            let (start, last) = (Location::new(5, 5), Location::new(9, 9));
            let session = &mut victim.session;
            session.fetch_range(track("t"), start, last, Parameters::default()).unwrap();
            victim.message(victim.own(0), &fetch_ok(Location::new(end.0, end.1)));
            assert_eq!(victim.closed, code, "{version:?} {end:?}");
        }
    }
    // Drafts 18 and 19 write the whole group as object 0.
    let mut victim = Victim::established(Side::Client, Version::Draft18);
    let target = FetchTarget::Standalone {
        track: track("t"),
        start: Location::new(5, 5),
        end: Location::new(5, 0),
    };
    victim.session.fetch(target, Parameters::default()).unwrap();
    victim.message(victim.own(0), &fetch_ok(Location::new(5, 0)));
    assert_eq!(victim.closed, None);
}

#[test]
fn an_alias_means_one_track() {
    check(SessionCode::DUPLICATE_TRACK_ALIAS, |victim| {
        let id = peers_id(victim, 0);
        victim.message(victim.bidi(0), &publish(id, 1, "a"));
        victim.message(victim.bidi(1), &publish(id + 2, 1, "b"));
    });
    check(SessionCode::DUPLICATE_TRACK_ALIAS, |victim| {
        let id = peers_id(victim, 0);
        victim.message(victim.bidi(0), &publish(id, 1, "a"));
        victim.subscribe();
        victim.message(victim.own(0), &subscribe_ok(1));
    });
}

#[test]
fn tokens_are_kept_as_far_as_was_said() {
    let announce = |id, token| {
        Message::PublishNamespace(PublishNamespace {
            request_id: RequestId(id),
            namespace: namespace(),
            parameters: with_token(token),
        })
    };
    check(SessionCode::AUTH_TOKEN_CACHE_OVERFLOW, |victim| {
        let id = peers_id(victim, 0);
        victim.message(victim.bidi(0), &announce(id, register(1, 4080)));
        assert_eq!(victim.closed, None);
        victim.message(victim.bidi(1), &announce(id + 2, register(2, 0)));
    });
    check(SessionCode::DUPLICATE_AUTH_TOKEN_ALIAS, |victim| {
        let id = peers_id(victim, 0);
        victim.message(victim.bidi(0), &announce(id, register(1, 1)));
        victim.message(victim.bidi(1), &announce(id + 2, register(1, 1)));
    });
    // A request with an unknown alias is refused; the session lives.
    for version in DRAFTS {
        let mut victim = Victim::established(Side::Server, version);
        victim.message(victim.bidi(0), &announce(0, Token::UseAlias { alias: 3 }));
        assert_eq!(victim.closed, None);
        let answers = victim.answers(victim.bidi(0));
        assert!(
            matches!(&answers[..], [Message::RequestError(error)]
                if error.code == RequestCode::UNAUTHORIZED),
            "{answers:?}"
        );
    }
}

#[test]
fn updates_that_are_not_answered_are_counted() {
    for version in DRAFTS {
        let config = Config { request_updates_max: 2, ..Config::default() };
        let mut victim = Victim::with(config, Side::Server, version);
        victim.setup("af000000");
        victim.message(victim.bidi(0), &subscribe(0));
        for index in 1..=3 {
            assert_eq!(victim.closed, None, "{version:?}");
            victim.message(victim.bidi(0), &update(2 * index, Parameters::default()));
        }
        if version == Version::Draft18 {
            // Draft 18 knows no limit, so that it is the request that fails.
            assert_eq!(victim.closed, None);
            assert!(!victim.session.has_request(RequestId(0)));
        } else {
            assert_eq!(victim.closed, Some(SessionCode::TOO_MANY_REQUEST_UPDATES));
        }
    }
}

#[test]
fn messages_have_the_length_they_say() {
    // Shorter and longer than its fields; a name of no namespace field; more than it may have.
    for text in ["030004000101 61", "0300080001016101740000", "030005000100017400"] {
        check(VIOLATION, |victim| {
            let mut bytes = hex(text).to_vec();
            bytes[3] = peers_id(victim, 0) as u8;
            victim.bytes(victim.bidi(0), bytes.into(), false);
        });
    }
}

#[test]
fn a_request_cut_short_fails_alone() {
    for version in DRAFTS {
        let mut victim = Victim::established(Side::Server, version);
        let bytes = encode(version, &subscribe(0));
        victim.bytes(victim.bidi(0), bytes.slice(..7), true);
        assert_eq!(victim.closed, None);
        assert!(victim.session.is_idle());
        assert_eq!(victim.resets, [(victim.bidi(0), 1)]);
        victim.pass(Duration::from_secs(60));
        assert_eq!(victim.closed, None);
    }
}

#[test]
fn data_streams_are_whole() {
    let alias = |victim: &mut Victim| {
        let id = peers_id(victim, 0);
        victim.message(victim.bidi(0), &publish(id, 1, "a"));
    };
    // FIN in the midst of a header, of an object's header, of its payload.
    let whole = subgroup(1, 7, "payload");
    for length in [2, 4, whole.len() - 1] {
        check(VIOLATION, |victim| {
            alias(victim);
            victim.bytes(victim.uni(1), whole.slice(..length), true);
        });
    }
    // A status that is none, an object number past the last one.
    check(VIOLATION, |victim| {
        alias(victim);
        victim.bytes(victim.uni(1), hex("300107 00 0001"), false);
    });
    check(VIOLATION, |victim| {
        alias(victim);
        let mut bytes = hex("300107 ffffffffffffffffff 0161").to_vec();
        bytes.extend_from_slice(&object(0, "x"));
        victim.bytes(victim.uni(1), bytes.into(), false);
    });
    check(VIOLATION, |victim| {
        victim.session.handle_datagram(hex("12 01 02 03"), victim.now);
        victim.drain();
    });
    check(VIOLATION, |victim| {
        victim.session.handle_datagram(Bytes::new(), victim.now);
        victim.drain();
    });
}

#[test]
fn whoever_dawdles_is_closed() {
    for side in [Side::Client, Side::Server] {
        for version in DRAFTS {
            let mut victim = Victim::new(side, version);
            assert_eq!(victim.session.poll_timeout(), Some(victim.now + Duration::from_secs(5)));
            victim.pass(Duration::from_millis(4_999));
            assert_eq!(victim.closed, None);
            victim.pass(Duration::from_millis(1));
            assert_eq!(victim.closed, Some(SessionCode::CONTROL_MESSAGE_TIMEOUT));
        }
    }
    // A message of one byte a second, on the control stream, on a request, as its beginning.
    let slow = |victim: &mut Victim, stream, bytes: Bytes| {
        for index in 0..10 {
            assert_eq!(victim.closed, None, "after {index} s");
            victim.bytes(stream, bytes.slice(index..=index), false);
            victim.pass(Duration::from_secs(1));
        }
    };
    check(SessionCode::CONTROL_MESSAGE_TIMEOUT, |victim| {
        let message = goaway("moqt://some.where", victim.version, true);
        slow(victim, victim.uni(0), encode(victim.version, &message));
    });
    check(SessionCode::CONTROL_MESSAGE_TIMEOUT, |victim| {
        let id = peers_id(victim, 0);
        slow(victim, victim.bidi(0), encode(victim.version, &subscribe(id)));
    });
    check(SessionCode::CONTROL_MESSAGE_TIMEOUT, |victim| {
        victim.subscribe();
        let error = encode(victim.version, &redirect("moqt://some.where", "t"));
        slow(victim, victim.own(0), error);
    });
    check(SessionCode::CONTROL_MESSAGE_TIMEOUT, |victim| {
        victim.bytes(victim.uni(1), hex("f0"), false);
        victim.pass(Duration::from_secs(10));
    });
    check(SessionCode::DATA_STREAM_TIMEOUT, |victim| {
        let id = peers_id(victim, 0);
        victim.message(victim.bidi(0), &publish(id, 1, "a"));
        let whole = subgroup(1, 7, "a payload that comes a byte a second and then not at all");
        victim.bytes(victim.uni(1), whole.slice(..10), false);
        for index in 10..40 {
            assert_eq!(victim.closed, None, "after {index} s");
            victim.bytes(victim.uni(1), whole.slice(index..=index), false);
            victim.pass(Duration::from_secs(1));
        }
    });
}

#[test]
fn between_messages_and_objects_there_is_all_the_time_in_the_world() {
    for version in DRAFTS {
        let mut victim = Victim::established(Side::Server, version);
        victim.message(victim.bidi(0), &publish(0, 1, "a"));
        victim.bytes(victim.uni(1), subgroup(1, 7, "payload"), false);
        assert_eq!(victim.session.poll_timeout(), None);
        victim.pass(Duration::from_secs(3_600));
        victim.bytes(victim.uni(1), object(0, "more"), false);
        assert_eq!(victim.closed, None, "{version:?}");
    }
}

//! What grows has a limit, and what is over leaves nothing behind.

use aip_codec::{
    Version,
    moqt::{
        error_code::{RequestCode, ResetCode},
        id::{RequestId, TrackAlias},
        message::{Message, PublishNamespace, Subscribe, SubscribeNamespace, TrackStatus},
        name::TrackNamespace,
        parameter::{Parameter, Parameters},
        property::Properties,
    },
};
use bytes::Bytes;

use super::{DRAFTS, Pair, Victim, encode, namespace, track};
use crate::{
    session::{AskError, Config, Event, Response},
    transport::Side,
};

fn announce(id: u64) -> Message {
    Message::PublishNamespace(PublishNamespace {
        request_id: RequestId(id),
        namespace: namespace(),
        parameters: Parameters::default(),
    })
}

#[test]
fn one_request_too_many_is_refused() {
    let config = Config { requests_max: 2, ..Config::default() };
    let mut victim = Victim::with(config, Side::Server, Version::Draft22);
    victim.setup("af000000");
    for index in 0..3 {
        victim.message(victim.bidi(index), &announce(2 * index));
    }
    assert_eq!(victim.events().len(), 3, "SETUP and two requests");
    let answers = victim.answers(victim.bidi(2));
    assert!(matches!(&answers[..], [Message::RequestError(error)]
        if error.code == RequestCode::EXCESSIVE_LOAD && error.retry_interval != 0));
}

#[test]
fn streams_of_refused_requests_leave_nothing() {
    for version in DRAFTS {
        let config = Config { requests_max: 0, ..Config::default() };
        let mut victim = Victim::with(config, Side::Server, version);
        victim.setup("af000000");
        for index in 0..10 {
            // The whole stream in one piece, or its end apart.
            let bytes = encode(version, &announce(2 * index));
            victim.bytes(victim.bidi(index), bytes, index % 2 == 0);
            if index % 2 == 1 {
                victim.bytes(victim.bidi(index), Bytes::new(), true);
            }
            assert!(victim.finished.contains(&victim.bidi(index)));
        }
        assert!(victim.session.draining.is_empty(), "{version:?}");
        assert!(victim.session.is_idle());
    }
}

#[test]
fn answered_streams_leave_nothing() {
    for version in DRAFTS {
        let mut victim = Victim::established(Side::Server, version);
        let status = Message::TrackStatus(TrackStatus {
            request_id: RequestId(0),
            track: track("t"),
            parameters: Parameters::default(),
        });
        victim.bytes(victim.bidi(0), encode(version, &status), true);
        victim.session.accept(RequestId(0), Parameters::default(), Properties::default());
        victim.drain();
        assert!(victim.session.draining.is_empty(), "{version:?}");
        assert!(victim.session.is_idle());
        assert!(victim.finished.contains(&victim.bidi(0)));
    }
}

#[test]
fn updates_wait_until_their_request_is_answered() {
    for version in DRAFTS {
        let mut pair = Pair::new(version);
        let request = pair.client.subscribe(track("t"), Parameters::default()).unwrap();
        let parameters = Parameters::default().with(Parameter::Forward(false));
        let update = pair.client.update(request, parameters).unwrap();
        let told = pair.server_events();
        assert!(matches!(told[..], [Event::Request { .. }]), "{version:?}: {told:?}");
        let alias = TrackAlias(1);
        let (parameters, properties) = (Parameters::default(), Properties::default());
        pair.server.accept_subscribe(request, alias, parameters, properties);
        let told = pair.server_events();
        assert!(matches!(told[..], [Event::Update { .. }]), "{version:?}: {told:?}");
        pair.server.accept_update(request, Parameters::default());
        let told = pair.client_events();
        assert!(
            matches!(&told[..], [
                Event::Response { body: Response::SubscribeOk(_), .. },
                Event::UpdateResponse { update: told, result: Ok(_), .. }
            ] if *told == update),
            "{version:?}: {told:?}"
        );
    }
}

#[test]
fn updates_of_a_refused_request_are_forgotten() {
    for version in DRAFTS {
        let mut pair = Pair::new(version);
        let request = pair.client.subscribe(track("t"), Parameters::default()).unwrap();
        pair.client.update(request, Parameters::default()).unwrap();
        pair.server_events();
        pair.server.reject_with(request, RequestCode::DOES_NOT_EXIST, "");
        let told = pair.client_events();
        assert!(matches!(told[..], [Event::Response { body: Response::Error(_), .. }]), "{told:?}");
        assert_eq!(pair.server_events(), []);
        assert!(pair.client.is_idle() && pair.server.is_idle());
    }
}

#[test]
fn we_keep_to_the_peers_limit_of_updates() {
    let config = Config { request_updates_max: 2, ..Config::default() };
    for version in DRAFTS {
        let mut pair = Pair::with(version, Config::default(), config.clone());
        let request = pair.client.subscribe(track("t"), Parameters::default()).unwrap();
        for index in 0..2 {
            assert!(pair.client.update(request, Parameters::default()).is_ok(), "{index}");
        }
        let third = pair.client.update(request, Parameters::default());
        if version == Version::Draft18 {
            assert!(third.is_ok());
        } else {
            assert_eq!(third, Err(AskError::TooManyUpdates));
        }
    }
}

#[test]
fn overlapping_prefixes_of_a_kind_are_refused() {
    let path = |text: &str| TrackNamespace::new(text.split('/')).unwrap();
    for version in DRAFTS {
        let mut pair = Pair::new(version);
        let ask = |pair: &mut Pair, prefix: TrackNamespace| {
            let request = pair.client.subscribe_namespace(prefix, Parameters::default()).unwrap();
            pair.server_events();
            pair.server.accept(request, Parameters::default(), Properties::default());
            match &pair.client_events()[..] {
                [Event::Response { body: Response::Error(error), .. }] => Err(error.code),
                _ => Ok(request),
            }
        };
        let first = ask(&mut pair, path("a/b")).unwrap();
        let overlap = Err(RequestCode::PREFIX_OVERLAP);
        assert_eq!(ask(&mut pair, path("a")), overlap);
        assert_eq!(ask(&mut pair, path("a/b")), overlap);
        assert_eq!(ask(&mut pair, path("a/b/c")), overlap);
        assert_eq!(ask(&mut pair, TrackNamespace::default()), overlap);
        let other = ask(&mut pair, path("a/bc")).unwrap();
        // The kinds are apart.
        pair.client.subscribe_tracks(path("a"), Parameters::default()).unwrap();
        assert!(matches!(pair.server_events()[..], [Event::Request { .. }]));
        // An update may not move onto another either; it ends the request.
        let prefix = Parameter::TrackNamespacePrefix(path("a/b/x"));
        pair.client.update(other, Parameters::default().with(prefix)).unwrap();
        assert_eq!(pair.server_events(), [Event::Ended { request: other }]);
        let told = pair.client_events();
        assert!(
            matches!(&told[..], [Event::UpdateResponse { result: Err(error), .. }, ..]
                if error.code == RequestCode::PREFIX_OVERLAP),
            "{told:?}"
        );
        // The room is free once a request is over.
        pair.client.cancel(first, ResetCode::CANCELLED);
        pair.server_events();
        assert!(ask(&mut pair, path("a/b")).is_ok());
    }
}

#[test]
fn draft_18_has_one_subscription_for_a_track() {
    for version in DRAFTS {
        let mut pair = Pair::new(version);
        pair.client.subscribe(track("t"), Parameters::default()).unwrap();
        pair.client.subscribe(track("t"), Parameters::default()).unwrap();
        let expected = if version == Version::Draft18 { 1 } else { 2 };
        assert_eq!(pair.server_events().len(), expected, "{version:?}");
    }
}

#[test]
fn range_filters_are_refused_where_none_were_offered() {
    for version in DRAFTS.into_iter().filter(|version| 19 <= version.number()) {
        let mut pair = Pair::new(version);
        let filter = aip_codec::moqt::filter::RangeFilter { raw: Bytes::from_static(&[0, 3, 2]) };
        let parameters = Parameters::default().with(Parameter::ObjectIdFilter(filter));
        pair.client.subscribe(track("t"), parameters).unwrap();
        assert_eq!(pair.server_events(), []);
        let told = pair.client_events();
        assert!(
            matches!(&told[..], [Event::Response { body: Response::Error(error), .. }]
                if error.code == RequestCode::INVALID_FILTER),
            "{told:?}"
        );
    }
}

#[test]
fn who_is_going_away_takes_no_requests() {
    for version in DRAFTS {
        let mut pair = Pair::new(version);
        // One request crosses GOAWAY on its way.
        pair.server.goaway(Bytes::from("moqt://elsewhere"), 1_000);
        pair.client.publish_namespace(namespace(), Parameters::default()).unwrap();
        pair.shuttle();
        let told = pair.client_events();
        assert!(told.iter().any(|event| matches!(event, Event::Goaway { request: None, .. })));
        assert!(
            told.iter().any(|event| matches!(event,
                Event::Response { body: Response::Error(error), .. }
                if error.code == RequestCode::GOING_AWAY)),
            "{version:?}: {told:?}"
        );
        let asked = pair.client.subscribe(track("t"), Parameters::default());
        assert_eq!(asked, Err(AskError::GoingAway));
        // What is under way goes on, and who goes away may still ask.
        assert!(pair.server.subscribe(track("t"), Parameters::default()).is_ok());
    }
}

#[test]
fn numbers_never_come_twice() {
    let mut pair = Pair::new(Version::Draft22);
    let mut last = None;
    for _ in 0..5 {
        let request = pair.client.subscribe(track("t"), Parameters::default()).unwrap();
        let update = pair.client.update(request, Parameters::default()).unwrap();
        assert!(last < Some(request) && request < update);
        assert_eq!(request.0 % 2, 0);
        last = Some(update);
    }
    let request = pair.server.subscribe(track("t"), Parameters::default()).unwrap();
    assert_eq!(request, RequestId(1));
    pair.shuttle();
    assert_eq!(pair.closed, []);
}

#[test]
fn watches_and_subscriptions_of_one_message_each() {
    // A SUBSCRIBE_NAMESPACE of the root is legal on the wire; who may have it is decided above.
    let mut victim = Victim::established(Side::Server, Version::Draft22);
    let watch = SubscribeNamespace {
        request_id: RequestId(0),
        prefix: TrackNamespace::default(),
        parameters: Parameters::default(),
    };
    victim.message(victim.bidi(0), &Message::SubscribeNamespace(watch));
    let subscribe =
        Subscribe { request_id: RequestId(2), track: track(""), parameters: Parameters::default() };
    victim.message(victim.bidi(1), &Message::Subscribe(subscribe));
    assert_eq!(victim.closed, None);
    assert_eq!(victim.events().len(), 3);
}

/// Whether a session goes on in which 600 requests are made and reset at once.
fn bears_resets(version: Version, answered: bool) -> bool {
    let mut victim = Victim::established(Side::Server, version);
    for index in 0..600 {
        let request_id = RequestId(2 * index);
        let subscribe =
            Subscribe { request_id, track: track("t"), parameters: Parameters::default() };
        victim.message(victim.bidi(index), &Message::Subscribe(subscribe));
        if answered {
            let (parameters, properties) = (Parameters::default(), Properties::default());
            victim.session.accept_subscribe(request_id, TrackAlias(1), parameters, properties);
        }
        victim.reset(victim.bidi(index), ResetCode::CANCELLED.0);
        if victim.session.is_closed() {
            return false;
        }
    }
    true
}

#[test]
fn requests_that_nobody_waits_for_are_a_flood() {
    for version in DRAFTS {
        assert!(bears_resets(version, true), "{version:?}: a reader leaves when it has read");
        assert!(!bears_resets(version, false), "{version:?}");
    }
}

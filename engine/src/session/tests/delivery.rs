//! Data of subscriptions: its end is told last, and counted.

use std::time::Duration;

use aip_codec::{
    Version,
    moqt::{
        error_code::{PublishDoneCode, ResetCode},
        id::{RequestId, TrackAlias},
        location::Location,
        message::{Message, PublishDone, Reason, SubscribeOk},
        parameter::Parameters,
        property::Properties,
        stream::fetch::{Encoder, FetchObject, RangeKind},
    },
};
use bytes::{Bytes, BytesMut};

use super::{DRAFTS, Pair, Victim, header, object, subgroup, track};
use crate::{
    schedule::Precedence,
    session::{Delivery, Event, StreamEnd},
    transport::Side,
};

/// A server that publishes to a client.
fn subscribed(version: Version) -> (Pair, RequestId) {
    let mut pair = Pair::new(version);
    let request = pair.client.subscribe(track("t"), Parameters::default()).unwrap();
    pair.server_events();
    let (parameters, properties) = (Parameters::default(), Properties::default());
    pair.server.accept_subscribe(request, TrackAlias(1), parameters, properties);
    pair.client_events();
    (pair, request)
}

fn publish_done(stream_count: Option<u64>) -> Message {
    Message::PublishDone(PublishDone {
        code: PublishDoneCode::TRACK_ENDED,
        stream_count,
        reason: Reason::default(),
    })
}

/// A client with an established subscription, whose publisher is this test.
fn victim(version: Version) -> (Victim, RequestId) {
    let mut victim = Victim::established(Side::Client, version);
    let request = victim.subscribe();
    let ok = SubscribeOk {
        track_alias: TrackAlias(1),
        parameters: Parameters::default(),
        properties: Properties::default(),
    };
    victim.message(victim.own(0), &Message::SubscribeOk(ok));
    victim.events();
    (victim, request)
}

fn is_done(events: &[Event]) -> bool {
    matches!(events.last(), Some(Event::PublishDone { .. }))
}

#[test]
fn publish_done_waits_for_what_was_sent() {
    for version in DRAFTS {
        let (mut pair, request) = subscribed(version);
        let one = pair.server.open_subgroup(request, &header(1, 1), &Delivery::default()).unwrap();
        let two = pair.server.open_subgroup(request, &header(1, 2), &Delivery::default()).unwrap();
        pair.server.send(one, object(0, "one"), true);
        pair.server.send(two, object(0, "two"), false);
        pair.server.publish_done(request, PublishDoneCode::TRACK_ENDED, "over");
        let told = pair.client_events();
        assert!(!is_done(&told), "{version:?}: a stream is open");
        pair.server.send(two, Bytes::new(), true);
        let told = pair.client_events();
        let Some(Event::PublishDone { body, .. }) = told.last() else {
            panic!("{version:?}: {told:?}");
        };
        assert_eq!(body.stream_count, Some(2), "{version:?}");
        assert!(pair.client.is_idle() && pair.server.is_idle(), "{version:?}");
    }
}

#[test]
fn publish_done_counts_streams_that_were_reset_or_stopped() {
    for version in DRAFTS {
        let (mut pair, request) = subscribed(version);
        let one = pair.server.open_subgroup(request, &header(1, 1), &Delivery::default()).unwrap();
        let two = pair.server.open_subgroup(request, &header(1, 2), &Delivery::default()).unwrap();
        pair.server.send(one, object(0, "one"), false);
        pair.server.send(two, object(0, "two"), false);
        pair.client_events();
        pair.client.stop_incoming(two, ResetCode::CANCELLED);
        pair.shuttle();
        assert_eq!(pair.server.stream_queued_bytes(two), None);
        pair.server.reset_stream(one, ResetCode::DELIVERY_TIMEOUT);
        pair.server.publish_done(request, PublishDoneCode::TRACK_ENDED, "over");
        let told = pair.client_events();
        assert!(is_done(&told), "{version:?}: {told:?}");
        assert!(
            told.contains(&Event::SubgroupEnded {
                stream: one,
                end: StreamEnd::Reset(ResetCode::DELIVERY_TIMEOUT)
            }),
            "{version:?}"
        );
    }
}

#[test]
fn the_end_is_told_after_the_streams_that_it_counts() {
    for version in DRAFTS {
        let (mut victim, request) = victim(version);
        victim.bytes(victim.own(0), super::encode(version, &publish_done(Some(2))), true);
        victim.bytes(victim.uni(1), subgroup(1, 1, "one"), true);
        assert!(!is_done(&victim.events()), "{version:?}");
        assert!(victim.session.has_request(request));
        victim.bytes(victim.uni(2), subgroup(1, 2, "two"), false);
        assert!(!is_done(&victim.events()), "{version:?}");
        victim.bytes(victim.uni(2), Bytes::new(), true);
        assert!(is_done(&victim.events()), "{version:?}");
        assert!(victim.session.is_idle());
        assert_eq!(victim.session.poll_timeout(), None);
    }
}

#[test]
fn the_end_is_told_after_a_while_though_streams_are_missing() {
    for version in DRAFTS {
        for count in [Some(1), None] {
            let (mut victim, _) = victim(version);
            victim.message(victim.own(0), &publish_done(count));
            victim.pass(Duration::from_millis(4_999));
            assert!(!is_done(&victim.events()), "{version:?} {count:?}");
            victim.pass(Duration::from_millis(1));
            assert!(is_done(&victim.events()), "{version:?} {count:?}");
            assert!(victim.session.is_idle());
        }
    }
}

#[test]
fn a_stream_that_still_comes_is_waited_for() {
    for version in DRAFTS {
        let (mut victim, _) = victim(version);
        let whole = subgroup(1, 1, "a payload that takes its time");
        victim.bytes(victim.uni(1), whole.slice(..9), false);
        victim.message(victim.own(0), &publish_done(Some(1)));
        victim.pass(Duration::from_secs(9));
        assert!(!is_done(&victim.events()), "{version:?}");
        victim.bytes(victim.uni(1), whole.slice(9..), true);
        assert!(is_done(&victim.events()), "{version:?}");
        assert_eq!(victim.session.poll_timeout(), None);
    }
}

#[test]
fn cancelling_resets_every_stream() {
    for version in DRAFTS {
        let (mut pair, request) = subscribed(version);
        let one = pair.server.open_subgroup(request, &header(1, 1), &Delivery::default()).unwrap();
        let fill = pair.server.open_fill(request, Precedence::data(request, 9)).unwrap();
        pair.server.send(one, object(0, "one"), false);
        pair.client_events();
        pair.client.cancel(request, ResetCode::CANCELLED);
        let told = pair.server_events();
        assert_eq!(told, [Event::Ended { request }], "{version:?}");
        assert_eq!(pair.server.stream_queued_bytes(one), None);
        assert_eq!(pair.server.stream_queued_bytes(fill), None);
        assert!(pair.client.is_idle() && pair.server.is_idle());
        // Nothing is said of it any more.
        pair.server.send(one, object(0, "more"), true);
        pair.server.publish_done(request, PublishDoneCode::TRACK_ENDED, "");
        assert!(pair.server.open_subgroup(request, &header(1, 2), &Delivery::default()).is_none());
        let told = pair.client_events();
        assert!(!is_done(&told));
    }
}

#[test]
fn a_fetch_is_over_when_both_its_answer_and_its_data_are() {
    for version in DRAFTS {
        for answer_first in [true, false] {
            let mut pair = Pair::new(version);
            let (start, end) = (Location::new(1, 0), Location::new(4, 0));
            let session = &mut pair.client;
            let fetch = session.fetch_range(track("t"), start, end, Parameters::default()).unwrap();
            pair.server_events();
            let answer = |pair: &mut Pair| {
                pair.server.accept_fetch(fetch, false, end, Properties::default());
                pair.shuttle();
            };
            if answer_first {
                answer(&mut pair);
            }
            send_fetch(&mut pair, version, fetch);
            if !answer_first {
                assert!(pair.client.has_request(fetch));
                answer(&mut pair);
            }
            let told = pair.client_events();
            let told: Vec<String> = told
                .iter()
                .map(|event| match event {
                    Event::Response { .. } => "answer".to_owned(),
                    Event::FetchObject { object, .. } => format!("{}", object.location),
                    Event::FetchRange { end, kind, .. } => format!("{kind:?} {end}"),
                    Event::FetchEnded { end, .. } => format!("{end:?}"),
                    Event::Ended { .. } => "over".to_owned(),
                    other => format!("{other:?}"),
                })
                .collect();
            let data = ["1/0", "Unknown 3/9", "4/0", "Fin"];
            let expected: Vec<&str> = if answer_first {
                ["answer"].into_iter().chain(data).chain(["over"]).collect()
            } else {
                data.into_iter().chain(["answer", "over"]).collect()
            };
            assert_eq!(told, expected, "{version:?}");
            assert!(pair.client.is_idle() && pair.server.is_idle(), "{version:?}");
        }
    }
}

fn send_fetch(pair: &mut Pair, version: Version, fetch: RequestId) {
    let stream = pair.server.open_fetch(fetch, 9).unwrap();
    let mut encoder = Encoder::new(version, aip_codec::moqt::parameter::GroupOrder::Ascending);
    let mut out = BytesMut::new();
    let mut one = FetchObject {
        location: Location::new(1, 0),
        subgroup: None,
        priority: 3,
        properties: Properties::default(),
        payload_length: 1,
    };
    encoder.object(&one, &mut out).unwrap();
    out.extend_from_slice(b"a");
    encoder.range(RangeKind::Unknown, Location::new(3, 9), &mut out).unwrap();
    one.location = Location::new(4, 0);
    encoder.object(&one, &mut out).unwrap();
    out.extend_from_slice(b"b");
    pair.server.send(stream, out.freeze(), true);
    pair.shuttle();
}

#[test]
fn a_refused_fetch_reads_no_data() {
    for version in DRAFTS {
        let mut pair = Pair::new(version);
        let (start, end) = (Location::new(1, 0), Location::new(4, 0));
        let fetch = pair.client.fetch_range(track("t"), start, end, Parameters::default()).unwrap();
        pair.server_events();
        let stream = pair.server.open_fetch(fetch, 9).unwrap();
        pair.shuttle();
        let code = aip_codec::moqt::error_code::RequestCode::INTERNAL_ERROR;
        pair.server.reject_with(fetch, code, "");
        pair.shuttle();
        assert_eq!(pair.server.stream_queued_bytes(stream), None, "it was reset");
        assert!(pair.client.is_idle() && pair.server.is_idle());
    }
}

#[test]
fn the_streams_of_a_fill_carry_the_number_of_who_asked() {
    let version = Version::Draft22;
    let (mut pair, request) = subscribed(version);
    let fill = aip_codec::moqt::parameter::Parameter::FillParameters(Parameters::default());
    let update = pair.client.update(request, Parameters::default().with(fill)).unwrap();
    pair.server_events();
    pair.server.accept_update(request, Parameters::default());
    let stream = pair.server.open_fill(update, Precedence::data(request, 9)).unwrap();
    pair.server.send(stream, Bytes::new(), true);
    let told = pair.client_events();
    assert!(told.contains(&Event::FetchEnded { request: update, end: StreamEnd::Fin }), "{told:?}");
    // A fill counts as a stream of its subscription.
    pair.server.publish_done(request, PublishDoneCode::TRACK_ENDED, "");
    let told = pair.client_events();
    assert!(
        matches!(told.last(), Some(Event::PublishDone { body, .. })
            if body.stream_count == Some(1)),
        "{told:?}"
    );
}

#[test]
fn a_fetch_stream_that_nobody_asked_for_is_stopped() {
    let mut victim = Victim::established(Side::Client, Version::Draft22);
    victim.bytes(victim.uni(1), super::hex("0508"), false);
    assert_eq!(victim.stops, [(victim.uni(1), 1)]);
    assert_eq!(victim.closed, None);
}

#[test]
fn the_last_word_of_a_publisher_that_listens_no_more_is_heard() {
    for version in DRAFTS {
        let (mut victim, request) = victim(version);
        let stream = victim.own(0);
        // It said PUBLISH_DONE and its end, then stopped our side; the last came first.
        victim.session.handle_stop(stream, 0, victim.now);
        assert_eq!(victim.events(), []);
        victim.message(stream, &publish_done(Some(0)));
        assert!(is_done(&victim.events()), "{version:?}");
        victim.pass(Duration::from_secs(60));
        assert_eq!(victim.events(), [], "{version:?}");
        assert!(!victim.session.has_request(request));
    }
}

#[test]
fn a_publisher_that_listens_no_more_and_says_nothing_has_cancelled() {
    for version in DRAFTS {
        let (mut victim, request) = victim(version);
        victim.session.handle_stop(victim.own(0), 0, victim.now);
        victim.pass(Duration::from_millis(500));
        assert_eq!(victim.events(), [Event::Ended { request }], "{version:?}");
    }
}

//! What comes before SETUP, and before what it belongs to.

use std::time::Duration;

use aip_codec::{
    Version,
    moqt::{
        id::{RequestId, TrackAlias},
        message::{Message, Publish, Subscribe},
        parameter::Parameters,
        property::Properties,
    },
};
use bytes::Bytes;

use super::{DRAFTS, Pair, Victim, encode, events, header, hex, object, subgroup, track};
use crate::{
    session::{Config, Delivery, Event, Request, StreamEnd},
    transport::{Side, StreamId},
};

fn subscribe() -> Message {
    Message::Subscribe(Subscribe {
        request_id: RequestId(0),
        track: track("t"),
        parameters: Parameters::default(),
    })
}

fn publish() -> Message {
    Message::Publish(Publish {
        request_id: RequestId(0),
        track: track("t"),
        track_alias: TrackAlias(1),
        parameters: Parameters::default(),
        properties: Properties::default(),
    })
}

/// What of a track's data was told, as words.
fn told(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::SubgroupOpened { header, .. } => Some(format!("group {}", header.group)),
            Event::Object { object, .. } => Some(format!(
                "object {} {}",
                object.header.object,
                String::from_utf8_lossy(&object.payload)
            )),
            Event::Payload { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
            Event::SubgroupEnded { end: StreamEnd::Fin, .. } => Some("end".to_owned()),
            Event::SubgroupEnded { .. } => Some("reset".to_owned()),
            Event::Datagram { object } => Some(format!("datagram {}", object.object)),
            Event::Request { body: Request::Publish(_), .. } => Some("publish".to_owned()),
            Event::Request { body: Request::Subscribe(_), .. } => Some("subscribe".to_owned()),
            Event::PublishDone { .. } => Some("done".to_owned()),
            _ => None,
        })
        .collect()
}

#[test]
fn what_comes_before_setup_is_kept_in_order() {
    for version in DRAFTS {
        for cut in 1..8 {
            let mut victim = Victim::new(Side::Server, version);
            let request = encode(version, &publish());
            victim.bytes(victim.bidi(0), request.slice(..cut), false);
            victim.bytes(victim.bidi(0), request.slice(cut..), false);
            let whole = subgroup(1, 7, "payload");
            victim.bytes(victim.uni(1), whole.slice(..cut), false);
            victim.bytes(victim.uni(1), whole.slice(cut..), true);
            victim.bytes(victim.uni(2), hex("f0132b3e28 00"), false);
            victim.bytes(victim.uni(2), hex("0000"), true);
            assert!(victim.events().is_empty());
            victim.setup("af000000");
            assert_eq!(victim.closed, None, "{version:?} {cut}");
            let told = told(&victim.events());
            assert_eq!(told.first().map(String::as_str), Some("publish"), "{version:?} {cut}");
            assert_eq!(told.concat(), "publishgroup 7object 0 payloadend", "{version:?} {cut}");
        }
    }
}

#[test]
fn what_comes_before_setup_is_bounded() {
    for version in DRAFTS {
        let mut victim = Victim::new(Side::Server, version);
        let request = encode(version, &subscribe());
        victim.bytes(victim.bidi(0), request, false);
        victim.bytes(victim.uni(1), subgroup(1, 7, &"x".repeat(70_000)), false);
        assert_eq!(victim.stops, [(victim.uni(1), 9)], "{version:?}");
        // A stream that is too much takes no room from others.
        victim.bytes(victim.uni(2), subgroup(1, 8, &"x".repeat(1_000)), false);
        assert_eq!(victim.stops.len(), 1, "{version:?}");
        victim.setup("af000000");
        assert_eq!(told(&victim.events()), ["subscribe"], "{version:?}");
        assert_eq!(victim.closed, None);
    }
}

#[test]
fn a_stream_reset_before_setup_is_forgotten() {
    let mut victim = Victim::new(Side::Server, Version::Draft22);
    victim.bytes(victim.bidi(0), encode(Version::Draft22, &subscribe()), false);
    victim.bytes(victim.uni(1), subgroup(1, 7, "payload"), false);
    victim.reset(victim.bidi(0), 1);
    victim.reset(victim.uni(1), 1);
    victim.setup("af000000");
    assert_eq!(told(&victim.events()), [""; 0]);
    assert!(victim.session.is_idle());
}

#[test]
fn requests_may_follow_setup_at_once() {
    for version in DRAFTS {
        let now = super::start();
        let mut client =
            crate::session::Session::new(Config::default(), Side::Client, version, now);
        client.subscribe(track("t"), Parameters::default()).unwrap();
        let mut server =
            crate::session::Session::new(Config::default(), Side::Server, version, now);
        let mut actions: Vec<_> = std::iter::from_fn(|| client.poll_action()).collect();
        // The request overtakes SETUP.
        actions.reverse();
        for action in actions {
            if let crate::transport::Action::Send { stream, bytes, fin } = action {
                server.handle_stream(stream, bytes, fin, now);
            }
        }
        assert_eq!(told(&events(&mut server)), ["subscribe"], "{version:?}");
    }
}

/// A client that subscribed, and a server that accepted, its answer not yet arrived.
fn subscribed(version: Version) -> (Pair, RequestId, StreamId) {
    let mut pair = Pair::new(version);
    let request = pair.client.subscribe(track("t"), Parameters::default()).unwrap();
    pair.server_events();
    let stream = StreamId::new(Side::Client, true, 0);
    pair.detain(Side::Client, stream);
    let (parameters, properties) = (Parameters::default(), Properties::default());
    pair.server.accept_subscribe(request, TrackAlias(1), parameters, properties);
    (pair, request, stream)
}

#[test]
fn objects_wait_for_their_alias() {
    for version in DRAFTS {
        let (mut pair, request, answer) = subscribed(version);
        let stream =
            pair.server.open_subgroup(request, &header(1, 7), &Delivery::default()).unwrap();
        pair.server.send(stream, object(0, "one"), false);
        pair.server.send(stream, object(0, "two"), true);
        pair.server.send_encoded_datagram(hex("0001070361"), None);
        assert_eq!(told(&pair.client_events()), [""; 0], "{version:?}");
        pair.release(Side::Client, answer);
        let told = told(&pair.client_events());
        assert_eq!(
            told,
            ["group 7", "datagram 3", "object 0 one", "object 1 two", "end"],
            "{version:?}"
        );
    }
}

#[test]
fn objects_of_an_alias_that_never_comes_are_dropped() {
    for version in DRAFTS {
        let (mut pair, request, answer) = subscribed(version);
        let stream =
            pair.server.open_subgroup(request, &header(1, 7), &Delivery::default()).unwrap();
        pair.server.send(stream, object(0, "one"), false);
        pair.server.send_encoded_datagram(hex("0001070361"), None);
        pair.shuttle();
        pair.pass(Duration::from_millis(4_999));
        assert!(pair.server.stream_queued_bytes(stream).is_some());
        pair.pass(Duration::from_millis(1));
        assert_eq!(pair.server.stream_queued_bytes(stream), None, "the stream was stopped");
        pair.release(Side::Client, answer);
        assert_eq!(told(&pair.client_events()), [""; 0], "{version:?}");
        assert_eq!(pair.client.poll_timeout(), None);
    }
}

#[test]
fn a_held_stream_that_is_reset_is_forgotten() {
    let (mut pair, request, answer) = subscribed(Version::Draft22);
    let stream = pair.server.open_subgroup(request, &header(1, 7), &Delivery::default()).unwrap();
    pair.server.send(stream, object(0, "one"), false);
    pair.shuttle();
    pair.server.reset_stream(stream, aip_codec::moqt::error_code::ResetCode::CANCELLED);
    pair.shuttle();
    pair.release(Side::Client, answer);
    assert_eq!(told(&pair.client_events()), [""; 0]);
    assert_eq!(pair.client.poll_timeout(), None);
}

#[test]
fn objects_that_overtake_their_publish_wait_for_it() {
    for version in DRAFTS {
        let mut victim = Victim::established(Side::Server, version);
        victim.bytes(victim.uni(1), subgroup(1, 7, "payload"), true);
        victim.session.handle_datagram(hex("0001070361"), victim.now);
        assert_eq!(told(&victim.events()), [""; 0]);
        victim.message(victim.bidi(0), &publish());
        assert_eq!(
            told(&victim.events()),
            ["publish", "group 7", "object 0 payload", "end", "datagram 3"],
            "{version:?}"
        );
    }
}

#[test]
fn streams_of_unknown_aliases_are_bounded() {
    let config = Config {
        unknown_alias_streams_max: 2,
        unknown_alias_datagrams_max: 2,
        ..Config::default()
    };
    let mut victim = Victim::with(config, Side::Server, Version::Draft22);
    victim.setup("af000000");
    for index in 1..=3 {
        victim.bytes(victim.uni(index), subgroup(1, index, "x"), true);
        victim.session.handle_datagram(Bytes::from(vec![0, 1, 9, index as u8, 1]), victim.now);
    }
    assert_eq!(victim.stops, [(victim.uni(3), 1)]);
    victim.message(victim.bidi(0), &publish());
    assert_eq!(
        told(&victim.events()),
        [
            "publish",
            "group 1",
            "object 0 x",
            "end",
            "group 2",
            "object 0 x",
            "end",
            "datagram 2",
            "datagram 3"
        ]
    );
    // The room is free again.
    victim.bytes(victim.uni(4), subgroup(9, 1, "x"), false);
    assert_eq!(victim.stops.len(), 1);
}

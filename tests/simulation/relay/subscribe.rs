//! SUBSCRIBE and TRACK_STATUS through a relay.

use std::time::Duration;

use aip_codec::{
    Version,
    moqt::{
        error_code::{PublishDoneCode, RequestCode, ResetCode},
        filter::LocationFilter,
        name::FullTrackName,
        parameter::Parameter,
        property::Properties,
    },
};
use aip_engine::session::{Event, Request, Response};
use aip_tests::sim::peer::{Peer, Subgroup};
use bytes::Bytes;

use super::{DRAFTS, Live, Stage, at, namespace, none, objects, track, with};

#[test]
fn a_subscription_is_accepted_once_its_publisher_has() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let first = stage.peer(drafts.1);
        let second = stage.peer(drafts.1);
        let one = stage.subscribe(first, "t", none());
        let two = stage.subscribe(second, "t", none());
        assert!(stage.take(first).is_empty() && stage.take(second).is_empty());
        // One subscription upstream serves all.
        let (upstream, body) = stage.request(publisher);
        assert!(matches!(body, Request::Subscribe(body) if body.track == track("t")));
        let largest = with(Parameter::LargestObject(at(5, 6)));
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, largest));
        for (peer, request) in [(first, one), (second, two)] {
            let Response::SubscribeOk(ok) = stage.response(peer, request) else { panic!() };
            assert_eq!(ok.parameters.largest_object(), Some(at(5, 6)), "{drafts:?}");
        }
        // Who comes later is accepted at once.
        stage.join(drafts.1, none());
        assert!(stage.requests(publisher).is_empty());
    }
}

#[test]
fn every_publisher_of_a_prefix_is_asked() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let wide = stage.publisher(drafts.0, "live");
        let narrow = stage.publisher(drafts.0, "live/room");
        let other = stage.publisher(drafts.0, "live/rooms");
        let subscriber = stage.peer(drafts.1);
        let subscription = stage.subscribe(subscriber, "t", none());
        let (at_wide, _) = stage.request(wide);
        let (at_narrow, _) = stage.request(narrow);
        assert!(stage.requests(other).is_empty());
        // One that refuses leaves the other.
        let code = RequestCode::DOES_NOT_EXIST;
        stage.tell(wide, |peer| peer.session().reject_with(at_wide, code, ""));
        assert!(stage.take(subscriber).is_empty());
        stage.tell(narrow, |peer| peer.accept_subscribe(at_narrow, 1, none()));
        assert!(matches!(stage.response(subscriber, subscription), Response::SubscribeOk(_)));
    }
}

#[test]
fn a_publisher_that_comes_later_is_asked_too() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let second = live.stage.publisher(drafts.0, "live/room");
        let (_, body) = live.stage.request(second);
        assert!(matches!(body, Request::Subscribe(_)), "{drafts:?}");
    }
}

#[test]
fn a_publisher_that_comes_while_another_says_nothing_serves_who_waits() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let silent = stage.publisher(drafts.0, "live");
        let subscriber = stage.peer(drafts.1);
        let subscription = stage.subscribe(subscriber, "t", none());
        stage.request(silent);
        let second = stage.publisher(drafts.0, "live");
        let (upstream, _) = stage.request(second);
        stage.tell(second, |peer| peer.accept_subscribe(upstream, 1, none()));
        assert!(matches!(stage.response(subscriber, subscription), Response::SubscribeOk(_)));
    }
}

#[test]
fn if_every_publisher_refuses_so_does_the_relay() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let subscriber = stage.peer(drafts.1);
        let subscription = stage.subscribe(subscriber, "t", none());
        let (upstream, _) = stage.request(publisher);
        let code = RequestCode::UNAUTHORIZED;
        stage.tell(publisher, |peer| peer.session().reject_with(upstream, code, ""));
        assert_eq!(stage.refusal(subscriber, subscription), "UNAUTHORIZED");
        assert_eq!(stage.counts().1, 0, "{drafts:?}");
    }
}

#[test]
fn a_publisher_that_says_nothing_is_given_up() {
    let mut stage = Stage::new();
    let publisher = stage.publisher(Version::Draft22, "live");
    let subscriber = stage.peer(Version::Draft22);
    let subscription = stage.subscribe(subscriber, "t", none());
    let (upstream, _) = stage.request(publisher);
    stage.run(9_900);
    assert!(stage.take(subscriber).is_empty());
    stage.run(200);
    assert_eq!(stage.refusal(subscriber, subscription), "TIMEOUT");
    assert!(stage.take(publisher).contains(&Event::Ended { request: upstream }));
    assert_eq!(stage.counts().1, 0);
}

#[test]
fn nobody_publishes_it() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let subscriber = stage.peer(drafts.1);
        let subscription = stage.subscribe(subscriber, "t", none());
        assert_eq!(stage.refusal(subscriber, subscription), "DOES_NOT_EXIST");
        let zero = stage.subscribe(subscriber, "t", with(Parameter::RendezvousTimeout(0)));
        assert_eq!(stage.refusal(subscriber, zero), "DOES_NOT_EXIST");
        let status =
            stage.tell(subscriber, |peer| peer.session().track_status(track("t"), none()).unwrap());
        assert_eq!(stage.refusal(subscriber, status), "DOES_NOT_EXIST");
        let fetch = stage.fetch(subscriber, at(0, 0), at(1, 0), none());
        assert_eq!(stage.refusal(subscriber, fetch), "DOES_NOT_EXIST");
        assert_eq!(stage.counts().1, 0);
    }
}

#[test]
fn a_rendezvous_waits_for_its_publisher() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let subscriber = stage.peer(drafts.1);
        let patience = Parameter::RendezvousTimeout(5_000);
        let subscription = stage.subscribe(subscriber, "t", with(patience));
        stage.run(4_000);
        assert!(stage.take(subscriber).is_empty());
        let publisher = stage.publisher(drafts.0, "live");
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        assert!(matches!(stage.response(subscriber, subscription), Response::SubscribeOk(_)));
        stage.run(5_000);
        assert!(stage.take(subscriber).is_empty(), "{drafts:?}");
    }
}

#[test]
fn a_rendezvous_ends_in_time() {
    let patience = |milliseconds| with(Parameter::RendezvousTimeout(milliseconds));
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let subscriber = stage.peer(drafts.1);
        let short = stage.subscribe(subscriber, "a", patience(5_000));
        let long = stage.subscribe(subscriber, "b", patience(50_000));
        stage.run(4_900);
        assert!(stage.take(subscriber).is_empty());
        stage.run(200);
        assert_eq!(stage.refusal(subscriber, short), "TIMEOUT");
        stage.run(25_000);
        assert_eq!(stage.refusal(subscriber, long), "TIMEOUT", "the relay's own limit is 30 s");
        assert_eq!(stage.counts().1, 0);
    }
}

#[test]
fn a_rendezvous_outlives_a_publisher_that_has_not_got_it() {
    let mut stage = Stage::new();
    let wrong = stage.publisher(Version::Draft22, "live");
    let subscriber = stage.peer(Version::Draft22);
    let patience = Parameter::RendezvousTimeout(5_000);
    let subscription = stage.subscribe(subscriber, "t", with(patience));
    let (upstream, _) = stage.request(wrong);
    let code = RequestCode::DOES_NOT_EXIST;
    stage.tell(wrong, |peer| peer.session().reject_with(upstream, code, ""));
    assert!(stage.take(subscriber).is_empty());
    let right = stage.publisher(Version::Draft22, "live/room");
    // Both are asked: the first may have it by now.
    for peer in [wrong, right] {
        let (upstream, _) = stage.request(peer);
        stage.tell(peer, |peer| peer.accept_subscribe(upstream, 7, none()));
    }
    assert!(matches!(stage.response(subscriber, subscription), Response::SubscribeOk(_)));
}

#[test]
fn a_session_may_subscribe_to_what_it_publishes() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let peer = stage.publisher(drafts.0, "live");
        let subscription = stage.subscribe(peer, "t", none());
        let (upstream, _) = stage.request(peer);
        stage.tell(peer, |peer| peer.accept_subscribe(upstream, 7, none()));
        assert!(matches!(stage.response(peer, subscription), Response::SubscribeOk(_)));
        let group = Subgroup::new(7, 1);
        stage.tell(peer, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        assert_eq!(stage.lines(peer), ["1: 0=a fin"], "{drafts:?}");
    }
}

#[test]
fn updates_are_answered_after_their_request() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let subscriber = stage.peer(drafts.1);
        let subscription = stage.subscribe(subscriber, "t", none());
        stage.tell(subscriber, |peer| {
            let paused = with(Parameter::Forward(false));
            peer.session().update(subscription, paused).unwrap();
        });
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        let told = stage.take(subscriber);
        assert!(
            matches!(
                &told[..],
                [
                    Event::Response { body: Response::SubscribeOk(_), .. },
                    Event::UpdateResponse { result: Ok(_), .. }
                ]
            ),
            "{drafts:?}: {told:?}"
        );
        let group = Subgroup::new(7, 1);
        stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        assert_eq!(stage.lines(subscriber), [""; 0], "it is paused");
    }
}

#[test]
fn a_subscriber_pauses_and_goes_on() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.group(1, &["a"]);
        assert_eq!(live.heard(), ["1: 0=a fin"]);
        let pause = |live: &mut Live, paused: bool| {
            let subscription = live.subscription;
            let parameters = with(Parameter::Forward(!paused));
            live.stage.tell(live.subscriber, |peer| {
                peer.session().update(subscription, parameters).unwrap();
            });
        };
        pause(&mut live, true);
        live.group(2, &["b"]);
        assert_eq!(live.heard(), [""; 0], "{drafts:?}");
        // One that does not pause is not paused.
        let (other, _) = live.stage.join(drafts.1, none());
        live.group(3, &["c"]);
        assert_eq!(live.stage.lines(other), ["3: 0=c fin"]);
        pause(&mut live, false);
        let told = live.stage.take(live.subscriber);
        let Some(Event::UpdateResponse { result: Ok(ok), .. }) = told.last() else {
            panic!("{told:?}");
        };
        assert_eq!(ok.parameters.largest_object(), Some(at(3, 0)), "{drafts:?}");
        live.group(4, &["d"]);
        assert_eq!(live.heard(), ["4: 0=d fin"]);
    }
}

#[test]
fn a_stream_with_a_hole_from_a_pause_is_not_finished() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let mut writer = live.open(&Subgroup::new(7, 1));
        live.object(&mut writer, 0, "a");
        for forward in [false, true] {
            live.object(&mut writer, 1 + u64::from(forward), "b");
            let subscription = live.subscription;
            let parameters = with(Parameter::Forward(forward));
            live.stage.tell(live.subscriber, |peer| {
                peer.session().update(subscription, parameters).unwrap();
            });
        }
        live.object(&mut writer, 3, "c");
        live.finish(&writer);
        let heard = live.heard();
        assert!(
            heard.iter().all(|line| !(line.contains("0=a") && line.ends_with("fin"))),
            "{drafts:?}: {heard:?}"
        );
        assert!(heard.iter().any(|line| line.contains("3=c")), "{drafts:?}: {heard:?}");
    }
}

#[test]
fn location_filters_let_pass_what_they_say() {
    let cases = [
        (LocationFilter::NextObject, "3 4 5 6 7"),
        (LocationFilter::Relative { groups_back: 0 }, "3 4 5 6 7"),
        (LocationFilter::Start { start: at(5, 0) }, "5 6 7"),
        (
            LocationFilter::Groups { start: at(4, 0), end_group: aip_codec::moqt::id::GroupId(5) },
            "4 5",
        ),
        (LocationFilter::Range { start: at(4, 0), end: at(6, 0) }, "4 5 6"),
        (LocationFilter::Start { start: at(9, 0) }, ""),
    ];
    for drafts in DRAFTS {
        for (filter, expected) in cases {
            if drafts.1 < Version::Draft20 && matches!(filter, LocationFilter::Range { .. }) {
                continue;
            }
            let mut live = Stage::live(drafts, none());
            live.group(2, &["x"]);
            let (peer, _) = live.stage.join(drafts.1, with(Parameter::LocationFilter(filter)));
            for group in 3..=7 {
                live.group(group, &["x"]);
            }
            let heard = live.stage.lines(peer);
            let groups: Vec<&str> =
                heard.iter().map(|line| line.split(':').next().unwrap()).collect();
            assert_eq!(groups.join(" "), expected, "{drafts:?} {filter:?}");
        }
    }
}

#[test]
fn a_filter_may_move() {
    let live_drafts = [(Version::Draft22, Version::Draft22), (Version::Draft22, Version::Draft18)];
    for drafts in live_drafts {
        let mut live = Stage::live(drafts, none());
        let subscription = live.subscription;
        let filter = LocationFilter::Start { start: at(5, 0) };
        live.stage.tell(live.subscriber, |peer| {
            let parameters = with(Parameter::LocationFilter(filter));
            peer.session().update(subscription, parameters).unwrap();
        });
        for group in 4..=6 {
            live.group(group, &["x"]);
        }
        assert_eq!(live.heard(), ["5: 0=x fin", "6: 0=x fin"], "{drafts:?}");
    }
}

#[test]
fn the_largest_object_is_the_largest_heard_of() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let status = |live: &mut Live| {
            let peer = live.stage.peer(drafts.1);
            let request =
                live.stage.tell(peer, |peer| peer.session().track_status(track("t"), none()));
            let Response::Ok(ok) = live.stage.response(peer, request.unwrap()) else { panic!() };
            ok.parameters.largest_object()
        };
        assert_eq!(status(&mut live), None);
        live.group(5, &["a", "b"]);
        live.group(3, &["a", "b", "c"]);
        assert_eq!(status(&mut live), Some(at(5, 1)), "{drafts:?}");
        // What a publisher says counts, where it is more.
        let second = live.stage.publisher(drafts.0, "live/room");
        let (upstream, _) = live.stage.request(second);
        let largest = with(Parameter::LargestObject(at(8, 2)));
        live.stage.tell(second, |peer| peer.accept_subscribe(upstream, 9, largest));
        assert_eq!(status(&mut live), Some(at(8, 2)), "{drafts:?}");
        // It is the largest from an object's first byte on.
        let mut writer = live.open(&Subgroup::new(7, 9));
        live.stage.tell(live.publisher, |peer| {
            writer.begin(peer.session(), 3, 100, Properties::default());
        });
        assert_eq!(status(&mut live), Some(at(9, 3)), "{drafts:?}");
    }
}

#[test]
fn the_end_of_a_track_is_passed_on_after_its_streams() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.group(1, &["a"]);
        let open = live.open(&Subgroup::new(7, 2));
        let upstream = live.upstream;
        live.stage.tell(live.publisher, |peer| {
            peer.session().publish_done(upstream, PublishDoneCode::TRACK_ENDED, "");
        });
        let told = live.stage.take(live.subscriber);
        assert!(
            !told.iter().any(|event| matches!(event, Event::PublishDone { .. })),
            "a stream is open: {told:?}"
        );
        live.finish(&open);
        let told = live.stage.take(live.subscriber);
        let Some(Event::PublishDone { body, .. }) = told.last() else {
            panic!("{drafts:?} {told:?}");
        };
        assert_eq!(body.code, PublishDoneCode::TRACK_ENDED);
        assert_eq!(body.stream_count, Some(1), "an empty stream is not passed on");
        assert_eq!(live.stage.counts().1, 0, "{drafts:?}");
    }
}

#[test]
fn a_lost_publisher_ends_its_subscriptions() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let (publisher, link) = stage.peer_with_link(drafts.0);
        stage.announce(publisher, "live");
        let subscriber = stage.peer(drafts.1);
        stage.subscribe(subscriber, "t", none());
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        let group = Subgroup::new(7, 1);
        let mut writer = stage.tell(publisher, |peer| peer.open(upstream, &group).unwrap());
        stage.tell(publisher, |peer| {
            writer.begin(peer.session(), 0, 10, Properties::default());
            peer.session().send(writer.stream, Bytes::from("half"), false);
        });
        stage.world.kill(link);
        stage.run(50);
        let told = stage.take(subscriber);
        assert!(matches!(told.last(), Some(Event::PublishDone { .. })), "{drafts:?}: {told:?}");
        let lines = aip_tests::sim::heard::lines(&told);
        assert_eq!(lines, ["1: 0=half… SESSION_CLOSED"], "{drafts:?}");
        assert_eq!(stage.counts(), (1, 0, 0));
        assert_eq!(stage.relay(|relay| relay.cached_bytes()), 0);
    }
}

#[test]
fn another_publisher_takes_over() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let (first, link) = stage.peer_with_link(drafts.0);
        stage.announce(first, "live");
        let subscriber = stage.peer(drafts.1);
        stage.subscribe(subscriber, "t", none());
        let (upstream, _) = stage.request(first);
        stage.tell(first, |peer| peer.accept_subscribe(upstream, 7, none()));
        let second = stage.publisher(drafts.0, "live/room");
        let (upstream, _) = stage.request(second);
        stage.tell(second, |peer| peer.accept_subscribe(upstream, 7, none()));
        stage.take(subscriber);
        stage.world.kill(link);
        stage.run(50);
        let group = Subgroup::new(7, 1);
        stage.tell(second, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        assert_eq!(stage.lines(subscriber), ["1: 0=a fin"], "{drafts:?}");
    }
}

#[test]
fn an_upstream_subscription_lingers() {
    let config = super::config(|config| {
        config.linger = Duration::from_secs(3);
    });
    for drafts in DRAFTS {
        let mut stage = Stage::with(config.clone());
        let publisher = stage.publisher(drafts.0, "live");
        let (first, link) = stage.peer_with_link(drafts.1);
        stage.subscribe(first, "t", none());
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        stage.world.kill(link);
        stage.run(2_000);
        assert!(stage.take(publisher).is_empty());
        let (second, subscription) = stage.join(drafts.1, none());
        stage.run(5_000);
        assert!(stage.take(publisher).is_empty(), "{drafts:?}");
        stage.tell(second, |peer| {
            peer.session().cancel(subscription, ResetCode::CANCELLED);
        });
        stage.run(2_900);
        assert!(stage.take(publisher).is_empty());
        stage.run(200);
        assert_eq!(stage.take(publisher), [Event::Ended { request: upstream }], "{drafts:?}");
        assert_eq!(stage.counts().1, 0);
    }
}

#[test]
fn reserved_namespaces_stay_in_their_session() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let root = stage.publisher(drafts.0, "");
        let peer = stage.peer(drafts.1);
        for field in [".session", "."] {
            let name = FullTrackName::new(namespace(field), Bytes::from("x")).unwrap();
            let namespace = namespace(field);
            let requests = stage.tell(peer, |peer| {
                let session = peer.session();
                let mut requests = vec![
                    session.subscribe(name.clone(), none()).unwrap(),
                    session.fetch_range(name.clone(), at(0, 0), at(1, 0), none()).unwrap(),
                    session.track_status(name, none()).unwrap(),
                    session.publish_namespace(namespace.clone(), none()).unwrap(),
                ];
                requests.push(session.subscribe_namespace(namespace.clone(), none()).unwrap());
                requests.push(session.subscribe_tracks(namespace.clone(), none()).unwrap());
                requests
            });
            for request in requests {
                assert_eq!(stage.refusal(peer, request), "DOES_NOT_EXIST", "{field} {request}");
            }
            let (alias, properties) = (aip_codec::moqt::id::TrackAlias(1), Properties::default());
            let name = FullTrackName::new(namespace.clone(), Bytes::from("y")).unwrap();
            let published =
                stage.tell(peer, |peer| peer.session().publish(name, alias, none(), properties));
            assert_eq!(stage.refusal(peer, published.unwrap()), "DOES_NOT_EXIST");
            let call = stage.tell(peer, |peer| {
                peer.session().call(namespace, Bytes::from("session"), none()).unwrap()
            });
            let told = stage.take(peer);
            assert!(
                told.iter().any(|event| matches!(event,
                    Event::CallBytes { request, fin: true, .. } if *request == call)),
                "{told:?}"
            );
        }
        assert!(stage.requests(root).is_empty(), "{drafts:?}");
    }
}

#[test]
fn each_subscription_of_a_session_gets_its_own_copy() {
    for drafts in DRAFTS.into_iter().filter(|drafts| drafts.1 != Version::Draft18) {
        let mut live = Stage::live(drafts, none());
        let again = live.stage.subscribe(live.subscriber, "t", none());
        let response = live.stage.response(live.subscriber, again);
        assert!(matches!(response, Response::SubscribeOk(_)), "{drafts:?}: {response:?}");
        live.group(1, &["a"]);
        assert_eq!(live.heard(), ["1: 0=a fin", "1: 0=a fin"], "{drafts:?}");
    }
}

#[test]
fn reserved_namespaces_that_mean_nothing_here_are_like_any_other() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let root = stage.publisher(drafts.0, "");
        let peer = stage.peer(drafts.1);
        let name = FullTrackName::new(namespace(".other/x"), Bytes::from("x")).unwrap();
        stage.tell(peer, |peer| peer.session().subscribe(name.clone(), none()).unwrap());
        let (_, body) = stage.request(root);
        assert!(matches!(body, Request::Subscribe(body) if body.track == name), "{drafts:?}");
    }
}

#[test]
fn one_sessions_fault_is_not_told_to_others() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let mut writer = live.open(&Subgroup::new(7, 1));
        live.object(&mut writer, 0, "a");
        // A status that is none, in the midst of a subgroup.
        live.stage.tell(live.publisher, |peer| {
            peer.session().send(writer.stream, Bytes::from_static(&[0, 0, 9]), false);
        });
        assert!(live.stage.closed(live.publisher), "{drafts:?}");
        assert!(!live.stage.closed(live.subscriber));
        let told = live.stage.take(live.subscriber);
        assert!(matches!(told.last(), Some(Event::PublishDone { .. })), "{drafts:?}: {told:?}");
        assert_eq!(aip_tests::sim::heard::lines(&told), ["1: 0=a SESSION_CLOSED"]);
    }
}

#[test]
fn a_slow_subscriber_is_told_and_others_are_not_held_up() {
    let config = super::config(|config| {
        config.session.delivery.queued_bytes_max = 1_000_000;
    });
    for drafts in DRAFTS {
        let mut stage = Stage::with(config.clone());
        let publisher = stage.publisher(drafts.0, "live");
        let slow = stage.peer(drafts.1);
        stage.subscribe(slow, "t", none());
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        let (quick, _) = stage.join(drafts.1, none());
        stage.take(slow);
        stage.world.with(slow, |peer: &mut Peer, _| peer.stall(true));
        for group in 0..20 {
            let object = vec![(0, Bytes::from(vec![7; 100_000]))];
            let group = Subgroup::new(7, group);
            stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &object));
        }
        assert_eq!(stage.lines(quick).len(), 20, "{drafts:?}");
        let told = stage.take(slow);
        let Some(Event::PublishDone { body, .. }) = told.last() else {
            panic!("{drafts:?}: {told:?}");
        };
        assert_eq!(body.code, PublishDoneCode::TOO_FAR_BEHIND);
        assert!(stage.requests(publisher).is_empty());
    }
}

#[test]
fn a_track_whose_last_subscriber_was_too_slow_is_left() {
    let config = super::config(|config| config.session.delivery.queued_bytes_max = 100_000);
    for drafts in DRAFTS {
        let mut stage = Stage::with(config.clone());
        let publisher = stage.publisher(drafts.0, "live");
        let slow = stage.peer(drafts.1);
        stage.subscribe(slow, "t", none());
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        stage.world.with(slow, |peer: &mut Peer, _| peer.stall(true));
        for group in 0..6 {
            let object = vec![(0, Bytes::from(vec![7; 50_000]))];
            let group = Subgroup::new(7, group);
            stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &object));
        }
        stage.take(publisher);
        stage.run(31_000);
        let told = stage.take(publisher);
        assert!(told.contains(&Event::Ended { request: upstream }), "{drafts:?}: {told:?}");
    }
}

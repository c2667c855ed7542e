//! How many requests may wait for a publisher, and what a publisher is told of late wishes.

use aip_codec::{
    Version,
    moqt::{
        error_code::{RequestCode, ResetCode},
        id::TrackAlias,
        message::RequestError,
        parameter::{Parameter, Parameters},
        property::{DYNAMIC_GROUPS, Properties},
    },
};
use aip_engine::session::{self, Event, Request, Response};
use aip_tests::sim::{
    NodeId,
    peer::{Peer, Subgroup},
};

use super::{DRAFTS, Stage, at, config, none, objects, track, with};

impl Stage {
    fn wait(&mut self, peer: NodeId, name: &str) -> aip_codec::moqt::id::RequestId {
        self.subscribe(peer, name, with(Parameter::RendezvousTimeout(20_000)))
    }

    #[track_caller]
    fn too_many(&mut self, peer: NodeId, request: aip_codec::moqt::id::RequestId) -> u64 {
        match self.response(peer, request) {
            Response::Error(RequestError { code, retry_interval, .. }) => {
                assert_eq!(code, RequestCode::EXCESSIVE_LOAD);
                retry_interval
            }
            other => panic!("not refused: {other:?}"),
        }
    }
}

#[test]
fn waits_for_a_publisher_are_bounded_for_a_session_and_for_all() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let peers: Vec<NodeId> = (0..3).map(|_| stage.peer(drafts.1)).collect();
        for name in 0..64 {
            stage.wait(peers[0], &name.to_string());
        }
        let over = stage.wait(peers[0], "one more");
        let first = stage.too_many(peers[0], over);
        for name in 0..64 {
            stage.wait(peers[1], &name.to_string());
        }
        // Now it is the relay's own limit, whoever asks.
        let over = stage.wait(peers[2], "a");
        let second = stage.too_many(peers[2], over);
        let over = stage.wait(peers[2], "b");
        let third = stage.too_many(peers[2], over);
        // Each is to come back after a second or two, not all at once.
        for interval in [first, second, third] {
            assert!((1_001..=2_001).contains(&interval), "{drafts:?}: {interval}");
        }
        assert_ne!(second, third, "{drafts:?}");
        // What has a publisher does not count, and one that comes makes room.
        let publisher = stage.publisher(drafts.0, "live");
        for (upstream, body) in stage.requests(publisher) {
            let Request::Subscribe(body) = body else { panic!("{body:?}") };
            let alias = body.request_id.0;
            stage.tell(publisher, |peer| peer.accept_subscribe(upstream, alias, none()));
        }
        stage.take(peers[0]);
        let served = stage.wait(peers[2], "0");
        assert!(matches!(stage.response(peers[2], served), Response::SubscribeOk(_)), "{drafts:?}");
    }
}

#[test]
fn a_publisher_that_has_not_got_it_does_not_make_more_room() {
    for drafts in DRAFTS {
        let mut stage = Stage::with(config(|config| config.session_rendezvous_max = 2));
        let publisher = stage.publisher(drafts.0, "live");
        let peer = stage.peer(drafts.1);
        // While the publisher is being asked nobody waits for one to come.
        let requests: Vec<_> = (0..3).map(|name| stage.wait(peer, &name.to_string())).collect();
        let asked = stage.requests(publisher);
        assert_eq!(asked.len(), 3, "{drafts:?}");
        for (upstream, _) in asked {
            let code = RequestCode::DOES_NOT_EXIST;
            stage.tell(publisher, |peer| peer.session().reject_with(upstream, code, ""));
        }
        stage.too_many(peer, requests[2]);
        assert!(stage.take(peer).is_empty(), "the others wait on: {drafts:?}");
        stage.run(20_000);
        for request in &requests[..2] {
            assert_eq!(stage.refusal(peer, *request), "TIMEOUT", "{drafts:?}");
        }
    }
}

#[test]
fn a_wish_for_a_new_group_that_comes_while_the_publisher_is_asked_is_told_later() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        for group in [3, 5] {
            let peer = stage.peer(drafts.1);
            stage.subscribe(peer, "t", with(Parameter::NewGroupRequest(group)));
        }
        let (upstream, Request::Subscribe(body)) = stage.request(publisher) else { panic!() };
        assert_eq!(body.parameters.new_group_request(), Some(3));
        let properties = Properties::builder().integer(DYNAMIC_GROUPS, 1).build().unwrap();
        stage.tell(publisher, |peer| {
            peer.session().accept_subscribe(upstream, TrackAlias(7), none(), properties);
        });
        let told = stage.take(publisher);
        let [Event::Update { parameters, .. }] = &told[..] else { panic!("{drafts:?}: {told:?}") };
        assert_eq!(parameters.new_group_request(), Some(5), "{drafts:?}");
    }
}

#[test]
fn a_publisher_that_takes_one_update_at_a_time_is_told_everything() {
    for drafts in [(Version::Draft22, Version::Draft22), (Version::Draft20, Version::Draft18)] {
        let mut stage = Stage::new();
        let mut limits = session::Config::default();
        limits.request_updates_max = 1;
        let publisher = stage.world.add(Peer::new(limits));
        let relay = stage.relay;
        stage.world.connect(publisher, relay, drafts.0, None);
        stage.run(20);
        stage.take(publisher);
        let upstream = stage.tell(publisher, |peer| {
            let properties = Properties::builder().integer(DYNAMIC_GROUPS, 1).build().unwrap();
            let paused = with(Parameter::Forward(false));
            peer.session().publish(track("t"), TrackAlias(7), paused, properties).unwrap()
        });
        let wish = with(Parameter::NewGroupRequest(0)).with(Parameter::Forward(false));
        stage.join(drafts.1, wish);
        let (subscriber, _) = stage.join(drafts.1, none());
        let updates = |told: &[Event]| -> Vec<Parameters> {
            told.iter()
                .filter_map(|event| match event {
                    Event::Update { parameters, .. } => Some(parameters.clone()),
                    _ => None,
                })
                .collect()
        };
        let told = updates(&stage.take(publisher));
        assert_eq!(told.len(), 1, "{drafts:?}: {told:?}");
        assert_eq!(told[0].new_group_request(), Some(0));
        stage.tell(publisher, |peer| peer.session().accept_update(upstream, none()));
        let told = updates(&stage.take(publisher));
        assert_eq!(told.len(), 1, "{drafts:?}: {told:?}");
        assert_eq!(told[0].forward(), Some(true), "{drafts:?}");
        stage.tell(publisher, |peer| peer.session().accept_update(upstream, none()));
        let group = Subgroup::new(7, 1);
        stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        assert_eq!(stage.lines(subscriber), ["1: 0=a fin"], "{drafts:?}");
    }
}

#[test]
fn a_change_that_a_publisher_tells_of_is_passed_on() {
    for drafts in [
        (Version::Draft22, Version::Draft22),
        (Version::Draft20, Version::Draft20),
        (Version::Draft20, Version::Draft18),
    ] {
        let mut live = Stage::live(drafts, with(Parameter::Forward(false)));
        let upstream = live.upstream;
        let notify = |live: &mut super::Live, parameters: Parameters| {
            live.stage.tell(live.publisher, |peer| {
                peer.session().state_notify(upstream, parameters);
            });
        };
        notify(&mut live, with(Parameter::LargestObject(at(4, 2))));
        let told = live.stage.take(live.subscriber);
        if Version::Draft20 <= drafts.1 {
            let [Event::StateNotify { body, .. }] = &told[..] else { panic!("{told:?}") };
            assert_eq!(body.parameters.largest_object(), Some(at(4, 2)), "{drafts:?}");
        } else {
            assert!(told.is_empty(), "the draft has no word for it");
        }
        // What is no news is not told again.
        notify(&mut live, with(Parameter::LargestObject(at(3, 9))));
        assert!(live.stage.take(live.subscriber).is_empty(), "{drafts:?}");
        let (_, status) = {
            let peer = live.stage.peer(drafts.1);
            let request =
                live.stage.tell(peer, |peer| peer.session().track_status(track("t"), none()));
            (peer, live.stage.response(peer, request.unwrap()))
        };
        let Response::Ok(ok) = status else { panic!("{status:?}") };
        assert_eq!(ok.parameters.largest_object(), Some(at(4, 2)), "{drafts:?}");
        // It may not pause what somebody wants: it is asked to go on.
        live.stage.join(drafts.1, none());
        live.stage.take(live.publisher);
        notify(&mut live, with(Parameter::Forward(false)));
        let told = live.stage.take(live.publisher);
        let [Event::Update { parameters, .. }] = &told[..] else { panic!("{drafts:?}: {told:?}") };
        assert_eq!(parameters.forward(), Some(true), "{drafts:?}");
    }
}

#[test]
fn a_published_track_with_broken_properties_is_refused() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.peer(drafts.0);
        let published = stage.tell(publisher, |peer| {
            let broken = Properties::builder().bytes(0x0b, vec![0xff, 0xff]).build().unwrap();
            peer.session().publish(track("t"), TrackAlias(7), none(), broken).unwrap()
        });
        assert_eq!(stage.refusal(publisher, published), "MALFORMED_TRACK", "{drafts:?}");
        assert_eq!(stage.counts().1, 0);
    }
}

#[test]
fn a_relay_that_goes_away_says_so_below_before_it_leaves_above() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let now = live.stage.world.now();
        live.stage.relay(|relay| relay.handle_drain(now));
        live.stage.run(20);
        let told = live.stage.take(live.subscriber);
        assert!(
            told.iter().any(|event| matches!(event, Event::Goaway { request: None, .. })),
            "{drafts:?}: {told:?}"
        );
        let told = live.stage.take(live.publisher);
        let ended = Event::Ended { request: live.upstream };
        assert!(!told.contains(&ended), "{drafts:?}: {told:?}");
        // What is published still goes on to who has not left.
        live.group(1, &["a"]);
        assert_eq!(live.heard(), ["1: 0=a fin"], "{drafts:?}");
        let subscription = live.subscription;
        live.stage.tell(live.subscriber, |peer| {
            peer.session().cancel(subscription, ResetCode::CANCELLED);
        });
        // Nobody can come back for it, so that it does not linger.
        let told = live.stage.take(live.publisher);
        assert!(told.contains(&ended), "{drafts:?}: {told:?}");
    }
}

#[test]
fn what_only_a_slow_subscriber_wanted_is_left_after_a_while() {
    for drafts in DRAFTS {
        let config = config(|config| config.session.delivery.queued_bytes_max = 10_000);
        let mut live = Stage::live_with(config, drafts, none());
        live.stage.tell(live.subscriber, |peer| peer.stall(true));
        for group in 0..20 {
            let bytes = bytes::Bytes::from(vec![7; 20_000]);
            live.subgroup(&Subgroup::new(7, group), &[(0, bytes)]);
        }
        live.stage.run(31_000);
        let told = live.stage.take(live.publisher);
        assert!(told.contains(&Event::Ended { request: live.upstream }), "{drafts:?}: {told:?}");
        assert_eq!(live.stage.counts().1, 0, "{drafts:?}");
    }
}

//! PUBLISH and SUBSCRIBE_TRACKS through a relay.

use aip_codec::{
    Version,
    moqt::{
        error_code::{PublishDoneCode, RequestCode, ResetCode},
        filter::LocationFilter,
        id::{RequestId, TrackAlias},
        message::RequestOk,
        parameter::{Parameter, Parameters},
        property::Properties,
        token::Token,
    },
};
use aip_engine::session::{Event, Request, Response};
use aip_tests::sim::{
    NodeId,
    peer::{FetchItem, Subgroup},
    shards::Pace,
};
use bytes::Bytes;

use super::{DRAFTS, Stage, at, namespace, none, objects, payload, track, with};
use crate::SHARDS;

impl Stage {
    fn publish(&mut self, peer: NodeId, name: &str, parameters: Parameters) -> RequestId {
        self.tell(peer, |peer| {
            let properties = Properties::default();
            peer.session().publish(track(name), TrackAlias(7), parameters, properties).unwrap()
        })
    }

    fn watch(&mut self, peer: NodeId, prefix: &str, parameters: Parameters) -> RequestId {
        let prefix = namespace(prefix);
        let request =
            self.tell(peer, |peer| peer.session().subscribe_tracks(prefix, parameters).unwrap());
        assert!(matches!(self.response(peer, request), Response::Ok(_)));
        request
    }

    /// The one PUBLISH that a peer has got.
    #[track_caller]
    fn published(&mut self, peer: NodeId) -> (RequestId, aip_codec::moqt::message::Publish) {
        match self.request(peer) {
            (request, Request::Publish(body)) => (request, body),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_published_track_goes_to_who_wants_all_tracks() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let early = stage.peer(drafts.1);
        stage.watch(early, "live", none());
        let elsewhere = stage.peer(drafts.1);
        stage.watch(elsewhere, "live/rooms", none());
        let publisher = stage.peer(drafts.0);
        stage.watch(publisher, "", none());
        let upstream = stage.publish(publisher, "t", with(Parameter::LargestObject(at(3, 1))));
        assert!(matches!(stage.response(publisher, upstream), Response::Ok(_)));
        // Not to other prefixes, not back to where it came from.
        assert!(stage.take(elsewhere).is_empty());
        assert!(stage.take(publisher).is_empty());
        let late = stage.peer(drafts.1);
        stage.watch(late, "", none());
        for watcher in [early, late] {
            let (request, body) = stage.published(watcher);
            assert_eq!(body.track, track("t"));
            assert_eq!(body.parameters.largest_object(), Some(at(3, 1)), "{drafts:?}");
            stage.tell(watcher, |peer| peer.accept(request));
        }
        let group = Subgroup::new(7, 4);
        stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        for watcher in [early, late] {
            assert_eq!(stage.lines(watcher), ["4: 0=a fin"], "{drafts:?}");
        }
        stage.tell(publisher, |peer| {
            peer.session().publish_done(upstream, PublishDoneCode::TRACK_ENDED, "");
        });
        for watcher in [early, late] {
            let told = stage.take(watcher);
            assert!(matches!(told[..], [Event::PublishDone { .. }]), "{drafts:?}: {told:?}");
        }
        assert_eq!(stage.counts().1, 0);
    }
}

#[test]
fn a_watchers_token_is_not_passed_on() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let watcher = stage.peer(drafts.1);
        let value = Bytes::from_static(b"secret");
        let token = Token::UseValue { token_type: 0, value };
        stage.watch(watcher, "live", with(Parameter::AuthorizationToken(token)));
        let publisher = stage.peer(drafts.0);
        stage.publish(publisher, "t", none());
        let (_, body) = stage.published(watcher);
        assert_eq!(body.parameters.authorization_tokens().count(), 0, "{drafts:?}");
    }
}

#[test]
fn a_published_track_with_objects_at_once() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let watcher = stage.peer(drafts.1);
        stage.watch(watcher, "live", none());
        let publisher = stage.peer(drafts.0);
        // All in one breath: the objects do not wait for PUBLISH_OK.
        stage.tell(publisher, |peer| {
            let properties = Properties::default();
            let session = peer.session();
            let upstream = session.publish(track("t"), TrackAlias(7), none(), properties).unwrap();
            for group in 0..5 {
                peer.send_subgroup(upstream, &Subgroup::new(7, group), &objects(&["a", "b"]));
            }
        });
        assert_eq!(stage.lines(watcher).len(), 5, "{drafts:?}");
    }
}

#[test]
fn a_watchers_wishes_are_those_of_its_watch() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let watcher = stage.peer(drafts.1);
        stage.watch(watcher, "live", with(Parameter::Forward(false)));
        let publisher = stage.peer(drafts.0);
        let upstream = stage.publish(publisher, "t", none());
        let (request, body) = stage.published(watcher);
        assert_eq!(body.parameters.forward(), Some(false), "{drafts:?}");
        stage.tell(watcher, |peer| peer.accept(request));
        let group = Subgroup::new(7, 1);
        stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        assert_eq!(stage.lines(watcher), [""; 0]);
        stage.tell(watcher, |peer| {
            peer.session().update(request, with(Parameter::Forward(true))).unwrap();
        });
        let group = Subgroup::new(7, 2);
        stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        assert_eq!(stage.lines(watcher), ["2: 0=a fin"], "{drafts:?}");
    }
}

#[test]
fn drafts_18_and_19_say_what_they_want_with_their_ok() {
    for version in [Version::Draft18, Version::Draft19] {
        let mut stage = Stage::new();
        let watcher = stage.peer(version);
        stage.watch(watcher, "live", none());
        let publisher = stage.peer(Version::Draft22);
        let upstream = stage.publish(publisher, "t", none());
        let (request, _) = stage.published(watcher);
        stage.tell(watcher, |peer| {
            let filter = LocationFilter::Start { start: at(3, 0) };
            let parameters = with(Parameter::LocationFilter(filter));
            peer.session().accept(request, parameters, Properties::default());
        });
        let send = |stage: &mut Stage, group| {
            let group = Subgroup::new(7, group);
            stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        };
        send(&mut stage, 2);
        send(&mut stage, 3);
        assert_eq!(stage.lines(watcher), ["3: 0=a fin"], "{version:?}");
        let other = stage.peer(version);
        stage.watch(other, "live", none());
        let (request, _) = stage.published(other);
        stage.tell(other, |peer| {
            let parameters = with(Parameter::Forward(false));
            peer.session().accept(request, parameters, Properties::default());
        });
        send(&mut stage, 4);
        assert_eq!(stage.lines(other), [""; 0], "{version:?}");
    }
}

#[test]
fn a_paused_publisher_is_asked_to_go_on_when_somebody_wants_it() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.peer(drafts.0);
        let upstream = stage.publish(publisher, "t", with(Parameter::Forward(false)));
        assert!(matches!(stage.response(publisher, upstream), Response::Ok(_)));
        assert!(stage.take(publisher).is_empty(), "nobody wants it");
        let (paused, _) = stage.join(drafts.1, with(Parameter::Forward(false)));
        assert!(stage.take(publisher).is_empty(), "nobody wants it now");
        stage.take(paused);
        stage.join(drafts.1, none());
        let told = stage.take(publisher);
        let [Event::Update { parameters, .. }] = &told[..] else { panic!("{told:?}") };
        assert_eq!(parameters.forward(), Some(true), "{drafts:?}");
    }
}

#[test]
fn a_rendezvous_is_not_published_to_as_well() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let peer = stage.peer(drafts.1);
        stage.watch(peer, "live", none());
        let patience = with(Parameter::RendezvousTimeout(5_000));
        let subscription = stage.subscribe(peer, "t", patience);
        let publisher = stage.peer(drafts.0);
        let upstream = stage.publish(publisher, "t", none());
        assert!(matches!(stage.response(peer, subscription), Response::SubscribeOk(_)));
        assert!(stage.requests(peer).is_empty(), "{drafts:?}");
        let group = Subgroup::new(7, 1);
        stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        assert_eq!(stage.lines(peer), ["1: 0=a fin"]);
    }
}

#[test]
fn a_cancelled_watch_gets_no_more_tracks() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let watcher = stage.peer(drafts.1);
        let watch = stage.watch(watcher, "live", none());
        let publisher = stage.peer(drafts.0);
        stage.publish(publisher, "a", none());
        assert_eq!(stage.requests(watcher).len(), 1);
        stage.tell(watcher, |peer| peer.session().cancel(watch, ResetCode::CANCELLED));
        stage.tell(publisher, |peer| {
            let properties = Properties::default();
            peer.session().publish(track("b"), TrackAlias(8), none(), properties).unwrap();
        });
        assert!(stage.requests(watcher).is_empty(), "{drafts:?}");
    }
}

#[test]
fn a_refused_track_is_left() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let watcher = stage.peer(drafts.1);
        stage.watch(watcher, "live", none());
        let publisher = stage.peer(drafts.0);
        let upstream = stage.publish(publisher, "t", none());
        let (request, _) = stage.published(watcher);
        let code = RequestCode::UNINTERESTED;
        stage.tell(watcher, |peer| peer.session().reject_with(request, code, ""));
        let group = Subgroup::new(7, 1);
        stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        assert_eq!(stage.lines(watcher), [""; 0], "{drafts:?}");
        assert!(!stage.closed(watcher));
    }
}

#[test]
fn a_watch_may_move() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.peer(drafts.0);
        stage.publish(publisher, "t", none());
        let watcher = stage.peer(drafts.1);
        let watch = stage.watch(watcher, "other", none());
        assert!(stage.requests(watcher).is_empty());
        stage.tell(watcher, |peer| {
            let prefix = Parameter::TrackNamespacePrefix(namespace("live"));
            peer.session().update(watch, with(prefix)).unwrap();
        });
        assert_eq!(stage.published(watcher).1.track, track("t"), "{drafts:?}");
    }
}

#[test]
fn a_track_that_a_session_publishes_twice_ends_twice() {
    let drafts = (Version::Draft22, Version::Draft22);
    let mut stage = Stage::new();
    let publisher = stage.publisher(drafts.0, "live");
    let published = stage.publish(publisher, "t", none());
    let (subscriber, _) = stage.join(drafts.1, none());
    // The relay has it already: nothing is asked.
    assert!(stage.requests(publisher).is_empty());
    let again = stage.publish(publisher, "t", none());
    assert!(matches!(stage.response(publisher, again), Response::Ok(RequestOk { .. })));
    let done = |stage: &mut Stage, request| {
        stage.tell(publisher, |peer| {
            peer.session().publish_done(request, PublishDoneCode::TRACK_ENDED, "");
        });
    };
    done(&mut stage, published);
    let group = Subgroup::new(7, 1);
    stage.tell(publisher, |peer| peer.send_subgroup(again, &group, &objects(&["a"])));
    assert_eq!(stage.lines(subscriber), ["1: 0=a fin"]);
    done(&mut stage, again);
    assert!(matches!(stage.take(subscriber)[..], [Event::PublishDone { .. }]));
}

#[test]
fn publishers_of_a_track_are_bounded() {
    for drafts in DRAFTS {
        let config = super::config(|config| config.track_publishers_max = 2);
        let mut stage = Stage::with(config);
        let publishers: Vec<NodeId> = (0..3).map(|_| stage.peer(drafts.0)).collect();
        let published: Vec<RequestId> =
            publishers.iter().map(|peer| stage.publish(*peer, "t", none())).collect();
        for index in 0..2 {
            let response = stage.response(publishers[index], published[index]);
            assert!(matches!(response, Response::Ok(_)), "{drafts:?}: {response:?}");
        }
        assert_eq!(stage.refusal(publishers[2], published[2]), "EXCESSIVE_LOAD", "{drafts:?}");
        let tracks = stage.relay(|relay| relay.relays().map(|it| it.counts().1).sum::<usize>());
        assert_eq!(tracks, 2.min(SHARDS), "{drafts:?}: where it is refused it is not kept");
        // Who announces a namespace is not asked for the track either.
        let (subscriber, _) = stage.join(drafts.1, none());
        let more = stage.publisher(drafts.0, "live");
        assert!(stage.requests(more).is_empty(), "{drafts:?}");
        stage.tell(publishers[0], |peer| {
            peer.session().publish_done(published[0], PublishDoneCode::TRACK_ENDED, "");
        });
        let again = stage.publish(publishers[2], "t", none());
        assert!(matches!(stage.response(publishers[2], again), Response::Ok(_)), "{drafts:?}");
        let group = Subgroup::new(7, 1);
        stage.tell(publishers[2], |peer| peer.send_subgroup(again, &group, &objects(&["a"])));
        assert_eq!(stage.lines(subscriber), ["1: 0=a fin"], "{drafts:?}");
    }
}

/// All drafts, and all ways in which two publishers and a subscriber can be spread over the shards
/// of a relay, which hear of each other sooner or later.
fn everywhere() -> impl Iterator<Item = (Stage, (Version, Version), [usize; 3])> {
    let pairs = (0..SHARDS).flat_map(|first| (0..SHARDS).map(move |second| [first, second]));
    let places =
        pairs.flat_map(|[first, second]| (0..SHARDS).map(move |third| [first, second, third]));
    let paces = [Pace::QUICK, Pace::SLOW];
    let cases = places.flat_map(move |places| paces.map(|pace| (places, pace)));
    cases.zip(0..).flat_map(|((places, pace), seed)| {
        DRAFTS.map(|drafts| {
            let mut stage = Stage::new();
            stage.relay(|relay| relay.set_pace(pace, seed));
            (stage, drafts, places)
        })
    })
}

#[test]
fn a_track_of_two_publishers_goes_on_when_one_leaves() {
    for (mut stage, drafts, [first, second, third]) in everywhere() {
        let (first, link) = stage.peer_in(first, drafts.0);
        let (second, _) = stage.peer_in(second, drafts.0);
        stage.publish(first, "t", none());
        let request = stage.publish(second, "t", none());
        let (subscriber, _) = stage.peer_in(third, drafts.1);
        stage.subscribe(subscriber, "t", none());
        assert!(matches!(stage.take(subscriber)[..], [Event::Response { .. }]));
        stage.world.kill(link);
        stage.world.with(second, |peer: &mut super::Peer, _| {
            peer.send_subgroup(request, &Subgroup::new(7, 1), &objects(&["x"]));
        });
        stage.run(100);
        let heard = stage.lines(subscriber).join(" ");
        assert!(heard.starts_with("1: 0=x"), "{drafts:?}: {heard}");
    }
}

/// Who came after it has missed nothing: its streams go on as if nothing had been.
#[test]
fn what_is_not_to_be_had_of_a_lost_publisher_ends_only_who_misses_it() {
    for (mut stage, drafts, [first, second, third]) in everywhere() {
        let (first, link) = stage.peer_in(first, drafts.0);
        let (second, _) = stage.peer_in(second, drafts.0);
        stage.announce(first, "live");
        stage.announce(second, "live");
        let (early, _) = stage.peer_in(third, drafts.1);
        stage.subscribe(early, "t", none());
        stage.run(50);
        let [lost, left] = [first, second].map(|publisher| {
            let (upstream, _) = stage.request(publisher);
            stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
            upstream
        });
        stage.run(50);
        stage.tell(first, |peer| {
            let mut writer = peer.open(lost, &Subgroup::new(7, 1)).unwrap();
            writer.begin(peer.session(), 0, 10, Properties::default());
            peer.session().send(writer.stream, Bytes::from("half"), false);
        });
        stage.run(50);
        stage.world.kill(link);
        stage.run(100);
        let asked = stage.requests(second);
        assert!(!asked.is_empty(), "{drafts:?}: what was missed is asked for");
        let late: Vec<_> = (0..SHARDS)
            .map(|shard| {
                let (subscriber, _) = stage.peer_in(shard, drafts.1);
                let subscription = stage.subscribe(subscriber, "t", none());
                stage.run(50);
                let response = stage.response(subscriber, subscription);
                assert!(matches!(response, Response::SubscribeOk(_)), "{drafts:?} {response:?}");
                subscriber
            })
            .collect();
        let mut writer = stage.tell(second, |peer| {
            let mut writer = peer.open(left, &Subgroup::new(7, 2)).unwrap();
            writer.object(peer.session(), 0, payload("a"));
            writer
        });
        stage.run(50);
        for (request, _) in asked {
            stage.tell(second, |peer| {
                peer.session().reject_with(request, RequestCode::DOES_NOT_EXIST, "");
            });
        }
        stage.run(50);
        let told = stage.take(early);
        let Some(Event::PublishDone { body, .. }) = told.last() else {
            panic!("{drafts:?}: {told:?}");
        };
        assert_eq!(body.code, PublishDoneCode::INTERNAL_ERROR, "{drafts:?}");
        stage.tell(second, |peer| {
            writer.object(peer.session(), 1, payload("b"));
            writer.finish(peer.session());
        });
        stage.run(50);
        for subscriber in late {
            assert_eq!(stage.lines(subscriber), ["2: 0=a 1=b fin"], "{drafts:?}");
        }
    }
}

#[test]
fn what_a_second_publisher_sends_at_once_reaches_who_has_the_track_already() {
    for (mut stage, drafts, [first, second, third]) in everywhere() {
        let (first, _) = stage.peer_in(first, drafts.0);
        let (second, _) = stage.peer_in(second, drafts.0);
        let (subscriber, _) = stage.peer_in(third, drafts.1);
        let request = stage.publish(first, "t", none());
        stage.subscribe(subscriber, "t", none());
        stage.tell(first, |peer| {
            peer.send_subgroup(request, &Subgroup::new(7, 5), &objects(&["x"]));
        });
        assert_eq!(stage.lines(subscriber), ["5: 0=x fin"], "{drafts:?}");
        // Behind the first one, and before it is answered.
        stage.tell(second, |peer| {
            let (alias, properties) = (TrackAlias(7), Properties::default());
            let request = peer.session().publish(track("t"), alias, none(), properties).unwrap();
            peer.send_subgroup(request, &Subgroup::new(7, 1), &objects(&["y"]));
        });
        assert_eq!(stage.lines(subscriber), ["1: 0=y fin"], "{drafts:?}");
        assert!(stage.requests(second).is_empty(), "{drafts:?}: nothing was missed");
    }
}

#[test]
fn what_is_sent_behind_publish_reaches_who_has_waited_for_it() {
    for (mut stage, drafts, [publisher, _, subscriber]) in everywhere() {
        let (publisher, _) = stage.peer_in(publisher, drafts.0);
        let (subscriber, _) = stage.peer_in(subscriber, drafts.1);
        let patience = with(Parameter::RendezvousTimeout(5_000));
        let subscription = stage.subscribe(subscriber, "t", patience);
        stage.tell(publisher, |peer| {
            let (alias, properties) = (TrackAlias(7), Properties::default());
            let request = peer.session().publish(track("t"), alias, none(), properties).unwrap();
            peer.send_subgroup(request, &Subgroup::new(7, 1), &objects(&["x"]));
        });
        let Response::SubscribeOk(ok) = stage.response(subscriber, subscription) else { panic!() };
        assert_eq!(ok.parameters.largest_object(), None, "{drafts:?}");
        assert_eq!(stage.lines(subscriber), ["1: 0=x fin"], "{drafts:?}");
    }
}

/// A shard that did not want the track when it was offered has refused what came with the offer.
#[test]
fn what_came_with_a_refused_offer_is_not_read_when_the_track_is_wanted() {
    for (mut stage, drafts, [publisher, _, subscriber]) in everywhere() {
        let (publisher, _) = stage.peer_in(publisher, drafts.0);
        let (subscriber, _) = stage.peer_in(subscriber, drafts.1);
        let mut writer = stage.tell(publisher, |peer| {
            let (alias, properties) = (TrackAlias(7), Properties::default());
            let request = peer.session().publish(track("t"), alias, none(), properties).unwrap();
            let mut writer = peer.open(request, &Subgroup::new(7, 1)).unwrap();
            writer.object(peer.session(), 0, payload("a"));
            writer
        });
        stage.run(50);
        let subscription = stage.subscribe(subscriber, "t", none());
        stage.run(50);
        let response = stage.response(subscriber, subscription);
        assert!(matches!(response, Response::SubscribeOk(_)), "{drafts:?}: {response:?}");
        stage.tell(publisher, |peer| {
            writer.begin(peer.session(), 1, 6, Properties::default());
        });
        let payload = Bytes::from_static(b"100000");
        stage.tell(publisher, |peer| peer.session().send(writer.stream, payload, false));
        stage.tell(publisher, |peer| writer.finish(peer.session()));
        stage.run(50);
        assert_eq!(stage.lines(subscriber), ["1: 1=100000 fin"], "{drafts:?}");
    }
}

/// Whatever shards hear of each other first: that there is a publisher, that it is gone, or that
/// another one wants the track.
#[test]
fn who_subscribes_as_a_publisher_comes_and_goes_is_answered() {
    let times = (0..20_u64).flat_map(|subscribes| (0..20_u64).map(move |ends| (subscribes, ends)));
    for ((subscribes, ends), seed) in times.zip(0..) {
        let mut stage = Stage::new();
        stage.relay(|relay| relay.set_pace(Pace::SLOW, seed));
        let (publisher, _) = stage.peer_in(0, Version::Draft22);
        let (subscriber, _) = stage.peer_in(SHARDS - 1, Version::Draft22);
        let request = stage.world.with(publisher, |peer: &mut super::Peer, _| {
            let (alias, properties) = (TrackAlias(7), Properties::default());
            peer.session().publish(track("t"), alias, none(), properties).unwrap()
        });
        stage.run(subscribes);
        let subscription = stage.world.with(subscriber, |peer: &mut super::Peer, _| {
            peer.session().subscribe(track("t"), none()).unwrap()
        });
        stage.run(ends);
        stage.tell(publisher, |peer| {
            peer.session().publish_done(request, PublishDoneCode::TRACK_ENDED, "");
        });
        stage.run(1_000);
        if let Response::SubscribeOk(_) = stage.response(subscriber, subscription) {
            let told = stage.take(subscriber);
            assert!(matches!(told[..], [Event::PublishDone { .. }]), "{seed}: {told:?}");
        }
    }
}

/// A publisher is lost in the midst of an object, whose shard is being asked for the track then.
#[test]
fn a_publisher_is_lost_as_another_shard_asks_for_its_track() {
    let times = (0..20_u64).flat_map(|subscribes| (0..40_u64).map(move |ends| (subscribes, ends)));
    for ((subscribes, ends), seed) in times.zip(0..) {
        let mut stage = Stage::new();
        stage.relay(|relay| relay.set_pace(Pace::SLOW, seed));
        let (publisher, link) = stage.peer_in(0, Version::Draft22);
        let (other, _) = stage.peer_in(1, Version::Draft22);
        let (subscriber, _) = stage.peer_in(SHARDS - 1, Version::Draft22);
        stage.publish(other, "t", none());
        let writer = stage.world.with(publisher, |peer: &mut super::Peer, _| {
            let (alias, properties) = (TrackAlias(7), Properties::default());
            let request = peer.session().publish(track("t"), alias, none(), properties).unwrap();
            let mut writer = peer.open(request, &Subgroup::new(7, 1)).unwrap();
            writer.begin(peer.session(), 0, 6, Properties::default());
            writer
        });
        stage.run(subscribes);
        let subscription = stage.world.with(subscriber, |peer: &mut super::Peer, _| {
            peer.session().subscribe(track("t"), none()).unwrap()
        });
        stage.world.with(publisher, |peer: &mut super::Peer, _| {
            peer.session().send(writer.stream, Bytes::from_static(b"bro"), false);
        });
        stage.run(ends);
        stage.world.kill(link);
        stage.run(1_000);
        let response = stage.response(subscriber, subscription);
        assert!(matches!(response, Response::SubscribeOk(_)), "{seed}: {response:?}");
    }
}

#[test]
fn a_watcher_gets_what_every_publisher_sends() {
    for (mut stage, drafts, [first, second, third]) in everywhere() {
        let publishers = [first, second].map(|shard| stage.peer_in(shard, drafts.0).0);
        let published = publishers.map(|publisher| stage.publish(publisher, "t", none()));
        stage.run(50);
        let (watcher, _) = stage.peer_in(third, drafts.1);
        stage.watch(watcher, "live", none());
        stage.run(50);
        let (request, _) = stage.published(watcher);
        stage.tell(watcher, |peer| peer.accept(request));
        for (group, (publisher, upstream)) in (1..).zip(publishers.into_iter().zip(published)) {
            let group = Subgroup::new(7, group);
            stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        }
        stage.run(50);
        assert_eq!(stage.lines(watcher), ["1: 0=a fin", "2: 0=a fin"], "{drafts:?}");
    }
}

/// Another shard's wish does not reach a third one's publisher; that of a session of its own does.
#[test]
fn who_joins_another_shard_in_waiting_hears_every_publisher() {
    for (mut stage, drafts, [first, second, third]) in everywhere() {
        let publishers = [first, second].map(|shard| stage.peer_in(shard, drafts.0).0);
        for publisher in publishers {
            stage.announce(publisher, "live");
        }
        stage.run(50);
        let subscribers = [third + 1, third].map(|shard| stage.peer_in(shard, drafts.1).0);
        for subscriber in subscribers {
            stage.subscribe(subscriber, "t", none());
        }
        let upstreams = publishers.map(|publisher| stage.request(publisher).0);
        for (publisher, upstream) in publishers.into_iter().zip(upstreams) {
            stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        }
        stage.run(50);
        for (group, (publisher, upstream)) in (1..).zip(publishers.into_iter().zip(upstreams)) {
            let group = Subgroup::new(7, group);
            stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        }
        stage.run(50);
        for subscriber in subscribers {
            assert_eq!(stage.lines(subscriber), ["1: 0=a fin", "2: 0=a fin"], "{drafts:?}");
        }
    }
}

/// Of two publishers one is lost in the midst of a group. The other's stream of that group comes late,
/// behind a later group: until then nobody knows where the group ends.
#[test]
fn a_group_that_was_broken_off_does_not_end_before_it_is_known_where() {
    for (mut stage, drafts, [first, second, third]) in everywhere() {
        let (lost, link) = stage.peer_in(first, drafts.0);
        let (other, _) = stage.peer_in(second, drafts.0);
        let (subscriber, _) = stage.peer_in(third, drafts.1);
        let [lost_upstream, upstream] = [lost, other].map(|peer| stage.publish(peer, "t", none()));
        stage.run(50);
        stage.subscribe(subscriber, "t", none());
        stage.run(50);
        stage.tell(lost, |peer| {
            let mut writer = peer.open(lost_upstream, &Subgroup::new(7, 1)).unwrap();
            writer.object(peer.session(), 0, payload("a"));
        });
        stage.run(50);
        stage.world.kill(link);
        stage.run(50);
        stage.tell(other, |peer| {
            peer.send_subgroup(upstream, &Subgroup::new(7, 2), &objects(&["x"]));
        });
        stage.run(50);
        let (fetch, ..) = stage.fetch_request(other);
        stage.answer_fetch(other, fetch, &[FetchItem::Object(at(1, 1), payload("b"))]);
        stage.run(50);
        stage.tell(other, |peer| {
            peer.send_subgroup(upstream, &Subgroup::new(7, 1), &objects(&["a", "b"]));
        });
        stage.run(50);
        assert_eq!(stage.lines(subscriber), ["1: 0=a 1=b fin", "2: 0=x fin"], "{drafts:?}");
    }
}

/// Of two publishers one is lost in the midst of a group, then the other, which has not gone on with
/// it: nobody has said where the group ends.
#[test]
fn a_group_that_was_broken_off_does_not_end_with_the_last_publisher() {
    for (mut stage, drafts, [first, second, third]) in everywhere() {
        let publishers = [first, second].map(|shard| stage.peer_in(shard, drafts.0));
        let (subscriber, _) = stage.peer_in(third, drafts.1);
        let [upstream, _] = publishers.map(|(peer, _)| stage.publish(peer, "t", none()));
        stage.run(50);
        stage.subscribe(subscriber, "t", none());
        stage.run(50);
        stage.tell(publishers[0].0, |peer| {
            let mut writer = peer.open(upstream, &Subgroup::new(7, 1)).unwrap();
            writer.object(peer.session(), 0, payload("a"));
        });
        for (_, link) in publishers {
            stage.run(50);
            stage.world.kill(link);
        }
        stage.run(50);
        assert_eq!(stage.lines(subscriber), ["1: 0=a INTERNAL_ERROR"], "{drafts:?}");
    }
}

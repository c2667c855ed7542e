//! Publishers that go away, and tracks that are not published to who would have them.

use aip_codec::{
    Version,
    moqt::{
        error_code::{PublishDoneCode, RequestCode, ResetCode},
        id::{RequestId, TrackAlias},
        parameter::Parameter,
        property::Properties,
    },
};
use aip_engine::session::{Event, Request, Response};
use aip_tests::sim::{NodeId, peer::Subgroup};
use bytes::Bytes;

use super::{DRAFTS, Live, Stage, config, namespace, none, objects, track, with};

impl Live {
    /// Says on its own request's stream that a subscription is to be made anew.
    fn move_subscription(&mut self) {
        let upstream = self.upstream;
        self.stage.tell(self.publisher, |peer| peer.session().request_goaway(upstream, 5_000));
    }

    fn publish_on(&mut self, peer: NodeId, request: RequestId, alias: u64, group: u64) {
        let group = Subgroup::new(alias, group);
        self.stage.tell(peer, |peer| peer.send_subgroup(request, &group, &objects(&["x"])));
    }
}

#[test]
fn another_publisher_is_asked_before_one_that_goes_away_is_left() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.stage.tell(live.publisher, |peer| peer.session().goaway(Bytes::new(), 0));
        // There is nobody else yet: what it sends goes on.
        live.group(1, &["x"]);
        assert_eq!(live.heard(), ["1: 0=x fin"], "{drafts:?}");
        let second = live.stage.publisher(drafts.0, "live/room");
        let (upstream, body) = live.stage.request(second);
        assert!(matches!(body, Request::Subscribe(_)), "{drafts:?}: {body:?}");
        live.stage.tell(second, |peer| peer.accept_subscribe(upstream, 3, none()));
        // For a while both are listened to, and nobody gets anything twice.
        live.group(2, &["x"]);
        live.publish_on(second, upstream, 3, 2);
        live.publish_on(second, upstream, 3, 3);
        assert_eq!(live.heard(), ["2: 0=x fin", "3: 0=x fin"], "{drafts:?}");
        live.stage.run(1_000);
        let told = live.stage.take(live.publisher);
        assert!(told.contains(&Event::Ended { request: live.upstream }), "{drafts:?}: {told:?}");
        live.publish_on(second, upstream, 3, 4);
        assert_eq!(live.heard(), ["4: 0=x fin"], "{drafts:?}");
    }
}

#[test]
fn a_subscription_that_is_to_be_made_anew_is() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.move_subscription();
        if drafts.0 == Version::Draft18 {
            // It has one subscription for each track: there is nowhere to go.
            assert!(live.stage.requests(live.publisher).is_empty());
            live.group(1, &["x"]);
            assert_eq!(live.heard(), ["1: 0=x fin"]);
            continue;
        }
        let (again, body) = live.stage.request(live.publisher);
        assert!(matches!(body, Request::Subscribe(body) if body.track == track("t")));
        // The same alias serves both.
        live.stage.tell(live.publisher, |peer| peer.accept_subscribe(again, 7, none()));
        live.group(1, &["x"]);
        live.stage.run(1_000);
        let told = live.stage.take(live.publisher);
        assert!(told.contains(&Event::Ended { request: live.upstream }), "{drafts:?}: {told:?}");
        live.publish_on(live.publisher, again, 7, 2);
        assert_eq!(live.heard(), ["1: 0=x fin", "2: 0=x fin"], "{drafts:?}");
    }
}

#[test]
fn who_goes_away_with_nobody_in_its_place_ends_the_track() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.stage.tell(live.publisher, |peer| peer.session().goaway(Bytes::new(), 0));
        let upstream = live.upstream;
        live.stage.tell(live.publisher, |peer| {
            peer.session().publish_done(upstream, PublishDoneCode::GOING_AWAY, "");
        });
        let told = live.stage.take(live.subscriber);
        let Some(Event::PublishDone { body, .. }) = told.last() else { panic!("{told:?}") };
        assert_eq!(body.code, PublishDoneCode::GOING_AWAY, "{drafts:?}");
        assert_eq!(live.stage.counts().1, 0, "{drafts:?}");
    }
}

#[test]
fn a_goaway_on_other_requests_changes_nothing() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let subscription = live.subscription;
        live.stage.tell(live.subscriber, |peer| peer.session().request_goaway(subscription, 0));
        live.group(1, &["x"]);
        assert_eq!(live.heard(), ["1: 0=x fin"], "{drafts:?}");
    }
}

impl Stage {
    fn publish_at(&mut self, peer: NodeId, name: &str, alias: u64) -> RequestId {
        self.tell(peer, |peer| {
            let properties = Properties::default();
            peer.session().publish(track(name), TrackAlias(alias), none(), properties).unwrap()
        })
    }

    fn watch_all(&mut self, version: Version, path: &str) -> (NodeId, RequestId) {
        let (peer, path) = (self.peer(version), namespace(path));
        let request =
            self.tell(peer, |peer| peer.session().subscribe_tracks(path, none()).unwrap());
        assert!(matches!(self.response(peer, request), Response::Ok(_)));
        (peer, request)
    }

    /// What a watcher is told of tracks: those it gets, and those that it does not.
    fn tracks_told(&mut self, peer: NodeId) -> Vec<String> {
        let name = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        self.take(peer)
            .iter()
            .filter_map(|event| match event {
                Event::Request { body: Request::Publish(body), .. } => {
                    Some(format!("+{}", name(body.track.name())))
                }
                Event::PublishSkipped { name: skipped, .. } => Some(format!("-{}", name(skipped))),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn a_track_too_many_is_skipped_and_said_so() {
    for drafts in DRAFTS {
        let mut stage = Stage::with(config(|config| config.session_publications_max = 2));
        let (watcher, watch) = stage.watch_all(drafts.1, "live");
        let publisher = stage.peer(drafts.0);
        let first = stage.publish_at(publisher, "a", 1);
        stage.publish_at(publisher, "b", 2);
        let third = stage.publish_at(publisher, "c", 3);
        assert_eq!(stage.tracks_told(watcher), ["+a", "+b", "-c"], "{drafts:?}");
        // There is room again, but of this publication it has been said that it will not come: not
        // even if the watch moves.
        stage.tell(publisher, |peer| {
            peer.session().publish_done(first, PublishDoneCode::TRACK_ENDED, "");
        });
        stage.tell(watcher, |peer| {
            let prefix = Parameter::TrackNamespacePrefix(namespace("live/room"));
            peer.session().update(watch, with(prefix)).unwrap();
        });
        assert_eq!(stage.tracks_told(watcher), [""; 0], "{drafts:?}");
        // It may still be subscribed to, and a new publication is another matter.
        let subscription = stage.subscribe(watcher, "c", none());
        assert!(matches!(stage.response(watcher, subscription), Response::SubscribeOk(_)));
        stage.tell(watcher, |peer| peer.session().cancel(subscription, ResetCode::CANCELLED));
        stage.tell(publisher, |peer| {
            peer.session().publish_done(third, PublishDoneCode::TRACK_ENDED, "");
        });
        stage.publish_at(publisher, "c", 4);
        assert_eq!(stage.tracks_told(watcher), ["+c"], "{drafts:?}");
    }
}

#[test]
fn a_refused_track_is_not_published_again_for_a_watch_that_moves() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let (watcher, watch) = stage.watch_all(drafts.1, "live");
        let publisher = stage.peer(drafts.0);
        stage.publish_at(publisher, "a", 1);
        let (request, _) = stage.request(watcher);
        let code = RequestCode::UNINTERESTED;
        stage.tell(watcher, |peer| peer.session().reject_with(request, code, ""));
        stage.tell(watcher, |peer| {
            let prefix = Parameter::TrackNamespacePrefix(namespace("live/room"));
            peer.session().update(watch, with(prefix)).unwrap();
        });
        assert_eq!(stage.tracks_told(watcher), [""; 0], "{drafts:?}");
    }
}

#[test]
fn a_second_goaway_on_a_request_closes_the_session() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.move_subscription();
        live.move_subscription();
        assert!(live.stage.closed(live.publisher), "{drafts:?}");
    }
}

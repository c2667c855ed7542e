//! Track properties, and requests for new groups, through a relay.

use aip_codec::{
    Version,
    moqt::{
        id::TrackAlias,
        message::FetchTarget,
        parameter::Parameter,
        property::{DYNAMIC_GROUPS, Properties},
    },
};
use aip_engine::session::{Event, Request, Response};
use aip_tests::sim::peer::Subgroup;

use super::{DRAFTS, Stage, at, namespace, none, objects, track, with};

fn properties() -> Properties {
    Properties::builder()
        .integer(0x0e, 7)
        .bytes(0x0b, vec![2, 1])
        .bytes(0x2b, vec![1, 2, 3])
        .integer(0x1234, 99)
        .build()
        .unwrap()
}

#[test]
fn all_properties_of_a_track_are_told() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let subscriber = stage.peer(drafts.1);
        let subscription = stage.subscribe(subscriber, "t", none());
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| {
            peer.session().accept_subscribe(upstream, TrackAlias(7), none(), properties());
        });
        let Response::SubscribeOk(ok) = stage.response(subscriber, subscription) else { panic!() };
        assert_eq!(ok.properties, properties(), "{drafts:?}");
        let group = Subgroup::new(7, 1);
        stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        let status =
            stage.tell(subscriber, |peer| peer.session().track_status(track("t"), none()).unwrap());
        let Response::Ok(ok) = stage.response(subscriber, status) else { panic!() };
        assert_eq!(ok.properties, properties(), "{drafts:?}");
        let fetch = stage.fetch(subscriber, at(1, 0), at(1, 0), none());
        let Response::FetchOk(ok) = stage.response(subscriber, fetch) else { panic!() };
        assert_eq!(ok.properties, properties(), "{drafts:?}");
        if Version::Draft20 <= drafts.1 {
            let without = with(Parameter::IncludeProperties(false));
            let peer = stage.peer(drafts.1);
            let subscription = stage.subscribe(peer, "t", without.clone());
            let Response::SubscribeOk(ok) = stage.response(peer, subscription) else { panic!() };
            assert!(ok.properties.is_empty());
            let fetch = stage.tell(peer, |peer| {
                peer.session().fetch(FetchTarget::Track(track("t")), without).unwrap()
            });
            let Response::FetchOk(ok) = stage.response(peer, fetch) else { panic!() };
            assert!(ok.properties.is_empty());
        }
    }
}

#[test]
fn a_published_tracks_properties_are_told() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let watcher = stage.peer(drafts.1);
        stage.tell(watcher, |peer| {
            peer.session().subscribe_tracks(namespace("live"), none()).unwrap();
        });
        let publisher = stage.peer(drafts.0);
        stage.tell(publisher, |peer| {
            peer.session().publish(track("t"), TrackAlias(7), none(), properties()).unwrap();
        });
        let (_, Request::Publish(body)) = stage.request(watcher) else { panic!() };
        assert_eq!(body.properties, properties(), "{drafts:?}");
    }
}

#[test]
fn a_track_that_must_be_understood_is_refused() {
    let strange = || Properties::builder().integer(0x4002, 1).build().unwrap();
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let subscriber = stage.peer(drafts.1);
        let subscription = stage.subscribe(subscriber, "t", none());
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| {
            peer.session().accept_subscribe(upstream, TrackAlias(7), none(), strange());
        });
        assert_eq!(stage.refusal(subscriber, subscription), "UNSUPPORTED_EXTENSION");
        assert!(stage.take(publisher).contains(&Event::Ended { request: upstream }));
        let published = stage.tell(publisher, |peer| {
            peer.session().publish(track("u"), TrackAlias(8), none(), strange()).unwrap()
        });
        assert_eq!(stage.refusal(publisher, published), "UNSUPPORTED_EXTENSION");
        assert_eq!(stage.counts().1, 0, "{drafts:?}");
    }
}

#[test]
fn a_fetch_that_must_be_understood_is_not_believed() {
    let strange = || Properties::builder().integer(0x4002, 1).build().unwrap();
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        live.group(5, &["a"]);
        let fetch = live.stage.fetch(live.subscriber, at(1, 0), at(5, 0), none());
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        live.stage.tell(live.publisher, |peer| {
            peer.session().accept_fetch(upstream, false, at(4, 1), strange());
        });
        assert!(live.stage.take(live.publisher).contains(&Event::Ended { request: upstream }));
        let line = live.stage.fetched(live.subscriber, fetch);
        assert_eq!(line, "Unknown..4 5/0=a fin", "{drafts:?}");
    }
}

#[test]
fn a_wish_for_a_new_group_goes_to_the_publisher() {
    let wish = |group| with(Parameter::NewGroupRequest(group));
    let wished = |told: &[Event]| -> Vec<u64> {
        told.iter()
            .filter_map(|event| match event {
                Event::Update { parameters, .. } => parameters.new_group_request(),
                Event::Request { body: Request::Subscribe(body), .. } => {
                    body.parameters.new_group_request()
                }
                _ => None,
            })
            .collect()
    };
    for drafts in DRAFTS {
        for dynamic in [true, false] {
            let mut stage = Stage::new();
            let publisher = stage.publisher(drafts.0, "live");
            let first = stage.peer(drafts.1);
            stage.subscribe(first, "t", wish(3));
            let told = stage.take(publisher);
            assert_eq!(wished(&told), [3], "{drafts:?}: with the first subscription");
            let [Event::Request { request: upstream, .. }] = told[..] else { panic!() };
            let properties =
                Properties::builder().integer(DYNAMIC_GROUPS, u64::from(dynamic)).build().unwrap();
            stage.tell(publisher, |peer| {
                peer.session().accept_subscribe(upstream, TrackAlias(7), none(), properties);
            });
            let ask = |stage: &mut Stage, group| {
                stage.join(drafts.1, wish(group));
                let told = stage.take(publisher);
                stage.tell(publisher, |peer| {
                    for _ in &told {
                        peer.session().accept_update(upstream, none());
                    }
                });
                wished(&told)
            };
            if !dynamic {
                assert_eq!(ask(&mut stage, 9), [0; 0], "{drafts:?}");
                continue;
            }
            // 3 is on its way already; less is covered by it; more is not.
            assert_eq!(ask(&mut stage, 3), [0; 0], "{drafts:?}");
            assert_eq!(ask(&mut stage, 2), [0; 0], "{drafts:?}");
            assert_eq!(ask(&mut stage, 5), [5], "{drafts:?}");
            assert_eq!(ask(&mut stage, 0), [0; 0], "some new group is on its way");
            let group = Subgroup::new(7, 6);
            stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
            // The largest group has grown: nothing is on its way. 6 is there already.
            assert_eq!(ask(&mut stage, 6), [0; 0], "{drafts:?}");
            assert_eq!(ask(&mut stage, 0), [0], "{drafts:?}");
            assert_eq!(ask(&mut stage, 7), [7], "{drafts:?}");
        }
    }
}

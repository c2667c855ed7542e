//! SUBSCRIBE_TRACKS over several relays.

use aip_codec::{
    Version,
    moqt::{
        error_code::{RequestCode, ResetCode},
        id::{RequestId, TrackAlias},
        message::{Reason, Redirect, RequestError},
        name::FullTrackName,
        parameter::{GroupOrder, Parameter},
        property::{DYNAMIC_GROUPS, Properties},
    },
};
use aip_engine::session::{Event, Request, Response};
use aip_tests::sim::{
    NodeId,
    peer::{FetchItem, Peer, Subgroup},
    shards::Shards,
};
use bytes::Bytes;

use super::{
    Stage, at,
    chain::chain,
    mesh::{DRAFTS, Mesh, RING, TWO_UPSTREAMS, drafts_and_shards, mesh},
    namespace, none, objects, payload, with,
};

impl Stage {
    /// Wants every track under a prefix, at whatever relay the peer is connected to.
    fn want(&mut self, peer: NodeId, prefix: &str) -> RequestId {
        let prefix = namespace(prefix);
        let request =
            self.tell(peer, |peer| peer.session().subscribe_tracks(prefix, none()).unwrap());
        self.run(50);
        request
    }

    /// Publishes track `t` and at once its first group.
    fn publish_at_once(&mut self, peer: NodeId, alias: u64) -> RequestId {
        let request = self.tell(peer, |peer| {
            let (alias, properties) = (TrackAlias(alias), Properties::default());
            let name = super::track("t");
            let request = peer.session().publish(name, alias, none(), properties).unwrap();
            peer.send_subgroup(request, &Subgroup::new(alias.0, 0), &objects(&["a", "b"]));
            request
        });
        self.run(50);
        request
    }

    fn send(&mut self, peer: NodeId, request: RequestId, alias: u64, group: u64) {
        let body = objects(&["c"]);
        self.tell(peer, |peer| {
            peer.send_subgroup(request, &Subgroup::new(alias, group), &body);
        });
        self.run(50);
    }

    /// Takes what is published to a peer, if anything is; the track's name.
    fn take_published(&mut self, peer: NodeId) -> Option<FullTrackName> {
        let mut requests = self.requests(peer);
        assert!(requests.len() < 2, "{requests:?}");
        let (request, body) = requests.pop()?;
        let Request::Publish(body) = body else { panic!("{body:?}") };
        self.tell(peer, |peer| peer.accept(request));
        self.run(50);
        Some(body.track)
    }

    /// What other relays are asked by one.
    fn asked(&mut self, relay: NodeId) -> usize {
        self.world.with(relay, |relay: &mut Shards, _| {
            relay.relays().map(aip_engine::relay::Relay::asked_tracks).sum()
        })
    }
}

impl Mesh {
    fn peer(&mut self, relay: usize, version: Version) -> NodeId {
        self.stage.peer_at(self.relays[relay], version).0
    }
}

#[test]
fn tracks_go_up_and_down_a_chain_from_their_first_object_on() {
    for (version, shard) in drafts_and_shards() {
        for (publisher, watcher) in [(0, 2), (2, 0), (1, 2), (1, 0)] {
            for watches_first in [true, false] {
                let mut mesh = mesh(version, &[(1, 0), (2, 1)]);
                let source = mesh.peer(publisher, version);
                let node = mesh.relays[watcher];
                let (sink, _) = mesh.stage.peer_in_shard_of(node, shard, version);
                let context = format!("{version:?} {publisher} to {watcher} {watches_first}");
                let upstream = if watches_first {
                    mesh.stage.want(sink, "live");
                    mesh.stage.publish_at_once(source, 7)
                } else {
                    let upstream = mesh.stage.publish_at_once(source, 7);
                    mesh.stage.want(sink, "live");
                    upstream
                };
                assert_eq!(mesh.stage.take_published(sink), Some(super::track("t")), "{context}");
                mesh.stage.send(source, upstream, 7, 1);
                let all = ["0: 0=a 1=b fin", "1: 0=c fin"];
                let from = usize::from(!watches_first);
                assert_eq!(mesh.stage.lines(sink), all[from..], "{context}");
            }
        }
    }
}

#[test]
fn relays_without_a_number_are_asked_if_they_were_dialled() {
    for version in DRAFTS {
        let mut chain = chain(3, version);
        let (source, _) = chain.stage.peer_at(chain.relays[0], version);
        let (sink, _) = chain.stage.peer_at(chain.relays[2], version);
        let (other, _) = chain.stage.peer_at(chain.relays[0], version);
        chain.stage.want(sink, "live");
        let upstream = chain.stage.publish_at_once(source, 7);
        assert_eq!(chain.stage.take_published(sink), Some(super::track("t")), "{version:?}");
        chain.stage.send(source, upstream, 7, 1);
        assert_eq!(chain.stage.lines(sink), ["0: 0=a 1=b fin", "1: 0=c fin"], "{version:?}");
        // What wants nothing gets nothing.
        assert_eq!(chain.stage.take(other).len(), 0, "{version:?}");
    }
}

#[test]
fn a_ring_of_relays_gives_each_watcher_a_track_once_and_forgets_it() {
    for version in DRAFTS {
        let mut mesh = mesh(version, &RING);
        let sinks = [0, 1, 2].map(|relay| mesh.peer(relay, version));
        let watches = sinks.map(|sink| mesh.stage.want(sink, "live"));
        let (source, link) = mesh.stage.peer_at(mesh.relays[0], version);
        let upstream = mesh.stage.publish_at_once(source, 7);
        for sink in sinks {
            assert_eq!(mesh.stage.take_published(sink), Some(super::track("t")), "{version:?}");
        }
        mesh.stage.send(source, upstream, 7, 1);
        for sink in sinks {
            let all = ["0: 0=a 1=b fin", "1: 0=c fin"];
            assert_eq!(mesh.stage.lines(sink), all, "{version:?}");
        }
        // The publisher goes: nobody keeps the track alive for the others.
        mesh.stage.world.kill(link);
        mesh.stage.run(500);
        for (relay, sink) in sinks.into_iter().enumerate() {
            let told = mesh.stage.take(sink);
            assert!(matches!(told[..], [Event::PublishDone { .. }]), "{version:?}: {told:?}");
            assert_eq!(mesh.tracks(relay), 0, "{version:?} relay {relay} keeps it");
        }
        // The watchers go: nobody keeps their wish alive for the others.
        for (sink, watch) in sinks.into_iter().zip(watches) {
            mesh.stage.tell(sink, |peer| peer.session().cancel(watch, ResetCode::CANCELLED));
        }
        mesh.stage.run(500);
        for relay in 0..3 {
            let node = mesh.relays[relay];
            assert_eq!(mesh.stage.asked(node), 0, "{version:?} relay {relay} still asks");
        }
    }
}

#[test]
fn a_wish_that_came_from_one_way_goes_on_by_another_when_its_owner_leaves() {
    for version in DRAFTS {
        let mut mesh = mesh(version, &RING);
        let (first, second) = (mesh.peer(0, version), mesh.peer(1, version));
        let watch = mesh.stage.want(first, "live");
        mesh.stage.want(second, "live");
        mesh.stage.tell(first, |peer| peer.session().cancel(watch, ResetCode::CANCELLED));
        mesh.stage.run(100);
        let source = mesh.peer(2, version);
        mesh.stage.publish_at_once(source, 7);
        assert_eq!(mesh.stage.take_published(second), Some(super::track("t")), "{version:?}");
        assert_eq!(mesh.stage.lines(second), ["0: 0=a 1=b fin"], "{version:?}");
        assert_eq!(mesh.stage.take_published(first), None, "{version:?}");
    }
}

/// Both relays above have the track; the one that it comes from is lost in the midst of an object.
#[test]
fn a_published_track_goes_on_from_another_relay_without_a_gap() {
    for (version, shard) in drafts_and_shards() {
        let mut mesh = mesh(version, &TWO_UPSTREAMS);
        let (sink, _) = mesh.stage.peer_in_shard_of(mesh.relays[2], shard, version);
        mesh.stage.want(sink, "live");
        let sources = [0, 1].map(|relay| mesh.peer(relay, version));
        let upstreams = sources.map(|source| mesh.stage.publish_at_once(source, 7));
        assert_eq!(mesh.stage.take_published(sink), Some(super::track("t")), "{version:?}");
        assert_eq!(mesh.stage.lines(sink), ["0: 0=a 1=b fin"], "{version:?}");
        let mut writer = mesh.stage.tell(sources[0], |peer| {
            let mut writer = peer.open(upstreams[0], &Subgroup::new(7, 1)).unwrap();
            writer.begin(peer.session(), 0, 6, Properties::default());
            peer.session().send(writer.stream, Bytes::from_static(b"bro"), false);
            writer
        });
        let _ = &mut writer;
        mesh.stage.run(50);
        mesh.stage.world.kill(mesh.links[0]);
        let whole = [(0, payload("broken")), (1, payload("d"))];
        mesh.stage.tell(sources[1], |peer| {
            peer.send_subgroup(upstreams[1], &Subgroup::new(7, 1), &whole);
        });
        mesh.stage.run(100);
        // The second relay has it all, and says that no more of it comes when it is asked.
        mesh.stage.send(sources[1], upstreams[1], 7, 2);
        mesh.stage.run(100);
        let all = ["1: 0=broken 1=d fin", "2: 0=c fin"];
        assert_eq!(mesh.stage.lines(sink), all, "{version:?}");
    }
}

#[test]
fn what_nobody_takes_any_more_is_left_and_comes_again_for_the_next() {
    for (version, shard) in drafts_and_shards() {
        let mut mesh = mesh(version, &[(2, 0)]);
        let (sink, _) = mesh.stage.peer_in_shard_of(mesh.relays[2], shard, version);
        mesh.stage.want(sink, "live");
        let source = mesh.peer(0, version);
        let upstream = mesh.stage.publish_at_once(source, 7);
        let (request, _) = mesh.stage.request(sink);
        mesh.stage.tell(sink, |peer| {
            peer.session().reject_with(request, RequestCode::UNINTERESTED, "");
        });
        mesh.stage.run(60_000);
        assert_eq!(mesh.tracks(2), 0, "{version:?}: it is still received");
        assert!(mesh.stage.requests(sink).is_empty(), "{version:?} {shard}: it was refused");
        let late = mesh.peer(2, version);
        mesh.stage.want(late, "live/room");
        mesh.stage.run(100);
        assert_eq!(mesh.stage.take_published(late), Some(super::track("t")), "{version:?}");
        mesh.stage.send(source, upstream, 7, 3);
        assert_eq!(mesh.stage.lines(late), ["3: 0=c fin"], "{version:?}");
    }
}

/// A relay whose upstream relay is a bare session without a number.
struct Below {
    stage: Stage,
    upstream: NodeId,
}

fn below(version: Version) -> Below {
    let mut stage = Stage::new();
    let upstream = stage.world.add(Peer::default());
    stage.world.connect(stage.relay, upstream, version, Some(0));
    stage.run(50);
    stage.take(upstream);
    Below { stage, upstream }
}

impl Below {
    fn asked(&mut self) -> Vec<(RequestId, String)> {
        let requests = self.stage.requests(self.upstream).into_iter();
        let prefixes = requests.map(|(request, body)| match body {
            Request::SubscribeTracks(body) => (request, body.prefix.to_string()),
            other => panic!("{other:?}"),
        });
        prefixes.collect()
    }

    fn prefixes(&mut self) -> Vec<String> {
        let asked = self.asked();
        let upstream = self.upstream;
        self.stage.tell(upstream, |peer| {
            for (request, _) in &asked {
                peer.accept(*request);
            }
        });
        asked.into_iter().map(|(_, prefix)| prefix).collect()
    }

    fn ended(&mut self) -> usize {
        let told = self.stage.take(self.upstream);
        told.iter().filter(|event| matches!(event, Event::Ended { .. })).count()
    }
}

#[test]
fn of_prefixes_in_each_other_the_widest_is_asked() {
    for version in DRAFTS {
        let mut below = below(version);
        let sinks: Vec<NodeId> = (0..4).map(|_| below.stage.peer(version)).collect();
        below.stage.want(sinks[0], "a/b");
        below.stage.want(sinks[1], "a/c");
        let text = |path: &str| namespace(path).to_string();
        assert_eq!(below.prefixes(), [text("a/b"), text("a/c")], "{version:?}");
        // The same once more, or something within, asks for nothing new.
        below.stage.want(sinks[2], "a/b");
        assert!(below.prefixes().is_empty(), "{version:?}");
        let wide = below.stage.want(sinks[3], "a");
        assert_eq!(below.prefixes(), [text("a")], "{version:?}");
        assert_eq!(below.ended(), 2, "{version:?}");
        below.stage.tell(sinks[3], |peer| peer.session().cancel(wide, ResetCode::CANCELLED));
        assert_eq!(below.prefixes(), [text("a/b"), text("a/c")], "{version:?}");
        assert_eq!(below.ended(), 1, "{version:?}");
    }
}

#[test]
fn a_relay_that_has_not_heard_of_an_end_is_asked_again() {
    for version in DRAFTS {
        let mut below = below(version);
        let sink = below.stage.peer(version);
        below.stage.want(sink, "a");
        for _ in 0..4 {
            let asked = below.asked();
            assert_eq!(asked.len(), 1, "{version:?}");
            let upstream = below.upstream;
            below.stage.tell(upstream, |peer| {
                peer.session().reject_with(asked[0].0, RequestCode::PREFIX_OVERLAP, "");
            });
        }
        assert!(below.asked().is_empty(), "{version:?}: not for ever");
    }
}

/// How a relay refuses to tell of tracks, and when it may be asked again.
fn refuse(below: &mut Below, request: RequestId, code: RequestCode, retry_interval: u64) {
    let upstream = below.upstream;
    below.stage.tell(upstream, |peer| {
        let reason = Reason::new("");
        let error = RequestError { code, retry_interval, reason, redirect: None };
        peer.session().reject(request, error);
    });
}

#[test]
fn a_relay_that_has_refused_is_asked_again_when_it_says() {
    for version in DRAFTS {
        let mut below = below(version);
        let (sink, other) = (below.stage.peer(version), below.stage.peer(version));
        below.stage.want(sink, "a");
        let (request, _) = below.asked().remove(0);
        refuse(&mut below, request, RequestCode::EXCESSIVE_LOAD, 10_001);
        // Neither whoever comes meanwhile nor whoever goes makes it be asked sooner.
        for _ in 0..3 {
            let watch = below.stage.want(other, "a");
            below.stage.tell(other, |peer| peer.session().cancel(watch, ResetCode::CANCELLED));
        }
        assert!(below.asked().is_empty(), "{version:?}");
        below.stage.run(8_000);
        assert!(below.asked().is_empty(), "{version:?}: too soon");
        below.stage.run(2_000);
        assert_eq!(below.prefixes(), [namespace("a").to_string()], "{version:?}");
    }
}

#[test]
fn a_relay_that_refuses_for_good_is_not_asked_again() {
    for version in DRAFTS {
        for (code, others) in [(RequestCode::UNAUTHORIZED, 1), (RequestCode::NOT_SUPPORTED, 0)] {
            let mut below = below(version);
            let (sink, other) = (below.stage.peer(version), below.stage.peer(version));
            let watch = below.stage.want(sink, "a");
            let (request, _) = below.asked().remove(0);
            refuse(&mut below, request, code, 0);
            below.stage.tell(sink, |peer| peer.session().cancel(watch, ResetCode::CANCELLED));
            below.stage.want(sink, "a");
            below.stage.run(60_000);
            assert!(below.asked().is_empty(), "{version:?} {code}");
            below.stage.want(other, "b");
            assert_eq!(below.asked().len(), others, "{version:?} {code}");
        }
    }
}

/// What is wanted under a prefix is asked for instead of what is refused.
#[test]
fn narrower_prefixes_are_asked_where_a_wide_one_is_refused() {
    for version in DRAFTS {
        let mut below = below(version);
        let (narrow, wide) = (below.stage.peer(version), below.stage.peer(version));
        below.stage.want(narrow, "a/b");
        assert_eq!(below.prefixes().len(), 1, "{version:?}");
        below.stage.want(wide, "a");
        let (request, _) = below.asked().remove(0);
        refuse(&mut below, request, RequestCode::UNAUTHORIZED, 0);
        assert_eq!(below.prefixes(), [namespace("a/b").to_string()], "{version:?}");
    }
}

#[test]
fn a_track_that_a_relay_skips_is_asked_of_it() {
    for version in DRAFTS {
        for takes_it in [true, false] {
            let mut below = below(version);
            let (sink, upstream) = (below.stage.peer(version), below.upstream);
            below.stage.want(sink, "live");
            let (watch, _) = below.asked().remove(0);
            below.stage.tell(upstream, |peer| {
                peer.accept(watch);
                let name = Bytes::from_static(b"t");
                peer.session().publish_skipped(watch, namespace("room"), name);
            });
            let (subscription, body) = below.stage.request(upstream);
            assert!(matches!(body, Request::Subscribe(_)), "{version:?}: {body:?}");
            let told = |stage: &mut Stage| {
                stage.take(sink).into_iter().any(|event| {
                    matches!(event, Event::PublishSkipped { suffix, .. }
                        if suffix == namespace("room"))
                })
            };
            if takes_it {
                below.stage.tell(upstream, |peer| peer.accept_subscribe(subscription, 5, none()));
                assert_eq!(below.stage.take_published(sink), Some(super::track("t")));
                below.stage.send(upstream, subscription, 5, 1);
                assert_eq!(below.stage.lines(sink), ["1: 0=c fin"], "{version:?}");
            } else {
                assert!(!told(&mut below.stage), "{version:?}: too soon");
                below.stage.tell(upstream, |peer| {
                    let code = RequestCode::EXCESSIVE_LOAD;
                    peer.session().reject_with(subscription, code, "");
                });
                assert!(told(&mut below.stage), "{version:?}");
            }
        }
    }
}

#[test]
fn a_relay_is_asked_for_so_many_prefixes_only() {
    let mut stage = Stage::with(super::config(|config| config.relay_watches_max = 2));
    let upstream = stage.world.add(Peer::default());
    stage.world.connect(stage.relay, upstream, Version::Draft22, Some(0));
    stage.run(50);
    stage.take(upstream);
    let sink = stage.peer(Version::Draft22);
    for prefix in ["a", "b", "c"] {
        stage.want(sink, prefix);
    }
    assert_eq!(stage.requests(upstream).len(), 2);
    let ignored = |relay: &mut Shards| -> u64 {
        relay.relays().map(|it| it.metrics().counters.track_watches_ignored_total).sum()
    };
    assert_eq!(stage.relay(ignored), 1);
}

#[test]
fn other_requests_go_over_two_relays() {
    for (version, shard) in drafts_and_shards() {
        let mut mesh = mesh(version, &[(1, 0), (2, 1)]);
        let (source, _) = mesh.publisher(0, version);
        let (sink, _) = mesh.stage.peer_in_shard_of(mesh.relays[2], shard, version);
        // TRACK_STATUS.
        let status = mesh
            .stage
            .tell(sink, |peer| peer.session().track_status(super::track("t"), none()).unwrap());
        mesh.stage.run(50);
        let (upstream, body) = mesh.stage.request(source);
        assert!(matches!(body, Request::Subscribe(_)), "{version:?}: {body:?}");
        let largest = with(Parameter::LargestObject(at(4, 2)));
        mesh.stage.tell(source, |peer| {
            let properties = Properties::builder().integer(DYNAMIC_GROUPS, 1).build().unwrap();
            peer.session().accept_subscribe(upstream, TrackAlias(7), largest, properties);
        });
        mesh.stage.run(50);
        let Response::Ok(ok) = mesh.stage.response(sink, status) else {
            panic!("{version:?}");
        };
        assert_eq!(ok.parameters.largest_object(), Some(at(4, 2)), "{version:?}");
        assert!(ok.properties.dynamic_groups(), "{version:?}");
        // FETCH, in descending order.
        let order = with(Parameter::GroupOrder(GroupOrder::Descending));
        let fetch = mesh.stage.fetch(sink, at(3, 0), at(4, 2), order);
        mesh.stage.run(50);
        let (request, _, order) = mesh.stage.fetch_request(source);
        assert_eq!(order, GroupOrder::Descending, "{version:?}");
        let items = [(at(4, 1), "y"), (at(4, 2), "z"), (at(3, 0), "x")]
            .map(|(location, text)| FetchItem::Object(location, payload(text)));
        mesh.stage.answer_fetch_in(source, request, order, &items);
        mesh.stage.run(50);
        assert_eq!(mesh.stage.fetched(sink, fetch), "4/1=y 4/2=z 3/0=x fin", "{version:?}");
        // NEW_GROUP_REQUEST.
        let subscription = mesh.stage.subscribe(sink, "t", none());
        mesh.stage.run(50);
        let wish = with(Parameter::NewGroupRequest(0));
        mesh.stage.tell(sink, |peer| peer.session().update(subscription, wish).unwrap());
        mesh.stage.run(50);
        let told = mesh.stage.take(source);
        let asks = |event: &Event| {
            matches!(event, Event::Update { parameters, .. }
                if parameters.new_group_request() == Some(0))
        };
        assert!(told.iter().any(asks), "{version:?}: {told:?}");
        // PUBLISH_STATE_NOTIFY.
        if Version::Draft20 <= version {
            mesh.stage.take(sink);
            mesh.stage.tell(source, |peer| {
                peer.session().state_notify(upstream, with(Parameter::LargestObject(at(9, 0))));
            });
            mesh.stage.run(50);
            let told = mesh.stage.take(sink);
            let notified = |event: &Event| {
                matches!(event, Event::StateNotify { body, .. }
                    if body.parameters.largest_object() == Some(at(9, 0)))
            };
            assert!(told.iter().any(notified), "{version:?}: {told:?}");
        }
    }
}

#[test]
fn a_redirect_goes_over_two_relays() {
    for version in DRAFTS {
        let mut mesh = mesh(version, &[(1, 0), (2, 1)]);
        let (source, _) = mesh.publisher(0, version);
        let sink = mesh.peer(2, version);
        let subscription = mesh.stage.subscribe(sink, "t", none());
        mesh.stage.run(50);
        let (upstream, _) = mesh.stage.request(source);
        mesh.stage.tell(source, |peer| {
            let name = Bytes::from_static(b"elsewhere");
            let there = Redirect { uri: Bytes::new(), namespace: namespace("live/other"), name };
            let error = RequestError {
                code: RequestCode::REDIRECT,
                retry_interval: 1,
                reason: Reason::new(""),
                redirect: Some(there),
            };
            peer.session().reject(upstream, error);
        });
        mesh.stage.run(50);
        let Response::Error(error) = mesh.stage.response(sink, subscription) else {
            panic!("{version:?}");
        };
        assert_eq!(error.code, RequestCode::REDIRECT, "{version:?}");
        let there = error.redirect.expect("where to");
        assert_eq!(there.namespace, namespace("live/other"), "{version:?}");
    }
}

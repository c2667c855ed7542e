//! Relays that tell each other their numbers: rings, two upstreams, and what one of them lost.

use aip_codec::{
    Version,
    aip::hops::RelayId,
    moqt::{
        error_code::ResetCode,
        id::{RequestId, TrackAlias},
        location::Location,
        parameter::Parameter,
        property::Properties,
    },
};
use aip_engine::{
    relay::Config,
    session::{Event, Request},
};
use aip_tests::sim::{
    LinkId, NodeId,
    peer::{FetchItem, Peer, Subgroup},
    shards::Shards,
};
use bytes::Bytes;

use super::{Stage, at, namespace, none, objects, payload, track, with};
use crate::SHARDS;

pub(super) const DRAFTS: [Version; 3] = [Version::Draft18, Version::Draft20, Version::Draft22];

/// Relays, each with a number; the stage's own is not used.
pub(super) struct Mesh {
    pub(super) stage: Stage,
    pub(super) relays: Vec<NodeId>,
    pub(super) links: Vec<LinkId>,
}

fn relay(number: u64) -> Shards {
    relay_with(number, Config::default())
}

fn relay_with(number: u64, mut config: Config) -> Shards {
    config.session.relay_id = Some(RelayId(number));
    Shards::new(&config, SHARDS)
}

/// Three relays; the first of each pair dials the second.
pub(super) fn mesh(version: Version, dials: &[(usize, usize)]) -> Mesh {
    let mut stage = Stage::new();
    let relays: Vec<NodeId> = (1..=3).map(|number| stage.world.add(relay(number))).collect();
    let links = dials
        .iter()
        .enumerate()
        .map(|(target, (from, to))| {
            stage.world.connect(relays[*from], relays[*to], version, Some(target))
        })
        .collect();
    stage.run(50);
    Mesh { stage, relays, links }
}

pub(super) const RING: [(usize, usize); 3] = [(0, 1), (1, 2), (2, 0)];
/// The last has two upstreams.
pub(super) const TWO_UPSTREAMS: [(usize, usize); 2] = [(2, 0), (2, 1)];

/// All drafts, and the shards of a relay in which a subscriber may be.
pub(super) fn drafts_and_shards() -> impl Iterator<Item = (Version, usize)> {
    DRAFTS.into_iter().flat_map(|version| (0..SHARDS).map(move |shard| (version, shard)))
}

impl Mesh {
    fn namespaces(&mut self, relay: usize) -> usize {
        let relay = self.relays[relay];
        self.stage.world.with(relay, |relay: &mut Shards, _| relay.namespaces().len())
    }

    /// Tracks that a relay has to do with.
    pub(super) fn tracks(&mut self, relay: usize) -> usize {
        let relay = self.relays[relay];
        self.stage.world.with(relay, |relay: &mut Shards, _| relay.counts().1)
    }

    pub(super) fn publisher(&mut self, relay: usize, version: Version) -> (NodeId, LinkId) {
        let (peer, link) = self.stage.peer_at(self.relays[relay], version);
        self.stage.announce(peer, "live");
        self.stage.run(50);
        (peer, link)
    }

    /// A publisher takes the request that waits there, sends one object, and half of the next.
    fn begins_and_breaks_off(&mut self, publisher: NodeId) {
        let (request, _) = self.stage.request(publisher);
        self.stage.tell(publisher, |peer| peer.accept_subscribe(request, 7, none()));
        self.stage.run(50);
        self.stage.tell(publisher, |peer| {
            let mut writer = peer.open(request, &Subgroup::new(7, 1)).unwrap();
            writer.object(peer.session(), 0, payload("a"));
            writer.begin(peer.session(), 1, 6, Properties::default());
            peer.session().send(writer.stream, Bytes::from_static(b"bro"), false);
        });
    }

    /// Another publisher is asked for the track, and says how far it is there.
    #[track_caller]
    fn takes_over(&mut self, publisher: NodeId, largest: Location) -> RequestId {
        let (request, body) = self.stage.request(publisher);
        assert!(matches!(body, Request::Subscribe(_)), "{body:?}");
        let largest = with(Parameter::LargestObject(largest));
        self.stage.tell(publisher, |peer| peer.accept_subscribe(request, 9, largest));
        self.stage.run(50);
        request
    }
}

#[test]
fn an_announcement_goes_round_a_ring_once_and_is_withdrawn_everywhere() {
    for version in DRAFTS {
        let mut mesh = mesh(version, &RING);
        let (_, link) = mesh.publisher(0, version);
        for relay in 0..3 {
            assert_eq!(mesh.namespaces(relay), 1, "{version:?} relay {relay}");
        }
        mesh.stage.world.kill(link);
        mesh.stage.run(50);
        for relay in 0..3 {
            assert_eq!(mesh.namespaces(relay), 0, "{version:?} relay {relay} keeps it");
        }
    }
}

#[test]
fn a_way_that_is_lost_is_replaced_by_the_longer_one() {
    for (version, shard) in drafts_and_shards() {
        let mut mesh = mesh(version, &RING);
        let (publisher, _) = mesh.publisher(0, version);
        // The direct way from relay 1 to relay 0.
        mesh.stage.world.kill(mesh.links[0]);
        mesh.stage.run(50);
        assert_eq!(mesh.namespaces(1), 1, "{version:?}");
        let (subscriber, _) = mesh.stage.peer_in_shard_of(mesh.relays[1], shard, version);
        mesh.stage.subscribe(subscriber, "t", none());
        mesh.stage.run(50);
        let (upstream, body) = mesh.stage.request(publisher);
        assert!(matches!(body, Request::Subscribe(_)), "{version:?}");
        mesh.stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        let body = objects(&["a"]);
        let group = Subgroup::new(7, 1);
        mesh.stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &body));
        mesh.stage.run(50);
        assert_eq!(mesh.stage.lines(subscriber), ["1: 0=a fin"], "{version:?}");
    }
}

/// Each asks the next one before it has heard that this one asks, too.
#[test]
fn relays_in_a_ring_do_not_wait_for_each_other() {
    for (version, shard) in drafts_and_shards() {
        let mut mesh = mesh(version, &RING);
        let stage = &mut mesh.stage;
        let subscribers: Vec<NodeId> = mesh
            .relays
            .iter()
            .map(|relay| stage.peer_in_shard_of(*relay, shard, version).0)
            .collect();
        let asked: Vec<_> = subscribers
            .into_iter()
            .map(|peer| {
                let request = stage.world.with(peer, |peer: &mut Peer, _| {
                    peer.session().subscribe(track("t"), none()).unwrap()
                });
                (peer, request)
            })
            .collect();
        stage.run(200);
        for (peer, request) in asked {
            assert_eq!(stage.refusal(peer, request), "DOES_NOT_EXIST", "{version:?}");
        }
    }
}

#[test]
fn a_relay_that_reaches_itself_hangs_up() {
    for version in DRAFTS {
        let mut stage = Stage::new();
        let node = stage.world.add(relay(1));
        let link = stage.world.connect(node, node, version, Some(0));
        stage.run(50);
        assert!(!stage.world.is_up(link), "{version:?}");
    }
}

#[test]
fn a_plain_peer_sees_plain_messages() {
    // A session without RELAY_ID would close on HOPS: here it watches and subscribes.
    for version in DRAFTS {
        let mut mesh = mesh(version, &RING);
        let (watcher, _) = mesh.stage.peer_at(mesh.relays[2], version);
        mesh.stage.tell(watcher, |peer| {
            peer.session().subscribe_namespace(namespace("live"), none()).unwrap();
        });
        mesh.publisher(0, version);
        let told = mesh.stage.take(watcher);
        assert!(
            matches!(&told[..], [Event::Response { .. }, Event::Namespace { parameters, .. }]
                if parameters.is_empty()),
            "{version:?}: {told:?}"
        );
    }
}

/// A subscriber below two upstreams that have the same publisher's track each; the first one that
/// is asked fails in the midst of an object. The other's publisher brings what was missed by FETCH,
/// and goes on.
#[test]
fn a_lost_upstream_leaves_no_gap_and_nothing_comes_twice() {
    for (version, shard) in drafts_and_shards() {
        let mut mesh = mesh(version, &TWO_UPSTREAMS);
        let publishers = [0, 1].map(|relay| mesh.publisher(relay, version).0);
        let (subscriber, _) = mesh.stage.peer_in_shard_of(mesh.relays[2], shard, version);
        mesh.stage.subscribe(subscriber, "t", none());
        mesh.stage.run(50);
        mesh.begins_and_breaks_off(publishers[0]);
        mesh.stage.run(50);
        mesh.stage.world.kill(mesh.links[0]);
        mesh.stage.run(50);
        let second = mesh.takes_over(publishers[1], at(2, 0));
        // What comes live of the groups that may lack something waits for it.
        let live = Subgroup { first_object: false, ..Subgroup::new(9, 2) };
        let next = [(1, payload("e"))];
        mesh.stage.tell(publishers[1], |peer| peer.send_subgroup(second, &live, &next));
        mesh.stage.run(50);
        let (fetch, ..) = mesh.stage.fetch_request(publishers[1]);
        let missed = [(at(1, 1), "broken"), (at(1, 2), "c"), (at(2, 0), "d")]
            .map(|(location, text)| FetchItem::Object(location, payload(text)));
        mesh.stage.tell(publishers[1], |peer| {
            let properties = Properties::default();
            let end = if version < Version::Draft20 { at(2, 1) } else { at(2, 0) };
            peer.session().accept_fetch(fetch, false, end, properties);
            peer.send_fetch(fetch, aip_codec::moqt::parameter::GroupOrder::Ascending, &missed);
        });
        mesh.stage.run(100);
        assert_eq!(
            mesh.stage.lines(subscriber),
            ["1: 0=a 1=broken 2=c fin", "2: 0=d 1=e fin"],
            "{version:?}"
        );
    }
}

/// Whoever was in the midst of an object when its publisher was lost has left. It is not fetched
/// for the others, and what comes behind it does not wait for it.
#[test]
fn an_object_that_nobody_waits_for_holds_nothing_up() {
    for (version, shard) in drafts_and_shards() {
        let mut mesh = mesh(version, &TWO_UPSTREAMS);
        let publishers = [0, 1].map(|relay| mesh.publisher(relay, version).0);
        let (leaves, _) = mesh.stage.peer_in_shard_of(mesh.relays[2], shard, version);
        let request = mesh.stage.subscribe(leaves, "t", none());
        mesh.stage.run(50);
        mesh.begins_and_breaks_off(publishers[0]);
        mesh.stage.run(50);
        mesh.stage.tell(leaves, |peer| peer.session().cancel(request, ResetCode::CANCELLED));
        let (subscriber, _) = mesh.stage.peer_in_shard_of(mesh.relays[2], shard, version);
        mesh.stage.subscribe(subscriber, "t", none());
        mesh.stage.run(50);
        mesh.stage.world.kill(mesh.links[0]);
        mesh.stage.run(50);
        let second = mesh.takes_over(publishers[1], at(1, 2));
        let (fetch, ..) = mesh.stage.fetch_request(publishers[1]);
        let missed = [FetchItem::Object(at(1, 2), payload("c"))];
        mesh.stage.answer_fetch(publishers[1], fetch, &missed);
        mesh.stage.run(50);
        let live = Subgroup { first_object: false, ..Subgroup::new(9, 1) };
        let next = [(3, payload("d"))];
        mesh.stage.tell(publishers[1], |peer| peer.send_subgroup(second, &live, &next));
        mesh.stage.run(100);
        assert_eq!(mesh.stage.lines(subscriber), ["1: 2=c 3=d fin"], "{version:?}");
    }
}

/// The relay that the track comes from falls silent in the midst of an object: it is not waited for.
#[test]
fn an_upstream_that_falls_silent_is_not_waited_for() {
    for (version, shard) in drafts_and_shards() {
        let mut mesh = mesh(version, &TWO_UPSTREAMS);
        let publishers = [0, 1].map(|relay| mesh.publisher(relay, version).0);
        let (subscriber, _) = mesh.stage.peer_in_shard_of(mesh.relays[2], shard, version);
        mesh.stage.subscribe(subscriber, "t", none());
        mesh.stage.run(50);
        mesh.begins_and_breaks_off(publishers[0]);
        mesh.stage.run(50);
        mesh.stage.world.partition(mesh.links[0], true);
        mesh.stage.run(900);
        assert!(mesh.stage.requests(publishers[1]).is_empty(), "{version:?}: too soon");
        mesh.stage.run(200);
        let second = mesh.takes_over(publishers[1], at(1, 1));
        let (fetch, ..) = mesh.stage.fetch_request(publishers[1]);
        let missed = [FetchItem::Object(at(1, 1), payload("broken"))];
        mesh.stage.answer_fetch(publishers[1], fetch, &missed);
        let live = Subgroup { first_object: false, ..Subgroup::new(9, 1) };
        let next = [(2, payload("c"))];
        mesh.stage.tell(publishers[1], |peer| peer.send_subgroup(second, &live, &next));
        mesh.stage.run(100);
        assert_eq!(mesh.stage.lines(subscriber), ["1: 0=a 1=broken 2=c fin"], "{version:?}");
        // It comes back, and nothing comes of what it had held back.
        mesh.stage.world.partition(mesh.links[0], false);
        mesh.stage.run(100);
        assert_eq!(mesh.stage.lines(subscriber), [""; 0], "{version:?}");
    }
}

/// The same where another publisher has the track already, in whatever shard it and the subscriber
/// are.
#[test]
fn an_upstream_that_falls_silent_is_left_for_a_publisher_that_is_there_already() {
    for (version, shard) in drafts_and_shards() {
        for other in 0..SHARDS {
            let mut mesh = mesh(version, &[(2, 0)]);
            let (publisher, _) = mesh.publisher(0, version);
            let below = mesh.relays[2];
            let (subscriber, _) = mesh.stage.peer_in_shard_of(below, shard, version);
            mesh.stage.subscribe(subscriber, "t", none());
            mesh.stage.run(50);
            mesh.begins_and_breaks_off(publisher);
            let (second, _) = mesh.stage.peer_in_shard_of(below, other, version);
            let published = mesh.stage.tell(second, |peer| {
                let (alias, properties) = (TrackAlias(9), Properties::default());
                let largest = with(Parameter::LargestObject(at(1, 1)));
                peer.session().publish(track("t"), alias, largest, properties).unwrap()
            });
            mesh.stage.world.partition(mesh.links[0], true);
            let mut fetches = Vec::new();
            for _ in 0..30 {
                mesh.stage.run(100);
                fetches.extend(mesh.stage.requests(second));
                if !fetches.is_empty() {
                    break;
                }
            }
            let [(fetch, Request::Fetch(_))] = fetches[..] else { panic!("{fetches:?}") };
            let missed = [FetchItem::Object(at(1, 1), payload("broken"))];
            mesh.stage.answer_fetch(second, fetch, &missed);
            let live = Subgroup { first_object: false, ..Subgroup::new(9, 1) };
            let next = [(2, payload("c"))];
            mesh.stage.tell(second, |peer| peer.send_subgroup(published, &live, &next));
            mesh.stage.run(100);
            let all = ["1: 0=a 1=broken 2=c fin"];
            assert_eq!(mesh.stage.lines(subscriber), all, "{version:?} {shard} {other}");
        }
    }
}

/// A relay that falls silent with nobody in its place loses nothing by it.
#[test]
fn an_only_upstream_that_falls_silent_is_waited_for() {
    for (version, shard) in drafts_and_shards() {
        let mut mesh = mesh(version, &[(2, 0)]);
        let (publisher, _) = mesh.publisher(0, version);
        let (subscriber, _) = mesh.stage.peer_in_shard_of(mesh.relays[2], shard, version);
        mesh.stage.subscribe(subscriber, "t", none());
        mesh.stage.run(50);
        let (upstream, _) = mesh.stage.request(publisher);
        mesh.stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        mesh.stage.run(50);
        mesh.stage.take(subscriber);
        mesh.stage.world.partition(mesh.links[0], true);
        let group = Subgroup::new(7, 1);
        mesh.stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
        mesh.stage.run(3_000);
        assert_eq!(mesh.stage.lines(subscriber), [""; 0], "{version:?}");
        mesh.stage.world.partition(mesh.links[0], false);
        mesh.stage.run(100);
        assert_eq!(mesh.stage.lines(subscriber), ["1: 0=a fin"], "{version:?}");
    }
}

/// The relay that the track comes from goes away, and the one that it names is dialled.
#[test]
fn a_relay_that_goes_away_is_left_for_the_one_that_it_names() {
    for (version, shard) in drafts_and_shards() {
        let mut mesh = mesh(version, &[(2, 0)]);
        let publishers = [0, 1].map(|relay| mesh.publisher(relay, version).0);
        let (subscriber, _) = mesh.stage.peer_in_shard_of(mesh.relays[2], shard, version);
        mesh.stage.subscribe(subscriber, "t", none());
        mesh.stage.run(50);
        let (upstream, _) = mesh.stage.request(publishers[0]);
        mesh.stage.tell(publishers[0], |peer| peer.accept_subscribe(upstream, 7, none()));
        mesh.stage.run(50);
        let group = Subgroup::new(7, 1);
        mesh.stage.tell(publishers[0], |peer| {
            peer.send_subgroup(upstream, &group, &objects(&["a"]));
        });
        let (above, below) = (mesh.relays[0], mesh.relays[2]);
        mesh.stage.world.with(above, |relay: &mut Shards, now| relay.handle_drain(now));
        mesh.stage.run(50);
        mesh.stage.world.connect(below, mesh.relays[1], version, Some(0));
        mesh.stage.run(50);
        let second = mesh.takes_over(publishers[1], at(1, 0));
        let group = Subgroup::new(9, 2);
        mesh.stage.tell(publishers[1], |peer| peer.send_subgroup(second, &group, &objects(&["b"])));
        mesh.stage.run(50);
        assert_eq!(mesh.stage.lines(subscriber), ["1: 0=a fin", "2: 0=b fin"], "{version:?}");
        mesh.stage.run(2_000);
        let told = mesh.stage.take(publishers[0]);
        assert!(told.contains(&Event::Ended { request: upstream }), "{version:?}: {told:?}");
    }
}

#[test]
fn the_end_of_a_watch_ends_what_it_told() {
    for version in DRAFTS {
        let mut stage = Stage::new();
        let below = stage.world.add(relay(1));
        let above = stage.world.add(Peer::default());
        stage.world.connect(below, above, version, Some(0));
        stage.run(50);
        let (watch, _) = stage.request(above);
        stage.tell(above, |peer| {
            peer.accept(watch);
            peer.session().namespace(watch, namespace("a"), none());
            peer.session().namespace(watch, namespace("b"), none());
        });
        let known = |stage: &mut Stage| {
            stage.world.with(below, |relay: &mut Shards, _| relay.namespaces().len())
        };
        assert_eq!(known(&mut stage), 2, "{version:?}");
        stage.tell(above, |peer| peer.session().cancel(watch, ResetCode::CANCELLED));
        assert_eq!(known(&mut stage), 0, "{version:?}");
    }
}

#[test]
fn what_belongs_to_a_session_is_not_believed_of_another_relay() {
    for version in DRAFTS {
        let mut stage = Stage::new();
        let below = stage.world.add(relay(1));
        let above = stage.world.add(Peer::default());
        stage.world.connect(below, above, version, Some(0));
        stage.run(50);
        let (watch, _) = stage.request(above);
        stage.tell(above, |peer| {
            peer.accept(watch);
            for path in [".session/x", "./x", "live"] {
                peer.session().namespace(watch, namespace(path), none());
            }
        });
        let known = stage.world.with(below, |relay: &mut Shards, _| relay.namespaces());
        assert_eq!(known, [namespace("live")], "{version:?}");
    }
}

/// Where a relay says that it is from now on is told to whoever dials, if that relay was dialled.
#[test]
fn who_was_dialled_may_say_that_it_is_elsewhere() {
    for version in DRAFTS {
        for (target, told) in [(Some(3), true), (None, false)] {
            let mut stage = Stage::new();
            let below = stage.world.add(relay(1));
            let above = stage.world.add(Peer::default());
            stage.world.connect(below, above, version, target);
            stage.run(50);
            stage.tell(above, |peer| {
                peer.session().goaway(Bytes::from_static(b"moqt://elsewhere"), 0);
            });
            let moves = stage.world.with(below, |relay: &mut Shards, _| relay.moves());
            let expected = [(3, Bytes::from_static(b"moqt://elsewhere"))];
            assert_eq!(moves, expected[..usize::from(told)], "{version:?} {target:?}");
        }
    }
}

#[test]
fn a_gap_that_cannot_be_filled_ends_the_subscription() {
    for (version, shard) in drafts_and_shards() {
        let mut mesh = mesh(version, &TWO_UPSTREAMS);
        let publishers = [0, 1].map(|relay| mesh.publisher(relay, version).0);
        let (subscriber, _) = mesh.stage.peer_in_shard_of(mesh.relays[2], shard, version);
        mesh.stage.subscribe(subscriber, "t", none());
        mesh.stage.run(50);
        let (upstream, _) = mesh.stage.request(publishers[0]);
        mesh.stage.tell(publishers[0], |peer| peer.accept_subscribe(upstream, 7, none()));
        mesh.stage.run(50);
        let _told = mesh.stage.take(subscriber);
        mesh.stage.world.kill(mesh.links[0]);
        mesh.stage.run(50);
        mesh.takes_over(publishers[1], at(2, 0));
        let (fetch, ..) = mesh.stage.fetch_request(publishers[1]);
        mesh.stage.tell(publishers[1], |peer| {
            let code = aip_codec::moqt::error_code::RequestCode::NOT_SUPPORTED;
            peer.session().reject_with(fetch, code, "");
        });
        mesh.stage.run(100);
        let told = mesh.stage.take(subscriber);
        assert!(matches!(told.last(), Some(Event::PublishDone { .. })), "{version:?}: {told:?}");
    }
}

#[test]
fn a_drain_does_not_wait_for_what_relays_tell_each_other() {
    for version in DRAFTS {
        let mut mesh = mesh(version, &TWO_UPSTREAMS);
        let (_, _) = mesh.publisher(0, version);
        let (_, link) = mesh.publisher(2, version);
        let drains = mesh.relays[2];
        let is_drained = |mesh: &mut Mesh| {
            mesh.stage.world.with(drains, |relay: &mut Shards, _| relay.is_drained())
        };
        mesh.stage.world.with(drains, |relay: &mut Shards, now| relay.handle_drain(now));
        mesh.stage.run(50);
        assert!(!is_drained(&mut mesh), "{version:?}: its publisher is still there");
        mesh.stage.world.kill(link);
        mesh.stage.run(50);
        assert!(is_drained(&mut mesh), "{version:?}");
    }
}

#[test]
fn what_an_upstream_relay_tells_of_is_bounded_and_counted() {
    for version in DRAFTS {
        let mut stage = Stage::new();
        let mut config = Config::default();
        config.upstream_namespaces_max = 3;
        let above = stage.world.add(relay(1));
        let below = stage.world.add(relay_with(2, config));
        stage.world.connect(below, above, version, Some(0));
        stage.run(50);
        let (publisher, _) = stage.peer_at(above, version);
        for path in ["a", "b", "c", "d", "e"] {
            stage.announce(publisher, path);
        }
        stage.run(50);
        stage.world.with(below, |relay: &mut Shards, _| {
            assert_eq!(relay.namespaces().len(), 3, "{version:?}");
            let ignored = relay.relays().map(|it| it.metrics().counters.namespaces_ignored_total);
            assert_eq!(ignored.sum::<u64>(), 2, "{version:?}");
        });
    }
}

//! Tracks that relays with numbers have and offer: who is asked for them, who is told of them, and
//! what becomes of them when they are not there any more.

use aip_codec::{
    Version,
    aip::hops::RelayId,
    moqt::{
        error_code::{PublishDoneCode, RequestCode, ResetCode},
        id::{RequestId, TrackAlias},
        parameter::Parameter,
        property::Properties,
    },
};
use aip_engine::{
    relay::{Config, Relay},
    session::{self, Event, Request, Response},
};
use aip_tests::sim::{
    NodeId,
    peer::{Peer, Subgroup},
    shards::Shards,
};
use bytes::Bytes;

use super::{
    Stage,
    mesh::{DRAFTS, mesh},
    namespace, none, objects, track, with,
};
use crate::SHARDS;

impl Stage {
    /// A relay that has a number.
    fn numbered(change: impl FnOnce(&mut Config)) -> Self {
        Self::with(super::config(|config| {
            config.session.relay_id = Some(RelayId(1));
            change(config);
        }))
    }

    /// Another relay with a number, played by a bare session that comes to one shard.
    fn neighbour(&mut self, shard: usize, number: u64, version: Version) -> NodeId {
        let mut config = session::Config::default();
        config.relay_id = Some(RelayId(number));
        let peer = self.world.add(Peer::new(config));
        let relay = self.relay;
        self.relay(|relay| relay.send_next_to(shard));
        self.world.connect(peer, relay, version, None);
        self.run(20);
        self.take(peer);
        peer
    }

    fn wants_all(&mut self, peer: NodeId, prefix: &str) -> RequestId {
        let prefix = namespace(prefix);
        self.tell(peer, |peer| peer.session().subscribe_tracks(prefix, none()).unwrap())
    }

    fn publishes(&mut self, peer: NodeId) -> RequestId {
        self.tell(peer, |peer| {
            let (alias, properties) = (TrackAlias(7), Properties::default());
            peer.session().publish(track("t"), alias, none(), properties).unwrap()
        })
    }

    fn rejects(&mut self, peer: NodeId, request: RequestId, code: RequestCode) {
        self.tell(peer, |peer| peer.session().reject_with(request, code, ""));
    }

    /// The SUBSCRIBEs that a peer has got; what else it was asked is forgotten.
    fn subscribes(&mut self, peer: NodeId) -> Vec<RequestId> {
        let requests = self.requests(peer).into_iter();
        let subscribes = requests.filter(|(_, body)| matches!(body, Request::Subscribe(_)));
        subscribes.map(|(request, _)| request).collect()
    }

    /// The PUBLISHes that a peer has got.
    fn publications(&mut self, peer: NodeId) -> Vec<RequestId> {
        let requests = self.requests(peer).into_iter();
        let publications = requests.filter(|(_, body)| matches!(body, Request::Publish(_)));
        publications.map(|(request, _)| request).collect()
    }

    /// A session with a bare peer that a relay has dialled.
    fn dialled(&mut self, version: Version) -> NodeId {
        let (above, relay) = (self.world.add(Peer::default()), self.relay);
        self.world.connect(relay, above, version, Some(0));
        self.run(50);
        self.take(above);
        above
    }
}

fn of_all<N: std::iter::Sum>(relay: &Shards, look: impl Fn(&Relay) -> N) -> N {
    relay.relays().map(look).sum()
}

/// Two relays watch each other's tracks, each for a client. One that offers a track has lost it.
#[test]
fn relays_do_not_ask_each_other_for_ever_for_what_neither_has() {
    for version in DRAFTS {
        for shard in 0..SHARDS {
            let mut mesh = mesh(version, &[(1, 0)]);
            let [above, below] = [mesh.relays[0], mesh.relays[1]];
            let (first, _) = mesh.stage.peer_at(above, version);
            let (second, _) = mesh.stage.peer_in_shard_of(below, shard, version);
            let (source, link) = mesh.stage.peer_at(above, version);
            for sink in [first, second] {
                mesh.stage.wants_all(sink, "live");
            }
            mesh.stage.publishes(source);
            mesh.stage.run(50);
            let [request] = mesh.stage.publications(second)[..] else { panic!("{version:?}") };
            mesh.stage.rejects(second, request, RequestCode::UNINTERESTED);
            mesh.stage.run(60_000);
            mesh.stage.world.kill(link);
            mesh.stage.run(100);
            let subscribes = |stage: &mut Stage| {
                [above, below].map(|node| {
                    stage.world.with(node, |relay: &mut Shards, _| {
                        of_all(relay, |it| it.metrics().requests_received.get("SUBSCRIBE"))
                    })
                })
            };
            let [before, _] = subscribes(&mut mesh.stage);
            let (late, _) = mesh.stage.peer_at(below, version);
            mesh.stage.wants_all(late, "live/room");
            mesh.stage.run(5_000);
            assert_eq!(subscribes(&mut mesh.stage), [before + 1, 0], "{version:?} {shard}");
            let told = mesh.stage.take(late);
            let skipped = told.iter().filter(|event| matches!(event, Event::PublishSkipped { .. }));
            assert_eq!(skipped.count(), 1, "{version:?} {shard}: {told:?}");
        }
    }
}

/// Whoever was to be given the track has gone before it came.
#[test]
fn what_was_asked_for_watchers_that_are_gone_is_left_after_a_while() {
    for version in DRAFTS {
        let mut stage = Stage::new();
        let above = stage.dialled(version);
        let sink = stage.peer(version);
        let watch = stage.wants_all(sink, "live");
        let (asked, _) = stage.request(above);
        stage.tell(above, |peer| {
            peer.accept(asked);
            let name = Bytes::from_static(b"t");
            peer.session().publish_skipped(asked, namespace("room"), name);
        });
        let [subscription] = stage.subscribes(above)[..] else { panic!("{version:?}") };
        stage.tell(sink, |peer| peer.session().cancel(watch, ResetCode::CANCELLED));
        stage.tell(above, |peer| peer.accept_subscribe(subscription, 5, none()));
        stage.run(31_000);
        let told = stage.take(above);
        assert!(told.contains(&Event::Ended { request: subscription }), "{version:?}: {told:?}");
        assert_eq!(stage.counts().1, 0, "{version:?}");
    }
}

#[test]
fn an_offer_does_not_stand_before_who_publishes_the_namespace() {
    for version in DRAFTS {
        let mut stage = Stage::numbered(|_| {});
        let other = stage.neighbour(1, 5, version);
        let offered = stage.publishes(other);
        assert_eq!(stage.refusal(other, offered), "UNINTERESTED", "{version:?}");
        let (publisher, _) = stage.peer_in(2, version);
        stage.announce(publisher, "live");
        stage.take(other);
        let (sink, _) = stage.peer_in(0, version);
        let subscription = stage.subscribe(sink, "t", none());
        assert!(stage.subscribes(other).is_empty(), "{version:?}");
        let [upstream] = stage.subscribes(publisher)[..] else { panic!("{version:?}") };
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        let response = stage.response(sink, subscription);
        assert!(matches!(response, Response::SubscribeOk(_)), "{version:?}: {response:?}");
    }
}

#[test]
fn a_track_that_one_shard_takes_of_a_relay_is_offered_to_the_others() {
    for version in DRAFTS {
        let mut stage = Stage::numbered(|_| {});
        let (sink, _) = stage.peer_in(0, version);
        stage.wants_all(sink, "live");
        let neighbours =
            [(1, 5), (2, 6)].map(|(shard, number)| stage.neighbour(shard, number, version));
        let taken = stage.publishes(neighbours[0]);
        let response = stage.response(neighbours[0], taken);
        assert!(matches!(response, Response::Ok(_)), "{version:?}: {response:?}");
        assert_eq!(stage.publications(sink).len(), 1, "{version:?}");
        let offered = stage.publishes(neighbours[1]);
        assert_eq!(stage.refusal(neighbours[1], offered), "UNINTERESTED", "{version:?}");
        assert!(stage.requests(sink).is_empty(), "{version:?}");
        // It is the one that is asked when the first one has no more.
        stage.tell(neighbours[0], |peer| peer.session().cancel(taken, ResetCode::CANCELLED));
        assert_eq!(stage.subscribes(neighbours[1]).len(), 1, "{version:?}");
    }
}

/// The first of two relays that offer a track does not have it any more.
#[test]
fn the_next_relay_is_asked_for_what_the_first_has_lost() {
    for version in DRAFTS {
        for shard in 0..SHARDS {
            let mut stage = Stage::numbered(|_| {});
            let neighbours = [5, 6].map(|number| stage.neighbour(0, number, version));
            for neighbour in neighbours {
                let offered = stage.publishes(neighbour);
                assert_eq!(stage.refusal(neighbour, offered), "UNINTERESTED", "{version:?}");
            }
            let (sink, _) = stage.peer_in(shard, version);
            let subscription = stage.subscribe(sink, "t", none());
            let [first] = stage.subscribes(neighbours[0])[..] else { panic!("{version:?}") };
            stage.rejects(neighbours[0], first, RequestCode::DOES_NOT_EXIST);
            let [second] = stage.subscribes(neighbours[1])[..] else { panic!("{version:?}") };
            stage.tell(neighbours[1], |peer| peer.accept_subscribe(second, 7, none()));
            let response = stage.response(sink, subscription);
            assert!(matches!(response, Response::SubscribeOk(_)), "{version:?}: {response:?}");
        }
    }
}

#[test]
fn a_relay_is_not_asked_for_its_own_track_on_its_own_behalf() {
    for version in DRAFTS {
        let mut stage = Stage::numbered(|_| {});
        let other = stage.neighbour(0, 5, version);
        stage.wants_all(other, "live");
        let offered = stage.publishes(other);
        assert_eq!(stage.refusal(other, offered), "UNINTERESTED", "{version:?}");
        stage.run(100);
        assert!(stage.requests(other).is_empty(), "{version:?}");
        assert_eq!(stage.counts().1, 0, "{version:?}");
    }
}

#[test]
fn what_belongs_to_a_session_is_not_asked_for_if_a_relay_skips_it() {
    for version in DRAFTS {
        let mut stage = Stage::new();
        let above = stage.dialled(version);
        let sink = stage.peer(version);
        stage.wants_all(sink, "");
        let (asked, _) = stage.request(above);
        stage.tell(above, |peer| {
            peer.accept(asked);
            for path in [".session/x", "./x"] {
                let name = Bytes::from_static(b"t");
                peer.session().publish_skipped(asked, namespace(path), name);
            }
        });
        assert!(stage.requests(above).is_empty(), "{version:?}");
    }
}

/// A relay without a number waits for a track and then publishes it itself.
#[test]
fn who_waits_for_a_track_does_not_give_it_to_others_and_take_it_back() {
    for version in DRAFTS {
        let mut stage = Stage::new();
        let above = stage.dialled(version);
        let patience = || with(Parameter::RendezvousTimeout(5_000));
        let own = stage.subscribe(above, "t", patience());
        let sink = stage.peer(version);
        let subscription = stage.subscribe(sink, "t", patience());
        stage.subscribes(above);
        let published = stage.publishes(above);
        assert_eq!(stage.refusal(above, published), "UNINTERESTED", "{version:?}");
        stage.run(6_000);
        for (peer, request) in [(above, own), (sink, subscription)] {
            assert_eq!(stage.refusal(peer, request), "TIMEOUT", "{version:?}");
        }
        assert_eq!(stage.counts().1, 0, "{version:?}");
    }
}

/// One publisher more or less is nothing new to who has refused the track.
#[test]
fn who_refused_a_track_is_told_of_another_publication_only() {
    for version in DRAFTS {
        for shard in 0..SHARDS {
            let mut stage = Stage::numbered(|_| {});
            let (sink, _) = stage.peer_in(shard, version);
            stage.wants_all(sink, "live");
            let publishers = [0, 1].map(|shard| stage.peer_in(shard, version).0);
            let mut published = Vec::new();
            for publisher in publishers {
                published.push(stage.publishes(publisher));
                let [request] = stage.publications(sink)[..] else { panic!("{version:?}") };
                stage.rejects(sink, request, RequestCode::UNINTERESTED);
            }
            let neighbour = stage.neighbour(2, 5, version);
            let offered = stage.publishes(neighbour);
            assert_eq!(stage.refusal(neighbour, offered), "UNINTERESTED", "{version:?}");
            assert!(stage.publications(sink).is_empty(), "{version:?}: an offer is none");
            stage.tell(publishers[1], |peer| {
                let code = PublishDoneCode::TRACK_ENDED;
                peer.session().publish_done(published[1], code, "");
            });
            assert!(stage.publications(sink).is_empty(), "{version:?}: one less is none");
            stage.publishes(publishers[1]);
            assert_eq!(stage.publications(sink).len(), 1, "{version:?} {shard}");
        }
    }
}

/// A track that is offered in one shard and published in another is one track, with one alias.
#[test]
fn what_is_offered_here_and_published_elsewhere_is_one_track() {
    for version in DRAFTS {
        for shards in [[0, 1], [1, 0]] {
            let mut stage = Stage::numbered(|_| {});
            let neighbour = stage.neighbour(shards[0], 5, version);
            let offered = stage.publishes(neighbour);
            assert_eq!(stage.refusal(neighbour, offered), "UNINTERESTED", "{version:?}");
            let (publisher, link) = stage.peer_in(shards[1], version);
            let published = stage.publishes(publisher);
            let (sink, _) = stage.peer_in(shards[0], version);
            stage.wants_all(sink, "live");
            let [request] = stage.publications(sink)[..] else { panic!("{version:?}") };
            stage.tell(sink, |peer| peer.accept(request));
            stage.tell(publisher, |peer| {
                peer.send_subgroup(published, &Subgroup::new(7, 1), &objects(&["a"]));
            });
            assert_eq!(stage.lines(sink), ["1: 0=a fin"], "{version:?}");
            stage.world.kill(link);
            stage.run(50);
            assert_eq!(stage.subscribes(neighbour).len(), 1, "{version:?}");
        }
    }
}

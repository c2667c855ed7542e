//! Relays that dial relays.

use aip_codec::{
    Version,
    moqt::{
        error_code::{RequestCode, ResetCode},
        parameter::Parameter,
    },
};
use aip_engine::{
    relay::Config,
    session::{Event, Request, Response},
};
use aip_tests::sim::{
    LinkId, NodeId,
    peer::{Peer, Subgroup},
    shards::Shards,
};

use super::{DRAFTS, Stage, at, namespace, none, objects, with};

/// Relays in a row, each of which has dialled the one before it; the stage's relay is the first.
pub(super) struct Chain {
    pub(super) stage: Stage,
    pub(super) relays: Vec<NodeId>,
    links: Vec<LinkId>,
}

pub(super) fn chain(length: usize, version: Version) -> Chain {
    let mut stage = Stage::new();
    let mut relays = vec![stage.relay];
    let mut links = Vec::new();
    for _ in 1..length {
        let relay = stage.world.add(Shards::new(&Config::default(), super::super::SHARDS));
        links.push(stage.world.connect(relay, relays[relays.len() - 1], version, Some(0)));
        relays.push(relay);
    }
    stage.run(50);
    Chain { stage, relays, links }
}

impl Chain {
    fn publisher(&mut self, relay: usize, version: Version) -> (NodeId, LinkId) {
        let (peer, link) = self.stage.peer_at(self.relays[relay], version);
        self.stage.announce(peer, "live");
        self.stage.run(50);
        (peer, link)
    }

    fn counts(&mut self, relay: usize) -> (usize, usize, usize) {
        let relay = self.relays[relay];
        self.stage.world.with(relay, |relay: &mut Shards, _| relay.counts())
    }
}

#[test]
fn tracks_go_through_in_both_directions() {
    for (version, drafts) in DRAFTS
        .into_iter()
        .flat_map(|drafts| [Version::Draft18, Version::Draft22].map(|version| (version, drafts)))
    {
        for length in [2, 3] {
            for (at_relay, from) in [(0, length - 1), (length - 1, 0)] {
                let mut chain = chain(length, version);
                let (publisher, _) = chain.publisher(at_relay, drafts.0);
                let (subscriber, _) = chain.stage.peer_at(chain.relays[from], drafts.1);
                let subscription = chain.stage.subscribe(subscriber, "t", none());
                chain.stage.run(50);
                let (upstream, _) = chain.stage.request(publisher);
                let largest = with(Parameter::LargestObject(at(4, 2)));
                chain.stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, largest));
                chain.stage.run(50);
                let Response::SubscribeOk(ok) = chain.stage.response(subscriber, subscription)
                else {
                    panic!();
                };
                assert_eq!(ok.parameters.largest_object(), Some(at(4, 2)));
                let group = Subgroup::new(7, 5);
                let body = objects(&["a", "b", "c"]);
                chain.stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &body));
                chain.stage.run(50);
                assert_eq!(
                    chain.stage.lines(subscriber),
                    ["5: 0=a 1=b 2=c fin"],
                    "{version:?} {drafts:?} {length} relays from {at_relay}"
                );
                // A fetch of what no relay has goes all the way.
                let fetch = chain.stage.fetch(subscriber, at(4, 0), at(4, u64::MAX), none());
                chain.stage.run(50);
                let (upstream, ..) = chain.stage.fetch_request(publisher);
                let items =
                    [aip_tests::sim::peer::FetchItem::Object(at(4, 2), super::payload("old"))];
                chain.stage.answer_fetch(publisher, upstream, &items);
                chain.stage.run(50);
                assert_eq!(chain.stage.fetched(subscriber, fetch), "4/2=old fin");
            }
        }
    }
}

#[test]
fn namespaces_are_told_through_the_chain() {
    for version in [Version::Draft18, Version::Draft20, Version::Draft22] {
        for (at_relay, from) in [(0, 2), (2, 0), (1, 2), (1, 0)] {
            let mut chain = chain(3, version);
            let (publisher, link) = chain.publisher(at_relay, version);
            let (watcher, _) = chain.stage.peer_at(chain.relays[from], version);
            chain.stage.tell(watcher, |peer| {
                peer.session().subscribe_namespace(namespace("live"), none()).unwrap();
            });
            let told = chain.stage.take(watcher);
            assert!(
                matches!(&told[..], [Event::Response { .. }, Event::Namespace { .. }]),
                "{version:?} {at_relay} {from}: {told:?}"
            );
            chain.stage.world.kill(link);
            chain.stage.run(100);
            let told = chain.stage.take(watcher);
            assert!(
                matches!(&told[..], [Event::NamespaceDone { .. }]),
                "{version:?} {at_relay} {from}: {told:?}"
            );
            for relay in 0..3 {
                assert_eq!(chain.counts(relay).2, 0, "{version:?} {at_relay} relay {relay}");
            }
            let _ = publisher;
        }
    }
}

#[test]
fn a_lost_publisher_leaves_no_loop() {
    for version in [Version::Draft18, Version::Draft20, Version::Draft22] {
        // Subscribers at every relay, so that each of two neighbours could be the other's source.
        for at_relay in [0, 1, 2] {
            let mut chain = chain(3, version);
            let (publisher, link) = chain.publisher(at_relay, version);
            let subscribers: Vec<NodeId> = (0..3)
                .map(|relay| {
                    let (peer, _) = chain.stage.peer_at(chain.relays[relay], version);
                    chain.stage.subscribe(peer, "t", none());
                    chain.stage.run(50);
                    for (upstream, body) in chain.stage.requests(publisher) {
                        assert!(matches!(body, Request::Subscribe(_)));
                        chain.stage.tell(publisher, |peer| {
                            peer.accept_subscribe(upstream, 7, none());
                        });
                    }
                    chain.stage.run(50);
                    peer
                })
                .collect();
            for &subscriber in &subscribers {
                let told = chain.stage.take(subscriber);
                assert!(matches!(told[..], [Event::Response { .. }]), "{told:?}");
            }
            chain.stage.world.kill(link);
            chain.stage.run(500);
            for (relay, subscriber) in subscribers.into_iter().enumerate() {
                let told = chain.stage.take(subscriber);
                assert!(
                    matches!(told[..], [Event::PublishDone { .. }]),
                    "{version:?} publisher at {at_relay}, subscriber at {relay}: {told:?}"
                );
                assert_eq!(chain.counts(relay).1, 0, "{version:?} relay {relay}");
            }
        }
    }
}

#[test]
fn two_relays_do_not_keep_a_track_alive_between_them() {
    for version in [Version::Draft18, Version::Draft20, Version::Draft22] {
        for first_dies_first in [true, false] {
            let mut chain = chain(2, version);
            let (above, link_above) = chain.publisher(0, version);
            let (subscriber, _) = chain.stage.peer_at(chain.relays[1], version);
            chain.stage.subscribe(subscriber, "t", none());
            let accept = |chain: &mut Chain, publisher| {
                chain.stage.run(50);
                for (upstream, _) in chain.stage.requests(publisher) {
                    chain.stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
                }
                chain.stage.run(50);
            };
            accept(&mut chain, above);
            // A second publisher comes, below: the relay above subscribes there, too, though all
            // that want the track of it are below themselves.
            let (below, link_below) = chain.publisher(1, version);
            accept(&mut chain, below);
            let links =
                if first_dies_first { [link_above, link_below] } else { [link_below, link_above] };
            for link in links {
                chain.stage.world.kill(link);
                chain.stage.run(50);
            }
            chain.stage.run(70_000);
            let told = chain.stage.take(subscriber);
            assert!(
                matches!(told.last(), Some(Event::PublishDone { .. })),
                "{version:?} {first_dies_first}: {told:?}"
            );
            for relay in 0..2 {
                assert_eq!(chain.counts(relay).1, 0, "{version:?} {first_dies_first} {relay}");
            }
        }
    }
}

#[test]
fn a_lost_link_ends_what_went_over_it_and_a_new_one_serves_again() {
    for version in [Version::Draft18, Version::Draft22] {
        for (at_relay, from) in [(0, 1), (1, 0)] {
            let mut chain = chain(2, version);
            let (publisher, _) = chain.publisher(at_relay, version);
            let (subscriber, _) = chain.stage.peer_at(chain.relays[from], version);
            let subscribe = |chain: &mut Chain| {
                chain.stage.subscribe(subscriber, "t", none());
                chain.stage.run(50);
                for (upstream, _) in chain.stage.requests(publisher) {
                    chain.stage.tell(publisher, |peer| {
                        peer.accept_subscribe(upstream, 7, none());
                    });
                }
                chain.stage.run(50);
                chain.stage.take(subscriber)
            };
            let told = subscribe(&mut chain);
            assert!(matches!(told[..], [Event::Response { .. }]), "{told:?}");
            chain.stage.world.kill(chain.links[0]);
            chain.stage.run(50);
            let told = chain.stage.take(subscriber);
            assert!(matches!(told[..], [Event::PublishDone { .. }]), "{version:?}: {told:?}");
            let (dialler, dialled) = (chain.relays[1], chain.relays[0]);
            chain.stage.world.connect(dialler, dialled, version, Some(0));
            chain.stage.run(50);
            let told = subscribe(&mut chain);
            assert!(
                matches!(told[..], [Event::Response { body: Response::SubscribeOk(_), .. }]),
                "{version:?} publisher at {at_relay}: {told:?}"
            );
        }
    }
}

#[test]
fn a_chain_forgets_what_nobody_wants() {
    for version in [Version::Draft18, Version::Draft22] {
        for (at_relay, from) in [(0, 2), (2, 0)] {
            let mut chain = chain(3, version);
            let (publisher, link) = chain.publisher(at_relay, version);
            let (subscriber, _) = chain.stage.peer_at(chain.relays[from], version);
            let subscription = chain.stage.subscribe(subscriber, "t", none());
            chain.stage.run(50);
            let (upstream, _) = chain.stage.request(publisher);
            chain.stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
            chain.stage.run(50);
            chain.stage.tell(subscriber, |peer| {
                peer.session().cancel(subscription, ResetCode::CANCELLED);
            });
            // Each relay lingers 30 s after the one behind it.
            chain.stage.run(95_000);
            let told = chain.stage.take(publisher);
            assert!(told.contains(&Event::Ended { request: upstream }), "{version:?}: {told:?}");
            chain.stage.world.kill(link);
            chain.stage.run(50);
            for relay in 0..3 {
                let (_, tracks, namespaces) = chain.counts(relay);
                assert_eq!((tracks, namespaces), (0, 0), "{version:?} relay {relay}");
            }
        }
    }
}

#[test]
fn a_rendezvous_waits_across_relays() {
    for version in [Version::Draft18, Version::Draft22] {
        for (at_relay, from) in [(0, 2), (2, 0)] {
            let mut chain = chain(3, version);
            let (subscriber, _) = chain.stage.peer_at(chain.relays[from], version);
            let patience = with(Parameter::RendezvousTimeout(10_000));
            let subscription = chain.stage.subscribe(subscriber, "t", patience);
            chain.stage.run(3_000);
            assert!(chain.stage.take(subscriber).is_empty(), "{version:?} {at_relay}");
            let (publisher, _) = chain.publisher(at_relay, version);
            chain.stage.run(50);
            let (upstream, _) = chain.stage.request(publisher);
            chain.stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
            chain.stage.run(50);
            let response = chain.stage.response(subscriber, subscription);
            assert!(matches!(response, Response::SubscribeOk(_)), "{version:?}: {response:?}");
        }
    }
}

/// A relay above that has no number is asked for a track, and asks for it as soon as it hears of a
/// publisher: it has it of nobody else.
#[test]
fn two_relays_do_not_wait_for_each_other() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let above = stage.world.add(Peer::default());
        stage.world.connect(stage.relay, above, drafts.0, Some(0));
        stage.run(20);
        stage.requests(above);
        let subscriber = stage.peer(drafts.1);
        let subscription = stage.subscribe(subscriber, "t", none());
        let (asked, _) = stage.request(above);
        let publisher = stage.publisher(drafts.0, "live");
        let back = stage.subscribe(above, "t", none());
        let (upstream, _) = stage.request(publisher);
        let code = RequestCode::DOES_NOT_EXIST;
        stage.tell(publisher, |peer| peer.session().reject_with(upstream, code, ""));
        assert_eq!(stage.refusal(above, back), "DOES_NOT_EXIST", "{drafts:?}");
        stage.tell(above, |peer| peer.session().reject_with(asked, code, ""));
        assert_eq!(stage.refusal(subscriber, subscription), "DOES_NOT_EXIST", "{drafts:?}");
    }
}

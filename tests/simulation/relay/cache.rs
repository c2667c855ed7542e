//! What a relay keeps, and for how long.

use std::time::Duration;

use aip_codec::{
    Version,
    moqt::{
        error_code::{PublishDoneCode, ResetCode},
        id::TrackAlias,
        parameter::Parameter,
        property::{MAX_CACHE_DURATION, Properties},
    },
};
use aip_engine::{relay::Config, session::Event};
use aip_tests::sim::{
    peer::{FetchItem, Subgroup},
    shards::Shards,
};
use bytes::Bytes;

use super::{DRAFTS, Live, Stage, at, config, none, objects, payload, with};
use crate::SHARDS;

/// Time in which a relay was stopped does not pass for it, but for what it holds.
#[test]
fn a_tracks_own_limit_of_age_counts_time_that_the_relay_lost() {
    let mut stage = Stage::new();
    let publisher = stage.publisher(Version::Draft22, "live");
    let subscriber = stage.peer(Version::Draft22);
    stage.subscribe(subscriber, "t", none());
    let (upstream, _) = stage.request(publisher);
    let lives = Properties::builder().integer(MAX_CACHE_DURATION, 2_000).build().unwrap();
    stage.tell(publisher, |peer| {
        peer.session().accept_subscribe(upstream, TrackAlias(7), none(), lives);
    });
    let group = Subgroup::new(7, 1);
    stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a"])));
    stage.run(500);
    stage.take(subscriber);
    let relay = stage.relay;
    stage.world.with(relay, |relay: &mut Shards, now| {
        relay.handle_time_lost(Duration::from_secs(20), now);
    });
    stage.fetch(subscriber, at(1, 0), at(1, 0), none());
    stage.fetch_request(publisher);
}

#[test]
fn a_tracks_own_limit_of_age_is_kept() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let subscriber = stage.peer(drafts.1);
        stage.subscribe(subscriber, "t", none());
        let (upstream, _) = stage.request(publisher);
        let lives = Properties::builder().integer(MAX_CACHE_DURATION, 2_000).build().unwrap();
        stage.tell(publisher, |peer| {
            peer.session().accept_subscribe(upstream, TrackAlias(7), none(), lives);
        });
        let group = Subgroup::new(7, 1);
        stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["a", "b"])));
        stage.run(1_500);
        stage.take(subscriber);
        let fetch = stage.fetch(subscriber, at(1, 0), at(1, 1), none());
        assert_eq!(stage.fetched(subscriber, fetch), "1/0=a 1/1=b fin", "{drafts:?}");
        stage.run(1_000);
        // Now nothing is known of it: the publisher is asked, who has b no more.
        let fetch = stage.fetch(subscriber, at(1, 0), at(1, 1), none());
        let (upstream_fetch, ..) = stage.fetch_request(publisher);
        let items = [FetchItem::Object(at(1, 0), payload("a"))];
        stage.answer_fetch(publisher, upstream_fetch, &items);
        assert_eq!(stage.fetched(subscriber, fetch), "1/0=a fin", "{drafts:?}");
        stage.run(2_500);
        let none_left = with(Parameter::FillTimeout(0));
        let fetch = stage.fetch(subscriber, at(1, 0), at(1, 1), none_left);
        let line = stage.fetched(subscriber, fetch);
        assert!(line.ends_with("..1/1 fin"), "{drafts:?}: {line}");
    }
}

#[test]
fn memory_is_bounded_by_bytes() {
    let config = config(|config| {
        config.cache_bytes_max = 1_000_000 * SHARDS;
    });
    for drafts in DRAFTS {
        let mut stage = Stage::with(config.clone());
        let publisher = stage.publisher(drafts.0, "live");
        let subscriber = stage.peer(drafts.1);
        stage.subscribe(subscriber, "t", none());
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        for group in 0..50 {
            let object = vec![(0, Bytes::from(vec![7; 100_000]))];
            let group = Subgroup::new(7, group);
            stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &object));
            let cached = stage.relay(|relay| relay.cached_bytes());
            assert!(cached <= 1_200_000, "{drafts:?}: {cached}");
        }
        // The newest are there.
        stage.take(subscriber);
        let fetch = stage.fetch(subscriber, at(45, 0), at(49, 0), none());
        let line = stage.fetched(subscriber, fetch);
        assert!(line.starts_with("45/0=") && line.ends_with("fin"));
        // The oldest are asked for.
        stage.fetch(subscriber, at(0, 0), at(0, 0), none());
        assert_eq!(stage.requests(publisher).len(), 1, "{drafts:?}");
    }
}

#[test]
fn memory_is_bounded_by_groups_and_by_age() {
    let config = config(|config| {
        config.cache_groups_max = 10;
        config.cache_age_max = Duration::from_secs(20);
    });
    for drafts in DRAFTS {
        let mut stage = Stage::with(config.clone());
        let publisher = stage.publisher(drafts.0, "live");
        let subscriber = stage.peer(drafts.1);
        stage.subscribe(subscriber, "t", none());
        let (upstream, _) = stage.request(publisher);
        stage.tell(publisher, |peer| peer.accept_subscribe(upstream, 7, none()));
        for group in 0..30 {
            let group = Subgroup::new(7, group);
            stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &objects(&["x"])));
        }
        let cached = stage.relay(|relay| relay.cached_bytes());
        assert!((10..=10 * 1_500).contains(&cached), "{drafts:?}: {cached}");
        assert_eq!(stage.relay(|relay| relay.cached_groups()), 10);
        stage.run(25_000);
        let cached = stage.relay(|relay| relay.cached_bytes());
        assert!((1..=1_500).contains(&cached), "the newest is kept: {drafts:?}: {cached}");
        stage.take(subscriber);
        let fetch = stage.fetch(subscriber, at(29, 0), at(29, 0), none());
        assert_eq!(stage.fetched(subscriber, fetch), "29/0=x fin");
    }
}

/// A relay with these limits, a publisher of track `t` and a subscriber.
fn live(drafts: (Version, Version), change: impl FnOnce(&mut Config)) -> Live {
    let live = Stage::live_with(config(change), drafts, none());
    assert_eq!(live.stage.world.faults, []);
    live
}

#[test]
fn what_many_groups_cost_is_bounded() {
    let drafts = (Version::Draft22, Version::Draft22);
    let mut live = live(drafts, |config| config.cache_groups_max = 20);
    for group in 0..2_000 {
        live.group(group, &["x"]);
        live.stage.take(live.subscriber);
    }
    let (bytes, groups) = live.stage.relay(|relay| (relay.cached_bytes(), relay.cached_groups()));
    assert_eq!(groups, 20, "nothing is remembered of those that are gone");
    assert!(bytes <= 20 * 1_500, "{bytes}");
}

#[test]
fn an_endless_group_is_bounded() {
    for drafts in DRAFTS {
        let mut live = live(drafts, |config| config.cache_bytes_max = 500_000 * SHARDS);
        let mut writer = live.open(&Subgroup::new(7, 1));
        for object in 0..200 {
            let bytes = Bytes::from(vec![7; 20_000]);
            live.stage.tell(live.publisher, |peer| writer.object(peer.session(), object, bytes));
            let cached = live.stage.relay(|relay| relay.cached_bytes());
            assert!(cached <= 500_000, "{drafts:?}: {cached}");
        }
        live.finish(&writer);
        assert_eq!(live.heard().join("").matches('=').count(), 200, "all of it went on");
        // The newest are here, of the oldest nothing is known: the publisher is asked.
        let fetch = live.stage.fetch(live.subscriber, at(1, 190), at(1, 199), none());
        let line = live.stage.fetched(live.subscriber, fetch);
        assert_eq!(line.matches('=').count(), 10, "{drafts:?}");
        live.stage.fetch(live.subscriber, at(1, 0), at(1, 1), none());
        assert_eq!(live.stage.requests(live.publisher).len(), 1, "{drafts:?}");
    }
}

#[test]
fn one_budget_serves_all_tracks_and_their_newest_groups_last() {
    for drafts in DRAFTS {
        let mut stage = Stage::with(config(|config| config.cache_bytes_max = 600_000 * SHARDS));
        let publisher = stage.publisher(drafts.0, "live");
        let subscriber = stage.peer(drafts.1);
        for track in 0..10_u64 {
            stage.subscribe(subscriber, &track.to_string(), none());
            let (upstream, _) = stage.request(publisher);
            stage.tell(publisher, |peer| peer.accept_subscribe(upstream, track, none()));
            for group in 0..5 {
                let object = vec![(0, Bytes::from(vec![7; 50_000]))];
                let group = Subgroup::new(track, group);
                stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &object));
            }
            let cached = stage.relay(|relay| relay.cached_bytes());
            assert!(cached <= 600_000, "{drafts:?}: {cached}");
        }
        stage.take(subscriber);
        // Each track's newest group is here, also the one that came first of all.
        for name in 0..10_u64 {
            let fetch = stage.tell(subscriber, |peer| {
                let (name, newest) = (super::track(&name.to_string()), at(4, 0));
                peer.session().fetch_range(name, newest, newest, none()).unwrap()
            });
            let line = stage.fetched(subscriber, fetch);
            assert!(line.starts_with("4/0=") && line.ends_with("fin"), "{drafts:?}: {name}");
        }
        assert!(stage.requests(publisher).is_empty(), "{drafts:?}");
    }
}

#[test]
fn newest_groups_that_are_too_much_go_too() {
    for drafts in DRAFTS {
        let mut stage = Stage::with(config(|config| config.cache_bytes_max = 200_000));
        let publisher = stage.publisher(drafts.0, "live");
        let subscriber = stage.peer(drafts.1);
        for track in 0..10_u64 {
            stage.subscribe(subscriber, &track.to_string(), none());
            let (upstream, _) = stage.request(publisher);
            stage.tell(publisher, |peer| peer.accept_subscribe(upstream, track, none()));
            let object = vec![(0, Bytes::from(vec![7; 50_000]))];
            let group = Subgroup::new(track, 0);
            stage.tell(publisher, |peer| peer.send_subgroup(upstream, &group, &object));
            let cached = stage.relay(|relay| relay.cached_bytes());
            assert!(cached <= 200_000, "{drafts:?}: {cached}");
        }
        assert_eq!(stage.lines(subscriber).len(), 10, "{drafts:?}");
    }
}

#[test]
fn memory_is_given_back_when_nobody_holds_a_track() {
    for drafts in DRAFTS {
        let mut live = live(drafts, |_| {});
        for group in 0..10 {
            live.group(group, &["some", "bytes"]);
        }
        let fetch = live.stage.fetch(live.subscriber, at(0, 0), at(9, 1), none());
        assert!(live.stage.fetched(live.subscriber, fetch).ends_with("fin"));
        let subscription = live.subscription;
        live.stage.tell(live.subscriber, |peer| {
            peer.session().cancel(subscription, ResetCode::CANCELLED);
        });
        assert!(0 < live.stage.relay(|relay| relay.cached_bytes()), "it lingers");
        live.stage.run(31_000);
        let held = live
            .stage
            .relay(|relay| (relay.cached_bytes(), relay.cached_groups(), relay.counts().1));
        assert_eq!(held, (0, 0, 0), "{drafts:?}");
    }
}

#[test]
fn old_groups_can_be_fetched_through_a_full_cache() {
    for drafts in DRAFTS {
        let mut live = live(drafts, |config| config.cache_groups_max = 3);
        for group in 20..25 {
            live.group(group, &["new"]);
        }
        live.heard();
        let fetch = live.stage.fetch(live.subscriber, at(0, 0), at(9, 0), none());
        let (upstream, ..) = live.stage.fetch_request(live.publisher);
        let items: Vec<_> =
            (0..10).map(|group| FetchItem::Object(at(group, 0), payload("old"))).collect();
        live.stage.answer_fetch(live.publisher, upstream, &items);
        let line = live.stage.fetched(live.subscriber, fetch);
        assert_eq!(line.matches("=old").count(), 10, "{drafts:?}: {line}");
        assert!(line.ends_with("fin"), "{drafts:?}: {line}");
        assert!(live.stage.requests(live.publisher).is_empty(), "{drafts:?}");
    }
}

#[test]
fn what_cannot_be_kept_is_not_fetched_for_ever() {
    for drafts in DRAFTS {
        let mut live = live(drafts, |config| config.cache_bytes_max = 10_000);
        live.group(5, &["a"]);
        live.heard();
        let fetch = live.stage.fetch(live.subscriber, at(2, 0), at(5, 0), none());
        let mut asked = 0;
        let large = || {
            let object = FetchItem::Object(at(2, 0), Bytes::from(vec![7; 50_000]));
            [object, FetchItem::Object(at(5, 0), payload("a"))]
        };
        while let Some((upstream, _)) = live.stage.requests(live.publisher).pop() {
            asked += 1;
            assert!(asked < 10, "{drafts:?}");
            live.stage.answer_fetch(live.publisher, upstream, &large());
        }
        let line = live.stage.fetched(live.subscriber, fetch);
        assert!(line.starts_with("Unknown..2/0") && line.ends_with("5/0=a fin"), "{line}");
    }
}

#[test]
fn what_may_not_be_kept_at_all_is_passed_on_once() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.publisher(drafts.0, "live");
        let subscriber = stage.peer(drafts.1);
        stage.subscribe(subscriber, "t", none());
        let (upstream, _) = stage.request(publisher);
        let never = Properties::builder().integer(MAX_CACHE_DURATION, 0).build().unwrap();
        stage.tell(publisher, |peer| {
            let largest = with(Parameter::LargestObject(at(1, 0)));
            peer.session().accept_subscribe(upstream, TrackAlias(7), largest, never);
        });
        for _ in 0..2 {
            stage.take(subscriber);
            let fetch = stage.fetch(subscriber, at(1, 0), at(1, 0), none());
            let (upstream, ..) = stage.fetch_request(publisher);
            let stream = stage.tell(publisher, |peer| {
                let session = peer.session();
                session.accept_fetch(upstream, false, at(1, 0), Properties::default());
                let stream = session.open_fetch(upstream, 9).unwrap();
                session.send(stream, Bytes::from_static(&[0x1c, 1, 0, 128, 4, b'h', b'a']), false);
                stream
            });
            stage.tell(publisher, |peer| {
                peer.session().send(stream, Bytes::from_static(b"lf"), true);
            });
            assert_eq!(stage.fetched(subscriber, fetch), "1/0=half fin", "{drafts:?}");
        }
    }
}

#[test]
fn a_fetch_does_not_poison_the_cache() {
    for drafts in DRAFTS {
        // The first bytes are here; a FETCH brings others, at once or in a later piece.
        for pieces in [&[&b"fals"[..]][..], &[&b"tr"[..], &b"ap"[..]][..]] {
            let mut live = live(drafts, |_| {});
            live.group(5, &["true"]);
            live.heard();
            let fetch = live.stage.fetch(live.subscriber, at(4, 0), at(5, 0), none());
            let (upstream, ..) = live.stage.fetch_request(live.publisher);
            live.stage.tell(live.publisher, |peer| {
                let session = peer.session();
                session.accept_fetch(upstream, false, at(5, 0), Properties::default());
                let stream = session.open_fetch(upstream, 9).unwrap();
                session.send(stream, Bytes::from_static(&[0x1c, 5, 0, 128, 4]), false);
                for piece in pieces {
                    session.send(stream, Bytes::from_static(piece), false);
                }
            });
            let told = live.stage.take(live.subscriber);
            let line = aip_tests::sim::heard::fetched_line(&told, fetch);
            assert!(!line.contains("fals") && !line.contains("trap"), "{drafts:?}: {line}");
            let is_done = |event: &Event| {
                matches!(event, Event::PublishDone { body, .. }
                    if body.code == PublishDoneCode::MALFORMED_TRACK)
            };
            assert!(told.iter().any(is_done), "{drafts:?}: {told:?}");
        }
    }
}

#[test]
fn tracks_are_bounded() {
    let config = config(|config| {
        config.tracks_max = 2;
        config.session_waiting_max = 2;
    });
    for drafts in DRAFTS {
        let mut stage = Stage::with(config.clone());
        let peer = stage.peer(drafts.1);
        let patience = || with(Parameter::RendezvousTimeout(9_000));
        stage.subscribe(peer, "a", patience());
        stage.subscribe(peer, "b", patience());
        let third = stage.subscribe(peer, "c", patience());
        assert_eq!(stage.refusal(peer, third), "EXCESSIVE_LOAD", "{drafts:?}");
        let other = stage.peer(drafts.1);
        let fourth = stage.subscribe(other, "a", patience());
        let fifth = stage.subscribe(other, "d", patience());
        assert_eq!(stage.refusal(other, fifth), "EXCESSIVE_LOAD", "{drafts:?}");
        stage.run(9_100);
        assert_eq!(stage.refusal(other, fourth), "TIMEOUT");
        assert_eq!(stage.counts().1, 0);
    }
}

#[test]
fn a_copy_of_what_was_sent_and_forgotten_is_not_sent_again() {
    for drafts in DRAFTS {
        let mut live = live(drafts, |config| config.cache_groups_max = 3);
        let second = live.stage.publisher(drafts.0, "live/room");
        let (upstream, _) = live.stage.request(second);
        live.stage.tell(second, |peer| peer.accept_subscribe(upstream, 3, none()));
        for group in 0..12 {
            live.group(group, &["a", "b"]);
        }
        // Of one nothing has said how far it goes.
        let begun = Subgroup { end_of_group: false, ..Subgroup::new(7, 12) };
        live.subgroup(&begun, &[(0, payload("a")), (1, payload("b"))]);
        for group in 13..17 {
            live.group(group, &["a", "b"]);
        }
        assert_eq!(live.heard().len(), 17, "{drafts:?}");
        for group in [0, 5, 11] {
            let copy = Subgroup::new(3, group);
            live.stage.tell(second, |peer| {
                peer.send_subgroup(upstream, &copy, &objects(&["a", "b"]));
            });
        }
        assert_eq!(live.heard(), Vec::<String>::new(), "{drafts:?}");
        // What the first one did not send is new, however late.
        let copy = Subgroup { alias: 3, ..begun };
        live.stage.tell(second, |peer| {
            peer.send_subgroup(upstream, &copy, &objects(&["a", "b", "c"]));
        });
        assert_eq!(live.heard(), ["12: 2=c fin"], "{drafts:?}");
    }
}

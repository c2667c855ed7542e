//! What a relay keeps, and for how long.

use std::time::Duration;

use aip_codec::moqt::{
    id::TrackAlias,
    parameter::Parameter,
    property::{MAX_CACHE_DURATION, Properties},
};
use aip_tests::sim::peer::{FetchItem, Subgroup};
use bytes::Bytes;

use super::{DRAFTS, Stage, at, none, objects, payload, with};

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
    let config = super::config(|config| {
        config.cache_bytes_max = 1_000_000;
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
    let config = super::config(|config| {
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
        assert!((10..=10 * 200).contains(&cached), "{drafts:?}: {cached}");
        stage.run(25_000);
        let cached = stage.relay(|relay| relay.cached_bytes());
        assert!((1..=200).contains(&cached), "the newest is kept: {drafts:?}: {cached}");
        stage.take(subscriber);
        let fetch = stage.fetch(subscriber, at(29, 0), at(29, 0), none());
        assert_eq!(stage.fetched(subscriber, fetch), "29/0=x fin");
    }
}

#[test]
fn tracks_are_bounded() {
    let config = super::config(|config| {
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

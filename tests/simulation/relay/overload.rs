//! Slow subscribers, late objects, too many requests: who is told, and who notices nothing.

use aip_codec::{
    Version,
    moqt::{
        error_code::{PublishDoneCode, RequestCode, ResetCode},
        location::Location,
        parameter::Parameter,
    },
};
use aip_engine::{
    relay::Rate,
    session::{Event, Request, Response, StreamEnd},
};
use aip_tests::sim::{
    NodeId, heard,
    peer::{Peer, Subgroup},
    shards::Shards,
};
use bytes::Bytes;

use super::{DRAFTS, Live, Stage, at, config, none, objects, track, with};

fn stall(stage: &mut Stage, peer: NodeId, stalled: bool) {
    stage.world.with(peer, |peer: &mut Peer, _| peer.stall(stalled));
    stage.run(20);
}

/// The code of the last PUBLISH_DONE that was told.
fn done(told: &[Event]) -> Option<PublishDoneCode> {
    told.iter().rev().find_map(|event| match event {
        Event::PublishDone { body, .. } => Some(body.code),
        _ => None,
    })
}

#[test]
fn who_stands_still_is_told_in_time_and_goes_on_by_fetch_without_a_gap() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let (quick, _) = live.stage.join(drafts.1, none());
        live.group(1, &["a", "b"]);
        assert_eq!(live.heard(), ["1: 0=a 1=b fin"], "{drafts:?}");
        let slow = live.subscriber;
        stall(&mut live.stage, slow, true);
        live.group(2, &["c", "d"]);
        let mut waited = 0;
        let told = loop {
            live.stage.run(100);
            waited += 100;
            let told = live.stage.take(slow);
            if done(&told).is_some() {
                break told;
            }
            assert!(waited <= 10_000, "{drafts:?}: not told within 10 s");
        };
        assert_eq!(done(&told), Some(PublishDoneCode::TOO_FAR_BEHIND), "{drafts:?}");
        live.group(3, &["e"]);
        stall(&mut live.stage, slow, false);
        // It has all of group 1: what follows is fetched, and what comes after that is subscribed.
        let again = live.stage.subscribe(slow, "t", none());
        let told = live.stage.take(slow);
        let largest = told.iter().find_map(|event| match event {
            Event::Response { request, body: Response::SubscribeOk(ok) } if *request == again => {
                ok.parameters.largest_object()
            }
            _ => None,
        });
        assert_eq!(largest, Some(at(3, 0)), "{drafts:?}: {told:?}");
        let fetch = live.stage.fetch(slow, at(2, 0), Location::new(3, 0), none());
        let fetched = live.stage.fetched(slow, fetch);
        for object in ["2/0=c", "2/1=d", "3/0=e"] {
            assert!(fetched.contains(object), "{drafts:?}: {fetched}");
        }
        live.group(4, &["f"]);
        assert_eq!(live.heard(), ["4: 0=f fin"], "{drafts:?}");
        let all = ["1: 0=a 1=b fin", "2: 0=c 1=d fin", "3: 0=e fin", "4: 0=f fin"];
        assert_eq!(live.stage.lines(quick), all, "{drafts:?}: others notice nothing");
    }
}

#[test]
fn late_objects_are_reset_and_the_next_group_flows() {
    for drafts in DRAFTS {
        let timeout = with(Parameter::ObjectDeliveryTimeout(200));
        let mut live = Stage::live(drafts, timeout);
        let slow = live.subscriber;
        let mut writer = live.open(&Subgroup::new(7, 1));
        live.object(&mut writer, 0, "in time");
        live.stage.take(slow);
        stall(&mut live.stage, slow, true);
        // Which pauses the stream as soon as something of it comes; the rest waits.
        for object in 1..4 {
            live.object(&mut writer, object, "late");
        }
        live.stage.run(300);
        stall(&mut live.stage, slow, false);
        live.object(&mut writer, 4, "later");
        live.finish(&writer);
        live.group(2, &["next"]);
        let told = live.stage.take(slow);
        let ends: Vec<StreamEnd> = told
            .iter()
            .filter_map(|event| match event {
                Event::SubgroupEnded { end, .. } => Some(*end),
                _ => None,
            })
            .collect();
        let late = StreamEnd::Reset(ResetCode::DELIVERY_TIMEOUT);
        assert_eq!(ends, [late, StreamEnd::Fin], "{drafts:?}: {told:?}");
        let streams = told.iter().filter(|told| matches!(told, Event::SubgroupOpened { .. }));
        assert_eq!(streams.count(), 1, "{drafts:?}: not opened again");
        let text = format!("{told:?}");
        assert!(!text.contains("later"), "{drafts:?}: late bytes: {text}");
        assert!(done(&told).is_none(), "{drafts:?}: a timed track goes on");
    }
}

#[test]
fn a_subgroup_that_takes_too_long_after_its_end_is_reset() {
    for drafts in DRAFTS {
        let timeout = with(Parameter::SubgroupDeliveryTimeout(200));
        let mut live = Stage::live(drafts, timeout);
        let slow = live.subscriber;
        stall(&mut live.stage, slow, true);
        live.subgroup(&Subgroup::new(7, 1), &objects(&["a", "b", "c"]));
        live.stage.run(300);
        stall(&mut live.stage, slow, false);
        let told = live.stage.take(slow);
        let late = StreamEnd::Reset(ResetCode::DELIVERY_TIMEOUT);
        assert!(
            matches!(told.last(), Some(Event::SubgroupEnded { end, .. }) if *end == late),
            "{drafts:?}: {told:?}"
        );
        live.group(2, &["next"]);
        assert_eq!(live.heard(), ["2: 0=next fin"], "{drafts:?}");
    }
}

/// Lets the publisher send groups of 100,000 bytes.
fn send_groups(live: &mut Live, groups: std::ops::Range<u64>) {
    for group in groups {
        live.subgroup(&Subgroup::new(7, group), &[(0, Bytes::from(vec![7; 100_000]))]);
    }
}

#[test]
fn the_relays_limit_holds_and_only_the_slow_pay_for_it() {
    let config = config(|config| config.queued_bytes_max = 1_000_000);
    let drafts = (Version::Draft22, Version::Draft22);
    let mut live = Stage::live_with(config, drafts, none());
    let slow: Vec<NodeId> = (0..5).map(|_| live.stage.join(drafts.1, none()).0).collect();
    for peer in &slow {
        live.stage.take(*peer);
        stall(&mut live.stage, *peer, true);
    }
    for group in 0..10 {
        send_groups(&mut live, group..group + 1);
        let queued = live.stage.relay(|relay| relay.load().queued.total());
        assert!(queued <= 1_000_000, "{queued} bytes wait");
    }
    assert_eq!(live.heard().len(), 10);
    let ended = live.stage.relay(|relay| relay.load().subscriptions_behind_total);
    assert!((3..=5).contains(&ended), "{ended}");
    live.stage.run(1_000);
    let told = slow
        .iter()
        .filter(|peer| done(&live.stage.take(**peer)) == Some(PublishDoneCode::TOO_FAR_BEHIND));
    assert_eq!(told.count() as u64, ended);
}

#[test]
fn a_sessions_and_an_identitys_limit_hold() {
    for of_identity in [false, true] {
        let config = config(|config| {
            let limit = 350_000;
            if of_identity {
                config.identity_queued_bytes_max = limit;
            } else {
                config.session_queued_bytes_max = limit;
            }
        });
        let drafts = (Version::Draft22, Version::Draft22);
        let mut live = Stage::live_with(config, drafts, none());
        let slow = live.subscriber;
        stall(&mut live.stage, slow, true);
        send_groups(&mut live, 0..3);
        assert_eq!(done(&live.stage.take(slow)), None);
        send_groups(&mut live, 3..5);
        // Its last word waits for streams that were given up before they were begun.
        live.stage.run(10_000);
        let told = live.stage.take(slow);
        assert_eq!(done(&told), Some(PublishDoneCode::TOO_FAR_BEHIND), "{told:?}");
    }
}

#[test]
fn too_many_requests_are_refused_and_told_when_to_come_again() {
    for drafts in DRAFTS {
        let config = config(|config| {
            config.session_request_rate = Rate { per_second: 10, burst: 20 };
        });
        let mut stage = Stage::with(config);
        let flooder = stage.peer(drafts.1);
        let requests = stage.tell(flooder, |peer| {
            let ask = |_| peer.session().subscribe(track("nothing"), none());
            (0..30).map(ask).collect::<Result<Vec<_>, _>>().unwrap()
        });
        let told = stage.take(flooder);
        let refused: Vec<u64> = told
            .iter()
            .filter_map(|event| match event {
                Event::Response { body: Response::Error(error), .. }
                    if error.code == RequestCode::EXCESSIVE_LOAD =>
                {
                    Some(error.retry_interval)
                }
                _ => None,
            })
            .collect();
        assert_eq!(refused.len(), requests.len() - 20, "{drafts:?}");
        assert!(refused.iter().all(|interval| (1_001..=2_001).contains(interval)), "{refused:?}");
        assert!(1 < refused.iter().collect::<std::collections::BTreeSet<_>>().len(), "jitter");
        stage.run(2_000);
        let other = stage.subscribe(flooder, "nothing", none());
        assert_eq!(stage.refusal(flooder, other), "DOES_NOT_EXIST", "{drafts:?}: it may again");
    }
}

#[test]
fn while_memory_is_short_nothing_new_is_begun_and_what_was_goes_on() {
    for drafts in DRAFTS {
        let mut live = Stage::live(drafts, none());
        let short = |live: &mut Live, is_short| {
            let relay = live.stage.relay;
            live.stage.world.with(relay, |relay: &mut Shards, now| {
                relay.handle_shortage(is_short, now);
            });
        };
        short(&mut live, true);
        let refused = live.stage.subscribe(live.subscriber, "other", none());
        let told = live.stage.refusal(live.subscriber, refused);
        assert_eq!(told, "EXCESSIVE_LOAD", "{drafts:?}");
        live.group(1, &["a"]);
        assert_eq!(live.heard(), ["1: 0=a fin"], "{drafts:?}");
        short(&mut live, false);
        live.stage.subscribe(live.subscriber, "other", none());
        let (_, request) = live.stage.request(live.publisher);
        assert!(matches!(request, Request::Subscribe(_)), "{drafts:?}");
    }
}

#[test]
fn what_is_heard_of_a_stalled_subscriber_is_counted() {
    let drafts = (Version::Draft22, Version::Draft22);
    let mut live = Stage::live(drafts, none());
    let slow = live.subscriber;
    stall(&mut live.stage, slow, true);
    send_groups(&mut live, 0..4);
    let load = live.stage.relay(|relay| relay.load());
    assert!(300_000 < load.queued.bytes, "{load:?}");
    stall(&mut live.stage, slow, false);
    assert_eq!(heard::streams(&live.stage.take(slow)).len(), 4);
    assert_eq!(live.stage.relay(|relay| relay.load().queued.bytes), 0);
}

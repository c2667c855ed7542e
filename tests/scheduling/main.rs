//! What is sent next: properties of the scheduler alone, against a model that is slow and plain.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::collections::BTreeMap;

use aip_codec::moqt::{
    id::{GroupId, RequestId, SubgroupId},
    parameter::GroupOrder,
};
use aip_engine::schedule::{Class, Precedence, Rank, Scheduler};
use proptest::prelude::*;

/// What one turn sends.
const SHARE: usize = 16 << 10;

fn object(request: u64, subscriber_priority: u8, publisher_priority: u8, rank: Rank) -> Precedence {
    Precedence {
        class: Class::Object,
        subscriber_priority,
        publisher_priority,
        request: RequestId(request),
        rank,
    }
}

fn any_rank() -> impl Strategy<Value = Rank> {
    let order = prop_oneof![Just(GroupOrder::Ascending), Just(GroupOrder::Descending)];
    (order.clone(), order, 0..4_u64, 0..3_u64, any::<bool>()).prop_map(
        |(order, live, group, subgroup, fill)| {
            if fill {
                Rank::fill(order, live, GroupId(group))
            } else {
                Rank::subgroup(order, GroupId(group), SubgroupId(subgroup))
            }
        },
    )
}

fn any_precedence() -> impl Strategy<Value = Precedence> {
    prop_oneof![
        1 => Just(Precedence::CONTROL),
        2 => (0..3_u64).prop_map(|request| Precedence::request(RequestId(request))),
        8 => (0..4_u64, 0..3_u8, 0..3_u8, any_rank())
            .prop_map(|(request, subscriber, publisher, rank)| {
                object(request, subscriber, publisher, rank)
            }),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Set(u64, Precedence),
    Ready(u64),
    Remove(u64),
    Serve(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..12_u64, any_precedence()).prop_map(|(stream, to)| Step::Set(stream, to)),
        5 => (0..12_u64).prop_map(Step::Ready),
        1 => (0..12_u64).prop_map(Step::Remove),
        4 => (0..SHARE).prop_map(Step::Serve),
    ]
}

/// What comes before what, in any case: class and priorities, then the rank within a request.
fn goes_before(one: &Precedence, other: &Precedence) -> bool {
    let band = |it: &Precedence| (it.class, it.subscriber_priority, it.publisher_priority);
    band(one) < band(other)
        || band(one) == band(other) && one.request == other.request && one.rank < other.rank
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is done to it: nothing goes before what is more urgent, everything that is ready
    /// goes once, and nothing that is not.
    #[test]
    fn nothing_overtakes_what_is_more_urgent(steps in prop::collection::vec(any_step(), 1..200)) {
        let mut scheduler = Scheduler::<()>::default();
        let mut model: BTreeMap<u64, (Precedence, bool)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Set(stream, precedence) => {
                    set(&mut scheduler, stream, &precedence);
                    model.entry(stream).or_insert((precedence, false)).0 = precedence;
                }
                Step::Ready(stream) => {
                    ready(&mut scheduler, stream);
                    model.entry(stream).and_modify(|(_, ready)| *ready = true);
                }
                Step::Remove(stream) => {
                    scheduler.remove(stream);
                    model.remove(&stream);
                }
                Step::Serve(bytes) => serve(&mut scheduler, &mut model, bytes)?,
            }
            let ready = model.values().filter(|(_, ready)| *ready).count();
            prop_assert_eq!(scheduler.is_idle(), ready == 0);
        }
        while model.values().any(|(_, ready)| *ready) {
            serve(&mut scheduler, &mut model, 1)?;
        }
        prop_assert_eq!(scheduler.poll(), None);
        prop_assert_eq!(scheduler.stream_count(), model.len());
    }

    /// Requests of one priority that always have something to send have sent the same, but for one
    /// turn, however many streams each has.
    #[test]
    fn equal_requests_share_by_bytes(streams in prop::collection::vec(1..6_u64, 2..6)) {
        let mut scheduler = Scheduler::<()>::default();
        let mut owner = BTreeMap::new();
        for (request, count) in streams.iter().enumerate() {
            for stream in 0..*count {
                let id = request as u64 * 100 + stream;
                let rank = Rank::subgroup(GroupOrder::Ascending, GroupId(stream), SubgroupId(0));
                set(&mut scheduler, id, &object(request as u64, 128, 128, rank));
                ready(&mut scheduler, id);
                owner.insert(id, request);
            }
        }
        let mut sent = vec![0_usize; streams.len()];
        for turn in 0..500 {
            let next = scheduler.poll().unwrap();
            // Some have small pieces.
            let bytes = if owner[&next.stream()] == 0 { 1_000 } else { SHARE - turn % 7 };
            sent[owner[&next.stream()]] += bytes;
            scheduler.served(next, bytes);
            scheduler.ready(next);
            let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
            prop_assert!(most - least <= SHARE, "{:?}", sent);
        }
    }
}

/// A stream takes its place, or another one.
fn set(scheduler: &mut Scheduler<()>, stream: u64, precedence: &Precedence) {
    match scheduler.find(stream) {
        Some(_) => scheduler.set(stream, precedence),
        None => drop(scheduler.insert(stream, precedence, ())),
    }
}

fn ready(scheduler: &mut Scheduler<()>, stream: u64) {
    if let Some(turn) = scheduler.find(stream) {
        scheduler.ready(turn);
    }
}

fn serve(
    scheduler: &mut Scheduler<()>,
    model: &mut BTreeMap<u64, (Precedence, bool)>,
    bytes: usize,
) -> Result<(), TestCaseError> {
    let Some(turn) = scheduler.poll() else {
        prop_assert!(model.values().all(|(_, ready)| !ready), "something is forgotten");
        return Ok(());
    };
    scheduler.served(turn, bytes);
    let stream = turn.stream();
    let (precedence, was_ready) = model[&stream];
    prop_assert!(was_ready, "nothing to send on {stream}");
    for (other, (waiting, ready)) in &*model {
        prop_assert!(
            !ready || !goes_before(waiting, &precedence),
            "{stream} went before {other}, which is more urgent"
        );
    }
    model.get_mut(&stream).unwrap().1 = false;
    Ok(())
}

/// The streams in the order in which they are sent, each once.
fn order(streams: &[Precedence]) -> Vec<usize> {
    let mut scheduler = Scheduler::<()>::default();
    for (index, precedence) in streams.iter().enumerate() {
        set(&mut scheduler, index as u64, precedence);
        ready(&mut scheduler, index as u64);
    }
    let next = || scheduler.poll().map(|turn| usize::try_from(turn.stream()).unwrap());
    std::iter::from_fn(next).collect()
}

/// Draft-22 section 5.1, rule by rule.
#[test]
fn the_drafts_order() {
    use GroupOrder::{Ascending, Descending};
    let live = |order, group, subgroup| {
        object(1, 9, 9, Rank::subgroup(order, GroupId(group), SubgroupId(subgroup)))
    };
    let rank = Rank::subgroup(Ascending, GroupId(0), SubgroupId(0));
    let cases = [
        // Control, requests, objects.
        vec![Precedence::CONTROL, Precedence::request(RequestId(0)), object(0, 0, 0, rank)],
        // The subscriber's priority, then the publisher's.
        vec![object(1, 1, 255, rank), object(2, 2, 0, rank), object(3, 2, 1, rank)],
        // The group order.
        vec![live(Ascending, 4, 7), live(Ascending, 5, 0)],
        vec![live(Descending, 5, 7), live(Descending, 4, 0)],
        // In one group the lower subgroup, but a fill before all.
        vec![
            object(1, 9, 9, Rank::fill(Ascending, Ascending, GroupId(4))),
            live(Ascending, 4, 0),
            live(Ascending, 4, 1),
        ],
        // A fill in another order than its subscription's goes behind what is live.
        vec![
            live(Ascending, 4, 1),
            live(Ascending, 5, 0),
            object(1, 9, 9, Rank::fill(Descending, Ascending, GroupId(4))),
        ],
    ];
    for case in cases {
        let expected: Vec<usize> = (0..case.len()).collect();
        assert_eq!(order(&case), expected, "{case:?}");
        let reversed: Vec<Precedence> = case.iter().rev().copied().collect();
        let expected: Vec<usize> = (0..case.len()).rev().collect();
        assert_eq!(order(&reversed), expected, "{case:?}");
    }
}

#[test]
fn who_comes_late_does_not_catch_up() {
    let mut scheduler = Scheduler::<()>::default();
    let rank = Rank::subgroup(GroupOrder::Ascending, GroupId(0), SubgroupId(0));
    set(&mut scheduler, 1, &object(1, 128, 128, rank));
    ready(&mut scheduler, 1);
    for _ in 0..100 {
        let turn = scheduler.poll().unwrap();
        assert_eq!(turn.stream(), 1);
        scheduler.served(turn, SHARE);
        scheduler.ready(turn);
    }
    set(&mut scheduler, 2, &object(2, 128, 128, rank));
    ready(&mut scheduler, 2);
    let mut turns = [0; 3];
    for _ in 0..20 {
        let turn = scheduler.poll().unwrap();
        turns[usize::try_from(turn.stream()).unwrap()] += 1;
        scheduler.served(turn, SHARE);
        scheduler.ready(turn);
    }
    assert!((9..=11).contains(&turns[1]), "{turns:?}");
}

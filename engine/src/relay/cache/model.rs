//! The cache against a model that is too simple to be wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    slice::from_ref,
};

use aip_codec::moqt::{property::Properties, stream::subgroup::ObjectStatus};
use proptest::prelude::*;

use super::*;

const GROUPS: u64 = 5;
const OBJECTS: u64 = 6;

#[derive(Clone, Debug)]
enum Operation {
    /// An object whose payload is these bytes, which a group's number and its own make.
    Insert {
        at: Location,
        first_bytes: bool,
    },
    /// The same in two pieces, the second of which may never come.
    Begin {
        at: Location,
    },
    End {
        at: Location,
    },
    Break {
        at: Location,
    },
    Known {
        from: Location,
        to: Location,
    },
    Evict {
        group: u64,
    },
    Trim {
        group: u64,
        excess: usize,
    },
    Compact {
        group: u64,
    },
    /// Time passes, and what has expired in this range is asked for in vain.
    Expire {
        from: Location,
        to: Location,
    },
}

fn location() -> impl Strategy<Value = Location> {
    (0..GROUPS, 0..OBJECTS).prop_map(|(group, object)| Location::new(group, object))
}

fn range() -> impl Strategy<Value = (Location, Location)> {
    (location(), location(), any::<bool>()).prop_map(|(one, other, whole)| {
        let (from, mut to) = (one.min(other), one.max(other));
        if whole {
            to.object = ObjectId(u64::MAX);
        }
        (from, to)
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (location(), prop::bool::weighted(0.9))
            .prop_map(|(at, first_bytes)| Operation::Insert { at, first_bytes }),
        3 => location().prop_map(|at| Operation::Begin { at }),
        3 => location().prop_map(|at| Operation::End { at }),
        1 => location().prop_map(|at| Operation::Break { at }),
        3 => range().prop_map(|(from, to)| Operation::Known { from, to }),
        1 => (0..GROUPS).prop_map(|group| Operation::Evict { group }),
        1 => (0..GROUPS, 0_usize..2_000)
            .prop_map(|(group, excess)| Operation::Trim { group, excess }),
        1 => (0..GROUPS).prop_map(|group| Operation::Compact { group }),
        1 => range().prop_map(|(from, to)| Operation::Expire { from, to }),
    ]
}

/// The one payload that an object may have.
fn payload(at: Location) -> Bytes {
    Bytes::from(format!("payload of {at}"))
}

fn object(pieces: &[Bytes], length: usize, feeder: Option<Feeder>, now: Instant) -> CachedObject {
    CachedObject {
        subgroup: Some(SubgroupId(0)),
        priority: 128,
        status: ObjectStatus::Normal,
        properties: Properties::default(),
        payload: pieces.to_vec(),
        payload_length: length as u64,
        follows: None,
        feeder,
        standing: Standing::Fetched,
        received_at: now,
    }
}

/// What should be held: payloads so far and whether that is all, and what does not exist.
#[derive(Default)]
struct Model {
    held: BTreeMap<Location, (Bytes, bool, Instant)>,
    absent: BTreeSet<Location>,
}

struct Checked {
    cache: Cache,
    model: Model,
    now: Instant,
}

const LIFE: Duration = Duration::from_secs(10);
const FETCH: Feeder = Feeder::Fetch(1);

impl Checked {
    fn apply(&mut self, operation: &Operation) {
        let now = self.now;
        match *operation {
            Operation::Insert { at, first_bytes: true } => {
                let whole = payload(at);
                let result =
                    self.cache.insert(at, object(from_ref(&whole), whole.len(), None, now), now);
                let expected = match self.model.held.get(&at) {
                    // What a FETCH is still bringing gives way to what is whole.
                    Some((_, true, since)) if now <= *since + LIFE => Inserted::Duplicate,
                    _ => Inserted::New { was_forwarded: false },
                };
                assert_eq!(result, expected, "{at}");
                if expected == (Inserted::New { was_forwarded: false }) {
                    self.model.held.insert(at, (whole, true, now));
                }
            }
            Operation::Insert { at, first_bytes: false } => {
                // Other bytes of the same length: refused if the first are here.
                let other = Bytes::from(vec![b'#'; payload(at).len()]);
                if self.model.held.contains_key(&at) {
                    let result = self.cache.insert(
                        at,
                        object(from_ref(&other), other.len(), None, now),
                        now,
                    );
                    assert_eq!(result, Inserted::Conflict, "{at}");
                }
            }
            Operation::Begin { at } => {
                if !self.model.held.contains_key(&at) {
                    let (whole, half) = (payload(at), payload(at).slice(..3));
                    let begun = object(from_ref(&half), whole.len(), Some(FETCH), now);
                    assert_eq!(
                        self.cache.insert(at, begun, now),
                        Inserted::New { was_forwarded: false }
                    );
                    self.model.held.insert(at, (half, false, now));
                }
            }
            Operation::End { at } => {
                if let Some(entry) = self.model.held.get_mut(&at).filter(|entry| !entry.1) {
                    self.cache.append(at, Feeder::Fetch(2), Bytes::from("not mine"), true);
                    self.cache.append(at, FETCH, payload(at).slice(3..), true);
                    (entry.0, entry.1) = (payload(at), true);
                }
            }
            Operation::Break { at } => {
                self.cache.drop_fed_by(at, FETCH);
                if self.model.held.get(&at).is_some_and(|entry| !entry.1) {
                    self.forget(at);
                }
            }
            Operation::Known { .. }
            | Operation::Evict { .. }
            | Operation::Trim { .. }
            | Operation::Compact { .. }
            | Operation::Expire { .. } => self.apply_to_many(operation),
        }
    }

    fn apply_to_many(&mut self, operation: &Operation) {
        match *operation {
            Operation::Insert { .. }
            | Operation::Begin { .. }
            | Operation::End { .. }
            | Operation::Break { .. } => {}
            Operation::Known { from, to } => {
                self.cache.mark_known(from, to);
                self.model.absent.extend(places().filter(|at| from <= *at && *at <= to));
            }
            Operation::Evict { group } => {
                self.cache.evict(GroupId(group));
                places().filter(|at| at.group.0 == group).for_each(|at| self.forget(at));
            }
            Operation::Trim { group, excess } => {
                let before = self.cache.size();
                self.cache.trim(GroupId(group), excess);
                let held = self.model.held.keys().filter(|at| at.group.0 == group).copied();
                let gone: Vec<_> = held.filter(|at| self.cache.object(*at).is_none()).collect();
                gone.into_iter().for_each(|at| self.forget(at));
                let is_done = before - self.cache.size() >= excess;
                let left = self.model.held.keys().filter(|at| at.group.0 == group).count();
                assert!(is_done || left <= 1, "{left} objects are left");
            }
            Operation::Compact { group } => {
                self.cache.compact(GroupId(group));
            }
            Operation::Expire { from, to } => {
                self.now += Duration::from_secs(4);
                let now = self.now;
                self.cache.forget_expired(from, to, now);
                let expired = |(at, entry): (&Location, &(Bytes, bool, Instant))| {
                    (from <= *at && *at <= to && entry.2 + LIFE < now).then_some(*at)
                };
                let expired: Vec<_> = self.model.held.iter().filter_map(expired).collect();
                for at in expired {
                    self.model.held.remove(&at);
                    self.model.absent.insert(at);
                }
            }
        }
    }

    fn forget(&mut self, at: Location) {
        self.model.held.remove(&at);
        self.model.absent.remove(&at);
    }

    fn check(&self) {
        let mut size = self.cache.groups.values().map(Group::size).sum::<usize>();
        size += RANGE_OVERHEAD * (self.cache.known_groups.len() + self.cache.absent_groups.len());
        size += self.cache.sent.size();
        assert_eq!(self.cache.size(), size, "the account is right");
        for at in places() {
            let held = self.cache.object(at);
            let expected = self.model.held.get(&at);
            let bytes = held.map(|held| (Bytes::from(held.payload.concat()), held.is_complete()));
            assert_eq!(bytes, expected.map(|(bytes, whole, _)| (bytes.clone(), *whole)), "{at}");
            if self.cache.first_unknown(at, at, self.now).is_none() {
                let fresh =
                    expected.is_some_and(|(_, whole, since)| *whole && self.now <= *since + LIFE);
                let absent = expected.is_none() && self.model.absent.contains(&at);
                assert!(fresh || absent, "{at} is not known");
            } else if let Some((_, true, since)) = expected {
                assert!(*since + LIFE < self.now, "{at} is here");
            }
        }
        for order in [GroupOrder::Ascending, GroupOrder::Descending] {
            let mut found = Vec::new();
            let mut last = None;
            let end = Location::new(GROUPS, u64::MAX);
            while let Some((at, _)) = self.cache.next_object(Location::default(), end, last, order)
            {
                found.push(at);
                last = Some(at);
            }
            let mut expected: Vec<_> = self.model.held.keys().copied().collect();
            if order == GroupOrder::Descending {
                expected.sort_by_key(|at| (std::cmp::Reverse(at.group), at.object));
            }
            assert_eq!(found, expected, "{order:?}");
        }
    }
}

fn places() -> impl Iterator<Item = Location> {
    (0..GROUPS).flat_map(|group| (0..OBJECTS).map(move |object| Location::new(group, object)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn it_holds_what_it_should(operations in prop::collection::vec(operation(), 0..60)) {
        #[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
        let now = Instant::now();
        let mut checked = Checked { cache: Cache::default(), model: Model::default(), now };
        checked.cache.set_duration_max(Some(LIFE));
        for operation in &operations {
            checked.apply(operation);
            checked.check();
        }
        for group in 0..GROUPS {
            checked.cache.evict(GroupId(group));
        }
        prop_assert_eq!(checked.cache.groups.len(), 0);
        prop_assert_eq!(checked.cache.size, 0, "nothing is left");
    }
}

#[test]
fn ranges_between_objects_take_no_room() {
    #[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
    let now = Instant::now();
    let mut cache = Cache::default();
    // Every second object, as a FETCH brings them: what lies between does not exist.
    for number in 0..5_000 {
        let at = Location::new(0, number * 2);
        cache.insert(at, object(&[], 0, None, now), now);
        if let Some(gap) = at.object.0.checked_sub(1) {
            cache.mark_known(Location::new(0, gap), Location::new(0, gap));
        }
    }
    let group = &cache.groups[&GroupId(0)];
    assert_eq!(group.known.len(), 1);
    assert_eq!(cache.first_unknown(Location::default(), Location::new(0, 9_998), now), None);
    assert_eq!(
        cache.first_unknown(Location::default(), Location::new(0, 9_999), now),
        Some(Location::new(0, 9_999))
    );
}

#[test]
fn groups_that_do_not_exist_are_bounded() {
    #[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
    let now = Instant::now();
    let mut cache = Cache::default();
    for number in 0..20_000 {
        let at = Location::new(number * 2, 0);
        cache.insert(at, object(&[], 0, None, now), now);
        cache.mark_known(Location::new(number * 2 + 1, 0), Location::new(number * 2 + 1, u64::MAX));
        if 10 <= number {
            cache.evict(GroupId((number - 10) * 2));
        }
    }
    assert!(cache.known_groups.len() <= RANGES_SPARE + 30, "{}", cache.known_groups.len());
}

#[test]
fn gaps_that_a_publisher_tells_of_are_believed_and_held_against_it() {
    #[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
    let now = Instant::now();
    let told = |objects: u64, groups: u64| {
        let properties = Properties::builder().integer(0x3e, objects).integer(0x3c, groups);
        let properties = properties.build().unwrap();
        CachedObject { properties, ..object(&[], 0, None, now) }
    };
    let plain = || object(&[], 0, None, now);
    let new = Inserted::New { was_forwarded: false };
    let fresh = || {
        let mut cache = Cache::default();
        assert_eq!(cache.insert(Location::new(10, 5), told(2, 3), now), new);
        cache
    };
    let mut cache = fresh();
    let unknown = |cache: &Cache, group, object| {
        let at = Location::new(group, object);
        cache.first_unknown(at, at, now).is_some()
    };
    assert!(unknown(&cache, 10, 2) && !unknown(&cache, 10, 3) && !unknown(&cache, 10, 4));
    assert!(unknown(&cache, 6, 0) && !unknown(&cache, 7, 9) && !unknown(&cache, 9, 0));
    // Other groups' gaps, and none at all, are no contradiction; another gap of this group is.
    assert_eq!(cache.insert(Location::new(10, 6), plain(), now), new);
    assert_eq!(cache.insert(Location::new(10, 7), told(0, 3), now), new);
    assert_eq!(cache.insert(Location::new(10, 8), told(0, 2), now), Inserted::Conflict);
    // What lies in a gap; what a gap would cover; a gap that begins before the first.
    assert_eq!(fresh().insert(Location::new(10, 4), plain(), now), Inserted::Conflict);
    assert_eq!(fresh().insert(Location::new(8, 0), plain(), now), Inserted::Conflict);
    assert_eq!(fresh().insert(Location::new(10, 7), told(2, 3), now), Inserted::Conflict);
    assert_eq!(fresh().insert(Location::new(12, 0), told(0, 2), now), Inserted::Conflict);
    assert_eq!(fresh().insert(Location::new(12, 1), told(2, 0), now), Inserted::Conflict);
    assert_eq!(fresh().insert(Location::new(2, 0), told(0, 3), now), Inserted::Conflict);
    // Forgotten with the group that told of it.
    let mut cache = fresh();
    cache.evict(GroupId(10));
    assert_eq!(cache.insert(Location::new(8, 0), plain(), now), new);
}

//! What has gone to the subscribers and is not held any more: another publisher's copy of it must
//! not go to them again.
//!
//! Back of the envelope: groups that were whole are one range as long as they follow each other, and
//! so are the objects of one that was not. A track that is sent in order costs 48 bytes.

use std::collections::BTreeMap;

use aip_codec::moqt::{
    id::{GroupId, ObjectId},
    location::Location,
};

use super::{RANGE_OVERHEAD, known::Known};

/// Ranges that are remembered of one track; above it the lowest groups are forgotten.
const RANGES_MAX: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Groups that have gone whole.
    groups: Known,
    /// What has gone of others.
    objects: BTreeMap<GroupId, Known>,
    /// Ranges in `objects`.
    ranges: usize,
}

impl Sent {
    /// What remembering it costs.
    pub(super) fn size(&self) -> usize {
        RANGE_OVERHEAD * (self.groups.len() + self.ranges)
    }

    /// Whether an object has gone.
    pub(super) fn contains(&self, location: Location) -> bool {
        self.groups.contains(location.group.0)
            || self.objects.get(&location.group).is_some_and(|it| it.contains(location.object.0))
    }

    /// Whether an object is known to have gone that is there or behind, in the same group. Where a
    /// group that has gone whole ended is not known any more.
    pub(super) fn has_any_from(&self, location: Location) -> bool {
        self.objects.get(&location.group).is_some_and(|it| it.has_any_from(location.object.0))
    }

    /// Notes that all there is of a group has gone.
    pub(super) fn note_group(&mut self, group: GroupId) {
        self.forget(group);
        self.groups.insert(group.0, group.0);
        self.bound();
    }

    /// Notes that these objects of a group have gone.
    pub(super) fn note_objects(&mut self, group: GroupId, objects: &[ObjectId]) {
        if objects.is_empty() || self.groups.contains(group.0) {
            return;
        }
        let entry = self.objects.entry(group).or_default();
        self.ranges -= entry.len();
        for object in objects {
            entry.insert(object.0, object.0);
        }
        while RANGES_MAX < entry.len() {
            entry.remove_first();
        }
        self.ranges += entry.len();
        self.bound();
    }

    fn forget(&mut self, group: GroupId) {
        if let Some(entry) = self.objects.remove(&group) {
            self.ranges -= entry.len();
        }
    }

    fn bound(&mut self) {
        while RANGES_MAX < self.groups.len() {
            self.groups.remove_first();
        }
        while RANGES_MAX < self.ranges
            && let Some((&lowest, _)) = self.objects.first_key_value()
        {
            self.forget(lowest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<ObjectId> {
        numbers.into_iter().map(ObjectId).collect()
    }

    #[test]
    fn what_goes_in_order_costs_one_range() {
        let mut sent = Sent::default();
        for group in 0..100_000 {
            sent.note_group(GroupId(group));
        }
        sent.note_objects(GroupId(100_000), &ids(0..1_000));
        assert_eq!(sent.size(), 2 * RANGE_OVERHEAD);
        assert!(sent.contains(Location::new(7, 12)));
        assert!(sent.contains(Location::new(100_000, 999)));
        assert!(!sent.contains(Location::new(100_000, 1_000)));
    }

    #[test]
    fn it_is_bounded_whatever_comes() {
        let mut sent = Sent::default();
        for group in 0..5_000 {
            sent.note_group(GroupId(group * 2));
            sent.note_objects(GroupId(group * 2 + 1), &ids((0..50).map(|number| number * 2)));
        }
        sent.note_objects(GroupId(10_001), &ids((0..5_000).map(|number| number * 2)));
        assert!(sent.size() <= 2 * RANGES_MAX * RANGE_OVERHEAD, "{}", sent.size());
        assert!(sent.contains(Location::new(10_001, 9_998)), "the newest is known");
        assert!(!sent.contains(Location::new(0, 0)), "the oldest is not");
        sent.note_group(GroupId(10_001));
        assert_eq!(sent.ranges, 0);
    }
}

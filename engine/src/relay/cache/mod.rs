//! Objects of one track, as far as they are kept: payloads are references to received chunks, until
//! they have rested for a while.
//!
//! Back of the envelope: an object costs its bytes and about 256 more, a group about 1 KiB; all of
//! that stands in [`Cache::size`], which the relay's budget is kept by.

mod group;
mod known;
#[cfg(test)]
mod model;
mod object;
mod sent;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use aip_codec::moqt::{
    id::{GroupId, ObjectId, SubgroupId},
    location::Location,
    parameter::GroupOrder,
};
use bytes::Bytes;

pub(crate) use self::object::{CachedObject, Feeder, Standing};
use self::{group::Group, known::Known, sent::Sent};

/// What became of an object that was put in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Inserted {
    /// It is new, or takes the place of one that is too old.
    New {
        /// Whether subscribers had it before.
        was_forwarded: bool,
    },
    /// It was here, and is the same as far as that can be told.
    Duplicate,
    /// The same: somebody else is bringing it.
    Arriving,
    /// It was here with other immutable fields: the track is malformed.
    Conflict,
}

/// The cached objects of one track.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    groups: BTreeMap<GroupId, Group>,
    /// Groups of which it is known that they do not exist if they are not cached.
    known_groups: Known,
    /// Groups that the publisher has said never to exist (PRIOR_GROUP_ID_GAP).
    absent_groups: Known,
    /// What has gone to the subscribers and is not held any more.
    sent: Sent,
    size: usize,
    duration_max: Option<Duration>,
    /// Groups that have changed since the last `take_changed`, and had not before.
    changed: Vec<GroupId>,
}

/// What a range of groups costs.
const RANGE_OVERHEAD: usize = 48;
/// Ranges of groups that a track may have whatever it holds.
const RANGES_SPARE: usize = 4_096;

impl Cache {
    /// Sets MAX_CACHE_DURATION: objects older than it are unknown again.
    pub(crate) const fn set_duration_max(&mut self, duration: Option<Duration>) {
        self.duration_max = duration;
    }

    /// Everything is older than it seems, which matters where objects may not grow old.
    pub(crate) fn age(&mut self, by: Duration) {
        if self.duration_max.is_none() {
            return;
        }
        for object in self.groups.values_mut().flat_map(|group| group.objects.values_mut()) {
            object.received_at = object.received_at.checked_sub(by).unwrap_or(object.received_at);
        }
    }

    /// Groups that are new, or that objects have come to since they were last compacted.
    pub(crate) fn take_changed(&mut self) -> Vec<GroupId> {
        std::mem::take(&mut self.changed)
    }

    /// Bytes held, with what holding them costs.
    pub(crate) fn size(&self) -> usize {
        self.size
            + RANGE_OVERHEAD * (self.known_groups.len() + self.absent_groups.len())
            + self.sent.size()
    }

    pub(crate) fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The newest group: where late joiners begin.
    pub(crate) fn edge(&self) -> Option<GroupId> {
        self.groups.last_key_value().map(|(id, _)| *id)
    }

    /// A group's place in the relay's order, if it has one.
    pub(crate) fn order_of(&self, group: GroupId) -> Option<u64> {
        self.groups.get(&group)?.order
    }

    /// Gives a group its place in the relay's order.
    pub(crate) fn set_order(&mut self, group: GroupId, order: u64) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.order = Some(order);
        }
    }

    /// The places of all groups in the relay's order.
    pub(crate) fn orders(&self) -> impl Iterator<Item = u64> {
        self.groups.values().filter_map(|group| group.order)
    }

    /// Changes a group, begun if need be, and keeps account.
    fn change<R>(&mut self, id: GroupId, change: impl FnOnce(&mut Group) -> R) -> R {
        let is_new = !self.groups.contains_key(&id);
        let group = self.groups.entry(id).or_default();
        let was_settled = group.unsettled.is_empty();
        if !is_new {
            self.size -= group.size();
        }
        let result = change(group);
        self.size += group.size();
        if is_new || was_settled && !group.unsettled.is_empty() {
            self.changed.push(id);
        }
        result
    }

    /// Changes a group, if it is here, and keeps account.
    fn change_held<R>(&mut self, id: GroupId, change: impl FnOnce(&mut Group) -> R) -> Option<R> {
        self.groups.contains_key(&id).then(|| self.change(id, change))
    }

    fn is_fresh(&self, object: &CachedObject, now: Instant) -> bool {
        self.duration_max.is_none_or(|max| now <= object.received_at + max)
    }

    /// Puts an object in. Its payload may still be arriving; [`Cache::append`] brings the rest.
    pub(crate) fn insert(
        &mut self,
        location: Location,
        object: CachedObject,
        now: Instant,
    ) -> Inserted {
        let was_forwarded;
        if let Some(held) = self.object(location) {
            let fresh = self.is_fresh(held, now);
            if !held.is_same(&object) {
                return Inserted::Conflict;
            }
            let feeder = held.feeder;
            if object.standing != Standing::Fetched && held.standing == Standing::Fetched {
                self.change(location.group, |group| {
                    group.set_standing(location.object, Standing::Waiting);
                });
            }
            match (feeder, object.feeder) {
                (None, _) if fresh => return Inserted::Duplicate,
                // Live it comes sooner than by a FETCH.
                (None, _) | (Some(Feeder::Fetch(_)), None | Some(Feeder::Live(..))) => {}
                (Some(_), _) => return Inserted::Arriving,
            }
            let held = self.object(location);
            was_forwarded = held.is_some_and(|held| held.standing == Standing::Forwarded);
        } else if self.admits(location, &object) {
            was_forwarded = self.sent.contains(location);
        } else {
            return Inserted::Conflict;
        }
        if let Some(gap) = object.properties.prior_group_id_gap().filter(|gap| 0 < *gap) {
            let before = location.group.0;
            self.absent_groups.insert(before.saturating_sub(gap), before.saturating_sub(1));
            self.known_groups.insert(before.saturating_sub(gap), before.saturating_sub(1));
        }
        let standing = if was_forwarded { Standing::Forwarded } else { object.standing };
        let object = CachedObject { standing, ..object };
        self.change(location.group, |group| group.insert(location.object, object));
        Inserted::New { was_forwarded }
    }

    /// Whether an object that is not here contradicts nothing that is known.
    fn admits(&self, location: Location, object: &CachedObject) -> bool {
        let group = self.groups.get(&location.group);
        if self.absent_groups.contains(location.group.0) {
            return false;
        }
        if let Some(gap) = object.properties.prior_group_id_gap() {
            let Some(first) = location.group.0.checked_sub(gap) else { return false };
            let mut between = self.groups.range(GroupId(first)..location.group);
            if between.any(|(_, group)| group.has_objects()) {
                return false;
            }
        }
        match group {
            Some(group) => group.admits(location.object, object),
            None => Group::default().admits(location.object, object),
        }
    }

    /// Notes that an object goes to the subscribers; false if it did before, or is gone.
    pub(crate) fn mark_forwarded(&mut self, location: Location) -> bool {
        self.change_held(location.group, |group| group.mark_forwarded(location.object))
            .unwrap_or(false)
    }

    /// Whether something is known to have gone to the subscribers of what is behind an object in its
    /// subgroup; of what is not held any more, in its group.
    pub(crate) fn has_forwarded_behind(&self, location: Location, subgroup: SubgroupId) -> bool {
        let Some(next) = location.object.0.checked_add(1) else { return false };
        self.sent.has_any_from(Location { object: ObjectId(next), ..location })
            || self
                .groups
                .get(&location.group)
                .is_some_and(|group| group.has_forwarded_from(ObjectId(next), subgroup))
    }

    /// The next object of a subgroup after `previous` that waits to be forwarded.
    pub(crate) fn next_to_forward(
        &self,
        (group, subgroup): (GroupId, SubgroupId),
        previous: Option<ObjectId>,
    ) -> Option<(Location, &CachedObject)> {
        let from = match previous {
            Some(previous) => ObjectId(previous.0.checked_add(1)?),
            None => ObjectId(0),
        };
        let held = self.groups.get(&group)?;
        let id = held.first_waiting(subgroup, from)?;
        Some((Location { group, object: id }, held.objects.get(&id)?))
    }

    /// The oldest group of which something is here.
    pub(crate) fn first_group(&self) -> Option<GroupId> {
        self.groups.first_key_value().map(|(id, _)| *id)
    }

    /// Notes that what has come of a range by FETCHes of ours is to go to the subscribers; the
    /// subgroups of what has not gone there yet.
    pub(crate) fn want_forwarded(
        &mut self,
        start: Location,
        end: Location,
    ) -> BTreeSet<(GroupId, SubgroupId)> {
        let mut subgroups = BTreeSet::new();
        for (id, group) in self.groups.range_mut(start.group..=end.group.max(start.group)) {
            let wanted: Vec<(ObjectId, SubgroupId)> = group
                .objects
                .iter()
                .filter(|(object, held)| {
                    let location = Location { group: *id, object: **object };
                    let is_asked = start <= location && location <= end;
                    is_asked && held.standing != Standing::Forwarded
                })
                .filter_map(|(object, held)| Some((*object, held.subgroup?)))
                .collect();
            for (object, subgroup) in wanted {
                group.set_standing(object, Standing::Waiting);
                subgroups.insert((*id, subgroup));
            }
        }
        subgroups
    }

    /// Adds to the payload of an object that is arriving.
    pub(crate) fn append(&mut self, location: Location, feeder: Feeder, bytes: Bytes, last: bool) {
        self.change_object(location, |object| {
            if object.feeder == Some(feeder) {
                object.payload.push(bytes);
                object.feeder = object.feeder.filter(|_| !last);
            }
        });
    }

    /// Notes that a fetched object is whole: only from now on can it be passed on, which its age is
    /// about.
    pub(crate) fn note_fetched(&mut self, location: Location, now: Instant) {
        self.change_object(location, |object| {
            if object.standing == Standing::Fetched && object.is_complete() {
                object.received_at = now;
            }
        });
    }

    /// Whether a second copy of an object, of which `bytes` begin at `offset` of the payload, says
    /// the same as what is held, as far as both are here.
    pub(crate) fn agrees(
        &self,
        location: Location,
        feeder: Feeder,
        offset: usize,
        bytes: &[u8],
    ) -> bool {
        self.object(location)
            .is_none_or(|held| held.feeder == Some(feeder) || held.agrees(offset, bytes))
    }

    /// Forgets an object whose payload will never be whole, since who brought it is gone.
    pub(crate) fn drop_fed_by(&mut self, location: Location, feeder: Feeder) {
        if self.object(location).is_some_and(|object| object.feeder == Some(feeder)) {
            self.remove(location);
        }
    }

    /// Forgets one object, whole or not.
    pub(crate) fn remove(&mut self, location: Location) {
        self.change_held(location.group, |group| group.remove(location.object));
    }

    /// Notes a group's last object. False if a later one is here: the track is malformed.
    pub(crate) fn end_group(&mut self, last: Location) -> bool {
        self.change_held(last.group, |group| group.end_at(last.object)).unwrap_or(true)
    }

    /// Notes a subgroup's last object. False if a later one has come: the track is malformed.
    pub(crate) fn end_subgroup(&mut self, subgroup: SubgroupId, last: Location) -> bool {
        self.change_held(last.group, |group| group.end_subgroup_at(subgroup, last.object))
            .unwrap_or(true)
    }

    /// Forgets a group; its place in the relay's order.
    pub(crate) fn evict(&mut self, id: GroupId) -> Option<u64> {
        self.known_groups.remove(id.0);
        let group = self.groups.remove(&id)?;
        self.size -= group.size();
        if let (Some(1..), Some(before)) = (group.prior_gap(), id.0.checked_sub(1)) {
            self.absent_groups.remove_range_of(before);
        }
        if group.is_forwarded_whole() {
            self.sent.note_group(id);
        } else {
            self.sent.note_objects(id, &group.forwarded(..));
        }
        if self.groups.is_empty() {
            // Nothing else would be there to be forgotten for them.
            (self.known_groups, self.absent_groups) = (Known::default(), Known::default());
            self.sent = Sent::default();
        }
        self.bound_ranges();
        group.order
    }

    /// Forgets what is known of groups that are not here, should it be much more than what is.
    fn bound_ranges(&mut self) {
        let ranges_max = RANGES_SPARE + 2 * self.groups.len();
        for ranges in [&mut self.known_groups, &mut self.absent_groups] {
            while ranges_max < ranges.len() {
                ranges.remove_first();
            }
        }
    }

    /// Forgets objects of a group, lowest first, until `excess` bytes are gone or one is left; and
    /// what is known of groups that are not here.
    pub(crate) fn trim(&mut self, id: GroupId, excess: usize) {
        self.known_groups = Known::default();
        let gone = self.change_held(id, |group| {
            let forwarded = group.forwarded(..);
            group.trim(excess);
            let kept = group.objects.first_key_value().map(|(object, _)| *object);
            forwarded.into_iter().filter(|object| kept.is_none_or(|kept| *object < kept)).collect()
        });
        let gone: Vec<ObjectId> = gone.unwrap_or_default();
        self.sent = Sent::default();
        self.sent.note_objects(id, &gone);
    }

    /// Copies what is small in a group out of the chunks that it was received into; true once that
    /// is so for all of it.
    pub(crate) fn compact(&mut self, id: GroupId) -> bool {
        self.change_held(id, Group::compact).unwrap_or(true)
    }

    /// Forgets objects of a range that are past their time: a publisher's complete answer did not
    /// bring them again.
    pub(crate) fn forget_expired(&mut self, start: Location, end: Location, now: Instant) {
        let expired: Vec<Location> = self
            .groups
            .range(start.group..=end.group)
            .flat_map(|(group, entry)| {
                entry
                    .objects
                    .iter()
                    .map(|(object, held)| (Location { group: *group, object: *object }, held))
            })
            .filter(|(location, held)| {
                start <= *location && *location <= end && !self.is_fresh(held, now)
            })
            .map(|(location, _)| location)
            .collect();
        for location in expired {
            let object = location.object;
            let group = self.groups.get(&location.group);
            let gone = group.map(|group| group.forwarded(object..=object)).unwrap_or_default();
            self.sent.note_objects(location.group, &gone);
            self.change_held(location.group, |group| group.remove_for_good(location.object));
        }
    }

    fn change_object<R>(
        &mut self,
        location: Location,
        change: impl FnOnce(&mut CachedObject) -> R,
    ) -> Option<R> {
        self.change_held(location.group, |group| group.change(location.object, change))?
    }

    /// The object at `location`, whatever its age.
    pub(crate) fn object(&self, location: Location) -> Option<&CachedObject> {
        self.groups.get(&location.group)?.objects.get(&location.object).map(Box::as_ref)
    }

    /// Notes that nothing exists from `start` to `end` but what is cached there: a publisher's
    /// complete answer to a FETCH of it.
    pub(crate) fn mark_known(&mut self, start: Location, end: Location) {
        let last_of = |group: GroupId| {
            if group == end.group { end.object } else { ObjectId(u64::MAX) }
        };
        let first_of =
            |group: GroupId| if group == start.group { start.object } else { ObjectId(0) };
        let held = self.groups.range(start.group..=end.group).map(|(id, _)| *id);
        let mut groups: Vec<GroupId> = held.collect();
        // Of the groups at the ends a part may stay unknown: they have an entry, the others not.
        for id in [start.group, end.group] {
            let is_whole = first_of(id) == ObjectId(0) && last_of(id) == ObjectId(u64::MAX);
            if !is_whole && !groups.contains(&id) {
                groups.push(id);
            } else if is_whole {
                self.known_groups.insert(id.0, id.0);
            }
        }
        for id in groups {
            self.change(id, |group| group.mark_known(first_of(id), last_of(id)));
        }
        if let Some(last) = end.group.0.checked_sub(1)
            && let Some(first) = start.group.0.checked_add(1)
        {
            self.known_groups.insert(first, last);
        }
        self.bound_ranges();
    }

    /// The first location from `start` to `end` of which nothing is known, in ascending order.
    pub(crate) fn first_unknown(
        &self,
        start: Location,
        end: Location,
        now: Instant,
    ) -> Option<Location> {
        let mut group_id = start.group;
        let mut from = start.object;
        while group_id <= end.group {
            let Some(group) = self.groups.get(&group_id) else {
                let Some(known_to) = self.known_groups.end_of(group_id.0) else {
                    return Some(Location { group: group_id, object: from });
                };
                let behind = GroupId(known_to.checked_add(1)?);
                let held = self.groups.range(group_id..behind).next();
                group_id = held.map_or(behind, |(id, _)| *id);
                from = ObjectId(0);
                continue;
            };
            let fresh = |object: &CachedObject| object.is_complete() && self.is_fresh(object, now);
            let to = if group_id < end.group { ObjectId(u64::MAX) } else { end.object };
            if let Some(object) = group.first_unknown(from, to, fresh) {
                return Some(Location { group: group_id, object });
            }
            group_id = GroupId(group_id.0.checked_add(1)?);
            from = ObjectId(0);
        }
        None
    }

    /// The next complete object after `after` (or from the beginning) within the range, groups in
    /// `order`, objects ascending in each.
    pub(crate) fn next_object(
        &self,
        start: Location,
        end: Location,
        after: Option<Location>,
        order: GroupOrder,
    ) -> Option<(Location, &CachedObject)> {
        let first_group = match (after, order) {
            (Some(after), _) => after.group,
            (None, GroupOrder::Ascending) => start.group,
            (None, GroupOrder::Descending) => end.group,
        };
        let in_group = |id: GroupId, group: &Group| {
            let from = match after {
                Some(after) if after.group == id => ObjectId(after.object.0.checked_add(1)?),
                _ if id == start.group => start.object,
                _ => ObjectId(0),
            };
            let to = if id == end.group { end.object } else { ObjectId(u64::MAX) };
            if to < from {
                return None;
            }
            group
                .objects
                .range(from..=to)
                .next()
                .map(|(object, _)| Location { group: id, object: *object })
        };
        let location = match order {
            GroupOrder::Ascending => self
                .groups
                .range(first_group..=end.group.max(first_group))
                .find_map(|(id, group)| in_group(*id, group)),
            GroupOrder::Descending => self
                .groups
                .range(start.group.min(first_group)..=first_group)
                .rev()
                .find_map(|(id, group)| in_group(*id, group)),
        }?;
        self.object(location).map(|object| (location, object))
    }
}

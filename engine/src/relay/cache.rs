//! Objects of one track, as far as they are kept: payloads are references to received chunks.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aip_codec::moqt::{
    id::{GroupId, ObjectId, SubgroupId},
    location::Location,
    parameter::GroupOrder,
    property::Properties,
    stream::subgroup::ObjectStatus,
};
use bytes::Bytes;

/// What an object costs beyond its payload and properties, about.
const OBJECT_OVERHEAD: usize = 160;

/// One object with all its fields.
#[derive(Clone, Debug)]
pub(crate) struct CachedObject {
    /// `None` if it was published as a datagram.
    pub(crate) subgroup: Option<SubgroupId>,
    pub(crate) priority: u8,
    pub(crate) status: ObjectStatus,
    pub(crate) properties: Properties,
    /// The payload's pieces, as they were received.
    pub(crate) payload: Vec<Bytes>,
    pub(crate) payload_length: u64,
    /// Whether all of the payload is here.
    pub(crate) complete: bool,
    pub(crate) received_at: Instant,
}

impl CachedObject {
    fn size(&self) -> usize {
        let payload: usize = self.payload.iter().map(Bytes::len).sum();
        payload + self.properties.as_bytes().len() + OBJECT_OVERHEAD
    }
}

#[derive(Debug)]
struct Group {
    objects: BTreeMap<ObjectId, CachedObject>,
    /// The group's last object, once that is known.
    last: Option<ObjectId>,
    /// Ranges of this group, inclusive, that are known to hold nothing but what is cached.
    known: Vec<(ObjectId, ObjectId)>,
    began_at: Instant,
    size: usize,
}

impl Group {
    const fn new(now: Instant) -> Self {
        Self { objects: BTreeMap::new(), last: None, known: Vec::new(), began_at: now, size: 0 }
    }

    /// The first object number from `from` on of which nothing is known; `None` if all is known.
    fn first_unknown(
        &self,
        from: ObjectId,
        fresh: impl Fn(&CachedObject) -> bool,
    ) -> Option<ObjectId> {
        let mut next = from;
        loop {
            if self.last.is_some_and(|last| last < next) {
                return None;
            }
            let covered_to = if self.objects.get(&next).is_some_and(&fresh) {
                next
            } else if self.objects.contains_key(&next) {
                return Some(next);
            } else {
                let Some((_, end)) =
                    self.known.iter().find(|(start, end)| *start <= next && next <= *end)
                else {
                    return Some(next);
                };
                self.objects.range(next..=*end).next().map_or(*end, |(id, _)| ObjectId(id.0 - 1))
            };
            next = ObjectId(covered_to.0.checked_add(1)?);
        }
    }
}

/// What became of an object that was put in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Inserted {
    /// It is new.
    New,
    /// It was here, and is the same as far as that can be told.
    Duplicate,
    /// It was here with other immutable fields: the track is malformed.
    Conflict,
}

/// The cached objects of one track.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    groups: BTreeMap<GroupId, Group>,
    /// Ranges of groups, exclusive at both ends, that are known not to exist.
    gaps: BTreeMap<GroupId, GroupId>,
    size: usize,
    duration_max: Option<Duration>,
    /// Groups that were begun since the last `take_new_groups`.
    new_groups: Vec<GroupId>,
}

impl Cache {
    /// Sets MAX_CACHE_DURATION: objects older than it are unknown again.
    pub(crate) const fn set_duration_max(&mut self, duration: Option<Duration>) {
        self.duration_max = duration;
    }

    /// Groups that were begun since this was last asked.
    pub(crate) fn take_new_groups(&mut self) -> Vec<GroupId> {
        std::mem::take(&mut self.new_groups)
    }

    /// Bytes held.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn group_count(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn oldest_group(&self) -> Option<(GroupId, Instant)> {
        self.groups.first_key_value().map(|(id, group)| (*id, group.began_at))
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
        if let Some(held) = self.object(location) {
            let same = held.subgroup == object.subgroup
                && held.priority == object.priority
                && held.status == object.status
                && held.payload_length == object.payload_length
                && starts_alike(&held.payload, &object.payload);
            if !same {
                return Inserted::Conflict;
            }
            if held.complete && self.is_fresh(held, now) {
                return Inserted::Duplicate;
            }
            self.remove(location);
        }
        let size = object.size();
        let new_groups = &mut self.new_groups;
        let group = self.groups.entry(location.group).or_insert_with(|| {
            new_groups.push(location.group);
            Group::new(now)
        });
        if group.last.is_some_and(|last| last < location.object) {
            return Inserted::Conflict;
        }
        group.size += size;
        self.size += size;
        if object.status == ObjectStatus::EndOfGroup || object.status == ObjectStatus::EndOfTrack {
            group.last = Some(location.object);
        }
        group.objects.insert(location.object, object);
        Inserted::New
    }

    /// Adds to the payload of an object that is arriving.
    pub(crate) fn append(&mut self, location: Location, bytes: Bytes, last: bool) {
        let Some(group) = self.groups.get_mut(&location.group) else { return };
        let Some(object) = group.objects.get_mut(&location.object) else { return };
        if object.complete {
            return;
        }
        group.size += bytes.len();
        self.size += bytes.len();
        object.payload.push(bytes);
        object.complete = last;
    }

    /// Forgets one object, whole or not.
    pub(crate) fn remove(&mut self, location: Location) {
        let Some(group) = self.groups.get_mut(&location.group) else { return };
        if let Some(object) = group.objects.remove(&location.object) {
            let size = object.size();
            group.size -= size;
            self.size -= size;
        }
    }

    /// Notes a group's last object. False if a later one is here: the track is malformed.
    pub(crate) fn end_group(&mut self, group: GroupId, last: ObjectId) -> bool {
        let Some(group) = self.groups.get_mut(&group) else { return true };
        if group.last.is_some_and(|known| known != last) {
            return false;
        }
        group.last = Some(last);
        group.objects.last_key_value().is_none_or(|(id, _)| *id <= last)
    }

    /// Forgets a group; its size.
    pub(crate) fn evict(&mut self, group: GroupId) -> usize {
        let size = self.groups.remove(&group).map_or(0, |group| group.size);
        self.size -= size;
        self.gaps.retain(|start, end| *end < group || group < *start);
        size
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
            self.remove(location);
        }
    }

    /// The object at `location`, whatever its age.
    pub(crate) fn object(&self, location: Location) -> Option<&CachedObject> {
        self.groups.get(&location.group)?.objects.get(&location.object)
    }

    /// Notes that nothing exists from `start` to `end` but what is cached there: a publisher's
    /// complete answer to a FETCH of it.
    pub(crate) fn mark_known(&mut self, start: Location, end: Location, now: Instant) {
        let last_of = |group: GroupId| {
            if group == end.group { end.object } else { ObjectId(u64::MAX) }
        };
        let first_of =
            |group: GroupId| if group == start.group { start.object } else { ObjectId(0) };
        for id in [start.group, end.group] {
            let new_groups = &mut self.new_groups;
            self.groups.entry(id).or_insert_with(|| {
                new_groups.push(id);
                Group::new(now)
            });
        }
        for (id, group) in self.groups.range_mut(start.group..=end.group) {
            group.known.push((first_of(*id), last_of(*id)));
        }
        if start.group < end.group {
            self.gaps.insert(start.group, end.group);
        }
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
                let gap_end = self.gaps.range(..group_id).next_back().map(|(_, end)| *end);
                let Some(gap_end) = gap_end.filter(|gap_end| group_id < *gap_end) else {
                    return Some(Location { group: group_id, object: from });
                };
                group_id = self
                    .groups
                    .range(group_id..)
                    .next()
                    .map_or(gap_end, |(id, _)| (*id).min(gap_end));
                from = ObjectId(0);
                continue;
            };
            let fresh = |object: &CachedObject| object.complete && self.is_fresh(object, now);
            match group.first_unknown(from, fresh) {
                Some(object) if group_id < end.group || object <= end.object => {
                    return Some(Location { group: group_id, object });
                }
                _ => {}
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
                Some(after) if after.group == id => ObjectId(after.object.0.saturating_add(1)),
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

/// Whether two payloads agree as far as both are here.
fn starts_alike(one: &[Bytes], other: &[Bytes]) -> bool {
    let one = one.iter().flat_map(|piece| piece.iter());
    let other = other.iter().flat_map(|piece| piece.iter());
    one.zip(other).all(|(one, other)| one == other)
}

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

use super::peer::PeerIndex;
use crate::transport::StreamId;

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
    /// Who still brings its payload; `None` once all of it is here.
    pub(crate) feeder: Option<Feeder>,
    pub(crate) standing: Standing,
    pub(crate) received_at: Instant,
}

/// Where an object's payload comes from. Of several who bring the same object one is believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Feeder {
    /// A publisher's stream.
    Live(PeerIndex, StreamId),
    /// A FETCH of ours.
    Fetch(u64),
}

/// What the track's subscribers have of an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Nothing: it came by a FETCH of ours.
    Fetched,
    /// Nothing yet: it came live, while another was on its way.
    Waiting,
    /// It has been sent to whoever wanted it.
    Forwarded,
}

impl CachedObject {
    /// Whether all of the payload is here.
    pub(crate) const fn is_complete(&self) -> bool {
        self.feeder.is_none()
    }

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
    /// No object of this number or above exists, once that is known.
    end: Option<ObjectId>,
    /// Ranges of this group, inclusive, that are known to hold nothing but what is cached.
    known: Vec<(ObjectId, ObjectId)>,
    began_at: Instant,
    size: usize,
}

impl Group {
    const fn new(now: Instant) -> Self {
        Self {
            objects: BTreeMap::new(),
            last: None,
            end: None,
            known: Vec::new(),
            began_at: now,
            size: 0,
        }
    }

    /// Whether an object, or what stands in its place, contradicts nothing that is known.
    fn admits(&self, id: ObjectId, status: ObjectStatus) -> bool {
        if status == ObjectStatus::Normal {
            return self.last.is_none_or(|last| id <= last) && self.end.is_none_or(|end| id < end);
        }
        self.last.is_none_or(|last| last < id)
            && !self.objects.range(id..).any(|(_, object)| object.status == ObjectStatus::Normal)
    }

    /// The first object number from `from` on of which nothing is known; `None` if all is known.
    fn first_unknown(
        &self,
        from: ObjectId,
        fresh: impl Fn(&CachedObject) -> bool,
    ) -> Option<ObjectId> {
        let mut next = from;
        loop {
            if self.last.is_some_and(|last| last < next) || self.end.is_some_and(|end| end <= next)
            {
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
        let fresh = self.object(location).is_some_and(|held| self.is_fresh(held, now));
        let mut was_forwarded = false;
        if let Some(held) = self.object_mut(location) {
            let same = held.subgroup == object.subgroup
                && held.priority == object.priority
                && held.status == object.status
                && held.payload_length == object.payload_length
                && object.payload.first().is_none_or(|piece| agree(&held.payload, 0, piece));
            if !same {
                return Inserted::Conflict;
            }
            if object.standing != Standing::Fetched && held.standing == Standing::Fetched {
                held.standing = Standing::Waiting;
            }
            match (held.feeder, object.feeder) {
                (None, _) if fresh => return Inserted::Duplicate,
                // Live it comes sooner than by a FETCH.
                (None, _) | (Some(Feeder::Fetch(_)), None | Some(Feeder::Live(..))) => {}
                (Some(_), _) => return Inserted::Arriving,
            }
            was_forwarded = held.standing == Standing::Forwarded;
            self.remove(location);
        }
        let size = object.size();
        let new_groups = &mut self.new_groups;
        let group = self.groups.entry(location.group).or_insert_with(|| {
            new_groups.push(location.group);
            Group::new(now)
        });
        if !group.admits(location.object, object.status) {
            return Inserted::Conflict;
        }
        group.size += size;
        self.size += size;
        if object.status != ObjectStatus::Normal {
            let end = group.end.map_or(location.object, |end| end.min(location.object));
            group.end = Some(end);
        }
        let standing = if was_forwarded { Standing::Forwarded } else { object.standing };
        group.objects.insert(location.object, CachedObject { standing, ..object });
        Inserted::New { was_forwarded }
    }

    /// Notes that an object goes to the subscribers; false if it did before, or is gone.
    pub(crate) fn mark_forwarded(&mut self, location: Location) -> bool {
        let Some(object) = self.object_mut(location) else { return false };
        let before = std::mem::replace(&mut object.standing, Standing::Forwarded);
        before != Standing::Forwarded
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
        let mut objects = self.groups.get(&group)?.objects.range(from..);
        let (id, object) = objects.find(|(_, object)| {
            object.subgroup == Some(subgroup) && object.standing == Standing::Waiting
        })?;
        Some((Location { group, object: *id }, object))
    }

    /// Adds to the payload of an object that is arriving.
    pub(crate) fn append(&mut self, location: Location, feeder: Feeder, bytes: Bytes, last: bool) {
        let Some(group) = self.groups.get_mut(&location.group) else { return };
        let Some(object) = group.objects.get_mut(&location.object) else { return };
        if object.feeder != Some(feeder) {
            return;
        }
        group.size += bytes.len();
        self.size += bytes.len();
        object.payload.push(bytes);
        if last {
            object.feeder = None;
        }
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
            .is_none_or(|held| held.feeder == Some(feeder) || agree(&held.payload, offset, bytes))
    }

    /// Forgets an object whose payload will never be whole, since who brought it is gone.
    pub(crate) fn drop_fed_by(&mut self, location: Location, feeder: Feeder) {
        if self.object(location).is_some_and(|object| object.feeder == Some(feeder)) {
            self.remove(location);
        }
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
    pub(crate) fn end_group(&mut self, last: Location) -> bool {
        let Some(group) = self.groups.get_mut(&last.group) else { return true };
        let is_object = |object: &CachedObject| object.status == ObjectStatus::Normal;
        if group.objects.get(&last.object).is_some_and(|object| !is_object(object)) {
            // What stands there is no object, but has said already where the group ends.
            return true;
        }
        let last = last.object;
        if group.last.is_some_and(|known| known != last) {
            return false;
        }
        group.last = Some(last);
        let later = ObjectId(last.0.saturating_add(1));
        later == last || !group.objects.range(later..).any(|(_, object)| is_object(object))
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

    fn object_mut(&mut self, location: Location) -> Option<&mut CachedObject> {
        self.groups.get_mut(&location.group)?.objects.get_mut(&location.object)
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
            let known = (first_of(*id), last_of(*id));
            group.known.retain(|(first, last)| *first < known.0 || known.1 < *last);
            group.known.push(known);
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
            let fresh = |object: &CachedObject| object.is_complete() && self.is_fresh(object, now);
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

/// Whether `bytes` are what `pieces` hold from `offset` on, as far as they go.
fn agree(pieces: &[Bytes], mut offset: usize, mut bytes: &[u8]) -> bool {
    for piece in pieces {
        let held = piece.get(offset..).unwrap_or_default();
        offset = offset.saturating_sub(piece.len());
        let length = held.len().min(bytes.len());
        if held[..length] != bytes[..length] {
            return false;
        }
        bytes = &bytes[length..];
    }
    true
}

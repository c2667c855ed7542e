//! One cached group: its objects, and what is known of those that are not here.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
    ops::RangeBounds,
};

use aip_codec::moqt::{
    id::{ObjectId, SubgroupId},
    property::{PRIOR_GROUP_ID_GAP, PRIOR_OBJECT_ID_GAP, Properties},
    stream::subgroup::ObjectStatus,
};

use super::{
    known::Known,
    object::{CachedObject, Standing},
};

/// What a group costs beyond its objects: itself, its trees' first nodes, its place in the relay's
/// order, about.
pub(super) const GROUP_OVERHEAD: usize = 1_088;
/// What a range of numbers costs.
const RANGE_OVERHEAD: usize = 48;
/// What a subgroup costs beyond its objects.
const SUBGROUP_OVERHEAD: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) objects: BTreeMap<ObjectId, Box<CachedObject>>,
    /// The group's last object, once that is known.
    pub(super) last: Option<ObjectId>,
    /// No object of this number or above exists, once that is known.
    pub(super) end: Option<ObjectId>,
    /// Objects of which it is known that they do not exist if they are not cached.
    pub(super) known: Known,
    /// Objects that the publisher has said never to exist (PRIOR_OBJECT_ID_GAP).
    absent: Known,
    /// What its objects say of the groups before it (PRIOR_GROUP_ID_GAP).
    prior_gap: Option<u64>,
    subgroups: BTreeMap<SubgroupId, Subgroup>,
    /// Objects that wait to be forwarded.
    waiting: BTreeSet<(SubgroupId, ObjectId)>,
    /// Its place in the relay's order of cached groups.
    pub(super) order: Option<u64>,
    /// Objects that have not been compacted.
    pub(super) unsettled: Vec<ObjectId>,
    object_bytes: usize,
}

/// What all objects of a subgroup have in common.
#[derive(Clone, Copy, Debug)]
struct Subgroup {
    priority: u8,
    /// The highest of its objects that has come.
    highest: Mark,
    /// Its last object, once a stream of it has ended with all there was.
    last: Mark,
    /// The highest of its objects that goes to the subscribers, or has.
    forwarded: Mark,
}

impl Subgroup {
    const fn new(priority: u8) -> Self {
        Self { priority, highest: Mark(None), last: Mark(None), forwarded: Mark(None) }
    }
}

/// An object's number, or none, which is lowest, in eight bytes: most groups have one subgroup, and are
/// many. The highest two numbers are one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Mark(Option<NonZeroU64>);

impl From<ObjectId> for Mark {
    fn from(id: ObjectId) -> Self {
        Self(NonZeroU64::new(id.0.saturating_add(1)))
    }
}

impl Group {
    /// What it costs.
    pub(super) fn size(&self) -> usize {
        GROUP_OVERHEAD
            + self.object_bytes
            + RANGE_OVERHEAD * (self.known.len() + self.absent.len())
            + SUBGROUP_OVERHEAD * self.subgroups.len()
    }

    /// Whether an object, or what stands in its place, contradicts nothing that is known.
    pub(super) fn admits(&self, id: ObjectId, object: &CachedObject) -> bool {
        if object.status != ObjectStatus::Normal {
            // It stands right behind the last object, where that is known, and nowhere else.
            return self.last.is_none_or(|last| last.0.checked_add(1) == Some(id.0))
                && self.end.is_none_or(|end| end == id)
                && !self.objects.range(id..).any(|(_, held)| is_object(held));
        }
        let subgroup = object.subgroup.and_then(|subgroup| self.subgroups.get(&subgroup));
        self.last.is_none_or(|last| id <= last)
            && self.end.is_none_or(|end| id < end)
            && subgroup.is_none_or(|subgroup| {
                subgroup.priority == object.priority
                    && (subgroup.last == Mark(None) || Mark::from(id) <= subgroup.last)
            })
            && !self.absent.contains(id.0)
            && self.admits_gaps(id, &object.properties)
    }

    /// Whether what an object says of those before it contradicts nothing (draft-22 section 10.8).
    fn admits_gaps(&self, id: ObjectId, properties: &Properties) -> bool {
        if properties.is_empty() {
            return true;
        }
        let once = |kind| properties.iter().filter(|pair| pair.key_type == kind).count() <= 1;
        let Some(gap) = properties.prior_object_id_gap() else {
            return once(PRIOR_GROUP_ID_GAP) && self.admits_prior_gap(properties);
        };
        let Some(first) = id.0.checked_sub(gap) else { return false };
        once(PRIOR_OBJECT_ID_GAP)
            && once(PRIOR_GROUP_ID_GAP)
            && self.admits_prior_gap(properties)
            && !self.objects.range(ObjectId(first)..id).any(|(_, held)| is_object(held))
    }

    fn admits_prior_gap(&self, properties: &Properties) -> bool {
        match (self.prior_gap, properties.prior_group_id_gap()) {
            (Some(held), Some(said)) => held == said,
            _ => true,
        }
    }

    /// Puts in an object that it admits.
    pub(super) fn insert(&mut self, id: ObjectId, object: CachedObject) {
        if object.status != ObjectStatus::Normal {
            self.end = Some(self.end.map_or(id, |end| end.min(id)));
        } else if let Some(subgroup) = object.subgroup {
            let new = || Subgroup::new(object.priority);
            let entry = self.subgroups.entry(subgroup).or_insert_with(new);
            entry.highest = entry.highest.max(id.into());
        }
        self.note_standing(id, object.subgroup, object.standing);
        if !object.properties.is_empty() {
            self.prior_gap = self.prior_gap.or_else(|| object.properties.prior_group_id_gap());
            let gap = object.properties.prior_object_id_gap().unwrap_or(0);
            if let (Some(first), Some(last)) = (id.0.checked_sub(gap), id.0.checked_sub(1))
                && 0 < gap
            {
                self.absent.insert(first, last);
                self.known.insert(first, last);
            }
        }
        self.unsettled.push(id);
        self.object_bytes += object.size();
        if let Some(before) = self.objects.insert(id, Box::new(object)) {
            self.object_bytes -= before.size();
        }
    }

    /// Forgets an object: nothing is known of it then.
    pub(super) fn remove(&mut self, id: ObjectId) {
        if let Some(object) = self.objects.remove(&id) {
            self.object_bytes -= object.size();
            self.known.remove(id.0);
            self.note_not_waiting(id, object.subgroup);
        }
    }

    /// Forgets an object that does not exist any more.
    pub(super) fn remove_for_good(&mut self, id: ObjectId) {
        if let Some(object) = self.objects.remove(&id) {
            self.object_bytes -= object.size();
            self.mark_known(id, id);
            self.note_not_waiting(id, object.subgroup);
        }
    }

    /// Changes an object.
    pub(super) fn change<R>(
        &mut self,
        id: ObjectId,
        change: impl FnOnce(&mut CachedObject) -> R,
    ) -> Option<R> {
        let object = self.objects.get_mut(&id)?;
        self.object_bytes -= object.size();
        let result = change(object);
        self.object_bytes += object.size();
        Some(result)
    }

    /// Notes that what is not cached of a range does not exist.
    pub(super) fn mark_known(&mut self, first: ObjectId, last: ObjectId) {
        // Cached neighbours are taken in, so that ranges between objects become one.
        let before = first.0.checked_sub(1).filter(|id| self.objects.contains_key(&ObjectId(*id)));
        let behind = last.0.checked_add(1).filter(|id| self.objects.contains_key(&ObjectId(*id)));
        self.known.insert(before.unwrap_or(first.0), behind.unwrap_or(last.0));
    }

    /// Notes the group's last object. False if a later one is here, or another was the last.
    pub(super) fn end_at(&mut self, last: ObjectId) -> bool {
        if self.objects.get(&last).is_some_and(|object| !is_object(object)) {
            // What stands there is no object, but has said already where the group ends.
            return true;
        }
        let is_other_end = self.end.is_some_and(|end| last.0.checked_add(1) != Some(end.0));
        if is_other_end || self.last.is_some_and(|known| known != last) {
            return false;
        }
        self.last = Some(last);
        let later = ObjectId(last.0.saturating_add(1));
        later == last || !self.objects.range(later..).any(|(_, object)| is_object(object))
    }

    /// Notes a subgroup's last object. False if a later one was, or another was the last.
    pub(super) fn end_subgroup_at(&mut self, subgroup: SubgroupId, last: ObjectId) -> bool {
        if self.objects.get(&last).is_some_and(|object| !is_object(object)) {
            return true;
        }
        let Some(entry) = self.subgroups.get_mut(&subgroup) else { return true };
        let last = Mark::from(last);
        if entry.last != Mark(None) && entry.last != last {
            return false;
        }
        entry.last = last;
        entry.highest <= last
    }

    /// The first object number from `from` to `to` of which nothing is known; `None` if all is
    /// known. No further object is looked at: a FETCH asks this for each that it sends.
    pub(super) fn first_unknown(
        &self,
        from: ObjectId,
        to: ObjectId,
        fresh: impl Fn(&CachedObject) -> bool,
    ) -> Option<ObjectId> {
        let mut next = from;
        while next <= to {
            if self.last.is_some_and(|last| last < next) || self.end.is_some_and(|end| end <= next)
            {
                return None;
            }
            let covered_to = match self.objects.get(&next) {
                Some(object) if fresh(object) => next,
                Some(_) => return Some(next),
                None => {
                    let Some(end) = self.known.end_of(next.0) else { return Some(next) };
                    let held = self.objects.range(next..=ObjectId(end)).next();
                    held.map_or(ObjectId(end), |(id, _)| ObjectId(id.0 - 1))
                }
            };
            next = ObjectId(covered_to.0.checked_add(1)?);
        }
        None
    }

    /// Forgets objects, lowest first, until `excess` bytes are gone; the last one stays.
    pub(super) fn trim(&mut self, excess: usize) {
        let target = self.size().saturating_sub(excess);
        while target < self.size() && 1 < self.objects.len() {
            let Some((&lowest, _)) = self.objects.first_key_value() else { return };
            self.remove(lowest);
        }
        if target < self.size() {
            self.known = Known::default();
        }
    }

    /// Whether an object is known that exists.
    pub(super) fn has_objects(&self) -> bool {
        self.objects.values().any(|object| is_object(object))
    }

    /// Whole objects of a range that have gone to the subscribers.
    pub(super) fn forwarded(&self, range: impl RangeBounds<ObjectId>) -> Vec<ObjectId> {
        let objects = self.objects.range(range);
        objects.filter(|(_, object)| is_gone(object)).map(|(id, _)| *id).collect()
    }

    /// Notes that an object goes to the subscribers; false if it did before, or is gone.
    pub(super) fn mark_forwarded(&mut self, id: ObjectId) -> bool {
        self.set_standing(id, Standing::Forwarded).is_some_and(|old| old != Standing::Forwarded)
    }

    /// Changes where an object stands; where it stood.
    pub(super) fn set_standing(&mut self, id: ObjectId, standing: Standing) -> Option<Standing> {
        let object = self.objects.get_mut(&id)?;
        let subgroup = object.subgroup;
        let before = std::mem::replace(&mut object.standing, standing);
        self.note_standing(id, subgroup, standing);
        Some(before)
    }

    fn note_standing(&mut self, id: ObjectId, subgroup: Option<SubgroupId>, standing: Standing) {
        let Some(subgroup) = subgroup else { return };
        if standing == Standing::Waiting {
            self.waiting.insert((subgroup, id));
            return;
        }
        self.waiting.remove(&(subgroup, id));
        if standing == Standing::Forwarded
            && let Some(entry) = self.subgroups.get_mut(&subgroup)
        {
            entry.forwarded = entry.forwarded.max(id.into());
        }
    }

    fn note_not_waiting(&mut self, id: ObjectId, subgroup: Option<SubgroupId>) {
        if let Some(subgroup) = subgroup {
            self.waiting.remove(&(subgroup, id));
        }
    }

    /// The first object of a subgroup, `from` or behind, that waits to be forwarded.
    pub(super) fn first_waiting(&self, subgroup: SubgroupId, from: ObjectId) -> Option<ObjectId> {
        let rest = (subgroup, from)..=(subgroup, ObjectId(u64::MAX));
        self.waiting.range(rest).next().map(|(_, id)| *id)
    }

    /// Whether an object of a subgroup goes to the subscribers, or has, that is `first` or behind.
    pub(super) fn has_forwarded_from(&self, first: ObjectId, subgroup: SubgroupId) -> bool {
        let subgroup = self.subgroups.get(&subgroup);
        subgroup.is_some_and(|it| Mark::from(first) <= it.forwarded)
    }

    /// Whether everything that exists of the group is here and has gone to the subscribers.
    pub(super) fn is_forwarded_whole(&self) -> bool {
        (self.last.is_some() || self.end.is_some())
            && self.objects.values().all(|object| is_gone(object))
            && self.first_unknown(ObjectId(0), ObjectId(u64::MAX), |_| true).is_none()
    }

    /// What the group says of those before it.
    pub(super) const fn prior_gap(&self) -> Option<u64> {
        self.prior_gap
    }

    /// Copies small objects out of the chunks that they were received into; true once that is so
    /// for all.
    pub(super) fn compact(&mut self) -> bool {
        let mut unsettled = std::mem::take(&mut self.unsettled);
        unsettled.retain(|id| {
            self.change(*id, CachedObject::compact);
            self.objects.get(id).is_some_and(|object| !object.is_complete())
        });
        self.unsettled = unsettled;
        self.unsettled.is_empty()
    }
}

fn is_gone(object: &CachedObject) -> bool {
    object.standing == Standing::Forwarded && object.is_complete()
}

fn is_object(object: &CachedObject) -> bool {
    object.status == ObjectStatus::Normal
}

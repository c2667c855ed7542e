//! Versions that are arriving: objects come on live streams and in fills, in any order, and a
//! group is told once all of it is here.

use std::collections::{BTreeMap, HashMap};

use aip_codec::moqt::{
    id::{GroupId, ObjectId, RequestId, TrackAlias},
    location::Location,
    name::FullTrackName,
    property::Properties,
};
use bytes::{Bytes, BytesMut};

use crate::transport::StreamId;

/// Object property on a version's object 0: how many objects the version has. Absent is 1, or
/// what a stream's end says. A fill of a group that is still arriving somewhere on its way ends
/// before the group does, and nothing else tells that from the group's end.
pub const OBJECT_COUNT: u64 = 0x3a12;

/// Groups of one track that may arrive at one time; of more the oldest are given up.
const ARRIVING_MAX: usize = 8;

/// Streams that are read in one session.
#[derive(Debug, Default)]
pub(super) struct Readings {
    pub(super) by_stream: HashMap<StreamId, Reading>,
    pub(super) by_fill: HashMap<RequestId, Reading>,
    pub(super) by_alias: BTreeMap<TrackAlias, FullTrackName>,
}

/// One stream: a subgroup's, or a fill's.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) track: FullTrackName,
    /// The group, if it is a subgroup's.
    pub(super) group: Option<GroupId>,
    /// The object that came last or is arriving.
    pub(super) location: Option<Location>,
    /// The arriving object's payload, as far as it has come in more than one piece.
    arriving: Option<BytesMut>,
}

impl Reading {
    pub(super) const fn new(track: FullTrackName) -> Self {
        Self { track, group: None, location: None, arriving: None }
    }

    /// An object begins; its payload if that is all of it.
    pub(super) fn begin(
        &mut self,
        location: Location,
        payload: Bytes,
        last: bool,
    ) -> Option<(Location, Bytes)> {
        self.location = Some(location);
        if last {
            self.arriving = None;
            return Some((location, payload));
        }
        self.arriving = Some(BytesMut::from(&payload[..]));
        None
    }

    /// More of an object's payload; all of it if that was the last of it.
    pub(super) fn add(
        &mut self,
        bytes: &Bytes,
        last: bool,
        length_max: usize,
    ) -> Option<(Location, Bytes)> {
        let arriving = self.arriving.as_mut()?;
        if length_max < arriving.len() + bytes.len() {
            // Too large: what follows of it is left.
            self.arriving = None;
            return None;
        }
        arriving.extend_from_slice(bytes);
        if !last {
            return None;
        }
        Some((self.location?, self.arriving.take()?.freeze()))
    }
}

/// Groups of one track that are not whole yet.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    groups: BTreeMap<GroupId, Group>,
}

#[derive(Debug, Default)]
struct Group {
    objects: BTreeMap<ObjectId, Bytes>,
    count: Option<u64>,
    size: usize,
}

impl Arriving {
    /// Notes how many objects a group has, if its first object says so.
    pub(super) fn note_properties(&mut self, location: Location, properties: &Properties) {
        if location.object == ObjectId(0)
            && let Some(count) = properties.integer(OBJECT_COUNT)
        {
            self.group(location.group).count = Some(count);
        }
    }

    /// An object is here whole.
    pub(super) fn insert(&mut self, location: Location, payload: Bytes, length_max: usize) {
        let group = self.group(location.group);
        if length_max < group.size + payload.len() {
            return;
        }
        group.size += payload.len();
        if let Some(before) = group.objects.insert(location.object, payload) {
            group.size -= before.len();
        }
    }

    /// A stream has ended with this object, which is the group's last unless its first says
    /// otherwise.
    pub(super) fn note_end(&mut self, last: Location) {
        let count = last.object.0.saturating_add(1);
        self.group(last.group).count.get_or_insert(count);
    }

    fn group(&mut self, id: GroupId) -> &mut Group {
        while ARRIVING_MAX <= self.groups.len() && !self.groups.contains_key(&id) {
            self.groups.pop_first();
        }
        self.groups.entry(id).or_default()
    }

    /// The newest group that is whole; it and all older ones are forgotten.
    pub(super) fn take_whole(&mut self) -> Option<(GroupId, Vec<Bytes>)> {
        let is_whole = |group: &Group| {
            let expected = (0..group.count?).map(ObjectId);
            let count = usize::try_from(group.count?).ok()?;
            let whole = 0 < count
                && group.objects.len() == count
                && group.objects.keys().copied().eq(expected);
            whole.then_some(())
        };
        let newest = self
            .groups
            .iter()
            .rev()
            .find(|(_, group)| is_whole(group).is_some())
            .map(|(id, _)| *id)?;
        let group = self.groups.remove(&newest)?;
        self.groups.retain(|id, _| newest < *id);
        Some((newest, group.objects.into_values().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn counted(count: u64) -> Properties {
        Properties::builder().integer(OBJECT_COUNT, count).build().unwrap()
    }

    #[test]
    fn a_group_is_whole_when_its_first_object_says_so() {
        let mut arriving = Arriving::default();
        let at = |object| Location::new(7, object);
        arriving.note_properties(at(0), &counted(2));
        arriving.insert(at(0), payload("a"), 10);
        // A fill that ends before the group does.
        arriving.note_end(at(0));
        assert_eq!(arriving.take_whole(), None);
        arriving.insert(at(1), payload("b"), 10);
        assert_eq!(arriving.take_whole(), Some((GroupId(7), vec![payload("a"), payload("b")])));
        assert_eq!(arriving.take_whole(), None);
    }

    #[test]
    fn parts_of_a_group_come_in_any_order() {
        let mut arriving = Arriving::default();
        let at = |object| Location::new(7, object);
        arriving.insert(at(1), payload("b"), 10);
        arriving.note_end(at(1));
        assert_eq!(arriving.take_whole(), None);
        arriving.insert(at(0), payload("a"), 10);
        assert_eq!(arriving.take_whole(), Some((GroupId(7), vec![payload("a"), payload("b")])));
    }

    #[test]
    fn older_groups_go_with_a_newer_one_and_too_many_are_given_up() {
        let mut arriving = Arriving::default();
        for group in 0..100 {
            arriving.insert(Location::new(group, 0), payload("a"), 10);
        }
        assert_eq!(arriving.groups.len(), ARRIVING_MAX);
        arriving.note_end(Location::new(98, 0));
        assert_eq!(arriving.take_whole(), Some((GroupId(98), vec![payload("a")])));
        assert_eq!(arriving.groups.len(), 1);
        arriving.insert(Location::new(99, 1), Bytes::from(vec![0; 10]), 10);
        arriving.note_end(Location::new(99, 1));
        assert_eq!(arriving.take_whole(), None, "it is too large");
    }
}

//! Fetches: what comes was published, and what is said not to exist does not.

use std::{collections::BTreeMap, time::Duration};

use aip_codec::moqt::{location::Location, parameter::GroupOrder, stream::fetch::RangeKind};
use aip_engine::session::StreamEnd;
use bytes::{Bytes, BytesMut};

use super::Objects;

/// A fetch: the node, which of its connections, and a number there.
type Key = (usize, u64, u64);

/// What a fetch asked for and has got.
#[derive(Debug)]
pub struct Fetched {
    /// The track.
    pub track: u64,
    /// First location asked for.
    pub start: Location,
    /// Last location asked for.
    pub end: Location,
    /// In which order.
    pub order: GroupOrder,
    /// When it was asked.
    pub asked_at: Duration,
    /// The end that its answer named, inclusive.
    answered_to: Option<Location>,
    previous: Option<Location>,
    arriving: Option<BytesMut>,
    objects: Vec<Location>,
    /// Ranges of which nothing is known.
    unknown: Vec<(Location, Location)>,
    over: bool,
}

impl Fetched {
    /// A fetch that was just asked.
    pub const fn new(
        track: u64,
        (start, end): (Location, Location),
        order: GroupOrder,
        asked_at: Duration,
    ) -> Self {
        Self {
            track,
            start,
            end,
            order,
            asked_at,
            answered_to: None,
            previous: None,
            arriving: None,
            objects: Vec::new(),
            unknown: Vec::new(),
            over: false,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Fetches {
    table: BTreeMap<Key, Fetched>,
}

impl Fetches {
    /// Somebody fetches.
    pub fn asked(&mut self, key: Key, fetch: Fetched) {
        self.table.insert(key, fetch);
    }

    /// Its answer names the end.
    pub fn answered(&mut self, key: Key, end: Location) {
        if let Some(fetch) = self.table.get_mut(&key) {
            fetch.answered_to = Some(end);
        }
    }

    /// It is over: refused, cancelled, or its connection lost.
    pub fn ended(&mut self, key: Key) {
        if let Some(fetch) = self.table.get_mut(&key) {
            fetch.over = true;
        }
    }

    /// Fetches of a node that are under way.
    pub fn live(&self, node: usize, connection: u64) -> Vec<u64> {
        self.table
            .iter()
            .filter(|((owner, other, _), fetch)| {
                (*owner, *other) == (node, connection) && !fetch.over
            })
            .map(|((.., id), _)| *id)
            .collect()
    }

    /// An object begins.
    ///
    /// # Panics
    /// If it was not asked for, or comes out of order.
    pub fn object(
        &mut self,
        key: Key,
        location: Location,
        payload: &Bytes,
        last: bool,
        objects: &Objects,
    ) {
        let Some(fetch) = self.table.get_mut(&key).filter(|fetch| !fetch.over) else { return };
        assert!(fetch.start <= location && location <= fetch.end, "{key:?}: {location} unasked");
        let in_order = match (fetch.previous, fetch.order) {
            (None, _) => true,
            (Some(previous), GroupOrder::Ascending) => previous < location,
            (Some(previous), GroupOrder::Descending) => {
                location.group < previous.group
                    || location.group == previous.group && previous < location
            }
        };
        assert!(in_order, "{key:?}: {location} after {:?}", fetch.previous);
        fetch.previous = Some(location);
        fetch.objects.push(location);
        fetch.arriving = Some(BytesMut::new());
        self.more(key, payload, last, objects);
    }

    /// More of it.
    ///
    /// # Panics
    /// If it is not what was published.
    pub fn more(&mut self, key: Key, bytes: &Bytes, last: bool, objects: &Objects) {
        let Some(fetch) = self.table.get_mut(&key).filter(|fetch| !fetch.over) else { return };
        let (Some(arriving), Some(location)) = (&mut fetch.arriving, fetch.previous) else {
            return;
        };
        arriving.extend_from_slice(bytes);
        if last {
            let payload = fetch.arriving.take().map(BytesMut::freeze);
            let published = objects.payload(fetch.track, location);
            assert_eq!(
                payload.as_ref(),
                published,
                "{key:?}: {location} is not what was published"
            );
        }
    }

    /// A range without objects.
    pub fn range(&mut self, key: Key, kind: RangeKind, end: Location) {
        let Some(fetch) = self.table.get_mut(&key) else { return };
        let from = fetch.previous.map_or(fetch.start, Location::next_object);
        if kind != RangeKind::NonExistent {
            fetch.unknown.push((from, end));
        }
        fetch.previous = Some(end);
    }

    /// Its data ends. What was published before it was asked, up to the end that was answered, has
    /// come or is said to be unknown.
    ///
    /// # Panics
    /// If something that exists is said not to.
    pub fn data_ended(&mut self, key: Key, end: StreamEnd, objects: &Objects) {
        let Some(fetch) = self.table.get_mut(&key).filter(|fetch| !fetch.over) else { return };
        fetch.over = true;
        let (Some(answered_to), StreamEnd::Fin) = (fetch.answered_to, end) else { return };
        let range = (fetch.start, fetch.end.min(answered_to));
        for location in objects.before(fetch.track, range, fetch.asked_at) {
            let is_told = fetch.objects.contains(&location)
                || fetch.unknown.iter().any(|(from, to)| *from <= location && location <= *to);
            assert!(is_told, "{key:?}: {} {location} is said not to exist", fetch.track);
        }
    }

    /// Every fetch has ended.
    ///
    /// # Panics
    /// If one has not.
    pub fn check_settled(&self) {
        for (key, fetch) in &self.table {
            assert!(fetch.over, "{key:?} waits for ever: {fetch:?}");
        }
    }
}

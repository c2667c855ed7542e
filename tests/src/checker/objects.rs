//! Objects on subgroup streams: as published, in order, once; and if the weather is calm, all.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aip_codec::moqt::{location::Location, stream::subgroup::SubgroupHeader};
use aip_engine::{session::StreamEnd, transport::StreamId};
use bytes::{Bytes, BytesMut};

/// A subscription: the node, which of its connections, and a number there.
pub type SubscriptionKey = (usize, u64, u64);

#[derive(Debug)]
struct Subscription {
    track: u64,
    accepted_at: Option<Duration>,
    ended: bool,
    delivered: BTreeSet<Location>,
    /// Delivered on streams that were reset later: they may come again.
    doubtful: BTreeSet<Location>,
    /// Groups of which a stream was reset: that is the word that some of it does not come.
    cut: BTreeSet<u64>,
}

#[derive(Debug)]
struct Stream {
    subscription: SubscriptionKey,
    group: u64,
    previous: Option<u64>,
    arriving: Option<(u64, BytesMut)>,
    objects: BTreeSet<Location>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Objects {
    /// What was published, and when.
    published: BTreeMap<(u64, Location), (Bytes, Duration)>,
    subscriptions: BTreeMap<SubscriptionKey, Subscription>,
    streams: BTreeMap<(usize, u64, StreamId), Stream>,
    /// By connection, streams that were reset before their headers came.
    unnamed: BTreeMap<(usize, u64), usize>,
}

impl Objects {
    /// A publisher hands an object over.
    pub fn published(&mut self, track: u64, location: Location, payload: Bytes, now: Duration) {
        self.published.insert((track, location), (payload, now));
    }

    /// What was published of a track in a range, in order.
    pub fn in_range(
        &self,
        track: u64,
        start: Location,
        end: Location,
    ) -> impl DoubleEndedIterator<Item = (Location, &Bytes)> {
        self.published
            .range((track, start)..=(track, end.max(start)))
            .filter(move |_| start <= end)
            .map(|((_, location), (payload, _))| (*location, payload))
    }

    /// The same, as far as it was published before `until`.
    pub fn before(
        &self,
        track: u64,
        (start, end): (Location, Location),
        until: Duration,
    ) -> Vec<Location> {
        self.published
            .range((track, start)..=(track, end.max(start)))
            .filter(|((_, location), (_, when))| *location <= end && *when < until)
            .map(|((_, location), _)| *location)
            .collect()
    }

    /// The payload that was published.
    pub fn payload(&self, track: u64, location: Location) -> Option<&Bytes> {
        self.published.get(&(track, location)).map(|(payload, _)| payload)
    }

    /// The largest object of a track.
    pub fn largest(&self, track: u64) -> Option<Location> {
        self.in_range(track, Location::default(), Location::MAX)
            .next_back()
            .map(|(location, _)| location)
    }

    /// A subscriber asks for a track, all of it.
    pub fn subscribed(&mut self, key: SubscriptionKey, track: u64) {
        self.subscriptions.insert(
            key,
            Subscription {
                track,
                accepted_at: None,
                ended: false,
                delivered: BTreeSet::new(),
                doubtful: BTreeSet::new(),
                cut: BTreeSet::new(),
            },
        );
    }

    /// Its subscription is accepted.
    pub fn accepted(&mut self, key: SubscriptionKey, now: Duration) {
        if let Some(entry) = self.subscriptions.get_mut(&key) {
            entry.accepted_at = Some(now);
        }
    }

    /// It is over, by whoever's word.
    pub fn ended(&mut self, key: SubscriptionKey) {
        if let Some(entry) = self.subscriptions.get_mut(&key) {
            entry.ended = true;
        }
    }

    /// A stream of a subscription begins.
    pub fn opened(
        &mut self,
        (node, connection, stream): (usize, u64, StreamId),
        subscription: SubscriptionKey,
        header: &SubgroupHeader,
    ) {
        self.streams.insert(
            (node, connection, stream),
            Stream {
                subscription,
                group: header.group.0,
                previous: None,
                arriving: None,
                objects: BTreeSet::new(),
            },
        );
    }

    /// An object begins on a stream.
    ///
    /// # Panics
    /// If objects do not ascend.
    pub fn object(
        &mut self,
        key: (usize, u64, StreamId),
        object: u64,
        payload: &Bytes,
        last: bool,
    ) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        assert!(stream.previous < Some(object), "{key:?}: {object} after {:?}", stream.previous);
        assert!(stream.arriving.is_none(), "{key:?}: {object} in the midst of another");
        stream.previous = Some(object);
        stream.arriving = Some((object, BytesMut::new()));
        self.more(key, payload, last);
    }

    /// More of it.
    ///
    /// # Panics
    /// If it is not what was published, or came before.
    pub fn more(&mut self, key: (usize, u64, StreamId), bytes: &Bytes, last: bool) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let Some((object, arriving)) = &mut stream.arriving else { return };
        arriving.extend_from_slice(bytes);
        if !last {
            return;
        }
        let location = Location::new(stream.group, *object);
        let payload = stream.arriving.take().map(|(_, bytes)| bytes.freeze()).unwrap_or_default();
        let Some(subscription) = self.subscriptions.get_mut(&stream.subscription) else { return };
        let track = subscription.track;
        let published = self.published.get(&(track, location)).map(|(payload, _)| payload);
        assert_eq!(
            published,
            Some(&payload),
            "{key:?}: {track} {location} is not what was published"
        );
        stream.objects.insert(location);
        let is_new = subscription.delivered.insert(location);
        let may_repeat = subscription.doubtful.remove(&location);
        assert!(is_new || may_repeat, "{key:?}: {track} {location} came twice");
    }

    /// A stream ends.
    pub fn closed(&mut self, key: (usize, u64, StreamId), end: StreamEnd) {
        let Some(stream) = self.streams.remove(&key) else { return };
        let Some(subscription) = self.subscriptions.get_mut(&stream.subscription) else { return };
        if end != StreamEnd::Fin {
            subscription.cut.insert(stream.group);
            subscription.doubtful.extend(stream.objects);
        }
    }

    /// On a connection so many streams more were reset before their headers came: that, too, is the
    /// word that some of a group does not come, but nobody can tell of which.
    pub fn unnamed_resets(&mut self, connection: (usize, u64), count: usize) {
        if 0 < count {
            *self.unnamed.entry(connection).or_default() += count;
        }
    }

    /// Nothing was lost without a word: whoever was accepted before an object was published, and
    /// is not over, has it, unless a stream of its group was reset. A stream that was reset before its
    /// header came may have been of any group, but only of one.
    ///
    /// # Panics
    /// If something was lost.
    pub fn check_nothing_lost(&self) {
        let mut unnamed = self.unnamed.clone();
        for (key, entry) in &self.subscriptions {
            let mut excused = BTreeSet::new();
            for location in self.lost(entry) {
                let left = unnamed.entry((key.0, key.1)).or_default();
                if excused.contains(&location.group) {
                    continue;
                }
                assert!(0 < *left, "{key:?}: {} {location} was lost", entry.track);
                *left -= 1;
                excused.insert(location.group);
            }
        }
    }

    /// What a subscription has not got, and no word of either.
    fn lost<'a>(&'a self, entry: &'a Subscription) -> impl Iterator<Item = Location> + 'a {
        let accepted_at = entry.accepted_at.filter(|_| !entry.ended);
        let all = (entry.track, Location::default())..=(entry.track, Location::MAX);
        self.published
            .range(all)
            .filter(move |(_, (_, when))| accepted_at.is_some_and(|accepted| accepted < *when))
            .map(|((_, location), _)| *location)
            .filter(|location| {
                !entry.delivered.contains(location) && !entry.cut.contains(&location.group.0)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A subscriber of track 1 that was accepted before two groups were published, and got neither.
    fn without(unnamed_resets: usize) -> Objects {
        let mut objects = Objects::default();
        objects.subscribed((0, 1, 2), 1);
        objects.accepted((0, 1, 2), Duration::ZERO);
        for (group, object) in [(4, 0), (4, 1), (5, 0)] {
            let location = Location::new(group, object);
            objects.published(1, location, Bytes::new(), Duration::from_secs(1));
        }
        objects.unnamed_resets((0, 1), unnamed_resets);
        objects
    }

    #[test]
    fn streams_without_headers_excuse_a_group_each() {
        without(2).check_nothing_lost();
    }

    #[test]
    #[should_panic(expected = "(0, 1, 2): 1 5/0 was lost")]
    fn a_stream_without_header_excuses_no_second_group() {
        without(1).check_nothing_lost();
    }

    #[test]
    #[should_panic(expected = "(0, 1, 2): 1 4/0 was lost")]
    fn nothing_is_lost_without_a_word() {
        without(0).check_nothing_lost();
    }
}

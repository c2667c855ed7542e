//! A track whose publisher is lost goes on from another: what may have been missed is fetched, and
//! goes to the subscribers in its place, on the streams that they have, before what comes live.
//!
//! From the loss until the FETCH has ended, what comes live of the same groups waits in the cache.
//! Where it cannot be made whole, subscribers are told that their subscription is over: nothing is
//! missing without a word.
//!
//! What was newest then may still go on, so its streams are kept open (orphans) until another
//! publisher's stream of it comes. If a later group comes first, publishers are asked for the rest: a
//! stream's end says that its subgroup is whole, and that is not ours to guess.

use std::{collections::BTreeSet, time::Instant};

use aip_codec::moqt::{
    error_code::{PublishDoneCode, ResetCode},
    id::{GroupId, ObjectId, SubgroupId},
    location::Location,
    parameter::GroupOrder,
};

use super::{
    Relay,
    cache::Feeder,
    fetch_task::after,
    peer::{Owner, PeerIndex},
    track::{Subscriber, Track, TrackIndex},
};
use crate::{session::StreamEnd, transport::StreamId};

/// What has to come again before what comes live goes on.
#[derive(Debug)]
pub(crate) struct Recovery {
    /// The first location that may have been missed.
    from: Location,
    /// The last one; `None` while nobody could say.
    end: Option<Location>,
    /// Nothing was missed behind this group, whatever has come of later ones.
    until: Option<GroupId>,
    /// Our FETCH of it.
    fetch: Option<u64>,
    /// How streams are reset that cannot go on.
    code: ResetCode,
    /// Publishers that were asked for it.
    asked: Vec<PeerIndex>,
}

impl Recovery {
    fn of(from: Location, until: Option<GroupId>, code: ResetCode) -> Self {
        let end = until.map(last_of);
        Self { from, end, until, fetch: None, code, asked: Vec::new() }
    }

    /// The last location that may have been missed, if this is the largest that is known of.
    fn end_below(&self, largest: Location) -> Location {
        self.until.map_or(largest, |group| last_of(group).min(largest))
    }
}

/// An object whose publisher was lost in its midst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted {
    /// Bytes of its payload that have gone to the subscribers.
    pub(crate) sent: usize,
    /// How long its payload is.
    pub(crate) payload_length: u64,
}

impl Track {
    /// Whether what comes live of a group has to wait.
    pub(crate) fn holds(&self, group: GroupId) -> bool {
        self.recovery
            .as_ref()
            .is_some_and(|recovery| recovery.end.is_none_or(|end| group <= end.group))
    }

    /// From where something may be missing.
    pub(crate) fn missing_from(&self) -> Option<Location> {
        self.recovery.as_ref().map(|recovery| recovery.from)
    }

    /// How a stream is reset that nobody will go on with.
    pub(crate) fn loss_code(&self) -> ResetCode {
        self.recovery.as_ref().map_or(ResetCode::INTERNAL_ERROR, |recovery| recovery.code)
    }

    /// Whether all of a subgroup has gone to its subscribers, and it is known that there is no more.
    fn is_whole(&self, (group, subgroup): (GroupId, SubgroupId), now: Instant) -> bool {
        let from = self.rest_of((group, subgroup));
        self.cache.first_unknown(from, last_of(group), now).is_none()
    }

    /// Where what was not sent of a subgroup begins.
    fn rest_of(&self, key: (GroupId, SubgroupId)) -> Location {
        let previous = self.active.get(&key).and_then(|active| active.previous);
        let first = Location { group: key.0, object: ObjectId(0) };
        previous.map_or(first, |object| after(Location { group: key.0, object }))
    }

    /// Whether a FETCH of ours makes up for what was missed.
    pub(crate) fn recovers_by(&self, fetch: u64) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| recovery.fetch == Some(fetch))
    }

    /// The object of a subgroup that is known to come directly before `object`, on a new stream of
    /// the subgroup that begins with it.
    pub(crate) fn recovered_before(
        &self,
        key: (GroupId, SubgroupId),
        object: ObjectId,
        now: Instant,
    ) -> Option<ObjectId> {
        let recovered_to = self.recovered_to?;
        let previous = self.active.get(&key)?.previous.filter(|previous| *previous < object)?;
        let from = after(Location { group: key.0, object: previous });
        let to = recovered_to.min(Location { group: key.0, object: ObjectId(object.0 - 1) });
        let is_known = to < from || self.cache.first_unknown(from, to, now).is_none();
        is_known.then_some(previous)
    }

    /// Without subscribers nothing was missed.
    pub(crate) fn forget_recovery_if_alone(&mut self) {
        if self.subscribers.is_empty() && self.recovery.take().is_some() {
            self.active.retain(|_, active| 0 < active.sources);
            self.orphans.clear();
        }
    }

    /// Whether a subscriber should have had something of what was missed and is not known.
    fn is_missed_by(&self, subscriber: &Subscriber, now: Instant) -> bool {
        let Some((recovery, end)) = self.recovery.as_ref().zip(self.missed_to()) else {
            return false;
        };
        let joined = subscriber.joined_at.map_or_else(Location::default, after);
        let from = recovery.from.max(joined);
        from <= end && self.cache.first_unknown(from, end, now).is_some()
    }

    /// Up to where something may have been missed: what is behind that comes live.
    fn missed_to(&self) -> Option<Location> {
        self.recovery.as_ref().and_then(|recovery| recovery.end).or(self.largest)
    }

    /// Where to begin to ask for what may have been missed: what was on its way, one group more
    /// since streams overtake each other, but nothing that no subscriber is to have.
    fn missed_from(&self) -> Location {
        let begun = self.active.keys().map(|(group, _)| *group).min();
        let newest = self.largest.map(|largest| GroupId(largest.group.0.saturating_sub(1)));
        let low = begun.into_iter().chain(newest).min();
        let low = low.max(self.cache.first_group()).unwrap_or_default();
        let joined = self
            .subscribers
            .iter()
            .map(|(_, subscriber)| subscriber.joined_at.map_or_else(Location::default, after))
            .min();
        joined.unwrap_or_default().max(Location { group: low, object: ObjectId(0) })
    }
}

impl Relay {
    /// A publisher's stream is lost with its publisher: what it brought may go on from another.
    pub(super) fn source_lost(
        &mut self,
        peer: PeerIndex,
        stream: StreamId,
        code: ResetCode,
        now: Instant,
    ) {
        let track = self.peers[peer.0].incoming.get(&stream).map(|incoming| incoming.track);
        let has_subscribers = track
            .and_then(|index| self.tracks.get(index.0))
            .is_some_and(|track| !track.subscribers.is_empty());
        if !has_subscribers {
            self.source_ended(peer, stream, StreamEnd::Reset(code), now);
            return;
        }
        let Some(incoming) = self.peers[peer.0].incoming.remove(&stream) else { return };
        self.lose_splices(&incoming);
        let (index, Some(subgroup)) = (incoming.track, incoming.subgroup) else { return };
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let key = (incoming.header.group, subgroup);
        let Some(active) = track.active.get_mut(&key) else { return };
        active.sources = active.sources.saturating_sub(1);
        if let Some(object) = incoming.previous {
            let location = Location { group: key.0, object };
            if active.current == Some((peer, stream)) {
                active.current = None;
                active.interrupted = track.cache.object(location).map(|object| Interrupted {
                    sent: incoming.payload_length,
                    payload_length: object.payload_length,
                });
            }
            track.cache.drop_fed_by(location, Feeder::Live(peer, stream));
        }
        self.account(index);
        self.note_loss(index, code);
    }

    /// A publisher of a track with subscribers is lost: something may have been missed.
    pub(super) fn note_loss(&mut self, index: TrackIndex, code: ResetCode) {
        if let Some(track) = self.tracks.get(index.0) {
            self.note_missing(index, track.missed_from(), code);
        }
    }

    /// Something may have been missed of a track with subscribers, from there on.
    pub(super) fn note_missing(&mut self, index: TrackIndex, from: Location, code: ResetCode) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if track.subscribers.is_empty() {
            return;
        }
        let before = track.recovery.as_ref();
        let from = before.map_or(from, |recovery| recovery.from.min(from));
        let code = before.map_or(code, |recovery| recovery.code);
        track.recovery = Some(Recovery::of(from, None, code));
    }

    /// Asks another publisher for what may have been missed, if there is one.
    pub(super) fn recover(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let Some(recovery) = track.recovery.as_ref().filter(|it| it.fetch.is_none()) else {
            return;
        };
        let publishers: Vec<PeerIndex> = track
            .upstreams
            .iter()
            .rev()
            .filter(|upstream| upstream.established)
            .map(|upstream| upstream.key.peer)
            .filter(|peer| self.peers[peer.0].session.is_established())
            .collect();
        if publishers.is_empty() {
            return;
        }
        let missed = track.largest.and_then(|largest| {
            let end = recovery.end_below(largest);
            let from = track.cache.first_unknown(recovery.from, end, now)?;
            Some((from, end))
        });
        let Some(missed) = missed.filter(|(from, end)| from <= end) else {
            self.recovered(index, now);
            return;
        };
        let mut publishers = publishers;
        publishers.retain(|peer| !recovery.asked.contains(peer));
        for peer in publishers {
            let asked = self.fetch_from(index, peer, missed, GroupOrder::Ascending, now);
            let fetch = asked.and_then(|key| {
                match self.peers.get(key.peer.0)?.requests.get(&key.request)? {
                    Owner::UpstreamFetch { fetch, .. } => Some(*fetch),
                    _ => None,
                }
            });
            let Some(recovery) = self.tracks[index.0].recovery.as_mut() else { return };
            recovery.asked.push(peer);
            if fetch.is_some() {
                recovery.fetch = fetch;
                recovery.end = Some(missed.1);
                return;
            }
        }
        self.not_recovered(index, now);
    }

    /// The FETCH of what was missed is over.
    pub(super) fn recovery_fetched(&mut self, index: TrackIndex, fetch: u64, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0).filter(|track| track.recovers_by(fetch))
        else {
            return;
        };
        if let Some(recovery) = &mut track.recovery {
            recovery.fetch = None;
        }
        // If something is still unknown, another publisher may know it.
        self.recover(index, now);
    }

    /// All that was missed is here: it goes to the subscribers, and what has waited behind it.
    fn recovered(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        match track.largest.zip(track.recovery.as_ref()) {
            Some((largest, recovery)) => {
                let end = recovery.end_below(largest);
                self.end_recovery(index, end, now);
            }
            None => track.recovery = None,
        }
    }

    /// What is here of what was missed goes to the subscribers that miss nothing up to `end`, and what
    /// has waited behind it.
    fn end_recovery(&mut self, index: TrackIndex, end: Location, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let Some(recovery) = track.recovery.take() else { return };
        track.recovered_to = track.recovered_to.max(Some(end));
        let last = track.largest.map_or(end.group, |largest| largest.group);
        let mut keys = track.cache.want_forwarded(recovery.from, end);
        keys.extend(track.active.keys().filter(|(group, _)| *group <= last));
        for key in keys {
            let Some(track) = self.tracks.get_mut(index.0) else { return };
            track.active.entry(key).or_default();
            self.catch_up(index, key, now);
            self.settle_subgroup(index, key, now);
        }
        self.look_after_orphans(index, last, now);
        self.pump_track_fetches(index, now);
    }

    /// After what was missed of a subgroup has been sent: ends its streams, or keeps them for
    /// another publisher's stream of it.
    fn settle_subgroup(&mut self, index: TrackIndex, key: (GroupId, SubgroupId), now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let is_whole = track.is_whole(key, now);
        let Some(active) = track.active.get_mut(&key) else { return };
        if active.interrupted.take().is_some() {
            // What was begun of it does not exist, as the other publisher has it.
            active.previous = active.previous.and_then(|id| id.0.checked_sub(1)).map(ObjectId);
            self.end_streams(index, key, Some(ResetCode::INTERNAL_ERROR), None);
        } else if active.sources == 0 && active.current.is_none() {
            if is_whole {
                self.end_orphan(index, key, None);
            } else {
                track.orphans.insert(key);
            }
        }
    }

    /// What was missed is not to be had: whoever misses it is told. For the others the track goes on,
    /// among them other shards, which see to what they miss themselves.
    fn not_recovered(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get(index.0) else { return };
        tracing::warn!(track = %track.name, "what was missed is not to be had");
        let until = track.recovery.as_ref().and_then(|recovery| recovery.until);
        match until {
            Some(until) => self.leave_orphans(index, until, now),
            None => self.end_those_who_miss(index, now),
        }
        if let Some(end) = self.tracks.get(index.0).and_then(Track::missed_to) {
            self.end_recovery(index, end, now);
        }
        // What a FETCH waits for may have been the end of an object that was broken off.
        self.pump_track_fetches(index, now);
        self.update_linger(index, now);
        self.forget_track_if_unused(index);
    }

    fn end_those_who_miss(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let missing: Vec<usize> = track
            .subscribers
            .iter()
            .filter(|(_, it)| !it.is_shard && track.is_missed_by(it, now))
            .map(|(subscriber, _)| subscriber)
            .collect();
        for subscriber in missing {
            self.finish_subscriber(index, subscriber, PublishDoneCode::INTERNAL_ERROR);
        }
    }

    /// An object of `group` has come. Ends those orphans of groups before it that are whole; of others
    /// publishers are asked for the rest, if they are not yet.
    pub(super) fn look_after_orphans(&mut self, index: TrackIndex, group: GroupId, now: Instant) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let before = track.orphans.iter().filter(|(other, _)| *other < group).copied();
        let (whole, broken): (Vec<_>, Vec<_>) = before.partition(|key| track.is_whole(*key, now));
        for key in whole {
            self.end_orphan(index, key, None);
        }
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let from = broken.iter().map(|key| track.rest_of(*key)).min();
        let Some((from, (until, _))) = from.zip(broken.last()) else { return };
        if track.recovery.is_none() {
            let code = ResetCode::INTERNAL_ERROR;
            track.recovery = Some(Recovery::of(from, Some(*until), code));
            self.recover(index, now);
        }
    }

    /// Nobody can tell whether orphans up to this group are whole: those that are not known to be are
    /// reset.
    fn leave_orphans(&mut self, index: TrackIndex, until: GroupId, now: Instant) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let all = track.orphans.iter().filter(|(group, _)| *group <= until);
        let all: Vec<_> = all.map(|key| (*key, track.is_whole(*key, now))).collect();
        for (key, is_whole) in all {
            self.end_orphan(index, key, (!is_whole).then_some(ResetCode::INTERNAL_ERROR));
        }
    }

    /// No stream is kept for another publisher any more: the track is over. Only if a publisher has
    /// ended it, are they whole.
    pub(super) fn end_orphans(&mut self, index: TrackIndex, code: PublishDoneCode) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let reset = match code {
            PublishDoneCode::TRACK_ENDED => None,
            PublishDoneCode::MALFORMED_TRACK => Some(ResetCode::MALFORMED_TRACK),
            _ => Some(track.loss_code()),
        };
        for key in track.orphans.clone() {
            self.end_orphan(index, key, reset);
        }
    }

    fn end_orphan(
        &mut self,
        index: TrackIndex,
        key: (GroupId, SubgroupId),
        reset: Option<ResetCode>,
    ) {
        if let Some(track) = self.tracks.get_mut(index.0) {
            track.orphans.remove(&key);
        }
        self.end_streams(index, key, reset, None);
    }
}

const fn last_of(group: GroupId) -> Location {
    Location { group, object: ObjectId(u64::MAX) }
}

/// Subgroups that are kept for another publisher's streams.
pub(crate) type Orphans = BTreeSet<(GroupId, SubgroupId)>;

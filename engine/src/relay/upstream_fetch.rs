//! FETCH of ours: what the cache lacks is asked of a publisher, once for all who want it.

use std::time::Instant;

use aip_codec::moqt::{
    error_code::{RequestCode, ResetCode},
    id::ObjectId,
    location::Location,
    message::FetchOk,
    parameter::{GroupOrder, Parameter, Parameters},
    stream::{
        fetch::{FetchObject, RangeKind},
        subgroup::ObjectStatus,
    },
};
use bytes::Bytes;

use super::{
    Relay,
    cache::{CachedObject, Feeder, Inserted, Standing},
    fetch_task::{FetchTask, after, before},
    namespace_tree::RequestKey,
    peer::{Owner, PeerIndex},
    track::{Track, TrackIndex},
};
use crate::session::{StreamEnd, fetch_ok_end};

/// Ranges of nothing, and of what is not known, that are remembered of one FETCH. Of more of the
/// first nothing is known then; more of the second are everything.
const RANGES_MAX: usize = 1_000;

/// A FETCH of ours.
#[derive(Debug)]
pub(crate) struct UpstreamFetch {
    pub(crate) key: RequestKey,
    start: Location,
    end: Location,
    order: GroupOrder,
    /// The object that came last.
    last: Option<Location>,
    /// Bytes of its payload that have come.
    payload_length: usize,
    /// The end that the publisher's answer named, inclusive: beyond it, it says nothing.
    answered_to: Option<Location>,
    /// Whether its data has ended, with all there was.
    finished: bool,
    /// When the publisher last said something of it.
    heard_at: Instant,
    /// Ranges that its data has passed over, as far as they are not noted in the cache yet.
    gaps: Vec<(Location, Location)>,
    /// Ranges that the publisher cannot tell of either.
    unknown: Vec<(Location, Location)>,
}

/// What FETCHes of ours say of a location that the cache does not know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Coverage {
    /// No FETCH has to do with it.
    None,
    /// One may still bring it.
    Awaited,
    /// A publisher has said that it does not know, up to there.
    Unknown(Location),
}

impl Track {
    /// What is to be expected of FETCHes of ours for `location`.
    pub(crate) fn coverage(&self, location: Location) -> Coverage {
        let mut coverage = Coverage::None;
        for fetch in self.upstream_fetches.values() {
            if location < fetch.start || fetch.end < location {
                continue;
            }
            let unknown =
                fetch.unknown.iter().find(|(from, to)| *from <= location && location <= *to);
            match unknown {
                Some((_, to)) => coverage = Coverage::Unknown(*to),
                None => return Coverage::Awaited,
            }
        }
        coverage
    }
}

impl Relay {
    /// Fetches from a publisher what a task lacks. False if there is none.
    pub(super) fn begin_upstream_fetch(
        &mut self,
        index: TrackIndex,
        task: &FetchTask,
        (from, to): (Location, Location),
        now: Instant,
    ) -> bool {
        let order = task.wanted.order;
        let start = match order {
            GroupOrder::Ascending => from,
            GroupOrder::Descending => task.wanted.start,
        };
        let track = &self.tracks[index.0];
        let established = track.upstreams.iter().filter(|upstream| upstream.established);
        let mut publishers: Vec<PeerIndex> =
            established.map(|upstream| upstream.key.peer).collect();
        if publishers.is_empty() {
            publishers = self.publishers_for(track, Some(task.key.owner));
        }
        // Another relay that asks is not asked back.
        let asker = &self.peers[task.key.owner.peer.0];
        let (from_relay, from_shard) = (asker.is_relay(), asker.is_shard());
        publishers.retain(|peer| {
            (*peer != task.key.owner.peer || !from_relay)
                && !(from_shard && self.peers[peer.0].is_shard())
        });
        publishers.sort_by_key(|peer| !self.answers(*peer));
        publishers
            .into_iter()
            .any(|peer| self.fetch_from(index, peer, (start, to), order, now).is_some())
    }

    /// Fetches a range from one publisher.
    pub(super) fn fetch_from(
        &mut self,
        index: TrackIndex,
        peer: PeerIndex,
        (start, end): (Location, Location),
        order: GroupOrder,
        now: Instant,
    ) -> Option<RequestKey> {
        let name = self.tracks[index.0].name.clone();
        let mut parameters = Parameters::default();
        if order == GroupOrder::Descending {
            parameters.push(Parameter::GroupOrder(order));
        }
        let request = self.session(peer)?.fetch_range(name, start, end, parameters).ok()?;
        let key = RequestKey { peer, request };
        let fetch = self.next_task;
        self.next_task += 1;
        self.tracks[index.0].upstream_fetches.insert(
            fetch,
            UpstreamFetch {
                key,
                start,
                end,
                order,
                last: None,
                payload_length: 0,
                answered_to: None,
                finished: false,
                heard_at: now,
                gaps: Vec::new(),
                unknown: Vec::new(),
            },
        );
        self.own(key, Owner::UpstreamFetch { track: index, fetch });
        self.arm_track_timer(index, now + self.config.upstream_timeout);
        Some(key)
    }

    /// A publisher answers a FETCH of ours. What it says of its track must be understood.
    pub(super) fn upstream_fetch_accepted(&mut self, key: RequestKey, ok: &FetchOk, now: Instant) {
        let properties = &ok.properties;
        let is_understood = properties.unknown_mandatory_track_property().is_none()
            && properties.check_immutable().is_ok();
        let Some(session) = self.session(key.peer) else { return };
        let end = fetch_ok_end(session.version(), ok.end);
        let Some((index, id, fetch)) = self.upstream_fetch_heard(key, now) else { return };
        fetch.answered_to = Some(end);
        let tells_last = ok.end_of_track && end.object != ObjectId(u64::MAX);
        if tells_last && !self.tracks[index.0].note_last(end) {
            self.malformed_track(index, now);
            return;
        }
        if is_understood {
            self.tracks[index.0].note_properties(properties.clone());
            let answered = (end, ok.end_of_track);
            self.passed_fetch_accepted(index, key, answered, properties, now);
            self.end_upstream_fetch_if_complete(index, id, now);
            return;
        }
        self.disown(key);
        if let Some(session) = self.session(key.peer) {
            session.cancel(key.request, ResetCode::CANCELLED);
        }
        self.upstream_fetch_failed(index, id, RequestCode::UNSUPPORTED_EXTENSION, now);
    }

    /// Gives up FETCHes of which nothing was heard for too long.
    pub(super) fn upstream_fetches_timed_out(&mut self, index: TrackIndex, now: Instant) {
        let timeout = self.config.upstream_timeout;
        let Some(track) = self.tracks.get(index.0) else { return };
        let (silent, others): (Vec<_>, Vec<_>) = track
            .upstream_fetches
            .iter()
            .map(|(id, fetch)| (*id, fetch.key, fetch.heard_at + timeout))
            .partition(|(.., deadline)| *deadline <= now);
        for (.., deadline) in others {
            self.arm_track_timer(index, deadline);
        }
        for (id, key, _) in silent {
            self.disown(key);
            if let Some(session) = self.session(key.peer) {
                session.cancel(key.request, ResetCode::CANCELLED);
            }
            self.upstream_fetch_failed(index, id, RequestCode::TIMEOUT, now);
        }
    }

    /// What something heard of a FETCH of ours belongs to.
    fn upstream_fetch_heard(
        &mut self,
        key: RequestKey,
        now: Instant,
    ) -> Option<(TrackIndex, u64, &mut UpstreamFetch)> {
        let found = self.upstream_fetch_mut(key)?;
        found.2.heard_at = now;
        Some(found)
    }

    fn upstream_fetch_mut(
        &mut self,
        key: RequestKey,
    ) -> Option<(TrackIndex, u64, &mut UpstreamFetch)> {
        let Some(Owner::UpstreamFetch { track, fetch }) =
            self.peers.get(key.peer.0)?.requests.get(&key.request).cloned()
        else {
            return None;
        };
        let entry = self.tracks.get_mut(track.0)?.upstream_fetches.get_mut(&fetch)?;
        Some((track, fetch, entry))
    }

    pub(super) fn fetched_object(
        &mut self,
        key: RequestKey,
        object: FetchObject,
        payload: Bytes,
        last: bool,
        now: Instant,
    ) {
        let Some((index, id, fetch)) = self.upstream_fetch_heard(key, now) else { return };
        let location = object.location;
        fetch.pass_over(Some(location));
        fetch.last = Some(location);
        fetch.payload_length = payload.len();
        // Newest first, how far the answer goes bounds what lies above: that is noted at the end.
        let gaps = match fetch.order {
            GroupOrder::Ascending => std::mem::take(&mut fetch.gaps),
            GroupOrder::Descending => Vec::new(),
        };
        let standing = if self.tracks[index.0].recovers_by(id) {
            Standing::Waiting
        } else {
            Standing::Fetched
        };
        let cached = CachedObject {
            subgroup: object.subgroup,
            priority: object.priority,
            status: ObjectStatus::Normal,
            properties: object.properties,
            payload: if payload.is_empty() { Vec::new() } else { vec![payload] },
            payload_length: object.payload_length,
            follows: None,
            feeder: (!last).then_some(Feeder::Fetch(id)),
            standing,
            received_at: now,
        };
        let track = &mut self.tracks[index.0];
        let may_exist = track.may_exist(location);
        let cache = &mut track.cache;
        if !may_exist || cache.insert(location, cached, now) == Inserted::Conflict {
            self.malformed_track(index, now);
            return;
        }
        for (from, to) in gaps {
            cache.mark_known(from, to);
        }
        self.note_cached(index, now);
        if last {
            self.pump_track_fetches(index, now);
        }
    }

    pub(super) fn fetched_payload(
        &mut self,
        key: RequestKey,
        bytes: Bytes,
        last: bool,
        now: Instant,
    ) {
        let Some((index, id, fetch)) = self.upstream_fetch_heard(key, now) else { return };
        let Some(location) = fetch.last else { return };
        let offset = fetch.payload_length;
        fetch.payload_length += bytes.len();
        let (cache, feeder) = (&mut self.tracks[index.0].cache, Feeder::Fetch(id));
        if !cache.agrees(location, feeder, offset, &bytes) {
            self.malformed_track(index, now);
            return;
        }
        cache.append(location, feeder, bytes, last);
        if last {
            cache.note_fetched(location, now);
        }
        self.note_cached(index, now);
        if last {
            self.pump_track_fetches(index, now);
        }
    }

    pub(super) fn fetched_range(
        &mut self,
        key: RequestKey,
        kind: RangeKind,
        end: Location,
        now: Instant,
    ) {
        let Some((index, _, fetch)) = self.upstream_fetch_heard(key, now) else { return };
        let from = fetch.last.map_or(fetch.start, after);
        fetch.last = Some(end);
        if fetch.order == GroupOrder::Descending {
            // What such a range spans is not clear in this order: the safe reading is all.
            fetch.unknown = vec![(fetch.start, fetch.end)];
        } else if kind == RangeKind::NonExistent && from <= end {
            self.tracks[index.0].cache.mark_known(from, end);
        } else if from <= end {
            fetch.note_unknown(from, end);
        }
        self.pump_track_fetches(index, now);
    }

    pub(super) fn fetch_stream_ended(&mut self, key: RequestKey, end: StreamEnd, now: Instant) {
        let Some((index, id, fetch)) = self.upstream_fetch_mut(key) else { return };
        if end != StreamEnd::Fin {
            self.upstream_fetch_failed(index, id, RequestCode::INTERNAL_ERROR, now);
            return;
        }
        fetch.finished = true;
        self.end_upstream_fetch_if_complete(index, id, now);
    }

    /// Both the answer and the data of a FETCH of ours are here: what it did not bring up to the
    /// end that it named does not exist.
    fn end_upstream_fetch_if_complete(&mut self, index: TrackIndex, id: u64, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let Some(fetch) = track.upstream_fetches.get_mut(&id) else { return };
        let Some(answered_to) = fetch.answered_to.filter(|_| fetch.finished) else { return };
        let (start, end) = (fetch.start, fetch.end.min(answered_to));
        let is_unknown = !fetch.unknown.is_empty();
        if is_unknown && fetch.order == GroupOrder::Descending {
            self.upstream_fetch_failed(index, id, RequestCode::INTERNAL_ERROR, now);
            return;
        }
        fetch.pass_over(None);
        if end < fetch.end {
            fetch.note_unknown(after(end), fetch.end);
        }
        for (from, to) in std::mem::take(&mut fetch.gaps) {
            if from <= end {
                track.cache.mark_known(from, to.min(end));
            }
        }
        if !is_unknown {
            track.cache.forget_expired(start, end, now);
        }
        self.note_cached(index, now);
        self.pump_track_fetches(index, now);
        self.forget_upstream_fetch(index, id, now);
        self.recovery_fetched(index, id, now);
    }

    /// A publisher does not answer a FETCH of ours: tasks that need it say so and go on.
    pub(super) fn upstream_fetch_failed(
        &mut self,
        index: TrackIndex,
        id: u64,
        code: RequestCode,
        now: Instant,
    ) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let Some(fetch) = track.upstream_fetches.get_mut(&id) else { return };
        tracing::debug!(%code, "a publisher did not answer a fetch");
        let key = fetch.key;
        fetch.unknown = vec![(fetch.start, fetch.end)];
        if let Some(last) = fetch.last {
            track.cache.drop_fed_by(last, Feeder::Fetch(id));
        }
        self.account(index);
        self.pump_track_fetches(index, now);
        self.forget_upstream_fetch(index, id, now);
        self.passed_on_lost(index, key, code, now);
        self.recovery_fetched(index, id, now);
    }

    fn forget_upstream_fetch(&mut self, index: TrackIndex, id: u64, now: Instant) {
        if let Some(track) = self.tracks.get_mut(index.0) {
            track.upstream_fetches.remove(&id);
        }
        self.pump_track_fetches(index, now);
    }
}

impl UpstreamFetch {
    /// Notes what the data passes over by going on to `next`, or by ending. What it brought is not
    /// part of that, even if the cache does not hold it any more.
    fn pass_over(&mut self, next: Option<Location>) {
        let Self { start, end, .. } = *self;
        match (self.order, self.last, next) {
            (GroupOrder::Ascending, last, next) => {
                self.gap(last.map_or(start, after), next.map_or(Some(end), before));
            }
            (GroupOrder::Descending, Some(last), Some(next)) if last.group == next.group => {
                self.gap(last.next_object(), before(next));
            }
            (GroupOrder::Descending, last, next) => {
                // The rest of the last object's group, and all groups from there to the next
                // object's, of which its own beginning is one.
                let upper = match last {
                    Some(last) => {
                        let group_end = Location { group: last.group, object: ObjectId(u64::MAX) };
                        self.gap(last.next_object(), Some(group_end));
                        Location::new(last.group.0, 0)
                    }
                    None => after(end),
                };
                if let Some(next) = next {
                    self.gap(Location::new(next.group.0.saturating_add(1), 0), before(upper));
                    self.gap(Location::new(next.group.0, 0), before(next));
                } else {
                    self.gap(start, before(upper));
                }
            }
        }
    }

    /// Notes a range of nothing, as far as it lies in what was asked for.
    fn gap(&mut self, from: Location, to: Option<Location>) {
        let Some(to) = to else { return };
        let (from, to) = (from.max(self.start), to.min(self.end));
        if from <= to && self.gaps.len() < RANGES_MAX {
            self.gaps.push((from, to));
        }
    }

    /// Notes a range that the publisher cannot tell of.
    fn note_unknown(&mut self, from: Location, to: Location) {
        if self.unknown.len() < RANGES_MAX {
            self.unknown.push((from, to));
        } else {
            self.unknown = vec![(self.start, self.end)];
        }
    }
}

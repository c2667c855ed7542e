//! One FETCH or fill that is being answered: from the cache, as far as that knows.
//!
//! A task walks its range through the cache. Where nothing is known it waits for one upstream FETCH
//! that all tasks share; what a publisher cannot tell either is said as an unknown range, never as
//! something that does not exist.

use std::time::Instant;

use aip_codec::{
    Version,
    moqt::{
        error_code::ResetCode,
        id::{GroupId, ObjectId},
        location::Location,
        parameter::GroupOrder,
        stream::{
            fetch::{Encoder, FetchObject, RangeKind},
            subgroup::ObjectStatus,
        },
    },
};
use bytes::{Bytes, BytesMut};

use super::{
    Relay,
    cache::Cache,
    track::{FillKey, TrackIndex, Wanted},
    upstream_fetch::Coverage,
};
use crate::{
    schedule::{Precedence, Rank},
    session::Candidate,
    transport::StreamId,
};

/// How often publishers are asked for the same beginning of what a task lacks.
const ASKED_MAX: u8 = 3;

/// One FETCH or fill that is being answered.
#[derive(Debug)]
pub(crate) struct FetchTask {
    pub(crate) key: FillKey,
    /// Whether a subscription asked for it, and not a FETCH.
    pub(crate) is_fill: bool,
    pub(super) wanted: Wanted,
    pub(super) position: Option<Location>,
    pub(super) stream: Option<StreamId>,
    pub(super) encoder: Encoder,
    pub(super) version: Version,
    /// What it cannot go on without, if that is not room on its stream.
    pub(super) waits_for: Option<Location>,
    /// What publishers were asked for last, and how often: what they bring may be gone again before
    /// it could be sent.
    pub(super) asked: (Option<Location>, u8),
    /// When waiting for publishers ends (FILL_TIMEOUT); `None` waits as long as they take.
    pub(super) deadline: Option<Instant>,
}

/// What a task does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// Send this object.
    Object(Location),
    /// Nothing is known from here to there.
    Unknown(Location, Location),
    /// All is sent.
    Done,
}

impl FetchTask {
    /// Where its stream stands among those of its session.
    const fn precedence(&self) -> Precedence {
        let Wanted { start, end, order, priority, live_order, .. } = self.wanted;
        let first = match order {
            GroupOrder::Ascending => start.group,
            GroupOrder::Descending => end.group,
        };
        Precedence {
            rank: Rank::fill(order, live_order, first),
            ..Precedence::data(self.key.owner.request, priority)
        }
    }

    fn step(&self, cache: &Cache, now: Instant) -> Step {
        match self.wanted.order {
            GroupOrder::Ascending => self.step_up(cache, now),
            GroupOrder::Descending => self.step_down(cache, now),
        }
    }

    fn step_up(&self, cache: &Cache, now: Instant) -> Step {
        let Wanted { start, end, .. } = self.wanted;
        let from = self.position.map_or(start, after);
        let next = cache.next_object(start, end, self.position, GroupOrder::Ascending);
        let to = next.map_or(end, |(location, _)| location);
        match (cache.first_unknown(from, to, now), next) {
            (Some(unknown), _) => Step::Unknown(unknown, end),
            (None, Some((location, _))) => Step::Object(location),
            (None, None) => Step::Done,
        }
    }

    fn step_down(&self, cache: &Cache, now: Instant) -> Step {
        let Wanted { start, end, .. } = self.wanted;
        let mut group = self.position.map_or(end.group, |position| position.group);
        let mut from =
            self.position.map_or_else(|| first_in_group(group, start), Location::next_object);
        let mut sent = self.position;
        loop {
            let to = end.min(Location { group, object: ObjectId(u64::MAX) });
            let next = cache.next_object(from, to, sent.take(), GroupOrder::Ascending);
            let known_to = next.map_or(to, |(location, _)| location);
            if let Some(unknown) = cache.first_unknown(from, known_to, now) {
                return Step::Unknown(unknown, end);
            }
            if let Some((location, _)) = next {
                return Step::Object(location);
            }
            if group <= start.group {
                return Step::Done;
            }
            let below = Location { group: GroupId(group.0 - 1), object: ObjectId(u64::MAX) };
            let lower = cache
                .next_object(start, below, None, GroupOrder::Descending)
                .map_or(start.group, |(location, _)| location.group);
            let gap_start = Location::new(lower.0.saturating_add(1), 0);
            if gap_start <= below
                && let Some(unknown) = cache.first_unknown(gap_start, below, now)
            {
                return Step::Unknown(unknown, end);
            }
            group = lower;
            from = first_in_group(group, start);
        }
    }
}

fn first_in_group(group: GroupId, start: Location) -> Location {
    start.max(Location { group, object: ObjectId(0) })
}

/// The location after `location`, as the beginning of a range.
pub(super) const fn after(location: Location) -> Location {
    match (location.object.0.checked_add(1), location.group.0.checked_add(1)) {
        (Some(object), _) => Location { group: location.group, object: ObjectId(object) },
        (None, Some(group)) => Location::new(group, 0),
        (None, None) => Location::MAX,
    }
}

/// The location before `location`, as the end of a range; `None` before the first one.
pub(super) const fn before(location: Location) -> Option<Location> {
    match (location.object.0.checked_sub(1), location.group.0.checked_sub(1)) {
        (Some(object), _) => Some(Location { group: location.group, object: ObjectId(object) }),
        (None, Some(group)) => Some(Location::new(group, u64::MAX)),
        (None, None) => None,
    }
}

impl Relay {
    /// Lets every task of a track go on.
    pub(super) fn pump_track_fetches(&mut self, index: TrackIndex, now: Instant) {
        self.pump_fetches_that(index, now, |_| true);
    }

    /// Lets those tasks of a track go on that wait for something of a group. However many others
    /// there are, what comes live must not wait for them.
    pub(super) fn pump_group_fetches(&mut self, index: TrackIndex, group: GroupId, now: Instant) {
        let waits = |task: &FetchTask| task.waits_for.is_some_and(|place| place.group == group);
        self.pump_fetches_that(index, now, waits);
    }

    fn pump_fetches_that(
        &mut self,
        index: TrackIndex,
        now: Instant,
        test: impl Fn(&FetchTask) -> bool,
    ) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let tasks = track.tasks.iter().filter(|(_, task)| test(task));
        let tasks: Vec<u64> = tasks.map(|(id, _)| *id).collect();
        for task in tasks {
            self.pump_fetch(index, task, now);
        }
    }

    /// Sends of a task what is known and what its stream has room for.
    pub(super) fn pump_fetch(&mut self, index: TrackIndex, id: u64, now: Instant) {
        while let Some(mut task) = self.tracks.get_mut(index.0).and_then(|t| t.tasks.remove(&id)) {
            let step = task.step(&self.tracks[index.0].cache, now);
            task.waits_for = match step {
                Step::Unknown(from, _) => Some(from),
                Step::Object(_) | Step::Done => None,
            };
            let goes_on = match step {
                Step::Object(location) => self.send_fetched(index, &mut task, location),
                Step::Unknown(from, to) => self.fetch_unknown(index, &mut task, from, to, now),
                Step::Done => {
                    self.finish_task(&mut task);
                    continue;
                }
            };
            match goes_on {
                Some(goes_on) => {
                    self.tracks[index.0].tasks.insert(id, task);
                    if !goes_on {
                        return;
                    }
                }
                None => {
                    if !task.is_fill {
                        self.disown(task.key.owner);
                    }
                }
            }
        }
        self.update_linger(index, now);
        self.forget_track_if_unused(index);
    }

    /// Opens a task's stream if it has none. `None` if nobody reads it any more.
    fn task_stream(&mut self, task: &mut FetchTask) -> Option<StreamId> {
        let FillKey { owner, asked_by } = task.key;
        let precedence = task.precedence();
        let session = self.session(owner.peer)?;
        let stream = match task.stream {
            Some(stream) => stream,
            None => session.open_fill(asked_by, precedence)?,
        };
        task.stream = Some(stream);
        session.stream_queued_bytes(stream).map(|_| stream)
    }

    /// Sends one object. `Some(false)`: the stream is full; `None`: nobody reads it any more.
    fn send_fetched(
        &mut self,
        index: TrackIndex,
        task: &mut FetchTask,
        location: Location,
    ) -> Option<bool> {
        let limit = self.config.stream_queued_bytes_max;
        let stream = self.task_stream(task)?;
        let session = &mut self.peers.get_mut(task.key.owner.peer.0)?.session;
        if limit < session.stream_queued_bytes(stream)? {
            return Some(false);
        }
        let object = self.tracks.get(index.0)?.cache.object(location)?;
        task.position = Some(location);
        let candidate = Candidate {
            location,
            subgroup: object.subgroup,
            priority: object.priority,
            properties: &object.properties,
        };
        if object.status != ObjectStatus::Normal || !task.wanted.ranges.passes(&candidate) {
            return Some(true);
        }
        let header = FetchObject {
            location,
            subgroup: object.subgroup,
            priority: object.priority,
            properties: object.properties.clone(),
            payload_length: object.payload_length,
        };
        let mut bytes = BytesMut::new();
        if task.encoder.object(&header, &mut bytes).is_err() {
            debug_assert!(false, "a task's objects come in its order");
            return None;
        }
        session.send(stream, bytes.freeze(), false);
        for piece in &object.payload {
            session.send(stream, piece.clone(), false);
        }
        Some(true)
    }

    /// Nothing is known from `from` on: waits for a publisher, or says so if none can tell.
    fn fetch_unknown(
        &mut self,
        index: TrackIndex,
        task: &mut FetchTask,
        from: Location,
        to: Location,
        now: Instant,
    ) -> Option<bool> {
        let track = &self.tracks[index.0];
        let is_late = task.deadline.is_some_and(|deadline| deadline <= now);
        if is_late {
            return self.send_unknown(index, task, (from, task.wanted.end), true, now);
        }
        if track.cache.object(from).is_some_and(|object| !object.is_complete()) {
            return Some(false);
        }
        match track.coverage(from) {
            Coverage::Awaited => return Some(false),
            Coverage::Unknown(end) => {
                let end = end.min(task.wanted.end);
                return self.send_unknown(index, task, (from, end), false, now);
            }
            Coverage::None => {}
        }
        let limit = self.config.stream_queued_bytes_max;
        let queued = task
            .stream
            .and_then(|stream| self.session(task.key.owner.peer)?.stream_queued_bytes(stream));
        if queued.is_some_and(|queued| limit < queued) {
            // What is fetched now could not be sent, and would have to be kept.
            return Some(false);
        }
        task.asked = if task.asked.0 == Some(from) {
            (Some(from), task.asked.1.saturating_add(1))
        } else {
            (Some(from), 1)
        };
        if ASKED_MAX < task.asked.1 {
            return self.send_unknown(index, task, (from, from), false, now);
        }
        if self.begin_upstream_fetch(index, task, (from, to), now) {
            return Some(false);
        }
        self.send_unknown(index, task, (from, task.wanted.end), false, now)
    }

    /// Says that nothing is known from `from` to `limit`, or to the next object that is.
    fn send_unknown(
        &mut self,
        index: TrackIndex,
        task: &mut FetchTask,
        (from, limit): (Location, Location),
        is_late: bool,
        now: Instant,
    ) -> Option<bool> {
        let stream = self.task_stream(task)?;
        if task.wanted.order == GroupOrder::Descending {
            self.reset_task(task, ResetCode::UNKNOWN_OBJECT_STATUS);
            return None;
        }
        let cache = &self.tracks[index.0].cache;
        let mut next = cache.next_object(from, task.wanted.end, None, GroupOrder::Ascending);
        while let Some((location, _)) = next {
            if cache.first_unknown(location, location, now).is_none() {
                break;
            }
            next = cache.next_object(from, task.wanted.end, Some(location), GroupOrder::Ascending);
        }
        let end =
            next.and_then(|(location, _)| before(location)).map_or(limit, |end| end.min(limit));
        let kind = if is_late && Version::Draft20 <= task.version {
            RangeKind::TimedOut
        } else {
            RangeKind::Unknown
        };
        let mut bytes = BytesMut::new();
        task.encoder.range(kind, end, &mut bytes).ok()?;
        task.position = Some(end);
        let session = self.session(task.key.owner.peer)?;
        session.send(stream, bytes.freeze(), false);
        if end == task.wanted.end {
            session.send(stream, Bytes::new(), true);
            return None;
        }
        Some(true)
    }

    /// Breaks a task off. A FETCH is ended as a whole: of a reset data stream not even the header
    /// need arrive, so that nobody could tell which FETCH it was.
    pub(super) fn reset_task(&mut self, task: &FetchTask, code: ResetCode) {
        let Some(session) = self.session(task.key.owner.peer) else { return };
        if !task.is_fill {
            session.cancel(task.key.owner.request, code);
        } else if let Some(stream) = task.stream {
            session.reset_stream(stream, code);
        }
    }

    fn finish_task(&mut self, task: &mut FetchTask) {
        let Some(stream) = self.task_stream(task) else {
            if !task.is_fill {
                self.disown(task.key.owner);
            }
            return;
        };
        if !task.is_fill {
            self.disown(task.key.owner);
        }
        if let Some(session) = self.session(task.key.owner.peer) {
            session.send(stream, Bytes::new(), true);
        }
    }
}

//! FETCH and fills: answered from the cache, which is completed by fetching from a publisher.
//!
//! A task walks its range through the cache. Where nothing is known it waits for one upstream FETCH
//! that all tasks share; what a publisher cannot tell either is said as an unknown range, never as
//! something that does not exist.

use std::time::{Duration, Instant};

use aip_codec::{
    Version,
    moqt::{
        error_code::{RequestCode, ResetCode},
        id::{GroupId, ObjectId},
        location::Location,
        message::{Fetch, FetchTarget},
        name::FullTrackName,
        parameter::{GroupOrder, Parameter, Parameters},
        stream::{
            fetch::{Encoder, FetchObject, RangeKind},
            subgroup::ObjectStatus,
        },
    },
};
use bytes::{Bytes, BytesMut};

use super::{
    Relay,
    cache::{Cache, CachedObject, Inserted},
    namespace_tree::RequestKey,
    peer::Owner,
    track::{FillKey, TrackIndex, WaitingBody, Wanted},
};
use crate::{
    session::{StreamEnd, fetch_range, urgency},
    transport::StreamId,
};

/// One FETCH or fill that is being answered.
#[derive(Debug)]
pub(crate) struct FetchTask {
    pub(crate) key: FillKey,
    /// Whether a subscription asked for it, and not a FETCH.
    pub(crate) is_fill: bool,
    wanted: Wanted,
    position: Option<Location>,
    stream: Option<StreamId>,
    encoder: Encoder,
    version: Version,
    /// When waiting for publishers ends (FILL_TIMEOUT); `None` waits as long as they take.
    deadline: Option<Instant>,
}

/// A FETCH of ours.
#[derive(Debug)]
pub(crate) struct UpstreamFetch {
    pub(crate) key: RequestKey,
    start: Location,
    end: Location,
    order: GroupOrder,
    /// The object that came last.
    last: Option<Location>,
    /// Whether the publisher could not answer: what is still unknown stays so.
    failed: bool,
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
    fn step(&self, cache: &Cache, now: Instant) -> Step {
        match self.wanted.order {
            GroupOrder::Ascending => self.step_up(cache, now),
            GroupOrder::Descending => self.step_down(cache, now),
        }
    }

    fn step_up(&self, cache: &Cache, now: Instant) -> Step {
        let Wanted { start, end, .. } = self.wanted;
        let from = self.position.map_or(start, Location::next_object);
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
        loop {
            let to = end.min(Location { group, object: ObjectId(u64::MAX) });
            let next = cache.next_object(from, to, None, GroupOrder::Ascending);
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

/// The location before `location`, as the end of a range.
fn before(location: Location) -> Location {
    match location.object.0.checked_sub(1) {
        Some(object) => Location { group: location.group, object: ObjectId(object) },
        None => Location::new(location.group.0.saturating_sub(1), u64::MAX),
    }
}

impl Relay {
    pub(super) fn fetch_received(&mut self, key: RequestKey, body: Fetch, now: Instant) {
        let index = match &body.target {
            FetchTarget::Track(track) | FetchTarget::Standalone { track, .. } => {
                let Some(index) = self.track_for(key, track) else { return };
                index
            }
            FetchTarget::Joining { request_id, .. } => {
                match self.peers[key.peer.0].requests.get(request_id) {
                    Some(Owner::Subscriber { track, .. } | Owner::Waiting(track)) => *track,
                    _ => {
                        let reason = "no such subscription to join";
                        self.reject(key, RequestCode::INVALID_JOINING_REQUEST_ID, reason);
                        return;
                    }
                }
            }
        };
        if self.tracks[index.0].is_established() {
            self.answer_fetch(index, key, &body, now);
        } else {
            self.wait_for_publisher(index, key, WaitingBody::Fetch(body), Duration::ZERO, now);
        }
    }

    /// Answers a FETCH of an established track.
    pub(super) fn answer_fetch(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        body: &Fetch,
        now: Instant,
    ) {
        let track = &self.tracks[index.0];
        let range = match (track.largest, self.range_of(index, key, body)) {
            (Some(largest), Some((start, end))) if start <= largest && start <= end => {
                Some((start, end.min(largest), largest))
            }
            _ => None,
        };
        let Some((start, end, largest)) = range else {
            self.reject(key, RequestCode::INVALID_RANGE, "no objects in this range");
            self.update_linger(index, now);
            return;
        };
        let end_of_track = track.ended && end == largest;
        let properties = track.properties_for(&body.parameters);
        if let Some(session) = self.session(key.peer) {
            session.accept_fetch(key.request, end_of_track, end, properties);
        }
        let wanted = Wanted {
            start,
            end,
            order: body.parameters.group_order().unwrap_or_default(),
            priority: body.parameters.subscriber_priority().unwrap_or(128),
            patience: body.parameters.fill_timeout().map(Duration::from_millis),
        };
        let task_key = FillKey { owner: key, asked_by: key.request };
        let task = self.begin_task(index, task_key, false, wanted, now);
        self.own(key, Owner::Fetch { track: index, task });
        self.pump_fetch(index, task, now);
        self.update_linger(index, now);
    }

    /// First and last location that a FETCH asks for, inclusive.
    fn range_of(
        &self,
        index: TrackIndex,
        key: RequestKey,
        body: &Fetch,
    ) -> Option<(Location, Location)> {
        let track = &self.tracks[index.0];
        match &body.target {
            FetchTarget::Track(_) => {
                let filter = track.filter_or(body.parameters.location_filter());
                Some(fetch_range(filter, track.largest?))
            }
            FetchTarget::Standalone { start, end, .. } => {
                let last = end.object.0.checked_sub(1).unwrap_or(u64::MAX);
                Some((*start, Location { group: end.group, object: ObjectId(last) }))
            }
            FetchTarget::Joining { relative, request_id, start } => {
                let Some(Owner::Subscriber { subscriber, .. }) =
                    self.peers[key.peer.0].requests.get(request_id)
                else {
                    return None;
                };
                let joined_at = track.subscribers.get(*subscriber)?.joined_at?;
                let group =
                    if *relative { joined_at.group.0.saturating_sub(*start) } else { *start };
                Some((Location::new(group, 0), joined_at))
            }
        }
    }

    /// Begins the fill that a SUBSCRIBE or an update of it asked for; nothing if there is nothing.
    pub(super) fn begin_fill(
        &mut self,
        index: TrackIndex,
        key: FillKey,
        fill: &Parameters,
        inherited: &Parameters,
        now: Instant,
    ) {
        let track = &self.tracks[index.0];
        let Some(largest) = track.largest else { return };
        let filter = fill.location_filter().or_else(|| inherited.location_filter());
        let (start, end) = fetch_range(track.filter_or(filter), largest);
        if end < start {
            return;
        }
        let order = fill.group_order().or_else(|| inherited.group_order()).unwrap_or_default();
        let priority =
            fill.subscriber_priority().or_else(|| inherited.subscriber_priority()).unwrap_or(128);
        let patience = fill.fill_timeout().map(Duration::from_millis);
        let wanted = Wanted { start, end, order, priority, patience };
        let task = self.begin_task(index, key, true, wanted, now);
        self.pump_fetch(index, task, now);
    }

    fn begin_task(
        &mut self,
        index: TrackIndex,
        key: FillKey,
        is_fill: bool,
        wanted: Wanted,
        now: Instant,
    ) -> u64 {
        let version = self.peers[key.owner.peer.0].session.version();
        let deadline = wanted.patience.map(|patience| now + patience);
        if let Some(deadline) = deadline {
            self.arm_track_timer(index, deadline);
        }
        let task = self.next_task;
        self.next_task += 1;
        self.tracks[index.0].tasks.insert(
            task,
            FetchTask {
                key,
                is_fill,
                wanted,
                position: None,
                stream: None,
                encoder: Encoder::new(version, wanted.order),
                version,
                deadline,
            },
        );
        task
    }

    /// Lets every task of a track go on.
    pub(super) fn pump_track_fetches(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get(index.0) else { return };
        if track.tasks.is_empty() {
            return;
        }
        let tasks: Vec<u64> = track.tasks.keys().copied().collect();
        for task in tasks {
            self.pump_fetch(index, task, now);
        }
    }

    /// Sends of a task what is known and what its stream has room for.
    fn pump_fetch(&mut self, index: TrackIndex, id: u64, now: Instant) {
        while let Some(mut task) = self.tracks.get_mut(index.0).and_then(|t| t.tasks.remove(&id)) {
            let step = task.step(&self.tracks[index.0].cache, now);
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
        let urgency = urgency::object(task.wanted.priority, 128);
        let FillKey { owner, asked_by } = task.key;
        let session = self.session(owner.peer)?;
        let stream = match task.stream {
            Some(stream) => stream,
            None => session.open_fill(owner.request, asked_by, urgency)?,
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
        if object.status != ObjectStatus::Normal {
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
        let arriving = track.cache.object(from).is_some_and(|object| !object.complete);
        if arriving && !is_late {
            return Some(false);
        }
        let covering = |fetch: &&UpstreamFetch| fetch.start <= from && from <= fetch.end;
        let has_failed = track.upstream_fetches.values().filter(covering).any(|fetch| fetch.failed);
        let is_fetching =
            track.upstream_fetches.values().filter(covering).any(|fetch| !fetch.failed);
        if is_fetching && !is_late {
            return Some(false);
        }
        if !has_failed && !is_late && self.begin_upstream_fetch(index, task, from, to) {
            return Some(false);
        }
        self.send_unknown(index, task, from, is_late, now)
    }

    /// Says that nothing is known from `from` to the next object that is.
    fn send_unknown(
        &mut self,
        index: TrackIndex,
        task: &mut FetchTask,
        from: Location,
        is_late: bool,
        now: Instant,
    ) -> Option<bool> {
        let stream = self.task_stream(task)?;
        if task.wanted.order == GroupOrder::Descending {
            let session = self.session(task.key.owner.peer)?;
            session.reset_stream(stream, ResetCode::UNKNOWN_OBJECT_STATUS);
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
        let end = next.map_or(task.wanted.end, |(location, _)| before(location));
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

    /// Fetches from a publisher what a task lacks. False if there is none.
    fn begin_upstream_fetch(
        &mut self,
        index: TrackIndex,
        task: &FetchTask,
        from: Location,
        to: Location,
    ) -> bool {
        let order = task.wanted.order;
        let start = match order {
            GroupOrder::Ascending => from,
            GroupOrder::Descending => task.wanted.start,
        };
        let track = &self.tracks[index.0];
        let name: FullTrackName = track.name.clone();
        let publishers: Vec<_> = track
            .upstreams
            .iter()
            .filter(|upstream| upstream.established)
            .map(|upstream| upstream.key.peer)
            .collect();
        for peer in publishers {
            let mut parameters = Parameters::default();
            if order == GroupOrder::Descending {
                parameters.push(Parameter::GroupOrder(order));
            }
            let Some(session) = self.session(peer) else { continue };
            let Ok(request) = session.fetch_range(name.clone(), start, to, parameters) else {
                continue;
            };
            let key = RequestKey { peer, request };
            let fetch = self.next_task;
            self.next_task += 1;
            self.tracks[index.0].upstream_fetches.insert(
                fetch,
                UpstreamFetch { key, start, end: to, order, last: None, failed: false },
            );
            self.own(key, Owner::UpstreamFetch { track: index, fetch });
            return true;
        }
        false
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
        let Some((index, _, fetch)) = self.upstream_fetch_mut(key) else { return };
        let location = object.location;
        let known_from = known_from(fetch, location);
        fetch.last = Some(location);
        let cached = CachedObject {
            subgroup: object.subgroup,
            priority: object.priority,
            status: ObjectStatus::Normal,
            properties: object.properties,
            payload: if payload.is_empty() { Vec::new() } else { vec![payload] },
            payload_length: object.payload_length,
            complete: last,
            received_at: now,
        };
        let cache = &mut self.tracks[index.0].cache;
        if cache.insert(location, cached, now) == Inserted::Conflict {
            self.malformed_track(index, now);
            return;
        }
        if known_from < location {
            cache.mark_known(known_from, before(location), now);
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
        let Some((index, _, fetch)) = self.upstream_fetch_mut(key) else { return };
        let Some(location) = fetch.last else { return };
        self.tracks[index.0].cache.append(location, bytes, last);
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
        let Some((index, _, fetch)) = self.upstream_fetch_mut(key) else { return };
        let from = known_from(fetch, end);
        fetch.last = Some(end);
        if kind == RangeKind::NonExistent && from <= end {
            self.tracks[index.0].cache.mark_known(from, end, now);
        } else {
            fetch.failed = true;
        }
        self.pump_track_fetches(index, now);
    }

    pub(super) fn fetch_stream_ended(&mut self, key: RequestKey, end: StreamEnd, now: Instant) {
        let Some((index, id, fetch)) = self.upstream_fetch_mut(key) else { return };
        if end != StreamEnd::Fin {
            self.upstream_fetch_failed(index, id, RequestCode::INTERNAL_ERROR, now);
            return;
        }
        let (start, end, failed) = (fetch.start, fetch.end, fetch.failed);
        let from = match (fetch.order, fetch.last) {
            (GroupOrder::Ascending, Some(last)) => last.next_object(),
            _ => start,
        };
        let track = &mut self.tracks[index.0];
        if failed {
            // Part of it is unknown even to the publisher; tasks have been told where.
            self.upstream_fetch_failed(index, id, RequestCode::INTERNAL_ERROR, now);
            return;
        }
        track.upstream_fetches.remove(&id);
        track.cache.forget_expired(start, end, now);
        if from <= end {
            track.cache.mark_known(from, end, now);
        }
        self.note_cached(index, now);
        self.pump_track_fetches(index, now);
    }

    /// A publisher does not answer a FETCH of ours: tasks that need it say so and go on.
    pub(super) fn upstream_fetch_failed(
        &mut self,
        index: TrackIndex,
        id: u64,
        code: RequestCode,
        now: Instant,
    ) {
        tracing::debug!(%code, "a publisher did not answer a fetch");
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if let Some(fetch) = track.upstream_fetches.get_mut(&id) {
            fetch.failed = true;
        }
        self.pump_track_fetches(index, now);
        if let Some(track) = self.tracks.get_mut(index.0) {
            track.upstream_fetches.remove(&id);
        }
    }

    /// Bytes of a request have left for the network.
    pub(super) fn sent(&mut self, key: RequestKey, now: Instant) {
        match self.peers.get(key.peer.0).and_then(|peer| peer.requests.get(&key.request)) {
            Some(Owner::Call { .. }) => self.call_sent(key),
            Some(Owner::Fetch { track, task }) => {
                let (track, task) = (*track, *task);
                self.pump_fetch(track, task, now);
            }
            Some(Owner::Subscriber { track, .. }) => {
                let track = *track;
                let fills: Vec<u64> = self.tracks[track.0]
                    .tasks
                    .iter()
                    .filter(|(_, task)| task.key.owner == key)
                    .map(|(id, _)| *id)
                    .collect();
                for fill in fills {
                    self.pump_fetch(track, fill, now);
                }
            }
            _ => {}
        }
    }

    pub(super) fn forget_fetch(&mut self, index: TrackIndex, task: u64, now: Instant) {
        if let Some(track) = self.tracks.get_mut(index.0) {
            track.tasks.remove(&task);
        }
        self.update_linger(index, now);
        self.forget_track_if_unused(index);
    }

    /// Forgets the fills of subscriptions that are no more.
    pub(super) fn forget_fills_of(&mut self, index: TrackIndex) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let subscribers = &track.subscribers;
        track.tasks.retain(|_, task| {
            !task.is_fill || subscribers.iter().any(|(_, entry)| entry.key == task.key.owner)
        });
    }

    /// Ends every task of a track: its publishers cannot be believed.
    pub(super) fn fail_fetches(&mut self, index: TrackIndex, reset: ResetCode) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let tasks = std::mem::take(&mut track.tasks);
        let fetches = std::mem::take(&mut track.upstream_fetches);
        for task in tasks.into_values() {
            if !task.is_fill {
                self.disown(task.key.owner);
            }
            let Some(session) = self.session(task.key.owner.peer) else { continue };
            match task.stream {
                Some(stream) => session.reset_stream(stream, reset),
                None if !task.is_fill => session.cancel(task.key.owner.request, reset),
                None => {}
            }
        }
        for fetch in fetches.into_values() {
            self.disown(fetch.key);
            if let Some(session) = self.session(fetch.key.peer) {
                session.cancel(fetch.key.request, reset);
            }
        }
    }
}

/// Where the range begins of which a publisher's answer tells all by going on to `location`.
fn known_from(fetch: &UpstreamFetch, location: Location) -> Location {
    let in_group = Location { group: location.group, object: ObjectId(0) };
    match (fetch.order, fetch.last) {
        (GroupOrder::Ascending, None) => fetch.start,
        (GroupOrder::Ascending, Some(last)) => last.next_object(),
        (GroupOrder::Descending, Some(last)) if last.group == location.group => last.next_object(),
        (GroupOrder::Descending, _) => in_group.max(fetch.start),
    }
}

//! FETCH and fills of sessions: what they ask for, and their end.

use std::time::{Duration, Instant};

use aip_codec::moqt::{
    error_code::{RequestCode, ResetCode},
    id::ObjectId,
    location::Location,
    message::{Fetch, FetchTarget},
    parameter::Parameters,
    stream::fetch::Encoder,
};

use super::{
    Relay,
    fetch_task::FetchTask,
    namespace_tree::RequestKey,
    peer::Owner,
    subscribe::Asker,
    track::{FillKey, Track, TrackIndex, WaitingBody, Wanted, Wish},
};
use crate::{schedule::Precedence, session::fetch_range};

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
        let asker = Asker { key, wants_objects: false };
        if self.tracks[index.0].is_established() && self.has_heard_all(index, asker, now) {
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
        let range = self.range_of(index, key, body);
        // What another shard asks for it has heard of.
        let heard_of = range.filter(|_| self.peers[key.peer.0].is_shard()).map(|(_, end)| end);
        let range = match (track.largest.max(heard_of), range) {
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
        let end_of_track = track.end.is_some() && end == largest;
        let properties = track.properties_for(&body.parameters);
        if let Some(session) = self.session(key.peer) {
            session.accept_fetch(key.request, end_of_track, end, properties);
        }
        let order = body.parameters.group_order().unwrap_or_default();
        let wanted = Wanted {
            start,
            end,
            order,
            live_order: order,
            priority: body.parameters.subscriber_priority().unwrap_or(128),
            patience: body.parameters.fill_timeout().map(Duration::from_millis),
            ranges: Wish::of(&body.parameters).ranges,
        };
        let task = self.begin_fetch_task(index, key, wanted, now);
        self.pump_fetch(index, task, now);
        self.update_linger(index, now);
    }

    /// Begins to answer a FETCH that was accepted; to be pumped. The track is there until it is.
    pub(super) fn begin_fetch_task(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        wanted: Wanted,
        now: Instant,
    ) -> u64 {
        let task_key = FillKey { owner: key, asked_by: key.request };
        let task = self.begin_task(index, task_key, false, wanted, now);
        self.own(key, Owner::Fetch { track: index, task });
        task
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
                let filter = body.parameters.location_filter().unwrap_or_default();
                let largest = match self.peers[key.peer.0].is_shard() {
                    true => Location::MAX,
                    false => track.largest?,
                };
                Some(fetch_range(filter, largest))
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
                let subscriber = track.subscribers.get(*subscriber)?;
                let joined_at = subscriber.joined_at.filter(|_| subscriber.wish.forward)?;
                let group =
                    if *relative { joined_at.group.0.saturating_sub(*start) } else { *start };
                Some((Location::new(group, 0), joined_at))
            }
        }
    }

    /// Begins the fill that a SUBSCRIBE or an update of it asked for; nothing if there is nothing,
    /// or the subscription is paused.
    pub(super) fn begin_fill(
        &mut self,
        (index, subscriber): (TrackIndex, usize),
        key: FillKey,
        fill: &Parameters,
        now: Instant,
    ) {
        let track = &self.tracks[index.0];
        let Some(entry) = track.subscribers.get(subscriber) else { return };
        let (Some(largest), true) = (track.largest, entry.wish.forward) else { return };
        let wish = entry.wish.for_fill(fill);
        let (start, end) = fetch_range(wish.filter, largest);
        if end < start {
            return;
        }
        let order = wish.order.unwrap_or_default();
        let subscriber = match self.peers[key.owner.peer.0].requests.get(&key.owner.request) {
            Some(Owner::Subscriber { subscriber, .. }) => track.subscribers.get(*subscriber),
            _ => None,
        };
        let live_order = subscriber.map_or(order, |it| {
            it.wish.order.unwrap_or_else(|| track.properties.default_group_order())
        });
        let wanted = Wanted {
            start,
            end,
            order,
            live_order,
            priority: wish.priority,
            patience: fill.fill_timeout().map(Duration::from_millis),
            ranges: wish.ranges,
        };
        if self.config.subscription_fills_max <= track.fills_of(key.owner) {
            self.refuse_fill(key, wanted.priority);
            return;
        }
        let task = self.begin_task(index, key, true, wanted, now);
        self.pump_fetch(index, task, now);
    }

    /// Refuses a fill: its stream is opened, so that it is known to be that one, and reset.
    fn refuse_fill(&mut self, key: FillKey, priority: u8) {
        let Some(session) = self.session(key.owner.peer) else { return };
        let precedence = Precedence::data(key.owner.request, priority);
        if let Some(stream) = session.open_fill(key.asked_by, precedence) {
            session.reset_stream(stream, ResetCode::EXCESSIVE_LOAD);
        }
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
        let encoder = Encoder::new(version, wanted.order);
        self.tracks[index.0].tasks.insert(
            task,
            FetchTask {
                key,
                is_fill,
                wanted,
                position: None,
                stream: None,
                encoder,
                version,
                waits_for: None,
                asked: (None, 0),
                deadline,
            },
        );
        task
    }

    /// Bytes of a request have left for the network.
    pub(super) fn sent(&mut self, key: RequestKey, now: Instant) {
        match self.peers.get(key.peer.0).and_then(|peer| peer.requests.get(&key.request)) {
            Some(Owner::Call { .. }) => self.call_sent(key),
            Some(Owner::Fetch { track, task }) => {
                let (track, task) = (*track, *task);
                self.pump_fetch(track, task, now);
            }
            // Nothing to collect where no fill is under way, which is nearly always.
            Some(Owner::Subscriber { track, .. }) if self.tracks[track.0].tasks.is_empty() => {}
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
        track.forget_recovery_if_alone();
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
            self.reset_task(&task, reset);
        }
        for fetch in fetches.into_values() {
            self.disown(fetch.key);
            if let Some(session) = self.session(fetch.key.peer) {
                session.cancel(fetch.key.request, reset);
            }
        }
    }
}

impl Track {
    /// Fills of a subscription that are being sent.
    fn fills_of(&self, subscription: RequestKey) -> usize {
        self.tasks.values().filter(|task| task.is_fill && task.key.owner == subscription).count()
    }
}

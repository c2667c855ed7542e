//! FETCH and TRACK_STATUS of a track whose publishers refuse SUBSCRIBE: passed on as they are.
//!
//! One publisher is asked after the other. FETCHes of the same range share one; what it brings goes
//! through the cache as that of any FETCH of ours. A FETCH of a range that counts back from the
//! largest object needs to know that first: its publisher is asked by TRACK_STATUS.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use aip_codec::moqt::{
    error_code::{RequestCode, ResetCode},
    filter::LocationFilter,
    id::ObjectId,
    location::Location,
    message::{Fetch, FetchTarget, Reason, RequestError, RequestOk},
    parameter::{GroupOrder, Parameter, Parameters},
    property::Properties,
};

use super::{
    Relay,
    namespace_tree::RequestKey,
    peer::{Owner, PeerIndex},
    track::{TrackIndex, Waiting, WaitingBody, Wanted, Wish},
};
use crate::session::fetch_range;

/// A request that a publisher is asked for a subscriber.
#[derive(Debug)]
pub(crate) struct PassedOn {
    /// The subscriber's.
    pub(crate) key: RequestKey,
    body: WaitingBody,
    /// First and last location of a FETCH, once known.
    range: Option<(Location, Location)>,
    /// Ours, that is being answered.
    above: RequestKey,
    /// When that is given up; a FETCH has a time of its own.
    deadline: Option<Instant>,
    /// Who is asked next if it is refused.
    others: VecDeque<PeerIndex>,
}

impl Relay {
    /// Every publisher of a track has refused to be subscribed to: passes on what is no
    /// subscription.
    pub(super) fn pass_on_waiting(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let is_subscribe = |waiting: &Waiting| matches!(waiting.body, WaitingBody::Subscribe(_));
        let (stay, go): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut track.waiting).into_iter().partition(is_subscribe);
        track.waiting = stay;
        self.update_rendezvous(index);
        for Waiting { key, body, .. } in go {
            self.pass_on(index, key, body, now);
        }
    }

    /// Passes a FETCH or TRACK_STATUS on; its session counts it as waiting.
    pub(super) fn pass_on(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        body: WaitingBody,
        now: Instant,
    ) {
        if matches!(&body, WaitingBody::Fetch(body)
            if matches!(body.target, FetchTarget::Joining { .. }))
        {
            self.end_passed_on(key);
            let reason = "the subscription to join is refused";
            self.reject(key, RequestCode::INVALID_JOINING_REQUEST_ID, reason);
            self.answered.push_back(key.peer);
            return;
        }
        let publishers = self.publishers_for(&self.tracks[index.0], Some(key));
        let range = match &body {
            WaitingBody::Fetch(body) => asked_range(body, self.tracks[index.0].largest),
            WaitingBody::Subscribe(_) | WaitingBody::TrackStatus(_) => None,
        };
        let others = publishers.into();
        let entry = PassedOn { key, body, range, above: key, deadline: None, others };
        let error = refusal(RequestCode::DOES_NOT_EXIST, "nobody publishes this track");
        self.own(key, Owner::PassedOn(index));
        self.pass_on_to_next(index, entry, &error, now);
    }

    /// Asks the next publisher, or refuses with what the last one has said.
    fn pass_on_to_next(
        &mut self,
        index: TrackIndex,
        mut entry: PassedOn,
        error: &RequestError,
        now: Instant,
    ) {
        while let Some(peer) = entry.others.pop_front() {
            let asked = match (&entry.body, entry.range) {
                (WaitingBody::Fetch(body), Some(range)) => {
                    let order = body.parameters.group_order().unwrap_or_default();
                    self.pass_on_fetch(index, peer, range, order, now)
                }
                _ => self.pass_on_status(index, peer),
            };
            let Some(above) = asked else { continue };
            entry.above = above;
            let is_fetch = entry.range.is_some();
            entry.deadline = (!is_fetch).then(|| now + self.config.upstream_timeout);
            if let Some(deadline) = entry.deadline {
                self.arm_track_timer(index, deadline);
            }
            self.tracks[index.0].passed_on.push(entry);
            return;
        }
        self.end_passed_on(entry.key);
        self.reject_like(entry.key, error);
    }

    fn end_passed_on(&mut self, key: RequestKey) {
        self.disown(key);
        if let Some(peer) = self.peers.get_mut(key.peer.0) {
            peer.waiting_count = peer.waiting_count.saturating_sub(1);
        }
    }

    fn pass_on_status(&mut self, index: TrackIndex, peer: PeerIndex) -> Option<RequestKey> {
        let name = self.tracks[index.0].name.clone();
        let request = self.session(peer)?.track_status(name, Parameters::default()).ok()?;
        let key = RequestKey { peer, request };
        self.own(key, Owner::StatusAbove(index));
        Some(key)
    }

    /// Fetches a range for a request; the one that is under way, if there is one.
    fn pass_on_fetch(
        &mut self,
        index: TrackIndex,
        peer: PeerIndex,
        range: (Location, Location),
        order: GroupOrder,
        now: Instant,
    ) -> Option<RequestKey> {
        let shared = self.tracks[index.0].passed_on.iter().find(|other| {
            other.range == Some(range)
                && other.above.peer == peer
                && matches!(&other.body, WaitingBody::Fetch(body)
                    if body.parameters.group_order().unwrap_or_default() == order)
        });
        if let Some(shared) = shared {
            return Some(shared.above);
        }
        self.fetch_from(index, peer, range, order, now)
    }

    /// A publisher has answered a FETCH of ours: so are those that it was passed on for.
    pub(super) fn passed_fetch_accepted(
        &mut self,
        index: TrackIndex,
        above: RequestKey,
        (end, end_of_track): (Location, bool),
        properties: &Properties,
        now: Instant,
    ) {
        // The track may be gone with the last of them: all begin before the first is sent.
        let mut begun = Vec::new();
        for entry in self.take_passed_on(index, above) {
            self.end_passed_on(entry.key);
            let (WaitingBody::Fetch(body), Some((start, asked_end))) = (&entry.body, entry.range)
            else {
                continue;
            };
            let end_of_track = end_of_track && end <= asked_end;
            let end = end.min(asked_end);
            if end < start {
                self.reject(entry.key, RequestCode::INVALID_RANGE, "no objects in this range");
                continue;
            }
            let told = told_properties(properties, &body.parameters);
            if let Some(session) = self.session(entry.key.peer) {
                session.accept_fetch(entry.key.request, end_of_track, end, told);
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
            begun.push(self.begin_fetch_task(index, entry.key, wanted, now));
            self.answered.push_back(entry.key.peer);
        }
        for task in begun {
            self.pump_fetch(index, task, now);
        }
        self.update_linger(index, now);
        self.forget_track_if_unused(index);
    }

    /// A publisher has answered our TRACK_STATUS.
    pub(super) fn passed_status_accepted(
        &mut self,
        index: TrackIndex,
        above: RequestKey,
        ok: &RequestOk,
        now: Instant,
    ) {
        self.disown(above);
        let is_understood = ok.properties.unknown_mandatory_track_property().is_none();
        if !is_understood || ok.properties.check_immutable().is_err() {
            let reason = "mandatory track property not understood";
            let error = refusal(RequestCode::UNSUPPORTED_EXTENSION, reason);
            self.passed_on_refused(index, above, &error, now);
            return;
        }
        let largest = ok.parameters.largest_object();
        for mut entry in self.take_passed_on(index, above) {
            match &entry.body {
                WaitingBody::TrackStatus(body) => {
                    let mut parameters = Parameters::default();
                    if let Some(largest) = largest {
                        parameters.push(Parameter::LargestObject(largest));
                    }
                    let told = told_properties(&ok.properties, &body.parameters);
                    self.end_passed_on(entry.key);
                    if let Some(session) = self.session(entry.key.peer) {
                        session.accept(entry.key.request, parameters, told);
                    }
                }
                WaitingBody::Fetch(body) => {
                    entry.range = asked_range(body, largest);
                    let error = refusal(RequestCode::INVALID_RANGE, "no objects in this range");
                    // The same publisher is asked for what is now known.
                    entry.others.clear();
                    entry.others.extend(entry.range.map(|_| above.peer));
                    self.pass_on_to_next(index, entry, &error, now);
                }
                WaitingBody::Subscribe(_) => {}
            }
        }
        self.forget_track_if_unused(index);
    }

    /// A publisher does not answer what was passed on to it.
    pub(super) fn passed_on_refused(
        &mut self,
        index: TrackIndex,
        above: RequestKey,
        error: &RequestError,
        now: Instant,
    ) {
        for entry in self.take_passed_on(index, above) {
            let peer = entry.key.peer;
            self.pass_on_to_next(index, entry, error, now);
            self.answered.push_back(peer);
        }
        self.forget_track_if_unused(index);
    }

    /// The same, for want of an answer.
    pub(super) fn passed_on_lost(
        &mut self,
        index: TrackIndex,
        above: RequestKey,
        code: RequestCode,
        now: Instant,
    ) {
        self.passed_on_refused(index, above, &refusal(code, code.name()), now);
    }

    /// Gives up TRACK_STATUSes of ours that were not answered in time.
    pub(super) fn passed_on_timed_out(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let late: Vec<RequestKey> = track
            .passed_on
            .iter()
            .filter(|entry| entry.deadline.is_some_and(|deadline| deadline <= now))
            .map(|entry| entry.above)
            .collect();
        for above in late {
            self.cancel_above(above);
            self.passed_on_lost(index, above, RequestCode::TIMEOUT, now);
        }
    }

    /// A subscriber does not want its answer any more.
    pub(super) fn forget_passed_on(&mut self, index: TrackIndex, key: RequestKey) {
        self.end_passed_on(key);
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let Some(at) = track.passed_on.iter().position(|entry| entry.key == key) else { return };
        let entry = track.passed_on.remove(at);
        let is_shared = track.passed_on.iter().any(|other| other.above == entry.above);
        if !is_shared && entry.range.is_none() {
            self.cancel_above(entry.above);
        }
        // A FETCH of ours ends with the track.
        self.forget_track_if_unused(index);
    }

    fn cancel_above(&mut self, above: RequestKey) {
        self.disown(above);
        if let Some(session) = self.session(above.peer) {
            session.cancel(above.request, ResetCode::CANCELLED);
        }
    }

    fn take_passed_on(&mut self, index: TrackIndex, above: RequestKey) -> Vec<PassedOn> {
        let Some(track) = self.tracks.get_mut(index.0) else { return Vec::new() };
        let (taken, left): (Vec<_>, Vec<_>) = std::mem::take(&mut track.passed_on)
            .into_iter()
            .partition(|entry| entry.above == above);
        track.passed_on = left;
        taken
    }
}

fn refusal(code: RequestCode, reason: &str) -> RequestError {
    RequestError { code, retry_interval: 0, reason: Reason::new(reason), redirect: None }
}

/// The properties to tell, unless the request does not want them.
fn told_properties(properties: &Properties, parameters: &Parameters) -> Properties {
    match parameters.include_properties() {
        Some(false) => Properties::default(),
        _ => properties.clone(),
    }
}

/// First and last location that a FETCH asks for, as far as that is known without the track's
/// largest object.
fn asked_range(body: &Fetch, largest: Option<Location>) -> Option<(Location, Location)> {
    match &body.target {
        FetchTarget::Track(_) => {
            let filter = body.parameters.location_filter().unwrap_or_default();
            match (filter, largest) {
                (LocationFilter::Relative { .. } | LocationFilter::NextObject, None) => None,
                (LocationFilter::Relative { .. } | LocationFilter::NextObject, Some(largest)) => {
                    let (start, end) = fetch_range(filter, largest);
                    (start <= end).then_some((start, end))
                }
                _ => Some(fetch_range(filter, Location::MAX)),
            }
        }
        FetchTarget::Standalone { start, end, .. } => {
            let last = end.object.0.checked_sub(1).unwrap_or(u64::MAX);
            Some((*start, Location { group: end.group, object: ObjectId(last) }))
        }
        FetchTarget::Joining { .. } => None,
    }
}

//! SUBSCRIBE and TRACK_STATUS of sessions, and the publishers that are asked for them.

use std::time::{Duration, Instant};

use aip_codec::moqt::{
    error_code::{PublishDoneCode, RequestCode},
    filter::LocationFilter,
    id::TrackAlias,
    location::Location,
    message::{Subscribe, TrackStatus},
    name::{FullTrackName, TrackNamespace},
    parameter::{Parameter, Parameters},
    property::Properties,
};

use crate::{
    schedule::DEFAULT_PRIORITY,
    session::{DeliveryTimeouts, subscription_range},
};

use super::{
    Relay,
    namespace_tree::RequestKey,
    peer::Owner,
    track::{FillKey, Subscriber, Track, TrackIndex, Upstream, Waiting, WaitingBody},
};

impl Relay {
    pub(super) fn subscribe_received(&mut self, key: RequestKey, body: Subscribe, now: Instant) {
        let Some(index) = self.track_for(key, &body.track) else { return };
        if self.is_served_to(index, key) {
            self.accept_subscriber(index, key, &body, now);
        } else {
            let patience = body.parameters.rendezvous_timeout().unwrap_or(0);
            let patience = Duration::from_millis(patience).min(self.config.rendezvous_timeout_max);
            self.wait_for_publisher(index, key, WaitingBody::Subscribe(body), patience, now);
        }
    }

    pub(super) fn track_status_received(
        &mut self,
        key: RequestKey,
        body: TrackStatus,
        now: Instant,
    ) {
        let Some(index) = self.track_for(key, &body.track) else { return };
        if self.tracks[index.0].is_established() {
            self.answer_status(index, key, &body);
        } else {
            let body = WaitingBody::TrackStatus(body);
            self.wait_for_publisher(index, key, body, Duration::ZERO, now);
        }
    }

    /// Whether a track can be sent to who asks for it. What another relay sends us is no answer
    /// when that relay asks.
    fn is_served_to(&self, index: TrackIndex, key: RequestKey) -> bool {
        let is_relay = self.peers[key.peer.0].is_upstream_relay();
        self.tracks[index.0]
            .upstreams
            .iter()
            .any(|upstream| upstream.established && !(is_relay && upstream.key.peer == key.peer))
    }

    /// The track that a request names, begun if need be. `None` if the request was refused.
    pub(super) fn track_for(
        &mut self,
        key: RequestKey,
        name: &FullTrackName,
    ) -> Option<TrackIndex> {
        if is_reserved(name.namespace()) {
            self.reject(key, RequestCode::DOES_NOT_EXIST, "reserved namespace");
            return None;
        }
        if let Some(&index) = self.by_name.get(name) {
            return Some(index);
        }
        if self.config.tracks_max <= self.tracks.len() {
            self.reject(key, RequestCode::EXCESSIVE_LOAD, "too many tracks");
            return None;
        }
        let alias = TrackAlias(self.next_alias);
        self.next_alias += 1;
        let index = TrackIndex(self.tracks.insert(Track::new(name.clone(), alias)));
        self.by_name.insert(name.clone(), index);
        Some(index)
    }

    /// Holds a request until a publisher has answered, asking one if there is one.
    pub(super) fn wait_for_publisher(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        body: WaitingBody,
        patience: Duration,
        now: Instant,
    ) {
        if self.config.session_waiting_max <= self.peers[key.peer.0].waiting_count {
            self.reject(key, RequestCode::EXCESSIVE_LOAD, "too many requests wait for publishers");
            self.forget_track_if_unused(index);
            return;
        }
        let new_group = match &body {
            WaitingBody::Subscribe(body) => body.parameters.new_group_request(),
            WaitingBody::Fetch(_) | WaitingBody::TrackStatus(_) => None,
        };
        let track = &mut self.tracks[index.0];
        track.new_group = track.new_group.max(new_group);
        let asked = track.upstreams.iter().any(|up| up.key.peer != key.peer)
            || self.ask_publishers(index, Some(key), now);
        if !asked && patience.is_zero() {
            self.reject(key, RequestCode::DOES_NOT_EXIST, "nobody publishes this track");
            self.forget_track_if_unused(index);
            return;
        }
        let deadline = now + patience;
        self.arm_track_timer(index, deadline);
        self.tracks[index.0].waiting.push_back(Waiting { key, body, deadline });
        self.peers[key.peer.0].waiting_count += 1;
        self.own(key, Owner::Waiting(index));
    }

    /// Subscribes to everyone who publishes a prefix of the track's namespace and is not asked yet:
    /// to sessions of our own before other relays. True if somebody is being asked.
    pub(super) fn ask_publishers(
        &mut self,
        index: TrackIndex,
        on_behalf_of: Option<RequestKey>,
        now: Instant,
    ) -> bool {
        let Some(track) = self.tracks.get(index.0) else { return false };
        let name = track.name.clone();
        let publishers = self.publishers_for(track, on_behalf_of);
        let parameters = track
            .new_group
            .map(|group| Parameters::default().with(Parameter::NewGroupRequest(group)))
            .unwrap_or_default();
        let mut asked = false;
        for peer in publishers {
            if self.tracks[index.0].has_upstream_in(peer) {
                asked = true;
                continue;
            }
            let Some(session) = self.session(peer) else { continue };
            let Ok(request) = session.subscribe(name.clone(), parameters.clone()) else {
                continue;
            };
            let key = RequestKey { peer, request };
            let deadline = now + self.config.upstream_timeout;
            self.tracks[index.0].upstreams.push(Upstream {
                key,
                by_publish: false,
                established: false,
                alias: None,
                forward: true,
                deadline,
            });
            self.own(key, Owner::Upstream(index));
            self.arm_track_timer(index, deadline);
            asked = true;
        }
        asked
    }

    pub(super) fn upstream_accepted(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        ok: aip_codec::moqt::message::SubscribeOk,
        now: Instant,
    ) {
        let code = if ok.properties.unknown_mandatory_track_property().is_some() {
            Some(RequestCode::UNSUPPORTED_EXTENSION)
        } else if ok.properties.check_immutable().is_err() {
            Some(RequestCode::MALFORMED_TRACK)
        } else {
            None
        };
        if let Some(code) = code {
            tracing::debug!(%code, "a publisher's track is not taken");
            if let Some(session) = self.session(key.peer) {
                session.cancel(key.request, aip_codec::moqt::error_code::ResetCode::CANCELLED);
            }
            self.disown(key);
            self.upstream_gone(index, key, code, now);
            return;
        }
        let largest = ok.parameters.largest_object();
        let terms = Terms { alias: ok.track_alias, largest, properties: ok.properties };
        self.establish_upstream(index, key, terms, now);
    }

    /// A publisher sends the track: whoever waited for it is answered.
    pub(super) fn establish_upstream(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        terms: Terms,
        now: Instant,
    ) {
        let Terms { alias, largest, properties } = terms;
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if let Some(upstream) = track.upstream_mut(key) {
            upstream.established = true;
            upstream.alias = Some(alias);
        }
        if let Some(largest) = largest {
            track.note_largest(largest);
        }
        track.note_properties(properties);
        self.peers[key.peer.0].aliases.insert(alias, index);
        for waiting in std::mem::take(&mut self.tracks[index.0].waiting) {
            self.peers[waiting.key.peer.0].waiting_count -= 1;
            self.disown(waiting.key);
            match waiting.body {
                WaitingBody::Subscribe(body) => {
                    self.accept_subscriber(index, waiting.key, &body, now);
                }
                WaitingBody::Fetch(body) => self.answer_fetch(index, waiting.key, &body, now),
                WaitingBody::TrackStatus(body) => self.answer_status(index, waiting.key, &body),
            }
            self.answered.push_back(waiting.key.peer);
        }
        self.update_linger(index, now);
    }

    fn answer_status(&mut self, index: TrackIndex, key: RequestKey, body: &TrackStatus) {
        let track = &self.tracks[index.0];
        let mut parameters = Parameters::default();
        if let Some(largest) = track.largest {
            parameters.push(Parameter::LargestObject(largest));
        }
        let properties = track.properties_for(&body.parameters);
        if let Some(session) = self.session(key.peer) {
            session.accept(key.request, parameters, properties);
        }
    }

    /// Accepts a SUBSCRIBE of an established track, and fills if it asks for that.
    fn accept_subscriber(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        body: &Subscribe,
        now: Instant,
    ) {
        let track = &self.tracks[index.0];
        let mut parameters = Parameters::default();
        if let Some(largest) = track.largest {
            parameters.push(Parameter::LargestObject(largest));
        }
        let alias = track.alias;
        let properties = track.properties_for(&body.parameters);
        if let Some(session) = self.session(key.peer) {
            session.accept_subscribe(key.request, alias, parameters, properties);
        }
        self.add_subscriber(index, key, &body.parameters, now);
        self.pass_on_new_group(index, &body.parameters);
        let forward = body.parameters.forward().unwrap_or(true);
        if let (true, Some(fill)) = (forward, body.parameters.fill_parameters()) {
            let filled_by = FillKey { owner: key, asked_by: key.request };
            self.begin_fill(index, filled_by, fill, &body.parameters, now);
        }
    }

    pub(super) fn add_subscriber(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        parameters: &Parameters,
        now: Instant,
    ) {
        let track = &mut self.tracks[index.0];
        let filter = parameters.location_filter().unwrap_or_default();
        let (start, end) = subscription_range(filter, track.largest);
        let forward = parameters.forward().unwrap_or(true);
        let subscriber = track.subscribers.insert(Subscriber {
            key,
            forward,
            priority: parameters.subscriber_priority().unwrap_or(DEFAULT_PRIORITY),
            order: parameters
                .group_order()
                .unwrap_or_else(|| track.properties.default_group_order()),
            timeouts: DeliveryTimeouts::of_subscriber(parameters),
            start,
            end,
            joined_at: track.largest.filter(|_| forward),
        });
        self.own(key, Owner::Subscriber { track: index, subscriber });
        if self.peers[key.peer.0].is_upstream_relay() {
            // What we have of this relay would from now on be our own echo.
            self.leave_upstreams(index, now, |upstream| upstream.key.peer == key.peer);
        }
        self.want_forward(index, now);
        self.update_linger(index, now);
    }

    /// A downstream subscriber that wants objects means that every publisher must send them.
    pub(super) fn want_forward(&mut self, index: TrackIndex, _now: Instant) {
        let track = &mut self.tracks[index.0];
        if !track.subscribers.iter().any(|(_, subscriber)| subscriber.forward) {
            return;
        }
        let paused: Vec<RequestKey> = track
            .upstreams
            .iter_mut()
            .filter(|upstream| upstream.established && !upstream.forward)
            .map(|upstream| {
                upstream.forward = true;
                upstream.key
            })
            .collect();
        for key in paused {
            if let Some(session) = self.session(key.peer) {
                let parameters = Parameters::default().with(Parameter::Forward(true));
                if let Err(error) = session.update(key.request, parameters) {
                    tracing::debug!(%error, "publisher cannot be asked to go on");
                }
            }
        }
    }
}

/// What a publisher tells of a track when it begins to send it.
pub(super) struct Terms {
    pub(super) alias: TrackAlias,
    pub(super) largest: Option<Location>,
    pub(super) properties: Properties,
}

impl Track {
    /// The properties to tell, unless the request does not want them.
    pub(super) fn properties_for(&self, parameters: &Parameters) -> Properties {
        if parameters.include_properties() == Some(false) {
            Properties::default()
        } else {
            self.properties.clone()
        }
    }

    /// What a subscription's filter, or the lack of one, begins at.
    pub(super) fn filter_or(&self, filter: Option<LocationFilter>) -> LocationFilter {
        filter.unwrap_or_default()
    }
}

/// Whether a namespace is one that only its session may use, or nobody.
pub(super) fn is_reserved(namespace: &TrackNamespace) -> bool {
    namespace.fields().next().is_some_and(|field| field == b"." || field == b".session")
}

/// How a subscription's end is told downstream, given how its publisher ended it.
pub(super) const fn done_code(code: Option<PublishDoneCode>) -> PublishDoneCode {
    match code {
        Some(
            code @ (PublishDoneCode::TRACK_ENDED
            | PublishDoneCode::SUBSCRIPTION_ENDED
            | PublishDoneCode::GOING_AWAY
            | PublishDoneCode::EXPIRED
            | PublishDoneCode::MALFORMED_TRACK),
        ) => code,
        _ => PublishDoneCode::INTERNAL_ERROR,
    }
}

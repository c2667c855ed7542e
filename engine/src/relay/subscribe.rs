//! SUBSCRIBE and TRACK_STATUS of sessions, and the publishers that are asked for them.

use std::time::{Duration, Instant};

use aip_codec::{
    aip::hops::{HOPS_MAX, Hops, RelayId},
    moqt::{
        error_code::{PublishDoneCode, RequestCode, ResetCode},
        id::TrackAlias,
        location::Location,
        message::{Subscribe, TrackStatus},
        name::{FullTrackName, TrackNamespace},
        parameter::{Parameter, Parameters},
        property::Properties,
    },
};

use crate::session::subscription_range;

use super::{
    Relay,
    namespace_tree::RequestKey,
    peer::{Owner, Peer, PeerIndex},
    rendezvous::TOO_MANY,
    track::{FillKey, Subscriber, Track, TrackIndex, Upstream, Waiting, WaitingBody, Wish},
};

impl Relay {
    pub(super) fn subscribe_received(&mut self, key: RequestKey, body: Subscribe, now: Instant) {
        if self.refuses_own_request(key, &body.parameters) {
            return;
        }
        let Some(index) = self.track_for(key, &body.track) else { return };
        let is_shard = self.peers[key.peer.0].is_shard();
        if is_shard && self.tracks[index.0].has_subscriber_in(key.peer) {
            self.reject(key, RequestCode::DUPLICATE_SUBSCRIPTION, "the track is offered already");
        } else if self.is_served_to(index, key, &self.hops_of(key, &body.parameters)) {
            let wants_objects = body.parameters.forward().unwrap_or(true);
            if self.has_heard_all(index, Asker { key, wants_objects }, now) {
                self.accept_subscriber(index, key, &body, now);
            } else {
                let body = WaitingBody::Subscribe(body);
                self.wait_for_publisher(index, key, body, Duration::ZERO, now);
            }
        } else if self.redirect_again(key, &body.track, now) {
            self.forget_track_if_unused(index);
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
        let asker = Asker { key, wants_objects: false };
        if self.tracks[index.0].is_established() && self.has_heard_all(index, asker, now) {
            self.answer_status(index, key, &body);
        } else {
            let body = WaitingBody::TrackStatus(body);
            self.wait_for_publisher(index, key, body, Duration::ZERO, now);
        }
    }

    /// Refuses what this relay has asked for itself and what has come back to it.
    fn refuses_own_request(&mut self, key: RequestKey, parameters: &Parameters) -> bool {
        let own = self.config.session.relay_id;
        let comes_back =
            parameters.hops().is_some_and(|hops| own.is_some_and(|own| hops.contains(own)));
        if comes_back {
            self.reject(key, RequestCode::DOES_NOT_EXIST, "this request has passed here before");
        }
        comes_back
    }

    /// The relays that a request has passed, its sender among them.
    pub(super) fn hops_of(&self, key: RequestKey, parameters: &Parameters) -> Hops {
        let peer = &self.peers[key.peer.0];
        let told = parameters.hops().cloned().unwrap_or_default();
        if peer.is_shard() {
            return told;
        }
        let Some(sender) = peer.relay_id() else { return Hops::new() };
        if told.contains(sender) { told } else { told.then(sender).unwrap_or(told) }
    }

    /// Another relay tells anew which relays are below it.
    pub(super) fn note_hops(
        &mut self,
        (index, subscriber): (TrackIndex, usize),
        key: RequestKey,
        parameters: &Parameters,
    ) {
        let hops = self.hops_of(key, parameters);
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if let Some(entry) = track.subscribers.get_mut(subscriber) {
            entry.hops = hops;
            self.below_changed.push_back((index, track.alias));
        }
    }

    /// The same of a request that waits: relays that wait for each other in a ring would do so for
    /// ever.
    pub(super) fn note_hops_of_waiting(&mut self, key: RequestKey, parameters: &Parameters) {
        let Some(&Owner::Waiting(index)) = self.peers[key.peer.0].requests.get(&key.request) else {
            return;
        };
        let hops = self.hops_of(key, parameters);
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if let Some(waiting) = track.waiting.iter_mut().find(|waiting| waiting.key == key) {
            waiting.hops = hops;
            self.below_changed.push_back((index, track.alias));
        }
    }

    /// Whether a track can be sent to who asks for it. What another relay sends us is no answer
    /// when that relay asks, or one that asks through it.
    fn is_served_to(&self, index: TrackIndex, key: RequestKey, hops: &Hops) -> bool {
        let is_relay = self.peers[key.peer.0].is_relay();
        let is_shard = self.peers[key.peer.0].is_shard();
        self.tracks[index.0].upstreams.iter().any(|upstream| {
            let peer = self.peers.get(upstream.key.peer.0);
            let comes_back = is_relay && upstream.key.peer == key.peer
                || is_shard && upstream.is_shard
                || peer.and_then(Peer::relay_id).is_some_and(|relay| hops.contains(relay));
            upstream.established && !comes_back
        })
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
        Some(self.begin_track(name))
    }

    /// An alias that no track has.
    pub(super) const fn next_alias(&mut self) -> TrackAlias {
        self.next_alias += 1;
        TrackAlias(self.next_alias - 1)
    }

    /// A track of which nothing was known.
    pub(super) fn begin_track(&mut self, name: &FullTrackName) -> TrackIndex {
        let known = self.mesh.alias_of(name).or_else(|| self.offers.alias_of(name));
        let alias = match known {
            Some(alias) => alias,
            None => self.next_alias(),
        };
        let index = TrackIndex(self.tracks.insert(Track::new(name.clone(), alias)));
        self.by_name.insert(name.clone(), index);
        index
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
        let is_shard = self.peers[key.peer.0].is_shard();
        if !is_shard && self.config.session_waiting_max <= self.peers[key.peer.0].waiting_count {
            self.reject(key, RequestCode::EXCESSIVE_LOAD, "too many requests wait for publishers");
            self.forget_track_if_unused(index);
            return;
        }
        if is_shard && !matches!(body, WaitingBody::Subscribe(_)) {
            // It has subscribed before, and was refused: nobody takes a SUBSCRIBE.
            self.peers[key.peer.0].waiting_count += 1;
            self.pass_on(index, key, body, now);
            self.forget_track_if_unused(index);
            return;
        }
        let new_group = match &body {
            WaitingBody::Subscribe(body) => body.parameters.new_group_request(),
            WaitingBody::Fetch(_) | WaitingBody::TrackStatus(_) => None,
        };
        let hops = self.hops_of(key, body.parameters());
        let track = &mut self.tracks[index.0];
        if track.upstreams.is_empty() {
            // Whoever is asked already has been asked for what was wanted then.
            track.new_group = track.new_group.max(new_group);
        }
        let serves = |up: &Upstream| up.key.peer != key.peer && !(is_shard && up.is_shard);
        let asker = Asker { key, wants_objects: body.wants_objects() };
        let is_asked_for = track.upstreams.iter().any(serves);
        if is_asked_for && !is_shard {
            // On behalf of another shard only this one's publishers were asked.
            self.ask_other_shards(index, asker, now);
        }
        let asked = is_asked_for || self.ask_publishers(index, Some(asker), now);
        if !asked && patience.is_zero() {
            self.reject(key, RequestCode::DOES_NOT_EXIST, "nobody publishes this track");
            self.forget_track_if_unused(index);
            return;
        }
        if !asked && self.rendezvous_is_full(key.peer) {
            self.reject(key, RequestCode::EXCESSIVE_LOAD, TOO_MANY);
            self.forget_track_if_unused(index);
            return;
        }
        let deadline = now + patience;
        self.arm_track_timer(index, deadline);
        self.tracks[index.0].waiting.push_back(Waiting { key, is_shard, hops, body, deadline });
        self.update_rendezvous(index);
        self.peers[key.peer.0].waiting_count += 1;
        self.own(key, Owner::Waiting(index));
        if is_shard {
            self.mesh.waits(key);
        }
        self.update_linger(index, now);
        self.note_below(index, key);
    }

    /// A request for a track has come: if from another relay, there is one more below.
    fn note_below(&mut self, index: TrackIndex, key: RequestKey) {
        let peer = &self.peers[key.peer.0];
        if peer.is_shard() || peer.is_relay() {
            self.below_changed.push_back((index, self.tracks[index.0].alias));
        }
    }

    /// Subscribes to everyone who publishes a prefix of the track's namespace and is not asked yet:
    /// to sessions of our own before other relays. True if somebody is being asked.
    pub(super) fn ask_publishers(
        &mut self,
        index: TrackIndex,
        asker: Option<Asker>,
        now: Instant,
    ) -> bool {
        let Some(track) = self.tracks.get(index.0) else { return false };
        let publishers = self.publishers_for(track, asker.map(|asker| asker.key));
        self.ask_each(index, publishers, asker, now)
    }

    /// Subscribes to those of these publishers that are not asked yet. True if somebody is being
    /// asked.
    pub(super) fn ask_each(
        &mut self,
        index: TrackIndex,
        publishers: Vec<PeerIndex>,
        asker: Option<Asker>,
        now: Instant,
    ) -> bool {
        let on_behalf_of = asker.map(|asker| asker.key);
        let track = &self.tracks[index.0];
        let name = track.name.clone();
        let wants_objects = track.wants_objects() || asker.is_some_and(|it| it.wants_objects);
        let parameters = track
            .new_group
            .map(|group| Parameters::default().with(Parameter::NewGroupRequest(group)))
            .unwrap_or_default();
        let hops = self.hops_above(index, on_behalf_of);
        let mut asked = false;
        for peer in publishers {
            if self.is_asked(index, peer) {
                asked = true;
                continue;
            }
            let is_shard = self.peers.get(peer.0).is_some_and(Peer::is_shard);
            if !is_shard && self.has_all_publishers(index) {
                tracing::debug!("a track has more publishers than are asked");
                continue;
            }
            let hops =
                if is_shard { self.hops_to_shard(index, on_behalf_of) } else { hops.clone() };
            let Some(session) = self.session(peer) else { continue };
            let mut parameters = parameters.clone();
            let hops = hops.filter(|_| session.peer_relay().is_some());
            let told_hops = hops.clone();
            if let Some(hops) = hops {
                parameters.push(Parameter::Hops(hops));
            }
            // Another shard sends what it has in any case, but makes nobody send it.
            let forward = wants_objects || !is_shard;
            if !forward {
                parameters.push(Parameter::Forward(false));
            }
            let Ok(request) = session.subscribe(name.clone(), parameters) else {
                continue;
            };
            let key = RequestKey { peer, request };
            let deadline = now + self.config.upstream_timeout;
            self.tracks[index.0].upstreams.push(Upstream {
                key,
                by_publish: false,
                is_shard,
                established: false,
                is_heard: false,
                alias: None,
                forward,
                told_hops,
                deadline,
                is_leaving: false,
            });
            self.own(key, Owner::Upstream(index));
            self.arm_track_timer(index, deadline);
            asked = true;
        }
        self.update_rendezvous(index);
        asked
    }

    /// Whether a track has as many publishers as it may have, in all shards.
    pub(super) fn has_all_publishers(&self, index: TrackIndex) -> bool {
        let track = &self.tracks[index.0];
        let others = self.mesh.publishers_count(&track.name);
        self.config.track_publishers_max <= track.own_publishers() + others
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
                session.cancel(key.request, ResetCode::CANCELLED);
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
        // What is on its way from the others would come behind what this one sends from now on.
        let is_ahead = track.is_established() && track.largest < largest;
        let mut is_ours = false;
        if let Some(upstream) = track.upstream_mut(key) {
            upstream.established = true;
            upstream.alias = Some(alias);
            is_ours = !upstream.is_shard;
        }
        // What was the largest until now says from where something may be missing.
        if is_ahead {
            self.note_loss(index, ResetCode::INTERNAL_ERROR);
        }
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if let Some(largest) = largest {
            track.note_largest(largest);
        }
        track.note_properties(properties);
        track.refused.clear();
        track.ended_with = None;
        if is_ahead && is_ours {
            self.tell_shards_of_gap(index);
        }
        self.peers[key.peer.0].aliases.insert(alias, index);
        self.serve_waiting(index, now);
        self.publish_watched(index, now);
        // Until now those for whom it was asked have counted: there may be none of them left.
        self.update_linger(index, now);
        self.leave_silent(index, now);
        self.leave_after_overlap(index, now);
        self.recover(index, now);
    }

    /// Answers those who have waited for a publisher and can be served.
    pub(super) fn serve_waiting(&mut self, index: TrackIndex, now: Instant) {
        for waiting in self.take_served(index) {
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
        let subscriber = self.add_subscriber(index, key, Wish::of(&body.parameters), now);
        if body.parameters.hops().is_some() {
            self.note_hops((index, subscriber), key, &body.parameters);
        }
        self.pass_on_new_group(index, &body.parameters);
        if let Some(fill) = body.parameters.fill_parameters() {
            let filled_by = FillKey { owner: key, asked_by: key.request };
            self.begin_fill((index, subscriber), filled_by, fill, now);
        }
    }

    /// Sends a track to a session from now on; its place among the track's subscribers.
    pub(super) fn add_subscriber(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        wish: Wish,
        now: Instant,
    ) -> usize {
        // Whom we publish to need not take it.
        let is_asked_for = !self.peers[key.peer.0].is_ours(key.request);
        let hops = match is_asked_for {
            true => self.hops_of(key, &Parameters::default()),
            false => Hops::new(),
        };
        let track = &mut self.tracks[index.0];
        let (start, end) = subscription_range(wish.filter, track.largest);
        let joined_at = track.largest.filter(|_| wish.forward);
        let is_shard = self.peers[key.peer.0].is_shard();
        let entry =
            Subscriber { key, is_shard, told_of_leaving: false, hops, wish, start, end, joined_at };
        let subscriber = track.subscribers.insert(entry);
        if is_shard {
            track.shards.push(subscriber);
        }
        self.own(key, Owner::Subscriber { track: index, subscriber });
        if is_asked_for && self.peers[key.peer.0].is_relay() {
            // What we have of this relay would from now on be our own echo.
            self.leave_upstreams(index, now, |upstream| upstream.key.peer == key.peer);
        }
        if is_asked_for {
            self.note_below(index, key);
        }
        self.want_forward(index, now);
        self.update_linger(index, now);
        subscriber
    }

    /// What a SUBSCRIBE of ours says of where it comes from: every relay below, and this one.
    /// Beyond the limit the rest goes unsaid.
    fn hops_above(&self, index: TrackIndex, on_behalf_of: Option<RequestKey>) -> Option<Hops> {
        let own = self.config.session.relay_id?;
        let mut below = self.tracks[index.0].relays_below();
        below.extend(on_behalf_of.and_then(|key| self.peers[key.peer.0].relay_id()));
        let list: Vec<RelayId> = below.into_iter().take(HOPS_MAX - 1).chain([own]).collect();
        Hops::try_from(list).ok()
    }

    /// More relays receive a track from us: whom we have it from must not be one of them, and is
    /// told, so that none of its own sources is.
    pub(super) fn relays_below_changed(
        &mut self,
        (index, alias): (TrackIndex, TrackAlias),
        now: Instant,
    ) {
        if self.tracks.get(index.0).is_none_or(|track| track.alias != alias) {
            return;
        }
        if let Some(hops) = self.hops_above(index, None) {
            self.tell_who_is_below(index, &hops, now);
        }
        if self.tracks[index.0].upstreams.is_empty() {
            self.replace_upstreams(index, None, now);
        }
    }

    /// Tells relays and shards that a track comes from which relays are below, and leaves those that
    /// are.
    fn tell_who_is_below(&mut self, index: TrackIndex, hops: &Hops, now: Instant) {
        let below = self.tracks[index.0].relays_below();
        let for_shards = self.hops_to_shard(index, None);
        let above: Vec<(RequestKey, Option<RelayId>)> = self.tracks[index.0]
            .upstreams
            .iter()
            .filter_map(|upstream| {
                let relay = self.peers.get(upstream.key.peer.0)?.relay_id();
                (upstream.is_shard || relay.is_some()).then_some((upstream.key, relay))
            })
            .collect();
        for (key, relay) in above {
            if relay.is_some_and(|relay| below.contains(&relay)) {
                self.leave_upstreams(index, now, |upstream| upstream.key == key);
                continue;
            }
            let told = if relay.is_none() { for_shards.clone() } else { Some(hops.clone()) };
            if let Some(told) = told {
                self.tell_one_who_is_below(index, key, told);
            }
        }
    }

    /// Tells one whom a track comes from which relays are below, unless it was told that last.
    fn tell_one_who_is_below(&mut self, index: TrackIndex, key: RequestKey, told: Hops) {
        let upstream = self.tracks[index.0].upstream_mut(key);
        if upstream.is_none_or(|upstream| upstream.told_hops.as_ref() == Some(&told)) {
            return;
        }
        let session = self.session(key.peer).filter(|session| session.peer_relay().is_some());
        let Some(session) = session else { return };
        let parameters = Parameters::default().with(Parameter::Hops(told.clone()));
        match session.update(key.request, parameters) {
            Ok(_) => {
                if let Some(upstream) = self.tracks[index.0].upstream_mut(key) {
                    upstream.told_hops = Some(told);
                }
            }
            Err(error) => tracing::debug!(%error, "a relay cannot be told who is below"),
        }
    }

    /// A downstream subscriber that wants objects means that every publisher must send them.
    pub(super) fn want_forward(&mut self, index: TrackIndex, _now: Instant) {
        let track = &mut self.tracks[index.0];
        if !track.subscribers.iter().any(|(_, subscriber)| subscriber.wish.forward) {
            return;
        }
        let paused: Vec<RequestKey> = track
            .upstreams
            .iter()
            .filter(|upstream| upstream.established && !upstream.forward)
            .map(|upstream| upstream.key)
            .collect();
        for key in paused {
            let Some(session) = self.session(key.peer) else { continue };
            let parameters = Parameters::default().with(Parameter::Forward(true));
            match session.update(key.request, parameters) {
                Ok(_) => {
                    if let Some(upstream) = self.tracks[index.0].upstream_mut(key) {
                        upstream.forward = true;
                    }
                }
                // Tried again when an update is answered.
                Err(error) => tracing::debug!(%error, "publisher cannot be asked to go on"),
            }
        }
    }
}

/// On whose behalf publishers are asked for a track.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) key: RequestKey,
    /// Whether it wants objects as they come.
    pub(super) wants_objects: bool,
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

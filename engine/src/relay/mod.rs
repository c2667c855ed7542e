//! One relay shard: many sessions, and the tracks, namespaces and calls between them.
//!
//! Knows MOQT and CALL, neither MCP nor media. Told and asked as [`Driver`] says.

mod cache;
mod call;
mod config;
mod failover;
mod fanout;
mod fetch;
mod fetch_task;
mod forwarder;
mod goaway;
mod interest;
mod mesh;
mod metrics;
mod namespace;
mod namespace_announce;
mod namespace_tree;
mod offer;
mod overload;
mod pass_on;
mod peer;
mod publish;
mod redirect;
mod rendezvous;
mod retention;
mod silence;
mod splice;
mod subscribe;
mod timer;
mod trace;
mod track;
mod update;
mod upstream;
mod upstream_fetch;
mod verify;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use aip_codec::moqt::{
    error_code::{RequestCode, ResetCode},
    id::{RequestId, TrackAlias},
    message::{Reason, RequestError},
    name::FullTrackName,
};
use bytes::Bytes;
use slab::Slab;

pub use self::{
    config::{Config, Rate},
    overload::Load,
    trace::CallSpan,
};
use self::{
    interest::Interests,
    mesh::Mesh,
    namespace_tree::{NamespaceTree, RequestKey},
    offer::Offers,
    peer::{Owner, Peer, PeerIndex},
    publish::TracksWatch,
    redirect::Redirects,
    rendezvous::Rendezvous,
    retention::Retention,
    trace::Traces,
    track::{Track, TrackIndex},
};
use crate::{
    metrics::Service,
    session::{Event, Request, Response, Session},
    stream_map::NumberMap,
    transport::{Action, Closed, Driver, Move, Peer as TransportPeer, SessionId, Side, StreamId},
};

/// What other threads may tell a relay. Nothing yet.
#[derive(Clone, Copy, Debug)]
pub enum Command {}

/// One relay shard.
#[derive(Debug)]
pub struct Relay {
    config: Config,
    peers: Slab<Peer>,
    by_session: NumberMap<SessionId, PeerIndex>,
    tracks: Slab<Track>,
    by_name: HashMap<FullTrackName, TrackIndex>,
    namespaces: NamespaceTree,
    /// What each SUBSCRIBE_TRACKS asked for.
    track_watches: BTreeMap<RequestKey, TracksWatch>,
    /// Who wants every track under which prefix.
    interests: Interests,
    /// Tracks that other relays would send.
    offers: Offers,
    /// When which relays are asked again for tracks that they have refused to tell of.
    asks_again: BTreeSet<(Instant, PeerIndex)>,
    /// Established sessions with other relays.
    relays: BTreeSet<PeerIndex>,
    /// Relays that we have dialled and that are elsewhere now.
    moves: VecDeque<Move>,
    next_alias: u64,
    next_task: u64,
    /// Sessions that were answered on behalf of another one, and may have something to tell.
    answered: VecDeque<PeerIndex>,
    /// Tracks, with their aliases since indices are used again, that other relays have begun to
    /// receive from us.
    below_changed: VecDeque<(TrackIndex, TrackAlias)>,
    /// Sessions whose actions are waiting to be polled.
    touched: VecDeque<PeerIndex>,
    /// When each session's timer is due.
    session_timers: BTreeSet<(Instant, PeerIndex)>,
    /// When something of a track is due.
    track_timers: BTreeSet<(Instant, TrackIndex)>,
    retention: Retention,
    rendezvous: Rendezvous,
    /// The other shards of this relay.
    mesh: Mesh,
    redirects: Redirects,
    /// What waits above the sessions, and who asks how often.
    levels: overload::Levels,
    traces: Traces,
    draining: bool,
    service: Service,
}

/// Puts a session in the list of those with something to do.
fn touch(touched: &mut VecDeque<PeerIndex>, peer: &mut Peer, index: PeerIndex) {
    peer.timer_is_stale = true;
    touch_sending(touched, peer, index);
}

/// The same where a session does no more than to send on streams that it has.
fn touch_sending(touched: &mut VecDeque<PeerIndex>, peer: &mut Peer, index: PeerIndex) {
    if !peer.touched {
        peer.touched = true;
        touched.push_back(index);
    }
}

impl Relay {
    /// A relay without sessions.
    pub fn new(config: Config) -> Self {
        Self {
            traces: Traces::new(config.trace_seed),
            config,
            peers: Slab::new(),
            by_session: NumberMap::default(),
            tracks: Slab::new(),
            by_name: HashMap::new(),
            namespaces: NamespaceTree::new(),
            track_watches: BTreeMap::new(),
            interests: Interests::new(),
            offers: Offers::default(),
            asks_again: BTreeSet::new(),
            relays: BTreeSet::new(),
            moves: VecDeque::new(),
            next_alias: 0,
            next_task: 0,
            answered: VecDeque::new(),
            below_changed: VecDeque::new(),
            touched: VecDeque::new(),
            session_timers: BTreeSet::new(),
            track_timers: BTreeSet::new(),
            retention: Retention::default(),
            rendezvous: Rendezvous::default(),
            mesh: Mesh::default(),
            redirects: Redirects::default(),
            levels: overload::Levels::default(),
            draining: false,
            service: Service::default(),
        }
    }

    /// Sessions, tracks and published namespaces known now.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.peers.len(), self.tracks.len(), self.namespaces.published())
    }

    /// Bytes of cached objects, with what holding them costs.
    pub const fn cached_bytes(&self) -> usize {
        self.retention.bytes()
    }

    /// Groups cached.
    pub fn cached_groups(&self) -> usize {
        self.retention.groups()
    }

    /// The session at `peer`; touched, since whoever asks for it makes it do something.
    fn session(&mut self, peer: PeerIndex) -> Option<&mut Session> {
        let entry = self.peers.get_mut(peer.0)?;
        touch(&mut self.touched, entry, peer);
        Some(&mut entry.session)
    }

    fn own(&mut self, key: RequestKey, owner: Owner) {
        if let Some(peer) = self.peers.get_mut(key.peer.0) {
            peer.requests.insert(key.request, owner);
        }
    }

    fn disown(&mut self, key: RequestKey) -> Option<Owner> {
        let peer = self.peers.get_mut(key.peer.0)?;
        let owner = peer.requests.remove(&key.request)?;
        if let Owner::Call { .. } = owner {
            self.traces.end(key);
        }
        if matches!(owner, Owner::Subscriber { .. }) && peer.is_ours(key.request) {
            peer.publication_count -= 1;
        }
        Some(owner)
    }

    fn reject(&mut self, key: RequestKey, code: RequestCode, reason: &str) {
        let retry_interval = match code {
            RequestCode::EXCESSIVE_LOAD => self.retry_interval(key),
            _ => 0,
        };
        let reason = Reason::new(reason);
        if self.peers.get(key.peer.0).is_some_and(|peer| !peer.is_shard()) {
            self.service.requests_refused.count(code.name());
        }
        if let Some(session) = self.session(key.peer) {
            session
                .reject(key.request, RequestError { code, retry_interval, reason, redirect: None });
        }
    }

    /// One to two seconds, plus one as the wire wants it; spread by who asks, so that not all come
    /// back at once, and the same for the same inputs.
    const fn retry_interval(&self, key: RequestKey) -> u64 {
        let spread = (key.peer.0 as u64).wrapping_mul(31).wrapping_add(key.request.0) % 1_000;
        1_001 + spread
    }

    /// Tells the session something and acts on what it learns.
    fn with_session(&mut self, session: SessionId, now: Instant, tell: impl FnOnce(&mut Session)) {
        let Some(&peer) = self.by_session.get(&session) else { return };
        if let Some(session) = self.session(peer) {
            tell(session);
        }
        self.drain_events(peer, now);
    }

    fn drain_events(&mut self, peer: PeerIndex, now: Instant) {
        while let Some(event) =
            self.peers.get_mut(peer.0).and_then(|entry| entry.session.poll_event())
        {
            self.note_event(peer, &event);
            self.handle_event(peer, event, now);
        }
        if let Some(fault) = self.peers.get_mut(peer.0).and_then(|entry| entry.session.take_fault())
        {
            self.service.note_fault(fault);
        }
        self.arm_session_timer(peer);
        self.traces.stamp(now);
        while let Some(track) = self.below_changed.pop_front() {
            self.relays_below_changed(track, now);
        }
        while let Some(other) = self.answered.pop_front() {
            self.drain_events(other, now);
        }
    }

    fn handle_event(&mut self, peer: PeerIndex, event: Event, now: Instant) {
        let key = |request| RequestKey { peer, request };
        match event {
            Event::Object { stream, object } => self.object_received(peer, stream, &object, now),
            Event::Payload { stream, bytes, last } => {
                self.payload_received(peer, stream, &bytes, last, now);
            }
            Event::SubgroupOpened { stream, header } => self.subgroup_opened(peer, stream, header),
            Event::SubgroupEnded { stream, end } => self.subgroup_ended(peer, stream, end, now),
            Event::Datagram { object } => self.datagram_received(peer, object, now),
            Event::CallBytes { request, bytes, fin } => self.call_bytes(key(request), bytes, fin),
            Event::CallReset { request, code } => self.call_reset(key(request), code),
            Event::CallStopped { request, code } => self.call_stopped(key(request), code),
            Event::FetchObject { request, object, payload, last } => {
                self.fetched_object(key(request), object, payload, last, now);
            }
            Event::FetchPayload { request, bytes, last } => {
                self.fetched_payload(key(request), bytes, last, now);
            }
            Event::FetchRange { request, kind, end } => {
                self.fetched_range(key(request), kind, end, now);
            }
            Event::FetchEnded { request, end } => self.fetch_stream_ended(key(request), end, now),
            Event::Established { .. } => self.session_established(peer, now),
            Event::Request { request, body, .. } if self.admits(peer, now) => {
                self.request(key(request), body, now);
            }
            Event::Request { request, body, .. } => self.refuse_excess(key(request), &body),
            Event::Response { request, body } => self.response(key(request), body, now),
            Event::Hops { request, parameters } => {
                self.note_hops_of_waiting(key(request), &parameters);
            }
            Event::Update { request, update, parameters } if self.admits(peer, now) => {
                self.update_received(key(request), update, &parameters, now);
            }
            Event::Update { request, .. } => {
                if let Some(session) = self.session(peer) {
                    let reason = "too many updates in too short a time";
                    session.reject_update(request, RequestCode::EXCESSIVE_LOAD, reason);
                }
            }
            Event::UpdateResponse { request, result, .. } => {
                self.update_answered(key(request), result, now);
            }
            Event::StateNotify { request, body } => self.state_notified(key(request), &body, now),
            Event::PublishDone { request, body } => {
                self.upstream_ended(key(request), Some(body.code), now);
            }
            Event::Namespace { request, suffix, parameters } => {
                self.upstream_namespace(key(request), &suffix, &parameters, now);
            }
            Event::NamespaceDone { request, suffix } => {
                self.upstream_namespace_done(key(request), &suffix, now);
            }
            Event::PublishSkipped { request, suffix, name } => {
                self.publication_skipped(key(request), &suffix, name, now);
            }
            Event::TooFarBehind { request } => self.end_behind(key(request)),
            Event::Ended { request } => self.request_ended(key(request), now),
            Event::Goaway { request, uri, .. } => self.goaway_received(peer, request, uri, now),
        }
    }

    fn request(&mut self, key: RequestKey, body: Request, now: Instant) {
        match body {
            Request::Subscribe(body) => self.subscribe_received(key, body, now),
            Request::Publish(body) => self.publish_received(key, body, now),
            Request::Fetch(body) => self.fetch_received(key, body, now),
            Request::TrackStatus(body) => self.track_status_received(key, body, now),
            Request::PublishNamespace(body) => {
                self.publish_namespace_received(key, &body, now);
            }
            Request::SubscribeNamespace(body) => {
                self.subscribe_namespace_received(key, &body.prefix);
            }
            Request::SubscribeTracks(body) => self.subscribe_tracks_received(key, &body, now),
            Request::Call(body) => self.call_received(key, body, now),
        }
    }

    fn response(&mut self, key: RequestKey, body: Response, now: Instant) {
        let Some(owner) = self.peers[key.peer.0].requests.get(&key.request).cloned() else {
            return;
        };
        match (owner, body) {
            (Owner::Upstream(track), Response::SubscribeOk(ok)) => {
                self.upstream_accepted(track, key, ok, now);
            }
            (Owner::Upstream(_), Response::Error(error)) => {
                self.upstream_refused(key, &error, now);
            }
            (Owner::Subscriber { track, subscriber }, Response::Ok(ok)) => {
                self.publish_accepted((track, subscriber), &ok.parameters, now);
            }
            (Owner::UpstreamFetch { .. }, Response::FetchOk(ok)) => {
                self.upstream_fetch_accepted(key, &ok, now);
            }
            (Owner::Subscriber { track, subscriber }, Response::Error(_)) => {
                self.disown(key);
                self.forget_subscriber(track, subscriber, now);
            }
            (Owner::StatusAbove(track), Response::Ok(ok)) => {
                self.passed_status_accepted(track, key, &ok, now);
            }
            (Owner::StatusAbove(track), Response::Error(error)) => {
                self.disown(key);
                self.passed_on_refused(track, key, &error, now);
            }
            (Owner::UpstreamFetch { track, fetch }, Response::Error(error)) => {
                self.disown(key);
                self.passed_on_refused(track, key, &error, now);
                self.upstream_fetch_failed(track, fetch, error.code, now);
            }
            (Owner::TracksAbove(prefix), Response::Error(error)) => {
                self.asked_tracks_refused(key, &prefix, &error, now);
            }
            (
                owner @ (Owner::NamespaceUpstream(_) | Owner::UpstreamWatch),
                Response::Error(error),
            ) => {
                self.disown(key);
                if let Owner::NamespaceUpstream(namespace) = owner {
                    self.announcement_ended(key, &namespace);
                }
                tracing::warn!(code = %error.code, reason = %error.reason, "refused by the upstream relay");
            }
            _ => {}
        }
    }

    /// A request of either side is over, without a word on what it means.
    fn request_ended(&mut self, key: RequestKey, now: Instant) {
        let Some(owner) = self.peers[key.peer.0].requests.get(&key.request).cloned() else {
            return;
        };
        match owner {
            Owner::Upstream(_) => self.upstream_ended(key, None, now),
            Owner::Subscriber { track, subscriber } => {
                self.disown(key);
                self.forget_subscriber(track, subscriber, now);
            }
            Owner::Waiting(track) => {
                self.disown(key);
                self.forget_waiting(track, key, now);
            }
            Owner::PassedOn(track) => self.forget_passed_on(track, key),
            Owner::StatusAbove(track) => {
                self.disown(key);
                self.passed_on_lost(track, key, RequestCode::INTERNAL_ERROR, now);
            }
            Owner::Fetch { track, task } => {
                self.disown(key);
                self.forget_fetch(track, task, now);
            }
            Owner::UpstreamFetch { track, fetch } => {
                self.disown(key);
                self.upstream_fetch_failed(track, fetch, RequestCode::INTERNAL_ERROR, now);
            }
            Owner::Namespace(namespace) => {
                self.disown(key);
                self.unpublish_namespace(key, &namespace, now);
            }
            Owner::NamespaceWatch(prefix) => {
                self.disown(key);
                self.peers[key.peer.0].watch_count -= 1;
                self.namespaces.unwatch(&prefix, key);
                self.forget_told_to(key);
            }
            Owner::TracksWatch(prefix) => {
                self.disown(key);
                self.peers[key.peer.0].watch_count -= 1;
                self.namespaces.unwatch(&prefix, key);
                self.track_watches.remove(&key);
                self.note_interest(&prefix, key, false);
            }
            Owner::TracksAbove(prefix) => self.asked_tracks_ended(key, &prefix),
            Owner::NamespaceUpstream(namespace) => {
                self.disown(key);
                self.announcement_ended(key, &namespace);
            }
            Owner::UpstreamWatch => {
                self.disown(key);
                self.forget_namespaces_of(key, now);
            }
            Owner::Call { .. } => {}
        }
    }

    fn remove_peer(&mut self, peer: PeerIndex, now: Instant) {
        let Some(entry) = self.peers.get_mut(peer.0) else { return };
        entry.session.handle_closed();
        self.drain_events(peer, now);
        #[expect(clippy::disallowed_methods, reason = "collected into an ordered set")]
        let requests: BTreeSet<RequestId> = self.peers[peer.0].requests.keys().copied().collect();
        self.relays.remove(&peer);
        if self.peers[peer.0].is_relay() {
            self.withdraw_offers_of(peer);
        }
        for stream in self.incoming_streams(peer) {
            self.source_lost(peer, stream, ResetCode::SESSION_CLOSED, now);
        }
        for request in requests {
            let key = RequestKey { peer, request };
            if matches!(self.peers[peer.0].requests.get(&request), Some(Owner::Call { .. })) {
                self.call_lost(key);
            } else if let Some(Owner::UpstreamFetch { track, fetch }) =
                self.peers[peer.0].requests.get(&request).cloned()
            {
                self.upstream_fetch_failed(track, fetch, RequestCode::INTERNAL_ERROR, now);
            } else {
                self.request_ended(key, now);
            }
        }
        if let Some(timer) = self.peers[peer.0].timer {
            self.session_timers.remove(&(timer, peer));
        }
        self.traces.stamp(now);
        self.leave_mesh(peer, now);
        self.leave_levels(peer, now);
        self.touched.retain(|other| *other != peer);
        self.peers.remove(peer.0);
    }

    fn incoming_streams(&self, peer: PeerIndex) -> BTreeSet<StreamId> {
        #[expect(clippy::disallowed_methods, reason = "collected into an ordered set")]
        self.peers[peer.0].incoming.keys().copied().collect()
    }
}

impl Driver for Relay {
    type Command = Command;

    fn handle_connected(&mut self, id: SessionId, transport: TransportPeer, now: Instant) {
        let mut config = match transport.shard {
            Some(_) => mesh::session_config(&self.config.session),
            None => self.config.session.clone(),
        };
        if transport.side == Side::Client {
            config.authority.clone_from(&transport.authority);
            config.path.clone_from(&transport.path);
        }
        config.webtransport = transport.webtransport;
        let mut session = Session::new(config, transport.side, transport.version, now);
        let is_shard = transport.shard.is_some();
        if self.draining && !is_shard {
            session.goaway(Bytes::new(), 0);
        }
        let index = PeerIndex(self.peers.insert(Peer::new(id, session, transport, now)));
        if is_shard {
            self.mesh.join(index);
        }
        self.join_levels(index, now);
        self.by_session.insert(id, index);
        touch(&mut self.touched, &mut self.peers[index.0], index);
        self.arm_session_timer(index);
    }

    fn handle_stream(
        &mut self,
        session: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) {
        self.with_session(session, now, |session| session.handle_stream(stream, bytes, fin, now));
    }

    fn handle_reset(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.with_session(session, now, |session| session.handle_reset(stream, code, now));
    }

    fn handle_stop(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.with_session(session, now, |session| session.handle_stop(stream, code, now));
    }

    fn handle_datagram(&mut self, session: SessionId, bytes: Bytes, now: Instant) {
        self.with_session(session, now, |session| session.handle_datagram(bytes, now));
    }

    fn handle_sent(&mut self, session: SessionId, stream: StreamId, length: usize, now: Instant) {
        let Some(&index) = self.by_session.get(&session) else { return };
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let waiting = peer.session.handle_sent(stream, length, now);
        if peer.session.has_actions() {
            touch(&mut self.touched, peer, index);
        }
        self.take_account(index);
        if let Some(request) = waiting {
            self.sent(RequestKey { peer: index, request }, now);
        }
    }

    fn handle_silence(&mut self, session: SessionId, is_silent: bool, now: Instant) {
        let Some(&peer) = self.by_session.get(&session) else { return };
        self.note_silence(peer, is_silent, now);
        self.drain_events(peer, now);
    }

    fn handle_closed(&mut self, session: SessionId, closed: Closed, now: Instant) {
        let Some(peer) = self.by_session.remove(&session) else { return };
        tracing::debug!(%session, ?closed, "session closed");
        self.remove_peer(peer, now);
    }

    fn handle_unreachable(&mut self, target: usize, reason: &str, _now: Instant) {
        tracing::warn!(target, reason, "upstream relay not reached; trying again");
    }

    fn handle_command(&mut self, command: Command, _now: Instant) {
        match command {}
    }

    fn handle_drain(&mut self, now: Instant) {
        self.draining = true;
        for index in 0..self.peers.capacity() {
            let is_shard = self.peers.get(index).is_some_and(Peer::is_shard);
            if !is_shard && let Some(session) = self.session(PeerIndex(index)) {
                session.goaway(Bytes::new(), 0);
            }
        }
        self.cut_lingering(now);
    }

    fn is_drained(&self) -> bool {
        let mut sessions = self.peers.iter().filter(|(_, peer)| !peer.is_shard());
        self.draining && sessions.all(|(_, peer)| peer.is_drained())
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.sessions_timed_out(now);
        self.tracks_timed_out(now);
        self.ask_again(now);
        self.namespaces_gone(now);
        self.evict(now);
        self.settle(now);
    }

    fn handle_time_lost(&mut self, lost: Duration, _now: Instant) {
        for (_, track) in &mut self.tracks {
            track.cache.age(lost);
        }
    }

    fn handle_shortage(&mut self, is_short: bool, _now: Instant) {
        self.levels.is_memory_short = is_short;
    }

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        loop {
            let index = *self.touched.front()?;
            let Some(peer) = self.peers.get_mut(index.0) else {
                self.touched.pop_front();
                continue;
            };
            if let Some(action) = peer.session.poll_action() {
                return Some((peer.id, action));
            }
            peer.touched = false;
            self.touched.pop_front();
            self.arm_session_timer(index);
            self.settle_account(index);
        }
    }

    fn poll_urgent_action(&mut self, session: SessionId) -> Option<(SessionId, Action)> {
        let index = self.by_session.get(&session)?;
        let action = self.peers.get_mut(index.0)?.session.poll_action()?;
        Some((session, action))
    }

    fn poll_move(&mut self) -> Option<Move> {
        self.moves.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.next_timeout()
    }

    fn poll_metrics(&self) -> Option<Service> {
        Some(self.metrics())
    }

    fn take_spans(&mut self) -> (Vec<CallSpan>, u64) {
        self.traces.take()
    }
}

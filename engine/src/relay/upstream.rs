//! The publishers' side of tracks: who is asked, and what happens when one refuses, ends or is
//! lost; and this relay as a client of other relays.

use std::time::Instant;

use aip_codec::moqt::{
    error_code::{PublishDoneCode, RequestCode, ResetCode, SessionCode},
    id::TrackAlias,
    message::RequestError,
    name::TrackNamespace,
    parameter::Parameters,
};

use super::{
    Relay,
    namespace_tree::RequestKey,
    peer::{Owner, Peer, PeerIndex},
    subscribe::{Asker, done_code},
    track::{Track, TrackIndex, Upstream},
};
use crate::metrics::Drop;

impl Relay {
    /// Sessions to ask for a track: those of this relay that publish a prefix of its namespace, or
    /// the shards that have them; or, if there are none, the next step of the best way to who does;
    /// or, if nobody is known to, the relays that we have dialled. Never a relay that has the track
    /// from us, or would; never a shard on behalf of another.
    pub(super) fn publishers_for(
        &self,
        track: &Track,
        on_behalf_of: Option<RequestKey>,
    ) -> Vec<PeerIndex> {
        let is_relay = |peer: &PeerIndex| self.peers.get(peer.0).is_some_and(Peer::is_relay);
        let asks_shards = self.asks_shards(track, on_behalf_of);
        let routes = || {
            let all = self.namespaces.routes_to(track.name.namespace());
            all.filter(|route| asks_shards || !route.shard)
        };
        let direct = routes().filter(|route| route.is_direct());
        let mut peers: Vec<PeerIndex> =
            direct.map(|route| route.key.peer).filter(|peer| !is_relay(peer)).collect();
        if asks_shards {
            peers.extend(self.mesh.publishers_of(&track.name));
        }
        peers.sort_unstable();
        peers.dedup();
        // One that has just refused is not asked in the place of another.
        let has_refused = |peer: PeerIndex| on_behalf_of.is_none() && track.refused.contains(&peer);
        peers.retain(|peer| !has_refused(*peer));
        if !peers.is_empty() {
            return peers;
        }
        let below = track.relays_below();
        let asks = |peer: PeerIndex| on_behalf_of.is_some_and(|key| key.peer == peer);
        let is_below = |peer: PeerIndex| {
            let relay = self.peers.get(peer.0).and_then(Peer::relay_id);
            asks(peer)
                || track.has_downstream_in(peer)
                || relay.is_some_and(|relay| below.contains(&relay))
        };
        let mut ways = routes().filter(|route| {
            self.takes_requests(route.key.peer)
                && !has_refused(route.key.peer)
                && !track.is_left_by_shard(route.key.peer)
                && !is_below(route.key.peer)
                && !below.iter().any(|relay| route.hops.contains(*relay))
        });
        let best = ways.next();
        let next = best.filter(|best| self.answers(best.key.peer));
        let next = next.or_else(|| ways.find(|way| self.answers(way.key.peer))).or(best);
        if let Some(next) = next {
            return vec![next.key.peer];
        }
        let mut offered = self.offers.relays(&track.name).filter(|relay| {
            self.takes_requests(*relay) && !has_refused(*relay) && !is_below(*relay)
        });
        let first = offered.next();
        let answering = first.filter(|relay| self.answers(*relay));
        let answering = answering.or_else(|| offered.find(|relay| self.answers(*relay)));
        let mut elsewhere =
            self.mesh.offered_in(&track.name).filter(|shard| asks_shards && !has_refused(*shard));
        if let Some(relay) = answering.or(first).or_else(|| elsewhere.next()) {
            return vec![relay];
        }
        if on_behalf_of.is_some_and(|key| self.peers[key.peer.0].is_upstream_relay()) {
            return Vec::new();
        }
        let mut relays = self.upstream_relays();
        if asks_shards {
            relays.extend(self.dialling_shard());
        }
        relays.retain(|relay| !is_below(*relay) && !has_refused(*relay));
        if relays.iter().any(|relay| self.answers(*relay)) {
            relays.retain(|relay| self.answers(*relay));
        }
        relays
    }

    /// Whether a session is there, and may be asked for something.
    fn takes_requests(&self, peer: PeerIndex) -> bool {
        self.peers
            .get(peer.0)
            .is_some_and(|peer| peer.session.is_established() && !peer.session.is_peer_going_away())
    }

    /// Sessions with other relays that this one has dialled and that take requests.
    pub(super) fn upstream_relays(&self) -> Vec<PeerIndex> {
        self.peers
            .iter()
            .filter(|(_, peer)| {
                peer.is_upstream_relay()
                    && peer.session.is_established()
                    && !peer.session.is_peer_going_away()
            })
            .map(|(index, _)| PeerIndex(index))
            .collect()
    }

    pub(super) fn session_established(&mut self, peer: PeerIndex, now: Instant) {
        let entry = &self.peers[peer.0];
        if entry.is_shard() {
            self.shard_established(peer, now);
            return;
        }
        if entry.relay_id().is_some() && entry.relay_id() == self.config.session.relay_id {
            tracing::warn!(session = %entry.id, "this relay has reached itself");
            if let Some(session) = self.session(peer) {
                session.close(SessionCode::NO_ERROR, "this relay has reached itself");
            }
            return;
        }
        if entry.is_relay() {
            self.relays.insert(peer);
            self.ask_for_all_tracks(peer);
        }
        let entry = &self.peers[peer.0];
        if !entry.is_upstream_relay() {
            return;
        }
        tracing::info!(session = %entry.id, relay = ?entry.relay_id(), "upstream relay reached");
        let root = TrackNamespace::default();
        if let Some(session) = self.session(peer)
            && let Ok(request) = session.subscribe_namespace(root, Parameters::default())
        {
            self.own(RequestKey { peer, request }, Owner::UpstreamWatch);
        }
        self.announce_all_to(peer);
        self.retry_waiting(&TrackNamespace::default(), now);
        self.replace_leaving(now);
    }

    pub(super) fn upstream_refused(&mut self, key: RequestKey, error: &RequestError, now: Instant) {
        if let Some(Owner::Upstream(index)) = self.disown(key) {
            let is_shard = self.peers[key.peer.0].is_shard();
            if is_shard && error.code == RequestCode::DUPLICATE_SUBSCRIPTION {
                self.already_offered(index, key, now);
                return;
            }
            self.note_redirect(index, key, error, now);
            let others = self.tracks[index.0].upstreams.iter().any(|other| other.key != key);
            if !others {
                self.pass_on_waiting(index, now);
            }
            self.upstream_gone(index, key, error.code, now);
        }
    }

    /// A publisher has ended its track, or is lost.
    pub(super) fn upstream_ended(
        &mut self,
        key: RequestKey,
        code: Option<PublishDoneCode>,
        now: Instant,
    ) {
        let Some(Owner::Upstream(index)) = self.disown(key) else { return };
        let was_ours = self.remove_upstream(index, key, now);
        self.release_shards_after(index, was_ours, code);
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        track.ended_with = code;
        let is_empty = track.upstreams.is_empty();
        if is_final(code) {
            track.recovery = None;
            let name = track.name.clone();
            self.withdraw_offers(&name);
        }
        if is_empty {
            self.replace_upstreams(index, code, now);
        } else {
            self.serve_waiting(index, now);
            self.recover(index, now);
        }
    }

    /// A track has no publisher any more: asks others, unless the last one has said that there is
    /// no more of it; if there are none, everybody is told.
    pub(super) fn replace_upstreams(
        &mut self,
        index: TrackIndex,
        code: Option<PublishDoneCode>,
        now: Instant,
    ) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let asked = !is_final(code) && track.has_demand() && self.ask_publishers(index, None, now);
        if !asked {
            self.skip_watched(index);
            self.end_subscribers(index, done_code(code));
            self.refuse_waiting_of(index, RequestCode::DOES_NOT_EXIST, now);
            // What a FETCH waits for may have been the end of an object that was broken off.
            self.pump_track_fetches(index, now);
        }
        self.forget_track_if_unused(index);
    }

    /// Forgets one publisher of a track, and what its streams were bringing. Whether it was a session
    /// of this shard that sent the track.
    fn remove_upstream(&mut self, index: TrackIndex, key: RequestKey, now: Instant) -> bool {
        let Some(track) = self.tracks.get_mut(index.0) else { return false };
        let Some(position) = track.upstreams.iter().position(|upstream| upstream.key == key) else {
            return false;
        };
        let upstream = track.upstreams.remove(position);
        self.update_rendezvous(index);
        let was_ours = upstream.established && !upstream.is_shard;
        if upstream.by_publish {
            let name = self.tracks[index.0].name.clone();
            self.mesh.publication_changed(name);
        }
        if upstream.established {
            self.note_loss(index, ResetCode::INTERNAL_ERROR);
        }
        if let Some(alias) = upstream.alias {
            self.leave_streams(index, key, alias, now);
        }
        was_ours
    }

    /// Forgets what a publisher's streams were bringing.
    fn leave_streams(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        alias: TrackAlias,
        now: Instant,
    ) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let is_shared = track
            .upstreams
            .iter()
            .any(|other| other.key.peer == key.peer && other.alias == Some(alias));
        if is_shared {
            return;
        }
        self.peers[key.peer.0].aliases.remove(&alias);
        for stream in self.incoming_streams(key.peer) {
            let belongs = self.peers[key.peer.0].incoming.get(&stream).is_some_and(|incoming| {
                incoming.track == index && incoming.header.track_alias == alias
            });
            if belongs {
                self.source_lost(key.peer, stream, ResetCode::CANCELLED, now);
                if let Some(session) = self.session(key.peer) {
                    session.stop_incoming(stream, ResetCode::CANCELLED);
                }
            }
        }
    }

    /// A publisher that was asked will not send the track.
    pub(super) fn upstream_gone(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        code: RequestCode,
        now: Instant,
    ) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        track.upstreams.retain(|upstream| upstream.key != key);
        track.refused.insert(key.peer);
        if code == RequestCode::DOES_NOT_EXIST {
            let name = track.name.clone();
            self.withdraw_offer(&name, key.peer);
        }
        let Some(track) = self.tracks.get(index.0) else { return };
        let is_kept = !track.subscribers.is_empty()
            || track.is_watched
            || !track.waiting.is_empty() && self.is_offered_by_another(track);
        let is_left = track.upstreams.is_empty();
        self.update_rendezvous(index);
        if is_left && is_kept && self.ask_publishers(index, None, now) {
            // Other shards are served only by a session of this one.
            self.refuse_shards_waiting(index, code);
            return;
        }
        self.go_on_without(index, code, now);
    }

    /// Whether a track is offered by a relay that has not refused to send it.
    fn is_offered_by_another(&self, track: &Track) -> bool {
        let shards = self.mesh.offered_in(&track.name).filter(|_| self.asks_shards(track, None));
        let mut offered = self.offers.relays(&track.name).chain(shards);
        offered.any(|peer| !track.refused.contains(&peer))
    }

    /// One that was asked for a track will not send it, and nobody is asked in its place: whoever is
    /// left to send it is enough, or everybody is told.
    pub(super) fn go_on_without(&mut self, index: TrackIndex, code: RequestCode, now: Instant) {
        self.refuse_shards_waiting(index, code);
        let Some(track) = self.tracks.get(index.0) else { return };
        if track.upstreams.is_empty() {
            let ended_with = done_code(track.ended_with);
            self.skip_watched(index);
            self.refuse_waiting_of(index, code, now);
            self.end_subscribers(index, ended_with);
        } else {
            self.serve_waiting(index, now);
            self.refuse_waiting_for_themselves(index, code, now);
        }
        self.forget_track_if_unused(index);
    }

    /// Refuses other relays that wait for a track which nobody but they are still asked for. They ask
    /// on our behalf: each would wait for the other.
    fn refuse_waiting_for_themselves(
        &mut self,
        index: TrackIndex,
        code: RequestCode,
        now: Instant,
    ) {
        let Some(track) = self.tracks.get(index.0).filter(|track| !track.is_established()) else {
            return;
        };
        let may_come = code == RequestCode::DOES_NOT_EXIST;
        let keys: Vec<RequestKey> = track
            .waiting
            .iter()
            .filter(|waiting| !may_come || waiting.deadline <= now)
            .map(|waiting| waiting.key)
            .filter(|key| self.peers.get(key.peer.0).is_some_and(Peer::is_upstream_relay))
            .filter(|key| track.upstreams.iter().all(|upstream| upstream.key.peer == key.peer))
            .collect();
        for key in keys {
            self.refuse_waiting(index, key, code, "nobody else sends this track");
        }
    }

    pub(super) fn refuse_waiting(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        code: RequestCode,
        reason: &str,
    ) {
        if self.take_waiting(index, key) {
            self.reject(key, code, reason);
        }
    }

    /// Takes a request from those that wait; false if it is not among them.
    pub(super) fn take_waiting(&mut self, index: TrackIndex, key: RequestKey) -> bool {
        let Some(track) = self.tracks.get_mut(index.0) else { return false };
        let Some(position) = track.waiting.iter().position(|waiting| waiting.key == key) else {
            return false;
        };
        track.waiting.remove(position);
        self.update_rendezvous(index);
        self.peers[key.peer.0].waiting_count -= 1;
        self.disown(key);
        true
    }

    /// Nobody is left who could send a track: refuses who waits for it, but for those who have
    /// said that they would wait for a publisher to come.
    fn refuse_waiting_of(&mut self, index: TrackIndex, code: RequestCode, now: Instant) {
        let may_come = code == RequestCode::DOES_NOT_EXIST;
        let keys: Vec<RequestKey> = self.tracks[index.0]
            .waiting
            .iter()
            .filter(|waiting| !may_come || waiting.deadline <= now)
            .map(|waiting| waiting.key)
            .collect();
        for key in keys {
            self.refuse_waiting(index, key, code, "the publisher does not send this track");
        }
        self.fall_back_to_rendezvous(index);
    }

    /// Asks publishers on behalf of requests that have been waiting for one.
    pub(super) fn retry_waiting(&mut self, namespace: &TrackNamespace, now: Instant) {
        let waiting: Vec<TrackIndex> = self
            .tracks
            .iter()
            .filter(|(_, track)| {
                track.upstreams.is_empty()
                    && !track.waiting.is_empty()
                    && namespace.is_prefix_of(track.name.namespace())
            })
            .map(|(index, _)| TrackIndex(index))
            .collect();
        for index in waiting {
            let waiting = self.tracks[index.0].waiting.front();
            let asker = waiting.map(|it| Asker { key: it.key, wants_objects: false });
            self.ask_publishers(index, asker, now);
        }
    }

    pub(super) fn forget_waiting(&mut self, index: TrackIndex, key: RequestKey, now: Instant) {
        self.peers[key.peer.0].waiting_count -= 1;
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        track.waiting.retain(|waiting| waiting.key != key);
        self.update_rendezvous(index);
        self.update_linger(index, now);
        self.forget_track_if_unused(index);
    }

    pub(super) fn forget_subscriber(&mut self, index: TrackIndex, subscriber: usize, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if track.remove_subscriber(subscriber).is_none() {
            return;
        }
        self.forget_fills_of(index);
        self.update_linger(index, now);
        self.forget_track_if_unused(index);
    }

    /// Ends one subscriber: resets what it is being sent and says why.
    pub(super) fn end_subscriber(
        &mut self,
        index: TrackIndex,
        subscriber: usize,
        code: PublishDoneCode,
    ) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let Some(entry) = track.remove_subscriber(subscriber) else { return };
        self.note_ended(&entry, code);
        self.disown(entry.key);
        self.forget_fills_of(index);
        if let Some(session) = self.session(entry.key.peer) {
            session.reset_streams_of(entry.key.request, reset_code(code));
            session.publish_done(entry.key.request, code, code.name());
        }
    }

    pub(super) fn end_subscribers(&mut self, index: TrackIndex, code: PublishDoneCode) {
        self.end_orphans(index, code);
        let Some(track) = self.tracks.get(index.0) else { return };
        let all: Vec<usize> = track.subscribers.iter().map(|(subscriber, _)| subscriber).collect();
        for subscriber in all {
            // What was sent whole still arrives: only a lost or malformed track is cut off.
            if code == PublishDoneCode::MALFORMED_TRACK {
                self.end_subscriber(index, subscriber, code);
            } else {
                self.finish_subscriber(index, subscriber, code);
            }
        }
    }

    /// Ends one subscriber after what is being sent to it.
    pub(super) fn finish_subscriber(
        &mut self,
        index: TrackIndex,
        subscriber: usize,
        code: PublishDoneCode,
    ) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let Some(entry) = track.remove_subscriber(subscriber) else { return };
        let reset = track.loss_code();
        self.note_ended(&entry, code);
        self.disown(entry.key);
        self.forget_fills_of(index);
        if let Some(session) = self.session(entry.key.peer) {
            session.reset_unfinished_streams_of(entry.key.request, reset);
            session.publish_done(entry.key.request, code, code.name());
        }
    }

    /// Begins or stops the time after which an upstream subscription without demand ends.
    pub(super) fn update_linger(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        // What another shard sends lingers there; and nobody comes back for what goes away.
        let is_over = |upstream: &Upstream| upstream.is_shard || upstream.is_leaving;
        let lingers = !self.draining && !track.upstreams.iter().all(is_over);
        let until = if lingers { now + self.config.linger } else { now };
        if track.has_demand() {
            track.linger_until = None;
        } else if track.linger_until.is_none() && !track.upstreams.is_empty() {
            track.linger_until = Some(until);
            self.arm_track_timer(index, until);
        }
    }

    /// This relay is going away: nobody will come back for what lingers.
    pub(super) fn cut_lingering(&mut self, now: Instant) {
        for (index, track) in &mut self.tracks {
            if track.linger_until.is_some() {
                track.linger_until = Some(now);
                self.track_timers.insert((now, TrackIndex(index)));
            }
        }
    }

    /// Nobody has come back for a track: ends our own subscriptions to it.
    pub(super) fn end_linger(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        track.linger_until = None;
        self.leave_upstreams(index, now, |_| true);
    }

    /// Ends those of our own subscriptions to a track, and of what other relays have published of it
    /// to us, that satisfy `test`.
    pub(super) fn leave_upstreams(
        &mut self,
        index: TrackIndex,
        now: Instant,
        test: impl Fn(&Upstream) -> bool,
    ) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let may_be_left =
            |upstream: &Upstream| !upstream.by_publish || self.is_relays_publication(upstream.key);
        let left = track.upstreams.iter().filter(|it| may_be_left(it) && test(it));
        let keys: Vec<(RequestKey, bool)> = left.map(|it| (it.key, it.by_publish)).collect();
        for (key, by_publish) in keys {
            if by_publish {
                self.offer_instead(index, key);
            }
            self.disown(key);
            if let Some(session) = self.session(key.peer) {
                session.cancel(key.request, ResetCode::CANCELLED);
            }
            let was_ours = self.remove_upstream(index, key, now);
            self.release_shards_after(index, was_ours, None);
        }
        self.serve_waiting(index, now);
        self.recover(index, now);
    }

    pub(super) fn forget_track_if_unused(&mut self, index: TrackIndex) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if !track.is_unused() {
            return;
        }
        let fetches: Vec<RequestKey> =
            track.upstream_fetches.values().map(|fetch| fetch.key).collect();
        self.release_cache(index);
        let track = self.tracks.remove(index.0);
        self.by_name.remove(&track.name);
        let is_elsewhere = self.mesh.alias_of(&track.name).is_some();
        if !is_elsewhere && !self.offers.contains(&track.name) {
            self.forget_publication(&track.name, track.alias);
        }
        for key in fetches {
            self.disown(key);
            if let Some(session) = self.session(key.peer) {
                session.cancel(key.request, ResetCode::CANCELLED);
            }
        }
    }

    /// A publisher has broken the rules of its track: everybody is told, and it is left.
    pub(super) fn malformed_track(&mut self, index: TrackIndex, now: Instant) {
        self.tell_shards_of_malformed(index);
        self.end_malformed(index, now);
    }

    /// The same, when the others know it.
    pub(super) fn end_malformed(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get(index.0) else { return };
        tracing::warn!(track = %track.name, "malformed track");
        self.service.objects_dropped.count(Drop::Malformed.name());
        let upstreams: Vec<RequestKey> = track.upstreams.iter().map(|up| up.key).collect();
        self.end_subscribers(index, PublishDoneCode::MALFORMED_TRACK);
        self.fail_fetches(index, ResetCode::MALFORMED_TRACK);
        for key in upstreams {
            if let Some(session) = self.session(key.peer) {
                session.cancel(key.request, ResetCode::MALFORMED_TRACK);
            }
            self.upstream_ended(key, Some(PublishDoneCode::MALFORMED_TRACK), now);
        }
        self.forget_track_if_unused(index);
    }
}

/// Whether a publisher's word means that no other publisher has more.
const fn is_final(code: Option<PublishDoneCode>) -> bool {
    matches!(
        code,
        Some(
            PublishDoneCode::TRACK_ENDED
                | PublishDoneCode::SUBSCRIPTION_ENDED
                | PublishDoneCode::MALFORMED_TRACK
                | PublishDoneCode::UNAUTHORIZED
        )
    )
}

/// How a stream is reset when its subscription ends with this code.
const fn reset_code(code: PublishDoneCode) -> ResetCode {
    match code {
        PublishDoneCode::TOO_FAR_BEHIND => ResetCode::TOO_FAR_BEHIND,
        PublishDoneCode::MALFORMED_TRACK => ResetCode::MALFORMED_TRACK,
        PublishDoneCode::EXCESSIVE_LOAD => ResetCode::EXCESSIVE_LOAD,
        PublishDoneCode::GOING_AWAY => ResetCode::GOING_AWAY,
        _ => ResetCode::CANCELLED,
    }
}

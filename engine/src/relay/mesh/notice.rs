//! What shards tell each other beside their sessions, and what comes of it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aip_codec::moqt::{
    error_code::ResetCode,
    location::Location,
    name::{FullTrackName, TrackNamespace},
};

use super::{
    super::{
        Relay,
        namespace_tree::{RequestKey, Route},
        peer::{Owner, PeerIndex},
        track::{Track, TrackIndex},
    },
    Publication, TOLD, Told,
};
use crate::{
    shard::{Notice, Way},
    transport::SessionId,
};

/// So long after a turn that the next one is not before it, and waits for nothing else.
const NEXT_TURN: Duration = Duration::from_nanos(1);

impl Relay {
    /// What another shard is to be told next.
    pub fn poll_notice(&mut self, shard: SessionId) -> Option<Notice> {
        let &peer = self.by_session.get(&shard)?;
        let waiting = self.rendezvous_count();
        let dirty = self.mesh.shards.get_mut(&peer)?;
        if let Some(namespace) = dirty.namespaces.pop_first() {
            let way = self.namespaces.routes(&namespace).iter().find(|route| !route.shard);
            let way = way.map(|route| Way { hops: route.hops.clone(), cost: route.cost });
            return Some(Notice::Namespace { namespace, way });
        }
        if let Some(prefix) = dirty.interests.pop_first() {
            let wishes = self.wishes_of_sessions(&prefix);
            return Some(Notice::Interest { prefix, wishes });
        }
        if let Some(track) = dirty.tracks.pop_first() {
            let known = self.by_name.get(&track).and_then(|index| self.tracks.get(index.0));
            let publishers = known.map_or(0, Track::publications);
            let offered = self.offers.contains(&track);
            return Some(Notice::Track { track, publishers, offered });
        }
        if let Some(track) = dirty.malformed.pop_first() {
            return Some(Notice::Malformed { track });
        }
        if let Some(request) = dirty.waits.pop_first() {
            return Some(Notice::Waits { request });
        }
        let is_told = std::mem::replace(&mut dirty.rendezvous.0, waiting) == waiting;
        (!is_told).then_some(Notice::Rendezvous { waiting })
    }

    /// What another shard is to be told next, behind the ends of streams.
    pub fn poll_late_notice(&mut self, shard: SessionId) -> Option<Notice> {
        let peer = self.by_session.get(&shard)?;
        let dirty = self.mesh.shards.get_mut(peer)?;
        let (request, (from, largest)) = dirty.gaps.pop_first()?;
        Some(Notice::Gap { request, from, largest })
    }

    /// What another shard tells.
    pub fn handle_notice(&mut self, shard: SessionId, notice: Notice, now: Instant) {
        let Some(&peer) = self.by_session.get(&shard) else { return };
        match notice {
            Notice::Namespace { namespace, way } => self.namespace_told(peer, namespace, way, now),
            Notice::Interest { prefix, wishes } => {
                self.note_interest_of_shard(peer, &prefix, wishes);
            }
            Notice::Track { track, publishers: 0, offered: false } => {
                self.forget_published(&track, peer);
            }
            Notice::Track { track, publishers, offered } => {
                let told = Told { publishers, offered };
                let before = self.note_published(&track, peer, told);
                self.published_to_shard(&track, peer, told, now);
                if before.publications() < told.publishers {
                    self.forget_what_was_told_of(&track);
                }
                if before.publications() < told.publications() {
                    self.publish_from_elsewhere(&track, None, now);
                }
            }
            Notice::Malformed { track } => {
                if let Some(&index) = self.by_name.get(&track) {
                    self.end_malformed(index, now);
                }
            }
            Notice::Rendezvous { waiting } => {
                if let Some(dirty) = self.mesh.shards.get_mut(&peer) {
                    dirty.rendezvous.1 = waiting;
                }
            }
            Notice::Waits { request } => self.heard_by_shard(RequestKey { peer, request }, now),
            Notice::Gap { request, from, largest } => {
                let key = RequestKey { peer, request };
                self.gap_in_shard(key, from, largest, now);
            }
        }
        self.drain_events(peer, now);
    }

    /// Another shard tells how to get to a namespace by it, or that nobody publishes it there any more.
    ///
    /// The latter is believed at the next turn: what a third shard has told before that, of another
    /// publisher, may be heard after it in this one, and would be an end and a beginning of what has
    /// gone on.
    fn namespace_told(
        &mut self,
        peer: PeerIndex,
        namespace: TrackNamespace,
        way: Option<Way>,
        now: Instant,
    ) {
        let key = RequestKey { peer, request: TOLD };
        match way {
            Some(Way { hops, cost }) => {
                self.mesh.going.remove(&(peer, namespace.clone()));
                let route = Route { key, hops, cost, shard: true };
                self.set_route(key, &namespace, Some(route), now);
            }
            None if self.namespaces.routes(&namespace).iter().any(|route| route.key == key) => {
                self.mesh.going.insert((peer, namespace), now + NEXT_TURN);
            }
            None => {}
        }
    }

    /// Believes what was told in earlier turns.
    pub(in crate::relay) fn namespaces_gone(&mut self, now: Instant) {
        let gone: Vec<(PeerIndex, TrackNamespace)> =
            self.mesh.going.extract_if(.., |_, when| *when <= now).map(|(it, _)| it).collect();
        for (peer, namespace) in gone {
            self.set_route(RequestKey { peer, request: TOLD }, &namespace, None, now);
        }
    }

    /// Another shard tells of a track that is published or offered to it; what it had told before.
    fn note_published(&mut self, track: &FullTrackName, peer: PeerIndex, told: Told) -> Told {
        if let Some(publication) = self.mesh.published.get_mut(track) {
            return publication.shards.insert(peer, told).unwrap_or_default();
        }
        let known = self.by_name.get(track).and_then(|index| self.tracks.get(index.0));
        let known = known.map(|track| track.alias).or_else(|| self.offers.alias_of(track));
        let alias = match known {
            Some(alias) => alias,
            None => self.next_alias(),
        };
        let publication = Publication { shards: BTreeMap::from([(peer, told)]), alias };
        self.mesh.published.insert(track.clone(), publication);
        Told::default()
    }

    pub(super) fn forget_published(&mut self, track: &FullTrackName, peer: PeerIndex) {
        let Some(publication) = self.mesh.published.get_mut(track) else { return };
        publication.shards.remove(&peer);
        if !publication.shards.is_empty() {
            return;
        }
        let alias = publication.alias;
        self.mesh.published.remove(track);
        if !self.by_name.contains_key(track) && !self.offers.contains(track) {
            self.forget_publication(track, alias);
        }
    }

    /// A track is published or offered to another shard: who waits for it here is served, and who has
    /// it gets what one more publisher sends. What is offered is asked for only if nobody sends it.
    fn published_to_shard(
        &mut self,
        name: &FullTrackName,
        shard: PeerIndex,
        told: Told,
        now: Instant,
    ) {
        let Some(&index) = self.by_name.get(name) else { return };
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        track.refused.remove(&shard);
        let is_needed = 0 < told.publishers || !track.is_established();
        let Some(track) = self.tracks.get(index.0) else { return };
        if is_needed && !track.has_upstream_in(shard) && self.has_own_demand(track) {
            self.ask_publishers(index, None, now);
        }
    }

    /// There is one more publication of a track elsewhere, another than what watchers were not to be
    /// told of. An offer alone is none.
    fn forget_what_was_told_of(&mut self, name: &FullTrackName) {
        if let Some(alias) = self.mesh.alias_of(name) {
            self.forget_publication(name, alias);
        }
    }

    /// Another shard has got a SUBSCRIBE of ours: nothing that its publishers send is missed.
    fn heard_by_shard(&mut self, key: RequestKey, now: Instant) {
        let Some(&Owner::Upstream(index)) = self.peers[key.peer.0].requests.get(&key.request)
        else {
            return;
        };
        if let Some(upstream) = self.tracks[index.0].upstream_mut(key) {
            upstream.is_heard = true;
        }
        self.serve_waiting(index, now);
    }

    /// Other shards that have a track from here may miss something of it.
    pub(in crate::relay) fn tell_shards_of_gap(&mut self, index: TrackIndex) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let Some(from) = track.missing_from() else { return };
        for &shard in &track.shards {
            if let Some(subscriber) = track.subscribers.get(shard) {
                self.mesh.note_gap(subscriber.key, from, track.largest);
            }
        }
    }

    /// Something may be missing of what another shard sends.
    fn gap_in_shard(
        &mut self,
        key: RequestKey,
        from: Location,
        largest: Option<Location>,
        now: Instant,
    ) {
        let Some(&Owner::Upstream(index)) = self.peers[key.peer.0].requests.get(&key.request)
        else {
            return;
        };
        self.note_missing(index, from, ResetCode::INTERNAL_ERROR);
        if let Some(largest) = largest {
            self.tracks[index.0].note_largest(largest);
        }
        self.recover(index, now);
    }

    /// Tells the shards that have publishers of a track that these contradict each other.
    pub(in crate::relay) fn tell_shards_of_malformed(&mut self, index: TrackIndex) {
        let Some(track) = self.tracks.get(index.0) else { return };
        for upstream in track.upstreams.iter().filter(|upstream| upstream.is_shard) {
            if let Some(dirty) = self.mesh.shards.get_mut(&upstream.key.peer) {
                dirty.malformed.insert(track.name.clone());
            }
        }
    }
}

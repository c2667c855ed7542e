//! What the shards of one relay know of each other, and how they ask each other.
//!
//! Each shard has a session with every other one. What a shard has from its own sessions it tells
//! all others: namespaces that are published, and the way to them; tracks that are published. What
//! it has from a shard it tells no other, and on behalf of a shard it asks none, so nothing goes
//! round in circles, and everything is one step away. Seen from outside the shards are one relay:
//! a step between them is no hop and costs nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use aip_codec::{
    aip::hops::{HOPS_MAX, Hops, RelayId},
    moqt::{
        error_code::{PublishDoneCode, RequestCode, ResetCode},
        id::{RequestId, TrackAlias},
        name::{FullTrackName, TrackNamespace},
    },
};

use super::{
    Relay,
    namespace_tree::{Interest, RequestKey, Route},
    peer::{Peer, PeerIndex},
    subscribe::done_code,
    track::{Subscriber, Track, TrackIndex, Waiting},
};
use crate::{
    session,
    shard::{Notice, Way},
    transport::SessionId,
};

/// The request by which routes of another shard are known: it tells them by no request.
const TOLD: RequestId = RequestId(u64::MAX);
/// Bytes of messages that may wait for another shard before requests are refused.
const MESSAGES_MAX: usize = 4 << 20;
/// Longer than any wait that another shard does not see to itself.
const EVER: Duration = Duration::from_secs(24 * 3_600);

/// The other shards of this relay.
#[derive(Debug, Default)]
pub(super) struct Mesh {
    shards: BTreeMap<PeerIndex, Dirty>,
    /// Tracks that are published to other shards.
    published: BTreeMap<FullTrackName, Publication>,
}

/// A track that is published to other shards.
#[derive(Debug)]
struct Publication {
    shards: BTreeSet<PeerIndex>,
    /// The alias that the track has here whenever it is here: by it is known who was told of it.
    alias: TrackAlias,
}

/// What another shard is to be told of. What there is to tell is looked up when it is told, so that
/// this holds no name twice.
#[derive(Debug, Default)]
struct Dirty {
    namespaces: BTreeSet<TrackNamespace>,
    interests: BTreeSet<TrackNamespace>,
    tracks: BTreeSet<FullTrackName>,
}

impl Mesh {
    pub(super) fn join(&mut self, shard: PeerIndex) {
        self.shards.insert(shard, Dirty::default());
    }

    /// Something has changed of a namespace that is published to this shard.
    pub(super) fn namespace_changed(&mut self, namespace: TrackNamespace) {
        for dirty in self.shards.values_mut() {
            dirty.namespaces.insert(namespace.clone());
        }
    }

    /// Who wants every track under a prefix has changed among the sessions of this shard.
    pub(super) fn interest_changed(&mut self, prefix: TrackNamespace) {
        for dirty in self.shards.values_mut() {
            dirty.interests.insert(prefix.clone());
        }
    }

    /// A track is published to this shard, or is no more.
    pub(super) fn publication_changed(&mut self, track: FullTrackName) {
        for dirty in self.shards.values_mut() {
            dirty.tracks.insert(track.clone());
        }
    }

    /// The shards that a track is published to.
    pub(super) fn publishers_of(&self, track: &FullTrackName) -> impl Iterator<Item = PeerIndex> {
        let publication = self.published.get(track);
        publication.into_iter().flat_map(|publication| &publication.shards).copied()
    }

    /// The alias of a track that is published to other shards.
    pub(super) fn alias_of(&self, track: &FullTrackName) -> Option<TrackAlias> {
        self.published.get(track).map(|publication| publication.alias)
    }

    /// The tracks under a prefix that are published to other shards.
    pub(super) fn published_under(&self, prefix: &TrackNamespace) -> Vec<FullTrackName> {
        let names = self.published.keys();
        names.filter(|name| prefix.is_prefix_of(name.namespace())).cloned().collect()
    }
}

/// A session between two shards: what limits peers has no place there, since each shard has seen to
/// its own, and what waits is limited as in any session.
pub(super) fn session_config(config: &session::Config) -> session::Config {
    let mut config = config.clone();
    config.request_updates_max = 1 << 16;
    config.requests_max = 1 << 24;
    config.setup_timeout = EVER;
    config.control_message_timeout = EVER;
    config.data_stream_timeout = EVER;
    config.minds_resets = false;
    config.delivery.message_stall_max = EVER;
    config
}

impl Relay {
    /// What another shard is to be told next.
    pub fn poll_notice(&mut self, shard: SessionId) -> Option<Notice> {
        let &peer = self.by_session.get(&shard)?;
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
        let track = dirty.tracks.pop_first()?;
        let known = self.by_name.get(&track).and_then(|index| self.tracks.get(index.0));
        let is_published = known.is_some_and(Track::is_published) || self.offers.contains(&track);
        Some(Notice::Track { track, is_published })
    }

    /// What another shard tells.
    pub fn handle_notice(&mut self, shard: SessionId, notice: Notice, now: Instant) {
        let Some(&peer) = self.by_session.get(&shard) else { return };
        match notice {
            Notice::Namespace { namespace, way } => {
                let key = RequestKey { peer, request: TOLD };
                let route = way.map(|Way { hops, cost }| Route { key, hops, cost, shard: true });
                let is_known =
                    self.namespaces.routes(&namespace).iter().any(|route| route.key == key);
                if is_known || route.is_some() {
                    self.set_route(key, &namespace, route, now);
                }
            }
            Notice::Interest { prefix, wishes } => {
                self.note_interest_of_shard(peer, &prefix, wishes);
            }
            Notice::Track { track, is_published: true } => {
                self.note_published(&track, peer);
                self.published_to_shard(&track, peer, now);
            }
            Notice::Track { track, is_published: false } => self.forget_published(&track, peer),
        }
        self.drain_events(peer, now);
    }

    /// Another shard has told that a track is published to it.
    fn note_published(&mut self, track: &FullTrackName, peer: PeerIndex) {
        if let Some(publication) = self.mesh.published.get_mut(track) {
            publication.shards.insert(peer);
            return;
        }
        let known = self.by_name.get(track).and_then(|index| self.tracks.get(index.0));
        let alias = match known {
            Some(track) => track.alias,
            None => self.next_alias(),
        };
        let publication = Publication { shards: BTreeSet::from([peer]), alias };
        self.mesh.published.insert(track.clone(), publication);
    }

    fn forget_published(&mut self, track: &FullTrackName, peer: PeerIndex) {
        let Some(publication) = self.mesh.published.get_mut(track) else { return };
        publication.shards.remove(&peer);
        if !publication.shards.is_empty() {
            return;
        }
        let alias = publication.alias;
        self.mesh.published.remove(track);
        if !self.by_name.contains_key(track) {
            self.forget_publication(track, alias);
        }
    }

    /// A track is published to another shard: who waits for it or has it here is served.
    fn published_to_shard(&mut self, name: &FullTrackName, shard: PeerIndex, now: Instant) {
        if let Some(alias) = self.mesh.alias_of(name) {
            // This is another publication than what watchers were not to be told of.
            self.forget_publication(name, alias);
        }
        let known = self.by_name.get(name).copied();
        if let Some(index) = known
            && let Some(track) = self.tracks.get_mut(index.0)
        {
            track.refused.remove(&shard);
        }
        if let Some((index, track)) =
            known.and_then(|index| Some((index, self.tracks.get(index.0)?)))
            && !track.has_upstream_in(shard)
            && self.has_own_demand(track)
        {
            self.ask_publishers(index, None, now);
        }
        self.publish_from_elsewhere(name, None, now);
    }

    /// Publishes a track that is published to another shard or offered by another relay: to one who
    /// wants every track under a prefix, or to all of them. Nothing, if there is none.
    pub(super) fn publish_from_elsewhere(
        &mut self,
        name: &FullTrackName,
        watcher: Option<RequestKey>,
        now: Instant,
    ) {
        if self.namespaces.interested_in(name.namespace(), Interest::Tracks).is_empty() {
            return;
        }
        let Some(index) = self.track_to_publish(name) else { return };
        if self.tracks[index.0].is_established() {
            match watcher {
                Some(watcher) => self.publish_to(index, watcher, now),
                None => self.publish_watched_now(index, now),
            }
            return;
        }
        self.tracks[index.0].is_watched = true;
        if !self.ask_publishers(index, None, now) {
            self.tracks[index.0].is_watched = false;
            self.forget_track_if_unused(index);
        }
    }

    /// A publisher has come of a track that is to be published to who watches.
    pub(super) fn publish_watched(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if std::mem::take(&mut track.is_watched) {
            self.publish_watched_now(index, now);
        }
    }

    fn publish_watched_now(&mut self, index: TrackIndex, now: Instant) {
        let namespace = self.tracks[index.0].name.namespace();
        for watcher in self.namespaces.interested_in(namespace, Interest::Tracks) {
            if !self.tracks[index.0].has_upstream_in(watcher.peer) {
                self.publish_to(index, watcher, now);
                self.answered.push_back(watcher.peer);
            }
        }
    }

    /// Whether anyone but other shards wants a track.
    fn has_own_demand(&self, track: &Track) -> bool {
        let is_ours =
            |key: RequestKey| self.peers.get(key.peer.0).is_some_and(|peer| !peer.is_shard());
        track.is_watched
            || track.shards.len() < track.subscribers.len()
            || track.waiting.iter().any(|waiting| is_ours(waiting.key))
            || track.tasks.values().any(|task| is_ours(task.key.owner))
    }

    /// Whether other shards may be asked for a track: not on behalf of one.
    pub(super) fn asks_shards(&self, track: &Track, on_behalf_of: Option<RequestKey>) -> bool {
        match on_behalf_of {
            Some(key) => self.peers.get(key.peer.0).is_some_and(|peer| !peer.is_shard()),
            None => self.has_own_demand(track),
        }
    }

    /// Asks the other shards that have publishers of a track which this one has, too.
    pub(super) fn ask_other_shards(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let publishers = self.publishers_for(track, None);
        if publishers.iter().any(|peer| self.peers[peer.0].is_shard()) {
            self.ask_publishers(index, None, now);
        }
    }

    /// The shard that dials other relays, if it is another one.
    pub(super) fn dialling_shard(&self) -> Option<PeerIndex> {
        let mut shards = self.mesh.shards.keys();
        shards.find(|peer| self.peers.get(peer.0).is_some_and(|it| it.is_dialling_shard())).copied()
    }

    /// What a SUBSCRIBE of ours to another shard says of the relays below.
    pub(super) fn hops_to_shard(
        &self,
        index: TrackIndex,
        on_behalf_of: Option<RequestKey>,
    ) -> Option<Hops> {
        self.config.session.relay_id?;
        let mut below = self.tracks[index.0].relays_below_this_shard();
        below.extend(on_behalf_of.and_then(|key| self.peers[key.peer.0].relay_id()));
        let list: Vec<RelayId> = below.into_iter().take(HOPS_MAX - 1).collect();
        Hops::try_from(list).ok()
    }

    /// Hops as another shard of this relay is told them: it adds this relay itself.
    pub(super) fn without_us(&self, hops: Option<&Hops>) -> Option<Hops> {
        let own = self.config.session.relay_id;
        let others: Vec<_> = hops?.iter().filter(|hop| Some(*hop) != own).collect();
        Hops::try_from(others).ok()
    }

    /// Whether so much waits for another shard that nothing new is begun.
    pub(super) fn is_mesh_congested(&self) -> bool {
        self.mesh.shards.keys().any(|peer| {
            let peer = self.peers.get(peer.0);
            peer.is_some_and(|peer| MESSAGES_MAX < peer.session.message_bytes())
        })
    }

    /// Another shard is there: it is told everything.
    pub(super) fn shard_established(&mut self, peer: PeerIndex, now: Instant) {
        let root = TrackNamespace::default();
        let namespaces = self.namespaces.published_under(&root, usize::MAX);
        let published = self.tracks.iter().filter(|(_, track)| track.is_published());
        let published = published.map(|(_, track)| &track.name);
        let tracks = published.chain(self.offers.tracks()).cloned().collect();
        let interests = self.watched_prefixes();
        if let Some(dirty) = self.mesh.shards.get_mut(&peer) {
            *dirty = Dirty { namespaces: namespaces.into_iter().collect(), interests, tracks };
        }
        self.retry_waiting(&root, now);
    }

    /// The session with another shard is lost, and with it what it has told.
    pub(super) fn leave_mesh(&mut self, peer: PeerIndex, now: Instant) {
        if self.mesh.shards.remove(&peer).is_none() {
            return;
        }
        self.forget_interests_of_shard(peer);
        let root = TrackNamespace::default();
        for track in self.mesh.published_under(&root) {
            self.forget_published(&track, peer);
        }
        let key = RequestKey { peer, request: TOLD };
        for namespace in self.namespaces.published_under(&root, usize::MAX) {
            if self.namespaces.routes(&namespace).iter().any(|route| route.key == key) {
                self.set_route(key, &namespace, None, now);
            }
        }
    }

    /// Takes the requests that a publisher in this session can serve from those that wait.
    pub(super) fn take_served_by(
        &mut self,
        index: TrackIndex,
        peer: PeerIndex,
    ) -> VecDeque<Waiting> {
        let by_shard = self.peers.get(peer.0).is_some_and(Peer::is_shard);
        let Some(track) = self.tracks.get_mut(index.0) else { return VecDeque::new() };
        let waiting = std::mem::take(&mut track.waiting);
        let peers = &self.peers;
        let (stay, go) = waiting.into_iter().partition(|waiting| {
            by_shard && peers.get(waiting.key.peer.0).is_some_and(Peer::is_shard)
        });
        track.waiting = stay;
        go
    }

    /// A publisher of a track is gone. Shards that have the track from here see to another one
    /// themselves, unless this shard has one that goes on where that one ended.
    pub(super) fn release_shards_after(
        &mut self,
        index: TrackIndex,
        was_ours: bool,
        code: Option<PublishDoneCode>,
    ) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let is_served = track.upstreams.iter().any(|upstream| !upstream.is_shard);
        let shards = track.shards.clone();
        match code {
            Some(code) if !is_served => {
                for shard in shards {
                    self.finish_subscriber(index, shard, done_code(Some(code)));
                }
            }
            None if was_ours || !is_served => {
                for shard in shards {
                    self.cut_shard(index, shard);
                }
            }
            _ => {}
        }
        self.refuse_shards_waiting(index, RequestCode::DOES_NOT_EXIST);
    }

    /// Refuses other shards that wait, if nobody is left who could serve them.
    pub(super) fn refuse_shards_waiting(&mut self, index: TrackIndex, code: RequestCode) {
        let Some(track) = self.tracks.get(index.0) else { return };
        if track.upstreams.iter().any(|upstream| !upstream.is_shard) {
            return;
        }
        let is_shard = |key: &RequestKey| self.peers.get(key.peer.0).is_some_and(Peer::is_shard);
        let keys: Vec<RequestKey> =
            track.waiting.iter().map(|waiting| waiting.key).filter(is_shard).collect();
        for key in keys {
            self.refuse_waiting(index, key, code, "nobody publishes this track here");
        }
    }

    /// Ends another shard's subscription as a lost session would: it goes on from elsewhere.
    pub(super) fn cut_shard(&mut self, index: TrackIndex, subscriber: usize) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let Some(entry) = track.remove_subscriber(subscriber) else { return };
        self.disown(entry.key);
        self.forget_fills_of(index);
        if let Some(session) = self.session(entry.key.peer) {
            session.cancel(entry.key.request, ResetCode::SESSION_CLOSED);
        }
    }

    /// Counts a subscription that we end.
    pub(super) fn note_ended(&mut self, entry: &Subscriber, code: PublishDoneCode) {
        if !entry.is_shard {
            self.service.subscriptions_ended.count(code.name());
        }
    }

    /// The track of this name, begun if there is room.
    pub(super) fn track_to_publish(&mut self, name: &FullTrackName) -> Option<TrackIndex> {
        if let Some(&index) = self.by_name.get(name) {
            return Some(index);
        }
        if self.config.tracks_max <= self.tracks.len() {
            tracing::debug!(track = %name, "too many tracks to publish one more");
            return None;
        }
        Some(self.begin_track(name))
    }
}

impl Track {
    /// Whether a session of this shard has published it.
    fn is_published(&self) -> bool {
        self.upstreams.iter().any(|upstream| upstream.by_publish)
    }
}

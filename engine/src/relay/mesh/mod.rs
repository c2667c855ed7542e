//! What the shards of one relay know of each other, and how they ask each other.
//!
//! Each shard has a session with every other one. What a shard has from its own sessions it tells
//! all others: namespaces that are published, and the way to them; tracks that are published. What
//! it has from a shard it tells no other, and on behalf of a shard it asks none, so nothing goes
//! round in circles, and everything is one step away. Seen from outside the shards are one relay:
//! a step between them is no hop and costs nothing.

mod notice;
mod offer;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use aip_codec::{
    aip::hops::{HOPS_MAX, Hops, RelayId},
    moqt::{
        error_code::{PublishDoneCode, RequestCode, ResetCode},
        id::{RequestId, TrackAlias},
        location::Location,
        name::{FullTrackName, TrackNamespace},
    },
};

use super::{
    Relay,
    namespace_tree::RequestKey,
    peer::{Peer, PeerIndex},
    subscribe::{Asker, done_code},
    track::{Subscriber, Track, TrackIndex, Waiting},
};
use crate::session;

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
    /// Tracks that are published or offered to other shards.
    published: BTreeMap<FullTrackName, Publication>,
    /// Namespaces that nobody publishes to a shard any more, and until when that is not believed.
    going: BTreeMap<(PeerIndex, TrackNamespace), Instant>,
}

/// A track that is published to other shards, or offered there by other relays.
#[derive(Debug)]
struct Publication {
    /// What each of them has told of it.
    shards: BTreeMap<PeerIndex, Told>,
    /// The alias that the track has here whenever it is here: by it is known who was told of it.
    alias: TrackAlias,
}

/// What a shard has told of a track.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// How many of its sessions publish it.
    publishers: usize,
    /// Whether another relay would send it there.
    offered: bool,
}

impl Told {
    /// How many publications that makes. An offer is what is left of one that nobody needs now.
    fn publications(self) -> usize {
        self.publishers.max(usize::from(self.offered))
    }
}

/// What another shard is to be told of. What there is to tell is looked up when it is told, so that
/// this holds no name twice. And what it has told that belongs to nothing else.
#[derive(Debug, Default)]
struct Dirty {
    namespaces: BTreeSet<TrackNamespace>,
    interests: BTreeSet<TrackNamespace>,
    tracks: BTreeSet<FullTrackName>,
    malformed: BTreeSet<FullTrackName>,
    /// Its SUBSCRIBEs that wait here.
    waits: BTreeSet<RequestId>,
    /// From where something may be missing in its subscriptions, and up to where.
    gaps: BTreeMap<RequestId, (Location, Option<Location>)>,
    /// How many requests wait for a publisher to come: here, as it was told, and there.
    rendezvous: (usize, usize),
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

    /// A track is published to this shard by one session more, or less.
    pub(super) fn publication_changed(&mut self, track: FullTrackName) {
        for dirty in self.shards.values_mut() {
            dirty.tracks.insert(track.clone());
        }
    }

    /// When it is believed that what other shards have told of is gone.
    pub(super) fn believes_at(&self) -> Option<Instant> {
        self.going.values().min().copied()
    }

    /// How many requests of other shards wait for a publisher to come.
    pub(super) fn rendezvous_count(&self) -> usize {
        self.shards.values().map(|dirty| dirty.rendezvous.1).sum()
    }

    /// A SUBSCRIBE of another shard waits for this one's publishers.
    pub(super) fn waits(&mut self, key: RequestKey) {
        if let Some(dirty) = self.shards.get_mut(&key.peer) {
            dirty.waits.insert(key.request);
        }
    }

    /// Something may be missing in another shard's subscription.
    fn note_gap(&mut self, key: RequestKey, from: Location, largest: Option<Location>) {
        let Some(dirty) = self.shards.get_mut(&key.peer) else { return };
        let gap = dirty.gaps.entry(key.request).or_insert((from, largest));
        *gap = (gap.0.min(from), gap.1.max(largest));
    }

    /// The shards that a track is published to.
    pub(super) fn publishers_of(&self, track: &FullTrackName) -> impl Iterator<Item = PeerIndex> {
        self.told_of(track).filter(|(_, told)| 0 < told.publishers).map(|(shard, _)| shard)
    }

    /// The shards that another relay offers a track to.
    pub(super) fn offered_in(&self, track: &FullTrackName) -> impl Iterator<Item = PeerIndex> {
        self.told_of(track).filter(|(_, told)| told.offered).map(|(shard, _)| shard)
    }

    /// How many sessions of other shards publish a track.
    pub(super) fn publishers_count(&self, track: &FullTrackName) -> usize {
        self.told_of(track).map(|(_, told)| told.publishers).sum()
    }

    /// What each shard has told of a track.
    fn told_of(&self, track: &FullTrackName) -> impl Iterator<Item = (PeerIndex, Told)> {
        let publication = self.published.get(track).into_iter();
        publication.flat_map(|it| &it.shards).map(|(shard, told)| (*shard, *told))
    }

    /// The alias of a track that is published to other shards.
    pub(super) fn alias_of(&self, track: &FullTrackName) -> Option<TrackAlias> {
        self.published.get(track).map(|publication| publication.alias)
    }

    /// The tracks that are published to other shards, with their aliases.
    pub(super) fn aliases(&self) -> impl Iterator<Item = (&FullTrackName, TrackAlias)> {
        self.published.iter().map(|(name, publication)| (name, publication.alias))
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

    /// Asks the other shards that have publishers of a track which this one has, too, on behalf of
    /// the first session of its own that wants it.
    pub(super) fn ask_other_shards(&mut self, index: TrackIndex, asker: Asker, now: Instant) {
        let Some(track) = self.tracks.get(index.0) else { return };
        if !self.has_own_demand(track) {
            let mut publishers = self.publishers_for(track, Some(asker.key));
            publishers.retain(|peer| self.peers[peer.0].is_shard());
            self.ask_each(index, publishers, Some(asker), now);
        }
    }

    /// Whether what is known of an established track is all that any shard knows. If not, the others
    /// are being asked. Other shards see to that themselves.
    pub(super) fn has_heard_all(&mut self, index: TrackIndex, asker: Asker, now: Instant) -> bool {
        if self.peers[asker.key.peer.0].is_shard() {
            return true;
        }
        self.ask_other_shards(index, asker, now);
        !self.tracks[index.0].awaits_shards()
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
        let published = self.tracks.iter().filter(|(_, track)| 0 < track.publications());
        let published = published.map(|(_, track)| &track.name);
        let tracks = published.chain(self.offers.tracks()).cloned().collect();
        let interests = self.watched_prefixes();
        if let Some(dirty) = self.mesh.shards.get_mut(&peer) {
            let namespaces = namespaces.into_iter().collect();
            *dirty = Dirty { namespaces, interests, tracks, ..Dirty::default() };
        }
        self.retry_waiting(&root, now);
    }

    /// The session with another shard is lost, and with it what it has told.
    pub(super) fn leave_mesh(&mut self, peer: PeerIndex, now: Instant) {
        if self.mesh.shards.remove(&peer).is_none() {
            return;
        }
        self.forget_interests_of_shard(peer);
        self.mesh.going.retain(|(shard, _), _| *shard != peer);
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

    /// Takes those of the requests that wait which can be answered now: other shards' if a session of
    /// this one sends the track, and others once every shard that was asked has been heard.
    pub(super) fn take_served(&mut self, index: TrackIndex) -> VecDeque<Waiting> {
        let Some(track) = self.tracks.get_mut(index.0) else { return VecDeque::new() };
        let serves_shards = track.serves_shards();
        let serves_others = track.is_established() && !track.awaits_shards();
        let waiting = std::mem::take(&mut track.waiting);
        let (go, stay) = waiting.into_iter().partition(|waiting| match waiting.is_shard {
            true => serves_shards,
            false => serves_others,
        });
        track.waiting = stay;
        self.update_rendezvous(index);
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
        let asks_others = track.upstreams.iter().any(|upstream| !upstream.is_shard);
        let shards = track.shards.clone();
        match code {
            _ if track.serves_shards() && was_ours => self.tell_shards_of_gap(index),
            _ if track.serves_shards() => {}
            Some(code) if !asks_others => {
                for shard in shards {
                    self.finish_subscriber(index, shard, done_code(Some(code)));
                }
            }
            _ => {
                for shard in shards {
                    self.cut_shard(index, shard);
                }
            }
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
}

impl Track {
    /// How many sessions of this shard have published it.
    pub(super) fn publications(&self) -> usize {
        self.upstreams.iter().filter(|upstream| upstream.by_publish).count()
    }

    /// How many sessions of this shard send it, or are asked for it.
    pub(super) fn own_publishers(&self) -> usize {
        self.upstreams.iter().filter(|upstream| !upstream.is_shard).count()
    }

    /// Whether a session of this shard wants its objects, not only to know of them.
    pub(super) fn wants_objects(&self) -> bool {
        let mut subscribers = self.subscribers.iter();
        subscribers.any(|(_, it)| !it.is_shard && it.wish.forward)
            || self.waiting.iter().any(|it| !it.is_shard && it.body.wants_objects())
    }

    /// Whether a session of this shard sends it, so that other shards can have it from here.
    fn serves_shards(&self) -> bool {
        self.upstreams.iter().any(|upstream| upstream.established && !upstream.is_shard)
    }

    /// Whether another shard that was asked has not been heard, so that something may be missed of
    /// what its publishers send. One that has offered the track itself need not be.
    pub(super) fn awaits_shards(&self) -> bool {
        let offers = |peer| self.upstreams.iter().any(|it| it.established && it.key.peer == peer);
        let mut silent = self.upstreams.iter().filter(|it| !it.established && !it.is_heard);
        silent.any(|it| it.is_shard && !offers(it.key.peer))
    }
}

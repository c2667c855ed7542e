//! Tracks that other relays have published to us and that are not taken by that PUBLISH: another one
//! sends them already, or nobody wants them now. They are subscribed to when they are wanted, as if
//! their namespaces were published there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use aip_codec::moqt::{
    id::TrackAlias,
    name::{FullTrackName, TrackNamespace},
};
use bytes::Bytes;

use super::{
    Relay,
    namespace_tree::{Interest, RequestKey},
    peer::{Owner, PeerIndex},
    subscribe::is_reserved,
    track::TrackIndex,
};

/// What other relays offer.
#[derive(Debug, Default)]
pub(super) struct Offers {
    by_track: BTreeMap<FullTrackName, Offer>,
    /// By age: of too many the oldest is forgotten.
    by_age: BTreeMap<u64, FullTrackName>,
    next: u64,
}

#[derive(Debug)]
struct Offer {
    relays: BTreeSet<PeerIndex>,
    /// The alias that the track has here whenever it is here: by it is known who was told of it.
    alias: TrackAlias,
    age: u64,
}

impl Offers {
    /// The relays that offer a track.
    pub(super) fn relays(&self, track: &FullTrackName) -> impl Iterator<Item = PeerIndex> {
        self.by_track.get(track).into_iter().flat_map(|offer| &offer.relays).copied()
    }

    /// Whether some relay offers a track.
    pub(super) fn contains(&self, track: &FullTrackName) -> bool {
        self.by_track.contains_key(track)
    }

    /// The alias of a track that is offered.
    pub(super) fn alias_of(&self, track: &FullTrackName) -> Option<TrackAlias> {
        self.by_track.get(track).map(|offer| offer.alias)
    }

    /// Every track that is offered, with its alias.
    pub(super) fn aliases(&self) -> impl Iterator<Item = (&FullTrackName, TrackAlias)> {
        self.by_track.iter().map(|(name, offer)| (name, offer.alias))
    }

    /// The tracks under a prefix that are offered.
    pub(super) fn under(&self, prefix: &TrackNamespace) -> Vec<FullTrackName> {
        let names = self.by_track.keys();
        names.filter(|name| prefix.is_prefix_of(name.namespace())).cloned().collect()
    }

    /// Every track that is offered.
    pub(super) fn tracks(&self) -> impl Iterator<Item = &FullTrackName> {
        self.by_track.keys()
    }

    fn insert(&mut self, track: &FullTrackName, alias: TrackAlias, relay: PeerIndex) {
        let age = self.next;
        let offer = self.by_track.entry(track.clone()).or_insert_with(|| {
            self.next += 1;
            self.by_age.insert(age, track.clone());
            Offer { relays: BTreeSet::new(), alias, age }
        });
        offer.relays.insert(relay);
    }

    /// Forgets what one relay offers of a track; its alias, if nobody offers it any more.
    fn remove(&mut self, track: &FullTrackName, relay: PeerIndex) -> Option<TrackAlias> {
        let offer = self.by_track.get_mut(track)?;
        offer.relays.remove(&relay);
        if offer.relays.is_empty() { self.forget(track) } else { None }
    }

    fn forget(&mut self, track: &FullTrackName) -> Option<TrackAlias> {
        let offer = self.by_track.remove(track)?;
        self.by_age.remove(&offer.age);
        Some(offer.alias)
    }
}

impl Relay {
    /// Whether a PUBLISH is taken: every one of an ordinary publisher; of a relay's, if it is not to
    /// have the track from us. One of several relays with numbers is enough, whichever shard has it,
    /// and none is needed for what nobody wants.
    pub(super) fn takes_publication(&self, index: TrackIndex, from: PeerIndex) -> bool {
        let Some(peer) = self.peers.get(from.0) else { return false };
        let Some(track) = self.tracks.get(index.0) else { return false };
        let Some(relay) = peer.relay_id() else {
            return !peer.is_upstream_relay() || !track.has_downstream_in(from);
        };
        let is_wanted = track.has_demand() || self.is_watched_beside(track.name.namespace(), from);
        let is_sent = track.is_established() || 0 < self.mesh.publishers_count(&track.name);
        is_wanted && !is_sent && !track.relays_below().contains(&relay)
    }

    /// A relay has a track, and would send it.
    pub(super) fn note_offer(&mut self, index: TrackIndex, relay: PeerIndex) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let (name, alias) = (track.name.clone(), track.alias);
        if !self.offers.contains(&name) {
            self.mesh.publication_changed(name.clone());
        }
        self.offers.insert(&name, alias, relay);
        while self.config.session_publications_max < self.offers.by_track.len() {
            let Some((_, oldest)) = self.offers.by_age.first_key_value() else { return };
            let oldest = oldest.clone();
            self.withdraw_offers(&oldest);
        }
    }

    /// A relay does not have a track any more.
    pub(super) fn withdraw_offer(&mut self, track: &FullTrackName, relay: PeerIndex) {
        if let Some(alias) = self.offers.remove(track, relay) {
            self.offer_forgotten(track, alias);
        }
    }

    /// There is no more of a track: no relay has it.
    pub(super) fn withdraw_offers(&mut self, track: &FullTrackName) {
        if let Some(alias) = self.offers.forget(track) {
            self.offer_forgotten(track, alias);
        }
    }

    /// A session with a relay is over.
    pub(super) fn withdraw_offers_of(&mut self, relay: PeerIndex) {
        let offered =
            self.offers.by_track.iter().filter(|(_, offer)| offer.relays.contains(&relay));
        let tracks: Vec<FullTrackName> = offered.map(|(track, _)| track.clone()).collect();
        for track in tracks {
            self.withdraw_offer(&track, relay);
        }
    }

    fn offer_forgotten(&mut self, track: &FullTrackName, alias: TrackAlias) {
        self.mesh.publication_changed(track.clone());
        if !self.by_name.contains_key(track) && self.mesh.alias_of(track).is_none() {
            self.forget_publication(track, alias);
        }
    }

    /// A relay says that it has a track, but that it does not publish it to us: it is asked for it.
    pub(super) fn publication_skipped(
        &mut self,
        key: RequestKey,
        suffix: &TrackNamespace,
        name: Bytes,
        now: Instant,
    ) {
        let Some(Owner::TracksAbove(prefix)) = self.peers[key.peer.0].requests.get(&key.request)
        else {
            return;
        };
        let track = prefix.join(suffix).and_then(|namespace| FullTrackName::new(namespace, name));
        let Ok(track) = track else { return };
        let is_wanted = self.is_watched_beside(track.namespace(), key.peer);
        if is_reserved(track.namespace()) || !is_wanted {
            return;
        }
        let Some(index) = self.track_to_publish(&track) else { return };
        self.note_offer(index, key.peer);
        self.publish_from_elsewhere(&track, None, now);
        self.forget_track_if_unused(index);
    }

    /// A track that watchers were to be given cannot be had: they are told, and may still ask for it.
    pub(super) fn skip_watched(&mut self, index: TrackIndex) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if !std::mem::take(&mut track.is_watched) {
            return;
        }
        let (name, alias) = (track.name.clone(), track.alias);
        for watcher in self.namespaces.interested_in(name.namespace(), Interest::Tracks) {
            // A relay would ask us for it, and say the same to us when it cannot have it: for ever.
            if self.peers[watcher.peer.0].is_relay() || self.is_done_with(watcher, alias) {
                continue;
            }
            self.skip(watcher, &name, alias);
            self.answered.push_back(watcher.peer);
        }
    }

    /// Takes leave of a relay's publication, for it can be subscribed to when it is wanted again.
    pub(super) fn offer_instead(&mut self, index: TrackIndex, key: RequestKey) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let is_asked = self.has_asked_for_tracks(key.peer, track.name.namespace());
        if is_asked && self.peers[key.peer.0].session.is_established() {
            self.note_offer(index, key.peer);
        }
    }

    /// Whether a request is a PUBLISH of another relay's.
    pub(super) fn is_relays_publication(&self, key: RequestKey) -> bool {
        self.peers.get(key.peer.0).is_some_and(|peer| peer.is_relay() && !peer.is_ours(key.request))
    }
}

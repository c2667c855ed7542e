//! What must hold of a relay between any two calls; for simulation and fuzzing, which ask it.

use std::collections::BTreeMap;

use aip_codec::{aip::hops::RelayId, moqt::name::TrackNamespace};

use super::{
    Relay,
    namespace_tree::RequestKey,
    peer::{Owner, Peer, PeerIndex},
    track::{Track, TrackIndex},
};

impl Relay {
    /// The namespaces that are published, as far as is known here, in order.
    pub fn namespaces(&self) -> Vec<TrackNamespace> {
        self.namespaces.published_under(&TrackNamespace::default(), usize::MAX)
    }

    /// Prefixes under which other relays are asked for every track.
    pub fn asked_tracks(&self) -> usize {
        self.peers.iter().map(|(_, peer)| peer.asked_tracks.len()).sum()
    }

    /// What contradicts itself in this relay, if anything does. It looks at everything: nothing for
    /// a relay that has work to do.
    pub fn contradiction(&self) -> Option<String> {
        let held: usize = self.tracks.iter().map(|(_, track)| track.cache.size()).sum();
        if held != self.cached_bytes() {
            return Some(format!("{held} bytes are cached, {} accounted", self.cached_bytes()));
        }
        let of_tracks = self
            .tracks
            .iter()
            .find_map(|(index, track)| self.contradiction_of_track(TrackIndex(index), track));
        let of_peers = || {
            self.peers
                .iter()
                .find_map(|(index, peer)| self.contradiction_of_peer(PeerIndex(index), peer))
        };
        of_tracks.or_else(of_peers).or_else(|| self.contradiction_of_watches())
    }

    /// Watchers are told of a track by its alias: there is one, and nobody remembers another.
    fn contradiction_of_watches(&self) -> Option<String> {
        let here = self.tracks.iter().map(|(_, track)| (&track.name, track.alias));
        let mut aliases = BTreeMap::new();
        for (name, alias) in here.chain(self.mesh.aliases()).chain(self.offers.aliases()) {
            if *aliases.entry(name).or_insert(alias) != alias {
                return Some(format!("{name}: it has two aliases"));
            }
        }
        for (key, watch) in &self.track_watches {
            let owner = self.peers.get(key.peer.0).and_then(|it| it.requests.get(&key.request));
            let Some(Owner::TracksWatch(prefix)) = owner else {
                return Some("a watch that its session does not know".to_owned());
            };
            if !watch.done_with.is_subset(&self.aliases_under(prefix)) {
                return Some(format!("{prefix}: a watcher is done with what is not there"));
            }
        }
        None
    }

    fn contradiction_of_track(&self, index: TrackIndex, track: &Track) -> Option<String> {
        let says = |what: &str| Some(format!("{}: {what}", track.name));
        let owner = |key: RequestKey| self.peers.get(key.peer.0)?.requests.get(&key.request);
        if track.is_unused() {
            return says("nobody has to do with it");
        }
        if !self.rendezvous_adds_up(index, track) {
            return says("requests wait for its publisher that are not counted");
        }
        let below = track.relays_below();
        for upstream in &track.upstreams {
            if !matches!(owner(upstream.key), Some(Owner::Upstream(other)) if *other == index) {
                return says("an upstream subscription that its session does not know");
            }
            let relay = self.peers.get(upstream.key.peer.0).and_then(Peer::relay_id);
            let is_subscribed = !upstream.by_publish || self.is_relays_publication(upstream.key);
            if is_subscribed && relay.is_some_and(|relay| below.contains(&relay)) {
                return says("it comes from a relay that has it from here");
            }
        }
        for (number, subscriber) in &track.subscribers {
            let is_known = matches!(owner(subscriber.key),
                Some(Owner::Subscriber { track, subscriber })
                    if (*track, *subscriber) == (index, number));
            if !is_known {
                return says("a subscriber that its session does not know");
            }
        }
        let waits = |key| matches!(owner(key), Some(Owner::Waiting(other)) if *other == index);
        if !track.waiting.iter().all(|waiting| waits(waiting.key)) {
            return says("a waiting request that its session does not know");
        }
        let subscribed = track
            .upstreams
            .iter()
            .any(|upstream| !upstream.by_publish || self.is_relays_publication(upstream.key));
        if subscribed && !track.has_demand() && track.linger_until.is_none() {
            return says("subscribed upstream for nobody");
        }
        if !track.subscribers.is_empty() && track.upstreams.is_empty() {
            return says("subscribers without an upstream subscription");
        }
        None
    }

    fn contradiction_of_peer(&self, index: PeerIndex, peer: &Peer) -> Option<String> {
        let waiting: usize = self
            .tracks
            .iter()
            .map(|(_, track)| {
                let waiting = track.waiting.iter().map(|waiting| waiting.key);
                let passed_on = track.passed_on.iter().map(|passed_on| passed_on.key);
                waiting.chain(passed_on).filter(|key| key.peer == index).count()
            })
            .sum();
        if waiting != peer.waiting_count {
            return Some(format!(
                "{}: {waiting} wait, {} are counted",
                peer.id, peer.waiting_count
            ));
        }
        let is_stale = |namespace: &&TrackNamespace| {
            let routes = self.namespaces.routes(namespace);
            routes.is_empty()
                || peer.relay_id().is_some_and(|relay: RelayId| routes[0].hops.contains(relay))
        };
        peer.announced
            .keys()
            .find(is_stale)
            .map(|namespace| format!("{}: {namespace} is announced and not to be had", peer.id))
    }
}

//! Requests that wait for a publisher to come (RENDEZVOUS_TIMEOUT): how many may.

use std::collections::{BTreeMap, VecDeque};

use aip_codec::moqt::error_code::RequestCode;

use super::{
    Relay,
    namespace_tree::RequestKey,
    peer::PeerIndex,
    track::{Track, TrackIndex, Waiting},
};

/// Tracks for whose publisher requests wait while nobody is being asked, and how many wait for each.
#[derive(Debug, Default)]
pub(super) struct Rendezvous {
    tracks: BTreeMap<TrackIndex, usize>,
    /// How many that makes.
    count: usize,
}

impl Rendezvous {
    fn set(&mut self, index: TrackIndex, waiting: usize) {
        let before = match waiting {
            0 => self.tracks.remove(&index),
            _ => self.tracks.insert(index, waiting),
        };
        self.count = self.count + waiting - before.unwrap_or_default();
    }
}

impl Track {
    /// Requests that wait while nobody is being asked.
    fn rendezvous_count(&self) -> usize {
        if self.upstreams.is_empty() { self.waiting.len() } else { 0 }
    }
}

impl Relay {
    /// Whether no more requests may wait for a publisher to come: of this session, or at all.
    pub(super) fn rendezvous_is_full(&self, peer: PeerIndex) -> bool {
        let all = self.rendezvous.count + self.mesh.rendezvous_count();
        if self.config.rendezvous_max <= all {
            return true;
        }
        let own = self.waiting_for_rendezvous().filter(|other| *other == peer).count();
        self.config.session_rendezvous_max <= own
    }

    /// Requests of this shard that wait for a publisher to come.
    pub(super) const fn rendezvous_count(&self) -> usize {
        self.rendezvous.count
    }

    /// Whose requests wait for a publisher to come.
    fn waiting_for_rendezvous(&self) -> impl Iterator<Item = PeerIndex> {
        let tracks = self.rendezvous.tracks.keys().filter_map(|index| self.tracks.get(index.0));
        tracks.flat_map(|track| track.waiting.iter().map(|waiting| waiting.key.peer))
    }

    /// Counts anew how many of a track's requests wait for a publisher to come: more or fewer wait,
    /// or somebody is being asked, or nobody any more.
    pub(super) fn update_rendezvous(&mut self, index: TrackIndex) {
        let waiting = self.tracks.get(index.0).map_or(0, Track::rendezvous_count);
        self.rendezvous.set(index, waiting);
    }

    /// Whether what is counted of a track is so.
    pub(super) fn rendezvous_adds_up(&self, index: TrackIndex, track: &Track) -> bool {
        let counted = self.rendezvous.tracks.get(&index).copied().unwrap_or_default();
        counted == track.rendezvous_count()
    }

    /// Those who were asked for a track do not send it; requests that may wait for another publisher
    /// do, as far as there is room.
    pub(super) fn fall_back_to_rendezvous(&mut self, index: TrackIndex) {
        let Some(track) = self.tracks.get(index.0) else { return };
        if track.waiting.is_empty() {
            return;
        }
        let refused = self.without_room(index, &track.waiting);
        for key in refused {
            self.refuse_waiting(index, key, RequestCode::EXCESSIVE_LOAD, TOO_MANY);
        }
        self.update_rendezvous(index);
    }

    /// Those of a track's requests for which there is no room beside other tracks' and those before
    /// them.
    fn without_room(&self, index: TrackIndex, waiting: &VecDeque<Waiting>) -> Vec<RequestKey> {
        let counted = self.rendezvous.tracks.get(&index).copied().unwrap_or_default();
        let mut all = self.rendezvous.count - counted + self.mesh.rendezvous_count();
        let mut of_sessions: BTreeMap<PeerIndex, usize> = BTreeMap::new();
        let others = self.rendezvous.tracks.keys().filter(|other| **other != index);
        for track in others.filter_map(|other| self.tracks.get(other.0)) {
            for waiting in &track.waiting {
                *of_sessions.entry(waiting.key.peer).or_default() += 1;
            }
        }
        let mut refused = Vec::new();
        for entry in waiting {
            let own = of_sessions.entry(entry.key.peer).or_default();
            if self.config.rendezvous_max <= all || self.config.session_rendezvous_max <= *own {
                refused.push(entry.key);
            } else {
                all += 1;
                *own += 1;
            }
        }
        refused
    }
}

/// Why a request may not wait.
pub(super) const TOO_MANY: &str = "too many requests wait for a publisher to come";

//! Requests that wait for a publisher to come (RENDEZVOUS_TIMEOUT): how many may.

use std::collections::BTreeSet;

use aip_codec::moqt::error_code::RequestCode;

use super::{
    Relay,
    namespace_tree::RequestKey,
    peer::PeerIndex,
    track::{Track, TrackIndex},
};

/// Tracks for whose publisher requests wait while nobody is being asked. Tracks that have left that
/// state may still stand here until they are next looked at.
#[derive(Debug, Default)]
pub(super) struct Rendezvous {
    tracks: BTreeSet<TrackIndex>,
}

impl Track {
    /// Whether requests wait and nobody is being asked.
    fn awaits_publisher(&self) -> bool {
        self.upstreams.is_empty() && !self.waiting.is_empty()
    }
}

impl Relay {
    /// Whether no more requests may wait for a publisher to come: of this session, or at all.
    pub(super) fn rendezvous_is_full(&mut self, peer: PeerIndex) -> bool {
        let tracks = &self.tracks;
        let awaits = |index: &TrackIndex| tracks.get(index.0).is_some_and(Track::awaits_publisher);
        self.rendezvous.tracks.retain(awaits);
        let waiting = self.rendezvous.tracks.iter().flat_map(|index| &tracks[index.0].waiting);
        let own = waiting.filter(|waiting| waiting.key.peer == peer).count();
        let all = self.rendezvous_count() + self.mesh.rendezvous_count();
        self.config.rendezvous_max <= all || self.config.session_rendezvous_max <= own
    }

    /// Requests of this shard that wait for a publisher to come.
    pub(super) fn rendezvous_count(&self) -> usize {
        let tracks = self.rendezvous.tracks.iter().filter_map(|index| self.tracks.get(index.0));
        tracks.filter(|track| track.awaits_publisher()).map(|track| track.waiting.len()).sum()
    }

    /// Notes that a track's requests wait for a publisher to come.
    pub(super) fn note_rendezvous(&mut self, index: TrackIndex) {
        self.rendezvous.tracks.insert(index);
    }

    /// Those who were asked for a track do not send it; requests that may wait for another publisher
    /// do, as far as there is room.
    pub(super) fn fall_back_to_rendezvous(&mut self, index: TrackIndex) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        // Counted anew one by one: each waits only if there is room beside those before it.
        let waiting = std::mem::take(&mut track.waiting);
        self.note_rendezvous(index);
        let mut refused: Vec<RequestKey> = Vec::new();
        for entry in waiting {
            if self.rendezvous_is_full(entry.key.peer) {
                refused.push(entry.key);
            }
            self.note_rendezvous(index);
            self.tracks[index.0].waiting.push_back(entry);
        }
        for key in refused {
            self.refuse_waiting(index, key, RequestCode::EXCESSIVE_LOAD, TOO_MANY);
        }
    }
}

/// Why a request may not wait.
pub(super) const TOO_MANY: &str = "too many requests wait for a publisher to come";

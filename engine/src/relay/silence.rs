//! Upstream relays that have fallen silent: what they send is asked of others before it is known
//! whether they are dead, and they are left as soon as another one sends it. Where there is no other
//! one, nothing changes.

use std::time::Instant;

use super::{
    Relay,
    namespace_tree::RequestKey,
    peer::{Owner, PeerIndex},
    track::TrackIndex,
};

impl Relay {
    /// Nothing has come from a relay for longer than answers take, or something comes again.
    pub(super) fn note_silence(&mut self, peer: PeerIndex, is_silent: bool, now: Instant) {
        let Some(entry) = self.peers.get_mut(peer.0) else { return };
        entry.is_silent = is_silent;
        tracing::info!(session = %entry.id, is_silent, "upstream relay");
        if !is_silent {
            return;
        }
        for key in self.requests_of(peer) {
            let Some(Owner::Upstream(index)) = self.peers[peer.0].requests.get(&key.request) else {
                continue;
            };
            let index = *index;
            self.tell_shards_of_leaving(index);
            if self.tracks.get(index.0).is_some_and(|track| track.has_demand()) {
                self.ask_publishers(index, None, now);
            }
            self.leave_silent(index, now);
        }
    }

    /// Whether a session answers, as far as is known.
    pub(super) fn answers(&self, peer: PeerIndex) -> bool {
        self.peers.get(peer.0).is_some_and(|peer| !peer.is_silent)
    }

    /// Leaves the silent ones of a track's publishers, if another one sends it: until they are known
    /// to be dead, the rest of what they were in the midst of would be waited for.
    pub(super) fn leave_silent(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let (answering, silent): (Vec<_>, Vec<_>) =
            track.upstreams.iter().partition(|upstream| self.answers(upstream.key.peer));
        if silent.is_empty() || !answering.iter().any(|upstream| upstream.established) {
            return;
        }
        let silent: Vec<RequestKey> = silent.iter().map(|upstream| upstream.key).collect();
        self.leave_upstreams(index, now, |upstream| silent.contains(&upstream.key));
    }
}

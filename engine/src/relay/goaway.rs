//! Publishers that go away: others are asked for their tracks before they are left.

use std::time::{Duration, Instant};

use aip_codec::{Version, moqt::id::RequestId};
use bytes::Bytes;

use super::{
    Relay,
    namespace_tree::RequestKey,
    peer::{Owner, PeerIndex},
    track::{Track, TrackIndex, Upstream},
};
use crate::transport::Move;

/// How long a publisher that goes away is still listened to once another one sends its track: what
/// it had begun to send comes from nobody else.
const OVERLAP: Duration = Duration::from_secs(1);

impl Relay {
    /// A peer says that it is going away, or that one request is to be made anew. What it is to
    /// send us is asked of others, or of itself once more if only the request is meant.
    pub(super) fn goaway_received(
        &mut self,
        peer: PeerIndex,
        request: Option<RequestId>,
        uri: Bytes,
        now: Instant,
    ) {
        let Some(entry) = self.peers.get(peer.0) else { return };
        tracing::debug!(session = %entry.id, ?request, "peer is going away");
        if let Some(target) = entry.transport.target
            && request.is_none()
            && !uri.is_empty()
        {
            self.moves.push_back(Move { target, uri });
        }
        let keys: Vec<RequestKey> = match request {
            Some(request) => vec![RequestKey { peer, request }],
            None => self.requests_of(peer),
        };
        for key in keys {
            let Some(Owner::Upstream(index)) = self.peers[peer.0].requests.get(&key.request) else {
                continue;
            };
            self.move_upstream(*index, key, now);
        }
    }

    /// The requests of a session, of either side, in order.
    pub(super) fn requests_of(&self, peer: PeerIndex) -> Vec<RequestKey> {
        #[expect(clippy::disallowed_methods, reason = "sorted before it is used")]
        let requests = self.peers[peer.0].requests.keys();
        let mut keys: Vec<_> =
            requests.map(|request| RequestKey { peer, request: *request }).collect();
        keys.sort_unstable();
        keys
    }

    /// Asks for a track again, since whoever sends it to us by this request will not for long.
    fn move_upstream(&mut self, index: TrackIndex, key: RequestKey, now: Instant) {
        let by_relay = self.is_relays_publication(key);
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let has_demand = track.has_demand();
        let upstream = track.upstream_mut(key);
        let Some(upstream) = upstream.filter(|upstream| !upstream.by_publish || by_relay) else {
            return;
        };
        upstream.is_leaving = true;
        self.tell_shards_of_leaving(index);
        if has_demand {
            self.ask_publishers(index, None, now);
        }
        // Another one may be there already.
        self.leave_after_overlap(index, now);
    }

    /// Another relay is there, or has told of a namespace: it is asked for tracks that come only from
    /// those who go away.
    pub(super) fn replace_leaving(&mut self, now: Instant) {
        let is_left = |track: &Track| {
            !track.upstreams.is_empty()
                && track.upstreams.iter().all(|upstream| upstream.is_leaving)
                && track.has_demand()
        };
        let left = self.tracks.iter().filter(|(_, track)| is_left(track));
        let left: Vec<TrackIndex> = left.map(|(index, _)| TrackIndex(index)).collect();
        for index in left {
            self.ask_publishers(index, None, now);
        }
    }

    /// Other shards that have a track from here look for other publishers, too, unless this shard
    /// has one that stays and answers.
    pub(super) fn tell_shards_of_leaving(&mut self, index: TrackIndex) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let stays = |it: &Upstream| !it.is_shard && !it.is_leaving && self.answers(it.key.peer);
        if track.upstreams.iter().any(stays) {
            return;
        }
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let untold = track.subscribers.iter_mut().filter_map(|(_, subscriber)| {
            let is_new = !std::mem::replace(&mut subscriber.told_of_leaving, true);
            (subscriber.is_shard && is_new).then_some(subscriber.key)
        });
        let keys: Vec<RequestKey> = untold.collect();
        for key in keys {
            if let Some(session) = self.session(key.peer) {
                session.request_goaway(key.request, 0);
            }
            self.answered.push_back(key.peer);
        }
    }

    /// A publisher has come beside one that goes away: that one is left after a while.
    pub(super) fn leave_after_overlap(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if track.leave_at.is_none() && track.has_replacement() {
            track.leave_at = Some(now + OVERLAP);
            self.arm_track_timer(index, now + OVERLAP);
        }
    }

    /// Leaves the publishers that go away, if the time has come and another one is there.
    pub(super) fn leave_those_going_away(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if track.leave_at.is_none_or(|when| now < when) {
            return;
        }
        track.leave_at = None;
        if track.has_replacement() {
            self.leave_upstreams(index, now, |upstream| upstream.is_leaving);
        }
    }

    /// Whether a session is asked for a track already, and need not be once more. Draft 18 has one
    /// subscription for each track.
    pub(super) fn is_asked(&self, index: TrackIndex, peer: PeerIndex) -> bool {
        let takes_one = self.peers[peer.0].session.version() == Version::Draft18
            || self.peers[peer.0].is_shard();
        let mut upstreams = self.tracks[index.0].upstreams.iter();
        upstreams.any(|upstream| upstream.key.peer == peer && (takes_one || !upstream.is_leaving))
    }
}

impl Track {
    /// Whether it comes from another shard that has said that it will not for long: it is of no use
    /// to ask it again.
    pub(super) fn is_left_by_shard(&self, shard: PeerIndex) -> bool {
        let mut upstreams = self.upstreams.iter().filter(|upstream| upstream.is_shard);
        upstreams.any(|upstream| upstream.is_leaving && upstream.key.peer == shard)
    }

    /// Whether somebody goes away and somebody else sends the track.
    fn has_replacement(&self) -> bool {
        self.upstreams.iter().any(|upstream| upstream.is_leaving)
            && self.upstreams.iter().any(|upstream| upstream.established && !upstream.is_leaving)
    }
}

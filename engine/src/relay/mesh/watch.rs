//! Tracks of other shards, and of other relays, on their way to who wants every track under a prefix.

use std::time::Instant;

use aip_codec::moqt::name::FullTrackName;

use super::super::{
    Relay,
    namespace_tree::{Interest, RequestKey},
    track::TrackIndex,
};

impl Relay {
    /// Publishes a track that is published to another shard or offered by another relay: to one who
    /// wants every track under a prefix, or to all of them. Nothing, if there is none.
    pub(in crate::relay) fn publish_from_elsewhere(
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
    pub(in crate::relay) fn publish_watched(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        if std::mem::take(&mut track.is_watched) {
            self.publish_watched_now(index, now);
        }
    }

    fn publish_watched_now(&mut self, index: TrackIndex, now: Instant) {
        let namespace = self.tracks[index.0].name.namespace();
        for watcher in self.namespaces.interested_in(namespace, Interest::Tracks) {
            let track = &self.tracks[index.0];
            let has_asked = track.waiting.iter().any(|it| it.key.peer == watcher.peer);
            if !has_asked && !track.has_upstream_in(watcher.peer) {
                self.publish_to(index, watcher, now);
                self.answered.push_back(watcher.peer);
            }
        }
    }

    /// The track of this name, begun if there is room.
    pub(in crate::relay) fn track_to_publish(
        &mut self,
        name: &FullTrackName,
    ) -> Option<TrackIndex> {
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

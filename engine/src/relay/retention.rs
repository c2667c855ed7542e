//! Which cached groups are kept: a budget of bytes over all tracks, groups for each, and an age.

use std::time::Instant;

use super::{Relay, track::TrackIndex};

impl Relay {
    /// Accounts for what was put into a track's cache, and makes room if that was too much.
    pub(super) fn note_cached(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        for group in track.cache.take_new_groups() {
            self.cached_groups.push_back((now, index, track.alias, group));
        }
        while self.config.cache_groups_max < track.cache.group_count() {
            let Some((oldest, _)) = track.cache.oldest_group() else { break };
            track.cache.evict(oldest);
        }
        self.account(index);
        self.evict(now);
    }

    /// Brings the relay's account in step with a track's cache.
    pub(super) fn account(&mut self, index: TrackIndex) {
        if let Some(track) = self.tracks.get_mut(index.0) {
            self.cached_bytes = self.cached_bytes + track.cache.size() - track.accounted;
            track.accounted = track.cache.size();
        }
    }

    /// Forgets groups, oldest first, that are too old or too much. The newest group of a track that
    /// has a publisher stays: late joiners begin there.
    pub(super) fn evict(&mut self, now: Instant) {
        let mut kept = 0;
        while let Some(&(since, index, alias, group)) = self.cached_groups.front() {
            let too_old = since + self.config.cache_age_max <= now;
            let too_much = self.config.cache_bytes_max < self.cached_bytes;
            if !too_old && !too_much || self.cached_groups.len() <= kept {
                break;
            }
            self.cached_groups.pop_front();
            let Some(track) = self.tracks.get_mut(index.0).filter(|track| track.alias == alias)
            else {
                continue;
            };
            let is_live_edge = !track.upstreams.is_empty()
                && track.largest.is_some_and(|largest| largest.group == group);
            if is_live_edge {
                self.cached_groups.push_back((now, index, alias, group));
                kept += 1;
            } else {
                track.cache.evict(group);
                self.service.counters.cache_evictions_total += 1;
                self.account(index);
            }
        }
    }
}

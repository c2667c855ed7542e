//! Which cached groups are kept: a budget of bytes over all tracks, groups for each, and an age.
//!
//! A track's newest group, where late joiners begin, outlives the others: the budget takes it last,
//! and first only its oldest objects. Age does not take it at all.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use aip_codec::moqt::id::GroupId;

use super::{Relay, track::TrackIndex};

/// How long objects rest where they were received before they are copied together.
const SETTLING: Duration = Duration::from_secs(5);

/// The account of what all tracks have cached, and the order in which it is forgotten.
#[derive(Debug, Default)]
pub(super) struct Retention {
    bytes: usize,
    next: u64,
    /// Groups by age, oldest first, but for the newest of each track.
    old: BTreeMap<u64, Entry>,
    /// The newest group of each track.
    edges: BTreeMap<u64, Entry>,
    /// Groups with objects that still lie where they were received, and when they are looked at.
    settling: VecDeque<(Instant, u64)>,
}

/// A cached group.
#[derive(Clone, Copy, Debug)]
struct Entry {
    since: Instant,
    track: TrackIndex,
    group: GroupId,
}

impl Retention {
    /// Bytes of cached objects, with what holding them costs.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Groups cached.
    pub(super) fn groups(&self) -> usize {
        self.old.len() + self.edges.len()
    }

    /// When something is to be done, if nothing comes before.
    pub(super) fn next_timeout(&self, age_max: Duration) -> Option<Instant> {
        let old = self.old.first_key_value().map(|(_, entry)| entry.since + age_max);
        let settled = self.settling.front().map(|(when, _)| *when);
        old.into_iter().chain(settled).min()
    }

    fn begin(&mut self, entry: Entry) -> u64 {
        let order = self.next;
        self.next += 1;
        self.old.insert(order, entry);
        order
    }

    /// Notes which group is a track's newest, instead of another.
    fn set_edge(&mut self, edge: u64, before: Option<u64>) {
        if let Some(before) = before
            && let Some(entry) = self.edges.remove(&before)
        {
            self.old.insert(before, entry);
        }
        if let Some(entry) = self.old.remove(&edge) {
            self.edges.insert(edge, entry);
        }
    }

    fn forget(&mut self, order: u64) {
        self.old.remove(&order);
        self.edges.remove(&order);
    }

    fn entry(&self, order: u64) -> Option<Entry> {
        self.old.get(&order).or_else(|| self.edges.get(&order)).copied()
    }
}

impl Relay {
    /// Accounts for what was put into a track's cache, and makes room if that was too much.
    pub(super) fn note_cached(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        for group in track.cache.take_changed() {
            let order = match track.cache.order_of(group) {
                Some(order) => order,
                None => {
                    let order = self.retention.begin(Entry { since: now, track: index, group });
                    track.cache.set_order(group, order);
                    order
                }
            };
            self.retention.settling.push_back((now + SETTLING, order));
        }
        let edge = track.cache.edge().and_then(|group| track.cache.order_of(group));
        if let Some(edge) = edge.filter(|_| edge != track.edge) {
            self.retention.set_edge(edge, track.edge);
        }
        track.edge = edge;
        while self.config.cache_groups_max.max(1) < track.cache.group_count() {
            let oldest = track.cache.orders().filter(|order| Some(*order) != track.edge).min();
            let Some(entry) = oldest.and_then(|order| self.retention.entry(order)) else { break };
            if let Some(order) = track.cache.evict(entry.group) {
                self.retention.forget(order);
            }
        }
        self.account(index);
        self.evict(now);
    }

    /// Brings the relay's account in step with a track's cache.
    pub(super) fn account(&mut self, index: TrackIndex) {
        if let Some(track) = self.tracks.get_mut(index.0) {
            self.retention.bytes = self.retention.bytes + track.cache.size() - track.accounted;
            track.accounted = track.cache.size();
        }
    }

    /// Gives back what a track holds that is about to be forgotten.
    pub(super) fn release_cache(&mut self, index: TrackIndex) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        self.retention.bytes -= std::mem::take(&mut track.accounted);
        for order in track.cache.orders() {
            self.retention.forget(order);
        }
    }

    /// Forgets groups, oldest first, that are too old or too much.
    pub(super) fn evict(&mut self, now: Instant) {
        let age_max = self.config.cache_age_max;
        while let Some((&order, entry)) = self.retention.old.first_key_value()
            && (entry.since + age_max <= now || self.excess() != 0)
        {
            self.evict_group(order);
        }
        if self.excess() == 0 {
            return;
        }
        // Rather more than has to be, so that it is not to be done again at once.
        let low = self.config.cache_bytes_max - self.config.cache_bytes_max / 16;
        let edges: Vec<(u64, Entry)> =
            self.retention.edges.iter().map(|(order, entry)| (*order, *entry)).collect();
        for (_, entry) in &edges {
            let excess = self.retention.bytes.saturating_sub(low);
            if excess == 0 {
                return;
            }
            if let Some(track) = self.tracks.get_mut(entry.track.0) {
                track.cache.trim(entry.group, excess);
            }
            self.account(entry.track);
        }
        for (order, _) in edges {
            if self.excess() == 0 {
                return;
            }
            self.evict_group(order);
        }
    }

    /// Bytes held beyond the budget.
    const fn excess(&self) -> usize {
        self.retention.bytes.saturating_sub(self.config.cache_bytes_max)
    }

    fn evict_group(&mut self, order: u64) {
        let Some(entry) = self.retention.entry(order) else { return };
        self.retention.forget(order);
        if let Some(track) = self.tracks.get_mut(entry.track.0) {
            track.cache.evict(entry.group);
            self.service.counters.cache_evictions_total += 1;
            track.edge = track.edge.filter(|edge| *edge != order);
        }
        self.account(entry.track);
    }

    /// Copies small objects that have rested for a while out of the large chunks that they were
    /// received into: a chunk is otherwise kept whole by the least that lies in it.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(&(when, order)) = self.retention.settling.front()
            && when <= now
        {
            self.retention.settling.pop_front();
            let Some(entry) = self.retention.entry(order) else { continue };
            let Some(track) = self.tracks.get_mut(entry.track.0) else { continue };
            let is_settled = track.cache.compact(entry.group);
            self.account(entry.track);
            if !is_settled {
                self.retention.settling.push_back((now + SETTLING, order));
            }
        }
    }
}

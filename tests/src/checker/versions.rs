//! Versions of tracks, whole: each once to each subscription, newer after older, none altered.
//! One that a newer one overtakes on the way is not told, since nobody wants it any more.

use std::collections::BTreeMap;

use aip_engine::client::{SubscriptionId, TrackVersion};
use bytes::Bytes;

/// A subscription or read of one client.
type Key = (usize, SubscriptionId);

#[derive(Debug)]
struct Subscription {
    track: u64,
    is_read: bool,
    groups: Vec<u64>,
    ended: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Versions {
    published: BTreeMap<(u64, u64), Vec<Bytes>>,
    newest: BTreeMap<u64, u64>,
    subscriptions: BTreeMap<Key, Subscription>,
}

impl Versions {
    /// An origin has a new version.
    pub fn published(&mut self, track: u64, version: &TrackVersion) {
        let group = version.group.0;
        self.published.insert((track, group), version.objects.clone());
        self.newest.insert(track, group);
    }

    /// A client subscribes, or reads.
    pub fn subscribed(&mut self, client: usize, id: SubscriptionId, track: u64, is_read: bool) {
        let entry = Subscription { track, is_read, groups: Vec::new(), ended: false };
        self.subscriptions.insert((client, id), entry);
    }

    /// A client ends a subscription.
    pub fn unsubscribed(&mut self, client: usize, id: SubscriptionId) {
        self.subscriptions.remove(&(client, id));
    }

    /// A client was told that a subscription is over.
    ///
    /// # Panics
    /// If it was over before.
    pub fn ended(&mut self, client: usize, id: SubscriptionId) {
        let entry = self.subscriptions.get_mut(&(client, id)).expect("it was subscribed");
        assert!(!entry.ended, "client {client}: {id:?} ended twice");
        entry.ended = true;
    }

    /// A client was told a version.
    ///
    /// # Panics
    /// If nobody published it, or it comes twice, late, or after the end.
    pub fn delivered(&mut self, client: usize, id: SubscriptionId, version: &TrackVersion) {
        let entry = self.subscriptions.get_mut(&(client, id)).expect("it was subscribed");
        let (track, group) = (entry.track, version.group.0);
        assert!(!entry.ended, "client {client}: {id:?} got {group} after its end");
        let published = self.published.get(&(track, group));
        let published = published.unwrap_or_else(|| panic!("nobody published {track}/{group}"));
        assert_eq!(published, &version.objects, "{track}/{group} was altered");
        let last = entry.groups.last().copied();
        assert!(last < Some(group), "client {client}: {id:?} got {group} after {last:?}");
        entry.groups.push(group);
        entry.ended = entry.is_read;
    }

    /// Tracks whose subscription of this client lives.
    pub fn live(&self, client: usize) -> BTreeMap<SubscriptionId, u64> {
        self.subscriptions
            .iter()
            .filter(|((owner, _), entry)| *owner == client && !entry.ended)
            .map(|((_, id), entry)| (*id, entry.track))
            .collect()
    }

    /// Every subscription that lives has the newest version, and no read still waits.
    ///
    /// # Panics
    /// If one has not.
    pub fn check_settled(&self) {
        for ((client, id), entry) in self.subscriptions.iter().filter(|(_, entry)| !entry.ended) {
            assert!(!entry.is_read, "client {client}: read {id:?} waits for ever");
            let newest = self.newest.get(&entry.track).copied();
            assert_eq!(
                entry.groups.last().copied(),
                newest,
                "client {client}: {id:?} of track {} has not the newest",
                entry.track
            );
        }
    }
}

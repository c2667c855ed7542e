//! Track aliases that the peer has chosen, for the tracks that we receive from it.

use std::collections::BTreeMap;

use aip_codec::moqt::{
    id::{RequestId, TrackAlias},
    name::FullTrackName,
};

use super::error::Misbehavior;

/// Which track an alias means, and which of our subscriptions use it.
#[derive(Debug, Default)]
pub(crate) struct TrackAliases {
    table: BTreeMap<TrackAlias, Entry>,
}

#[derive(Debug)]
struct Entry {
    track: FullTrackName,
    subscriptions: Vec<RequestId>,
}

impl TrackAliases {
    /// Notes that `alias` carries `track` for `subscription`.
    pub(crate) fn insert(
        &mut self,
        alias: TrackAlias,
        track: &FullTrackName,
        subscription: RequestId,
    ) -> Result<(), Misbehavior> {
        let entry = self
            .table
            .entry(alias)
            .or_insert_with(|| Entry { track: track.clone(), subscriptions: Vec::new() });
        if entry.track != *track {
            return Err(Misbehavior::DuplicateTrackAlias);
        }
        entry.subscriptions.push(subscription);
        Ok(())
    }

    /// Forgets a subscription; the alias goes with its last one.
    pub(crate) fn remove(&mut self, alias: TrackAlias, subscription: RequestId) {
        if let Some(entry) = self.table.get_mut(&alias) {
            entry.subscriptions.retain(|&other| other != subscription);
            if entry.subscriptions.is_empty() {
                self.table.remove(&alias);
            }
        }
    }

    pub(crate) fn contains(&self, alias: TrackAlias) -> bool {
        self.table.contains_key(&alias)
    }

    /// Our subscriptions that an alias serves, oldest first.
    pub(crate) fn subscriptions(&self, alias: TrackAlias) -> &[RequestId] {
        self.table.get(&alias).map_or(&[], |entry| &entry.subscriptions)
    }
}

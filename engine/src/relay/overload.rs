//! What waits for all sessions together, and whose requests are too many.
//!
//! Every level is the sum of the one below: subscriptions and other streams make a session, the
//! sessions of one address an identity, all sessions the relay. Each level has a limit; above it
//! the least important and heaviest of what waits is given up, and nothing else.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use aip_codec::moqt::error_code::{PublishDoneCode, RequestCode, ResetCode};
use slab::Slab;

use super::{
    Relay,
    config::Rate,
    namespace_tree::RequestKey,
    peer::{Owner, PeerIndex},
};
use crate::{account::Account, session::Request};

/// Identities without sessions that are remembered for their debts, beside twice the sessions.
const IDENTITIES_SPARE: usize = 1_024;

/// What waits, and what was given up or refused since the relay began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Load {
    /// What waits for all sessions.
    pub queued: Account,
    /// Subscriptions ended TOO_FAR_BEHIND.
    pub subscriptions_behind_total: u64,
    /// FETCH responses and calls given up because of a limit.
    pub answers_given_up_total: u64,
    /// Requests and updates refused because there were too many in too short a time.
    pub requests_refused_total: u64,
}

/// Above the sessions: identities, and the relay.
#[derive(Debug, Default)]
pub(super) struct Levels {
    load: Load,
    /// Whether the process has hardly any memory left.
    pub(super) is_memory_short: bool,
    /// Each session holds its place here.
    identities: Slab<Identity>,
    by_address: HashMap<IpAddr, usize>,
}

/// Everyone at one address: there is no better proof of who it is.
#[derive(Debug)]
struct Identity {
    queued: Account,
    sessions: usize,
    requests: Bucket,
}

/// How many requests came lately.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// When the requests so far would have come at the rate that is allowed.
    paid_until: Instant,
}

impl Bucket {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { paid_until: now }
    }

    /// Whether one more may come.
    fn admit(&mut self, rate: Rate, now: Instant) -> bool {
        let Some(each) = Duration::from_secs(1).checked_div(rate.per_second) else { return true };
        let paid_until = self.paid_until.max(now) + each;
        let admitted = paid_until <= now + each.saturating_mul(rate.burst);
        if admitted {
            self.paid_until = paid_until;
        }
        admitted
    }
}

impl Relay {
    /// What waits, and what was given up or refused so far.
    pub const fn load(&self) -> Load {
        self.levels.load
    }

    /// Whether the account of every level is the sum of those below it. For tests: it looks at
    /// every stream of every session.
    pub fn accounts_add_up(&self) -> bool {
        let mut all = Account::ZERO;
        let mut by_address: HashMap<IpAddr, Account> = HashMap::new();
        let mut sessions_add_up = true;
        for (_, peer) in &self.peers {
            let account = peer.session.account();
            sessions_add_up &= peer.session.accounts_add_up() && peer.accounted == account;
            all += account;
            *by_address.entry(peer.transport.address.ip()).or_default() += account;
        }
        #[expect(clippy::disallowed_methods, reason = "each is looked at alone")]
        let identities_add_up = self.levels.by_address.iter().all(|(address, place)| {
            let queued = self.levels.identities.get(*place).map(|identity| identity.queued);
            by_address.get(address).copied().unwrap_or_default() == queued.unwrap_or_default()
        });
        sessions_add_up && identities_add_up && all == self.levels.load.queued
    }

    /// Bytes that wait for the address for whose sessions most do.
    pub(super) fn heaviest_identity_bytes(&self) -> usize {
        let identities = self.levels.identities.iter();
        identities.map(|(_, identity)| identity.queued.bytes).max().unwrap_or(0)
    }

    /// A session has begun.
    pub(super) fn join_levels(&mut self, index: PeerIndex, now: Instant) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let Levels { identities, by_address, .. } = &mut self.levels;
        let new = || Identity { queued: Account::ZERO, sessions: 0, requests: Bucket::new(now) };
        let place = by_address.entry(peer.transport.address.ip());
        peer.identity = *place.or_insert_with(|| identities.insert(new()));
        if let Some(identity) = identities.get_mut(peer.identity) {
            identity.sessions += 1;
        }
    }

    /// A session is over; nothing waits for it any more.
    pub(super) fn leave_levels(&mut self, index: PeerIndex, now: Instant) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let accounted = std::mem::take(&mut peer.accounted);
        let address = peer.transport.address.ip();
        self.levels.load.queued -= accounted;
        let is_needed = |it: &Identity| 0 < it.sessions || now < it.requests.paid_until;
        let Levels { identities, by_address, .. } = &mut self.levels;
        if let Some(identity) = identities.get_mut(peer.identity) {
            identity.queued -= accounted;
            identity.sessions -= 1;
            if !is_needed(identity) {
                identities.remove(peer.identity);
                by_address.remove(&address);
            }
        }
        if self.peers.len() * 2 + IDENTITIES_SPARE < identities.len() {
            identities.retain(|_, identity| is_needed(identity));
            by_address.retain(|_, place| identities.contains(*place));
        }
    }

    /// Brings all levels in step with what waits for a session, and relieves those that have too
    /// much.
    pub(super) fn settle_account(&mut self, index: PeerIndex) {
        if !self.take_account(index) {
            return;
        }
        while self.is_over(index) && self.relieve(index) {}
        let Some(peer) = self.peers.get(index.0) else { return };
        let identity = peer.identity;
        while self.is_identity_over(identity)
            && let Some(heaviest) = self.heaviest(|peer| peer.identity == identity)
            && self.relieve(heaviest)
        {}
        while self.config.queued_bytes_max < self.levels.load.queued.total()
            && let Some(heaviest) = self.heaviest(|_| true)
            && self.relieve(heaviest)
        {}
    }

    /// Brings all levels in step with what waits for a session. False if nothing has changed.
    pub(super) fn take_account(&mut self, index: PeerIndex) -> bool {
        let Some(peer) = self.peers.get_mut(index.0) else { return false };
        let account = peer.session.account();
        if account == peer.accounted {
            return false;
        }
        let before = std::mem::replace(&mut peer.accounted, account);
        let identity = self.levels.identities.get_mut(peer.identity);
        let identity = identity.map(|identity| &mut identity.queued);
        for level in identity.into_iter().chain([&mut self.levels.load.queued]) {
            *level += account;
            *level -= before;
        }
        true
    }

    fn is_over(&self, index: PeerIndex) -> bool {
        let peer = self.peers.get(index.0);
        peer.is_some_and(|peer| self.config.session_queued_bytes_max < peer.accounted.total())
    }

    fn is_identity_over(&self, identity: usize) -> bool {
        let identity = self.levels.identities.get(identity);
        identity.is_some_and(|it| self.config.identity_queued_bytes_max < it.queued.total())
    }

    /// The session of those for which most waits.
    fn heaviest(&self, of: impl Fn(&super::peer::Peer) -> bool) -> Option<PeerIndex> {
        let those = self.peers.iter().filter(|(_, peer)| of(peer));
        those.max_by_key(|(_, peer)| peer.accounted.total()).map(|(index, _)| PeerIndex(index))
    }

    /// Gives up the least important of what waits for a session; false if there is nothing to give
    /// up.
    fn relieve(&mut self, index: PeerIndex) -> bool {
        let Some(peer) = self.peers.get(index.0) else { return false };
        let relieved = if let Some(request) = peer.session.heaviest_subscriber() {
            self.end_behind(RequestKey { peer: index, request });
            true
        } else if let Some(request) = peer.session.heaviest_answer() {
            self.give_up_answer(RequestKey { peer: index, request })
        } else {
            false
        };
        self.take_account(index);
        relieved
    }

    /// Ends a subscription that cannot keep up.
    pub(super) fn end_behind(&mut self, key: RequestKey) {
        self.levels.load.subscriptions_behind_total += 1;
        let owner = self.peers.get(key.peer.0).and_then(|peer| peer.requests.get(&key.request));
        if let Some(&Owner::Subscriber { track, subscriber }) = owner {
            let now = self.peers[key.peer.0].session.clock();
            if self.peers[key.peer.0].is_shard() {
                // It subscribes anew, and fetches what it missed.
                self.cut_shard(track, subscriber);
            } else {
                self.end_subscriber(track, subscriber, PublishDoneCode::TOO_FAR_BEHIND);
            }
            // It may have been the last: nobody else would see to its track.
            self.update_linger(track, now);
            self.forget_track_if_unused(track);
        } else if let Some(session) = self.session(key.peer) {
            // Its track has ended, but not all of it has left.
            session.end_behind(key.request);
        }
    }

    /// Resets a FETCH's response or a call, for want of room.
    fn give_up_answer(&mut self, key: RequestKey) -> bool {
        let Some(peer) = self.peers.get(key.peer.0) else { return false };
        let owner = peer.requests.get(&key.request).cloned();
        self.levels.load.answers_given_up_total += 1;
        match owner {
            Some(Owner::Call { .. }) => self.call_lost(key),
            Some(Owner::Fetch { track, task }) => {
                self.disown(key);
                if let Some(track) = self.tracks.get_mut(track.0) {
                    track.tasks.remove(&task);
                }
                self.forget_track_if_unused(track);
            }
            _ => {}
        }
        let Some(session) = self.session(key.peer) else { return false };
        session.give_up_answer(key.request, ResetCode::EXCESSIVE_LOAD);
        true
    }

    /// Whether a session may ask for one more thing: neither it nor its address asks too often,
    /// and there is memory.
    /// Relays that we have dialled may always.
    pub(super) fn admits(&mut self, index: PeerIndex, now: Instant) -> bool {
        let is_full = self.is_mesh_congested() || self.levels.is_memory_short;
        let Some(peer) = self.peers.get_mut(index.0) else { return false };
        if peer.is_upstream_relay() || peer.is_shard() {
            return true;
        }
        let admitted = !is_full
            && peer.bucket.admit(self.config.session_request_rate, now)
            && self
                .levels
                .identities
                .get_mut(peer.identity)
                .is_none_or(|it| it.requests.admit(self.config.identity_request_rate, now));
        self.levels.load.requests_refused_total += u64::from(!admitted);
        admitted
    }

    /// Refuses a request, for there are too many.
    pub(super) fn refuse_excess(&mut self, key: RequestKey, body: &Request) {
        let reason = if self.levels.is_memory_short {
            "memory is short"
        } else {
            "too many requests in too short a time"
        };
        if matches!(body, Request::Call(_)) {
            if let Some(session) = self.session(key.peer) {
                session.refuse_call(key.request, RequestCode::EXCESSIVE_LOAD, reason);
            }
        } else {
            self.reject(key, RequestCode::EXCESSIVE_LOAD, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_admits_a_burst_and_then_its_rate() {
        #[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
        let now = Instant::now();
        let mut bucket = Bucket::new(now);
        let rate = Rate { per_second: 10, burst: 5 };
        let admitted =
            |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.admit(rate, at)).count();
        assert_eq!(admitted(&mut bucket, now), 5);
        assert_eq!(admitted(&mut bucket, now + Duration::from_millis(300)), 3);
        assert_eq!(admitted(&mut bucket, now + Duration::from_secs(60)), 5, "rest is not saved up");
        let unlimited = Rate { per_second: 0, burst: 0 };
        assert!(bucket.admit(unlimited, now));
    }
}

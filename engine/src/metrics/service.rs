//! What a relay shard counts: objects, requests, faults; and what it holds.

use std::sync::LazyLock;

use aip_codec::{
    DecodeError, Version, Violation,
    moqt::error_code::{PublishDoneCode, RequestCode},
};

use super::{description::counters, tally::Tally};
use crate::session::{Misbehavior, SessionError};

counters! {
    /// Numbers of a relay shard that have no labels.
    ServiceCounters {
        tracks: Gauge Count "tracks" "Tracks known.",
        namespaces: Gauge Count "namespaces" "Namespaces published, each publisher counted.",
        subscriptions: Gauge Count "subscriptions" "Subscriptions of peers to tracks.",
        upstream_subscriptions: Gauge Count "upstream_subscriptions" "Subscriptions to publishers, and tracks published to us.",
        requests: Gauge Count "requests" "Requests that are open, of either side.",
        cache_bytes: Gauge Bytes "cache" "Cached objects, as the cache's limit counts them.",
        cache_bytes_max: Gauge Bytes "cache_limit" "What the cache may hold.",
        cache_groups: Gauge Count "cache_groups" "Groups in the cache.",
        queued_cost: Gauge Bytes "queued_cost" "What waits for the network with what it costs to keep it, as the limit counts it.",
        queued_cost_max: Gauge Bytes "queued_limit" "What may wait for the network.",
        answers_given_up_total: Counter Count "answers_given_up" "Answers to FETCH and calls given up because too much waited.",
        requests_over_rate_total: Counter Count "requests_over_rate" "Requests and updates refused because they came too often.",
        namespaces_ignored_total: Counter Count "namespaces_ignored" "Namespaces that upstream relays told of beyond what is kept.",
        track_watches_ignored_total: Counter Count "track_watches_ignored" "Prefixes whose tracks are wanted here and that another relay was not asked for, being too many.",
        cache_evictions_total: Counter Count "cache_evictions" "Groups forgotten to make room, or for their age.",
        objects_received_total: Counter Count "objects_received" "Objects that came from publishers.",
        object_bytes_received_total: Counter Bytes "objects_received" "Payload of objects that came from publishers.",
        objects_forwarded_total: Counter Count "objects_forwarded" "Objects sent to subscribers as they came; each subscriber counts.",
        object_bytes_forwarded_total: Counter Bytes "objects_forwarded" "Their payload; each subscriber counts.",
        objects_to_workers_total: Counter Count "objects_to_workers" "Objects that one worker handed to another; each of the others counts.",
        worker_datagrams_dropped_total: Counter Count "worker_datagrams_dropped" "Datagrams for another worker for which too many waited.",
        worker_links_lost_total: Counter Count "worker_links_lost" "Links between workers that had to be made anew: a fault of this program.",
        objects_fetched_total: Counter Count "objects_fetched" "Objects that came in answer to our FETCHes.",
    }
}

/// Why an object went no further.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Drop {
    /// Another publisher brought it before.
    Duplicate,
    /// Its track is malformed by it.
    Malformed,
    /// It belongs to no track that we receive.
    Unwanted,
}

impl Drop {
    const ALL: [Self; 3] = [Self::Duplicate, Self::Malformed, Self::Unwanted];

    /// Its name, as a label of counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "Duplicate",
            Self::Malformed => "Malformed",
            Self::Unwanted => "Unwanted",
        }
    }
}

/// What a relay shard counts and holds. Labels come from closed vocabularies; nothing that a peer
/// says becomes one.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Service {
    /// Numbers without labels.
    pub counters: ServiceCounters,
    /// Sessions up, by draft.
    pub sessions: Tally,
    /// Bytes that wait for the network, by level of the account: `relay` is all of them,
    /// `identity_max` those of the address with most, `session_max` those of the session with most.
    pub queued_bytes: Tally,
    /// Requests received, by message.
    pub requests_received: Tally,
    /// Requests refused, by code.
    pub requests_refused: Tally,
    /// Subscriptions of peers ended by us, by code.
    pub subscriptions_ended: Tally,
    /// Objects dropped, by [`Drop`].
    pub objects_dropped: Tally,
    /// Sessions closed for the peer's fault, by [`Violation`] or [`Misbehavior`]; each place that
    /// checks has its own.
    pub violations: Tally,
}

/// The label of a message that ends too early.
const INCOMPLETE: &str = "Incomplete";

impl Default for Service {
    fn default() -> Self {
        // A fuzzer makes thousands of relays a second: sorting the names for each took a fifth of that.
        static ZERO: LazyLock<Service> = LazyLock::new(Service::zero);
        ZERO.clone()
    }
}

/// The messages that begin a request.
const REQUESTS: [&str; 8] = [
    "SUBSCRIBE",
    "PUBLISH",
    "FETCH",
    "TRACK_STATUS",
    "PUBLISH_NAMESPACE",
    "SUBSCRIBE_NAMESPACE",
    "SUBSCRIBE_TRACKS",
    "CALL",
];

impl Service {
    fn zero() -> Self {
        let violations = Violation::ALL.iter().map(|violation| violation.name());
        let misbehaviors = Misbehavior::ALL.iter().map(|misbehavior| misbehavior.name());
        Self {
            counters: ServiceCounters::default(),
            sessions: Tally::of(Version::PREFERENCE.map(Version::alpn)),
            queued_bytes: Tally::of(["relay", "identity_max", "session_max"]),
            requests_received: Tally::of(REQUESTS),
            requests_refused: Tally::of(RequestCode::ALL.iter().map(|code| code.name())),
            subscriptions_ended: Tally::of(PublishDoneCode::ALL.iter().map(|code| code.name())),
            objects_dropped: Tally::of(Drop::ALL.map(Drop::name)),
            violations: Tally::of(violations.chain(misbehaviors).chain([INCOMPLETE])),
        }
    }

    /// A session was closed for the peer's fault.
    pub fn note_fault(&mut self, fault: SessionError) {
        self.violations.count(match fault {
            SessionError::Malformed(DecodeError::Violation(violation)) => violation.name(),
            SessionError::Malformed(DecodeError::Incomplete) => INCOMPLETE,
            SessionError::Misbehaved(misbehavior) => misbehavior.name(),
        });
    }

    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.sessions.add(&other.sessions);
        let session_max =
            self.queued_bytes.get("session_max").max(other.queued_bytes.get("session_max"));
        self.queued_bytes.add(&other.queued_bytes);
        self.queued_bytes.set("session_max", session_max);
        self.requests_received.add(&other.requests_received);
        self.requests_refused.add(&other.requests_refused);
        self.subscriptions_ended.add(&other.subscriptions_ended);
        self.objects_dropped.add(&other.objects_dropped);
        self.violations.add(&other.violations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_has_a_label_of_its_own() {
        let mut service = Service::default();
        let labels = service.violations.iter().count();
        assert_eq!(labels, Violation::ALL.len() + Misbehavior::ALL.len() + 1, "two share a name");
        service.note_fault(Misbehavior::SecondSetup.into());
        service.note_fault(Violation::TrailingBytes.into());
        service.note_fault(DecodeError::Incomplete.into());
        assert_eq!(service.violations.iter().count(), labels);
        for label in ["SecondSetup", "TrailingBytes", INCOMPLETE] {
            assert_eq!(service.violations.get(label), 1, "{label}");
        }
    }
}

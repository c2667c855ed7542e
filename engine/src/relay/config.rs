//! Limits of one relay shard. Whatever grows has one here.

use std::time::Duration;

use crate::session;

/// Limits of a relay. At each limit something defined happens, and is counted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Limits and offers of each session. MAX_FILTER_RANGES (`filter_ranges_max`) is 64.
    pub session: session::Config,
    /// What the ids of calls' spans are made of, another number in each shard and process; `None`
    /// traces no calls. `None`.
    pub trace_seed: Option<u64>,
    /// Tracks known at one time; a request for one more gets EXCESSIVE_LOAD. 100,000.
    pub tracks_max: usize,
    /// What a way through another relay costs more than that relay's own (COST). 1.
    pub link_cost: u64,
    /// Publishers of one track at one time; of more, a PUBLISH gets EXCESSIVE_LOAD and the others are
    /// not asked. 64.
    pub track_publishers_max: usize,
    /// Namespaces published at one time, over all sessions; one more gets EXCESSIVE_LOAD. 1,000,000.
    pub namespaces_max: usize,
    /// Namespaces that one session may publish; one more gets EXCESSIVE_LOAD. 10,000.
    pub session_namespaces_max: usize,
    /// Namespaces that one upstream relay may tell of; of more nothing is known here until it tells
    /// of them again, and they are counted. 100,000.
    pub upstream_namespaces_max: usize,
    /// SUBSCRIBE_NAMESPACE and SUBSCRIBE_TRACKS of one session; one more gets EXCESSIVE_LOAD. 1,000.
    pub session_watches_max: usize,
    /// Namespaces under the prefix of a SUBSCRIBE_NAMESPACE or SUBSCRIBE_TRACKS when it comes, if not
    /// from another relay; of more it gets NAMESPACE_TOO_LARGE. 100,000.
    pub watched_namespaces_max: usize,
    /// SUBSCRIBE_TRACKS that one other relay is asked for what is wanted here; of more prefixes it is
    /// asked nothing, and they are counted. 1,000.
    pub relay_watches_max: usize,
    /// Tracks published to one session at one time, for its SUBSCRIBE_TRACKS; of one more it is told
    /// PUBLISH_SKIPPED. As many are remembered that other relays offer. 10,000.
    pub session_publications_max: usize,
    /// Requests of one session that may wait for a publisher; one more gets EXCESSIVE_LOAD. 1,000.
    pub session_waiting_max: usize,
    /// SUBSCRIBEs that may wait for a publisher to come while nobody can be asked; one more gets
    /// EXCESSIVE_LOAD. 128.
    pub rendezvous_max: usize,
    /// The same of one session. 64.
    pub session_rendezvous_max: usize,
    /// Redirects of publishers that are remembered; one more is passed on and forgotten. 1,000.
    pub redirects_max: usize,
    /// How long a redirect is remembered at most, whatever its publisher says. 10 min.
    pub redirect_age_max: Duration,
    /// Longest wait of a SUBSCRIBE for its publisher (RENDEZVOUS_TIMEOUT is cut to it). 30 s.
    pub rendezvous_timeout_max: Duration,
    /// How long an upstream subscription outlives its last subscriber. 30 s.
    pub linger: Duration,
    /// Longest wait for an upstream publisher's answer, or for the next thing of what it sends in
    /// answer to a FETCH; then TIMEOUT. 10 s.
    pub upstream_timeout: Duration,
    /// Fills that one subscription may have under way; one more is reset EXCESSIVE_LOAD. 8.
    pub subscription_fills_max: usize,
    /// Bytes that a FETCH response or a call keeps waiting for the network. 256 KiB.
    pub stream_queued_bytes_max: usize,
    /// Bytes that may wait for one session, with what it costs to keep them; above it the least
    /// important and heaviest subscription ends TOO_FAR_BEHIND, or, if there is none, the heaviest
    /// answer is reset EXCESSIVE_LOAD. 16 MiB.
    pub session_queued_bytes_max: usize,
    /// The same for all sessions of one address. 128 MiB; each worker has an equal part of it, but
    /// no less than one session may have.
    pub identity_queued_bytes_max: usize,
    /// The same for all sessions. 512 MiB; each worker has an equal part of it.
    pub queued_bytes_max: usize,
    /// Requests and updates that one session may make; one more gets EXCESSIVE_LOAD. 10,000 a
    /// second, 20,000 at once.
    pub session_request_rate: Rate,
    /// The same for all sessions of one address. 50,000 a second, 100,000 at once; each worker has an
    /// equal part of it, but no less than one session may have.
    pub identity_request_rate: Rate,
    /// Bytes of cached objects over all tracks, with what holding them costs (about 256 bytes for an
    /// object and 1 KiB for a group). The oldest groups go first, a track's newest last. 256 MiB; each
    /// worker has an equal part of it.
    pub cache_bytes_max: usize,
    /// Groups cached for each track; the one that came first goes. 256.
    pub cache_groups_max: usize,
    /// Age at which a cached group is forgotten; the newest of a live track is kept. 10 min.
    pub cache_age_max: Duration,
}

impl Config {
    /// What one of so many shards of a relay may have of it. Memory is shared out, so that all
    /// together hold no more than one would. What shards tell each other is counted together:
    /// publishers of a track, and requests that wait for one. Limits of sessions, of tracks and of
    /// namespaces hold for each shard.
    #[must_use]
    pub(crate) fn share(&self, shards: usize) -> Self {
        if shards <= 1 {
            return self.clone();
        }
        let rate = |all: Rate, one: Rate| {
            let count = u32::try_from(shards).unwrap_or(u32::MAX);
            if all.per_second == 0 {
                return all;
            }
            Rate {
                per_second: (all.per_second / count).max(one.per_second),
                burst: (all.burst / count).max(one.burst),
            }
        };
        Self {
            queued_bytes_max: self.queued_bytes_max / shards,
            identity_queued_bytes_max: (self.identity_queued_bytes_max / shards)
                .max(self.session_queued_bytes_max),
            identity_request_rate: rate(self.identity_request_rate, self.session_request_rate),
            cache_bytes_max: self.cache_bytes_max / shards,
            ..self.clone()
        }
    }

    /// The same in a process that may have so many bytes of memory: what is cached and what waits for
    /// the network have a quarter of them each at most.
    #[must_use]
    pub fn within(self, memory: u64) -> Self {
        let quarter = usize::try_from(memory / 4).unwrap_or(usize::MAX);
        Self {
            cache_bytes_max: self.cache_bytes_max.min(quarter),
            queued_bytes_max: self.queued_bytes_max.min(quarter),
            identity_queued_bytes_max: self.identity_queued_bytes_max.min(quarter),
            session_queued_bytes_max: self.session_queued_bytes_max.min(quarter),
            ..self
        }
    }
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Times a second, in the long run; 0 is without limit.
    pub per_second: u32,
    /// Times at once, after a rest.
    pub burst: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            trace_seed: None,
            session: session::Config { filter_ranges_max: 64, ..session::Config::default() },
            tracks_max: 100_000,
            link_cost: 1,
            track_publishers_max: 64,
            namespaces_max: 1_000_000,
            session_namespaces_max: 10_000,
            upstream_namespaces_max: 100_000,
            session_watches_max: 1_000,
            watched_namespaces_max: 100_000,
            relay_watches_max: 1_000,
            session_publications_max: 10_000,
            session_waiting_max: 1_000,
            rendezvous_max: 128,
            session_rendezvous_max: 64,
            redirects_max: 1_000,
            redirect_age_max: Duration::from_secs(600),
            rendezvous_timeout_max: Duration::from_secs(30),
            linger: Duration::from_secs(30),
            upstream_timeout: Duration::from_secs(10),
            subscription_fills_max: 8,
            stream_queued_bytes_max: 256 << 10,
            session_queued_bytes_max: 16 << 20,
            identity_queued_bytes_max: 128 << 20,
            queued_bytes_max: 512 << 20,
            session_request_rate: Rate { per_second: 10_000, burst: 20_000 },
            identity_request_rate: Rate { per_second: 50_000, burst: 100_000 },
            cache_bytes_max: 256 << 20,
            cache_groups_max: 256,
            cache_age_max: Duration::from_secs(600),
        }
    }
}

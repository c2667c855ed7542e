//! What a shard counts as it goes, and what it holds when somebody asks.

use aip_codec::moqt::datagram::Content;

use super::{
    Relay,
    peer::{Peer, PeerIndex},
};
use crate::{
    metrics::{Drop, Service},
    session::{Event, Request},
};

impl Relay {
    /// What this shard has counted, and what it holds now.
    pub fn metrics(&self) -> Service {
        let mut service = self.service.clone();
        let counters = &mut service.counters;
        counters.tracks = self.tracks.len() as u64;
        counters.namespaces = self.namespaces.published_here() as u64;
        counters.cache_bytes = self.cached_bytes() as u64;
        counters.cache_bytes_max = self.config.cache_bytes_max as u64;
        let load = self.load();
        counters.queued_cost = load.queued.total() as u64;
        counters.queued_cost_max = self.config.queued_bytes_max as u64;
        counters.answers_given_up_total = load.answers_given_up_total;
        counters.requests_over_rate_total = load.requests_refused_total;
        for (_, track) in &self.tracks {
            counters.subscriptions += (track.subscribers.len() - track.shards.len()) as u64;
            let ours = track.upstreams.iter().filter(|upstream| !upstream.is_shard);
            counters.upstream_subscriptions += ours.count() as u64;
            counters.cache_groups += track.cache.group_count() as u64;
        }
        let (mut queued, mut queued_max) = (0, 0);
        for (_, peer) in &self.peers {
            let bytes = peer.session.queued_bytes() as u64;
            queued += bytes;
            queued_max = bytes.max(queued_max);
            if peer.is_shard() {
                continue;
            }
            service.counters.requests += peer.requests.len() as u64;
            let draft = peer.session.version().alpn();
            service.sessions.set(draft, service.sessions.get(draft) + 1);
        }
        service.queued_bytes.set("relay", queued);
        service.queued_bytes.set("session_max", queued_max);
        service.queued_bytes.set("identity_max", self.heaviest_identity_bytes() as u64);
        service
    }

    /// Counts what a session tells.
    pub(super) fn note_event(&mut self, peer: PeerIndex, event: &Event) {
        // What comes from another shard has been counted there.
        if self.peers.get(peer.0).is_some_and(Peer::is_shard) {
            return;
        }
        let counters = &mut self.service.counters;
        match event {
            Event::Object { object, .. } => {
                counters.objects_received_total += 1;
                counters.object_bytes_received_total += object.payload.len() as u64;
            }
            Event::Payload { bytes, .. } => {
                counters.object_bytes_received_total += bytes.len() as u64;
            }
            Event::Datagram { object } => {
                counters.objects_received_total += 1;
                counters.object_bytes_received_total += content_length(&object.content);
            }
            Event::FetchObject { .. } => counters.objects_fetched_total += 1,
            Event::Request { body, .. } => self.service.requests_received.count(message(body)),
            _ => {}
        }
    }

    /// An object was sent to `subscribers` subscribers; `bytes` of its payload were at hand.
    pub(super) fn note_forwarded(&mut self, subscribers: u64, bytes: usize) {
        let counters = &mut self.service.counters;
        counters.objects_forwarded_total += subscribers;
        counters.object_bytes_forwarded_total += subscribers * bytes as u64;
    }

    /// More of an object's payload was sent.
    pub(super) fn note_payload_forwarded(&mut self, subscribers: u64, bytes: usize) {
        self.service.counters.object_bytes_forwarded_total += subscribers * bytes as u64;
    }

    /// An object goes no further.
    pub(super) fn note_dropped(&mut self, reason: Drop) {
        self.service.objects_dropped.count(reason.name());
    }
}

fn content_length(content: &Content) -> u64 {
    match content {
        Content::Payload(payload) => payload.len() as u64,
        Content::Status(_) => 0,
    }
}

/// The message that a request began with.
const fn message(request: &Request) -> &'static str {
    match request {
        Request::Subscribe(_) => "SUBSCRIBE",
        Request::Publish(_) => "PUBLISH",
        Request::Fetch(_) => "FETCH",
        Request::TrackStatus(_) => "TRACK_STATUS",
        Request::PublishNamespace(_) => "PUBLISH_NAMESPACE",
        Request::SubscribeNamespace(_) => "SUBSCRIBE_NAMESPACE",
        Request::SubscribeTracks(_) => "SUBSCRIBE_TRACKS",
        Request::Call(_) => "CALL",
    }
}

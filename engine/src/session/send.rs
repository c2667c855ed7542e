//! Data that we send: subgroups, fetch responses, datagrams.

use std::time::{Duration, Instant};

use aip_codec::moqt::{
    datagram::ObjectDatagram,
    error_code::ResetCode,
    id::RequestId,
    stream::{fetch::FetchHeader, subgroup::SubgroupHeader},
};
use bytes::Bytes;

use super::{
    Session,
    request::{Kind, Request, State},
};
use crate::transport::{Action, StreamId};

/// A stream on which we send what somebody must account for: data, or a call.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The request that it belongs to.
    pub(super) owner: RequestId,
    /// Bytes that the transport has not sent.
    pub(super) queued: usize,
    /// Whether nothing follows.
    pub(super) fin: bool,
}

impl Session {
    /// Opens a subgroup's stream for a subscription of the peer's. `None` if that is over.
    pub fn open_subgroup(
        &mut self,
        subscription: RequestId,
        header: &SubgroupHeader,
        urgency: u8,
    ) -> Option<StreamId> {
        header.encode(&mut self.scratch);
        self.open_data(subscription, urgency)
    }

    /// Opens the data stream of a FETCH of the peer's. `None` if that is over.
    pub fn open_fetch(&mut self, fetch: RequestId, urgency: u8) -> Option<StreamId> {
        self.open_fill(fetch, fetch, urgency)
    }

    /// Opens the data stream of a fill that the message numbered `asked_by` asked for: the
    /// SUBSCRIBE itself, or an update of it.
    pub fn open_fill(
        &mut self,
        owner: RequestId,
        asked_by: RequestId,
        urgency: u8,
    ) -> Option<StreamId> {
        FetchHeader { request_id: asked_by }.encode(&mut self.scratch);
        self.open_data(owner, urgency)
    }

    /// Opens a data stream that begins with what is in `scratch`.
    fn open_data(&mut self, owner: RequestId, urgency: u8) -> Option<StreamId> {
        let header = self.scratch.split().freeze();
        if self.is_closed() || self.requests.get(owner).is_none() {
            return None;
        }
        let stream = self.open_stream(false);
        match &mut self.requests.get_mut(owner)?.kind {
            Kind::Publication(publication) => {
                publication.streams.insert(stream);
                publication.stream_count += 1;
            }
            Kind::FetchReceived(fetch) => fetch.data = Some(stream),
            _ => return None,
        }
        self.begin_outgoing(stream, owner);
        self.actions.push_back(Action::Prioritize { stream, urgency });
        self.send(stream, header, false);
        Some(stream)
    }

    pub(super) fn begin_outgoing(&mut self, stream: StreamId, owner: RequestId) {
        self.outgoing.entry(stream).or_insert(Outgoing { owner, queued: 0, fin: false });
    }

    /// Sends bytes on a stream that `open_subgroup`, `open_fetch` or `open_fill` opened.
    pub fn send(&mut self, stream: StreamId, bytes: Bytes, fin: bool) {
        let Some(outgoing) = self.outgoing.get_mut(&stream) else { return };
        if self.state == super::State::Closed || outgoing.fin || (bytes.is_empty() && !fin) {
            return;
        }
        outgoing.queued += bytes.len();
        outgoing.fin = fin;
        let all_sent = fin && outgoing.queued == 0;
        let owner = outgoing.owner;
        if let Some(Request { kind: Kind::Publication(publication), .. }) =
            self.requests.get_mut(owner)
        {
            publication.queued += bytes.len();
        }
        self.queue(stream, bytes, fin);
        if all_sent {
            self.outgoing_ended(stream);
        }
    }

    /// Ends a data stream at once, with what is queued on it.
    pub fn reset_stream(&mut self, stream: StreamId, code: ResetCode) {
        if self.outgoing.contains_key(&stream) && !self.is_closed() {
            self.actions.push_back(Action::Reset { stream, code: code.0 });
            self.outgoing_ended(stream);
        }
    }

    /// Bytes of a data stream that the transport has not sent; `None` once it has ended.
    pub fn stream_queued_bytes(&self, stream: StreamId) -> Option<usize> {
        self.outgoing.get(&stream).map(|outgoing| outgoing.queued)
    }

    /// Sends an object as a datagram; it may be lost.
    pub fn send_datagram(&mut self, object: &ObjectDatagram) {
        if self.is_closed() {
            return;
        }
        if let Err(error) = object.encode(&mut self.scratch) {
            debug_assert!(false, "a datagram that has no form: {error}");
            self.scratch.clear();
            return;
        }
        let bytes = self.scratch.split().freeze();
        self.actions.push_back(Action::SendDatagram { bytes });
    }

    /// A stream of ours is all sent, reset, or stopped by the peer.
    pub(super) fn outgoing_ended(&mut self, stream: StreamId) {
        let Some(outgoing) = self.drop_outgoing(stream) else { return };
        let Some(Request { kind, .. }) = self.requests.get_mut(outgoing.owner) else { return };
        match kind {
            Kind::Publication(publication) => {
                publication.streams.remove(&stream);
                self.send_publish_done_if_complete(outgoing.owner);
            }
            Kind::FetchReceived(fetch) if fetch.data == Some(stream) => {
                fetch.data_sent = true;
                self.end_received_fetch_if_complete(outgoing.owner);
            }
            _ => {}
        }
    }

    /// The peer reads no more of a data stream. Of a FETCH there is only one, so that it is a cancel.
    pub(super) fn data_stopped(&mut self, stream: StreamId) {
        let Some(outgoing) = self.outgoing.get(&stream) else { return };
        let owner = outgoing.owner;
        let is_fetch = self
            .requests
            .get(owner)
            .is_some_and(|request| matches!(request.kind, Kind::FetchReceived(_)));
        if is_fetch {
            self.drop_outgoing(stream);
            self.cancelled_by_peer(owner);
        } else {
            self.outgoing_ended(stream);
        }
    }

    /// Forgets a stream's account.
    pub(super) fn drop_outgoing(&mut self, stream: StreamId) -> Option<Outgoing> {
        let outgoing = self.outgoing.remove(&stream)?;
        self.publication_sent(outgoing.owner, outgoing.queued, None);
        Some(outgoing)
    }

    /// Bytes of a subscription of the peer's have left its queue, at `progress_at` for the network.
    pub(super) fn publication_sent(
        &mut self,
        owner: RequestId,
        length: usize,
        progress_at: Option<Instant>,
    ) {
        if let Some(Request { kind: Kind::Publication(publication), .. }) =
            self.requests.get_mut(owner)
        {
            publication.queued = publication.queued.saturating_sub(length);
            publication.progress_at = progress_at.or(publication.progress_at);
        }
    }

    /// Whether a subscriber cannot keep up: more than `queued_max` bytes wait for its network, or
    /// some have waited without any leaving for `stall_max`.
    pub fn is_behind(
        &mut self,
        subscription: RequestId,
        queued_max: usize,
        stall_max: Duration,
        now: Instant,
    ) -> bool {
        let Some(Request { kind: Kind::Publication(publication), .. }) =
            self.requests.get_mut(subscription)
        else {
            return false;
        };
        if publication.queued == 0 {
            publication.progress_at = Some(now);
            return false;
        }
        let since = *publication.progress_at.get_or_insert(now);
        queued_max < publication.queued || since + stall_max < now
    }

    /// Resets every data stream of a subscription of the peer's.
    pub fn reset_streams_of(&mut self, subscription: RequestId, code: ResetCode) {
        for stream in self.streams_of(subscription) {
            self.reset_stream(stream, code);
        }
    }

    /// Resets the data streams of a subscription of the peer's that were not finished.
    pub fn reset_unfinished_streams_of(&mut self, subscription: RequestId, code: ResetCode) {
        for stream in self.streams_of(subscription) {
            if self.outgoing.get(&stream).is_some_and(|outgoing| !outgoing.fin) {
                self.reset_stream(stream, code);
            }
        }
    }

    fn streams_of(&self, subscription: RequestId) -> Vec<StreamId> {
        match self.requests.get(subscription) {
            Some(Request { kind: Kind::Publication(publication), .. }) => {
                publication.streams.iter().copied().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Sends a datagram that is encoded already; it may be lost.
    pub fn send_encoded_datagram(&mut self, bytes: Bytes) {
        if !self.is_closed() {
            self.actions.push_back(Action::SendDatagram { bytes });
        }
    }

    /// A FETCH of the peer's is over when it is answered and its data is sent.
    pub(super) fn end_received_fetch_if_complete(&mut self, fetch: RequestId) {
        let complete = self.requests.get(fetch).is_some_and(|request| {
            request.state == State::Established
                && matches!(&request.kind, Kind::FetchReceived(fetch) if fetch.data_sent)
        });
        if complete {
            self.end_request(fetch);
        }
    }
}

//! Data that we send: subgroups, fetch responses, datagrams.

use std::time::Instant;

use aip_codec::moqt::{
    datagram::ObjectDatagram,
    error_code::ResetCode,
    id::{RequestId, SubgroupId},
    parameter::GroupOrder,
    stream::{
        fetch::FetchHeader,
        subgroup::{SubgroupHeader, SubgroupMode},
    },
};
use bytes::Bytes;

use super::{
    DeliveryTimeouts, Session,
    delivery_timeout::Timed,
    outgoing::Begin,
    request::{Kind, Request, State},
};
use crate::{
    account::Account,
    schedule::{Class, DEFAULT_PRIORITY, Precedence, Rank},
    stream_map::Handle,
    transport::{Action, StreamId},
};

/// How soon, and until when, a subgroup is to be delivered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delivery {
    /// The subscription's priority; lower is sooner.
    pub subscriber_priority: u8,
    /// The subgroup's; lower is sooner.
    pub publisher_priority: u8,
    /// The order in which the subscription wants groups.
    pub order: GroupOrder,
    /// When it is too late.
    pub timeouts: DeliveryTimeouts,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            subscriber_priority: DEFAULT_PRIORITY,
            publisher_priority: DEFAULT_PRIORITY,
            order: GroupOrder::Ascending,
            timeouts: DeliveryTimeouts::default(),
        }
    }
}

impl Session {
    /// Opens a subgroup's stream for a subscription of the peer's. `None` if that is over.
    pub fn open_subgroup(
        &mut self,
        subscription: RequestId,
        header: &SubgroupHeader,
        delivery: &Delivery,
    ) -> Option<StreamId> {
        header.encode(&mut self.scratch);
        let subgroup = match header.subgroup {
            SubgroupMode::Explicit(subgroup) => subgroup,
            SubgroupMode::Zero | SubgroupMode::FirstObject => SubgroupId(0),
        };
        let precedence = Precedence {
            class: Class::Object,
            subscriber_priority: delivery.subscriber_priority,
            publisher_priority: delivery.publisher_priority,
            request: subscription,
            rank: Rank::subgroup(delivery.order, header.group, subgroup),
        };
        let timed = Timed::new(delivery.timeouts, header.group);
        if timed.is_some()
            && let Some(Request { kind: Kind::Publication(publication), .. }) =
                self.requests.get_mut(subscription)
        {
            publication.timed = true;
        }
        self.open_data(Begin { owner: subscription, precedence, is_pulled: false, timed })
    }

    /// Opens the data stream of a FETCH of the peer's. `None` if that is over.
    pub fn open_fetch(&mut self, fetch: RequestId, subscriber_priority: u8) -> Option<StreamId> {
        self.open_fill(fetch, Precedence::data(fetch, subscriber_priority))
    }

    /// Opens the data stream that the message numbered `asked_by` asked for: a FETCH, or for a fill
    /// the SUBSCRIBE itself or an update of it. `precedence` names the request it belongs to.
    pub fn open_fill(&mut self, asked_by: RequestId, precedence: Precedence) -> Option<StreamId> {
        FetchHeader { request_id: asked_by }.encode(&mut self.scratch);
        self.open_data(Begin::pulled(precedence.request, precedence))
    }

    /// Opens a data stream that begins with what is in `scratch`.
    fn open_data(&mut self, begin: Begin) -> Option<StreamId> {
        let header = self.scratch.split().freeze();
        let owner = begin.owner;
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
        self.begin_outgoing(stream, begin);
        self.send(stream, header, false);
        Some(stream)
    }

    /// Sends bytes on a stream that `open_subgroup`, `open_fetch` or `open_fill` opened.
    pub fn send(&mut self, stream: StreamId, bytes: Bytes, fin: bool) {
        if let Some(stream) = self.outgoing.handle(stream) {
            self.send_on(stream, bytes, fin);
        }
    }

    /// Where a stream is found that the layer above writes, without being looked for each time.
    pub(crate) fn outgoing(&self, stream: StreamId) -> Option<Handle<StreamId>> {
        self.outgoing.handle(stream)
    }

    /// Whether a stream goes on: it was neither ended nor stopped.
    pub(crate) fn is_open(&self, stream: Handle<StreamId>) -> bool {
        self.outgoing.at(stream).is_some()
    }

    /// Sends bytes on a stream.
    pub(crate) fn send_on(&mut self, stream: Handle<StreamId>, bytes: Bytes, fin: bool) {
        let is_closed = self.is_closed();
        let Some(outgoing) = self.outgoing.at_mut(stream) else { return };
        if is_closed || outgoing.fin || (bytes.is_empty() && !fin) {
            return;
        }
        let all_sent = fin && outgoing.account.bytes == 0 && bytes.is_empty();
        let more = Account::piece(bytes.len());
        outgoing.fin = fin;
        outgoing.account += more;
        outgoing.written += more.bytes as u64;
        self.streams_account += more;
        let (owner, is_timed) = (outgoing.owner, outgoing.timed.is_some());
        if let Some(publication) = self.requests.publication_at(owner) {
            publication.account += more;
        }
        self.actions.push_back(Action::Send { stream: stream.key, bytes, fin });
        if is_timed {
            self.timed_send(stream);
        }
        if all_sent {
            self.outgoing_ended(stream.key);
        }
    }

    /// A subscriber gives its track another priority: the streams that it has change theirs.
    pub fn set_subscriber_priority(&mut self, subscription: RequestId, subscriber_priority: u8) {
        for stream in self.streams_of(subscription) {
            let Some(outgoing) = self.outgoing.get_mut(stream) else { continue };
            outgoing.precedence.subscriber_priority = subscriber_priority;
            let precedence = outgoing.precedence;
            self.actions.push_back(Action::Prioritize { stream, precedence });
        }
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
        self.actions.push_back(Action::SendDatagram { bytes, expires: None });
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
            if self.outgoing.get(stream).is_some_and(|outgoing| !outgoing.fin) {
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

    /// Sends a datagram that is encoded already; it may be lost, and is left once it has expired.
    pub fn send_encoded_datagram(&mut self, bytes: Bytes, expires: Option<Instant>) {
        if !self.is_closed() {
            self.actions.push_back(Action::SendDatagram { bytes, expires });
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

//! The streams that we send on, and what waits on them.
//!
//! Every byte that is handed to the transport is charged here once: to its stream, to the
//! subscription that the stream belongs to, and to the session. It is released when the transport
//! tells that it has left, or when its stream is given up.

use std::time::Instant;

use aip_codec::moqt::{error_code::ResetCode, id::RequestId};

use super::{
    Misbehavior, Session,
    delivery_timeout::Timed,
    request::{Kind, Request},
};
use crate::{
    account::{Account, STREAM},
    schedule::Precedence,
    stream_map::Handle,
    transport::{Action, StreamId},
};

/// A stream on which we send what somebody must account for: data, or a call.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The request that it belongs to.
    pub(super) owner: Handle<RequestId>,
    /// Where it stands among the others.
    pub(super) precedence: Precedence,
    /// What waits on it.
    pub(super) account: Account,
    /// Bytes that were ever sent on it.
    pub(super) written: u64,
    /// Whether nothing follows.
    pub(super) fin: bool,
    /// Whether whoever writes it waits for room, and is told what has left.
    pub(super) is_pulled: bool,
    /// When its objects are too late, if they can be.
    pub(super) timed: Option<Box<Timed>>,
}

/// How a stream that we send on begins.
pub(super) struct Begin {
    pub(super) owner: RequestId,
    pub(super) precedence: Precedence,
    pub(super) is_pulled: bool,
    pub(super) timed: Option<Box<Timed>>,
}

impl Begin {
    /// One that whoever writes it writes as there is room.
    pub(super) const fn pulled(owner: RequestId, precedence: Precedence) -> Self {
        Self { owner, precedence, is_pulled: true, timed: None }
    }
}

impl Outgoing {
    /// Bytes that have left.
    pub(super) const fn left(&self) -> u64 {
        self.written - self.account.bytes as u64
    }
}

impl Session {
    /// The latest time that this session was told.
    pub const fn clock(&self) -> Instant {
        self.clock
    }

    /// Bytes handed to the transport that it has not sent, and what they cost to keep.
    pub fn account(&self) -> Account {
        let mut account = self.streams_account;
        account += self.messages;
        account
    }

    /// Bytes of messages that wait for the network, without those of objects and calls.
    pub const fn message_bytes(&self) -> usize {
        self.messages.bytes
    }

    /// Bytes handed to the transport that it has not sent.
    pub const fn queued_bytes(&self) -> usize {
        self.streams_account.bytes + self.messages.bytes
    }

    /// What waits for a subscriber of ours.
    pub fn account_of(&self, subscription: RequestId) -> Account {
        match self.requests.get(subscription) {
            Some(Request { kind: Kind::Publication(publication), .. }) => publication.account,
            _ => Account::ZERO,
        }
    }

    /// Whether every account is the sum of those below it. For tests: it looks at every stream.
    pub fn accounts_add_up(&self) -> bool {
        let mut all = Account::ZERO;
        for (_, outgoing) in self.outgoing.iter() {
            all += outgoing.account;
        }
        let publications_add_up = !self.requests.any(|_, request| {
            let Kind::Publication(publication) = &request.kind else { return false };
            let mut sum = Account::ZERO;
            for stream in &publication.streams {
                sum += self.outgoing.get(*stream).map_or(Account::ZERO, |it| it.account);
            }
            sum != publication.account
        });
        all == self.streams_account && publications_add_up
    }

    /// Takes note of a stream that is written by the layer above.
    pub(super) fn begin_outgoing(&mut self, stream: StreamId, begin: Begin) {
        let Begin { owner, precedence, is_pulled, timed } = begin;
        let Some(owner) = self.requests.handle(owner) else { return };
        if self.outgoing.contains(stream) {
            return;
        }
        let (account, written, fin) = (Account::OPEN_STREAM, 0, false);
        let outgoing = Outgoing { owner, precedence, account, written, fin, is_pulled, timed };
        self.outgoing.insert(stream, outgoing);
        self.act(Action::Prioritize { stream, precedence });
        self.streams_account += account;
        if let Some(publication) = self.requests.publication_at(owner) {
            publication.account += account;
        }
    }

    /// More waits on a stream that carries messages.
    pub(super) fn charge_messages(&mut self, more: Account) {
        self.messages += more;
        self.watch_queues();
        if self.config.delivery.message_bytes_max < self.messages.total() {
            self.close_on_error(Err(Misbehavior::MessagesNotRead.into()));
        }
    }

    /// `length` bytes of a stream have left the transport's queue. The request that it belongs to,
    /// if whoever writes it waits for room.
    pub fn handle_sent(
        &mut self,
        stream: StreamId,
        length: usize,
        now: Instant,
    ) -> Option<RequestId> {
        self.clock = self.clock.max(now);
        let length = self.take_given_up(stream, length);
        let Some(handle) = self.outgoing.handle(stream) else {
            self.messages_left(length, now);
            return None;
        };
        let outgoing = self.outgoing.at_mut(handle)?;
        let less = outgoing.account.leaving(length, STREAM);
        outgoing.account -= less;
        self.streams_account -= less;
        let (owner, is_pulled, rest) = (outgoing.owner, outgoing.is_pulled, length - less.bytes);
        let all_sent = outgoing.fin && outgoing.account.bytes == 0;
        if outgoing.timed.is_some() {
            self.timed_progress(handle);
        }
        if let Some(publication) = self.requests.publication_at(owner) {
            publication.account -= less;
            publication.given_up = 0;
            publication.waits_since = (0 < publication.account.bytes).then_some(now);
        }
        if 0 < rest {
            self.messages_left(rest, now);
        }
        if all_sent {
            self.outgoing_ended(stream);
        }
        is_pulled.then_some(owner.key)
    }

    fn messages_left(&mut self, length: usize, now: Instant) {
        let less = self.messages.leaving(length, 0);
        self.messages -= less;
        self.messages_wait_since = (0 < self.messages.bytes).then_some(now);
    }

    /// What the transport tells as sent may have been given up before: no account holds it.
    fn take_given_up(&mut self, stream: StreamId, length: usize) -> usize {
        if self.given_up.is_empty() {
            return length;
        }
        let Some(given_up) = self.given_up.get_mut(&stream) else { return length };
        let taken = length.min(*given_up);
        *given_up -= taken;
        if *given_up == 0 {
            self.given_up.remove(&stream);
        }
        length - taken
    }

    /// A stream of ours is all sent, reset, or stopped by the peer.
    pub(super) fn outgoing_ended(&mut self, stream: StreamId) {
        let Some(outgoing) = self.drop_outgoing(stream) else { return };
        let owner = outgoing.owner.key;
        let Some(Request { kind, .. }) = self.requests.get_mut(owner) else { return };
        match kind {
            Kind::Publication(publication) => {
                publication.streams.remove(&stream);
                self.send_publish_done_if_complete(owner);
            }
            Kind::FetchReceived(fetch) if fetch.data == Some(stream) => {
                fetch.data_sent = true;
                self.end_received_fetch_if_complete(owner);
            }
            _ => {}
        }
    }

    /// The peer reads no more of a data stream. Of a FETCH there is only one, so that it is a cancel.
    pub(super) fn data_stopped(&mut self, stream: StreamId) {
        let Some(outgoing) = self.outgoing.get(stream) else { return };
        let owner = outgoing.owner.key;
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

    /// Forgets a stream, and releases what waits on it.
    pub(super) fn drop_outgoing(&mut self, stream: StreamId) -> Option<Outgoing> {
        let outgoing = self.outgoing.remove(stream)?;
        self.streams_account -= outgoing.account;
        if 0 < outgoing.account.bytes {
            // The transport still tells of them, as it drops them.
            *self.given_up.entry(stream).or_default() += outgoing.account.bytes;
        }
        if let Some(publication) = self.requests.publication_at(outgoing.owner) {
            publication.account -= outgoing.account;
            publication.given_up += u32::from(0 < outgoing.account.bytes);
        }
        Some(outgoing)
    }

    /// Ends a data stream at once, with what is queued on it.
    pub fn reset_stream(&mut self, stream: StreamId, code: ResetCode) {
        if self.outgoing.contains(stream) && !self.is_closed() {
            self.act(Action::Reset { stream, code: code.0 });
            self.outgoing_ended(stream);
        }
    }

    /// Bytes of a data stream that the transport has not sent; `None` once it has ended.
    pub fn stream_queued_bytes(&self, stream: StreamId) -> Option<usize> {
        self.outgoing.get(stream).map(|outgoing| outgoing.account.bytes)
    }
}

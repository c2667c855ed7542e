//! One MOQT session: both sides, both roles, no I/O.
//!
//! [`Session`] is told what the transport and the layer above do, and asked what the transport
//! must do ([`Action`]) and what the layer above learns ([`Event`]). Whatever the peer does wrong
//! ends in one [`Action::Close`] with the draft's code; after it the session is inert.

mod answer;
mod ask;
mod behind;
mod call;
mod config;
mod control;
mod delivery_timeout;
mod error;
mod event;
mod flood;
mod outgoing;
mod range;
mod range_filter;
mod receive;
mod request;
mod request_stream;
mod send;
#[cfg(test)]
mod tests;
mod timer;
mod token_cache;
mod track_alias;
mod update;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use aip_codec::{
    Version,
    moqt::{
        error_code::{ResetCode, SessionCode},
        id::RequestId,
        message::{FrameDecoder, Message},
        parameter::GroupOrder,
    },
};
use bytes::{Bytes, BytesMut};

pub use self::{
    ask::AskError,
    config::{Config, DeliveryLimits},
    delivery_timeout::DeliveryTimeouts,
    error::{Misbehavior, SessionError},
    event::{Event, ReceivedObject, Request, Response, StreamEnd},
    range::{fetch_ok_end, fetch_range, subscription_range},
    range_filter::{Candidate, InvalidRangeFilters, RangeFilters},
    send::Delivery,
    token_cache::AuthToken,
};
use self::{
    control::Control, delivery_timeout::Deadlines, flood::Flood, outgoing::Outgoing,
    receive::Incoming, request::Requests, timer::Partial, token_cache::TokenCache,
    track_alias::TrackAliases,
};
use crate::{
    account::Account,
    stream_map::{DenseMap, NumberMap},
    transport::{Action, Side, StreamId},
};

/// One session. `handle_*` tells it something, `poll_*` asks it something.
///
/// After every `handle_*` or other call, call `poll_action` and `poll_event` until both say
/// `None`, then wait no longer than `poll_timeout`.
#[derive(Debug)]
pub struct Session {
    config: Config,
    side: Side,
    version: Version,
    state: State,
    control: Control,
    requests: Requests,
    /// Bidirectional streams of the peer whose first message is not yet whole.
    opening: NumberMap<StreamId, (FrameDecoder, Instant)>,
    /// Streams of the peer whose request is over: the rest of what it says there is ignored.
    /// With when they began.
    draining: BTreeMap<StreamId, Instant>,
    /// How the peer uses its request streams.
    flood: Flood,
    /// Fills that our updates asked for: the subscription that each belongs to, and its order.
    fills: BTreeMap<RequestId, (RequestId, GroupOrder)>,
    incoming: NumberMap<StreamId, Incoming>,
    outgoing: DenseMap<StreamId, Outgoing>,
    aliases: TrackAliases,
    tokens: TokenCache,
    /// What came before the peer's SETUP.
    early: VecDeque<(StreamId, Bytes, bool)>,
    early_bytes: usize,
    /// Streams that wait for their track alias to be told.
    unknown_alias: receive::UnknownAlias,
    /// Streams with a begun message or object, and when it began.
    partial: Partial,
    /// Requests whose peer listens no more, and until when its last word is waited for.
    stopped: BTreeSet<(Instant, RequestId)>,
    /// When each held-back PUBLISH_DONE is told at the latest.
    done_deadlines: BTreeSet<(Instant, RequestId)>,
    unidirectional_next: u64,
    bidirectional_next: u64,
    /// What waits on the streams in `outgoing`.
    streams_account: Account,
    /// What waits on all others: messages.
    messages: Account,
    /// When messages last left while others waited. `None` while none do.
    messages_wait_since: Option<Instant>,
    /// Bytes of streams that were given up and of which the transport has not told yet.
    given_up: NumberMap<StreamId, usize>,
    /// When the queues are looked at.
    queues_watched_at: Option<Instant>,
    /// Whether sending has made something due that was not before.
    sooner: bool,
    /// When objects and subgroups are too late.
    late: Deadlines,
    /// The latest time that we were told.
    clock: Instant,
    scratch: BytesMut,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    /// Why the session was closed, until somebody has counted it.
    fault: Option<SessionError>,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// The peer's SETUP has not come; it must by then.
    Starting { deadline: Instant },
    /// Both SETUPs are through.
    Established,
    /// Closed by either side: inert.
    Closed,
}

impl Session {
    /// A session on a connection that has just come up; sends its SETUP at once.
    pub fn new(config: Config, side: Side, version: Version, now: Instant) -> Self {
        let mut session = Self {
            side,
            version,
            state: State::Starting { deadline: now + config.setup_timeout },
            control: Control::default(),
            requests: Requests::new(side, config.request_gaps_max),
            opening: NumberMap::default(),
            draining: BTreeMap::new(),
            flood: Flood::default(),
            fills: BTreeMap::new(),
            incoming: NumberMap::default(),
            outgoing: DenseMap::default(),
            aliases: TrackAliases::default(),
            tokens: TokenCache::new(config.auth_token_cache_size_max),
            early: VecDeque::new(),
            early_bytes: 0,
            unknown_alias: receive::UnknownAlias::default(),
            partial: Partial::default(),
            stopped: BTreeSet::new(),
            done_deadlines: BTreeSet::new(),
            unidirectional_next: 0,
            bidirectional_next: 0,
            streams_account: Account::ZERO,
            messages: Account::ZERO,
            messages_wait_since: None,
            given_up: NumberMap::default(),
            queues_watched_at: None,
            sooner: false,
            late: Deadlines::default(),
            clock: now,
            scratch: BytesMut::new(),
            actions: VecDeque::new(),
            // Most sessions never have two that wait, and these are large.
            events: VecDeque::with_capacity(1),
            fault: None,
            config,
        };
        session.send_setup();
        session
    }

    /// The draft spoken.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Which end we are.
    pub const fn side(&self) -> Side {
        self.side
    }

    /// Whether both SETUPs are through and neither side has closed.
    pub const fn is_established(&self) -> bool {
        matches!(self.state, State::Established)
    }

    /// Whether either side has closed.
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether a request of either side is open.
    pub fn has_request(&self, request: RequestId) -> bool {
        self.requests.get(request).is_some()
    }

    /// Whether no request of either side is open.
    pub fn is_idle(&self) -> bool {
        self.open_requests() == 0
    }

    /// Requests of either side that are open.
    pub fn open_requests(&self) -> usize {
        self.requests.count() + self.opening.len()
    }

    /// Bytes of a stream, in order.
    pub fn handle_stream(&mut self, stream: StreamId, bytes: Bytes, fin: bool, now: Instant) {
        self.clock = self.clock.max(now);
        if self.is_closed() {
            return;
        }
        let result = if stream.is_bidirectional() {
            self.receive_bidirectional(stream, bytes, fin, now)
        } else {
            self.receive_unidirectional(stream, bytes, fin, now)
        };
        self.close_on_error(result);
    }

    /// The peer reset its sending side of a stream.
    pub fn handle_reset(&mut self, stream: StreamId, code: u64, now: Instant) {
        if self.is_closed() {
            return;
        }
        let code = ResetCode(code);
        let result = if stream.is_bidirectional() {
            self.bidirectional_reset(stream, code, now)
        } else {
            self.unidirectional_ended(stream, StreamEnd::Reset(code), now)
        };
        self.close_on_error(result);
    }

    /// The peer asks us to send no more on a stream.
    pub fn handle_stop(&mut self, stream: StreamId, code: u64, now: Instant) {
        if self.is_closed() {
            return;
        }
        if self.control.outgoing == Some(stream) {
            self.control_stream_closed(now);
        } else if stream.is_bidirectional() {
            self.bidirectional_stopped(stream, ResetCode(code), now);
        } else {
            self.data_stopped(stream);
        }
    }

    /// Closes the session.
    pub fn close(&mut self, code: SessionCode, reason: &str) {
        if self.is_closed() {
            return;
        }
        self.act(Action::Close { code, reason: reason.to_owned() });
        self.state = State::Closed;
    }

    /// Has the transport do something; nothing once the session is closed.
    fn act(&mut self, action: Action) {
        if !self.is_closed() {
            self.actions.push_back(action);
        }
    }

    /// The connection is gone: nothing can be said or heard any more. What the peer had said, and
    /// was held back until more came, is told now.
    pub fn handle_closed(&mut self) {
        while let Some(&(_, request)) = self.done_deadlines.first() {
            self.finish_subscription(request);
        }
        self.state = State::Closed;
        self.actions.clear();
    }

    /// What the transport must do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether there is something for the transport to do.
    pub(crate) fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// What the layer above learns next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The peer's fault for which the session was closed; told once.
    pub const fn take_fault(&mut self) -> Option<SessionError> {
        self.fault.take()
    }

    fn close_on_error(&mut self, result: Result<(), SessionError>) {
        if let Err(error) = result {
            tracing::debug!(%error, code = %error.session_code(), "session closed for the peer's fault");
            self.fault = Some(error);
            self.close(error.session_code(), &error.to_string());
        }
    }

    fn open_stream(&mut self, bidirectional: bool) -> StreamId {
        let next = if bidirectional {
            &mut self.bidirectional_next
        } else {
            &mut self.unidirectional_next
        };
        let stream = StreamId::new(self.side, bidirectional, *next);
        *next += 1;
        stream
    }

    /// Queues bytes of messages for the transport. What else is sent goes by [`Self::send_on`].
    fn queue(&mut self, stream: StreamId, bytes: Bytes, fin: bool) {
        debug_assert!(!self.outgoing.contains(stream), "a stream that the layer above writes");
        self.charge_messages(Account::piece(bytes.len()));
        self.act(Action::Send { stream, bytes, fin });
    }

    /// Queues a message on a request's or the control stream.
    fn queue_message(&mut self, stream: StreamId, message: &Message, fin: bool) {
        if let Err(error) = message.encode(self.version, &mut self.scratch) {
            debug_assert!(false, "a message that has no form: {error}");
            tracing::error!(%error, "message dropped");
            return;
        }
        let bytes = self.scratch.split().freeze();
        self.queue(stream, bytes, fin);
    }
}

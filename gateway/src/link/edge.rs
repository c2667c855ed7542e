//! What the worker thread runs: a client, and who waits for what of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aip_codec::moqt::{error_code::RequestCode, name::FullTrackName};
use aip_engine::{
    client::{
        CallEnd, CallId, Client, ClientError, Config, Event, Refusal, SubscriptionId, TrackVersion,
    },
    transport::{Action, Closed, Driver, Peer, SessionId, StreamId},
};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Call, CallEvent, CallOutcome, Command, Connection, Envelope, IncomingCall, Key, Link,
    ReadError, Served, SubscriptionEvent, call,
};

/// Sizes of what an [`Edge`] holds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tracks wanted and calls received that may wait to be taken. 10,000.
    pub served_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { served_max: 10_000 }
    }
}

/// Who waits for versions.
enum Follower {
    Read(oneshot::Sender<Result<TrackVersion, ReadError>>),
    Subscription(mpsc::Sender<SubscriptionEvent>),
}

/// A [`Client`] whose commands come through a mailbox and whose events go to tokio's channels.
pub struct Edge {
    client: Client,
    keys: Arc<AtomicU64>,
    /// For the calls that we hand out; its commands come back here.
    link: Link,
    connection: watch::Sender<Connection>,
    served: mpsc::Sender<Served>,
    /// Tracks unwanted that found `served` full; they are never dropped, and no more than there are
    /// subscriptions.
    unwanted: VecDeque<Served>,
    /// Tracks of one version; as many as there are callers that offer one.
    offers: HashMap<FullTrackName, TrackVersion>,
    subscription_of: HashMap<Key, SubscriptionId>,
    followers: HashMap<SubscriptionId, (Key, Follower)>,
    call_of: HashMap<Key, CallId>,
    calls: HashMap<CallId, (Key, mpsc::Sender<CallEvent>)>,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Edge")
            .field("calls", &self.calls.len())
            .field("followers", &self.followers.len())
            .finish_non_exhaustive()
    }
}

impl Edge {
    /// An edge that wants nothing yet. What is served comes out of the receiver.
    pub fn new(
        config: Config,
        limits: Limits,
        link: Link,
        keys: Arc<AtomicU64>,
        connection: watch::Sender<Connection>,
    ) -> (Self, mpsc::Receiver<Served>) {
        let (served, receiver) = mpsc::channel(limits.served_max);
        let edge = Self {
            client: Client::new(config),
            keys,
            link,
            connection,
            served,
            unwanted: VecDeque::new(),
            offers: HashMap::new(),
            subscription_of: HashMap::new(),
            followers: HashMap::new(),
            call_of: HashMap::new(),
            calls: HashMap::new(),
        };
        (edge, receiver)
    }

    fn follow(
        &mut self,
        key: Key,
        subscription: Result<SubscriptionId, ClientError>,
        follower: Follower,
    ) {
        match subscription {
            Ok(subscription) => {
                self.subscription_of.insert(key, subscription);
                self.followers.insert(subscription, (key, follower));
            }
            Err(error) => follower.fail(ReadError::Unavailable(error)),
        }
    }

    fn unfollow(&mut self, key: Key) {
        if let Some(subscription) = self.subscription_of.remove(&key) {
            self.followers.remove(&subscription);
            self.client.unsubscribe(subscription);
        }
    }

    fn forget_follower(&mut self, subscription: SubscriptionId) -> Option<Follower> {
        let (key, follower) = self.followers.remove(&subscription)?;
        self.subscription_of.remove(&key);
        Some(follower)
    }

    fn forget_call(&mut self, call: CallId) -> Option<mpsc::Sender<CallEvent>> {
        let (key, events) = self.calls.remove(&call)?;
        self.call_of.remove(&key);
        Some(events)
    }

    /// Everything the client has to tell goes to who waits for it.
    fn handle_events(&mut self, now: Instant) {
        while let Some(event) = self.client.poll_event() {
            self.handle_event(event, now);
        }
        while let Some(unwanted) = self.unwanted.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(unwanted)) = self.served.try_send(unwanted) {
                self.unwanted.push_front(unwanted);
                break;
            }
        }
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected { version, content_types } => {
                let calls = content_types.is_some();
                self.connection.send_replace(Connection::Up { version, calls });
            }
            Event::Disconnected { reason } | Event::Unreachable { reason } => {
                self.connection.send_replace(Connection::Down { reason: Some(reason) });
            }
            Event::AnnouncementRefused { namespace, refusal } => {
                self.serve(Served::AnnouncementRefused(namespace, refusal), now);
            }
            Event::NamespaceAppeared { .. } | Event::NamespaceGone { .. } => {}
            Event::TrackWanted { track } => match self.offers.get(&track) {
                Some(version) => self.client.publish(&track, version.clone(), None, now),
                None => self.serve(Served::TrackWanted(track), now),
            },
            Event::TrackUnwanted { track } => {
                self.unwanted.push_back(Served::TrackUnwanted(track));
            }
            Event::Version { subscription, version } => self.handle_version(subscription, version),
            Event::SubscriptionRefused { subscription, refusal } => {
                if let Some(follower) = self.forget_follower(subscription) {
                    follower.fail(ReadError::Refused(refusal));
                }
            }
            Event::SubscriptionEnded { subscription, code } => {
                if let Some(follower) = self.forget_follower(subscription) {
                    follower.end(SubscriptionEvent::Ended(code));
                }
            }
            Event::CallReceived { call, namespace, name, parameters } => {
                let incoming = |handle| IncomingCall { namespace, name, parameters, call: handle };
                self.handle_call(call, incoming, now);
            }
            Event::Record { call, kind, payload } => {
                self.tell(call, CallEvent::Record { kind, payload });
            }
            Event::CallEnded { call, end } => {
                if let Some(events) = self.forget_call(call) {
                    // A reader that is full or gone sees the channel's end instead.
                    _ = events.try_send(CallEvent::Ended(end.into()));
                }
            }
        }
    }

    fn handle_version(&mut self, subscription: SubscriptionId, version: TrackVersion) {
        let Some((_, follower)) = self.followers.get(&subscription) else { return };
        match follower {
            Follower::Read(_) => {
                if let Some(Follower::Read(answer)) = self.forget_follower(subscription) {
                    // Whoever asked may have gone.
                    _ = answer.send(Ok(version));
                }
            }
            Follower::Subscription(events) => {
                if events.try_send(SubscriptionEvent::Version(version)).is_err() {
                    self.forget_follower(subscription);
                    self.client.unsubscribe(subscription);
                }
            }
        }
    }

    fn handle_call(
        &mut self,
        call: CallId,
        incoming: impl FnOnce(Call) -> IncomingCall,
        now: Instant,
    ) {
        let (events, received) = mpsc::channel(call::EVENTS_MAX);
        let key = Key(self.keys.fetch_add(1, Ordering::Relaxed));
        self.call_of.insert(key, call);
        self.calls.insert(call, (key, events));
        let handle = Call::new(self.link.clone(), key, received);
        self.serve(Served::Called(incoming(handle)), now);
    }

    /// Hands on what the tier wants, or refuses it if too much of that waits already.
    fn serve(&mut self, served: Served, now: Instant) {
        let Err(error) = self.served.try_send(served) else { return };
        let served = match error {
            mpsc::error::TrySendError::Full(served) | mpsc::error::TrySendError::Closed(served) => {
                served
            }
        };
        match served {
            Served::TrackWanted(track) => self.client.refuse(&track, &busy(), now),
            // Dropping the handle cancels the call; a refusal said first is what its caller sees.
            Served::Called(incoming) => {
                if let Some(call) = self.call_of.get(&incoming.call.key()).copied() {
                    self.forget_call(call);
                    self.client.refuse_call(call, busy());
                }
            }
            Served::TrackUnwanted(_) | Served::AnnouncementRefused(..) => {}
        }
    }

    /// Gives a call's event to its reader; a reader that takes too slowly loses the call. One that
    /// is gone has said what becomes of it: that it is refused, or cancelled.
    fn tell(&mut self, call: CallId, event: CallEvent) {
        let Some((_, events)) = self.calls.get(&call) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = events.try_send(event) {
            self.forget_call(call);
            self.client.cancel_call(call);
        }
    }

    fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Announce(namespace) => self.client.announce(namespace),
            Command::Withdraw(namespace) => self.client.withdraw(&namespace),
            Command::Publish { track, version, expires } => {
                let expires = expires.and_then(|expires| now.checked_add(expires));
                self.client.publish(&track, version, expires, now);
            }
            Command::Refuse { track, refusal } => self.client.refuse(&track, &refusal, now),
            Command::Offer { track, version } => _ = self.offers.insert(track, version),
            Command::Retract { track } => {
                self.offers.remove(&track);
                self.client.withdraw(track.namespace());
            }
            Command::Read { key, track, answer } => {
                let subscription = self.client.read(track, now);
                self.follow(key, subscription, Follower::Read(answer));
            }
            Command::Subscribe { key, track, events } => {
                let subscription = self.client.subscribe(track, now);
                self.follow(key, subscription, Follower::Subscription(events));
            }
            Command::Unsubscribe { key } => self.unfollow(key),
            Command::Call { key, namespace, name, parameters, events } => {
                match self.client.call(namespace, name, parameters, now) {
                    Ok(call) => {
                        self.call_of.insert(key, call);
                        self.calls.insert(call, (key, events));
                    }
                    Err(error) => {
                        // A new channel has room; whoever asked may have gone.
                        _ = events.try_send(CallEvent::Ended(CallOutcome::Unavailable(error)));
                    }
                }
            }
            Command::Record { key, kind, payload, last } => {
                if let Some(&call) = self.call_of.get(&key) {
                    let sent = self.client.send_record(call, kind, payload, last);
                    self.handle_sent_record(call, sent);
                }
            }
            Command::RefuseCall { key, refusal } => {
                if let Some(&call) = self.call_of.get(&key) {
                    self.forget_call(call);
                    self.client.refuse_call(call, refusal);
                }
            }
            Command::CancelCall { key } => {
                if let Some(&call) = self.call_of.get(&key) {
                    self.forget_call(call);
                    self.client.cancel_call(call);
                }
            }
        }
    }

    /// A call whose records the network does not take is cancelled, so that nobody waits for it.
    fn handle_sent_record(&mut self, call: CallId, sent: Result<(), ClientError>) {
        let Err(error) = sent else { return };
        if let Some(events) = self.forget_call(call) {
            tracing::debug!(%error, "a call's record could not be sent");
            self.client.cancel_call(call);
            // A reader that is full or gone sees the channel's end instead.
            _ = events.try_send(CallEvent::Ended(CallOutcome::Overrun));
        }
    }
}

impl Follower {
    fn fail(self, error: ReadError) {
        match self {
            // Whoever asked may have gone.
            Self::Read(answer) => _ = answer.send(Err(error)),
            Self::Subscription(events) => {
                _ = events.try_send(SubscriptionEvent::Refused(error));
            }
        }
    }

    fn end(self, event: SubscriptionEvent) {
        match self {
            // Whoever asked may have gone.
            Self::Read(answer) => _ = answer.send(Err(ReadError::Lost)),
            Self::Subscription(events) => _ = events.try_send(event),
        }
    }
}

impl From<CallEnd> for CallOutcome {
    fn from(end: CallEnd) -> Self {
        match end {
            CallEnd::Finished => Self::Finished,
            CallEnd::Refused(refusal) => Self::Refused(refusal),
            CallEnd::Cancelled => Self::Cancelled,
            CallEnd::Lost => Self::Lost,
        }
    }
}

fn busy() -> Refusal {
    Refusal {
        code: RequestCode::EXCESSIVE_LOAD,
        retry_after: Some(Duration::from_secs(1)),
        reason: "the edge has too much to do".to_owned(),
    }
}

impl Driver for Edge {
    type Command = Envelope;

    fn handle_connected(&mut self, session: SessionId, peer: Peer, now: Instant) {
        self.client.handle_connected(session, peer, now);
        self.handle_events(now);
    }

    fn handle_stream(
        &mut self,
        session: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) {
        self.client.handle_stream(session, stream, bytes, fin, now);
        self.handle_events(now);
    }

    fn handle_reset(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.client.handle_reset(session, stream, code, now);
        self.handle_events(now);
    }

    fn handle_stop(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.client.handle_stop(session, stream, code, now);
        self.handle_events(now);
    }

    fn handle_datagram(&mut self, session: SessionId, bytes: Bytes, now: Instant) {
        self.client.handle_datagram(session, bytes, now);
        self.handle_events(now);
    }

    fn handle_sent(&mut self, session: SessionId, stream: StreamId, length: usize, now: Instant) {
        self.client.handle_sent(session, stream, length, now);
    }

    fn handle_closed(&mut self, session: SessionId, closed: Closed, now: Instant) {
        self.client.handle_closed(session, closed, now);
        self.handle_events(now);
    }

    fn handle_unreachable(&mut self, target: usize, reason: &str, now: Instant) {
        self.client.handle_unreachable(target, reason, now);
        self.handle_events(now);
    }

    fn handle_command(&mut self, command: Envelope, now: Instant) {
        self.obey(command.open(), now);
        self.handle_events(now);
    }

    fn handle_drain(&mut self, now: Instant) {
        self.client.handle_drain(now);
        self.handle_events(now);
    }

    fn is_drained(&self) -> bool {
        self.client.is_drained()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.client.handle_timeout(now);
        self.handle_events(now);
    }

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        self.client.poll_action()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.client.poll_timeout()
    }
}

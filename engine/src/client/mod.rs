//! A publisher, subscriber and caller over one session that comes back when it is lost.
//!
//! A [`Client`] holds what is *wanted* — namespaces announced, tracks served, subscriptions — and
//! keeps it so on whatever session there is. Calls belong to one session and end with it. Like all
//! state machines here it is told by `handle_*`, asked by `poll_*`, and knows no socket.

use std::time::{Duration, Instant};

use aip_codec::{
    aip::call::RecordType,
    moqt::{
        error_code::{PublishDoneCode, RequestCode},
        id::GroupId,
        name::{FullTrackName, TrackNamespace},
        parameter::Parameters,
        property::Properties,
    },
};
use bytes::Bytes;

use crate::transport::{Action, Closed, Peer, SessionId, StreamId};

/// Limits of one client; every queue below has one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What we say we are (MOQT_IMPLEMENTATION).
    pub implementation: String,
    /// Content types of calls offered in the AIP setup option, most preferred first. `json`.
    pub content_types: Vec<Bytes>,
    /// Bytes of one record of a call. 64 MiB.
    pub record_length_max: usize,
    /// Bytes of one version of a track, all its objects together. 64 MiB.
    pub version_length_max: usize,
    /// Bytes that may wait for the network in one session before sends are refused. 64 MiB.
    pub queued_bytes_max: usize,
    /// Calls, both ways together, at one time. 10,000.
    pub calls_max: usize,
    /// Subscriptions and reads at one time, ours and the peer's together. 100,000.
    pub subscriptions_max: usize,
    /// How long a peer's request for a track waits for `publish` or `refuse`. 30 s.
    pub wanted_timeout: Duration,
    /// How long a subscription or read may wait at a relay for its publisher to come. 0: not at all.
    pub rendezvous_timeout: Duration,
}

/// A subscription's number in its client; reads have one too. Never used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SubscriptionId(pub u64);

/// A call's number in its client, whoever called. Never used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId(pub u64);

/// One version of a track: a group, whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrackVersion {
    /// The group; grows from version to version, also across restarts.
    pub group: GroupId,
    /// Payloads of objects 0 to n.
    pub objects: Vec<Bytes>,
    /// The track's properties, MAX_CACHE_DURATION among them.
    pub properties: Properties,
}

/// Why a request was refused, by the peer or by us.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Its code.
    pub code: RequestCode,
    /// After which time it may be tried again; `None` is never.
    pub retry_after: Option<Duration>,
    /// For people. From a peer: untrusted.
    pub reason: String,
}

/// How a call ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CallEnd {
    /// Both ends said all they had to say: after the last record.
    Finished,
    /// The relay or the callee refused it before it began.
    Refused(Refusal),
    /// The other end cancelled it.
    Cancelled,
    /// The session was lost. Whether the callee has run it is not known.
    Lost,
}

/// What the layer above learns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A session is established; what is wanted is being asked for again.
    Connected {
        /// The draft spoken.
        version: aip_codec::Version,
        /// Content types that the peer offers for calls; `None` if it does not speak AIP.
        content_types: Option<Vec<Bytes>>,
    },
    /// The session is no more; the transport connects again by itself.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
    /// No session could be had this time; the transport tries again by itself.
    Unreachable {
        /// Why, for people.
        reason: String,
    },
    /// The relay refused an announcement for good.
    AnnouncementRefused {
        /// What was announced.
        namespace: TrackNamespace,
        /// Why.
        refusal: Refusal,
    },
    /// A namespace under a watched prefix is published.
    NamespaceAppeared {
        /// The whole namespace.
        namespace: TrackNamespace,
    },
    /// It is no longer.
    NamespaceGone {
        /// The whole namespace.
        namespace: TrackNamespace,
    },
    /// Somebody asks for a track that has no version, or only an expired one: answer with
    /// [`Client::publish`] or [`Client::refuse`]. Said once until then.
    TrackWanted {
        /// The track.
        track: FullTrackName,
    },
    /// Nobody is subscribed to a published track any more. Its version is forgotten when it expires.
    TrackUnwanted {
        /// The track.
        track: FullTrackName,
    },
    /// A subscription or read has a version, whole. A read has ended with it.
    Version {
        /// Which.
        subscription: SubscriptionId,
        /// The version.
        version: TrackVersion,
    },
    /// A subscription or read was refused, and has ended.
    SubscriptionRefused {
        /// Which.
        subscription: SubscriptionId,
        /// Why.
        refusal: Refusal,
    },
    /// A subscription that was accepted has ended at its publisher's or relay's will.
    SubscriptionEnded {
        /// Which.
        subscription: SubscriptionId,
        /// Why.
        code: PublishDoneCode,
    },
    /// Somebody calls.
    CallReceived {
        /// Which.
        call: CallId,
        /// Whom: one of our namespaces, or one below it.
        namespace: TrackNamespace,
        /// What: the MCP method, or `session`.
        name: Bytes,
        /// DEADLINE, IDEMPOTENCY_KEY, CONTENT_TYPE and the like.
        parameters: Parameters,
    },
    /// A record of a call, ours or the peer's.
    Record {
        /// Which.
        call: CallId,
        /// Its type.
        kind: RecordType,
        /// Its payload.
        payload: Bytes,
    },
    /// A call is over; said once for each.
    CallEnded {
        /// Which.
        call: CallId,
        /// How.
        end: CallEnd,
    },
}

/// Why the caller's wish cannot be met now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// There is no established session.
    #[error("not connected")]
    NotConnected,
    /// The peer did not offer AIP in its SETUP.
    #[error("the peer does not speak AIP calls")]
    CallsUnsupported,
    /// No such call, or it has ended.
    #[error("no such call")]
    UnknownCall,
    /// A limit of [`Config`] is reached.
    #[error("limit reached: {0}")]
    LimitReached(&'static str),
    /// The peer is going away.
    #[error("the peer is going away")]
    GoingAway,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    config: Config,
}

impl Client {
    /// A client that wants nothing yet.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    // --- what is wanted ---

    /// Publishes a namespace from now on (PUBLISH_NAMESPACE), on this session and later ones.
    pub fn announce(&mut self, namespace: TrackNamespace) {
        unimplemented!()
    }
    /// Withdraws it.
    pub fn withdraw(&mut self, namespace: &TrackNamespace) {
        unimplemented!()
    }
    /// Tells of every namespace under `prefix` from now on (SUBSCRIBE_NAMESPACE).
    pub fn watch(&mut self, prefix: TrackNamespace) {
        unimplemented!()
    }
    /// Gives a track's next version, to who waits for it, to each subscription, and to who asks
    /// before `expires` (`None`: until the next one). A version with the group of the last one
    /// only renews its `expires`.
    pub fn publish(
        &mut self,
        track: &FullTrackName,
        version: TrackVersion,
        expires: Option<Instant>,
        now: Instant,
    ) {
        unimplemented!()
    }
    /// Refuses who waits for a track, and ends its subscriptions.
    pub fn refuse(&mut self, track: &FullTrackName, refusal: Refusal, now: Instant) {
        unimplemented!()
    }
    /// Subscribes: the current version and every later one, on this session and later ones. A
    /// version already told is not told again after a reconnect.
    ///
    /// # Errors
    /// If there are too many.
    pub fn subscribe(
        &mut self,
        track: FullTrackName,
        now: Instant,
    ) -> Result<SubscriptionId, ClientError> {
        unimplemented!()
    }
    /// Reads the current version once.
    ///
    /// # Errors
    /// If there are too many.
    pub fn read(
        &mut self,
        track: FullTrackName,
        now: Instant,
    ) -> Result<SubscriptionId, ClientError> {
        unimplemented!()
    }
    /// Ends a subscription or read; nothing more is told of it.
    pub fn unsubscribe(&mut self, subscription: SubscriptionId) {
        unimplemented!()
    }

    // --- calls ---

    /// Begins a call. Follow with records, the first a request; nothing is awaited in between.
    ///
    /// # Errors
    /// If there is no session that speaks AIP, it is going away, or there are too many calls.
    pub fn call(
        &mut self,
        namespace: TrackNamespace,
        name: Bytes,
        parameters: Parameters,
        now: Instant,
    ) -> Result<CallId, ClientError> {
        unimplemented!()
    }
    /// Sends a record on a call, ours or the peer's. `last`: none follows from us.
    ///
    /// # Errors
    /// If there is no such call, or too much waits for the network already.
    pub fn send_record(
        &mut self,
        call: CallId,
        kind: RecordType,
        payload: Bytes,
        last: bool,
    ) -> Result<(), ClientError> {
        unimplemented!()
    }
    /// Refuses a received call: its caller sees [`CallEnd::Refused`].
    pub fn refuse_call(&mut self, call: CallId, refusal: Refusal) {
        unimplemented!()
    }
    /// Cancels a call, ours or the peer's; nothing more is told of it.
    pub fn cancel_call(&mut self, call: CallId) {
        unimplemented!()
    }

    /// Whether a session is established.
    pub fn is_connected(&self) -> bool {
        unimplemented!()
    }

    // --- the transport: see `transport::Driver`, whose methods of the same names call these ---

    /// A connection is up.
    pub fn handle_connected(&mut self, session: SessionId, peer: Peer, now: Instant) {
        unimplemented!()
    }
    /// Bytes of a stream.
    pub fn handle_stream(
        &mut self,
        session: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) {
        unimplemented!()
    }
    /// The peer reset its sending side.
    pub fn handle_reset(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        unimplemented!()
    }
    /// The peer asks to send no more.
    pub fn handle_stop(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        unimplemented!()
    }
    /// A datagram.
    pub fn handle_datagram(&mut self, session: SessionId, bytes: Bytes, now: Instant) {
        unimplemented!()
    }
    /// Bytes have left a queue.
    pub fn handle_sent(
        &mut self,
        session: SessionId,
        stream: StreamId,
        length: usize,
        now: Instant,
    ) {
        unimplemented!()
    }
    /// The connection is no more.
    pub fn handle_closed(&mut self, session: SessionId, closed: Closed, now: Instant) {
        unimplemented!()
    }
    /// No connection could be had this time.
    pub fn handle_unreachable(&mut self, target: usize, reason: &str, now: Instant) {
        unimplemented!()
    }
    /// Begins to end: withdraws what is announced, takes no new calls.
    pub fn handle_drain(&mut self, now: Instant) {
        unimplemented!()
    }
    /// Whether no call is left.
    pub fn is_drained(&self) -> bool {
        unimplemented!()
    }
    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        unimplemented!()
    }
    /// What the transport must do next.
    pub fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        unimplemented!()
    }
    /// What the layer above learns next.
    pub fn poll_event(&mut self) -> Option<Event> {
        unimplemented!()
    }
    /// When `handle_timeout` is wanted at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        unimplemented!()
    }
}

//! What a client tells, and its limits.

use std::time::Duration;

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

impl Default for Config {
    fn default() -> Self {
        Self {
            implementation: concat!("aip/", env!("CARGO_PKG_VERSION")).to_owned(),
            content_types: vec![Bytes::from_static(b"json")],
            record_length_max: 64 << 20,
            version_length_max: 64 << 20,
            queued_bytes_max: 64 << 20,
            calls_max: 10_000,
            subscriptions_max: 100_000,
            wanted_timeout: Duration::from_secs(30),
            rendezvous_timeout: Duration::ZERO,
        }
    }
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
    /// The session was lost, ours or the other end's. Whether the callee has run it is not known.
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
    /// [`super::Client::publish`] or [`super::Client::refuse`]. Said once until then.
    TrackWanted {
        /// The track.
        track: FullTrackName,
    },
    /// Nobody is subscribed to a published track any more. Its version is forgotten when it
    /// expires, or at once if it was to stand until the next one.
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

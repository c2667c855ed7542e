//! What the tokio side tells the worker.

use std::time::Duration;

use aip_codec::{
    aip::call::RecordType,
    moqt::{
        name::{FullTrackName, TrackNamespace},
        parameter::Parameters,
    },
};
use aip_engine::client::{Refusal, TrackVersion};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{CallEvent, ReadError, SubscriptionEvent};

/// A call's or subscription's number in its link. Never used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(pub u64);

/// What the tokio side wants done.
#[derive(Debug)]
pub enum Command {
    /// Publish a namespace.
    Announce(TrackNamespace),
    /// Withdraw it.
    Withdraw(TrackNamespace),
    /// A track's next version.
    Publish {
        /// The track.
        track: FullTrackName,
        /// The version.
        version: TrackVersion,
        /// How long it is good; `None` is until the next one.
        expires: Option<Duration>,
    },
    /// Refuse a track.
    Refuse {
        /// The track.
        track: FullTrackName,
        /// Why.
        refusal: Refusal,
    },
    /// Publish this version of a track to whoever wants it.
    Offer {
        /// The track, below a namespace that is published.
        track: FullTrackName,
        /// Its only version.
        version: TrackVersion,
    },
    /// Publish it no longer, and withdraw its namespace.
    Retract {
        /// The track.
        track: FullTrackName,
    },
    /// Read a track once.
    Read {
        /// The reader's number.
        key: Key,
        /// The track.
        track: FullTrackName,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<TrackVersion, ReadError>>,
    },
    /// Follow a track.
    Subscribe {
        /// The subscription's number.
        key: Key,
        /// The track.
        track: FullTrackName,
        /// Where versions go.
        events: mpsc::Sender<SubscriptionEvent>,
    },
    /// End a read or a subscription.
    Unsubscribe {
        /// Its number.
        key: Key,
    },
    /// Begin a call.
    Call {
        /// The call's number.
        key: Key,
        /// Whom.
        namespace: TrackNamespace,
        /// What.
        name: Bytes,
        /// How.
        parameters: Parameters,
        /// Where what comes back goes.
        events: mpsc::Sender<CallEvent>,
    },
    /// Send a record on a call, ours or the peer's.
    Record {
        /// The call's number.
        key: Key,
        /// The record's type.
        kind: RecordType,
        /// Its payload.
        payload: Bytes,
        /// Whether none follows.
        last: bool,
    },
    /// Refuse a call that was received.
    RefuseCall {
        /// Its number.
        key: Key,
        /// Why.
        refusal: Refusal,
    },
    /// Cancel a call, ours or the peer's.
    CancelCall {
        /// Its number.
        key: Key,
    },
}

/// A command on its way; while it lives, it takes one place of the mailbox.
#[derive(Debug)]
pub struct Envelope {
    command: Command,
    _place: OwnedSemaphorePermit,
}

impl Envelope {
    pub(super) const fn new(command: Command, place: OwnedSemaphorePermit) -> Self {
        Self { command, _place: place }
    }

    /// The command; its place is free again.
    pub fn open(self) -> Command {
        self.command
    }
}

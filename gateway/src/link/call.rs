//! One call, seen from tokio.

use aip_codec::{
    aip::call::RecordType,
    moqt::{name::TrackNamespace, parameter::Parameters},
};
use aip_engine::client::{ClientError, Refusal};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Command, Key, Link};

/// Records of one call that may wait for its reader; one more ends the call.
pub(super) const EVENTS_MAX: usize = 4_096;

/// What happens in a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CallEvent {
    /// A record.
    Record {
        /// Its type.
        kind: RecordType,
        /// Its payload.
        payload: Bytes,
    },
    /// The end; nothing follows.
    Ended(CallOutcome),
}

/// How a call ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CallOutcome {
    /// Both ends have said all they had to say.
    Finished,
    /// The relay or the callee refused it.
    Refused(Refusal),
    /// The other end cancelled it.
    Cancelled,
    /// The session was lost. Whether it has run is not known.
    Lost,
    /// We took its records too slowly, or the network ours.
    Overrun,
    /// It could not begin.
    Unavailable(ClientError),
}

/// A call, ours or the peer's. Dropping it before its end cancels it.
#[derive(Debug)]
pub struct Call {
    link: Link,
    key: Key,
    events: mpsc::Receiver<CallEvent>,
    ended: bool,
    /// Whether we have said all.
    sent_all: bool,
}

/// A call that somebody makes to us.
#[derive(Debug)]
pub struct IncomingCall {
    /// Whom: one of our namespaces, or one below it.
    pub namespace: TrackNamespace,
    /// What: the MCP method, or `session`.
    pub name: Bytes,
    /// How.
    pub parameters: Parameters,
    /// Its records.
    pub call: Call,
}

impl Call {
    /// The call of this number, whose events come from `events`.
    pub const fn new(link: Link, key: Key, events: mpsc::Receiver<CallEvent>) -> Self {
        Self { link, key, events, ended: false, sent_all: false }
    }

    pub(super) const fn key(&self) -> Key {
        self.key
    }

    /// Sends a record. `last`: none follows from us.
    pub async fn send(&mut self, kind: RecordType, payload: Bytes, last: bool) {
        self.sent_all |= last;
        self.link.send(Command::Record { key: self.key, kind, payload, last }).await;
    }

    /// What happens next. After the end it says the same again.
    pub async fn next(&mut self) -> CallEvent {
        if self.ended {
            return CallEvent::Ended(CallOutcome::Finished);
        }
        let event = self.events.recv().await.unwrap_or(CallEvent::Ended(CallOutcome::Overrun));
        self.ended = matches!(event, CallEvent::Ended(_));
        event
    }

    /// The peer has said all that we wanted: the call ends by itself, unless it waits for us.
    pub fn finish(mut self) {
        self.ended |= self.sent_all;
    }

    /// Refuses a call that was received.
    pub async fn refuse(mut self, refusal: Refusal) {
        self.ended = true;
        self.link.send(Command::RefuseCall { key: self.key, refusal }).await;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.link.send_later(Command::CancelCall { key: self.key });
        }
    }
}

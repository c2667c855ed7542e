//! The relay tier as the edges see it: tracks to read, follow and publish, calls to make and take.
//!
//! A [`Link`] is the tokio side of one worker thread that runs an [`Edge`]. Commands go into the
//! worker's mailbox, which is bounded: who finds it full waits. Answers come back by channels,
//! which are bounded too: who does not empty his loses that call or subscription, and nobody else's.

mod call;
mod command;
mod edge;
mod open;
mod subscription;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aip_codec::{
    Version,
    moqt::{
        name::{FullTrackName, TrackNamespace},
        parameter::Parameters,
    },
};
use aip_engine::client::{ClientError, Refusal, TrackVersion};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

pub use call::{Call, CallEvent, CallOutcome, IncomingCall};
pub use command::{Command, Envelope, Key};
pub use edge::{Edge, Limits};
pub use open::{Options, close, open};
pub use subscription::{Subscription, SubscriptionEvent};

/// Commands that may wait for the worker.
pub const COMMANDS_MAX: usize = 4_096;

/// Whether there is a session with a relay.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Connection {
    /// None yet, or none any more.
    Down {
        /// Why, once a reason is known. May hold a peer's words.
        reason: Option<String>,
    },
    /// There is.
    Up {
        /// The draft spoken.
        version: Version,
        /// Whether the relay carries calls.
        calls: bool,
    },
}

/// What the tier wants of a publisher.
#[derive(Debug)]
pub enum Served {
    /// Somebody asks for a track: publish a version of it, or refuse.
    TrackWanted(FullTrackName),
    /// Nobody follows a track any more.
    TrackUnwanted(FullTrackName),
    /// Somebody calls.
    Called(IncomingCall),
    /// A namespace was refused for good.
    AnnouncementRefused(TrackNamespace, Refusal),
}

/// Why a track could not be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// The relay or the publisher refused.
    #[error("{}: {}", .0.code.name(), .0.reason)]
    Refused(Refusal),
    /// It could not be asked.
    #[error(transparent)]
    Unavailable(#[from] ClientError),
    /// The session was lost.
    #[error("the session with the relay was lost")]
    Lost,
}

/// The way to the relay tier. Clones are the same link.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    send: Box<dyn Fn(Envelope) -> bool + Send + Sync>,
    permits: Arc<Semaphore>,
    keys: Arc<AtomicU64>,
    connection: watch::Receiver<Connection>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Link")
            .field("connection", &*self.inner.connection.borrow())
            .finish_non_exhaustive()
    }
}

impl Link {
    /// A link whose commands go to `send`, which says whether there still is somebody to take
    /// them, and must have room for [`COMMANDS_MAX`] of them. `keys` numbers calls and
    /// subscriptions for both ends of the way.
    pub fn over(
        send: impl Fn(Envelope) -> bool + Send + Sync + 'static,
        keys: Arc<AtomicU64>,
        connection: watch::Receiver<Connection>,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(COMMANDS_MAX));
        Self { inner: Arc::new(Inner { send: Box::new(send), permits, keys, connection }) }
    }

    /// Whether there is a session with a relay, and every change of that.
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.inner.connection.clone()
    }

    /// Waits for a session with a relay, no longer than `patience`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connected(&self, patience: Duration) -> Result<(), String> {
        let mut connection = self.connection();
        let up = connection.wait_for(|connection| matches!(connection, Connection::Up { .. }));
        match tokio::time::timeout(patience, up).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err("the link has ended".to_owned()),
            Err(_) => Err(match &*self.inner.connection.borrow() {
                Connection::Down { reason: Some(reason) } => reason.clone(),
                Connection::Down { reason: None } | Connection::Up { .. } => "no answer".to_owned(),
            }),
        }
    }

    /// Publishes a namespace from now on.
    pub async fn announce(&self, namespace: TrackNamespace) {
        self.send(Command::Announce(namespace)).await;
    }

    /// Withdraws it.
    pub async fn withdraw(&self, namespace: TrackNamespace) {
        self.send(Command::Withdraw(namespace)).await;
    }

    /// Gives a track's next version, good for `expires`; `None` is until the next one. A version
    /// with the group of the last one only renews that.
    pub async fn publish(
        &self,
        track: FullTrackName,
        version: TrackVersion,
        expires: Option<Duration>,
    ) {
        self.send(Command::Publish { track, version, expires }).await;
    }

    /// Publishes a track of one version, and its namespace for it alone, until the guard is dropped.
    pub(crate) async fn offer(&self, track: FullTrackName, version: TrackVersion) -> Guard {
        let undo = Some(Command::Retract { track: track.clone() });
        let guard = Guard { link: self.clone(), undo };
        self.announce(track.namespace().clone()).await;
        self.send(Command::Offer { track, version }).await;
        guard
    }

    /// Refuses who waits for a track, and ends its subscriptions.
    pub async fn refuse(&self, track: FullTrackName, refusal: Refusal) {
        self.send(Command::Refuse { track, refusal }).await;
    }

    /// The current version of a track.
    ///
    /// # Errors
    /// If there is none to be had.
    pub async fn read(&self, track: FullTrackName) -> Result<TrackVersion, ReadError> {
        let (answer, answered) = oneshot::channel();
        let key = self.next_key();
        let mut guard = Guard { link: self.clone(), undo: Some(Command::Unsubscribe { key }) };
        self.send(Command::Read { key, track, answer }).await;
        let answer = answered.await.unwrap_or(Err(ReadError::Lost));
        guard.undo = None;
        answer
    }

    /// The current version of a track and every later one, until dropped.
    pub async fn subscribe(&self, track: FullTrackName) -> Subscription {
        let (events, received) = mpsc::channel(subscription::EVENTS_MAX);
        let key = self.next_key();
        self.send(Command::Subscribe { key, track, events }).await;
        Subscription::new(self.clone(), key, received)
    }

    /// Begins a call; follow with records, the first a request.
    pub async fn call(
        &self,
        namespace: TrackNamespace,
        name: Bytes,
        parameters: Parameters,
    ) -> Call {
        let (events, received) = mpsc::channel(call::EVENTS_MAX);
        let key = self.next_key();
        self.send(Command::Call { key, namespace, name, parameters, events }).await;
        Call::new(self.clone(), key, received)
    }

    fn next_key(&self) -> Key {
        Key(self.inner.keys.fetch_add(1, Ordering::Relaxed))
    }

    /// Hands a command over, waiting for room. If nobody is there to take it, it is dropped, and
    /// with it the channel for its answer.
    async fn send(&self, command: Command) {
        if let Ok(permit) = Arc::clone(&self.inner.permits).acquire_owned().await {
            self.push(command, permit);
        }
    }

    /// The same from where one cannot wait.
    fn send_later(&self, command: Command) {
        match Arc::clone(&self.inner.permits).try_acquire_owned() {
            Ok(permit) => self.push(command, permit),
            Err(_) => {
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    let link = self.clone();
                    runtime.spawn(async move { link.send(command).await });
                }
            }
        }
    }

    fn push(&self, command: Command, permit: OwnedSemaphorePermit) {
        if !(self.inner.send)(Envelope::new(command, permit)) {
            tracing::debug!("a command came after the worker's end");
        }
    }
}

/// Takes a command back when dropped.
pub(crate) struct Guard {
    link: Link,
    undo: Option<Command>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(command) = self.undo.take() {
            self.link.send_later(command);
        }
    }
}

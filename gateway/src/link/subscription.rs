//! One subscription, seen from tokio.

use aip_codec::moqt::error_code::PublishDoneCode;
use aip_engine::client::TrackVersion;
use tokio::sync::mpsc;

use super::{Command, Key, Link, ReadError};

/// Versions that may wait for their reader; one more ends the subscription.
pub(super) const EVENTS_MAX: usize = 64;

/// What happens to a subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SubscriptionEvent {
    /// A version.
    Version(TrackVersion),
    /// It was refused, or could not be asked for; nothing follows.
    Refused(ReadError),
    /// It was ended by the relay or the publisher; nothing follows.
    Ended(PublishDoneCode),
}

/// A subscription. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    link: Link,
    key: Key,
    events: mpsc::Receiver<SubscriptionEvent>,
}

impl Subscription {
    pub(super) const fn new(
        link: Link,
        key: Key,
        events: mpsc::Receiver<SubscriptionEvent>,
    ) -> Self {
        Self { link, key, events }
    }

    /// What happens next; `None` after the end, or if we took versions too slowly.
    pub async fn next(&mut self) -> Option<SubscriptionEvent> {
        self.events.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.link.send_later(Command::Unsubscribe { key: self.key });
    }
}

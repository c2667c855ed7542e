//! Following a track for its changes, whatever happens to relay and publisher.

use std::time::Duration;

use aip_codec::moqt::{id::GroupId, name::FullTrackName};
use tokio::{sync::mpsc, task::AbortHandle};

use crate::link::{Link, ReadError, SubscriptionEvent};

/// How long to wait before a subscription that ended is asked for again.
pub(super) const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Changes that may wait for their reader. One that finds no place is told by those before it.
const CHANGES_MAX: usize = 16;

/// What happens to a track that is followed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Followed {
    /// Its current version, the first one told.
    Current(GroupId),
    /// A later version.
    Changed(GroupId),
    /// It cannot be followed, at least now; it is tried again.
    Refused(ReadError),
}

/// A track that is followed until this is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) changes: mpsc::Receiver<Followed>,
    following: AbortHandle,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// Follows a track.
pub(super) fn follow(link: Link, track: FullTrackName) -> Follower {
    let (sender, changes) = mpsc::channel(CHANGES_MAX);
    let following = tokio::spawn(run(link, track, sender)).abort_handle();
    Follower { changes, following }
}

async fn run(link: Link, track: FullTrackName, changes: mpsc::Sender<Followed>) {
    let mut last: Option<GroupId> = None;
    let mut patience = RETRY;
    loop {
        let mut subscription = link.subscribe(track.clone()).await;
        while let Some(event) = subscription.next().await {
            let followed = match event {
                SubscriptionEvent::Version(version) => {
                    patience = RETRY;
                    let group = version.group;
                    match last.replace(group) {
                        None => Followed::Current(group),
                        Some(before) if before < group => Followed::Changed(group),
                        Some(before) => {
                            last = Some(before);
                            continue;
                        }
                    }
                }
                SubscriptionEvent::Refused(error) => Followed::Refused(error),
                SubscriptionEvent::Ended(_) => break,
            };
            if let Err(mpsc::error::TrySendError::Closed(_)) = changes.try_send(followed) {
                return;
            }
        }
        tokio::time::sleep(patience).await;
        patience = (patience * 2).min(RETRY_MAX);
    }
}

//! Opening a link: a worker thread with a session to one relay.

use std::sync::{Arc, OnceLock, atomic::AtomicU64};

use aip_engine::{
    client,
    io::{self, Handle, Mailbox, Target},
};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::encoding::CONTENT_TYPES;

use super::{COMMANDS_MAX, Connection, Edge, Envelope, Limits, Link, Served};

/// How a link is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The relay.
    pub relay: Target,
    /// Limits of the client.
    pub client: client::Config,
    /// Limits of what waits for the tokio side.
    pub limits: Limits,
}

impl Options {
    /// The defaults, with this relay.
    pub fn new(relay: Target) -> Self {
        let mut client = client::Config::default();
        client.content_types = CONTENT_TYPES.map(|name| Bytes::from_static(name.as_bytes())).into();
        Self { relay, client, limits: Limits::default() }
    }
}

/// Begins a worker that connects, and connects again whenever the session is lost.
///
/// The worker ends when [`Handle::shutdown`] tells it to.
///
/// # Errors
/// If the relay's URL or trust cannot be used, or the system refuses a socket or a thread.
pub fn open(
    options: Options,
) -> Result<(Link, mpsc::Receiver<Served>, Handle<Envelope>), io::Error> {
    let mut config = io::Config::client(vec![options.relay]);
    config.mailbox_capacity = COMMANDS_MAX;
    let keys = Arc::new(AtomicU64::new(0));
    let (changed, connection) = watch::channel(Connection::Down { reason: None });
    let mailbox: Arc<OnceLock<Mailbox<Envelope>>> = Arc::new(OnceLock::new());
    let link = {
        let mailbox = Arc::clone(&mailbox);
        let send =
            move |envelope| mailbox.get().is_some_and(|mailbox| mailbox.send(envelope).is_ok());
        Link::over(send, Arc::clone(&keys), connection)
    };
    let (edge, served) = Edge::new(options.client, options.limits, link.clone(), keys, changed);
    let handle = io::spawn(config, move || edge)?;
    // Set once, here.
    _ = mailbox.set(handle.mailbox());
    Ok((link, served, handle))
}

/// Ends a link's worker and waits for it.
pub async fn close(handle: Handle<Envelope>) {
    handle.shutdown();
    let ended = tokio::task::spawn_blocking(move || handle.join()).await;
    if let Ok(Err(error)) = ended {
        tracing::warn!("the link ended badly: {error}");
    }
}

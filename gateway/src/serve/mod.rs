//! `aip-mcp serve`: puts an MCP server on the relay tier.
//!
//! One task owns what is published (`tracks`); each call and each agent's session has a task of
//! its own (`calls`, `sessions`).

mod agents;
mod calls;
mod interop;
mod leases;
mod policy;
mod publisher;
mod rounds;
mod running;
mod sessions;
mod subscribing;
mod tracks;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    backend::{Backend, News},
    link::{Link, Served},
    message::Limits,
    name::ServerName,
    observed::Observer,
};

pub(crate) use agents::can_be_asked;
pub use agents::{OwnProcesses, Processes};
pub use publisher::Counts;

/// How a server is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it is called.
    pub name: ServerName,
    /// How long a result is good if the server neither says so nor tells of changes. 1 s.
    pub default_ttl: Duration,
    /// How long a call may go without a sign of life. 5 min.
    pub call_timeout: Duration,
    /// How long a call may take in all, whatever signs of life there are. 1 h.
    pub call_deadline: Duration,
    /// How long the result of a call with an idempotency key is kept. 5 min.
    pub results_kept: Duration,
    /// How long a call waits for what its agent was asked, if that comes by another call (an agent of
    /// 2026-07-28 at a server with sessions). 10 min.
    pub input_wait: Duration,
    /// How long the server may take to answer a read. 25 s.
    pub read_timeout: Duration,
    /// How old a result may be that is given again because the server fails; zero is never. 0 s.
    pub stale_if_error: Duration,
    /// Calls at one time; one more is refused. 1,000.
    pub calls_max: usize,
    /// Agents' sessions at one time; one more is refused. 5,000.
    pub sessions_max: usize,
    /// Tracks that are kept up to date at one time; one more is refused. 10,000.
    pub tracks_max: usize,
    /// Limits of messages.
    pub limits: Limits,
    /// How long calls may go on once the edge is told to end. 5 s.
    pub drain_timeout: Duration,
    /// Who is told of what the server is asked. Nobody.
    pub observer: Observer,
}

impl Options {
    /// The defaults, with this name.
    pub fn new(name: ServerName) -> Self {
        Self {
            name,
            default_ttl: Duration::from_secs(1),
            call_timeout: Duration::from_secs(300),
            call_deadline: Duration::from_secs(3_600),
            results_kept: Duration::from_secs(300),
            input_wait: Duration::from_secs(600),
            read_timeout: Duration::from_secs(25),
            stale_if_error: Duration::ZERO,
            calls_max: 1_000,
            sessions_max: 5_000,
            tracks_max: 10_000,
            limits: Limits::default(),
            drain_timeout: Duration::from_secs(5),
            observer: Observer::default(),
        }
    }
}

/// What an edge works with.
#[derive(Debug)]
pub struct Server {
    /// The way to the relay tier.
    pub link: Link,
    /// What the tier wants.
    pub served: mpsc::Receiver<Served>,
    /// The MCP server.
    pub backend: Backend,
    /// What it says by itself.
    pub news: mpsc::Receiver<News>,
    /// How agents get processes of their own; `None`: all share the backend.
    pub own: Option<OwnProcesses>,
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The MCP server could not be started at all.
    #[error("the MCP server cannot be used: {0}")]
    Backend(String),
    /// The relay refuses the server's name.
    #[error("the relay refuses to publish `{name}`: {reason}")]
    Refused {
        /// The name.
        name: ServerName,
        /// What the relay says. A peer's words.
        reason: String,
    },
    /// The link's worker has ended.
    #[error("the link to the relay has ended")]
    Link,
}

/// Serves until `stop` is done; then takes the server off the tier, lets calls end, and ends it.
///
/// # Errors
/// If the server or the relay cannot be used at all.
pub async fn run(
    server: Server,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Result<Counts, Error> {
    let backend = server.backend.clone();
    let ended = publisher::run(server, Arc::new(options), stop).await;
    backend.shutdown().await;
    ended
}

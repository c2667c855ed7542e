//! `aip-mcp connect`: offers an MCP server of the relay tier to MCP clients.
//!
//! A [`Connector`] is one server seen through one link; a [`session::Session`] is one agent with a
//! session at it. Reads are answered from tracks, that is from a relay's cache if it can; what is
//! no read, and what a track refuses, is a call, answered by the server itself.

pub(crate) mod call;
mod follow;
mod interop;
mod listen;
mod questions;
mod rounds;
pub mod session;
mod standing;
mod tools;

use std::{sync::Arc, time::Duration};

use aip_codec::moqt::{id::GroupId, name::TrackNamespace};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

pub(crate) use listen::notification;
pub use questions::Questions;

use crate::{
    bridge::{self, CLIENT_CAPABILITIES, ClientIdentity, PROTOCOL_VERSION},
    clock::unix_milliseconds,
    description::Description,
    encoding::Encoding,
    link::{Link, ReadError, Subscription, SubscriptionEvent},
    message::{Limits, Message, code, meta},
    name::{SERVER_TRACK, ServerName},
    observed::Observer,
    random::unguessable_bytes,
    read::{LISTS, Read},
    revision::Revision,
    serve::can_be_asked,
    version,
};

/// How a server is offered.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub server: ServerName,
    /// How long to wait for the relay and for the server to be announced. 10 s.
    pub wait: Duration,
    /// How long a relay may take to answer a read before the server is called instead. 10 s.
    pub read_timeout: Duration,
    /// How long a request waits for a lost session to come back. 10 s.
    pub reconnect_timeout: Duration,
    /// How long any call may take; `None` leaves it to the other edge.
    pub call_deadline: Option<Duration>,
    /// Priority of calls, 0 (first) to 255; `None` is 128.
    pub priority: Option<u8>,
    /// Whether reads are answered from tracks; if not, everything is a call. Yes.
    pub reads_tracks: bool,
    /// Whether agents that ask in another way than the server's own, with or without a session, are
    /// offered it. Yes.
    pub bridges: bool,
    /// Whether results of reads say in `_meta` (`aip/cache`) where they come from. No.
    pub tells_cache_status: bool,
    /// How calls are encoded, if the server's edge takes it. JSON.
    pub encoding: Encoding,
    /// Limits of messages.
    pub limits: Limits,
    /// Who is told of requests. Nobody.
    pub observer: Observer,
}

/// In a result's `_meta`: where it comes from.
pub(crate) const CACHE_STATUS: &str = "aip/cache";

impl Options {
    /// The defaults, with this server.
    pub fn new(server: ServerName) -> Self {
        Self {
            server,
            wait: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            reconnect_timeout: Duration::from_secs(10),
            call_deadline: None,
            priority: None,
            reads_tracks: true,
            bridges: true,
            tells_cache_status: false,
            encoding: Encoding::Json,
            limits: Limits::default(),
            observer: Observer::default(),
        }
    }
}

/// Why a server cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No session with the relay.
    #[error(
        "the relay cannot be reached: {0}. Check the URL, that the relay runs, and that its \
         certificate is trusted (--ca, --certificate-sha256)"
    )]
    Relay(String),
    /// The relay knows no such server.
    #[error(
        "`{server}` is not published at this relay (waited {waited:?}): {reason}. Start \
         `aip-mcp serve` with this name, or wait longer with --wait"
    )]
    NotAnnounced {
        /// The name that was asked for.
        server: ServerName,
        /// How long.
        waited: Duration,
        /// What the relay says. May hold a peer's words.
        reason: String,
    },
}

/// How long to wait before what has ended is begun again.
pub(crate) const fn retry() -> Duration {
    follow::RETRY
}

/// What is known of who asks.
#[derive(Clone, Debug)]
pub struct Client {
    /// The revision that it speaks.
    pub revision: Revision,
    /// What it can do, as JSON text.
    pub capabilities: String,
    /// Its name and version, as JSON text.
    pub info: Option<String>,
    /// The log messages that it asked for, as JSON text.
    pub log_level: Option<String>,
    /// What its calls are made to, if it has a process of the server for itself.
    pub process: Option<TrackNamespace>,
}

impl Client {
    /// A client without sessions: its requests say the rest.
    pub fn modern() -> Self {
        let capabilities = "{}".to_owned();
        Self {
            revision: Revision::LATEST,
            capabilities,
            info: None,
            log_level: None,
            process: None,
        }
    }
}

/// How what belongs to a request reaches its agent before the answer, and the agent's answers to
/// that come back.
#[derive(Debug)]
pub struct Talk {
    /// To the agent.
    pub to_agent: mpsc::Sender<Message>,
    /// Requests to the agent need ids of their own; `None` refuses them.
    pub questions: Option<Arc<Questions>>,
}

/// A server of the tier.
#[derive(Debug)]
pub struct Connector {
    link: Link,
    options: Options,
    description: watch::Receiver<Arc<Description>>,
    /// Whether the server is published.
    presence: watch::Receiver<bool>,
    watching: AbortHandle,
    tools: tools::Known,
    /// Keeps the keys that agents choose apart from those at other edges.
    secret: [u8; 16],
}

impl Drop for Connector {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Connector {
    /// Waits for the relay and the server.
    ///
    /// # Errors
    /// If either is not there in time.
    pub async fn start(link: Link, options: Options) -> Result<Arc<Self>, Error> {
        link.connected(options.wait).await.map_err(Error::Relay)?;
        let not_announced = |reason: String| Error::NotAnnounced {
            server: options.server.clone(),
            waited: options.wait,
            reason,
        };
        let track =
            options.server.track(SERVER_TRACK).map_err(|error| not_announced(error.to_string()))?;
        let mut reason = "no answer".to_owned();
        let first = async {
            loop {
                let mut subscription = link.subscribe(track.clone()).await;
                match first_description(&mut subscription).await {
                    Ok(description) => return (subscription, description),
                    Err(why) => reason = why,
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let first = tokio::time::timeout(options.wait, first).await;
        let (subscription, description) = first.map_err(|_| not_announced(reason))?;
        let (changed, receiver) = watch::channel(Arc::new(description));
        let (present, presence) = watch::channel(true);
        let told = Told { changed, present };
        let watching = tokio::spawn(watch_server(link.clone(), track, subscription, told));
        let watching = watching.abort_handle();
        Ok(Arc::new(Self {
            link,
            options,
            description: receiver,
            presence,
            watching,
            tools: tools::Known::default(),
            secret: unguessable_bytes().unwrap_or_default(),
        }))
    }

    /// What the server says of itself.
    pub fn description(&self) -> Arc<Description> {
        Arc::clone(&self.description.borrow())
    }

    /// How calls are encoded: what is wanted, if the server's edge takes it.
    fn encoding(&self) -> Encoding {
        if self.description.borrow().takes_compact { self.options.encoding } else { Encoding::Json }
    }

    /// Whether the server is published now, and every change of that.
    pub fn presence(&self) -> watch::Receiver<bool> {
        self.presence.clone()
    }

    /// How it is offered.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Answers a request of a client without a session.
    pub async fn answer_modern(&self, request: &Message, talk: &Talk) -> Message {
        if let Some(error) = check_modern(request) {
            return error;
        }
        self.answer(&Client::modern(), request, talk, &mut |_, _| {}).await
    }

    /// Answers a request. `seen` is told which version of which track a read was answered with.
    pub(crate) async fn answer(
        &self,
        client: &Client,
        request: &Message,
        talk: &Talk,
        seen: &mut (dyn FnMut(&Read, GroupId) + Send),
    ) -> Message {
        let Some(id) = request.id() else {
            return Message::error(None, code::INVALID_REQUEST, "a request is wanted", "");
        };
        let description = self.description();
        match request.method() {
            "server/discover" if client.revision.is_modern() => {
                if !description.revision.is_modern() && !self.options.bridges {
                    let reason = "the MCP server has sessions: send `initialize`";
                    return Message::error(Some(id), code::METHOD_NOT_FOUND, reason, "");
                }
                return Message::result(id, bridge::discover_result(&description).as_bytes());
            }
            "subscriptions/listen" if client.revision.is_modern() => {
                return listen::run(self, client, request, talk).await;
            }
            "ping" if !client.revision.is_modern() => return Message::result(id, b"{}"),
            _ => {}
        }
        if self.options.reads_tracks
            && client.process.is_none()
            && !lists_for_itself(client, &description, request)
            && let Some(read) = Read::of_request(request)
            && let Ok((group, result)) = self.read(&read).await
        {
            seen(&read, group);
            let answer = Message::result(id, &result);
            let answer = bridged(client, &description, request.method(), answer);
            return self.with_status(answer, Some(group));
        }
        let answer = if !client.revision.is_modern() && description.revision.is_modern() {
            rounds::run(self, client, request, talk).await
        } else {
            call::run(self, client, request, talk).await
        };
        let answer = bridged(client, &description, request.method(), answer);
        let reads = bridge::CACHEABLE.contains(&request.method());
        if reads { self.with_status(answer, None) } else { answer }
    }

    /// The result with where it comes from in its `_meta`, if that is wanted: the version of a track,
    /// or the server itself.
    fn with_status(&self, answer: Message, version: Option<GroupId>) -> Message {
        if !self.options.tells_cache_status || answer.kind() != crate::message::Kind::Result {
            return answer;
        }
        let status = match version {
            Some(version) => {
                let age = unix_milliseconds().saturating_sub(version.0);
                format!(r#"{{"from":"track","version":{},"ageMs":{age}}}"#, version.0)
            }
            None => r#"{"from":"server"}"#.to_owned(),
        };
        answer.with_body(&bridge::with_meta(answer.body(), CACHE_STATUS, &status))
    }

    /// A track's current result.
    async fn read(&self, read: &Read) -> Result<(GroupId, Bytes), ReadError> {
        let name = read.track_name();
        let track = self.options.server.track(&name).map_err(|_| ReadError::Lost)?;
        let reading = self.link.read(track);
        let version = tokio::time::timeout(self.options.read_timeout, reading)
            .await
            .unwrap_or(Err(ReadError::Lost))?;
        Ok((version.group, version::result_of(&version)))
    }
}

/// What a request without a session must say; the error if it does not.
pub(crate) fn check_modern(request: &Message) -> Option<Message> {
    let id = request.id();
    let Some(version) = meta(request.body(), PROTOCOL_VERSION) else {
        let reason = format!("params._meta must say `{PROTOCOL_VERSION}`");
        return Some(Message::error(id, code::INVALID_PARAMS, &reason, ""));
    };
    let version: Option<String> = serde_json::from_str(version.value).ok();
    let known = version.as_deref().and_then(Revision::parse);
    if !known.is_some_and(Revision::is_modern) {
        let requested = serde_json::Value::from(version);
        let data = format!(r#"{{"supported":["{}"],"requested":{requested}}}"#, Revision::LATEST);
        let reason = "Unsupported protocol version";
        return Some(Message::error(id, code::UNSUPPORTED_PROTOCOL_VERSION, reason, &data));
    }
    if meta(request.body(), CLIENT_CAPABILITIES).is_none() {
        let reason = format!("params._meta must say `{CLIENT_CAPABILITIES}`");
        return Some(Message::error(id, code::INVALID_PARAMS, &reason, ""));
    }
    None
}

/// Whether a request is for what a server with sessions lists for clients that it can ask, which a track
/// does not say. A client with a session has a process for that anyway.
fn lists_for_itself(client: &Client, description: &Description, request: &Message) -> bool {
    client.revision.is_modern()
        && description.own_processes
        && LISTS.contains(&request.method())
        && meta(request.body(), CLIENT_CAPABILITIES).is_some_and(|able| can_be_asked(able.value))
}

/// The request of a client with a session as a server without sessions needs it.
fn as_server_needs(client: &Client, request: &Message) -> Message {
    let who = ClientIdentity {
        capabilities: &client.capabilities,
        info: client.info.as_deref(),
        log_level: client.log_level.as_deref(),
    };
    let params = bridge::params_for_modern(request.body(), &who);
    match (request.body().is_empty(), request.id()) {
        (true, Some(id)) => Message::request(id.clone(), request.method(), &params),
        (true, None) | (false, _) => request.with_body(&params),
    }
}

/// The answer in terms of the client's revision.
fn bridged(client: &Client, description: &Description, method: &str, answer: Message) -> Message {
    if answer.kind() != crate::message::Kind::Result {
        return answer;
    }
    match bridge::result_for(client.revision, description.revision, method, answer.body()) {
        Ok(None) => answer,
        Ok(Some(body)) => answer.with_body(&body),
        Err(reason) => Message::error(answer.id(), code::INTERNAL_ERROR, reason, ""),
    }
}

/// The first description that a subscription gives, or why there is none.
async fn first_description(subscription: &mut Subscription) -> Result<Description, String> {
    match subscription.next().await {
        Some(SubscriptionEvent::Version(version)) => {
            Description::of_announcement(&version::result_of(&version))
                .ok_or_else(|| "it does not announce an MCP server that is known here".to_owned())
        }
        Some(SubscriptionEvent::Refused(error)) => Err(error.to_string()),
        Some(SubscriptionEvent::Ended(code)) => Err(code.name().to_owned()),
        None => Err("the link has ended".to_owned()),
    }
}

/// Who hears of the server's announcement.
struct Told {
    changed: watch::Sender<Arc<Description>>,
    present: watch::Sender<bool>,
}

impl Told {
    fn presence(&self, now: bool) {
        self.present.send_if_modified(|before| std::mem::replace(before, now) != now);
    }
}

/// Keeps the description up to date.
async fn watch_server(
    link: Link,
    track: aip_codec::moqt::name::FullTrackName,
    mut subscription: Subscription,
    told: Told,
) {
    loop {
        match first_description(&mut subscription).await {
            Ok(description) => {
                told.changed.send_if_modified(|current| {
                    let differs = **current != description;
                    if differs {
                        *current = Arc::new(description);
                    }
                    differs
                });
                told.presence(true);
            }
            Err(reason) => {
                told.presence(false);
                tracing::debug!(reason, "the server's announcement cannot be followed");
                tokio::time::sleep(follow::RETRY).await;
                subscription = link.subscribe(track.clone()).await;
            }
        }
    }
}

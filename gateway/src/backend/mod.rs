//! The MCP server that a serving edge stands beside.
//!
//! One backend serves every agent. Requests get ids of their own towards it, and their answers get
//! the agents' ids back; so do progress tokens. Whatever happens to a backend, each request is
//! answered.

mod correlation;
pub mod http;
pub mod stdio;

use tokio::sync::mpsc;

use crate::{
    description::Description,
    message::{Kind, Message, code},
    revision::Revision,
};

pub use correlation::Restore;

/// Messages of one request that may wait for their reader; more of them are dropped, but for the
/// answer.
pub const EVENTS_MAX: usize = 1_024;
/// News of a backend that may wait for their reader.
pub const NEWS_MAX: usize = 1_024;
/// Requests that may wait for a backend to take them.
pub const REQUESTS_MAX: usize = 1_024;

/// What a backend says in the course of one request.
#[derive(Clone, Debug)]
pub enum Event {
    /// A notification, or a request to whoever asked.
    Message(Message),
    /// The answer; nothing follows.
    Answer(Message),
}

/// What a backend says by itself.
#[derive(Clone, Debug)]
pub enum News {
    /// It is up, and this is what it says of itself. What it was subscribed to is forgotten.
    Up(Description),
    /// It is down.
    Down(String),
    /// A notification that belongs to no request.
    Message(Message),
}

/// Who asks a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asker {
    /// An agent, who can be asked back.
    Agent,
    /// The edge itself.
    Edge,
}

/// A request under way. Dropping it before its answer cancels it.
#[derive(Debug)]
pub struct Exchange {
    events: mpsc::Receiver<Event>,
    /// What was looked at and is still to be told.
    looked_at: Option<Event>,
    /// Tells the backend that the exchange is over, by being dropped.
    _interest: Interest,
}

/// Cancels a request when dropped.
#[derive(Debug)]
struct Interest {
    ticket: u64,
    /// At most one message for each exchange there is.
    cancels: mpsc::UnboundedSender<u64>,
}

impl Drop for Interest {
    fn drop(&mut self) {
        // A backend that has ended needs no telling.
        _ = self.cancels.send(self.ticket);
    }
}

impl Exchange {
    const fn new(events: mpsc::Receiver<Event>, interest: Interest) -> Self {
        Self { events, looked_at: None, _interest: interest }
    }

    /// What the backend says next; `None` after the answer, or if it will never come.
    pub async fn next(&mut self) -> Option<Event> {
        match self.looked_at.take() {
            Some(event) => Some(event),
            None => self.events.recv().await,
        }
    }

    /// A request to whoever asked, if that is what the backend says next and has said already.
    pub fn question(&mut self) -> Option<Message> {
        if self.looked_at.is_none() {
            self.looked_at = self.events.try_recv().ok();
        }
        match self.looked_at.take() {
            Some(Event::Message(message)) if message.kind() == Kind::Request => Some(message),
            other => {
                self.looked_at = other;
                None
            }
        }
    }

    /// The answer, whatever is said before it.
    pub async fn answer(mut self) -> Option<Message> {
        loop {
            match self.next().await? {
                Event::Message(_) => {}
                Event::Answer(message) => return Some(message),
            }
        }
    }
}

/// An MCP server, however it is reached. Clones are the same server.
#[derive(Clone, Debug)]
pub enum Backend {
    /// A process.
    Stdio(stdio::Stdio),
    /// A URL.
    Http(http::Http),
}

impl Backend {
    /// Passes a request on, as its asker wrote it. Answers come with the asker's id and token.
    pub async fn request(&self, request: Message, asker: Asker) -> Exchange {
        match self {
            Self::Stdio(backend) => backend.request(request, asker).await,
            Self::Http(backend) => backend.request(request, asker).await,
        }
    }

    /// Passes a notification on, or an answer to what the backend asked.
    pub async fn send(&self, message: Message) {
        match self {
            Self::Stdio(backend) => backend.send(message).await,
            Self::Http(backend) => backend.send(message).await,
        }
    }

    /// Ends the backend and waits until it has ended.
    pub async fn shutdown(&self) {
        match self {
            Self::Stdio(backend) => backend.shutdown().await,
            Self::Http(backend) => backend.shutdown().await,
        }
    }
}

/// What an edge says of itself to a backend, as JSON text.
pub fn client_info() -> String {
    format!(r#"{{"name":"aip-mcp","version":"{}"}}"#, env!("CARGO_PKG_VERSION"))
}

/// Who a server with sessions talks with, as JSON text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientSide {
    /// What it can do.
    pub capabilities: String,
    /// Its name and version; `None` is the edge's.
    pub info: Option<String>,
}

impl ClientSide {
    /// All agents behind an edge together: between them, they may do all of this.
    pub fn of_all() -> Self {
        let capabilities =
            r#"{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{}}"#.to_owned();
        Self { capabilities, info: None }
    }

    /// Agents that cannot be asked for anything.
    pub fn silent() -> Self {
        Self { capabilities: "{}".to_owned(), info: None }
    }

    /// The params of `initialize`.
    fn initialize_params(&self) -> String {
        format!(
            r#"{{"protocolVersion":"{}","capabilities":{},"clientInfo":{}}}"#,
            Revision::LATEST_LEGACY,
            self.capabilities,
            self.info.clone().unwrap_or_else(client_info)
        )
    }
}

/// The `_meta` of the edge's own requests to a backend without sessions.
pub fn own_meta() -> String {
    format!(
        r#"{{"{}":"{}","{}":{},"{}":{{}}}}"#,
        crate::bridge::PROTOCOL_VERSION,
        Revision::LATEST,
        crate::bridge::CLIENT_INFO,
        client_info(),
        crate::bridge::CLIENT_CAPABILITIES,
    )
}

/// The answer to what a backend asks of nobody in particular.
fn answer_unasked(request: &Message) -> Option<Message> {
    let id = request.id()?;
    if request.method() == "ping" {
        return Some(Message::result(id, b"{}"));
    }
    let reason = "no single call is under way that this request could belong to";
    Some(Message::error(Some(id), code::METHOD_NOT_FOUND, reason, ""))
}

/// Gives an event to whoever waits for it, keeping one place for the answer. Whether it got there.
fn tell(events: &mpsc::Sender<Event>, event: Event) -> bool {
    match event {
        Event::Message(_) if events.capacity() <= 1 => false,
        Event::Message(_) | Event::Answer(_) => events.try_send(event).is_ok(),
    }
}

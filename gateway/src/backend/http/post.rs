//! Requests of HTTP, and what comes back.

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use reqwest::{
    Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};

use super::{Shared, State, sse};
use crate::{
    header::{encoded, named_member},
    message::{Kind, Message, string_member},
};

const BOTH: &str = "application/json, text/event-stream";
const SESSION_ID: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";

/// Why a message did not get through.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// No connection, or it broke.
    #[error("the MCP server cannot be reached: {0}")]
    Unreachable(String),
    /// The session is no more.
    #[error("the MCP server has ended the session")]
    SessionLost,
    /// It answers with an error of HTTP.
    #[error("the MCP server answers with HTTP {0}")]
    Status(StatusCode),
    /// It says too much at once.
    #[error("the MCP server's answer is longer than {0} bytes")]
    TooLong(usize),
    /// It answers with something else than JSON or events.
    #[error("the MCP server's answer is neither JSON nor a stream of events")]
    Kind,
}

impl From<reqwest::Error> for Failed {
    fn from(error: reqwest::Error) -> Self {
        // The innermost reason is what people need; URLs may hold secrets.
        let error = error.without_url();
        let mut reason: &dyn std::error::Error = &error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        Self::Unreachable(reason.to_string())
    }
}

/// What a POST brought.
pub(super) enum Answer {
    /// It was taken; nothing is said.
    Taken,
    /// One message.
    Json(Bytes),
    /// Messages as they come.
    Events(Events),
}

/// A stream of events.
pub(super) struct Events {
    body: futures::stream::BoxStream<'static, reqwest::Result<Bytes>>,
    decoder: sse::Decoder,
}

impl Events {
    /// The next event; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<sse::Event>, Failed> {
        loop {
            let event = self.decoder.poll().map_err(|sse::TooLong(max)| Failed::TooLong(max))?;
            if event.is_some() {
                return Ok(event);
            }
            match self.body.next().await {
                Some(bytes) => self.decoder.push(&bytes?),
                None => return Ok(None),
            }
        }
    }
}

/// POSTs a message. `state` says who is there; `parameters` are headers more.
pub(super) async fn post(
    shared: &Shared,
    state: &State,
    message: &Message,
    parameters: &[(String, String)],
) -> Result<Answer, Failed> {
    let revision = state.description.revision.as_str();
    let mut request = bare(shared, message).header(VERSION, revision);
    if let Some(session) = &state.session {
        request = request.header(SESSION_ID, session);
    }
    if state.description.revision.is_modern() {
        request = with_method(request, message);
        for (name, value) in parameters {
            request = request.header(name, value);
        }
    }
    let response = request.send().await?;
    if response.status() == StatusCode::NOT_FOUND && state.session.is_some() {
        return Err(Failed::SessionLost);
    }
    answer(shared, response).await
}

/// A POST that says nothing of revisions.
pub(super) fn bare(shared: &Shared, message: &Message) -> reqwest::RequestBuilder {
    shared
        .client
        .post(&shared.options.url)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, BOTH)
        .body(message.text().clone())
}

/// The headers that repeat what the body says (2026-07-28).
pub(super) fn with_method(
    request: reqwest::RequestBuilder,
    message: &Message,
) -> reqwest::RequestBuilder {
    if message.kind() != Kind::Request {
        return request;
    }
    let request = request.header("mcp-method", encoded(message.method()));
    let Some(member) = named_member(message.method()) else { return request };
    match string_member(message.body(), member) {
        Some(name) => request.header("mcp-name", encoded(&name)),
        None => request,
    }
}

/// What a response brings. Errors of HTTP that carry a message bring that.
pub(super) async fn answer(shared: &Shared, response: Response) -> Result<Answer, Failed> {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    let length_max = shared.options.limits.length_max;
    if kind.starts_with("text/event-stream") && status.is_success() {
        let decoder = sse::Decoder::new(length_max);
        return Ok(Answer::Events(Events { body: response.bytes_stream().boxed(), decoder }));
    }
    if kind.starts_with("application/json") {
        let body = read(response, length_max).await?;
        return if body.is_empty() && !status.is_success() {
            Err(Failed::Status(status))
        } else {
            Ok(Answer::Json(body))
        };
    }
    if status == StatusCode::ACCEPTED || status == StatusCode::NO_CONTENT {
        return Ok(Answer::Taken);
    }
    if status.is_success() { Err(Failed::Kind) } else { Err(Failed::Status(status)) }
}

/// A body, as long as it is not too long.
async fn read(response: Response, length_max: usize) -> Result<Bytes, Failed> {
    let mut stream = response.bytes_stream();
    let mut body = BytesMut::new();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?;
        if length_max < body.len() + bytes.len() {
            return Err(Failed::TooLong(length_max));
        }
        body.extend_from_slice(&bytes);
    }
    Ok(body.freeze())
}

/// Opens a stream of events: the session's own, or the rest of one that broke off.
pub(super) async fn listen(
    shared: &Shared,
    state: &State,
    after: Option<&str>,
) -> Result<Events, Failed> {
    let mut request = shared
        .client
        .get(&shared.options.url)
        .header(ACCEPT, "text/event-stream")
        .header(VERSION, state.description.revision.as_str());
    if let Some(session) = &state.session {
        request = request.header(SESSION_ID, session);
    }
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    let response = request.send().await?;
    let status = response.status();
    if status == StatusCode::NOT_FOUND && state.session.is_some() {
        return Err(Failed::SessionLost);
    }
    match answer(shared, response).await? {
        Answer::Events(events) => Ok(events),
        Answer::Taken | Answer::Json(_) => Err(Failed::Status(status)),
    }
}

/// Ends the session.
pub(super) async fn end_session(shared: &Shared, state: &State) {
    let Some(session) = &state.session else { return };
    let request = shared
        .client
        .delete(&shared.options.url)
        .header(SESSION_ID, session)
        .header(VERSION, state.description.revision.as_str())
        .timeout(std::time::Duration::from_secs(1));
    // A server that is gone has ended it already.
    _ = request.send().await;
}

/// The name that a server gives a session.
pub(super) fn session_of(response: &Response) -> Option<String> {
    response.headers().get(SESSION_ID)?.to_str().ok().map(ToOwned::to_owned)
}

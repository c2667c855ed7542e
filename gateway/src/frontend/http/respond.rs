//! Answers: JSON if nothing comes before the answer, else a stream of events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse as _, Response, Sse, sse::Event},
};
use futures::{StreamExt as _, stream};
use tokio::{sync::mpsc, task::JoinHandle};

use super::sessions::{Held, Stream};
use crate::{
    lines::on_one_line,
    message::{Id, Kind, Message, code},
};

/// After so long without a word, an answer becomes a stream, so that nobody on the way gives up.
const SILENCE: Duration = Duration::from_secs(15);
/// Milliseconds that an agent whose stream broke waits before it comes back.
const RETRY_MS: u64 = 500;

/// A request that is being answered; given up when this is dropped, as it is when the agent goes.
#[derive(Debug)]
pub(super) struct Working {
    task: JoinHandle<()>,
}

impl Working {
    pub(super) const fn new(task: JoinHandle<()>) -> Self {
        Self { task }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers a request without a session with what comes from `messages`. `streams`: the agent would
/// rather have a stream than JSON.
pub(super) async fn respond(
    working: Working,
    mut messages: mpsc::Receiver<Message>,
    streams: bool,
) -> Response {
    let first = match first(&mut messages, streams).await {
        First::Answer(answer) => return answer_json(status_of(&answer), &answer),
        First::Nothing => return StatusCode::ACCEPTED.into_response(),
        First::Message(message) => message,
    };
    let events = stream::unfold(
        (Some(working), first, messages, false),
        |(working, first, mut messages, over)| async move {
            if over {
                return None;
            }
            let message = match first {
                Some(first) => first,
                None => messages.recv().await?,
            };
            let over = message.is_response();
            Some((Ok::<_, Infallible>(event(&message)), (working, None, messages, over)))
        },
    );
    as_events(Sse::new(events))
}

/// Answers a request of a session. A stream goes on without its connection: the agent can come back
/// to it.
pub(super) async fn respond_in(
    held: Arc<Held>,
    working: Working,
    mut messages: mpsc::Receiver<Message>,
    streams: bool,
) -> Response {
    let first = match first(&mut messages, streams).await {
        First::Answer(answer) => return answer_json(StatusCode::OK, &answer),
        First::Nothing => return StatusCode::ACCEPTED.into_response(),
        First::Message(message) => message,
    };
    let opened = held.open_stream().and_then(|(number, kept)| {
        let reader = kept.read(None)?;
        Some((number, kept, reader))
    });
    let Some((number, kept, reader)) = opened else {
        let reason = "this session has too many streams";
        return error_json(StatusCode::TOO_MANY_REQUESTS, None, code::INTERNAL_ERROR, reason);
    };
    if let Some(first) = first {
        kept.push(first);
    }
    tokio::spawn(Arc::clone(&held).attend((number, kept), messages, working));
    stream(held.stream(number, reader))
}

/// What comes first for a request.
enum First {
    /// The answer, which can be JSON.
    Answer(Message),
    /// The request was cancelled: there is nothing to answer.
    Nothing,
    /// Something else, or nothing for long.
    Message(Option<Message>),
}

async fn first(messages: &mut mpsc::Receiver<Message>, streams: bool) -> First {
    if streams {
        return First::Message(None);
    }
    match tokio::time::timeout(SILENCE, messages.recv()).await {
        Ok(Some(message)) if message.is_response() => First::Answer(message),
        Ok(Some(message)) => First::Message(Some(message)),
        Ok(None) => First::Nothing,
        Err(_) => First::Message(None),
    }
}

/// A stream of a session. Where it can be come back to, it begins with an event that says so.
pub(super) fn stream(stream: Stream) -> Response {
    // Written by hand: an event without data is none to the one who writes the others.
    let begins = stream.first_id().map(|id| format!("id: {id}\nretry: {RETRY_MS}\ndata:\n\n"));
    let events = stream::unfold(stream, |mut stream| async move {
        let (id, message) = stream.next().await?;
        Some((Ok::<_, Infallible>(event(&message).id(id)), stream))
    });
    let mut response = as_events(Sse::new(events));
    if let Some(begins) = begins {
        let follows = std::mem::take(response.body_mut()).into_data_stream();
        let begins = stream::iter([Ok(Bytes::from(begins))]);
        *response.body_mut() = Body::from_stream(begins.chain(follows));
    }
    response
}

fn as_events<S>(events: Sse<S>) -> Response
where
    S: futures::Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let keep_alive = axum::response::sse::KeepAlive::new().interval(SILENCE);
    let mut response = events.keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    headers.insert(unbuffered, header::HeaderValue::from_static("no"));
    response
}

fn event(message: &Message) -> Event {
    let line = on_one_line(message.text().clone());
    Event::default().event("message").data(std::str::from_utf8(&line).unwrap_or_default())
}

/// The HTTP status of an answer without a session.
fn status_of(answer: &Message) -> StatusCode {
    if answer.kind() != Kind::Error {
        return StatusCode::OK;
    }
    let error: Option<serde_json::Value> = serde_json::from_str(answer.body()).ok();
    let error = error.and_then(|error| error.get("code")?.as_i64());
    match error.and_then(|error| i32::try_from(error).ok()) {
        Some(code::METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        Some(-32_022..=-32_020 | code::INVALID_REQUEST) => StatusCode::BAD_REQUEST,
        Some(_) | None => StatusCode::OK,
    }
}

/// An answer as JSON.
pub(super) fn answer_json(status: StatusCode, answer: &Message) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, Body::from(answer.text().clone())).into_response()
}

/// An error as JSON.
pub(super) fn error_json(status: StatusCode, id: Option<&Id>, code: i32, reason: &str) -> Response {
    answer_json(status, &Message::error(id, code, reason, ""))
}

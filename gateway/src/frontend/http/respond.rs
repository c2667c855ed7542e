//! Answers: JSON if nothing comes before the answer, else a stream of events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse as _, Response, Sse, sse::Event},
};
use futures::stream;
use tokio::{sync::mpsc, task::JoinHandle};

use super::sessions::{Held, Stream};
use crate::{
    lines::on_one_line,
    message::{Id, Kind, Message, code},
};

/// After so long without a word, an answer becomes a stream, so that nobody on the way gives up.
const SILENCE: Duration = Duration::from_secs(15);

/// A request that is being answered; given up when this is dropped, as it is when the agent goes.
#[derive(Debug)]
pub(super) struct Working {
    task: JoinHandle<()>,
    /// Keeps the session from being taken for idle.
    _held: Option<Arc<Held>>,
}

impl Working {
    pub(super) const fn new(task: JoinHandle<()>, held: Option<Arc<Held>>) -> Self {
        Self { task, _held: held }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers with what comes from `messages`. `modern`: errors have HTTP's codes too.
pub(super) async fn respond(
    working: Working,
    mut messages: mpsc::Receiver<Message>,
    modern: bool,
) -> Response {
    let first = match tokio::time::timeout(SILENCE, messages.recv()).await {
        Ok(Some(message)) if message.is_response() => {
            let status = if modern { status_of(&message) } else { StatusCode::OK };
            return answer_json(status, &message);
        }
        // Cancelled: there is nothing to answer.
        Ok(None) => return StatusCode::ACCEPTED.into_response(),
        Ok(Some(message)) => Some(message),
        Err(_) => None,
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

/// What belongs to no request of a session.
pub(super) fn stream(stream: Stream) -> Response {
    let events = stream::unfold(stream, |mut stream| async move {
        let message = stream.next().await?;
        Some((Ok::<_, Infallible>(event(&message)), stream))
    });
    as_events(Sse::new(events))
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

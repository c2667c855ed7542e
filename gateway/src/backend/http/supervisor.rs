//! Finds out what the server is, and again whenever it was away; and hears what it says by itself.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::Value;

use super::{
    Shared, State, exchange,
    post::{self, Answer, Failed},
};
use crate::{
    backend::{ClientSide, Event, News, own_meta, tell},
    description::Description,
    message::{Id, Kind, Message, code},
    revision::Revision,
};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Stays with the server for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let shaken = tokio::time::timeout(shared.options.start_timeout, shake(&shared)).await;
        let shaken = shaken.unwrap_or_else(|_| Err("it does not answer".to_owned()));
        match shaken {
            Ok(state) => {
                backoff = BACKOFF_MIN;
                tracing::info!(revision = %state.description.revision, "the MCP server is up");
                *shared.parameters() = None;
                let up = News::Up(state.description.clone());
                shared.state.send_replace(Some(state.clone()));
                if shared.news.send(up).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = shared.lost.notified() => {}
                    () = hear(&shared, &state) => shared.is_lost(&state),
                }
            }
            Err(reason) => {
                tracing::warn!("the MCP server cannot be used: {reason}");
                if shared.news.send(News::Down(reason)).await.is_err() {
                    return;
                }
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Which revision the server speaks, and what it says of itself.
async fn shake(shared: &Arc<Shared>) -> Result<State, String> {
    if shared.options.legacy != Some(true) {
        let params = format!(r#"{{"_meta":{}}}"#, own_meta());
        let probe = Message::request(Id::from_number(1), "server/discover", &params);
        let request =
            post::bare(shared, &probe).header("mcp-protocol-version", Revision::LATEST.as_str());
        let response = post::with_method(request, &probe).send().await.map_err(Failed::from);
        let response = response.map_err(|error| error.to_string())?;
        if !matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            match of_discover(shared, response).await {
                Some(Ok(description)) => return Ok(State { description, session: None }),
                Some(Err(reason)) => return Err(reason),
                None => {}
            }
        }
        if shared.options.legacy == Some(false) {
            return Err("it does not answer server/discover".to_owned());
        }
    }
    initialize(shared).await
}

/// What the answer to the probe says; `None` is to ask for a session.
async fn of_discover(
    shared: &Shared,
    response: reqwest::Response,
) -> Option<Result<Description, String>> {
    let message = one_message(shared, response).await?;
    if message.kind() == Kind::Result {
        return Description::from_result(message.body_bytes()).map(Ok);
    }
    let error: Value = serde_json::from_str(message.body()).ok()?;
    if error.get("code")?.as_i64()? != i64::from(code::UNSUPPORTED_PROTOCOL_VERSION) {
        return None;
    }
    let supported = error.pointer("/data/supported")?;
    let sessions = supported.as_array()?.iter().filter_map(Value::as_str);
    if sessions.filter_map(Revision::parse).any(|revision| !revision.is_modern()) {
        return None;
    }
    Some(Err(format!("it speaks only MCP {supported}, which this edge does not")))
}

async fn initialize(shared: &Arc<Shared>) -> Result<State, String> {
    let params = ClientSide::of_all().initialize_params();
    let request = Message::request(Id::from_number(2), "initialize", &params);
    let response = post::bare(shared, &request).send().await.map_err(Failed::from);
    let response = response.map_err(|error| error.to_string())?;
    let (status, session) = (response.status(), post::session_of(&response));
    let Some(answer) = one_message(shared, response).await else {
        return Err(format!("it answers `initialize` with HTTP {status}"));
    };
    if answer.kind() != Kind::Result {
        return Err(format!("it refuses `initialize`: {}", answer.body()));
    }
    let description = Description::from_result(answer.body_bytes())
        .ok_or_else(|| "it speaks no revision of MCP that this edge does".to_owned())?;
    let state = State { description, session };
    let initialized = Message::notification("notifications/initialized", "");
    post::post(shared, &state, &initialized, &[]).await.map_err(|error| error.to_string())?;
    Ok(state)
}

/// The response that a POST brings, whichever way.
async fn one_message(shared: &Shared, response: reqwest::Response) -> Option<Message> {
    let parse = |body: Bytes| Message::parse(body, &shared.options.limits).ok();
    match post::answer(shared, response).await.ok()? {
        Answer::Taken => None,
        Answer::Json(body) => parse(body).filter(Message::is_response),
        Answer::Events(mut events) => loop {
            let event = events.next().await.ok()??;
            if let Some(message) = parse(event.data).filter(Message::is_response) {
                return Some(message);
            }
        },
    }
}

/// Hears what the server says by itself in a session. Ends when the session does.
async fn hear(shared: &Arc<Shared>, state: &State) {
    if state.description.revision.is_modern() {
        return std::future::pending().await;
    }
    let mut last_id: Option<String> = None;
    loop {
        let mut wait = Duration::from_secs(1);
        match post::listen(shared, state, last_id.as_deref()).await {
            Ok(mut events) => {
                while let Ok(Some(event)) = events.next().await {
                    last_id = event.id.or(last_id);
                    if let Some(retry) = event.retry_ms {
                        wait = Duration::from_millis(retry).min(BACKOFF_MAX);
                    }
                    take(shared, state, event.data).await;
                }
            }
            Err(Failed::SessionLost) => return,
            // It has no such stream: it says nothing by itself.
            Err(Failed::Status(status)) if status.is_client_error() => {
                return std::future::pending().await;
            }
            Err(Failed::Unreachable(_)) => return,
            Err(error) => tracing::debug!(%error, "the MCP server's own stream cannot be heard"),
        }
        tokio::time::sleep(wait).await;
    }
}

async fn take(shared: &Arc<Shared>, state: &State, data: Bytes) {
    if data.is_empty() {
        return;
    }
    let Ok(message) = Message::parse(data, &shared.options.limits) else { return };
    match message.kind() {
        Kind::Notification => {
            // One that finds no place is dropped: floods are cut, nobody is held up.
            _ = shared.news.try_send(News::Message(message));
        }
        Kind::Request => {
            let told = message.method() != "ping"
                && shared
                    .only_agent()
                    .is_some_and(|events| tell(&events, Event::Message(message.clone())));
            if !told {
                exchange::refuse(shared, state, &message).await;
            }
        }
        Kind::Result | Kind::Error => {}
    }
}

//! Agents over Streamable HTTP, with sessions and without.
//!
//! With sessions (up to 2025-11-25): `initialize` makes one, the header Mcp-Session-Id names it, GET
//! opens its stream, DELETE ends it. Without (2026-07-28): each POST stands by itself. An answer is
//! JSON; if something comes before it, or it takes long, it is a stream of events.

mod headers;
mod respond;
mod sessions;

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header::HOST},
    response::{IntoResponse as _, Response},
    routing::post,
};
use tokio::{net::TcpListener, sync::mpsc};

use self::{
    headers::{LAST_EVENT_ID, Refused, SESSION_ID, VERSION},
    respond::{Working, answer_json, error_json},
    sessions::Sessions,
};
use crate::{
    connect::{Talk, session::is_modern},
    message::{Kind, Message, code},
    offer::Offer,
    revision::Revision,
};

/// Messages of one request that may wait for the network.
const MESSAGES_MAX: usize = 256;

/// How agents are let in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Origins, besides this machine's, whose pages may use the edge; `scheme://host:port`.
    pub allowed_origins: Vec<String>,
    /// Sessions at one time; one more is refused. 10,000.
    pub sessions_max: usize,
    /// How long a session may go without a request or a stream before it ends. 30 min.
    pub session_idle: Duration,
    /// Requests at one time; one more is refused. 10,000.
    pub requests_max: usize,
    /// How long requests under way may take once the edge is told to end. 5 s.
    pub drain_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            sessions_max: 10_000,
            session_idle: Duration::from_secs(1_800),
            requests_max: 10_000,
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// What every request needs.
#[derive(Debug)]
struct Edge {
    offer: Offer,
    sessions: Sessions,
    options: Options,
    /// Whether only this machine can reach us: then it must have asked for this machine.
    loopback: bool,
    places: Arc<tokio::sync::Semaphore>,
}

/// Serves `http://ADDRESS/mcp` until `stop` is done.
///
/// # Errors
/// If the listener fails.
pub async fn run(
    offer: impl Into<Offer>,
    listener: TcpListener,
    options: Options,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    let offer = offer.into();
    let length_max = offer.limits().length_max;
    let edge = Arc::new(Edge {
        offer,
        sessions: Sessions::default(),
        places: Arc::new(tokio::sync::Semaphore::new(options.requests_max)),
        loopback: address.ip().is_loopback(),
        options: options.clone(),
    });
    let routes = Router::new()
        .route("/mcp", post(handle_post).get(handle_get).delete(handle_delete))
        .layer(DefaultBodyLimit::max(length_max))
        .with_state(Arc::clone(&edge));
    // Programs that start an edge read this line.
    announce(&format!("listening on http://{address}/mcp"));
    let sweeping = tokio::spawn(sweep(Arc::clone(&edge)));
    let (closing, closed) = tokio::sync::watch::channel(false);
    let mut ending = closed.clone();
    let serving = axum::serve(listener, routes).with_graceful_shutdown(async move {
        // The sender lives as long as this future is waited for.
        _ = ending.wait_for(|ending| *ending).await;
    });
    let serving = tokio::spawn(serving.into_future());
    stop.await;
    closing.send_replace(true);
    // Streams of sessions never end by themselves.
    edge.sessions.end_all();
    let ended = tokio::time::timeout(options.drain_timeout, serving).await;
    sweeping.abort();
    match ended {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "said whatever RUST_LOG is: other programs wait for it")]
fn announce(line: &str) {
    eprintln!("{line}");
}

async fn sweep(edge: Arc<Edge>) {
    let mut interval = tokio::time::interval(Duration::from_secs(30));
    loop {
        interval.tick().await;
        edge.sessions.sweep(edge.options.session_idle);
    }
}

impl Edge {
    /// Whether a request may come from where it comes from; the answer if not.
    fn check(&self, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let refused =
            |reason: &str| error_json(StatusCode::FORBIDDEN, None, code::INVALID_REQUEST, reason);
        if let Some(origin) = headers.get("origin") {
            let origin = origin.to_str().unwrap_or_default();
            let allowed = self.options.allowed_origins.iter().any(|allowed| allowed == origin);
            if !allowed && !headers::is_loopback_origin(origin) {
                return Err(Box::new(refused(
                    "this Origin may not use this edge; see --allow-origin",
                )));
            }
        }
        if self.loopback {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            if !headers::is_loopback_host(host) {
                return Err(Box::new(refused("only names of this machine reach this edge")));
            }
        }
        Ok(())
    }
}

async fn handle_post(State(edge): State<Arc<Edge>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refused) = edge.check(&headers) {
        return *refused;
    }
    if !headers::is_json(&headers) {
        let reason = "Content-Type must be application/json";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return error_json(status, None, code::INVALID_REQUEST, reason);
    }
    if !headers::accepts_answers(&headers) {
        let reason = "Accept must name application/json and text/event-stream";
        return error_json(StatusCode::NOT_ACCEPTABLE, None, code::INVALID_REQUEST, reason);
    }
    let message = match Message::parse(body, edge.offer.limits()) {
        Ok(message) => message,
        Err(error) => {
            return error_json(StatusCode::BAD_REQUEST, None, error.code, &error.reason);
        }
    };
    let Ok(place) = Arc::clone(&edge.places).try_acquire_owned() else {
        let reason = "too many requests are under way: try again later";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return error_json(status, message.id(), code::INTERNAL_ERROR, reason);
    };
    if let Some(session) = headers.get(SESSION_ID) {
        // A client without sessions that sends one all the same is served without.
        if !(message.kind() == Kind::Request && is_modern(&message)) {
            return in_session(
                &edge,
                session.to_str().unwrap_or_default(),
                &headers,
                message,
                place,
            )
            .await;
        }
    }
    let begins = message.kind() == Kind::Request && message.method() == "initialize";
    if begins && !is_modern(&message) {
        return begin_session(&edge, message).await;
    }
    without_session(&edge, &headers, message, place).await
}

/// `initialize`: a session of its own.
async fn begin_session(edge: &Arc<Edge>, message: Message) -> Response {
    let begun = edge.sessions.begin(&edge.offer, edge.options.sessions_max);
    let Some((name, session)) = begun else {
        let reason = "too many sessions: try again later";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return error_json(status, message.id(), code::INTERNAL_ERROR, reason);
    };
    let (to_agent, _messages) = mpsc::channel(MESSAGES_MAX);
    let answer = match session.session().admit(&message) {
        Ok(admitted) => admitted.answer(&message, to_agent).await,
        Err(answer) => Some(*answer),
    };
    let Some(answer) = answer else { return StatusCode::ACCEPTED.into_response() };
    if answer.kind() == Kind::Error {
        edge.sessions.end(&name);
        return answer_json(StatusCode::OK, &answer);
    }
    let mut response = answer_json(StatusCode::OK, &answer);
    if let Ok(name) = name.parse() {
        response.headers_mut().insert(SESSION_ID, name);
    }
    response
}

/// A message of an agent with a session.
async fn in_session(
    edge: &Arc<Edge>,
    name: &str,
    headers: &HeaderMap,
    message: Message,
    place: tokio::sync::OwnedSemaphorePermit,
) -> Response {
    let Some(held) = edge.sessions.find(name) else {
        let reason = "no such session: send `initialize` without Mcp-Session-Id";
        return error_json(StatusCode::NOT_FOUND, message.id(), code::INVALID_REQUEST, reason);
    };
    if let Err(reason) = headers::check_session_version(headers) {
        return error_json(StatusCode::BAD_REQUEST, message.id(), code::INVALID_REQUEST, &reason);
    }
    let session = held.session().clone();
    match message.kind() {
        Kind::Notification => session.handle_notification(message),
        Kind::Result | Kind::Error => session.handle_answer(&message),
        Kind::Request => {
            let admitted = match session.admit(&message) {
                Ok(admitted) => admitted,
                Err(answer) => return answer_json(StatusCode::OK, &answer),
            };
            let (to_agent, messages) = mpsc::channel(MESSAGES_MAX);
            let working = tokio::spawn(async move {
                let _place = place;
                if let Some(answer) = admitted.answer(&message, to_agent.clone()).await {
                    // The agent may have gone.
                    _ = to_agent.send(answer).await;
                }
            });
            let working = Working::new(working);
            return respond::respond_in(held, working, messages, headers::prefers_stream(headers))
                .await;
        }
    }
    StatusCode::ACCEPTED.into_response()
}

/// A message that stands by itself (2026-07-28).
async fn without_session(
    edge: &Arc<Edge>,
    headers: &HeaderMap,
    message: Message,
    place: tokio::sync::OwnedSemaphorePermit,
) -> Response {
    if message.kind() != Kind::Request {
        let spoken = headers.get(VERSION).and_then(|version| version.to_str().ok());
        if spoken.and_then(Revision::parse).is_some_and(Revision::is_modern) {
            return StatusCode::ACCEPTED.into_response();
        }
        let reason = "Mcp-Session-Id is missing";
        return error_json(StatusCode::BAD_REQUEST, None, code::INVALID_REQUEST, reason);
    }
    let checked = match headers::check_modern(headers, &message) {
        Ok(()) => check_parameters(edge, headers, &message).await,
        Err(refused) => Err(refused),
    };
    if let Err(refused) = checked {
        let error = Message::error(message.id(), refused.code, &refused.reason, &refused.data);
        return answer_json(StatusCode::BAD_REQUEST, &error);
    }
    let offer = edge.offer.clone();
    let (to_agent, messages) = mpsc::channel(MESSAGES_MAX);
    let working = tokio::spawn(async move {
        let _place = place;
        let talk = Talk { to_agent: to_agent.clone(), questions: None };
        let answer = offer.answer_modern(&message, &talk).await;
        // The agent may have gone.
        _ = to_agent.send(answer).await;
    });
    respond::respond(Working::new(working), messages, headers::prefers_stream(headers)).await
}

/// Whether the headers of a tool's arguments say what these are.
async fn check_parameters(
    edge: &Edge,
    headers: &HeaderMap,
    message: &Message,
) -> Result<(), Refused> {
    if message.method() != "tools/call" {
        return Ok(());
    }
    let known = edge.offer.parameters(false).await;
    if headers::check_parameters(headers, message, &known).is_ok() {
        return Ok(());
    }
    // The tools may have changed since.
    let known = edge.offer.parameters(true).await;
    headers::check_parameters(headers, message, &known)
}

/// The stream of a session.
async fn handle_get(State(edge): State<Arc<Edge>>, headers: HeaderMap) -> Response {
    if let Err(refused) = edge.check(&headers) {
        return *refused;
    }
    let Some(name) = headers.get(SESSION_ID).and_then(|name| name.to_str().ok()) else {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    };
    let Some(held) = edge.sessions.find(name) else {
        let reason = "no such session";
        return error_json(StatusCode::NOT_FOUND, None, code::INVALID_REQUEST, reason);
    };
    let last = headers.get(LAST_EVENT_ID).and_then(|last| last.to_str().ok());
    match last {
        Some(last) => match held.resume(last) {
            Some(stream) => respond::stream(stream),
            None => {
                let reason = "what followed this Last-Event-ID is not kept";
                error_json(StatusCode::NOT_FOUND, None, code::INVALID_REQUEST, reason)
            }
        },
        None => match held.take_stream() {
            Some(stream) => respond::stream(stream),
            None => {
                let reason = "this session has a stream already";
                error_json(StatusCode::CONFLICT, None, code::INVALID_REQUEST, reason)
            }
        },
    }
}

/// The end of a session.
async fn handle_delete(State(edge): State<Arc<Edge>>, headers: HeaderMap) -> Response {
    if let Err(refused) = edge.check(&headers) {
        return *refused;
    }
    let Some(name) = headers.get(SESSION_ID).and_then(|name| name.to_str().ok()) else {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    };
    if edge.sessions.end(name) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        error_json(StatusCode::NOT_FOUND, None, code::INVALID_REQUEST, "no such session")
    }
}

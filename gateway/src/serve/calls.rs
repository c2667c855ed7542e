//! Calls of agents, passed on to the backend.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aip_codec::{aip::call::RecordType, moqt::error_code::RequestCode};
use aip_engine::client::Refusal;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::Instant,
};

use super::{
    Options,
    publisher::{Counters, Wish},
};
use crate::{
    backend::{Asker, Backend, Event, Exchange},
    link::{Call, CallEvent, CallOutcome, IncomingCall},
    message::{Kind, Message, code},
    name::is_hashed,
    read::Read,
};

/// How long the first record may take to come after its call.
const FIRST_RECORD: Duration = Duration::from_secs(10);
/// How long the caller's end of a call may take to follow our last record.
const LAST_RECORD: Duration = Duration::from_secs(30);

/// What every call needs.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) backend: Backend,
    pub(super) options: Arc<Options>,
    pub(super) wishes: mpsc::Sender<Wish>,
    pub(super) session_places: Semaphore,
    pub(super) next_session: AtomicU64,
    places: Semaphore,
    counters: Arc<Counters>,
    modern: AtomicBool,
    /// Index in [`LEVELS`] of the most talkative level that the backend was set to; the length if
    /// it never was.
    level: AtomicUsize,
    idle: Notify,
}

/// Levels of log messages, most talkative first.
const LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

impl Context {
    pub(super) fn new(
        backend: Backend,
        options: Arc<Options>,
        wishes: mpsc::Sender<Wish>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            places: Semaphore::new(options.calls_max),
            session_places: Semaphore::new(options.sessions_max),
            next_session: AtomicU64::new(0),
            backend,
            options,
            wishes,
            counters,
            modern: AtomicBool::new(false),
            level: AtomicUsize::new(LEVELS.len()),
            idle: Notify::new(),
        }
    }

    /// The backend has started, and forgotten what it was set to.
    pub(super) fn backend_is_up(&self, modern: bool) {
        self.modern.store(modern, Ordering::Relaxed);
        self.level.store(LEVELS.len(), Ordering::Relaxed);
    }

    pub(super) fn is_modern(&self) -> bool {
        self.modern.load(Ordering::Relaxed)
    }

    /// Waits until no call is under way.
    pub(super) async fn wait_until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.places.available_permits() == self.options.calls_max {
                return;
            }
            // A call that ended between the look and the wait is seen at the next look.
            _ = tokio::time::timeout(Duration::from_millis(100), idle).await;
        }
    }

    /// What the edge answers itself, for the good of all agents.
    fn answer_here(&self, request: &Message) -> Option<Message> {
        let id = request.id()?;
        match request.method() {
            "initialize" | "resources/subscribe" | "resources/unsubscribe" => {
                let reason = "sessions are kept by the edge beside the agent";
                Some(Message::error(Some(id), code::METHOD_NOT_FOUND, reason, ""))
            }
            "subscriptions/listen" if !self.is_modern() => {
                let reason = "the MCP server has sessions: follow tracks instead";
                Some(Message::error(Some(id), code::METHOD_NOT_FOUND, reason, ""))
            }
            // The backend is shared: it logs for the most curious, and edges drop the rest.
            "logging/setLevel" => {
                let level = crate::message::string_member(request.body(), "level")?;
                let index = LEVELS.iter().position(|known| *known == level)?;
                let before = self.level.fetch_min(index, Ordering::Relaxed);
                (before <= index).then(|| Message::result(id, b"{}"))
            }
            _ => None,
        }
    }

    /// Remembers what a hashed track's name stands for, and counts.
    async fn note(&self, request: &Message) {
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
        let Some(read) = Read::of_request(request) else { return };
        self.counters.called_reads.fetch_add(1, Ordering::Relaxed);
        let Ok(track) = self.options.name.track(&read.track_name()) else { return };
        if std::str::from_utf8(track.name()).is_ok_and(is_hashed) {
            // The publisher may be ending.
            _ = self.wishes.send(Wish::Learned(track, read)).await;
        }
    }
}

/// Passes one call on and its answer back.
pub(super) async fn run(incoming: IncomingCall, context: Arc<Context>) {
    let IncomingCall { name, parameters, mut call, .. } = incoming;
    let Ok(place) = context.places.try_acquire() else {
        let refusal = Refusal {
            code: RequestCode::EXCESSIVE_LOAD,
            retry_after: Some(Duration::from_millis(100)),
            reason: "the edge beside the MCP server has too many calls under way".to_owned(),
        };
        return call.refuse(refusal).await;
    };
    if let Some(request) = first_record(&mut call, &context.options).await {
        let request = match request {
            Ok(request) if request.method().as_bytes() == name => request,
            Ok(request) => {
                let reason = "the call's name is not the request's method";
                let answer = Message::error(request.id(), code::INVALID_REQUEST, reason, "");
                return finish(call, answer).await;
            }
            Err(answer) => return finish(call, answer).await,
        };
        if let Some(answer) = context.answer_here(&request) {
            return finish(call, answer).await;
        }
        context.note(&request).await;
        let exchange = context.backend.request(request.clone(), Asker::Agent).await;
        let deadline = parameters.deadline().map_or(context.options.call_deadline, |left| {
            Duration::from_millis(left).min(context.options.call_deadline)
        });
        let carry = Carry { call: &mut call, context: &context, request: &request };
        if let Some(answer) = carry.run(exchange, deadline).await {
            finish(call, answer).await;
        }
    }
    drop(place);
    context.idle.notify_waiters();
}

/// The request, or the error that answers what is none. `None` if the call ended.
pub(super) async fn first_record(
    call: &mut Call,
    options: &Options,
) -> Option<Result<Message, Message>> {
    let event = tokio::time::timeout(FIRST_RECORD, call.next()).await.ok()?;
    let CallEvent::Record { kind: RecordType::Request, payload } = event else { return None };
    Some(match Message::parse(payload, &options.limits) {
        Ok(message) if message.kind() == Kind::Request => Ok(message),
        Ok(_) => Err(Message::error(None, code::INVALID_REQUEST, "a request is wanted", "")),
        Err(error) => Err(Message::error(None, error.code, &error.reason, "")),
    })
}

/// Says the last record, and stays until the caller has seen it.
pub(super) async fn finish(mut call: Call, answer: Message) {
    call.send(RecordType::Result, answer.text().clone(), true).await;
    let ended = async { while !matches!(call.next().await, CallEvent::Ended(_)) {} };
    if tokio::time::timeout(LAST_RECORD, ended).await.is_err() {
        tracing::debug!("a caller did not end its call");
    }
}

/// One call under way.
struct Carry<'a> {
    call: &'a mut Call,
    context: &'a Context,
    request: &'a Message,
}

impl Carry<'_> {
    /// Carries messages both ways. The answer; `None` if nobody waits for it any more.
    async fn run(self, mut exchange: Exchange, deadline: Duration) -> Option<Message> {
        let id = self.request.id();
        let listens = self.request.method() == "subscriptions/listen";
        let patience = self.context.options.call_timeout;
        let deadline = Instant::now() + deadline;
        let mut silent_until = Instant::now() + patience;
        loop {
            let until = silent_until.min(deadline);
            tokio::select! {
                event = exchange.next() => match event {
                    Some(Event::Answer(answer)) => return Some(answer),
                    Some(Event::Message(message)) => {
                        silent_until = Instant::now() + patience;
                        self.call.send(RecordType::Message, message.text().clone(), false).await;
                    }
                    None => {
                        let reason = "the MCP server gave no answer, or more than could be kept";
                        return Some(Message::error(id, code::INTERNAL_ERROR, reason, ""));
                    }
                },
                event = self.call.next() => match event {
                    CallEvent::Record { kind, payload } => {
                        silent_until = Instant::now() + patience;
                        self.pass(kind, payload).await;
                    }
                    CallEvent::Ended(outcome) => {
                        log_end(&outcome, self.request.method());
                        return None;
                    }
                },
                () = tokio::time::sleep_until(until), if !listens => {
                    let reason = format!(
                        "the MCP server did not answer within {:?}; the request was cancelled",
                        if until == deadline { self.context.options.call_deadline } else { patience }
                    );
                    return Some(Message::error(id, code::INTERNAL_ERROR, &reason, ""));
                }
            }
        }
    }

    /// What the agent says in the course of the call goes to the backend.
    async fn pass(&self, kind: RecordType, payload: bytes::Bytes) {
        if kind != RecordType::Message {
            return;
        }
        match Message::parse(payload, &self.context.options.limits) {
            Ok(message) if message.kind() != Kind::Request => {
                self.context.backend.send(message).await;
            }
            Ok(_) => tracing::debug!("a request within a call was dropped"),
            Err(error) => tracing::debug!(%error, "a record that is no message was dropped"),
        }
    }
}

fn log_end(outcome: &CallOutcome, method: &str) {
    tracing::debug!(?outcome, method = %method.escape_debug(), "a caller went before the answer");
}

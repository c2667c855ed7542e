//! Calls of agents, passed on to the backend.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aip_codec::{
    aip::{call::RecordType, trace::TraceContext},
    moqt::{error_code::RequestCode, parameter::Parameters},
};
use aip_engine::client::Refusal;
use bytes::Bytes;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};

use super::{
    Options, OwnProcesses,
    agents::Agents,
    leases::{Lease, Leases},
    publisher::{Counters, Wish},
    rounds::{Round, Rounds},
    running::{Asked, Keyed, Running},
};
use crate::{
    backend::Backend,
    encoding::{CONTENT_TYPES, Encoding},
    level,
    link::{Call, CallEvent, CallOutcome, IncomingCall},
    message::{Id, Kind, Message, code, string_member},
    name::is_hashed,
    read::Read,
};

/// How long the first record may take to come after its call.
const FIRST_RECORD: Duration = Duration::from_secs(10);
/// How long the caller's end of a call may take to follow our last record.
const LAST_RECORD: Duration = Duration::from_secs(30);
/// How long a keyed call goes on for a caller whose session was lost.
const ABSENCE: Duration = Duration::from_secs(10);

/// What every call needs.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) backend: Backend,
    pub(super) options: Arc<Options>,
    pub(super) wishes: mpsc::Sender<Wish>,
    pub(super) session_places: Semaphore,
    pub(super) next_session: AtomicU64,
    pub(super) keyed: Keyed,
    pub(super) agents: Agents,
    pub(super) rounds: Arc<Rounds>,
    pub(super) leases: Arc<Leases>,
    places: Arc<Semaphore>,
    /// Callers that have not got their last record yet.
    callers: AtomicUsize,
    counters: Arc<Counters>,
    modern: AtomicBool,
    /// The most talkative level that the backend was set to; above all of them if it never was.
    level: AtomicUsize,
    idle: Notify,
}

impl Context {
    pub(super) fn new(
        backend: Backend,
        options: Arc<Options>,
        wishes: mpsc::Sender<Wish>,
        counters: Arc<Counters>,
        own: Option<OwnProcesses>,
    ) -> Self {
        Self {
            rounds: Rounds::new(options.input_wait),
            leases: Leases::new(own.clone()),
            agents: Agents::new(own),
            keyed: Keyed::new(options.results_kept),
            places: Arc::new(Semaphore::new(options.calls_max)),
            callers: AtomicUsize::new(0),
            session_places: Semaphore::new(options.sessions_max),
            next_session: AtomicU64::new(0),
            backend,
            options,
            wishes,
            counters,
            modern: AtomicBool::new(false),
            level: AtomicUsize::new(level::COUNT),
            idle: Notify::new(),
        }
    }

    /// The backend has started, and forgotten what it was set to.
    pub(super) fn backend_is_up(&self, modern: bool) {
        self.modern.store(modern, Ordering::Relaxed);
        self.level.store(level::COUNT, Ordering::Relaxed);
    }

    pub(super) fn is_modern(&self) -> bool {
        self.modern.load(Ordering::Relaxed)
    }

    /// Waits until no call is under way.
    pub(super) async fn wait_until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.callers.load(Ordering::Relaxed) == 0 {
                return;
            }
            // A call that ended between the look and the wait is seen at the next look.
            _ = tokio::time::timeout(Duration::from_millis(100), idle).await;
        }
    }

    /// What the edge answers itself, for the good of all agents.
    pub(super) fn answer_here(&self, request: &Message) -> Option<Message> {
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
                let level = string_member(request.body(), "level")?;
                (!self.is_more_talkative(&level)?).then(|| Message::result(id, b"{}"))
            }
            _ => None,
        }
    }

    /// Whether the backend has to be set to this level to log for everybody; `None` if it is none.
    fn is_more_talkative(&self, level: &str) -> Option<bool> {
        let index = level::index(level)?;
        Some(index < self.level.fetch_min(index, Ordering::Relaxed))
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
    let IncomingCall { namespace, name, parameters, mut call } = incoming;
    let caller = context.caller();
    let encoding = Encoding::of_content_type(parameters.content_type());
    let first = first_record(&mut call, &context.options, encoding.unwrap_or_default()).await;
    let Some(encoding) = encoding else {
        return call.refuse(other_content_type(&CONTENT_TYPES)).await;
    };
    let request = match first {
        None => return,
        Some(Ok(request)) if request.method().as_bytes() == name => request,
        Some(Ok(request)) => {
            let reason = "the call's name is not the request's method";
            let answer = Message::error(request.id(), code::INVALID_REQUEST, reason, "");
            return finish(call, answer, encoding).await;
        }
        Some(Err(answer)) => return finish(call, answer, encoding).await,
    };
    let own = context.agents.of_call(context.options.name.namespace(), &namespace);
    if own.is_none()
        && let Some(answer) = context.answer_here(&request)
    {
        return finish(call, answer, encoding).await;
    }
    let backend = own.unwrap_or_else(|| context.backend.clone());
    let key = parameters.idempotency_key().cloned();
    let running = match context.running(&backend, &request, &parameters, key.as_ref()).await {
        Ok(running) => running,
        Err(NotRun::Refused(refusal)) => return call.refuse(refusal).await,
        Err(NotRun::Answered(answer)) => return finish(call, *answer, encoding).await,
    };
    let after = parameters.resume_after().unwrap_or(0);
    let attached = Attached {
        call: &mut call,
        context: &context,
        backend: &backend,
        request: &request,
        encoding,
    };
    let end = attached.run(&running, after).await;
    match (end, key) {
        (End::Answered(answer), key) => {
            let bytes = answer.text().len();
            finish(call, answer, encoding).await;
            if let Some(key) = key {
                context.keyed.ended(&key, bytes, Instant::now());
            }
        }
        (End::GivenUp, Some(key)) => context.keyed.forget(&key),
        (End::Lost, Some(key)) => {
            drop(caller);
            running.stream.abandoned(ABSENCE).await;
            context.keyed.forget(&key);
        }
        (End::GivenUp | End::Lost, None) | (End::Replaced, _) => {}
    }
}

/// Somebody waits for an answer.
struct Caller<'a>(&'a Context);

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.0.callers.fetch_sub(1, Ordering::Relaxed);
        self.0.idle.notify_waiters();
    }
}

/// Why a call is not passed on.
pub(super) enum NotRun {
    Refused(Refusal),
    Answered(Box<Message>),
}

impl Context {
    fn caller(&self) -> Caller<'_> {
        self.callers.fetch_add(1, Ordering::Relaxed);
        Caller(self)
    }

    /// The call that a request is: one that is remembered, or a new one.
    pub(super) async fn running(
        &self,
        backend: &Backend,
        request: &Message,
        parameters: &Parameters,
        key: Option<&Bytes>,
    ) -> Result<Arc<Running>, NotRun> {
        let known = key.and_then(|key| self.keyed.find(key, Instant::now()));
        if let Some(known) = known {
            if known.is_of(request) {
                self.counters.repeated_calls.fetch_add(1, Ordering::Relaxed);
                return Ok(known);
            }
            let reason = "this idempotency key stands for another request";
            let answer = Message::error(request.id(), code::INVALID_REQUEST, reason, "");
            return Err(NotRun::Answered(answer.into()));
        }
        if parameters.resume_after().is_some_and(|after| 0 < after) {
            let reason = "the edge beside the MCP server does not know this call any more; whether \
                          it was run is not known";
            let answer = Message::error(request.id(), code::INTERNAL_ERROR, reason, "");
            return Err(NotRun::Answered(answer.into()));
        }
        let place = self.place()?;
        self.note(request).await;
        let deadline = parameters.deadline().map_or(self.options.call_deadline, |left| {
            Duration::from_millis(left).min(self.options.call_deadline)
        });
        let asked = self.asked(backend, request, deadline, parameters.trace_context());
        match key {
            None => Ok(Running::start(asked, place)),
            Some(key) => self
                .keyed
                .begin(key, Instant::now(), || Running::start(asked, place))
                .ok_or_else(|| NotRun::Refused(busy("too many keyed calls under way"))),
        }
    }

    fn asked(
        &self,
        backend: &Backend,
        request: &Message,
        deadline: Duration,
        context: Option<TraceContext>,
    ) -> Asked {
        let bridged = !self.is_modern() && Round::is_wanted(request);
        let round = bridged.then(|| Round::new(&self.rounds, request));
        let client = round.as_ref().and_then(|round| round.client(request));
        let lease = client.and_then(|client| self.leases.take(client));
        let level = round.as_ref().and_then(Round::log_level);
        // A process of the call's own knows no level yet, or another call's.
        let level =
            level.filter(|level| lease.is_some() || self.is_more_talkative(level) == Some(true));
        let first = level.map(|level| {
            let params = format!(r#"{{"level":{}}}"#, serde_json::Value::from(level));
            Message::request(Id::from_number(0), "logging/setLevel", &params)
        });
        Asked {
            backend: lease.as_ref().and_then(Lease::backend).unwrap_or(backend).clone(),
            request: request.clone(),
            deadline,
            options: Arc::clone(&self.options),
            round,
            lease,
            first,
            context,
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, NotRun> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| NotRun::Refused(busy("too many calls under way")))
    }
}

/// Refuses a call in a content type that is not one of these.
pub(super) fn other_content_type(taken: &[&str]) -> Refusal {
    Refusal {
        code: RequestCode::NOT_SUPPORTED,
        retry_after: None,
        reason: format!("the content type of this call has to be {}", taken.join(" or ")),
    }
}

fn busy(what: &str) -> Refusal {
    Refusal {
        code: RequestCode::EXCESSIVE_LOAD,
        retry_after: Some(Duration::from_millis(100)),
        reason: format!("the edge beside the MCP server has {what}"),
    }
}

/// The request, or the error that answers what is none. `None` if the call ended.
pub(super) async fn first_record(
    call: &mut Call,
    options: &Options,
    encoding: Encoding,
) -> Option<Result<Message, Message>> {
    let event = tokio::time::timeout(FIRST_RECORD, call.next()).await.ok()?;
    let CallEvent::Record { kind: RecordType::Request, payload } = event else { return None };
    Some(match encoding.read(payload, &options.limits) {
        Ok(message) if message.kind() == Kind::Request => Ok(message),
        Ok(_) => Err(Message::error(None, code::INVALID_REQUEST, "a request is wanted", "")),
        Err(error) => Err(Message::error(None, error.code, &error.reason, "")),
    })
}

/// Says the last record, and stays until the caller has seen it.
async fn finish(mut call: Call, answer: Message, encoding: Encoding) {
    call.send(RecordType::Result, encoding.write(&answer), true).await;
    let ended = async { while !matches!(call.next().await, CallEvent::Ended(_)) {} };
    if tokio::time::timeout(LAST_RECORD, ended).await.is_err() {
        tracing::debug!("a caller did not end its call");
    }
}

/// How a caller's part in a call ended.
enum End {
    /// It has its answer.
    Answered(Message),
    /// It cancelled.
    GivenUp,
    /// Its session was lost: it may come back.
    Lost,
    /// It came back by another session.
    Replaced,
}

/// One caller of a call.
struct Attached<'a> {
    call: &'a mut Call,
    context: &'a Context,
    backend: &'a Backend,
    request: &'a Message,
    encoding: Encoding,
}

impl Attached<'_> {
    /// Carries messages both ways, from the one behind `after` on.
    async fn run(self, running: &Running, after: u64) -> End {
        let Some(mut reader) = running.stream.read(Some(after)) else {
            let reason = "what this call said in the meantime is kept no more";
            let answer = Message::error(self.request.id(), code::INTERNAL_ERROR, reason, "");
            return End::Answered(answer);
        };
        loop {
            tokio::select! {
                said = reader.next() => match said {
                    Some((_, answer)) if answer.is_response() => {
                        let id = self.request.id().cloned();
                        return End::Answered(match id {
                            Some(id) => answer.with_id(id),
                            None => answer,
                        });
                    }
                    Some((_, message)) => {
                        let record = self.encoding.write(&message);
                        self.call.send(RecordType::Message, record, false).await;
                    }
                    None => return End::Replaced,
                },
                event = self.call.next() => match event {
                    CallEvent::Record { kind, payload } => {
                        running.heard.notify_one();
                        self.pass(kind, payload).await;
                    }
                    CallEvent::Ended(outcome) => {
                        log_end(&outcome, self.request.method());
                        return match outcome {
                            CallOutcome::Lost => End::Lost,
                            _ => End::GivenUp,
                        };
                    }
                },
            }
        }
    }

    /// What the agent says in the course of the call goes to the backend.
    async fn pass(&self, kind: RecordType, payload: Bytes) {
        if kind != RecordType::Message {
            return;
        }
        match self.encoding.read(payload, &self.context.options.limits) {
            Ok(message) if message.kind() != Kind::Request => {
                self.backend.send(message).await;
            }
            Ok(_) => tracing::debug!("a request within a call was dropped"),
            Err(error) => tracing::debug!(%error, "a record that is no message was dropped"),
        }
    }
}

fn log_end(outcome: &CallOutcome, method: &str) {
    tracing::debug!(?outcome, method = %method.escape_debug(), "a caller went before the answer");
}

//! Calls under way at the backend, and what keyed ones gave (IDEMPOTENCY_KEY, PROFILE.md section 4).
//!
//! The backend is asked by a task of the call's own, so that a keyed call outlives the session that
//! it came by: its caller makes it again with the same key and hears what it has missed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aip_codec::aip::trace::TraceContext;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::{
    Options,
    leases::Lease,
    rounds::{Begun, QUESTIONS_MAX, Round},
};
use crate::{
    backend::{Asker, Backend, Event, Exchange},
    message::{Id, Kind, Message, code, object_members},
    resumable::Resumable,
};

/// Keyed calls that are remembered; for one more the one that ended first is forgotten.
const KEYED_MAX: usize = 10_000;
/// Bytes of results that are remembered.
const RESULT_BYTES_MAX: usize = 16 << 20;

/// A call under way, or what it gave. Given up when dropped before its end.
#[derive(Debug)]
pub(super) struct Running {
    /// What the backend says; the answer is its last message.
    pub(super) stream: Arc<Resumable>,
    /// The caller gives a sign of life.
    pub(super) heard: Arc<Notify>,
    asked: [u8; 32],
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is asked of the backend, and how long it may take.
pub(super) struct Asked {
    pub(super) backend: Backend,
    pub(super) request: Message,
    pub(super) deadline: Duration,
    pub(super) options: Arc<Options>,
    /// How its agent is asked, if that has no session and the backend has.
    pub(super) round: Option<Round>,
    /// The backend, if it is this call's alone.
    pub(super) lease: Option<Lease>,
    /// What the backend is told before, such as the log level.
    pub(super) first: Option<Message>,
    /// The span that it belongs to, if a relay or the other edge has made one.
    pub(super) context: Option<TraceContext>,
}

impl Running {
    /// Asks the backend. `place` is held until it has answered.
    pub(super) fn start(asked: Asked, place: impl Send + 'static) -> Arc<Self> {
        let (stream, heard) = (Resumable::new(), Arc::new(Notify::new()));
        let what = digest(&asked.request);
        let (drained, signs) = (Arc::clone(&stream), Arc::clone(&heard));
        let task = tokio::spawn(async move {
            let answer = asked.drive(&drained, &signs).await;
            drained.push(answer);
            drained.end();
            drop(place);
        });
        Arc::new(Self { stream, heard, asked: what, task: task.abort_handle() })
    }

    /// Whether another request asks for the same.
    pub(super) fn is_of(&self, request: &Message) -> bool {
        self.asked == digest(request)
    }
}

/// What a request asks for, whatever its `_meta` says of who asks.
fn digest(request: &Message) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(request.method());
    for member in object_members(request.body()).unwrap_or_default() {
        if member.name != "_meta" {
            hash.update([0]);
            hash.update(&member.name);
            hash.update([0]);
            hash.update(member.value);
        }
    }
    hash.finalize().into()
}

impl Asked {
    /// The answer, whatever happens; what comes before it goes to `stream`.
    async fn drive(mut self, stream: &Resumable, heard: &Notify) -> Message {
        let observed = self.options.observer.begin(&self.request, self.context);
        self.request = observed.passed_on(&self.request);
        let answer = self.drive_on(stream, heard).await;
        observed.end(&answer);
        answer
    }

    async fn drive_on(mut self, stream: &Resumable, heard: &Notify) -> Message {
        let (id, in_all) = (self.request.id().cloned(), self.deadline);
        let deadline = Instant::now() + in_all;
        let exchange = match self.begin().await {
            Ok(exchange) => exchange,
            Err(answer) => return *answer,
        };
        if self.request.method() == "subscriptions/listen" {
            return self.carry(exchange, stream, heard, None).await;
        }
        let patience = self.options.call_timeout;
        let carried = self.carry(exchange, stream, heard, Some(patience));
        match tokio::time::timeout_at(deadline, carried).await {
            Ok(answer) => answer,
            Err(_) => late(id.as_ref(), in_all),
        }
    }

    /// Asks the backend, or goes on with what it was asked in the round before. The answer if there
    /// is nothing to wait for.
    async fn begin(&mut self) -> Result<Exchange, Box<Message>> {
        if let Some(first) = self.first.take() {
            let told = self.backend.request(first, Asker::Edge).await.answer();
            // A backend that knows no levels has none to be set.
            _ = tokio::time::timeout(self.options.read_timeout, told).await;
        }
        let Some(round) = &self.round else {
            return Ok(self.backend.request(self.request.clone(), Asker::Agent).await);
        };
        let held = match round.begin(&self.request) {
            Begun::First(request) => {
                return Ok(self.backend.request(request, Asker::Agent).await);
            }
            Begun::Refused(reason) => {
                let id = self.request.id();
                return Err(Message::error(id, code::INVALID_PARAMS, reason, "").into());
            }
            Begun::Again(held) => *held,
        };
        let (answers, open) = round.answered(&held);
        let exchange = held.exchange;
        self.lease = held.lease;
        if let Some(backend) = self.lease.as_ref().and_then(Lease::backend) {
            self.backend = backend.clone();
        }
        for answer in answers {
            self.backend.send(answer).await;
        }
        if open.is_empty() { Ok(exchange) } else { self.ask(exchange, open).await }
    }

    async fn carry(
        &mut self,
        mut exchange: Exchange,
        stream: &Resumable,
        heard: &Notify,
        patience: Option<Duration>,
    ) -> Message {
        let far = Duration::from_secs(1 << 30);
        let mut silent_until = Instant::now() + patience.unwrap_or(far);
        loop {
            tokio::select! {
                event = exchange.next() => match event {
                    Some(Event::Answer(answer)) => return self.answered(answer),
                    Some(Event::Message(message)) if self.is_question(&message) => {
                        match self.asked(exchange, message).await {
                            Ok(on) => exchange = on,
                            Err(answer) => return *answer,
                        }
                    }
                    Some(Event::Message(message)) => {
                        let passed = match &self.round {
                            Some(round) => round.passed(message),
                            None => Some(message),
                        };
                        if let Some(message) = passed {
                            stream.room().await;
                            stream.push(message);
                        }
                    }
                    None => {
                        let reason = "the MCP server gave no answer, or more than could be kept";
                        return Message::error(self.request.id(), code::INTERNAL_ERROR, reason, "");
                    }
                },
                () = heard.notified() => {}
                () = tokio::time::sleep_until(silent_until) => {
                    return late(self.request.id(), patience.unwrap_or(far));
                }
            }
            silent_until = Instant::now() + patience.unwrap_or(far);
        }
    }

    /// The backend has answered: it has nothing more to say in this call.
    fn answered(&mut self, answer: Message) -> Message {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        answer
    }

    /// Whether a message asks an agent who is asked in rounds.
    fn is_question(&self, message: &Message) -> bool {
        self.round.is_some() && message.kind() == Kind::Request
    }

    /// The backend asks, and perhaps more than one thing at once. It goes on if none of it can be
    /// asked of the agent; else the round ends with what is given back as the error.
    async fn asked(
        &mut self,
        mut exchange: Exchange,
        first: Message,
    ) -> Result<Exchange, Box<Message>> {
        let Some(round) = &self.round else { return Ok(exchange) };
        let (mut questions, mut next) = (Vec::new(), Some(first));
        while let Some(question) = next.take() {
            match round.refusal(&self.request, &question) {
                None => questions.push(question),
                Some(refusal) => self.backend.send(refusal).await,
            }
            if questions.len() < QUESTIONS_MAX {
                next = exchange.question();
            }
        }
        if questions.is_empty() { Ok(exchange) } else { self.ask(exchange, questions).await }
    }

    /// Ends the round with questions, or refuses them if they cannot be kept.
    async fn ask(
        &mut self,
        exchange: Exchange,
        questions: Vec<Message>,
    ) -> Result<Exchange, Box<Message>> {
        let Some(round) = &self.round else { return Ok(exchange) };
        match round.ask(&self.request, exchange, self.lease.take(), questions) {
            Ok(answer) => Err(answer.into()),
            Err(not_held) => {
                self.lease = not_held.lease;
                for refusal in not_held.refusals {
                    self.backend.send(refusal).await;
                }
                Ok(not_held.exchange)
            }
        }
    }
}

fn late(id: Option<&Id>, patience: Duration) -> Message {
    let reason =
        format!("the MCP server did not answer within {patience:?}; the request was cancelled");
    Message::error(id, code::INTERNAL_ERROR, &reason, "")
}

/// Keyed calls.
#[derive(Debug)]
pub(super) struct Keyed {
    kept: Duration,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    by_key: BTreeMap<Bytes, Arc<Running>>,
    /// Those that have ended, with when and the bytes of what they gave; the first ended first.
    ended: VecDeque<(Instant, Bytes, usize)>,
    bytes: usize,
}

impl Calls {
    /// Forgets what is too old, or more than may be kept.
    fn sweep(&mut self, kept: Duration, now: Instant) {
        while let Some((when, ..)) = self.ended.front() {
            let old = kept <= now.duration_since(*when);
            let many = RESULT_BYTES_MAX < self.bytes || KEYED_MAX <= self.by_key.len();
            if !old && !many {
                return;
            }
            if let Some((_, key, bytes)) = self.ended.pop_front() {
                self.by_key.remove(&key);
                self.bytes -= bytes;
            }
        }
    }
}

impl Keyed {
    /// Remembers each call for `kept` after its end.
    pub(super) fn new(kept: Duration) -> Self {
        Self { kept, calls: Mutex::default() }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // What a thread that panicked left behind is whole: nothing panics between two changes.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call of this key, if it is remembered.
    pub(super) fn find(&self, key: &Bytes, now: Instant) -> Option<Arc<Running>> {
        let mut calls = self.calls();
        calls.sweep(self.kept, now);
        calls.by_key.get(key).cloned()
    }

    /// Remembers a call that begins; `None` if too many are under way. The first of two that begin
    /// at once is the one: it is given back.
    pub(super) fn begin(
        &self,
        key: &Bytes,
        now: Instant,
        start: impl FnOnce() -> Arc<Running>,
    ) -> Option<Arc<Running>> {
        let mut calls = self.calls();
        calls.sweep(self.kept, now);
        if KEYED_MAX <= calls.by_key.len() {
            return None;
        }
        Some(Arc::clone(calls.by_key.entry(key.clone()).or_insert_with(start)))
    }

    /// A call has ended and its answer is with its caller.
    pub(super) fn ended(&self, key: &Bytes, bytes: usize, now: Instant) {
        let mut calls = self.calls();
        if calls.by_key.contains_key(key) && !calls.ended.iter().rev().any(|(_, of, _)| of == key) {
            calls.ended.push_back((now, key.clone(), bytes));
            calls.bytes += bytes;
        }
        calls.sweep(self.kept, now);
    }

    /// A call that nobody waits for any more.
    pub(super) fn forget(&self, key: &Bytes) {
        let mut calls = self.calls();
        if !calls.ended.iter().any(|(_, of, _)| of == key) {
            calls.by_key.remove(key);
        }
    }

    /// Gives up everything.
    pub(super) fn clear(&self) {
        *self.calls() = Calls::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(text: &str) -> Arc<Running> {
        let request = Message::request(Id::from_number(0), "tools/call", text);
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        let (stream, heard) = (Resumable::new(), Arc::default());
        Arc::new(Running { stream, heard, asked: digest(&request), task })
    }

    fn key(number: usize) -> Bytes {
        Bytes::from(number.to_be_bytes().to_vec())
    }

    #[tokio::test]
    async fn calls_are_remembered_for_their_time_and_no_longer() {
        let (keyed, began) = (Keyed::new(Duration::from_secs(300)), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        keyed.begin(&key(1), began, || running("{}")).unwrap();
        assert!(keyed.find(&key(1), after(1_000)).is_some(), "it is under way");
        keyed.ended(&key(1), 10, after(1_000));
        assert!(keyed.find(&key(1), after(1_299)).is_some());
        assert!(keyed.find(&key(1), after(1_300)).is_none());
        assert_eq!(keyed.calls().bytes, 0);
    }

    #[tokio::test]
    async fn no_more_is_remembered_than_may_be() {
        let (keyed, now) = (Keyed::new(Duration::from_secs(300)), Instant::now());
        let one = running("{}");
        let begin = |number| keyed.begin(&key(number), now, || Arc::clone(&one));
        for number in 0..KEYED_MAX {
            begin(number).unwrap();
        }
        assert!(begin(KEYED_MAX).is_none(), "all are under way");
        keyed.ended(&key(7), 10, now);
        begin(KEYED_MAX).unwrap();
        assert!(keyed.find(&key(7), now).is_none(), "it made room");
        keyed.ended(&key(8), RESULT_BYTES_MAX + 1, now);
        assert!(keyed.find(&key(8), now).is_none(), "too large to be remembered");
        keyed.clear();
        assert!(keyed.find(&key(9), now).is_none());
    }

    #[tokio::test]
    async fn a_key_stands_for_what_was_asked_first() {
        let first = running(r#"{"name":"a","arguments":{"b":1},"_meta":{"progressToken":1}}"#);
        let ask = |params: &str| Message::request(Id::from_number(9), "tools/call", params);
        assert!(first.is_of(&ask(r#"{"name":"a","arguments":{"b":1},"_meta":{"x":2}}"#)));
        assert!(!first.is_of(&ask(r#"{"name":"a","arguments":{"b":2}}"#)));
    }
}

//! One call to the server on behalf of an agent.

use std::time::Duration;

use aip_codec::{
    aip::{
        call::{CallError, RecordType},
        trace::TraceContext,
    },
    moqt::{
        error_code::RequestCode,
        parameter::{Parameter, Parameters},
    },
};
use aip_engine::client::{ClientError, Refusal};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, time::Instant};

use super::{Client, Connector, Talk, interop, session};
use crate::{
    encoding::Encoding,
    link::{Call, CallEvent, CallOutcome},
    message::{Id, Kind, Message, ParseError, code, meta, string_member},
    observed::context_of,
    random::unguessable_bytes,
    serve::can_be_asked,
};

/// In a request's `_meta`: under this key, the same request is run once.
pub(crate) const IDEMPOTENCY_KEY: &str = "aip/idempotencyKey";
/// In a request's `_meta`: the milliseconds that its answer is worth waiting for.
pub(crate) const DEADLINE: &str = "aip/deadlineMs";
/// In a request's `_meta`: its priority, 0 (first) to 255; 128 if nothing is said.
pub(crate) const PRIORITY: &str = "aip/priority";
/// How long to wait before a call is made again.
const AGAIN: Duration = Duration::from_millis(50);

/// Answers to questions of the server that may wait for one call.
const ANSWERS_MAX: usize = 64;

/// How a call is made, each time it is.
struct Making {
    /// By which the other end knows it again.
    key: Option<Bytes>,
    /// Messages of it that came.
    came: u64,
    /// Whether it may have been passed on before.
    repeated: bool,
    /// When its caller wants no answer any more.
    deadline: Option<Instant>,
    priority: Option<u8>,
    /// The span that it belongs to, if the agent or the edge says one.
    context: Option<TraceContext>,
}

impl Making {
    fn of(connector: &Connector, request: &Message) -> Self {
        let wish = |name: &str| meta(request.body(), name).map(|member| member.value.to_owned());
        let number = |name: &str| wish(name).and_then(|value| value.parse::<u64>().ok());
        let deadline = number(DEADLINE).map(Duration::from_millis);
        let deadline = deadline.into_iter().chain(connector.options.call_deadline).min();
        let priority = number(PRIORITY).and_then(|priority| u8::try_from(priority).ok());
        let key = match wish(IDEMPOTENCY_KEY) {
            Some(key) => {
                let mut hash = Sha256::new();
                hash.update(connector.secret);
                hash.update(key);
                Some(Bytes::from(hash.finalize().to_vec()))
            }
            None => unguessable_bytes().map(|key| Bytes::from(key.to_vec())),
        };
        Self {
            key,
            came: 0,
            repeated: false,
            deadline: deadline.map(|time| Instant::now() + time),
            priority: priority.or(connector.options.priority),
            context: context_of(request),
        }
    }

    fn parameters(&self) -> Parameters {
        let mut parameters = Parameters::new();
        if let Some(priority) = self.priority {
            parameters.push(Parameter::SubscriberPriority(priority));
        }
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            parameters.push(Parameter::Deadline(u64::try_from(left).unwrap_or(u64::MAX >> 2)));
        }
        if let Some(context) = self.context {
            parameters.push(Parameter::TraceContext(context));
        }
        if let Some(key) = &self.key {
            parameters.push(Parameter::IdempotencyKey(key.clone()));
            if self.repeated {
                parameters.push(Parameter::ResumeAfter(self.came));
            }
        }
        parameters
    }

    /// Whether making the call again can help.
    fn again(&mut self, outcome: &CallOutcome) -> bool {
        match outcome {
            // What was never sent may be sent again.
            CallOutcome::Unavailable(ClientError::NotConnected | ClientError::GoingAway) => true,
            // What the other end knows by its key is run once.
            CallOutcome::Lost if self.key.is_some() => {
                self.repeated = true;
                true
            }
            // The other end may not be back yet.
            CallOutcome::Refused(refusal) => {
                self.repeated
                    && matches!(
                        refusal.code,
                        RequestCode::DOES_NOT_EXIST
                            | RequestCode::NOT_SUPPORTED
                            | RequestCode::GOING_AWAY
                    )
            }
            _ => false,
        }
    }
}

/// Calls the server. The answer, or the error that says why there is none.
pub(super) async fn run(
    connector: &Connector,
    client: &Client,
    request: &Message,
    talk: &Talk,
) -> Message {
    let mut making = Making::of(connector, request);
    let Some(deadline) = making.deadline else {
        return run_until_answered(connector, client, request, talk, &mut making).await;
    };
    let answered = run_until_answered(connector, client, request, talk, &mut making);
    match tokio::time::timeout_at(deadline, answered).await {
        Ok(answer) => answer,
        Err(_) => {
            let reason = "there was no answer by the call's deadline; it was cancelled";
            let data = r#"{"code":"TIMEOUT","retryAfterMs":null}"#;
            Message::error(request.id(), code::INTERNAL_ERROR, reason, data)
        }
    }
}

async fn run_until_answered(
    connector: &Connector,
    client: &Client,
    request: &Message,
    talk: &Talk,
    making: &mut Making,
) -> Message {
    let mut until: Option<Instant> = None;
    loop {
        let came = making.came;
        let error = match run_once(connector, client, request, talk, making).await {
            Ok(answer) => return answer,
            Err(CallOutcome::Unavailable(ClientError::CallsUnsupported)) => {
                return interop::run(connector, request, talk).await;
            }
            Err(outcome) => outcome,
        };
        if came < making.came {
            // It went on for a while: this is another loss.
            until = None;
        }
        let patience = connector.options.reconnect_timeout;
        let until = *until.get_or_insert_with(|| Instant::now() + patience);
        if !making.again(&error) || until <= Instant::now() {
            return failed(connector, request.id(), &error);
        }
        if connector.link.connected(until - Instant::now()).await.is_ok() {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn run_once(
    connector: &Connector,
    client: &Client,
    request: &Message,
    talk: &Talk,
    making: &mut Making,
) -> Result<Message, CallOutcome> {
    let ours = connector.options.server.namespace();
    let namespace = client.process.as_ref().unwrap_or(ours).clone();
    let name = Bytes::from(request.method().to_owned());
    let encoding = connector.encoding();
    let mut parameters = making.parameters();
    if let Some(content_type) = encoding.content_type() {
        parameters.push(Parameter::ContentType(content_type));
    }
    let mut call = connector.link.call(namespace, name, parameters).await;
    // Where both have sessions the server may ask, and gets an answer, even if that is that it may not.
    let last = connector.description().revision.is_modern() || client.revision.is_modern();
    call.send(RecordType::Request, encoding.write(request), last).await;
    let (answers, mut answered) = mpsc::channel::<Message>(ANSWERS_MAX);
    let questions = Asked { talk, answers, client, encoding };
    loop {
        let event = tokio::select! {
            event = call.next() => event,
            Some(answer) = answered.recv() => {
                call.send(RecordType::Message, encoding.write(&answer), false).await;
                continue;
            }
        };
        match event {
            CallEvent::Record { kind: RecordType::Message, payload } => {
                making.came += 1;
                let Ok(message) = encoding.read(payload, &connector.options.limits) else {
                    tracing::debug!("a record that is no message was dropped");
                    continue;
                };
                questions.pass(message, &mut call).await;
            }
            CallEvent::Record { kind: RecordType::Result, payload } => {
                call.finish();
                return Ok(answer_of(encoding.read(payload, &connector.options.limits), request));
            }
            CallEvent::Record { kind: RecordType::Error, payload } => {
                call.finish();
                return Err(CallOutcome::Refused(refusal_of(payload)));
            }
            CallEvent::Record { kind: RecordType::Request, .. } => {}
            CallEvent::Ended(outcome) => return Err(outcome),
        }
    }
}

/// The answer that a record is, under the id of what was asked.
fn answer_of(read: Result<Message, ParseError>, request: &Message) -> Message {
    match read.ok() {
        Some(answer) if answer.is_response() && answer.id() == request.id() => answer,
        // What could not be read there has no id there.
        Some(answer) if answer.kind() == Kind::Error && answer.id().is_none() => {
            Message::error_of(request.id(), answer.body())
        }
        Some(_) | None => {
            let reason = "the edge beside the MCP server gave an answer that is none";
            Message::error(request.id(), code::INTERNAL_ERROR, reason, "")
        }
    }
}

fn refusal_of(payload: Bytes) -> Refusal {
    let (code, reason) = match CallError::decode(payload) {
        Ok(error) => (error.code, error.reason.as_str().to_owned()),
        Err(_) => (RequestCode::INTERNAL_ERROR, "an error that cannot be read".to_owned()),
    };
    Refusal { code, retry_after: None, reason }
}

/// What the server says in the course of a call.
struct Asked<'a> {
    talk: &'a Talk,
    answers: mpsc::Sender<Message>,
    client: &'a Client,
    encoding: Encoding,
}

impl Asked<'_> {
    async fn pass(&self, message: Message, call: &mut Call) {
        match message.kind() {
            Kind::Notification => {
                if let Some(message) = self.notification(message) {
                    // An agent that has gone is noticed by the end of its call.
                    _ = self.talk.to_agent.send(message).await;
                }
            }
            Kind::Request => {
                let able = can_be_asked(&self.client.capabilities);
                let questions = self.talk.questions.as_ref().filter(|_| able);
                let asked = questions.and_then(|questions| questions.ask(&message, &self.answers));
                match asked {
                    Some(question) => _ = self.talk.to_agent.send(question).await,
                    None => {
                        let reason = "the client cannot be asked by this way";
                        let answer =
                            Message::error(message.id(), code::METHOD_NOT_FOUND, reason, "");
                        call.send(RecordType::Message, self.encoding.write(&answer), false).await;
                    }
                }
            }
            Kind::Result | Kind::Error => tracing::debug!("an answer to nothing was dropped"),
        }
    }

    /// A notification as the agent should see it; `None` if it should not.
    fn notification(&self, message: Message) -> Option<Message> {
        match message.method() {
            "notifications/cancelled" => {
                self.talk.questions.as_ref()?.withdrawn(message, &self.answers)
            }
            "notifications/message" => {
                session::wants_log(self.client, &string_member(message.body(), "level"))
                    .then_some(message)
            }
            _ => Some(message),
        }
    }
}

/// The JSON-RPC error for a call that the tier could not carry.
fn failed(connector: &Connector, id: Option<&Id>, outcome: &CallOutcome) -> Message {
    let server = &connector.options.server;
    let (name, retry_after, reason) = match outcome {
        CallOutcome::Refused(refusal) => {
            let advice = match refusal.code {
                RequestCode::DOES_NOT_EXIST => {
                    format!("`{server}` is not published at this relay now; is its edge running?")
                }
                RequestCode::UNAUTHORIZED => {
                    "this identity may not call it; ask who runs the relay".to_owned()
                }
                RequestCode::EXCESSIVE_LOAD => {
                    "too much is being asked; try again later".to_owned()
                }
                RequestCode::GOING_AWAY => "the relay is ending; try again".to_owned(),
                _ => "the relay tier refused the call".to_owned(),
            };
            let reason = format!("{advice} ({})", refusal.reason.escape_debug());
            (refusal.code.name(), refusal.retry_after, reason)
        }
        CallOutcome::Cancelled => {
            ("CANCELLED", None, "the edge beside the MCP server gave the call up".to_owned())
        }
        CallOutcome::Lost | CallOutcome::Finished => (
            "LOST",
            None,
            "the session with the relay was lost; whether the server ran this is not known".into(),
        ),
        CallOutcome::Overrun => (
            "TOO_FAR_BEHIND",
            None,
            "more came than this client or the network took; the call was given up".to_owned(),
        ),
        CallOutcome::Unavailable(error) => {
            ("UNAVAILABLE", Some(Duration::from_secs(1)), unavailable(*error))
        }
    };
    let retry = retry_after.map_or_else(|| "null".to_owned(), |time| time.as_millis().to_string());
    let data = format!(r#"{{"code":"{name}","retryAfterMs":{retry}}}"#);
    Message::error(id, code::INTERNAL_ERROR, &reason, &data)
}

fn unavailable(error: ClientError) -> String {
    match error {
        ClientError::NotConnected => {
            "there is no session with the relay; it is being tried again: retry".to_owned()
        }
        ClientError::CallsUnsupported => {
            "this relay does not carry calls (AIP): only reads go through it".to_owned()
        }
        ClientError::UnknownCall | ClientError::LimitReached(_) | ClientError::GoingAway => {
            format!("the call cannot be made now: {error}")
        }
    }
}

//! One call to the server on behalf of an agent.

use aip_codec::{
    aip::call::{CallError, RecordType},
    moqt::{error_code::RequestCode, parameter::Parameters},
};
use aip_engine::client::{ClientError, Refusal};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Client, Connector, Talk, session};
use crate::{
    link::{Call, CallEvent, CallOutcome},
    message::{Id, Kind, Message, code, object_members, string_member},
};

/// Answers to questions of the server that may wait for one call.
const ANSWERS_MAX: usize = 64;

/// Calls the server. The answer, or the error that says why there is none.
pub(super) async fn run(
    connector: &Connector,
    client: &Client,
    request: &Message,
    talk: &Talk,
) -> Message {
    let deadline = tokio::time::Instant::now() + connector.options.reconnect_timeout;
    loop {
        let outcome = run_once(connector, client, request, talk).await;
        let error = match outcome {
            Ok(answer) => return answer,
            Err(outcome) => outcome,
        };
        // What was never sent may be sent again.
        let unsent = matches!(
            error,
            CallOutcome::Unavailable(ClientError::NotConnected | ClientError::GoingAway)
        );
        if !unsent || deadline <= tokio::time::Instant::now() {
            return failed(connector, request.id(), &error);
        }
        let left = deadline - tokio::time::Instant::now();
        if connector.link.connected(left).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

async fn run_once(
    connector: &Connector,
    client: &Client,
    request: &Message,
    talk: &Talk,
) -> Result<Message, CallOutcome> {
    let namespace = connector.options.server.namespace().clone();
    let name = Bytes::from(request.method().to_owned());
    let mut call = connector.link.call(namespace, name, Parameters::new()).await;
    call.send(RecordType::Request, request.text().clone(), !client.can_be_asked()).await;
    let (answers, mut answered) = mpsc::channel(ANSWERS_MAX);
    let questions = Asked { talk, answers, client };
    loop {
        let event = tokio::select! {
            event = call.next() => event,
            Some(answer) = answered.recv() => {
                let answer: Message = answer;
                call.send(RecordType::Message, answer.text().clone(), false).await;
                continue;
            }
        };
        match event {
            CallEvent::Record { kind: RecordType::Message, payload } => {
                let Ok(message) = Message::parse(payload, &connector.options.limits) else {
                    tracing::debug!("a record that is no message was dropped");
                    continue;
                };
                questions.pass(message, &mut call).await;
            }
            CallEvent::Record { kind: RecordType::Result, payload } => {
                call.finish();
                return Ok(answer_of(payload, request, connector));
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
fn answer_of(payload: Bytes, request: &Message, connector: &Connector) -> Message {
    let answer = Message::parse(payload, &connector.options.limits).ok();
    match answer {
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
                let asked = self
                    .talk
                    .questions
                    .as_ref()
                    .and_then(|questions| questions.ask(&message, &self.answers));
                match asked {
                    Some(question) => _ = self.talk.to_agent.send(question).await,
                    None => {
                        let reason = "the client cannot be asked by this way";
                        let answer =
                            Message::error(message.id(), code::METHOD_NOT_FOUND, reason, "");
                        call.send(RecordType::Message, answer.text().clone(), false).await;
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
                let members = object_members(message.body())?;
                let member = members.iter().find(|member| member.name == "requestId")?;
                let id = Id::from_raw(member.value)?;
                let asked = self.talk.questions.as_ref()?.withdraw(&id, &self.answers)?;
                Some(message.with_body_part(&member.span, asked.as_raw()))
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
            ("UNAVAILABLE", Some(std::time::Duration::from_secs(1)), unavailable(*error))
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

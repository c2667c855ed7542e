//! One request to the server, and what it says before it answers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    Shared, State, away,
    post::{self, Answer, Failed},
};
use crate::{
    backend::{Event, News, Restore, answer_unasked, own_meta, tell},
    message::{Id, Kind, Message, code, object_members, string_member},
    parameters::Parameters,
};

/// How long to wait before a stream that broke off is resumed, if the server does not say.
const RESUME: Duration = Duration::from_secs(1);
const RESUME_MAX: Duration = Duration::from_secs(30);
/// Pages of tools that are looked through for headers.
const PAGES_MAX: usize = 100;

/// Asks. The answer, whatever happens.
pub(super) async fn run(
    shared: &Arc<Shared>,
    request: &Message,
    number: u64,
    events: &mpsc::Sender<Event>,
) -> Message {
    let Some((sent, restore)) = Restore::outbound(request, number) else {
        return away(request, "a request is wanted");
    };
    let mut last_error = "the MCP server is away; it is being looked for: retry".to_owned();
    // A session that was lost had not taken the request: it is asked again, once.
    for _ in 0..2 {
        let Some(state) = shared.state().await else { break };
        let exchange = Exchange { shared, state: &state, sent: &sent, restore: &restore, events };
        match exchange.run().await {
            Ok(answer) => return answer,
            Err(Failed::SessionLost) => {
                shared.is_lost(&state);
                last_error = Failed::SessionLost.to_string();
            }
            Err(error) => {
                if let Failed::Unreachable(_) = error {
                    shared.is_lost(&state);
                }
                return away(request, &error.to_string());
            }
        }
    }
    away(request, &last_error)
}

struct Exchange<'a> {
    shared: &'a Arc<Shared>,
    state: &'a State,
    sent: &'a Message,
    restore: &'a Restore,
    events: &'a mpsc::Sender<Event>,
}

impl Exchange<'_> {
    async fn run(&self) -> Result<Message, Failed> {
        let headers = self.headers().await;
        if self.is_refused() {
            let reason = "the MCP server defines this tool with a forbidden x-mcp-header: MCP \
                          2026-07-28 lets no client call it";
            return Ok(Message::error(self.sent.id(), code::INVALID_PARAMS, reason, ""));
        }
        let answer = self.run_with(&headers).await?;
        if is_header_mismatch(&answer) && self.is_call() {
            // The tools may have changed since their headers were learned.
            *self.shared.parameters() = None;
            let again = self.headers().await;
            if again != headers {
                return self.run_with(&again).await;
            }
        }
        Ok(answer)
    }

    async fn run_with(&self, headers: &[(String, String)]) -> Result<Message, Failed> {
        match post::post(self.shared, self.state, self.sent, headers).await? {
            Answer::Taken => Err(Failed::Kind),
            Answer::Json(body) => self.parse_answer(body).ok_or(Failed::Kind),
            Answer::Events(events) => self.follow(events).await,
        }
    }

    fn is_call(&self) -> bool {
        self.state.description.revision.is_modern() && self.sent.method() == "tools/call"
    }

    /// The headers of a tool's arguments.
    async fn headers(&self) -> Vec<(String, String)> {
        if !self.is_call() {
            return Vec::new();
        }
        let Some(tool) = string_member(self.sent.body(), "name") else { return Vec::new() };
        let known = self.shared.parameters().clone();
        let parameters = match known {
            Some(parameters) => parameters,
            None => self.learn().await,
        };
        let arguments = object_members(self.sent.body()).and_then(|members| {
            members.iter().find(|member| member.name == "arguments").map(|m| m.value)
        });
        let arguments = arguments.and_then(|text| serde_json::from_str::<Value>(text).ok());
        parameters.headers(&tool, &arguments.unwrap_or(Value::Null))
    }

    /// Whether the tool that is called is one that no client may call.
    fn is_refused(&self) -> bool {
        let tool = string_member(self.sent.body(), "name").filter(|_| self.is_call());
        let known = self.shared.parameters();
        tool.is_some_and(|tool| known.as_ref().is_some_and(|known| known.refuses(&tool)))
    }

    /// Asks for the tools to learn their headers.
    async fn learn(&self) -> Parameters {
        let mut parameters = Parameters::default();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let cursor_member = cursor
                .map(|cursor| format!(r#""cursor":{},"#, Value::from(cursor)))
                .unwrap_or_default();
            let params = format!(r#"{{{cursor_member}"_meta":{}}}"#, own_meta());
            let list = Message::request(Id::from_number(1), "tools/list", &params);
            let exchange = Exchange { sent: &list, ..*self };
            let Ok(answer) = Box::pin(exchange.run_with(&[])).await else { return parameters };
            cursor = parameters.learn(answer.body());
            if cursor.is_none() {
                break;
            }
        }
        *self.shared.parameters() = Some(parameters.clone());
        parameters
    }

    fn parse(&self, body: Bytes) -> Option<Message> {
        match Message::parse(body, &self.shared.options.limits) {
            Ok(message) => Some(message),
            Err(error) => {
                tracing::debug!(%error, "the MCP server sent what is no message");
                None
            }
        }
    }

    /// The answer that a body is, with its asker's id.
    fn parse_answer(&self, body: Bytes) -> Option<Message> {
        let message = self.parse(body)?;
        match message.kind() {
            Kind::Result if message.id() == self.sent.id() => Some(self.restore.inbound(&message)),
            // An error may have no id.
            Kind::Error if message.id().is_some() => Some(self.restore.inbound(&message)),
            Kind::Error => {
                let error: Value = serde_json::from_str(message.body()).ok()?;
                let code = error.get("code")?.as_i64()?;
                let text = error.get("message").and_then(Value::as_str).unwrap_or_default();
                let data = error.get("data").map(ToString::to_string).unwrap_or_default();
                let code = i32::try_from(code).unwrap_or(code::INTERNAL_ERROR);
                Some(Message::error(Some(self.restore.id()), code, text, &data))
            }
            Kind::Result | Kind::Request | Kind::Notification => None,
        }
    }

    /// Takes messages until the answer, resuming a stream that breaks off if the server can.
    async fn follow(&self, mut events: post::Events) -> Result<Message, Failed> {
        let (mut last_id, mut wait): (Option<String>, Duration) = (None, RESUME);
        loop {
            let broken = loop {
                let event = match events.next().await {
                    Ok(Some(event)) => event,
                    Ok(None) => break None,
                    Err(Failed::Unreachable(reason)) => break Some(Failed::Unreachable(reason)),
                    Err(error) => return Err(error),
                };
                last_id = event.id.or(last_id);
                if let Some(retry) = event.retry_ms {
                    wait = Duration::from_millis(retry).min(RESUME_MAX);
                }
                if let Some(answer) = self.take(event.data).await {
                    return Ok(answer);
                }
            };
            let resumable = !self.state.description.revision.is_modern() && last_id.is_some();
            if !resumable {
                let reason = "the stream broke off before the answer".to_owned();
                return Err(broken.unwrap_or(Failed::Unreachable(reason)));
            }
            tokio::time::sleep(wait).await;
            events = post::listen(self.shared, self.state, last_id.as_deref()).await?;
        }
    }

    /// Takes one message. The answer, if it is that.
    async fn take(&self, data: Bytes) -> Option<Message> {
        if data.is_empty() {
            return None;
        }
        let message = self.parse(data)?;
        match message.kind() {
            Kind::Result | Kind::Error => {
                if message.id() == self.sent.id() || message.id().is_none() {
                    return self.parse_answer(message.text().clone());
                }
                tracing::debug!("the MCP server answered what nobody waits for");
            }
            Kind::Request if self.state.description.revision.is_modern() => {}
            Kind::Request => {
                if !tell(self.events, Event::Message(message.clone())) {
                    refuse(self.shared, self.state, &message).await;
                }
            }
            Kind::Notification => {
                let change = matches!(
                    message.method(),
                    "notifications/tools/list_changed"
                        | "notifications/prompts/list_changed"
                        | "notifications/resources/list_changed"
                        | "notifications/resources/updated"
                );
                if change && self.sent.method() != "subscriptions/listen" {
                    // One that finds no place is told by those before it.
                    _ = self.shared.news.try_send(News::Message(message));
                } else {
                    // One that finds no place is dropped.
                    _ = tell(self.events, Event::Message(self.restore.inbound(&message)));
                }
            }
        }
        None
    }
}

/// Answers what the server asks of nobody.
pub(super) async fn refuse(shared: &Arc<Shared>, state: &State, question: &Message) {
    if let Some(answer) = answer_unasked(question) {
        // A server that is gone asks no more.
        _ = post::post(shared, state, &answer, &[]).await;
    }
}

fn is_header_mismatch(answer: &Message) -> bool {
    answer.kind() == Kind::Error
        && serde_json::from_str::<Value>(answer.body()).is_ok_and(|error| {
            error.get("code").and_then(Value::as_i64) == Some(code::HEADER_MISMATCH.into())
        })
}

/// Gives up requests that nobody waits for any more.
pub(super) async fn cancel(shared: Arc<Shared>, mut cancelled: mpsc::UnboundedReceiver<u64>) {
    while let Some(number) = cancelled.recv().await {
        let Some(under_way) = shared.under_way().remove(&number) else { continue };
        if let Some(task) = under_way.task {
            task.abort();
        }
        let state = shared.state.borrow().clone();
        // Without sessions, the end of the connection says it.
        let Some(state) = state.filter(|state| !state.description.revision.is_modern()) else {
            continue;
        };
        let params = format!(r#"{{"requestId":{number},"reason":"cancelled by the agent"}}"#);
        let notification = Message::notification("notifications/cancelled", &params);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A server that is gone has nothing left to cancel.
            _ = post::post(&shared, &state, &notification, &[]).await;
        });
    }
}

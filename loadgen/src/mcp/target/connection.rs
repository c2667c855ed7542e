//! One agent's connection: asking, listening, and how either fails.

use std::sync::Arc;

use aip_gateway::{
    backend::{Asker, Backend, Event, own_meta},
    connect::{Connector, Talk},
    message::{Id, Kind, Message, code},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{broadcast, mpsc};

/// Messages of a listener that may wait for it.
const SAID_MAX: usize = 1_024;
/// Letters of a server's word for an error that are kept.
const WORD_MAX: usize = 40;

/// One agent's connection.
#[derive(Debug)]
pub struct Connection {
    way: Way,
    /// Whether the server speaks a revision without sessions.
    modern: bool,
}

#[derive(Debug)]
pub(super) enum Way {
    Backend { backend: Backend, news: broadcast::Sender<Message> },
    Tier { connector: Arc<Connector>, index: usize, told: mpsc::Sender<Message> },
}

/// How a request failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The server, or a relay for it, answered with a JSON-RPC error: its code, and the word that
    /// its data says for it, if any (`data.code`).
    Rpc(i64, Option<String>),
    /// The tool ran, and says that it failed.
    Tool,
    /// No answer will come.
    Lost,
}

impl Failure {
    /// Its kind, in words that group.
    pub fn kind(&self) -> String {
        match self {
            Self::Rpc(code, Some(word)) => format!("JSON-RPC {code} {word}"),
            Self::Rpc(code, None) => match i32::try_from(*code) {
                Ok(code::INTERNAL_ERROR) => {
                    "JSON-RPC -32603 (internal error, or not reachable)".into()
                }
                _ => format!("JSON-RPC {code}"),
            },
            Self::Tool => "tool error (isError)".to_owned(),
            Self::Lost => "connection lost".to_owned(),
        }
    }

    /// What an error that a server answered with is.
    fn of(error: &str) -> Self {
        #[derive(Deserialize)]
        struct Error {
            #[serde(default)]
            code: i64,
            #[serde(default)]
            data: Value,
        }
        let Ok(error) = serde_json::from_str::<Error>(error) else { return Self::Rpc(0, None) };
        let word = error.data.get("code").and_then(Value::as_str);
        let is_word = |text: &&str| {
            text.len() <= WORD_MAX
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        Self::Rpc(error.code, word.filter(is_word).map(str::to_owned))
    }
}

impl Connection {
    pub(super) const fn new(way: Way, modern: bool) -> Self {
        Self { way, modern }
    }

    pub(super) const fn way(&self) -> &Way {
        &self.way
    }

    /// The params of a request, with the `_meta` that a server without sessions needs, and with a
    /// priority, 0 (first) to 255, if one is said.
    pub fn params(&self, params: &Map<String, Value>, priority: Option<u8>) -> String {
        let mut params = params.clone();
        let mut meta = Map::new();
        if self.modern
            && let Ok(Value::Object(own)) = serde_json::from_str(&own_meta())
        {
            meta = own;
        }
        if let Some(priority) = priority {
            meta.insert("aip/priority".to_owned(), Value::from(priority));
        }
        if !meta.is_empty() {
            params.insert("_meta".to_owned(), Value::Object(meta));
        }
        if params.is_empty() {
            return String::new();
        }
        Value::Object(params).to_string()
    }

    /// Asks, and waits for the answer: its result as JSON text. Dropping this cancels the request.
    ///
    /// # Errors
    /// How it failed.
    pub async fn ask(&self, request: Message) -> Result<Message, Failure> {
        let answer = match &self.way {
            Way::Backend { backend, .. } => {
                backend.request(request, Asker::Edge).await.answer().await
            }
            Way::Tier { connector, told, .. } => {
                let talk = Talk { to_agent: told.clone(), questions: None };
                Some(connector.answer_modern(&request, &talk).await)
            }
        };
        let Some(answer) = answer else { return Err(Failure::Lost) };
        match answer.kind() {
            Kind::Result if is_tool_error(answer.body()) => Err(Failure::Tool),
            Kind::Result => Ok(answer),
            Kind::Error | Kind::Request | Kind::Notification => Err(Failure::of(answer.body())),
        }
    }

    /// Listens for changes of lists and of these resources, and tells `heard` of each notification,
    /// until it is dropped.
    ///
    /// # Errors
    /// How it ended before.
    pub async fn listen(
        &self,
        resources: &[String],
        id: u64,
        mut heard: impl FnMut() + Send,
    ) -> Result<(), Failure> {
        match &self.way {
            Way::Backend { news, .. } if !self.modern => {
                let mut news = news.subscribe();
                for uri in resources {
                    let params = Map::from_iter([("uri".to_owned(), Value::from(uri.as_str()))]);
                    let params = self.params(&params, None);
                    let id = Id::from_number(id);
                    self.ask(Message::request(id, "resources/subscribe", &params)).await?;
                }
                loop {
                    match news.recv().await {
                        Ok(message) if is_change(&message) => heard(),
                        Ok(_) => {}
                        // Those that were missed are not counted: they show as lost.
                        Err(broadcast::error::RecvError::Lagged(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => return Err(Failure::Lost),
                    }
                }
            }
            Way::Backend { backend, .. } => {
                let mut exchange =
                    backend.request(self.listening(resources, id), Asker::Edge).await;
                loop {
                    match exchange.next().await {
                        Some(Event::Message(message)) if is_change(&message) => heard(),
                        Some(Event::Message(_)) => {}
                        Some(Event::Answer(answer)) if answer.kind() == Kind::Result => {
                            return Ok(());
                        }
                        Some(Event::Answer(answer)) => return Err(Failure::of(answer.body())),
                        None => return Err(Failure::Lost),
                    }
                }
            }
            Way::Tier { connector, .. } => {
                let request = self.listening(resources, id);
                let (told, mut said) = mpsc::channel(SAID_MAX);
                let counting = async {
                    while let Some(message) = said.recv().await {
                        if is_change(&message) {
                            heard();
                        }
                    }
                };
                let asking = async {
                    // Dropped with the answer, which ends the counting.
                    let talk = Talk { to_agent: told, questions: None };
                    connector.answer_modern(&request, &talk).await
                };
                let (answer, ()) = tokio::join!(asking, counting);
                match answer.kind() {
                    Kind::Result => Ok(()),
                    _ => Err(Failure::of(answer.body())),
                }
            }
        }
    }

    /// The request of MCP 2026-07-28 that listens.
    fn listening(&self, resources: &[String], id: u64) -> Message {
        let mut filter = Map::new();
        for list in ["toolsListChanged", "promptsListChanged", "resourcesListChanged"] {
            filter.insert(list.to_owned(), Value::Bool(true));
        }
        filter.insert("resourceSubscriptions".to_owned(), Value::from(resources.to_vec()));
        let params = Map::from_iter([("notifications".to_owned(), Value::Object(filter))]);
        let params = self.params(&params, None);
        Message::request(Id::from_number(id), "subscriptions/listen", &params)
    }
}

/// Whether a message says that something changed.
fn is_change(message: &Message) -> bool {
    message.kind() == Kind::Notification
        && (message.method().ends_with("/list_changed")
            || message.method() == "notifications/resources/updated")
}

/// Whether a result says `isError: true`. Nothing is parsed that does not have these letters.
fn is_tool_error(result: &str) -> bool {
    #[derive(Deserialize)]
    struct Outcome {
        #[serde(default, rename = "isError")]
        is_error: bool,
    }
    result.contains("isError")
        && serde_json::from_str::<Outcome>(result).is_ok_and(|outcome| outcome.is_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_of_few_kinds() {
        let kind = |error: &str| Failure::of(error).kind();
        assert_eq!(
            kind(r#"{"code":-32603,"message":"x","data":{"code":"TIMEOUT","retryAfterMs":null}}"#),
            "JSON-RPC -32603 TIMEOUT"
        );
        assert_eq!(kind(r#"{"code":-32601,"message":"x"}"#), "JSON-RPC -32601");
        // What a server may say anything in is no kind.
        let words = r#"{"code":1,"data":{"code":"anything at all, for instance a time: 12:03"}}"#;
        assert_eq!(kind(words), "JSON-RPC 1");
        assert_eq!(kind("no object"), "JSON-RPC 0");
    }
}

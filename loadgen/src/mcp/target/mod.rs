//! What is loaded, by whichever way: one connection is one agent's.

mod aip;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aip_engine::io::Target as RelayTarget;
use aip_gateway::{
    backend::{Asker, Backend, Event, News, http, own_meta, stdio},
    connect::{self, Connector, Talk},
    message::{Kind, Message, code},
    name::ServerName,
};
use tokio::sync::mpsc;

use self::aip::Tier;

/// How an MCP server is reached.
#[derive(Clone, Debug)]
pub enum Target {
    /// Its standard streams.
    Stdio {
        /// The program, then its arguments.
        command: Vec<String>,
    },
    /// Streamable HTTP.
    Http {
        /// The endpoint.
        url: String,
    },
    /// A relay of the tier.
    Aip {
        /// The relay.
        relay: Box<RelayTarget>,
        /// The server's name there.
        server: ServerName,
    },
}

impl Target {
    /// In words, for reports.
    pub fn title(&self) -> String {
        match self {
            Self::Stdio { command } => format!("stdio: {}", command.join(" ")),
            Self::Http { url } => url.clone(),
            Self::Aip { relay, server } => format!("{} server {server}", relay.url),
        }
    }
}

/// Opens connections to one target.
#[derive(Debug)]
pub struct Opener {
    target: Target,
    /// Whether sessions are asked for (`true`), refused (`false`), or what the server has.
    legacy: Option<bool>,
    /// How long a connection may take to be ready.
    patience: Duration,
    tier: Option<Tier>,
}

/// One agent's connection.
#[derive(Debug)]
pub struct Connection {
    kind: Way,
    /// Whether the server speaks a revision without sessions.
    modern: bool,
}

#[derive(Debug)]
enum Way {
    Backend(Backend),
    Tier { connector: Arc<Connector>, index: usize, told: mpsc::Sender<Message> },
}

impl Opener {
    /// An opener; a relay is not asked before the first connection.
    ///
    /// # Errors
    /// If no thread or socket can be had, or the relay has no address.
    pub fn new(target: Target, legacy: Option<bool>, patience: Duration) -> Result<Self, String> {
        let tier = match &target {
            Target::Aip { relay, .. } => Some(Tier::new(relay)?),
            Target::Stdio { .. } | Target::Http { .. } => None,
        };
        Ok(Self { target, legacy, patience, tier })
    }

    /// The target.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Opens a connection and waits until it can be asked something.
    ///
    /// # Errors
    /// Why it cannot, in words.
    pub async fn open(&self) -> Result<Connection, String> {
        match &self.target {
            Target::Stdio { command } => {
                let mut options = stdio::Options::new(command.clone());
                options.legacy = self.legacy;
                options.start_timeout = self.patience;
                let (backend, news) = stdio::Stdio::start(options);
                self.ready(Backend::Stdio(backend), news).await
            }
            Target::Http { url } => {
                let mut options = http::Options::new(url.clone());
                options.legacy = self.legacy;
                options.start_timeout = self.patience;
                let (backend, news) = http::Http::start(options)?;
                self.ready(Backend::Http(backend), news).await
            }
            Target::Aip { server, .. } => self.open_tier(server).await,
        }
    }

    /// Waits until a backend says that it is up; from then on its news are heard and dropped.
    async fn ready(
        &self,
        backend: Backend,
        mut news: mpsc::Receiver<News>,
    ) -> Result<Connection, String> {
        let mut reason = "it says nothing".to_owned();
        let up = async {
            loop {
                match news.recv().await {
                    Some(News::Up(description)) => return Some(description),
                    Some(News::Down(why)) => reason = why,
                    Some(News::Message(_)) => {}
                    None => return None,
                }
            }
        };
        let up = tokio::time::timeout(self.patience, up).await.ok().flatten();
        let Some(description) = up else {
            backend.shutdown().await;
            return Err(format!("{} is not ready: {reason}", self.target.title()));
        };
        tokio::spawn(async move { while news.recv().await.is_some() {} });
        Ok(Connection { kind: Way::Backend(backend), modern: description.revision.is_modern() })
    }

    async fn open_tier(&self, server: &ServerName) -> Result<Connection, String> {
        let Some(tier) = &self.tier else { return Err("there is no relay".to_owned()) };
        let (link, index) = tier.open()?;
        let mut options = connect::Options::new(server.clone());
        options.wait = self.patience;
        match Connector::start(link, options).await {
            Ok(connector) => {
                let modern = true;
                // What a server says before its answer is heard and dropped.
                let (told, mut heard) = mpsc::channel(1_024);
                tokio::spawn(async move { while heard.recv().await.is_some() {} });
                Ok(Connection { kind: Way::Tier { connector, index, told }, modern })
            }
            Err(error) => {
                tier.close(index);
                Err(error.to_string())
            }
        }
    }

    /// Ends a connection.
    pub async fn close(&self, connection: &Connection) {
        match &connection.kind {
            Way::Backend(backend) => backend.shutdown().await,
            Way::Tier { index, .. } => {
                if let Some(tier) = &self.tier {
                    tier.close(*index);
                }
            }
        }
    }
}

/// How a request failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The server answered with a JSON-RPC error.
    Rpc(i64),
    /// The tool ran, and says that it failed.
    Tool,
    /// No answer will come.
    Lost,
}

impl Failure {
    /// Its kind, in words that group.
    pub fn kind(&self) -> String {
        match self {
            Self::Rpc(code) => match i32::try_from(*code) {
                Ok(code::INTERNAL_ERROR) => {
                    "JSON-RPC -32603 (internal error, or not reachable)".into()
                }
                _ => format!("JSON-RPC {code}"),
            },
            Self::Tool => "tool error (isError)".to_owned(),
            Self::Lost => "connection lost".to_owned(),
        }
    }
}

impl Connection {
    /// The params of a request, with the `_meta` that a server without sessions needs.
    pub fn params(&self, params: &serde_json::Map<String, serde_json::Value>) -> String {
        let mut params = params.clone();
        if self.modern
            && let Ok(meta) = serde_json::from_str(&own_meta())
        {
            params.insert("_meta".to_owned(), meta);
        }
        if params.is_empty() {
            return String::new();
        }
        serde_json::Value::Object(params).to_string()
    }

    /// Asks, and waits for the answer: its result as JSON text. Dropping this cancels the request.
    ///
    /// # Errors
    /// How it failed.
    pub async fn ask(&self, request: Message) -> Result<Message, Failure> {
        let answer = match &self.kind {
            Way::Backend(backend) => {
                let mut exchange = backend.request(request, Asker::Edge).await;
                loop {
                    match exchange.next().await {
                        Some(Event::Answer(answer)) => break Some(answer),
                        Some(Event::Message(_)) => {}
                        None => break None,
                    }
                }
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
            Kind::Error | Kind::Request | Kind::Notification => {
                Err(Failure::Rpc(error_code(answer.body())))
            }
        }
    }
}

impl Connection {
    /// Asks for what goes on until it is dropped, and counts what is said meanwhile.
    ///
    /// # Errors
    /// How it ended before.
    pub async fn listen(&self, request: Message, heard: &Arc<AtomicU64>) -> Result<(), Failure> {
        match &self.kind {
            Way::Backend(backend) => {
                let mut exchange = backend.request(request, Asker::Edge).await;
                loop {
                    match exchange.next().await {
                        Some(Event::Message(_)) => _ = heard.fetch_add(1, Ordering::Relaxed),
                        Some(Event::Answer(answer)) if answer.kind() == Kind::Result => {
                            return Ok(());
                        }
                        Some(Event::Answer(answer)) => {
                            return Err(Failure::Rpc(error_code(answer.body())));
                        }
                        None => return Err(Failure::Lost),
                    }
                }
            }
            Way::Tier { connector, .. } => {
                let (told, mut said) = mpsc::channel(1_024);
                let counting = async {
                    while said.recv().await.is_some() {
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                };
                let (answer, ()) = tokio::join!(
                    async {
                        // Dropped with the answer, which ends the counting.
                        let talk = Talk { to_agent: told, questions: None };
                        connector.answer_modern(&request, &talk).await
                    },
                    counting
                );
                match answer.kind() {
                    Kind::Result => Ok(()),
                    _ => Err(Failure::Rpc(error_code(answer.body()))),
                }
            }
        }
    }
}

/// Whether a result says `isError: true`. Nothing is parsed that does not have these letters.
fn is_tool_error(result: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Outcome {
        #[serde(default, rename = "isError")]
        is_error: bool,
    }
    result.contains("isError")
        && serde_json::from_str::<Outcome>(result).is_ok_and(|outcome| outcome.is_error)
}

fn error_code(error: &str) -> i64 {
    #[derive(serde::Deserialize)]
    struct Error {
        code: i64,
    }
    serde_json::from_str::<Error>(error).map_or(0, |error| error.code)
}

//! What is loaded, by whichever way: one connection is one agent's.

mod aip;
mod connection;

use std::time::Duration;

use aip_engine::io::Target as RelayTarget;
use aip_gateway::{
    backend::{Backend, News, http, stdio},
    connect::{self, Connector},
    name::ServerName,
};
use tokio::sync::{broadcast, mpsc};

pub use self::connection::{Connection, Failure};
use self::{aip::Tier, connection::Way};

/// Notifications that may wait for the slowest of a connection's listeners; it misses the oldest.
const NEWS_MAX: usize = 4_096;

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
        /// The endpoints, which agents use in turn.
        urls: Vec<String>,
    },
    /// Relays of the tier.
    Aip {
        /// The relays, which agents use in turn.
        relays: Vec<RelayTarget>,
        /// The server's name there.
        server: ServerName,
    },
}

impl Target {
    /// In words, for reports.
    pub fn title(&self) -> String {
        match self {
            Self::Stdio { command } => format!("stdio: {}", command.join(" ")),
            Self::Http { .. } => self.places().join(", "),
            Self::Aip { server, .. } => format!("{} server {server}", self.places().join(", ")),
        }
    }

    /// The relays or endpoints that agents use in turn; one at least.
    pub fn places(&self) -> Vec<String> {
        match self {
            Self::Stdio { .. } => vec!["stdio".to_owned()],
            Self::Http { urls } => urls.clone(),
            Self::Aip { relays, .. } => relays.iter().map(|relay| relay.url.to_string()).collect(),
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

impl Opener {
    /// An opener; a relay is not asked before the first connection.
    ///
    /// # Errors
    /// If no thread or socket can be had, or the relay has no address.
    pub fn new(target: Target, legacy: Option<bool>, patience: Duration) -> Result<Self, String> {
        let tier = match &target {
            Target::Aip { relays, .. } => Some(Tier::new(relays)?),
            Target::Stdio { .. } | Target::Http { .. } => None,
        };
        Ok(Self { target, legacy, patience, tier })
    }

    /// The target.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Opens an agent's connection, at the relay or endpoint whose turn it is by the agent's number,
    /// and waits until it can be asked something.
    ///
    /// # Errors
    /// Why it cannot, in words.
    pub async fn open(&self, agent: usize) -> Result<Connection, String> {
        match &self.target {
            Target::Stdio { command } => {
                let mut options = stdio::Options::new(command.clone());
                options.legacy = self.legacy;
                options.start_timeout = self.patience;
                let (backend, news) = stdio::Stdio::start(options);
                self.ready(Backend::Stdio(backend), news).await
            }
            Target::Http { urls } => {
                let url = urls.get(agent % urls.len().max(1)).ok_or("there is no URL")?;
                let mut options = http::Options::new(url.clone());
                options.legacy = self.legacy;
                options.start_timeout = self.patience;
                let (backend, news) = http::Http::start(options)?;
                self.ready(Backend::Http(backend), news).await
            }
            Target::Aip { server, .. } => self.open_tier(server, agent).await,
        }
    }

    /// Waits until a backend says that it is up; from then on its notifications go to whoever
    /// listens.
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
        let (told, _) = broadcast::channel(NEWS_MAX);
        let tell = told.clone();
        tokio::spawn(async move {
            while let Some(news) = news.recv().await {
                if let News::Message(message) = news {
                    // Nobody need listen.
                    _ = tell.send(message);
                }
            }
        });
        let modern = description.revision.is_modern();
        Ok(Connection::new(Way::Backend { backend, news: told }, modern))
    }

    async fn open_tier(&self, server: &ServerName, agent: usize) -> Result<Connection, String> {
        let Some(tier) = &self.tier else { return Err("there is no relay".to_owned()) };
        let (link, index) = tier.open(agent)?;
        let mut options = connect::Options::new(server.clone());
        options.wait = self.patience;
        match Connector::start(link, options).await {
            Ok(connector) => {
                // What a server says before its answer is heard and dropped.
                let (told, mut heard) = mpsc::channel(1_024);
                tokio::spawn(async move { while heard.recv().await.is_some() {} });
                Ok(Connection::new(Way::Tier { connector, index, told }, true))
            }
            Err(error) => {
                tier.close(index);
                Err(error.to_string())
            }
        }
    }

    /// Ends a connection.
    pub async fn close(&self, connection: &Connection) {
        match connection.way() {
            Way::Backend { backend, .. } => backend.shutdown().await,
            Way::Tier { index, .. } => {
                if let Some(tier) = &self.tier {
                    tier.close(*index);
                }
            }
        }
    }
}

//! An MCP server that is reached by Streamable HTTP, with sessions or without.

mod exchange;
mod post;
mod sse;
mod supervisor;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::AbortHandle,
};

use super::{Asker, Event, Exchange, Interest, News, tell};
use crate::{
    description::Description,
    message::{Limits, Message, code},
    parameters::Parameters,
};

/// How a server is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its endpoint.
    pub url: String,
    /// Limits of its messages; a result is one.
    pub limits: Limits,
    /// Whether to ask for a session without asking for `server/discover` first; `None`: ask.
    pub legacy: Option<bool>,
    /// How long a connection may take to come about. 5 s.
    pub connect_timeout: Duration,
    /// How long the server may take to say what it is. 10 s.
    pub start_timeout: Duration,
    /// How long a request waits for a server that is away. 5 s.
    pub patience: Duration,
    /// Headers of every request, such as the edge's own credentials. Nothing that an agent says
    /// becomes one.
    pub headers: Vec<(String, String)>,
}

impl Options {
    /// The defaults, with this endpoint.
    pub fn new(url: String) -> Self {
        Self {
            url,
            limits: Limits::default(),
            legacy: None,
            connect_timeout: Duration::from_secs(5),
            start_timeout: Duration::from_secs(10),
            patience: Duration::from_secs(5),
            headers: Vec::new(),
        }
    }
}

/// A server behind a URL. Clones are the same.
#[derive(Clone, Debug)]
pub struct Http {
    shared: Arc<Shared>,
    cancels: mpsc::UnboundedSender<u64>,
    tasks: Arc<[AbortHandle]>,
}

#[derive(Debug)]
struct Shared {
    client: reqwest::Client,
    options: Options,
    /// What is spoken with it; `None` while it is away.
    state: watch::Sender<Option<State>>,
    /// Somebody found the server or the session gone.
    lost: Notify,
    news: mpsc::Sender<News>,
    last: AtomicU64,
    under_way: Mutex<BTreeMap<u64, UnderWay>>,
    /// What is known of tools' headers; `None` until asked for.
    parameters: Mutex<Option<Parameters>>,
}

/// What is spoken with the server.
#[derive(Clone, Debug, Eq, PartialEq)]
struct State {
    description: Description,
    /// The session's name, if it has one.
    session: Option<String>,
}

#[derive(Debug)]
struct UnderWay {
    asker: Asker,
    events: mpsc::Sender<Event>,
    task: Option<AbortHandle>,
}

/// The edge's own headers; none is ever logged.
fn own_headers(headers: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut own = HeaderMap::new();
    for (name, value) in headers {
        let parsed = name.parse::<HeaderName>().ok().zip(HeaderValue::from_str(value).ok());
        let Some((name, mut value)) = parsed else {
            return Err(format!("`{}` or its value cannot be a header", name.escape_debug()));
        };
        value.set_sensitive(true);
        own.insert(name, value);
    }
    Ok(own)
}

impl Http {
    /// Begins to talk with the server, and again whenever it was away. Must be called within a
    /// runtime.
    ///
    /// # Errors
    /// If the URL is none.
    pub fn start(options: Options) -> Result<(Self, mpsc::Receiver<News>), String> {
        let is_url = options.url.starts_with("http://") || options.url.starts_with("https://");
        if !is_url || options.url.parse::<axum::http::Uri>().is_err() {
            return Err(format!("`{}` is no http:// or https:// URL", options.url));
        }
        let client = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(own_headers(&options.headers)?)
            .build()
            .map_err(|error| error.to_string())?;
        let (news, receiver) = mpsc::channel(super::NEWS_MAX);
        let (cancels, cancelled) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            client,
            options,
            state: watch::Sender::new(None),
            lost: Notify::new(),
            news,
            // Numbers 1 and 2 are the handshake's.
            last: AtomicU64::new(2),
            under_way: Mutex::default(),
            parameters: Mutex::default(),
        });
        let supervising = tokio::spawn(supervisor::run(Arc::clone(&shared)));
        let cancelling = tokio::spawn(exchange::cancel(Arc::clone(&shared), cancelled));
        let tasks = [supervising.abort_handle(), cancelling.abort_handle()].into();
        Ok((Self { shared, cancels, tasks }, receiver))
    }

    pub(super) async fn request(&self, request: Message, asker: Asker) -> Exchange {
        let (events, received) = mpsc::channel(super::EVENTS_MAX);
        let number = self.shared.last.fetch_add(1, Ordering::Relaxed) + 1;
        let under_way = UnderWay { asker, events: events.clone(), task: None };
        self.shared.under_way().insert(number, under_way);
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            let answer = exchange::run(&shared, &request, number, &events).await;
            // First: an exchange that is dropped after its answer cancels nothing.
            shared.under_way().remove(&number);
            // Who asked may have gone.
            _ = tell(&events, Event::Answer(answer));
        });
        if let Some(under_way) = self.shared.under_way().get_mut(&number) {
            under_way.task = Some(task.abort_handle());
        }
        let interest = Interest { ticket: number, cancels: self.cancels.clone() };
        Exchange::new(received, interest)
    }

    pub(super) async fn send(&self, message: Message) {
        let Some(state) = self.shared.state.borrow().clone() else { return };
        // Servers without sessions take neither notifications nor answers.
        if state.description.revision.is_modern() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            if let Err(error) = post::post(&shared, &state, &message, &[]).await {
                tracing::debug!(%error, "a notification or an answer did not reach the MCP server");
            }
        });
    }

    pub(super) async fn shutdown(&self) {
        for task in self.tasks.iter() {
            task.abort();
        }
        for (_, under_way) in std::mem::take(&mut *self.shared.under_way()) {
            if let Some(task) = under_way.task {
                task.abort();
            }
        }
        let state = self.shared.state.send_replace(None);
        if let Some(state) = state {
            post::end_session(&self.shared, &state).await;
        }
    }
}

impl Shared {
    fn under_way(&self) -> MutexGuard<'_, BTreeMap<u64, UnderWay>> {
        // What a thread that panicked left behind is whole: nothing panics between two changes.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parameters(&self) -> MutexGuard<'_, Option<Parameters>> {
        self.parameters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is spoken with the server, once it is there.
    async fn state(&self) -> Option<State> {
        let mut state = self.state.subscribe();
        let there = state.wait_for(Option::is_some);
        let there = tokio::time::timeout(self.options.patience, there).await.ok()?.ok()?;
        there.clone()
    }

    /// The server, or its session, is not what it was: found out anew.
    fn is_lost(&self, state: &State) {
        let changed = self.state.send_if_modified(|current| {
            let same = current.as_ref() == Some(state);
            if same {
                *current = None;
            }
            same
        });
        if changed {
            self.lost.notify_one();
        }
    }

    /// The events of the only request of an agent that is under way, if there is only one.
    fn only_agent(&self) -> Option<mpsc::Sender<Event>> {
        let under_way = self.under_way();
        let mut agents = under_way.values().filter(|under_way| under_way.asker == Asker::Agent);
        let only = agents.next()?.events.clone();
        agents.next().is_none().then_some(only)
    }
}

fn away(request: &Message, reason: &str) -> Message {
    Message::error(request.id(), code::INTERNAL_ERROR, reason, "")
}

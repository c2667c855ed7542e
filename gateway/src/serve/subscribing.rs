//! What the backend was asked to tell of.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::Instant,
};

use super::publisher::Wish;
use crate::{
    backend::{Asker, Backend, Event, own_meta},
    description::Description,
    message::{Id, Kind, Message},
    read::Read,
};

/// How long a backend may take to accept a subscription before what it is for is read anyway.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before a subscription that has ended is asked for again: at first, and at most,
/// if it goes on ending sooner than that.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The first that a listen says.
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// What a subscription is for.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// Lists of tools, prompts and resources.
    Lists,
    /// A resource.
    Resource(String),
}

impl Subject {
    /// Whether its changes are changes of what is read this way.
    pub(super) fn covers(&self, read: &Read) -> bool {
        match (self, read) {
            (Self::Resource(uri), Read::Resource { uri: of }) => uri == of,
            (Self::Resource(_), _) | (Self::Lists, Read::Resource { .. }) => false,
            (Self::Lists, _) => true,
        }
    }
}

/// Subscriptions at the backend, one for each resource, and one for all lists.
#[derive(Debug)]
pub(super) struct Subscribing {
    backend: Backend,
    wishes: mpsc::Sender<Wish>,
    /// Asks for them in order, so that the end of one cannot overtake its beginning.
    resources: BTreeMap<String, Held>,
    lists: Option<Held>,
    modern: bool,
}

#[derive(Debug)]
struct Held {
    /// Whether the backend has accepted it, and it has not ended.
    accepted: Arc<AtomicBool>,
    /// The task that listens, at a backend without sessions.
    listening: Option<AbortHandle>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

impl Subscribing {
    pub(super) const fn new(backend: Backend, wishes: mpsc::Sender<Wish>) -> Self {
        Self { backend, wishes, resources: BTreeMap::new(), lists: None, modern: false }
    }

    /// The backend has started and knows of no subscription. Follows its lists, where that has to
    /// be asked for.
    pub(super) fn restart(&mut self, description: &Description) {
        self.resources.clear();
        self.modern = description.revision.is_modern();
        self.lists = None;
        let notifies = description.notifies;
        if !self.modern || !(notifies.tools || notifies.prompts || notifies.resources) {
            return;
        }
        let filter = format!(
            r#"{{"toolsListChanged":{},"promptsListChanged":{},"resourcesListChanged":{}}}"#,
            notifies.tools, notifies.prompts, notifies.resources
        );
        let (accepted, _) = oneshot::channel();
        self.lists = Some(self.listen(Subject::Lists, filter, accepted));
    }

    /// Asks to be told of a resource's changes. What it gives ends when the backend has accepted
    /// or refused; `None` if it was asked before.
    pub(super) fn begin(&mut self, uri: &str, modern: bool) -> Option<oneshot::Receiver<()>> {
        if self.resources.contains_key(uri) {
            return None;
        }
        let (done, answered) = oneshot::channel();
        let quoted = serde_json::Value::from(uri);
        let held = if modern {
            let filter = format!(r#"{{"resourceSubscriptions":[{quoted}]}}"#);
            self.listen(Subject::Resource(uri.to_owned()), filter, done)
        } else {
            let held = Held { accepted: Arc::default(), listening: None };
            let params = format!(r#"{{"uri":{quoted}}}"#);
            let request = Message::request(Id::from_number(0), "resources/subscribe", &params);
            let (backend, accepted) = (self.backend.clone(), Arc::clone(&held.accepted));
            tokio::spawn(async move {
                let asked = async { backend.request(request, Asker::Edge).await.answer().await };
                let answer = tokio::time::timeout(PATIENCE, asked).await.ok().flatten();
                let ok = answer.is_some_and(|answer| answer.kind() == Kind::Result);
                accepted.store(ok, Ordering::Relaxed);
                // Who waited may have gone.
                _ = done.send(());
            });
            held
        };
        self.resources.insert(uri.to_owned(), held);
        Some(answered)
    }

    /// Whether the backend tells of a resource's changes.
    pub(super) fn holds(&self, uri: &str) -> bool {
        self.resources.get(uri).is_some_and(|held| held.accepted.load(Ordering::Relaxed))
    }

    /// Whether the backend tells of changes of lists, if it tells of any.
    pub(super) fn holds_lists(&self) -> bool {
        self.lists.as_ref().is_none_or(|held| held.accepted.load(Ordering::Relaxed))
    }

    /// Asks not to be told any more.
    pub(super) fn end(&mut self, uri: &str) {
        let Some(held) = self.resources.remove(uri) else { return };
        if self.modern || !held.accepted.load(Ordering::Relaxed) {
            return;
        }
        let params = format!(r#"{{"uri":{}}}"#, serde_json::Value::from(uri));
        let request = Message::request(Id::from_number(0), "resources/unsubscribe", &params);
        let backend = self.backend.clone();
        tokio::spawn(async move {
            let asked = async { backend.request(request, Asker::Edge).await.answer().await };
            // A backend that refuses goes on telling what nobody asks for; that does no harm.
            _ = tokio::time::timeout(PATIENCE, asked).await;
        });
    }

    /// Keeps a `subscriptions/listen` open. `answered` is told when it is acknowledged or refused.
    fn listen(&self, subject: Subject, filter: String, answered: oneshot::Sender<()>) -> Held {
        // Held to be accepted until it ends: one that is refused does so at once.
        let accepted = Arc::new(AtomicBool::new(true));
        let listen = Listen {
            backend: self.backend.clone(),
            wishes: self.wishes.clone(),
            subject,
            filter,
            accepted: Arc::clone(&accepted),
        };
        let listening = tokio::spawn(listen.keep(answered)).abort_handle();
        Held { accepted, listening: Some(listening) }
    }
}

/// A `subscriptions/listen` that is asked for again whenever it has ended: by the backend, or by
/// whatever stands before it and closes what is quiet.
struct Listen {
    backend: Backend,
    wishes: mpsc::Sender<Wish>,
    subject: Subject,
    filter: String,
    accepted: Arc<AtomicBool>,
}

impl Listen {
    /// For ever, or until the publisher has ended.
    async fn keep(self, answered: oneshot::Sender<()>) {
        let (mut answered, mut pause) = (Some(answered), PAUSE_MIN);
        loop {
            let began = Instant::now();
            if self.once(&mut answered).await.is_none() {
                return;
            }
            // Refused: who waited for it need not any more.
            answered = None;
            if PAUSE_MAX <= began.elapsed() {
                pause = PAUSE_MIN;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Until it ends. `None` if the publisher has.
    async fn once(&self, answered: &mut Option<oneshot::Sender<()>>) -> Option<()> {
        let params = format!(r#"{{"_meta":{},"notifications":{}}}"#, own_meta(), self.filter);
        let request = Message::request(Id::from_number(0), "subscriptions/listen", &params);
        let mut exchange = self.backend.request(request, Asker::Edge).await;
        while let Some(event) = exchange.next().await {
            match event {
                Event::Message(message) => {
                    if let Some(answered) = answered.take() {
                        // Who waited may have gone.
                        _ = answered.send(());
                    }
                    self.is_accepted(true).await?;
                    if message.method() != ACKNOWLEDGED {
                        self.wishes.send(Wish::Notified(message)).await.ok()?;
                    }
                }
                Event::Answer(answer) => {
                    tracing::debug!(answer = answer.body(), "a subscription has ended");
                }
            }
        }
        self.is_accepted(false).await
    }

    /// Nobody has told of changes since it ended, nor does until it is accepted again.
    async fn is_accepted(&self, accepted: bool) -> Option<()> {
        if self.accepted.swap(accepted, Ordering::Relaxed) == accepted {
            return Some(());
        }
        self.wishes.send(Wish::Unheard(self.subject.clone())).await.ok()
    }
}

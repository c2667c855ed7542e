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
};

use super::publisher::Wish;
use crate::{
    backend::{Asker, Backend, Event, own_meta},
    description::Description,
    message::{Id, Kind, Message},
};

/// How long a backend may take to accept a subscription before what it is for is read anyway.
const PATIENCE: Duration = Duration::from_secs(5);

/// Subscriptions at the backend, one for each resource, and one for all lists.
#[derive(Debug)]
pub(super) struct Subscribing {
    backend: Backend,
    wishes: mpsc::Sender<Wish>,
    /// Asks for them in order, so that the end of one cannot overtake its beginning.
    resources: BTreeMap<String, Held>,
    lists: Option<AbortHandle>,
    modern: bool,
}

#[derive(Debug)]
struct Held {
    /// Whether the backend has accepted it.
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

impl Drop for Subscribing {
    fn drop(&mut self) {
        if let Some(lists) = &self.lists {
            lists.abort();
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
        if let Some(lists) = self.lists.take() {
            lists.abort();
        }
        let notifies = description.notifies;
        if !self.modern || !(notifies.tools || notifies.prompts || notifies.resources) {
            return;
        }
        let filter = format!(
            r#"{{"toolsListChanged":{},"promptsListChanged":{},"resourcesListChanged":{}}}"#,
            notifies.tools, notifies.prompts, notifies.resources
        );
        let (accepted, _) = oneshot::channel();
        self.lists = Some(self.listen(&filter, accepted));
    }

    /// Asks to be told of a resource's changes. What it gives ends when the backend has accepted
    /// or refused; `None` if it was asked before.
    pub(super) fn begin(&mut self, uri: &str, modern: bool) -> Option<oneshot::Receiver<()>> {
        if self.resources.contains_key(uri) {
            return None;
        }
        let (done, answered) = oneshot::channel();
        let accepted = Arc::new(AtomicBool::new(false));
        let quoted = serde_json::Value::from(uri);
        let listening = if modern {
            // Held to be true until the first change: a listen that is refused ends at once.
            accepted.store(true, Ordering::Relaxed);
            Some(self.listen(&format!(r#"{{"resourceSubscriptions":[{quoted}]}}"#), done))
        } else {
            let params = format!(r#"{{"uri":{quoted}}}"#);
            let request = Message::request(Id::from_number(0), "resources/subscribe", &params);
            let (backend, accepted) = (self.backend.clone(), Arc::clone(&accepted));
            tokio::spawn(async move {
                let asked = async { backend.request(request, Asker::Edge).await.answer().await };
                let answer = tokio::time::timeout(PATIENCE, asked).await.ok().flatten();
                let ok = answer.is_some_and(|answer| answer.kind() == Kind::Result);
                accepted.store(ok, Ordering::Relaxed);
                // Who waited may have gone.
                _ = done.send(());
            });
            None
        };
        self.resources.insert(uri.to_owned(), Held { accepted, listening });
        Some(answered)
    }

    /// Whether the backend tells of a resource's changes.
    pub(super) fn holds(&self, uri: &str) -> bool {
        self.resources.get(uri).is_some_and(|held| held.accepted.load(Ordering::Relaxed))
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

    /// Keeps a `subscriptions/listen` open. `accepted` is told when it is acknowledged or refused.
    fn listen(&self, filter: &str, accepted: oneshot::Sender<()>) -> AbortHandle {
        let params = format!(r#"{{"_meta":{},"notifications":{filter}}}"#, own_meta());
        let request = Message::request(Id::from_number(0), "subscriptions/listen", &params);
        let (backend, wishes) = (self.backend.clone(), self.wishes.clone());
        let listening = tokio::spawn(async move {
            let mut accepted = Some(accepted);
            let mut exchange = backend.request(request, Asker::Edge).await;
            while let Some(event) = exchange.next().await {
                match event {
                    Event::Message(message) => {
                        if let Some(accepted) = accepted.take() {
                            // Who waited may have gone.
                            _ = accepted.send(());
                        }
                        if wishes.send(Wish::Notified(message)).await.is_err() {
                            return;
                        }
                    }
                    Event::Answer(answer) => {
                        tracing::debug!(answer = answer.body(), "a subscription has ended");
                    }
                }
            }
        });
        listening.abort_handle()
    }
}

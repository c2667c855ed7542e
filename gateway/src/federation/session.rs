//! One agent with a session at several servers: at each of them it has a session of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use tokio::{sync::mpsc, task::JoinSet};

use super::{Asking, Federation, lists_changed, merge, rewrite};
use crate::{
    connect::{
        Connector, Questions, Talk,
        session::{self as single, is_modern},
    },
    message::{Id, Kind, Message, code, string_member},
    revision::Revision,
};

/// What one server may say of its own accord that waits to be passed on.
const HEARD_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Session {
    federation: Arc<Federation>,
    /// What belongs to no request.
    unsolicited: mpsc::Sender<Message>,
    /// Of all servers: each question has an id of its own.
    questions: Arc<Questions>,
    /// The session at each server, once it has begun.
    at: Vec<tokio::sync::Mutex<Option<Arc<single::Session>>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The agent's `initialize`, and the revision that was agreed on.
    begun: Option<(Message, Revision)>,
    /// Tasks that live as long as the session.
    tasks: JoinSet<()>,
}

impl Session {
    /// A session before `initialize`. What belongs to no request goes to `unsolicited`, and what the
    /// servers ask stands in `questions`.
    pub(crate) fn new(
        federation: Arc<Federation>,
        unsolicited: mpsc::Sender<Message>,
        questions: Arc<Questions>,
    ) -> Arc<Self> {
        let at = federation.members.iter().map(|_| tokio::sync::Mutex::default()).collect();
        Arc::new(Self { federation, unsolicited, questions, at, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a thread that panicked left behind is whole: nothing panics between two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision that was agreed on; `None` before `initialize`.
    pub fn revision(&self) -> Option<Revision> {
        self.state().begun.as_ref().map(|(_, revision)| *revision)
    }

    /// The agent sends a notification that belongs to no request.
    pub fn handle_notification(&self, message: &Message) {
        for at in &self.at {
            // One that is just being begun has heard nothing yet that this could belong to.
            if let Ok(at) = at.try_lock()
                && let Some(session) = at.as_ref()
            {
                session.handle_notification(message.clone());
            }
        }
    }

    /// The answer to a request. What belongs to it before that goes to `to_agent`.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        request: &Message,
        to_agent: mpsc::Sender<Message>,
    ) -> Message {
        let Some(id) = request.id() else {
            return Message::error(None, code::INVALID_REQUEST, "a request is wanted", "");
        };
        match request.method() {
            "initialize" => self.initialize(request, id).await,
            _ if is_modern(request) => {
                let talk = Talk { to_agent, questions: None };
                self.federation.answer_modern(request, &talk).await
            }
            "ping" => Message::result(id, b"{}"),
            _ if self.revision().is_none() => {
                let reason = "send `initialize` first";
                Message::error(Some(id), code::INVALID_REQUEST, reason, "")
            }
            _ => self.federation.answer(&Asking::Session(self, &to_agent), request).await,
        }
    }

    async fn initialize(self: &Arc<Self>, request: &Message, id: &Id) -> Message {
        let wanted = string_member(request.body(), "protocolVersion").unwrap_or_default();
        let revision = Revision::negotiated(&wanted);
        {
            let mut state = self.state();
            if state.begun.is_some() {
                let reason = "this session was initialized before";
                return Message::error(Some(id), code::INVALID_REQUEST, reason, "");
            }
            state.begun = Some((request.clone(), revision));
        }
        self.begin_all().await;
        let session = Arc::downgrade(self);
        let mut changes = self.federation.changes.clone();
        self.state().tasks.spawn(async move {
            while changes.changed().await.is_ok() {
                let Some(session) = session.upgrade() else { return };
                session.begin_all().await;
                lists_changed(None).into_iter().for_each(|message| session.tell(message));
            }
        });
        let result = merge::initialize_result(&self.federation.descriptions(), revision);
        Message::result(id, result.as_bytes())
    }

    /// Begins a session at every server that is there.
    async fn begin_all(&self) {
        let beginning = self.federation.members.iter().enumerate().map(|(index, member)| async move {
            let Ok(connector) = member.connector() else { return };
            if let Err(reason) = self.session_at(index, &connector).await {
                tracing::warn!(prefix = %member.prefix, "no session with this server: {reason}");
            }
        });
        join_all(beginning).await;
    }

    /// The session at a server, begun if need be.
    async fn session_at(
        &self,
        index: usize,
        connector: &Arc<Connector>,
    ) -> Result<Arc<single::Session>, String> {
        let mut at = self.at[index].lock().await;
        if let Some(session) = at.as_ref() {
            return Ok(Arc::clone(session));
        }
        let begun = self.state().begun.clone();
        let (initialize, _) = begun.ok_or_else(|| "send `initialize` first".to_owned())?;
        let (sender, mut heard) = mpsc::channel(HEARD_MAX);
        let questions = Arc::clone(&self.questions);
        let session = single::Session::new(Arc::clone(connector), sender, questions);
        let (to_agent, _unheard) = mpsc::channel(1);
        let answer = session.answer(&initialize, to_agent).await;
        if answer.kind() != Kind::Result {
            return Err(answer.body().to_owned());
        }
        let (prefix, unsolicited) =
            (self.federation.members[index].prefix.clone(), self.unsolicited.clone());
        self.state().tasks.spawn(async move {
            while let Some(message) = heard.recv().await {
                tell(&unsolicited, rewrite::notification(message, &prefix));
            }
        });
        *at = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Asks one server in the agent's session there.
    pub(super) async fn ask(
        &self,
        index: usize,
        connector: &Arc<Connector>,
        request: &Message,
        to_agent: mpsc::Sender<Message>,
    ) -> Message {
        let session = match self.session_at(index, connector).await {
            Ok(session) => session,
            Err(reason) => {
                return super::unavailable(
                    request,
                    &self.federation.members[index].prefix,
                    &reason,
                );
            }
        };
        session.answer(request, to_agent).await
    }

    fn tell(&self, message: Message) {
        tell(&self.unsolicited, message);
    }
}

/// Tells the agent something that belongs to no request. One that does not listen misses it.
fn tell(unsolicited: &mpsc::Sender<Message>, message: Message) {
    if unsolicited.try_send(message).is_err() {
        tracing::debug!("an agent does not listen: a notification was dropped");
    }
}

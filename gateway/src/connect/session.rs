//! One agent with a session, as MCP has them up to 2025-11-25.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use aip_codec::moqt::id::GroupId;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
};

use super::{
    Client, Connector, Talk,
    follow::{Followed, follow},
    listen::notification,
    questions::Questions,
    standing::{self, Said, Standing},
};
use crate::{
    bridge::{self, PROTOCOL_VERSION},
    level,
    link::Connection,
    message::{Message, code, meta, object_members, string_member},
    random::unguessable,
    read::Read,
    revision::Revision,
    serve::can_be_asked,
};

/// What an agent may say in its session that waits to be passed on.
const SAID_MAX: usize = 64;
/// Resources that one session may follow.
const FOLLOWED_MAX: usize = 1_000;

/// Whether a request stands by itself, without a session.
pub fn is_modern(request: &Message) -> bool {
    request.method() == "server/discover" || meta(request.body(), PROTOCOL_VERSION).is_some()
}

/// Whether a client wants a log message of this level.
pub(super) fn wants_log(client: &Client, level: &Option<String>) -> bool {
    let wanted = client.log_level.as_deref();
    let wanted = wanted.and_then(|raw| serde_json::from_str::<String>(raw).ok());
    wanted.is_none_or(|wanted| level::passes(&wanted, level.as_deref()))
}

/// One agent's session.
#[derive(Debug)]
pub struct Session {
    connector: Arc<Connector>,
    /// What belongs to no request.
    unsolicited: mpsc::Sender<Message>,
    questions: Arc<Questions>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    client: Option<Client>,
    /// Tasks that live as long as the session.
    tasks: JoinSet<()>,
    said: Option<mpsc::Sender<Said>>,
    /// Resources that are followed by tracks.
    followed: HashMap<String, AbortHandle>,
    /// The newest version of each list that the agent was given.
    seen: BTreeMap<Read, GroupId>,
    /// Lists whose changes tracks tell.
    told_by_tracks: Vec<Read>,
}

impl Session {
    /// A session before `initialize`. What belongs to no request goes to `unsolicited`, and what the
    /// server asks stands in `questions`.
    pub(crate) fn new(
        connector: Arc<Connector>,
        unsolicited: mpsc::Sender<Message>,
        questions: Arc<Questions>,
    ) -> Arc<Self> {
        Arc::new(Self { connector, unsolicited, questions, state: Mutex::default() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // What a thread that panicked left behind is whole: nothing panics between two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision that was agreed on; `None` before `initialize`.
    pub fn revision(&self) -> Option<Revision> {
        self.state().client.as_ref().map(|client| client.revision)
    }

    /// The server.
    pub const fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// The agent sends a notification that belongs to no request.
    pub fn handle_notification(&self, message: Message) {
        if message.method() == "notifications/initialized" {
            return;
        }
        let said = self.state().said.clone();
        if said.is_some_and(|said| said.try_send(Said::Notification(message)).is_err()) {
            tracing::debug!("a notification of the agent was dropped: too many wait");
        }
    }

    /// The answer to a request. What belongs to it before that goes to `to_agent`.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        request: &Message,
        to_agent: mpsc::Sender<Message>,
    ) -> Message {
        let id = request.id();
        if request.method() == "initialize" {
            return self.initialize(request).await;
        }
        if is_modern(request) {
            let talk = Talk { to_agent, questions: None };
            return self.connector.answer_modern(request, &talk).await;
        }
        let client = self.state().client.clone();
        let Some(client) = client else {
            if let ("ping", Some(id)) = (request.method(), id) {
                return Message::result(id, b"{}");
            }
            let reason = "send `initialize` first";
            return Message::error(id, code::INVALID_REQUEST, reason, "");
        };
        match request.method() {
            "resources/subscribe" | "resources/unsubscribe" => self.follow(request).await,
            "logging/setLevel" => self.set_level(&client, request, to_agent).await,
            _ => {
                let questions = Some(Arc::clone(&self.questions));
                let talk = Talk { to_agent, questions };
                let mut seen = |read: &Read, group| {
                    if !matches!(read, Read::Resource { .. } | Read::Prompt { .. }) {
                        self.state().seen.insert(read.clone(), group);
                    }
                };
                self.connector.answer(&client, request, &talk, &mut seen).await
            }
        }
    }

    async fn initialize(self: &Arc<Self>, request: &Message) -> Message {
        let members = object_members(request.body()).unwrap_or_default();
        let value = |name: &str| members.iter().find(|member| member.name == name);
        let wanted = string_member(request.body(), "protocolVersion").unwrap_or_default();
        let client = Client {
            revision: Revision::negotiated(&wanted),
            capabilities: value("capabilities").map_or("{}", |member| member.value).to_owned(),
            info: value("clientInfo").map(|member| member.value.to_owned()),
            log_level: None,
            process: None,
        };
        let Some(id) = request.id() else {
            return Message::error(None, code::INVALID_REQUEST, "a request is wanted", "");
        };
        let description = self.connector.description();
        if description.revision.is_modern() && !self.connector.options.bridges {
            let reason = "the MCP server has no sessions: send `server/discover`";
            return Message::error(Some(id), code::METHOD_NOT_FOUND, reason, "");
        }
        let result = bridge::initialize_result(&description, client.revision);
        {
            let mut state = self.state();
            if state.client.is_some() {
                let reason = "this session was initialized before";
                return Message::error(Some(id), code::INVALID_REQUEST, reason, "");
            }
            state.client = Some(client.clone());
        }
        let mut own = self.begin(&client);
        let calls = matches!(
            *self.connector.link.connection().borrow(),
            Connection::Up { calls: true, .. }
        );
        if calls && can_be_asked(&client.capabilities) && !description.revision.is_modern() {
            // What follows goes to the agent's own process, if there is one.
            let said = own.wait_for(Option::is_some);
            // An edge that does not say is one where all share.
            _ = tokio::time::timeout(self.connector.options.read_timeout, said).await;
        }
        Message::result(id, result.as_bytes())
    }

    /// Begins what goes on beside requests: lists are followed, and the server is heard. It begins
    /// before the agent can ask for anything, so that no change escapes it.
    fn begin(self: &Arc<Self>, client: &Client) -> watch::Receiver<Option<bool>> {
        let notifies = self.connector.description().notifies;
        let lists = [
            (notifies.tools, Read::Tools),
            (notifies.prompts, Read::Prompts),
            (notifies.resources, Read::Resources),
        ];
        let (said, words) = mpsc::channel(SAID_MAX);
        let (heard, mut messages) = mpsc::channel(SAID_MAX);
        let mut state = self.state();
        state.said = Some(said);
        let (name, own) = (unguessable().unwrap_or_default(), watch::Sender::new(None));
        let process = own.subscribe();
        let standing = Standing {
            connector: Arc::clone(&self.connector),
            params: session_params(&name, client),
            heard,
            questions: Arc::clone(&self.questions),
            own,
        };
        state.tasks.spawn(standing::run(standing, words));
        let session = Arc::downgrade(self);
        let mut changes = process.clone();
        state.tasks.spawn(async move {
            while let Ok(own) = changes.wait_for(Option::is_some).await.map(|own| *own) {
                let Some(session) = session.upgrade() else { return };
                session.has_process(own == Some(true), &name);
                drop(session);
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
        let session = Arc::downgrade(self);
        state.tasks.spawn(async move {
            while let Some(message) = messages.recv().await {
                let Some(session) = session.upgrade() else { return };
                session.hear(message);
            }
        });
        for (_, read) in lists.into_iter().filter(|(notified, _)| *notified) {
            let session = Arc::downgrade(self);
            let connector = Arc::clone(&self.connector);
            state.tasks.spawn(async move {
                let Ok(track) = connector.options.server.track(&read.track_name()) else { return };
                let mut follower = follow(connector.link.clone(), track);
                while let Some(followed) = follower.changes.recv().await {
                    let Some(session) = session.upgrade() else { return };
                    session.handle_followed(&read, &followed);
                }
            });
        }
        process
    }

    /// The agent has a process of the server for itself, or shares one.
    fn has_process(&self, own: bool, name: &str) {
        let namespace = own.then(|| self.connector.options.server.session(name).ok()).flatten();
        if let Some(client) = self.state().client.as_mut() {
            client.process = namespace;
        }
        if own {
            self.state().told_by_tracks.clear();
        }
    }

    /// A list that is followed has changed, or cannot be followed.
    fn handle_followed(&self, read: &Read, followed: &Followed) {
        let tell = {
            let mut state = self.state();
            if state.client.as_ref().is_some_and(|client| client.process.is_some()) {
                // Its own process tells it.
                state.told_by_tracks.clear();
                return;
            }
            state.told_by_tracks.retain(|told| told != read);
            match followed {
                Followed::Refused(_) => false,
                Followed::Current(group) | Followed::Changed(group) => {
                    state.told_by_tracks.push(read.clone());
                    match state.seen.get(read) {
                        Some(seen) => seen < group,
                        None => matches!(followed, Followed::Changed(_)),
                    }
                }
            }
        };
        if tell {
            self.tell(notification(read, None));
        }
    }

    /// Tells the agent something that belongs to no request. One that does not listen misses it:
    /// nobody waits for it.
    fn tell(&self, message: Message) {
        if self.unsolicited.try_send(message).is_err() {
            tracing::debug!("an agent does not listen: a notification was dropped");
        }
    }

    /// The server says something that belongs to no request.
    fn hear(&self, message: Message) {
        let wanted = {
            let state = self.state();
            let by_track = |read: &Read| state.told_by_tracks.contains(read);
            match message.method() {
                "notifications/tools/list_changed" => !by_track(&Read::Tools),
                "notifications/prompts/list_changed" => !by_track(&Read::Prompts),
                "notifications/resources/list_changed" => !by_track(&Read::Resources),
                "notifications/message" => state.client.as_ref().is_some_and(|client| {
                    wants_log(client, &string_member(message.body(), "level"))
                }),
                _ => true,
            }
        };
        if wanted {
            self.tell(message);
        }
    }

    /// `resources/subscribe` and its end.
    async fn follow(self: &Arc<Self>, request: &Message) -> Message {
        let Some(id) = request.id() else {
            return Message::error(None, code::INVALID_REQUEST, "a request is wanted", "");
        };
        let Some(uri) = string_member(request.body(), "uri") else {
            return Message::error(Some(id), code::INVALID_PARAMS, "a uri is wanted", "");
        };
        if request.method() == "resources/unsubscribe" {
            if let Some(following) = self.state().followed.remove(&uri) {
                following.abort();
                return Message::result(id, b"{}");
            }
            return self.say(request).await;
        }
        if self.state().client.as_ref().is_some_and(|client| client.process.is_some()) {
            return self.say(request).await;
        }
        {
            let state = self.state();
            if state.followed.contains_key(&uri) {
                return Message::result(id, b"{}");
            }
            if FOLLOWED_MAX <= state.followed.len() {
                let reason = format!("a session may follow {FOLLOWED_MAX} resources");
                return Message::error(Some(id), code::INVALID_REQUEST, &reason, "");
            }
        }
        let read = Read::Resource { uri: uri.clone() };
        let followed = match self.connector.options.server.track(&read.track_name()) {
            Ok(track) if self.connector.description().notifies.updates => {
                let mut follower = follow(self.connector.link.clone(), track);
                match follower.changes.recv().await {
                    Some(Followed::Current(_) | Followed::Changed(_)) => Some(follower),
                    Some(Followed::Refused(_)) | None => None,
                }
            }
            Ok(_) | Err(_) => None,
        };
        let Some(mut follower) = followed else { return self.say(request).await };
        let session = Arc::downgrade(self);
        let mut state = self.state();
        let following = state.tasks.spawn(async move {
            while let Some(followed) = follower.changes.recv().await {
                let Some(session) = session.upgrade() else { return };
                if let Followed::Changed(_) = followed {
                    session.tell(notification(&read, None));
                }
            }
        });
        state.followed.insert(uri, following);
        Message::result(id, b"{}")
    }

    /// Asks the server within the session's own call.
    async fn say(&self, request: &Message) -> Message {
        let (answer, answered) = oneshot::channel();
        let said = self.state().said.clone();
        if let Some(said) = said
            && said.send(Said::Request(request.clone(), answer)).await.is_ok()
            && let Ok(answer) = answered.await
        {
            return answer;
        }
        let reason = "the session with the MCP server was lost; it is being made again: retry";
        Message::error(request.id(), code::INTERNAL_ERROR, reason, "")
    }

    async fn set_level(
        &self,
        client: &Client,
        request: &Message,
        to_agent: mpsc::Sender<Message>,
    ) -> Message {
        let level = object_members(request.body()).and_then(|members| {
            members.iter().find(|member| member.name == "level").map(|m| m.value.to_owned())
        });
        let modern = self.connector.description().revision.is_modern();
        let answer = match (modern, request.id()) {
            // Levels go with each request there.
            (true, Some(id)) => Message::result(id, b"{}"),
            (true, None) | (false, _) => {
                let talk = Talk { to_agent, questions: None };
                self.connector.answer(client, request, &talk, &mut |_, _| {}).await
            }
        };
        if answer.kind() == crate::message::Kind::Result
            && let Some(client) = self.state().client.as_mut()
        {
            client.log_level = level;
        }
        answer
    }
}

/// The params of a session's call.
fn session_params(name: &str, client: &Client) -> String {
    let info = client.info.as_ref().map(|info| format!(r#","clientInfo":{info}"#));
    format!(
        r#"{{"session":"{name}","capabilities":{}{}}}"#,
        client.capabilities,
        info.unwrap_or_default()
    )
}

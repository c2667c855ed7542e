//! Agents that have a server process of their own.
//!
//! A server with sessions asks questions that belong to no request, keeps what one client told it,
//! and shows a client what suits its capabilities. On a process that many agents share, none of that
//! can be told apart: an agent that can be asked gets a process that knows nobody else.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aip_codec::moqt::name::TrackNamespace;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    backend::{Backend, ClientSide, News, stdio},
    message::{Message, object_members, string_member},
    name::SESSION_CALL,
};

/// How long a process goes on for an agent whose session was lost.
const ABSENCE: Duration = Duration::from_secs(10);

/// Which agents share a server's process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Processes {
    /// With a server that has sessions, an agent that can be asked (sampling, elicitation, roots)
    /// has a process of its own; all others share one.
    #[default]
    Auto,
    /// All share one.
    Shared,
    /// Every agent with a session has its own, if the server has sessions.
    Agent,
}

/// How agents' own processes are made.
#[derive(Clone, Debug)]
pub struct OwnProcesses {
    /// The server's command and limits; the client's side of the handshake is each agent's.
    pub stdio: stdio::Options,
    /// Which agents get one.
    pub processes: Processes,
    /// Own processes at one time; agents beyond share. 64.
    pub processes_max: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Agents {
    own: Option<OwnProcesses>,
    agents: Mutex<BTreeMap<String, Agent>>,
}

#[derive(Debug)]
struct Agent {
    backend: Backend,
    /// What the process says by itself; here while no session of the agent's is open.
    news: Option<mpsc::Receiver<News>>,
    /// How often a session was opened.
    turn: u64,
}

/// An agent's process, for one session of the agent's.
#[derive(Debug)]
pub(super) struct Own {
    name: String,
    turn: u64,
    pub(super) backend: Backend,
    pub(super) news: mpsc::Receiver<News>,
}

impl Agents {
    pub(super) const fn new(own: Option<OwnProcesses>) -> Self {
        Self { own, agents: Mutex::new(BTreeMap::new()) }
    }

    fn agents(&self) -> MutexGuard<'_, BTreeMap<String, Agent>> {
        // What a thread that panicked left behind is whole: nothing panics between two changes.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process of the agent that opens a session with `request`; `None` if it shares one.
    /// `modern`: the server has no sessions.
    pub(super) fn open(&self, request: &Message, modern: bool) -> Option<Own> {
        let own = self.own.as_ref().filter(|_| !modern)?;
        let name = string_member(request.body(), "session")?;
        let members = object_members(request.body())?;
        let member = |name: &str| {
            members.iter().find(|member| member.name == name).map(|member| member.value.to_owned())
        };
        let capabilities = member("capabilities").unwrap_or_else(|| "{}".to_owned());
        let wanted = match own.processes {
            Processes::Auto => can_be_asked(&capabilities),
            Processes::Agent => true,
            Processes::Shared => false,
        };
        if !wanted {
            return None;
        }
        let mut agents = self.agents();
        if !agents.contains_key(&name) {
            if own.processes_max <= agents.len() {
                tracing::warn!(
                    processes_max = own.processes_max,
                    "an agent has to share a process"
                );
                return None;
            }
            let mut options = own.stdio.clone();
            options.legacy = Some(true);
            options.client = ClientSide { capabilities, info: member("clientInfo") };
            options.exclusive = true;
            let (backend, news) = stdio::Stdio::start(options);
            let agent = Agent { backend: Backend::Stdio(backend), news: Some(news), turn: 0 };
            agents.insert(name.clone(), agent);
        }
        let agent = agents.get_mut(&name)?;
        let news = agent.news.take()?;
        agent.turn += 1;
        Some(Own { name, turn: agent.turn, backend: agent.backend.clone(), news })
    }

    /// The process of the agent whose session a call's namespace names.
    pub(super) fn of_call(
        &self,
        ours: &TrackNamespace,
        called: &TrackNamespace,
    ) -> Option<Backend> {
        let mut behind = called.fields().skip(ours.fields().count());
        if behind.next()? != SESSION_CALL.as_bytes() {
            return None;
        }
        let name = std::str::from_utf8(behind.next()?).ok()?;
        self.agents().get(name).map(|agent| agent.backend.clone())
    }

    /// An agent's session has ended: its process ends, at once or when the agent stays away.
    pub(super) async fn close(&self, own: Own, lost: bool) {
        let Own { name, turn, backend, news } = own;
        if let Some(agent) = self.agents().get_mut(&name) {
            agent.news = Some(news);
        }
        if lost {
            tokio::time::sleep(ABSENCE).await;
        }
        {
            let mut agents = self.agents();
            if agents.get(&name).is_none_or(|agent| agent.turn != turn) {
                return;
            }
            agents.remove(&name);
        }
        backend.shutdown().await;
    }

    /// Ends every process.
    pub(super) async fn shutdown(&self) {
        let agents = std::mem::take(&mut *self.agents());
        let ends = agents.into_values().map(|agent| async move { agent.backend.shutdown().await });
        futures::future::join_all(ends).await;
    }
}

/// Whether a server may ask a client with these capabilities.
pub(crate) fn can_be_asked(capabilities: &str) -> bool {
    let able = ["sampling", "elicitation", "roots"];
    let members = object_members(capabilities).unwrap_or_default();
    members.iter().any(|member| able.contains(&member.name.as_str()))
}

/// The first message of a session's call: whether the agent has a process of its own.
pub(super) fn greeting(own: bool) -> Bytes {
    Message::notification(crate::name::PROCESS, &format!(r#"{{"own":{own}}}"#)).text().clone()
}

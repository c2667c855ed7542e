//! Agents without sessions at a server that has them: its questions end a round of a call.
//!
//! A server of a 2025-11-25 session asks in the midst of a call and waits. An agent of 2026-07-28
//! cannot be asked: its call ends with what is asked (`input_required`), and it calls again with the
//! answers. Between the two rounds the server's call is held here, under a name that nobody can
//! guess, for the agent that asked and for nobody else, and not for long.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::leases::Lease;
use crate::{
    backend::{ClientSide, Exchange},
    bridge::{self, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL, PROTOCOL_VERSION},
    level,
    message::{Message, code, meta, object_members, string_member},
    random::unguessable,
    read::LISTS,
};

/// Calls that may be held; what one more asks is refused.
const HELD_MAX: usize = 1_000;
/// Questions of one round.
pub(super) const QUESTIONS_MAX: usize = 64;
/// Methods whose answer may be that input is wanted (MCP 2026-07-28).
const ASKING: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
/// What a server may ask, and the capability of who can answer.
const QUESTIONS: [(&str, &str); 3] = [
    ("sampling/createMessage", "sampling"),
    ("elicitation/create", "elicitation"),
    ("roots/list", "roots"),
];

/// Calls that wait for their next round, by the `requestState` that their agents were given.
#[derive(Debug)]
pub(super) struct Rounds {
    /// How long a call is held.
    kept: Duration,
    held: Mutex<AllHeld>,
}

#[derive(Debug, Default)]
struct AllHeld {
    calls: BTreeMap<String, Held>,
    /// Whether somebody looks after those whose time is over.
    swept: bool,
}

/// A call of the server that goes on. Given up when dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) exchange: Exchange,
    /// The process that works on it, if it has one for itself.
    pub(super) lease: Option<Lease>,
    /// What the server asks, by the names that the agent was told.
    questions: BTreeMap<String, Message>,
    /// What was asked for, and by whom.
    asked: [u8; 32],
    until: Instant,
}

impl Rounds {
    pub(super) fn new(kept: Duration) -> Arc<Self> {
        Arc::new(Self { kept, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, AllHeld> {
        // What a thread that panicked left behind is whole: nothing panics between two changes.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up everything that is held.
    pub(super) fn clear(&self) {
        self.held().calls.clear();
    }

    /// Holds a call. Its name; what it was if it cannot be held.
    fn hold(self: &Arc<Self>, held: Held) -> Result<String, Box<Held>> {
        let Some(name) = unguessable() else { return Err(held.into()) };
        let mut all = self.held();
        if HELD_MAX <= all.calls.len() {
            return Err(held.into());
        }
        all.calls.insert(name.clone(), held);
        if std::mem::replace(&mut all.swept, true) {
            return Ok(name);
        }
        let rounds = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(next) = rounds.upgrade().and_then(|rounds| rounds.sweep(Instant::now()))
            {
                tokio::time::sleep_until(next).await;
            }
        });
        Ok(name)
    }

    /// Gives up what was held for too long. When that is to be looked at again; `None` if nothing
    /// is held.
    fn sweep(&self, now: Instant) -> Option<Instant> {
        let mut all = self.held();
        all.calls.retain(|_, held| now < held.until);
        let next = all.calls.values().map(|held| held.until).min();
        all.swept = next.is_some();
        next
    }

    /// The call that a request goes on with; each name is good once. `Err` if there is none, or it
    /// is another's.
    fn take(&self, state: &str, asked: &[u8; 32], now: Instant) -> Result<Held, &'static str> {
        let mut all = self.held();
        let calls = &mut all.calls;
        match calls.get(state) {
            Some(found) if found.asked != *asked => {
                Err("this requestState belongs to another request or another client")
            }
            Some(found) if found.until <= now => Err(GONE),
            Some(_) => calls.remove(state).ok_or(GONE),
            None => Err(GONE),
        }
    }
}

const GONE: &str = "this requestState is not known, or not any more: call again from the beginning";

/// One round of a call of an agent without a session at a server that has them.
#[derive(Debug)]
pub(super) struct Round {
    rounds: Arc<Rounds>,
    /// What the agent can do, as JSON text.
    capabilities: String,
    /// The least log level that it wants; `None` is no log messages.
    log_level: Option<String>,
    /// What the agent calls its progress, as JSON text.
    token: Option<String>,
    asked: [u8; 32],
    state: Option<String>,
    answers: BTreeMap<String, String>,
}

/// How a round begins.
pub(super) enum Begun {
    /// With a call of its own, in the server's terms.
    First(Message),
    /// With the answers to what was asked before.
    Again(Box<Held>),
    /// It does not.
    Refused(&'static str),
}

/// A call that cannot be held: it goes on, and what it asks is refused.
pub(super) struct NotHeld {
    pub(super) exchange: Exchange,
    pub(super) lease: Option<Lease>,
    /// What the server is told.
    pub(super) refusals: Vec<Message>,
}

impl Round {
    /// Whether a request is one of an agent without a session.
    pub(super) fn is_wanted(request: &Message) -> bool {
        meta(request.body(), PROTOCOL_VERSION).is_some()
    }

    pub(super) fn new(rounds: &Arc<Rounds>, request: &Message) -> Self {
        let said = |name: &str| meta(request.body(), name).map(|member| member.value.to_owned());
        let members = object_members(request.body()).unwrap_or_default();
        let answers = members.iter().find(|member| member.name == "inputResponses");
        let answers = answers.and_then(|member| object_members(member.value)).unwrap_or_default();
        Self {
            rounds: Arc::clone(rounds),
            capabilities: said(CLIENT_CAPABILITIES).unwrap_or_else(|| "{}".to_owned()),
            log_level: said(LOG_LEVEL).and_then(|level| serde_json::from_str(&level).ok()),
            token: said("progressToken"),
            asked: digest(request),
            state: string_member(request.body(), "requestState"),
            answers: answers.into_iter().map(|m| (m.name, m.value.to_owned())).collect(),
        }
    }

    /// Who asks, as a server with sessions is told; `None` if that makes no difference to this call,
    /// or the call goes on where it was.
    pub(super) fn client(&self, request: &Message) -> Option<ClientSide> {
        let method = request.method();
        let matters = ASKING.contains(&method) || LISTS.contains(&method);
        let able = matters && super::can_be_asked(&self.capabilities);
        let info = meta(request.body(), CLIENT_INFO).map(|member| member.value.to_owned());
        (able && self.state.is_none())
            .then(|| ClientSide { capabilities: self.capabilities.clone(), info })
    }

    /// The log level that the server has to be set to for this call.
    pub(super) fn log_level(&self) -> Option<&str> {
        self.log_level.as_deref().filter(|_| self.state.is_none())
    }

    /// How the round begins.
    pub(super) fn begin(&self, request: &Message) -> Begun {
        let Some(state) = &self.state else {
            let params = bridge::params_for_legacy(request.body());
            return Begun::First(request.with_body(&params));
        };
        match self.rounds.take(state, &self.asked, Instant::now()) {
            Ok(held) => Begun::Again(held.into()),
            Err(reason) => Begun::Refused(reason),
        }
    }

    /// What goes to the server first in a round that goes on, and the questions that are still to be
    /// answered: those that the agent left out.
    pub(super) fn answered(&self, held: &Held) -> (Vec<Message>, Vec<Message>) {
        let (mut answers, mut open) = (Vec::new(), Vec::new());
        for (name, question) in &held.questions {
            match (self.answers.get(name), question.id()) {
                (Some(answer), Some(id)) => answers.push(Message::result(id, answer.as_bytes())),
                _ => open.push(question.clone()),
            }
        }
        (answers, open)
    }

    /// Why the agent cannot be asked this; `None` if it can. The server is told.
    pub(super) fn refusal(&self, request: &Message, question: &Message) -> Option<Message> {
        let refuse =
            |reason| Some(Message::error(question.id(), code::METHOD_NOT_FOUND, reason, ""));
        let known = QUESTIONS.iter().find(|(method, _)| *method == question.method());
        let Some((_, capability)) = known else {
            return refuse("a client of MCP 2026-07-28 cannot be asked this");
        };
        if !ASKING.contains(&request.method()) {
            return refuse("MCP 2026-07-28 lets nothing be asked in a request of this method");
        }
        let members = object_members(&self.capabilities).unwrap_or_default();
        if members.iter().any(|member| member.name == *capability) {
            return None;
        }
        refuse("the client does not offer this capability")
    }

    /// Ends the round with what the server asks: the answer to `request`.
    pub(super) fn ask(
        &self,
        request: &Message,
        exchange: Exchange,
        lease: Option<Lease>,
        questions: Vec<Message>,
    ) -> Result<Message, Box<NotHeld>> {
        let names = (1..).map(|number: u64| format!("q{number}"));
        let questions: BTreeMap<String, Message> = names.zip(questions).collect();
        let asked: Vec<String> = questions.iter().map(|(name, q)| entry(name, q)).collect();
        let until = Instant::now() + self.rounds.kept;
        let held = Held { exchange, lease, questions, asked: self.asked, until };
        match (self.rounds.hold(held), request.id()) {
            (Ok(name), Some(id)) => {
                let result = format!(
                    r#"{{"resultType":"input_required","inputRequests":{{{}}},"requestState":"{name}"}}"#,
                    asked.join(",")
                );
                Ok(Message::result(id, result.as_bytes()))
            }
            (Ok(_), None) => Ok(Message::error(None, code::INVALID_REQUEST, "no id", "")),
            (Err(held), _) => {
                let Held { exchange, lease, questions, .. } = *held;
                let reason = "too many calls wait for what their clients were asked";
                let refuse = |question: &Message| {
                    Message::error(question.id(), code::INTERNAL_ERROR, reason, "")
                };
                let refusals = questions.values().map(refuse).collect();
                Err(NotHeld { exchange, lease, refusals }.into())
            }
        }
    }

    /// What the server says in the course of the call, as the agent may see it.
    pub(super) fn passed(&self, message: Message) -> Option<Message> {
        match message.method() {
            // What is taken back was never the agent's own to hear of.
            "notifications/cancelled" => None,
            "notifications/message" => {
                let level = string_member(message.body(), "level");
                let wanted = self.log_level.as_deref()?;
                level::passes(wanted, level.as_deref()).then_some(message)
            }
            // A round that goes on may have another token than the one that began it.
            "notifications/progress" => {
                let token = self.token.as_deref()?;
                let members = object_members(message.body())?;
                let said = members.iter().find(|member| member.name == "progressToken")?;
                Some(message.with_body_part(&said.span, token))
            }
            _ => Some(message),
        }
    }
}

/// One of `inputRequests`.
fn entry(name: &str, question: &Message) -> String {
    let method = serde_json::Value::from(question.method());
    if question.body().is_empty() {
        return format!(r#""{name}":{{"method":{method}}}"#);
    }
    format!(r#""{name}":{{"method":{method},"params":{}}}"#, question.body())
}

/// What is asked for and by whom, whichever round it is.
fn digest(request: &Message) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    };
    part(request.method());
    for name in [CLIENT_INFO, CLIENT_CAPABILITIES] {
        part(meta(request.body(), name).map_or("", |member| member.value));
    }
    let mut members = object_members(request.body()).unwrap_or_default();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    for member in members {
        if !["_meta", "inputResponses", "requestState"].contains(&member.name.as_str()) {
            part(&member.name);
            part(member.value);
        }
    }
    hash.finalize().into()
}

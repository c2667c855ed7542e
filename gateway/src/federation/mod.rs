//! Several servers of the tier behind one endpoint.
//!
//! Each is a [`Connector`] of its own; agents see the names of [`prefix`]. A server that is away
//! takes no other down: lists come without it and say so, what is asked of it is an error that says
//! so, and agents are told when it comes and goes.

pub mod configuration;
mod listen;
mod merge;
pub mod prefix;
mod rewrite;
pub mod session;

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use self::{
    merge::Page,
    prefix::{Prefix, split_name, split_uri},
    rewrite::List,
};
use crate::{
    connect::{self, Connector, Talk, check_modern},
    description::Description,
    link::Link,
    message::{Id, Kind, Limits, Message, code, object_members, string_member},
    observed::Observer,
    parameters::Parameters,
    revision::Revision,
};

/// Servers behind one endpoint.
pub const SERVERS_MAX: usize = 64;
/// How long one server may take for its part of a list before the list comes without it.
const LIST_PATIENCE: Duration = Duration::from_secs(10);

/// Whether a server can be asked.
#[derive(Clone, Debug)]
enum Standing {
    /// It is not known yet.
    Sought,
    /// It is not published, or not reached; it is still sought.
    Absent(String),
    /// It was found. It may have gone since.
    Found(Arc<Connector>),
}

/// One server.
#[derive(Debug)]
struct Member {
    prefix: Prefix,
    standing: watch::Receiver<Standing>,
}

impl Member {
    /// What it is asked by.
    fn connector(&self) -> Result<Arc<Connector>, String> {
        match &*self.standing.borrow() {
            Standing::Found(connector) => Ok(Arc::clone(connector)),
            Standing::Absent(reason) => Err(reason.clone()),
            Standing::Sought => Err("it was not found yet".to_owned()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Federation {
    members: Vec<Member>,
    limits: Limits,
    /// Whether agents without sessions are offered servers that have them.
    bridges: bool,
    observer: Observer,
    /// Counts servers that come and go.
    changes: watch::Receiver<u64>,
    /// Seeks servers and watches over them.
    _seeking: JoinSet<()>,
}

/// Why servers cannot be offered together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are too many, or none.
    #[error("1 to {SERVERS_MAX} servers can be offered together, not {0}")]
    Count(usize),
    /// None of them is there.
    #[error(transparent)]
    Absent(#[from] connect::Error),
}

/// Who asks, and by what way.
pub(crate) enum Asking<'a> {
    /// An agent without a session.
    Modern(&'a Talk),
    /// An agent with one.
    Session(&'a session::Session, &'a mpsc::Sender<Message>),
}

impl Asking<'_> {
    fn revision(&self) -> Revision {
        match self {
            Self::Modern(_) => Revision::LATEST,
            Self::Session(session, _) => session.revision().unwrap_or(Revision::LATEST_LEGACY),
        }
    }

    async fn ask(&self, member: usize, connector: &Arc<Connector>, request: &Message) -> Message {
        match self {
            Self::Modern(talk) => connector.answer_modern(request, talk).await,
            Self::Session(session, to_agent) => {
                session.ask(member, connector, request, (*to_agent).clone()).await
            }
        }
    }
}

impl Federation {
    /// Seeks all servers, and waits until each is found or its time is over.
    ///
    /// # Errors
    /// If none is found, or there are too many.
    pub async fn start(
        link: Link,
        servers: Vec<(Prefix, connect::Options)>,
    ) -> Result<Arc<Self>, Error> {
        if !(1..=SERVERS_MAX).contains(&servers.len()) {
            return Err(Error::Count(servers.len()));
        }
        let (limits, bridges) = (servers[0].1.limits, servers[0].1.bridges);
        let observer = servers[0].1.observer.clone();
        let (changed, changes) = watch::channel(0);
        let changed = Arc::new(changed);
        let (failed, mut failures) = mpsc::channel(SERVERS_MAX);
        let mut seeking = JoinSet::new();
        let mut members = Vec::new();
        for (prefix, options) in servers {
            let (sender, standing) = watch::channel(Standing::Sought);
            let seek = Seek { link: link.clone(), options, sender, changed: Arc::clone(&changed) };
            seeking.spawn(seek.run(failed.clone()));
            members.push(Member { prefix, standing });
        }
        drop(failed);
        for member in &members {
            let mut standing = member.standing.clone();
            // The sender lives as long as the federation.
            _ = standing.wait_for(|standing| !matches!(standing, Standing::Sought)).await;
        }
        let found = |member: &&Member| member.connector().is_ok();
        if !members.iter().any(|member| found(&member))
            && let Some(error) = failures.recv().await
        {
            return Err(Error::Absent(error));
        }
        for (member, reason) in
            members.iter().filter_map(|member| Some((member, member.connector().err()?)))
        {
            tracing::warn!(prefix = %member.prefix, "goes on without this server: {reason}");
        }
        Ok(Arc::new(Self { members, limits, bridges, observer, changes, _seeking: seeking }))
    }

    /// Limits of messages.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Who is told of requests.
    pub(crate) const fn observer(&self) -> &Observer {
        &self.observer
    }

    /// The servers that were found, and what they say of themselves.
    fn descriptions(&self) -> Vec<(Prefix, Arc<Description>)> {
        let found = |member: &Member| {
            let connector = member.connector().ok()?;
            Some((member.prefix.clone(), connector.description()))
        };
        self.members.iter().filter_map(found).collect()
    }

    /// Which arguments of which tools travel in headers too.
    pub(crate) async fn parameters(&self, anew: bool) -> Arc<Parameters> {
        let mut all = Parameters::default();
        let known = self.members.iter().map(|member| async move {
            Some((&member.prefix, member.connector().ok()?.parameters(anew).await))
        });
        for (prefix, parameters) in join_all(known).await.into_iter().flatten() {
            all.learn_renamed(&parameters, |tool| prefix.name(tool));
        }
        Arc::new(all)
    }

    /// Answers a request of an agent without a session.
    pub async fn answer_modern(&self, request: &Message, talk: &Talk) -> Message {
        if let Some(error) = check_modern(request) {
            return error;
        }
        let Some(id) = request.id() else {
            return Message::error(None, code::INVALID_REQUEST, "a request is wanted", "");
        };
        match request.method() {
            "server/discover" => {
                let servers = self.descriptions();
                if !self.bridges
                    && !servers.iter().any(|(_, description)| description.revision.is_modern())
                {
                    let reason = "the MCP servers have sessions: send `initialize`";
                    return Message::error(Some(id), code::METHOD_NOT_FOUND, reason, "");
                }
                Message::result(id, merge::discover_result(&servers).as_bytes())
            }
            "subscriptions/listen" => listen::run(self, request, talk).await,
            _ => self.answer(&Asking::Modern(talk), request).await,
        }
    }

    /// Passes a request on to whom it is for.
    pub(crate) async fn answer(&self, asking: &Asking<'_>, request: &Message) -> Message {
        if let Some(list) = List::of_method(request.method()) {
            return self.list(asking, request, list).await;
        }
        let name: &[&str] = match request.method() {
            "tools/call" | "prompts/get" => &["name"],
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => &["uri"],
            "completion/complete" => match reference(request) {
                Some("ref/resource") => &["ref", "uri"],
                _ => &["ref", "name"],
            },
            "logging/setLevel" => return self.tell_all(asking, request).await,
            _ => {
                let reason = "this method names no server, and several are offered here";
                return Message::error(request.id(), code::METHOD_NOT_FOUND, reason, "");
            }
        };
        self.pass(asking, request, name).await
    }

    /// Passes a request on to the server that the param at `path` names.
    async fn pass(&self, asking: &Asking<'_>, request: &Message, path: &[&str]) -> Message {
        let is_uri = path.last() == Some(&"uri");
        for (index, member) in self.members.iter().enumerate() {
            let own = |name: &str| {
                let split = if is_uri { split_uri(name) } else { split_name(name) };
                let (prefix, rest) = split?;
                (prefix == member.prefix.as_str()).then(|| rest.to_owned())
            };
            let Some(sent) = rewrite::renamed(request, path, own) else { continue };
            let connector = match member.connector() {
                Ok(connector) => connector,
                Err(reason) => return unavailable(request, &member.prefix, &reason),
            };
            let answer = asking.ask(index, &connector, &sent).await;
            if answer.kind() != Kind::Result {
                return answer;
            }
            let result = rewrite::result(request.method(), answer.body(), &member.prefix);
            return answer.with_body(&result);
        }
        let prefixes: Vec<&str> = self.members.iter().map(|m| m.prefix.as_str()).collect();
        let (what, mark) = if is_uri { ("URI", "+") } else { ("name", "_") };
        let reason = format!(
            "no server has this {what}: it must begin with a prefix and `{mark}`; the prefixes are \
             {}",
            prefixes.join(", ")
        );
        Message::error(request.id(), code::INVALID_PARAMS, &reason, "")
    }

    /// A page of what all servers list, or of what those list that a cursor names.
    async fn list(&self, asking: &Asking<'_>, request: &Message, list: List) -> Message {
        let Some(id) = request.id() else {
            return Message::error(None, code::INVALID_REQUEST, "a request is wanted", "");
        };
        let cursor = match string_member(request.body(), "cursor") {
            None => None,
            Some(text) => match merge::decoded(&text) {
                Some(cursor) => Some(cursor),
                None => {
                    let reason = "this cursor was not given here: list from the beginning";
                    return Message::error(Some(id), code::INVALID_PARAMS, reason, "");
                }
            },
        };
        let asked = self.members.iter().enumerate().filter_map(|(index, member)| {
            let sent = match &cursor {
                None => request.clone(),
                Some(cursor) => {
                    let own = cursor.get(member.prefix.as_str())?.clone();
                    rewrite::renamed(request, &["cursor"], |_| Some(own.clone()))?
                }
            };
            Some(async move { (member, self.part(asking, index, &sent, list).await) })
        });
        let mut page = Page::new(list);
        let (mut first_error, mut is_one) = (None, false);
        for (member, part) in join_all(asked).await {
            match part {
                Part::Nothing => is_one = true,
                Part::Answer(answer) if answer.kind() == Kind::Result => {
                    if page.add(&member.prefix, answer.body()) {
                        is_one = true;
                    } else {
                        page.miss(&member.prefix, "its answer is no list");
                    }
                }
                Part::Answer(answer) => {
                    let reason = string_member(answer.body(), "message").unwrap_or_default();
                    page.miss(&member.prefix, &reason);
                    first_error.get_or_insert(answer);
                }
                Part::Unavailable(reason) => page.miss(&member.prefix, &reason),
            }
        }
        if page.misses() {
            tracing::warn!(method = request.method(), "a list comes without some servers");
        }
        match first_error {
            // Nothing else is known: the server's own error says most.
            Some(error) if !is_one => error,
            _ => Message::result(id, page.result(asking.revision()).as_bytes()),
        }
    }

    /// One server's part of a list.
    async fn part(&self, asking: &Asking<'_>, index: usize, request: &Message, list: List) -> Part {
        let connector = match self.members[index].connector() {
            Ok(connector) => connector,
            Err(reason) => return Part::Unavailable(reason),
        };
        let description = connector.description();
        let able = object_members(description.member("capabilities").unwrap_or("{}"));
        if !able.is_some_and(|able| able.iter().any(|member| member.name == list.capability())) {
            return Part::Nothing;
        }
        let asked = asking.ask(index, &connector, request);
        match tokio::time::timeout(LIST_PATIENCE, asked).await {
            Ok(answer) if is_not_found(&answer) => Part::Nothing,
            Ok(answer) => Part::Answer(answer),
            Err(_) => Part::Unavailable(format!("it did not answer within {LIST_PATIENCE:?}")),
        }
    }

    /// Asks all; a result if one of them gives one.
    async fn tell_all(&self, asking: &Asking<'_>, request: &Message) -> Message {
        let asked = self.members.iter().enumerate().filter_map(|(index, member)| {
            let connector = member.connector().ok()?;
            Some(async move { asking.ask(index, &connector, request).await })
        });
        let mut answers = join_all(asked).await;
        let good = answers.iter().position(|answer| answer.kind() == Kind::Result);
        if answers.is_empty() {
            let reason = "none of the servers is there";
            return Message::error(request.id(), code::INTERNAL_ERROR, reason, "");
        }
        answers.swap_remove(good.unwrap_or(0))
    }
}

/// One server's part of a list.
enum Part {
    Answer(Message),
    /// It has no such list.
    Nothing,
    Unavailable(String),
}

fn is_not_found(answer: &Message) -> bool {
    let members = object_members(answer.body()).unwrap_or_default();
    let code = members.iter().find(|member| member.name == "code");
    answer.kind() == Kind::Error
        && code.is_some_and(|code| code.value == code::METHOD_NOT_FOUND.to_string())
}

/// What a completion is for.
fn reference(request: &Message) -> Option<&'static str> {
    let members = object_members(request.body())?;
    let reference = members.iter().find(|member| member.name == "ref")?;
    match string_member(reference.value, "type")?.as_str() {
        "ref/resource" => Some("ref/resource"),
        _ => None,
    }
}

fn unavailable(request: &Message, prefix: &Prefix, reason: &str) -> Message {
    let reason = format!("the server `{prefix}` is not there now: {reason}");
    let data = r#"{"code":"UNAVAILABLE","retryAfterMs":1000}"#;
    Message::error(request.id(), code::INTERNAL_ERROR, &reason, data)
}

/// `notifications/…/list_changed` of every list; `listen` is the request that they belong to.
fn lists_changed(listen: Option<&Id>) -> Vec<Message> {
    use crate::{connect::notification, read::Read};
    let lists = [Read::Tools, Read::Prompts, Read::Resources];
    lists.iter().map(|read| notification(read, listen)).collect()
}

/// Finds one server, and tells when it comes and goes.
struct Seek {
    link: Link,
    options: connect::Options,
    sender: watch::Sender<Standing>,
    changed: Arc<watch::Sender<u64>>,
}

impl Seek {
    async fn run(self, failed: mpsc::Sender<connect::Error>) {
        let mut failed = Some(failed);
        let connector = loop {
            match Connector::start(self.link.clone(), self.options.clone()).await {
                Ok(connector) => break connector,
                Err(error) => {
                    let reason = error.to_string();
                    if let Some(failed) = failed.take() {
                        // There is a place for each server.
                        _ = failed.try_send(error);
                    }
                    self.sender.send_replace(Standing::Absent(reason));
                }
            }
        };
        drop(failed);
        let mut presence = connector.presence();
        let was_absent = matches!(*self.sender.borrow(), Standing::Absent(_));
        self.sender.send_replace(Standing::Found(connector));
        if was_absent {
            self.has_changed();
        }
        while presence.changed().await.is_ok() {
            self.has_changed();
        }
    }

    fn has_changed(&self) {
        tracing::info!(server = %self.options.server, "a server has come or gone");
        self.changed.send_modify(|changes| *changes += 1);
    }
}

//! The task that owns what is published.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aip_codec::moqt::{error_code::RequestCode, id::GroupId, name::FullTrackName};
use aip_engine::client::{Refusal, TrackVersion};
use bytes::Bytes;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    Error, Options, Server, calls,
    interop::{self, Reply},
    policy::{self, Verdict},
    sessions::{self, Sessions},
    subscribing::{Subject, Subscribing},
    tracks::{Step, Tracks},
};
use crate::{
    backend::{Asker, Backend, News, own_meta},
    clock::unix_milliseconds,
    description::{Availability, Description},
    link::{IncomingCall, Link, Served},
    message::{Id, Kind, Message, code, string_member},
    name::{SERVER_TRACK, SESSION_CALL},
    read::Read,
    version,
};

/// Results and wishes of other tasks that may wait for the publisher.
const WISHES_MAX: usize = 1_024;
/// How long an older result is given before the backend is asked again.
const STALE: Duration = Duration::from_secs(1);
/// How long changes are gathered before a track is read again for them.
const SETTLE: Duration = Duration::from_millis(10);

/// What an edge has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Reads that the backend was asked for because a track was wanted or had changed.
    pub track_reads: u64,
    /// Calls that were passed on.
    pub calls: u64,
    /// Those of them that were reads too.
    pub called_reads: u64,
    /// Calls that were repeated with their keys, and not passed on again.
    pub repeated_calls: u64,
}

/// Counts, while they grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) track_reads: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) called_reads: AtomicU64,
    pub(super) repeated_calls: AtomicU64,
}

impl Counters {
    fn counts(&self) -> Counts {
        Counts {
            track_reads: self.track_reads.load(Ordering::Relaxed),
            calls: self.calls.load(Ordering::Relaxed),
            called_reads: self.called_reads.load(Ordering::Relaxed),
            repeated_calls: self.repeated_calls.load(Ordering::Relaxed),
        }
    }
}

/// What other tasks tell the publisher.
#[derive(Debug)]
pub(super) enum Wish {
    /// The backend has answered a read, or has not in time.
    Answered(FullTrackName, Option<Message>),
    /// The backend tells of something.
    Notified(Message),
    /// For a while the backend has told of no changes of this, or tells of them again.
    Unheard(Subject),
    /// A session has begun.
    SessionBegun(u64, mpsc::Sender<Message>),
    /// A session wants to be told of a resource's changes, or no longer.
    SessionFollows(u64, String, bool),
    /// A session has ended.
    SessionEnded(u64),
    /// A track that is a call has its reply.
    Replied(FullTrackName, Reply),
    /// A call named a resource whose track's name has to be hashed.
    Learned(FullTrackName, Read),
}

/// Whether an answer says that the server has failed, not that it refuses.
fn failed_itself(answer: &Message) -> bool {
    let error: Option<serde_json::Value> = serde_json::from_str(answer.body()).ok();
    let code = error.and_then(|error| error.get("code")?.as_i64());
    answer.kind() == Kind::Error && code == Some(code::INTERNAL_ERROR.into())
}

/// See the module.
pub(super) struct Publisher {
    pub(super) link: Link,
    pub(super) backend: Backend,
    pub(super) options: Arc<Options>,
    pub(super) wishes: mpsc::Sender<Wish>,
    pub(super) description: Option<Description>,
    counters: Arc<Counters>,
    tracks: Tracks,
    sessions: Sessions,
    subscribing: Subscribing,
    /// What hashed track names stand for.
    learned: HashMap<FullTrackName, Read>,
    calls: Arc<calls::Context>,
    tasks: JoinSet<()>,
    /// Tracks that are calls under way.
    called: HashMap<FullTrackName, AbortHandle>,
    /// Group of the track `server`.
    announced: GroupId,
    announcing: bool,
}

/// Publishes until `stop` is done.
pub(super) async fn run(
    server: Server,
    options: Arc<Options>,
    stop: impl Future<Output = ()>,
) -> Result<Counts, Error> {
    let Server { link, mut served, backend, mut news, own } = server;
    let (wishes, mut wished) = mpsc::channel(WISHES_MAX);
    let counters = Arc::new(Counters::default());
    let context = calls::Context::new(
        backend.clone(),
        Arc::clone(&options),
        wishes.clone(),
        Arc::clone(&counters),
        own,
    );
    let mut publisher = Publisher {
        subscribing: Subscribing::new(backend.clone(), wishes.clone()),
        link,
        backend,
        options,
        wishes,
        description: None,
        counters,
        tracks: Tracks::default(),
        sessions: Sessions::default(),
        learned: HashMap::new(),
        calls: Arc::new(context),
        tasks: JoinSet::new(),
        called: HashMap::new(),
        announced: GroupId(0),
        announcing: false,
    };
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            served = served.recv() => {
                publisher.handle_served(served.ok_or(Error::Link)?).await?;
            }
            Some(news) = news.recv() => publisher.handle_news(news).await?,
            Some(wish) = wished.recv() => publisher.handle_wish(wish).await,
            Some(_) = publisher.tasks.join_next() => {}
        }
    }
    publisher.drain().await;
    Ok(publisher.counters.counts())
}

impl Publisher {
    async fn handle_served(&mut self, served: Served) -> Result<(), Error> {
        match served {
            Served::TrackWanted(track) => self.handle_wanted(track).await,
            Served::TrackUnwanted(track) => self.handle_unwanted(&track).await,
            Served::Called(incoming) => self.handle_call(incoming),
            Served::AnnouncementRefused(namespace, refusal) => {
                if namespace == *self.options.name.namespace() {
                    let reason = format!("{}: {}", refusal.code.name(), refusal.reason);
                    return Err(Error::Refused { name: self.options.name.clone(), reason });
                }
            }
        }
        Ok(())
    }

    fn handle_call(&mut self, incoming: IncomingCall) {
        let context = Arc::clone(&self.calls);
        if incoming.name == SESSION_CALL {
            self.tasks.spawn(sessions::run(incoming, context));
        } else {
            self.tasks.spawn(calls::run(incoming, context));
        }
    }

    async fn handle_wanted(&mut self, track: FullTrackName) {
        if track.namespace() != self.options.name.namespace() {
            return self.refuse(track, RequestCode::DOES_NOT_EXIST, "no such server", None).await;
        }
        if track.name() == SERVER_TRACK {
            return self.publish_announcement(Availability::Available).await;
        }
        if interop::is_call(&track) {
            if !self.called.contains_key(&track) {
                let (context, link) = (Arc::clone(&self.calls), self.link.clone());
                let running = interop::run(track.clone(), context, link, self.wishes.clone());
                let running = self.tasks.spawn(running);
                self.called.insert(track, running);
            }
            return;
        }
        let read = Read::of_track_name(track.name()).or_else(|| self.learned.get(&track).cloned());
        let Some(read) = read else {
            return self.refuse(track, RequestCode::DOES_NOT_EXIST, "no such track", None).await;
        };
        match self.tracks.want(&track, read, self.options.tracks_max) {
            Some(step) => self.step(track, step).await,
            None => {
                let code = RequestCode::EXCESSIVE_LOAD;
                let retry = Some(Duration::from_secs(1));
                self.refuse(track, code, "too many tracks are kept up to date", retry).await;
            }
        }
    }

    async fn handle_unwanted(&mut self, name: &FullTrackName) {
        if let Some(running) = self.called.remove(name) {
            running.abort();
            self.calls.keyed.forget(name.name());
        }
        let Some((track, expire)) = self.tracks.unwant(name) else { return };
        if let Some(version) = expire {
            self.link.publish(name.clone(), version, Some(Duration::ZERO)).await;
        }
        self.unsubscribe(&track.read);
    }

    fn unsubscribe(&mut self, read: &Read) {
        if let Read::Resource { uri } = read
            && !self.sessions.follows(uri)
        {
            self.subscribing.end(uri);
        }
    }

    async fn refuse(
        &self,
        track: FullTrackName,
        code: RequestCode,
        reason: &str,
        retry_after: Option<Duration>,
    ) {
        let refusal = Refusal { code, retry_after, reason: reason.to_owned() };
        self.link.refuse(track, refusal).await;
    }

    async fn step(&mut self, track: FullTrackName, step: Step) {
        match step {
            Step::Nothing => {}
            Step::Read => self.begin_read(track, Duration::ZERO),
            Step::Expire(version) => {
                self.link.publish(track, version, Some(Duration::ZERO)).await;
            }
        }
    }

    /// Asks the backend for a track's content, after having asked it to tell of changes.
    fn begin_read(&mut self, name: FullTrackName, settle: Duration) {
        let notifies = self.description.as_ref().map(|description| description.notifies);
        let modern = self.description.as_ref().is_some_and(|d| d.revision.is_modern());
        let Some(track) = self.tracks.track_mut(&name) else { return };
        let meta = if modern { own_meta() } else { String::new() };
        let request =
            Message::request(Id::from_number(0), track.read.method(), &track.read.params(&meta));
        let subscribing = match &track.read {
            Read::Resource { uri } if notifies.is_some_and(|notifies| notifies.updates) => {
                track.subscribed = true;
                self.subscribing.begin(uri, modern)
            }
            _ => None,
        };
        self.counters.track_reads.fetch_add(1, Ordering::Relaxed);
        let (backend, wishes) = (self.backend.clone(), self.wishes.clone());
        let (patience, observer) = (self.options.read_timeout, self.options.observer.clone());
        self.tasks.spawn(async move {
            tokio::time::sleep(settle).await;
            let answered = async {
                if let Some(subscribed) = subscribing {
                    // A backend that does not subscribe is read all the same.
                    _ = subscribed.await;
                }
                let observed = observer.begin(&request, None);
                let request = observed.passed_on(&request);
                let answer = backend.request(request, Asker::Edge).await.answer().await?;
                observed.end(&answer);
                Some(answer)
            };
            let answer = tokio::time::timeout(patience, answered).await.ok().flatten();
            // The publisher may be ending.
            _ = wishes.send(Wish::Answered(name, answer)).await;
        });
    }

    async fn handle_wish(&mut self, wish: Wish) {
        match wish {
            Wish::Answered(track, answer) => self.handle_answer(track, answer).await,
            Wish::Notified(message) => self.handle_notification(&message).await,
            Wish::Unheard(subject) => {
                self.revisit(|read| subject.covers(read), Tracks::doubt).await;
                if let Subject::Resource(uri) = &subject {
                    let params = format!(r#"{{"uri":{}}}"#, serde_json::Value::from(&**uri));
                    let updated = Message::notification("notifications/resources/updated", &params);
                    self.sessions.tell_followers(uri, &updated);
                }
            }
            Wish::SessionBegun(session, messages) => self.sessions.begin(session, messages),
            Wish::SessionFollows(session, uri, follows) => {
                self.sessions.follow(session, uri, follows);
            }
            Wish::SessionEnded(session) => {
                for uri in self.sessions.end(session) {
                    let is_track =
                        |read: &Read| matches!(read, Read::Resource { uri: of } if *of == uri);
                    if self.tracks.named(is_track).is_empty() {
                        self.subscribing.end(&uri);
                    }
                }
            }
            Wish::Replied(track, reply) => {
                self.called.remove(&track);
                match reply {
                    Reply::Version(version) => {
                        self.link.publish(track, version, Some(Duration::ZERO)).await;
                    }
                    Reply::Refused(refusal) => self.link.refuse(track, refusal).await,
                }
            }
            Wish::Learned(track, read) => {
                if self.learned.len() < self.options.tracks_max {
                    self.learned.insert(track, read);
                }
            }
        }
    }

    async fn handle_answer(&mut self, name: FullTrackName, answer: Option<Message>) {
        let retry = Some(Duration::from_millis(1));
        let failed = answer.as_ref().is_none_or(failed_itself);
        let stale = self.options.stale_if_error;
        if failed && let Some(version) = self.tracks.stale(&name, stale, unix_milliseconds()) {
            tracing::warn!("the MCP server fails: an older result is given");
            return self.link.publish(name, version, Some(STALE)).await;
        }
        let Some(answer) = answer else {
            self.fail(&name);
            let reason = "the MCP server did not answer in time";
            return self.refuse(name, RequestCode::TIMEOUT, reason, retry).await;
        };
        if answer.kind() == Kind::Error {
            self.fail(&name);
            let reason = "the MCP server answers with an error: call it to see which";
            return self.refuse(name, RequestCode::DOES_NOT_EXIST, reason, retry).await;
        }
        let notified = self.is_notified(&name);
        match policy::judge(answer.body(), notified, self.options.default_ttl) {
            Verdict::Call(reason) => {
                self.fail(&name);
                self.refuse(name, RequestCode::NOT_SUPPORTED, reason, retry).await;
            }
            Verdict::Publish { expires } => {
                let kept_ms =
                    expires.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 2));
                let now_ms = unix_milliseconds();
                let result = answer.body_bytes();
                if let Some(version) = self.tracks.succeed(&name, &result, kept_ms, now_ms) {
                    self.link.publish(name.clone(), version, expires).await;
                }
                let step = self.tracks.again(&name);
                if step == Step::Read {
                    self.begin_read(name, SETTLE);
                }
            }
        }
    }

    fn fail(&mut self, name: &FullTrackName) {
        if let Some(track) = self.tracks.fail(name) {
            self.unsubscribe(&track.read);
        }
    }

    /// Whether the backend tells of every change of a track.
    fn is_notified(&mut self, name: &FullTrackName) -> bool {
        let Some(description) = &self.description else { return false };
        let (notifies, lists) = (description.notifies, self.subscribing.holds_lists());
        let Some(track) = self.tracks.track_mut(name) else { return false };
        match &track.read {
            Read::Tools => lists && notifies.tools,
            Read::Prompts => lists && notifies.prompts,
            Read::Resources | Read::Templates => lists && notifies.resources,
            Read::Resource { uri } => track.subscribed && self.subscribing.holds(uri),
            Read::Prompt { .. } => false,
        }
    }

    async fn handle_news(&mut self, news: News) -> Result<(), Error> {
        match news {
            News::Up(description) => self.handle_up(description).await,
            News::Down(reason) if self.description.is_none() => return Err(Error::Backend(reason)),
            News::Down(_) => {
                self.publish_announcement(Availability::Unavailable).await;
            }
            News::Message(message) => self.handle_notification(&message).await,
        }
        Ok(())
    }

    /// The backend is up, for the first time or again: nothing that was read of it is known to be
    /// true any more.
    async fn handle_up(&mut self, description: Description) {
        let modern = description.revision.is_modern();
        self.calls.backend_is_up(modern);
        self.subscribing.restart(&description);
        let own_processes = !modern && self.calls.leases.are_given();
        self.description = Some(Description { own_processes, ..description });
        self.publish_announcement(Availability::Available).await;
        if !self.announcing {
            self.announcing = true;
            self.link.announce(self.options.name.namespace().clone()).await;
            tracing::info!(name = %self.options.name, "published");
        }
        for uri in self.sessions.followed() {
            if let Some(subscribed) = self.subscribing.begin(&uri, modern) {
                self.tasks.spawn(async move { _ = subscribed.await });
            }
        }
        self.change(|_| true).await;
    }

    async fn handle_notification(&mut self, message: &Message) {
        match message.method() {
            "notifications/tools/list_changed" => {
                self.change(|read| matches!(read, Read::Tools)).await;
            }
            "notifications/prompts/list_changed" => {
                self.change(|read| matches!(read, Read::Prompts | Read::Prompt { .. })).await;
            }
            "notifications/resources/list_changed" => {
                self.change(|read| matches!(read, Read::Resources | Read::Templates)).await;
            }
            "notifications/resources/updated" => {
                let Some(uri) = string_member(message.body(), "uri") else { return };
                self.change(|read| matches!(read, Read::Resource { uri: of } if *of == uri)).await;
                return self.sessions.tell_followers(&uri, message);
            }
            _ => {}
        }
        self.sessions.tell_all(message);
    }

    async fn change(&mut self, which: impl Fn(&Read) -> bool) {
        self.revisit(which, Tracks::change).await;
    }

    async fn revisit(
        &mut self,
        which: impl Fn(&Read) -> bool,
        step: fn(&mut Tracks, &FullTrackName) -> Step,
    ) {
        for name in self.tracks.named(which) {
            match step(&mut self.tracks, &name) {
                Step::Read => self.begin_read(name, SETTLE),
                step @ (Step::Nothing | Step::Expire(_)) => self.step(name, step).await,
            }
        }
    }

    async fn publish_announcement(&mut self, availability: Availability) {
        let Ok(track) = self.options.name.track(SERVER_TRACK) else { return };
        let Some(description) = &self.description else {
            let reason = "the MCP server is being started";
            let retry = Some(Duration::from_millis(200));
            return self.refuse(track, RequestCode::TIMEOUT, reason, retry).await;
        };
        self.announced = GroupId(unix_milliseconds().max(self.announced.0 + 1));
        let payload: Bytes = description.announcement(availability);
        let version: TrackVersion = version::of_result(self.announced, &payload, None);
        self.link.publish(track, version, None).await;
    }

    /// Takes the server off the tier and lets calls end.
    async fn drain(&mut self) {
        self.publish_announcement(Availability::Draining).await;
        self.link.withdraw(self.options.name.namespace().clone()).await;
        let calls = Arc::clone(&self.calls);
        if tokio::time::timeout(self.options.drain_timeout, calls.wait_until_idle()).await.is_err()
        {
            tracing::warn!("calls that did not end in time are cancelled");
        }
        self.calls.keyed.clear();
        self.calls.rounds.clear();
        self.tasks.shutdown().await;
        self.calls.agents.shutdown().await;
        self.calls.leases.shutdown().await;
    }
}

//! Agents' sessions: what the backend says that belongs to no call, and what follows from that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aip_codec::{aip::call::RecordType, moqt::error_code::RequestCode};
use aip_engine::client::Refusal;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    agents::{self, Own},
    calls,
    publisher::Wish,
};
use crate::{
    backend::{Asker, Backend, News},
    encoding::Encoding,
    link::{CallEvent, CallOutcome, IncomingCall},
    message::{Kind, Message, code, string_member},
};

/// Messages that may wait for one session; one more ends it.
const MESSAGES_MAX: usize = 1_024;

/// Who is to be told of what. No I/O.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: BTreeMap<u64, Session>,
}

#[derive(Debug)]
struct Session {
    messages: mpsc::Sender<Message>,
    follows: BTreeSet<String>,
}

impl Sessions {
    pub(super) fn begin(&mut self, session: u64, messages: mpsc::Sender<Message>) {
        self.sessions.insert(session, Session { messages, follows: BTreeSet::new() });
    }

    /// A session wants to be told of a resource's changes, or no longer.
    pub(super) fn follow(&mut self, session: u64, uri: String, follows: bool) {
        if let Some(session) = self.sessions.get_mut(&session) {
            if follows {
                session.follows.insert(uri);
            } else {
                session.follows.remove(&uri);
            }
        }
    }

    /// A session has ended. The resources that no session follows any more.
    pub(super) fn end(&mut self, session: u64) -> Vec<String> {
        let ended = self.sessions.remove(&session);
        let uris = ended.into_iter().flat_map(|session| session.follows);
        uris.filter(|uri| !self.follows(uri)).collect()
    }

    /// Whether any session follows a resource.
    pub(super) fn follows(&self, uri: &str) -> bool {
        self.sessions.values().any(|session| session.follows.contains(uri))
    }

    /// Every resource that a session follows.
    pub(super) fn followed(&self) -> BTreeSet<String> {
        self.sessions.values().flat_map(|session| session.follows.iter().cloned()).collect()
    }

    /// Tells every session.
    pub(super) fn tell_all(&mut self, message: &Message) {
        // A session that is full ends, because its channel does.
        self.sessions.retain(|_, session| session.messages.try_send(message.clone()).is_ok());
    }

    /// Tells the sessions that follow a resource.
    pub(super) fn tell_followers(&mut self, uri: &str, message: &Message) {
        self.sessions.retain(|_, session| {
            !session.follows.contains(uri) || session.messages.try_send(message.clone()).is_ok()
        });
    }
}

/// Keeps one session until its agent ends it.
pub(super) async fn run(incoming: IncomingCall, context: Arc<calls::Context>) {
    let IncomingCall { mut call, parameters, .. } = incoming;

    let Ok(_place) = context.session_places.try_acquire() else {
        let refusal = Refusal {
            code: RequestCode::EXCESSIVE_LOAD,
            retry_after: Some(Duration::from_secs(1)),
            reason: "the edge beside the MCP server has too many sessions".to_owned(),
        };
        return call.refuse(refusal).await;
    };
    let begun = calls::first_record(&mut call, &context.options, Encoding::Json).await;
    if Encoding::of_content_type(parameters.content_type()) != Some(Encoding::Json) {
        // What a session says is rare and small.
        return call.refuse(calls::other_content_type(&["json"])).await;
    }
    let Some(Ok(begun)) = begun else { return };
    let mut own = context.agents.open(&begun, context.is_modern());
    call.send(RecordType::Message, agents::greeting(own.is_some()), false).await;
    let number = context.next_session.fetch_add(1, Ordering::Relaxed);
    let (sender, mut messages) = mpsc::channel(MESSAGES_MAX);
    // What a shared process says is not for an agent with its own.
    let sender = if own.is_some() { mpsc::channel(1).0 } else { sender };
    if context.wishes.send(Wish::SessionBegun(number, sender)).await.is_err() {
        return;
    }
    let lost = loop {
        let backend = own.as_ref().map_or(&context.backend, |own| &own.backend).clone();
        tokio::select! {
            message = messages.recv(), if own.is_none() => match message {
                Some(message) => {
                    call.send(RecordType::Message, message.text().clone(), false).await;
                }
                None => break false,
            },
            news = next_news(own.as_mut()) => if let News::Message(message) = news {
                call.send(RecordType::Message, message.text().clone(), false).await;
            },
            event = call.next() => match event {
                CallEvent::Record { kind: RecordType::Message, payload } => {
                    if let Some(answer) = handle(payload, number, &context, &backend).await {
                        call.send(RecordType::Message, answer.text().clone(), false).await;
                    }
                }
                CallEvent::Record { .. } => {}
                CallEvent::Ended(outcome) => break outcome == CallOutcome::Lost,
            },
        }
    };
    // The publisher may be ending.
    _ = context.wishes.send(Wish::SessionEnded(number)).await;
    if let Some(own) = own {
        context.agents.close(own, lost).await;
    }
}

/// What an agent's own process says by itself; nothing, for ever, if there is none.
async fn next_news(own: Option<&mut Own>) -> News {
    if let Some(own) = own
        && let Some(news) = own.news.recv().await
    {
        return news;
    }
    std::future::pending().await
}

/// What the agent says in its session. The answer, if it was a request.
async fn handle(
    payload: Bytes,
    number: u64,
    context: &calls::Context,
    backend: &Backend,
) -> Option<Message> {
    let message = Message::parse(payload, &context.options.limits).ok()?;
    match message.kind() {
        // A server without sessions knows none of what is told in one.
        Kind::Notification | Kind::Result | Kind::Error if context.is_modern() => None,
        Kind::Notification | Kind::Result | Kind::Error => {
            backend.send(message).await;
            None
        }
        Kind::Request => Some(answer(message, number, context, backend).await),
    }
}

async fn answer(
    request: Message,
    number: u64,
    context: &calls::Context,
    backend: &Backend,
) -> Message {
    let follows = match request.method() {
        "resources/subscribe" => true,
        "resources/unsubscribe" => false,
        _ => {
            let reason = "only resources/subscribe and resources/unsubscribe belong in a session";
            return Message::error(request.id(), code::METHOD_NOT_FOUND, reason, "");
        }
    };
    let Some(uri) = string_member(request.body(), "uri") else {
        return Message::error(request.id(), code::INVALID_PARAMS, "a uri is wanted", "");
    };
    if !follows {
        // Others may follow it still: the backend is told when nobody does.
        let wish = Wish::SessionFollows(number, uri, false);
        // The publisher may be ending.
        _ = context.wishes.send(wish).await;
        return request.id().map_or_else(|| request.clone(), |id| Message::result(id, b"{}"));
    }
    let exchange = backend.request(request.clone(), Asker::Edge).await;
    let answered = tokio::time::timeout(context.options.read_timeout, exchange.answer()).await;
    let Some(answer) = answered.ok().flatten() else {
        let reason = "the MCP server did not answer in time";
        return Message::error(request.id(), code::INTERNAL_ERROR, reason, "");
    };
    if answer.kind() == Kind::Result {
        // The publisher may be ending.
        _ = context.wishes.send(Wish::SessionFollows(number, uri, true)).await;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_told_to_who_follows_it() {
        let mut sessions = Sessions::default();
        let (first, mut heard) = mpsc::channel(4);
        let (second, mut unheard) = mpsc::channel(4);
        sessions.begin(1, first);
        sessions.begin(2, second);
        sessions.follow(1, "u".to_owned(), true);
        let message = Message::notification("notifications/resources/updated", r#"{"uri":"u"}"#);
        sessions.tell_followers("u", &message);
        assert!(heard.try_recv().is_ok());
        assert!(unheard.try_recv().is_err());
        sessions.follow(2, "u".to_owned(), true);
        assert!(sessions.end(1).is_empty(), "another follows it");
        assert_eq!(sessions.end(2), ["u"]);
    }

    #[test]
    fn a_session_that_does_not_listen_ends_alone() {
        let mut sessions = Sessions::default();
        let (slow, mut heard) = mpsc::channel(1);
        let (quick, mut quickly_heard) = mpsc::channel(4);
        sessions.begin(1, slow);
        sessions.begin(2, quick);
        let message = Message::notification("notifications/message", "{}");
        sessions.tell_all(&message);
        sessions.tell_all(&message);
        assert!(heard.try_recv().is_ok());
        assert!(matches!(heard.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
        assert_eq!(
            (quickly_heard.try_recv().is_ok(), quickly_heard.try_recv().is_ok()),
            (true, true)
        );
    }
}

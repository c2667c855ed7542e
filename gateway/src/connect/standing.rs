//! The call that stands as long as a session: what the server says that belongs to no request.

use std::sync::Arc;

use aip_codec::{aip::call::RecordType, moqt::parameter::Parameters};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Connector, follow::RETRY};
use crate::{
    link::CallEvent,
    message::{Id, Kind, Message},
    name::SESSION_CALL,
};

/// What an agent says in its session.
#[derive(Debug)]
pub(super) enum Said {
    /// A notification of the agent, to be passed on.
    Notification(Message),
    /// A request about the session, and where its answer goes.
    Request(Message, oneshot::Sender<Message>),
}

/// Keeps the call up. `heard` takes what the server says.
pub(super) async fn run(
    connector: Arc<Connector>,
    mut said: mpsc::Receiver<Said>,
    heard: mpsc::Sender<Message>,
) {
    // Requests that were answered well, to be said again on a new call.
    let mut kept: Vec<Message> = Vec::new();
    while let Again::Yes = run_once(&connector, &mut said, &heard, &mut kept).await {
        tokio::time::sleep(RETRY).await;
    }
}

enum Again {
    Yes,
    No,
}

async fn run_once(
    connector: &Connector,
    said: &mut mpsc::Receiver<Said>,
    heard: &mpsc::Sender<Message>,
    kept: &mut Vec<Message>,
) -> Again {
    let namespace = connector.options.server.namespace().clone();
    let name = Bytes::from_static(SESSION_CALL.as_bytes());
    let mut call = connector.link.call(namespace, name, Parameters::new()).await;
    let begin = Message::request(Id::from_number(0), SESSION_CALL, "");
    call.send(RecordType::Request, begin.text().clone(), false).await;
    for request in kept.iter() {
        call.send(RecordType::Message, request.text().clone(), false).await;
    }
    // Requests on the call have ids of its own; those said again are answered to nobody.
    let mut last = 0u64;
    let mut waiting: Vec<(u64, Message, oneshot::Sender<Message>)> = Vec::new();
    loop {
        tokio::select! {
            event = call.next() => match event {
                CallEvent::Record { kind: RecordType::Message, payload } => {
                    let Ok(message) = Message::parse(payload, &connector.options.limits) else {
                        continue;
                    };
                    match message.kind() {
                        Kind::Notification => {
                            if heard.send(message).await.is_err() {
                                return Again::No;
                            }
                        }
                        Kind::Result | Kind::Error => {
                            let number = message.id().and_then(Id::as_number);
                            let place = waiting.iter().position(|(n, ..)| Some(*n) == number);
                            let Some(place) = place else { continue };
                            let (_, request, answer) = waiting.swap_remove(place);
                            keep(kept, &request, &message);
                            if let Some(id) = request.id() {
                                // Who asked may have gone.
                                _ = answer.send(message.with_id(id.clone()));
                            }
                        }
                        Kind::Request => {}
                    }
                }
                CallEvent::Record { .. } => {}
                CallEvent::Ended(outcome) => {
                    tracing::debug!(?outcome, "a session's call has ended; it is made again");
                    return Again::Yes;
                }
            },
            word = said.recv() => match word {
                None => return Again::No,
                Some(Said::Notification(message)) => {
                    call.send(RecordType::Message, message.text().clone(), false).await;
                }
                Some(Said::Request(request, answer)) => {
                    last += 1;
                    // Far from the ids of requests that are said again.
                    let number = last + (1 << 32);
                    let sent = request.with_id(Id::from_number(number));
                    waiting.push((number, request, answer));
                    call.send(RecordType::Message, sent.text().clone(), false).await;
                }
            },
        }
    }
}

/// Remembers what must be said again on a new call.
fn keep(kept: &mut Vec<Message>, request: &Message, answer: &Message) {
    if answer.kind() != Kind::Result {
        return;
    }
    let same = |other: &Message| {
        crate::message::string_member(other.body(), "uri")
            == crate::message::string_member(request.body(), "uri")
    };
    kept.retain(|other| !same(other));
    if request.method() == "resources/subscribe" {
        kept.push(request.with_id(Id::from_number(0)));
    }
}

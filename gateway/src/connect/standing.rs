//! The call that stands as long as a session: what the server says that belongs to no request.

use std::sync::Arc;

use aip_codec::{aip::call::RecordType, moqt::parameter::Parameters};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Connector, follow::RETRY, questions::Questions};
use crate::{
    link::CallEvent,
    message::{Id, Kind, Message},
    name::{PROCESS, SESSION_CALL},
};

/// Answers to questions of the server that may wait for the call.
const ANSWERS_MAX: usize = 64;

/// What an agent says in its session.
#[derive(Debug)]
pub(super) enum Said {
    /// A notification of the agent, to be passed on.
    Notification(Message),
    /// A request about the session, and where its answer goes.
    Request(Message, oneshot::Sender<Message>),
}

/// One session's call.
pub(super) struct Standing {
    pub(super) connector: Arc<Connector>,
    /// The session's name, its agent's capabilities and who that is: the params of the call.
    pub(super) params: String,
    /// Takes what the server says.
    pub(super) heard: mpsc::Sender<Message>,
    /// What the server asks the agent.
    pub(super) questions: Arc<Questions>,
    /// Told whether the agent has a process of the server for itself, each time that is said.
    pub(super) own: watch::Sender<Option<bool>>,
}

/// Keeps the call up.
pub(super) async fn run(standing: Standing, mut said: mpsc::Receiver<Said>) {
    // Requests that were answered well, to be said again on a new call.
    let mut kept: Vec<Message> = Vec::new();
    while let Again::Yes = standing.run_once(&mut said, &mut kept).await {
        tokio::time::sleep(RETRY).await;
    }
}

enum Again {
    Yes,
    No,
}

/// Requests of the agent on one call that wait for their answers.
type Waiting = Vec<(u64, Message, oneshot::Sender<Message>)>;

impl Standing {
    async fn run_once(&self, said: &mut mpsc::Receiver<Said>, kept: &mut Vec<Message>) -> Again {
        let namespace = self.connector.options.server.namespace().clone();
        let name = Bytes::from_static(SESSION_CALL.as_bytes());
        let mut call = self.connector.link.call(namespace, name, Parameters::new()).await;
        let begin = Message::request(Id::from_number(0), SESSION_CALL, &self.params);
        call.send(RecordType::Request, begin.text().clone(), false).await;
        for request in kept.iter() {
            call.send(RecordType::Message, request.text().clone(), false).await;
        }
        let (answers, mut answered) = mpsc::channel(ANSWERS_MAX);
        // Requests on the call have ids of its own; those said again are answered to nobody.
        let mut last = 0u64;
        let mut waiting: Waiting = Vec::new();
        loop {
            tokio::select! {
                event = call.next() => match event {
                    CallEvent::Record { kind: RecordType::Message, payload } => {
                        let parsed = Message::parse(payload, &self.connector.options.limits);
                        let Ok(message) = parsed else { continue };
                        let heard = self.handle(message, &answers, &mut waiting, kept).await;
                        if let Again::No = heard {
                            return Again::No;
                        }
                    }
                    CallEvent::Record { .. } => {}
                    CallEvent::Ended(outcome) => {
                        tracing::debug!(?outcome, "a session's call has ended; it is made again");
                        return Again::Yes;
                    }
                },
                Some(answer) = answered.recv() => {
                    let answer: Message = answer;
                    call.send(RecordType::Message, answer.text().clone(), false).await;
                }
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

    /// What the server says. `No` if nobody hears it any more.
    async fn handle(
        &self,
        message: Message,
        answers: &mpsc::Sender<Message>,
        waiting: &mut Waiting,
        kept: &mut Vec<Message>,
    ) -> Again {
        let heard = match message.kind() {
            Kind::Notification if message.method() == PROCESS => {
                self.own.send_replace(Some(message.body().contains("true")));
                return Again::Yes;
            }
            Kind::Notification if message.method() == "notifications/cancelled" => {
                self.questions.withdrawn(message, answers)
            }
            Kind::Notification => Some(message),
            Kind::Request => self.questions.ask(&message, answers),
            Kind::Result | Kind::Error => {
                let number = message.id().and_then(Id::as_number);
                let place = waiting.iter().position(|(n, ..)| Some(*n) == number);
                let Some(place) = place else { return Again::Yes };
                let (_, request, answer) = waiting.swap_remove(place);
                keep(kept, &request, &message);
                if let Some(id) = request.id() {
                    // Who asked may have gone.
                    _ = answer.send(message.with_id(id.clone()));
                }
                return Again::Yes;
            }
        };
        let Some(heard) = heard else { return Again::Yes };
        if self.heard.send(heard).await.is_ok() { Again::Yes } else { Again::No }
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

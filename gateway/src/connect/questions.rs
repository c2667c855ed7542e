//! What a server asks an agent in the course of a call.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::mpsc;

use crate::message::{Id, Message, object_members};

/// Questions of the server that wait for the agent's answer.
#[derive(Debug, Default)]
pub struct Questions {
    last: AtomicU64,
    waiting: Mutex<BTreeMap<u64, Question>>,
}

#[derive(Debug)]
struct Question {
    /// What the server calls it.
    id: Id,
    /// The call that it belongs to.
    answers: mpsc::Sender<Message>,
}

impl Questions {
    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Question>> {
        // What a thread that panicked left behind is whole: nothing panics between two changes.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The question as the agent sees it, under an id of ours.
    pub(super) fn ask(
        &self,
        question: &Message,
        answers: &mpsc::Sender<Message>,
    ) -> Option<Message> {
        let id = question.id()?.clone();
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut waiting = self.waiting();
        waiting.retain(|_, question| !question.answers.is_closed());
        waiting.insert(number, Question { id, answers: answers.clone() });
        Some(question.with_id(Id::from_number(number)))
    }

    /// The agent's id of a question that the server takes back.
    fn withdraw(&self, id: &Id, answers: &mpsc::Sender<Message>) -> Option<Id> {
        let mut waiting = self.waiting();
        let found = waiting
            .iter()
            .find(|(_, question)| question.id == *id && question.answers.same_channel(answers));
        let number = *found?.0;
        waiting.remove(&number);
        Some(Id::from_number(number))
    }

    /// `notifications/cancelled` of the server as the agent should see it; `None` if it never saw
    /// what is cancelled.
    pub(super) fn withdrawn(
        &self,
        message: Message,
        answers: &mpsc::Sender<Message>,
    ) -> Option<Message> {
        let members = object_members(message.body())?;
        let member = members.iter().find(|member| member.name == "requestId")?;
        let asked = self.withdraw(&Id::from_raw(member.value)?, answers)?;
        Some(message.with_body_part(&member.span, asked.as_raw()))
    }

    /// The agent answers.
    pub(crate) fn answer(&self, answer: &Message) {
        let number = answer.id().and_then(Id::as_number);
        let question = number.and_then(|number| self.waiting().remove(&number));
        let Some(Question { id, answers }) = question else {
            tracing::debug!("an answer to no question was dropped");
            return;
        };
        // The call may have ended.
        _ = answers.try_send(answer.with_id(id));
    }
}

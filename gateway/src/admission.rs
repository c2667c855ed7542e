//! Requests of one agent that are under way, and how one is cancelled.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::message::{Id, Message, code, object_members};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// Dropping the sender gives a request up.
    running: Mutex<HashMap<Id, oneshot::Sender<()>>>,
}

impl Admission {
    fn running(&self) -> MutexGuard<'_, HashMap<Id, oneshot::Sender<()>>> {
        // What a thread that panicked left behind is whole: nothing panics between two changes.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in. From now on it can be cancelled.
    ///
    /// # Errors
    /// The answer, if it is none, or one with its id is under way.
    pub(crate) fn admit(self: &Arc<Self>, request: &Message) -> Result<Place, Box<Message>> {
        let Some(id) = request.id().cloned() else {
            let reason = "a request is wanted";
            return Err(Message::error(None, code::INVALID_REQUEST, reason, "").into());
        };
        let (keep, given_up) = oneshot::channel::<()>();
        let mut running = self.running();
        if running.contains_key(&id) {
            let reason = "a request with this id is under way";
            return Err(Message::error(Some(&id), code::INVALID_REQUEST, reason, "").into());
        }
        running.insert(id.clone(), keep);
        drop(running);
        Ok(Place { admission: Arc::clone(self), id, given_up })
    }

    /// Gives up the request that a `notifications/cancelled` names.
    pub(crate) fn cancel(&self, notification: &Message) {
        let members = object_members(notification.body()).unwrap_or_default();
        let id = members.iter().find(|member| member.name == "requestId");
        if let Some(id) = id.and_then(|member| Id::from_raw(member.value)) {
            self.running().remove(&id);
        }
    }
}

/// A request under way; it is not when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    id: Id,
    given_up: oneshot::Receiver<()>,
}

impl Place {
    /// The answer; `None` if the agent cancelled the request before there was one.
    pub(crate) async fn hold(
        mut self,
        answering: impl Future<Output = Message>,
    ) -> Option<Message> {
        tokio::select! {
            answer = answering => Some(answer),
            _ = &mut self.given_up => None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.running().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u64) -> Message {
        Message::request(Id::from_number(id), "tools/call", "{}")
    }

    #[tokio::test]
    async fn a_request_is_answered_or_cancelled_and_its_id_is_free_again() {
        let admission = Arc::new(Admission::default());
        let place = admission.admit(&request(1)).unwrap();
        assert!(admission.admit(&request(1)).is_err(), "it is under way");
        let other = admission.admit(&request(2)).unwrap();
        admission.cancel(&Message::notification("notifications/cancelled", r#"{"requestId":1}"#));
        assert!(place.hold(std::future::pending()).await.is_none());
        let answer = other.hold(async { Message::result(&Id::from_number(2), b"{}") }).await;
        assert!(answer.is_some());
        assert!(admission.admit(&request(1)).is_ok() && admission.admit(&request(2)).is_ok());
        assert!(admission.admit(&Message::notification("n", "")).is_err());
    }
}

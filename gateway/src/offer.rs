//! What an edge offers to its agents: one server as it is, or several as one.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    connect::{Connector, Talk, session as single},
    federation::{Federation, session as several},
    message::{Limits, Message},
    parameters::Parameters,
    revision::Revision,
};

/// See the module. Clones are the same offer.
#[derive(Clone, Debug)]
pub enum Offer {
    /// One server, unchanged.
    One(Arc<Connector>),
    /// Several, with prefixes.
    Several(Arc<Federation>),
}

impl From<Arc<Connector>> for Offer {
    fn from(connector: Arc<Connector>) -> Self {
        Self::One(connector)
    }
}

impl From<Arc<Federation>> for Offer {
    fn from(federation: Arc<Federation>) -> Self {
        Self::Several(federation)
    }
}

impl Offer {
    /// Limits of messages.
    pub fn limits(&self) -> &Limits {
        match self {
            Self::One(connector) => &connector.options().limits,
            Self::Several(federation) => federation.limits(),
        }
    }

    /// Answers a request of an agent without a session.
    pub async fn answer_modern(&self, request: &Message, talk: &Talk) -> Message {
        match self {
            Self::One(connector) => connector.answer_modern(request, talk).await,
            Self::Several(federation) => federation.answer_modern(request, talk).await,
        }
    }

    /// Which arguments of which tools travel in headers too.
    pub(crate) async fn parameters(&self, anew: bool) -> Arc<Parameters> {
        match self {
            Self::One(connector) => connector.parameters(anew).await,
            Self::Several(federation) => federation.parameters(anew).await,
        }
    }

    /// A session of an agent. What belongs to no request of it goes to `unsolicited`.
    pub fn session(&self, unsolicited: mpsc::Sender<Message>) -> Session {
        match self {
            Self::One(connector) => {
                Session::One(single::Session::new(Arc::clone(connector), unsolicited))
            }
            Self::Several(federation) => {
                Session::Several(several::Session::new(Arc::clone(federation), unsolicited))
            }
        }
    }
}

/// One agent's session. Clones are the same session.
#[derive(Clone, Debug)]
pub enum Session {
    /// At one server.
    One(Arc<single::Session>),
    /// At several.
    Several(Arc<several::Session>),
}

impl Session {
    /// The revision that was agreed on; `None` before `initialize`.
    pub fn revision(&self) -> Option<Revision> {
        match self {
            Self::One(session) => session.revision(),
            Self::Several(session) => session.revision(),
        }
    }

    /// The agent sends a notification.
    pub fn handle_notification(&self, message: Message) {
        match self {
            Self::One(session) => session.handle_notification(message),
            Self::Several(session) => session.handle_notification(&message),
        }
    }

    /// The agent answers a question.
    pub fn handle_answer(&self, message: &Message) {
        match self {
            Self::One(session) => session.handle_answer(message),
            Self::Several(session) => session.handle_answer(message),
        }
    }

    /// The agent asks. From now on it can cancel what it asked.
    ///
    /// # Errors
    /// The answer, if the request cannot be begun.
    pub fn admit(&self, request: &Message) -> Result<Admitted, Box<Message>> {
        match self {
            Self::One(session) => session.admit(request).map(Admitted::One),
            Self::Several(session) => session.admit(request).map(Admitted::Several),
        }
    }
}

/// A request under way; it is not when this is dropped.
#[derive(Debug)]
pub enum Admitted {
    /// At one server.
    One(single::Admitted),
    /// At several.
    Several(several::Admitted),
}

impl Admitted {
    /// The answer; `None` if the agent cancelled it. What belongs to the request before its answer
    /// goes to `to_agent`.
    pub async fn answer(
        self,
        request: &Message,
        to_agent: mpsc::Sender<Message>,
    ) -> Option<Message> {
        match self {
            Self::One(admitted) => admitted.answer(request, to_agent).await,
            Self::Several(admitted) => admitted.answer(request, to_agent).await,
        }
    }
}

//! What an edge offers to its agents: one server as it is, or several as one.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    admission::{Admission, Place},
    connect::{Connector, Questions, Talk, session as single},
    federation::{Federation, session as several},
    message::{Limits, Message},
    observed::{Observed, Observer},
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

    /// Who is told of requests.
    fn observer(&self) -> Observer {
        match self {
            Self::One(connector) => connector.options().observer.clone(),
            Self::Several(federation) => federation.observer().clone(),
        }
    }

    /// Answers a request of an agent without a session.
    pub async fn answer_modern(&self, request: &Message, talk: &Talk) -> Message {
        let observed = self.observer().begin(request, None);
        let request = observed.passed_on(request);
        let answer = match self {
            Self::One(connector) => connector.answer_modern(&request, talk).await,
            Self::Several(federation) => federation.answer_modern(&request, talk).await,
        };
        observed.end(&answer);
        answer
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
        let questions = Arc::<Questions>::default();
        let asked = Arc::clone(&questions);
        let at = match self {
            Self::One(connector) => {
                At::One(single::Session::new(Arc::clone(connector), unsolicited, asked))
            }
            Self::Several(federation) => {
                At::Several(several::Session::new(Arc::clone(federation), unsolicited, asked))
            }
        };
        Session { at, questions, admission: Arc::default(), observer: self.observer() }
    }
}

/// One agent's session. Clones are the same session.
#[derive(Clone, Debug)]
pub struct Session {
    at: At,
    /// What it is asked.
    questions: Arc<Questions>,
    /// What it asks.
    admission: Arc<Admission>,
    observer: Observer,
}

/// Where a session is.
#[derive(Clone, Debug)]
enum At {
    One(Arc<single::Session>),
    Several(Arc<several::Session>),
}

impl Session {
    /// The revision that was agreed on; `None` before `initialize`.
    pub fn revision(&self) -> Option<Revision> {
        match &self.at {
            At::One(session) => session.revision(),
            At::Several(session) => session.revision(),
        }
    }

    /// The agent sends a notification.
    pub fn handle_notification(&self, message: Message) {
        if message.method() == "notifications/cancelled" {
            return self.admission.cancel(&message);
        }
        match &self.at {
            At::One(session) => session.handle_notification(message),
            At::Several(session) => session.handle_notification(&message),
        }
    }

    /// The agent answers a question.
    pub fn handle_answer(&self, message: &Message) {
        self.questions.answer(message);
    }

    /// The agent asks. From now on it can cancel what it asked.
    ///
    /// # Errors
    /// The answer, if the request cannot be begun.
    pub fn admit(&self, request: &Message) -> Result<Admitted, Box<Message>> {
        let place = self.admission.admit(request)?;
        let observed = self.observer.begin(request, None);
        Ok(Admitted { at: self.at.clone(), place, observed })
    }
}

/// A request under way; it is not when this is dropped.
#[derive(Debug)]
pub struct Admitted {
    at: At,
    place: Place,
    observed: Observed,
}

impl Admitted {
    /// The answer; `None` if the agent cancelled it. What belongs to the request before its answer
    /// goes to `to_agent`.
    pub async fn answer(
        self,
        request: &Message,
        to_agent: mpsc::Sender<Message>,
    ) -> Option<Message> {
        let Self { at, place, observed } = self;
        let request = observed.passed_on(request);
        let answering = async {
            match &at {
                At::One(session) => session.answer(&request, to_agent).await,
                At::Several(session) => session.answer(&request, to_agent).await,
            }
        };
        let answer = place.hold(answering).await;
        if let Some(answer) = &answer {
            observed.end(answer);
        }
        answer
    }
}

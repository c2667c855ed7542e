//! What is known of tools whose arguments travel in headers too.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{Client, Connector, Talk};
use crate::{
    backend::own_meta,
    message::{Id, Message},
    parameters::Parameters,
};

/// How long what was learned is believed.
const BELIEVED: Duration = Duration::from_secs(10);
/// Pages of tools that are looked through.
const PAGES_MAX: usize = 100;

/// What was learned last, and when.
#[derive(Debug, Default)]
pub(super) struct Known {
    learned: Mutex<Option<(Instant, Arc<Parameters>)>>,
}

impl Connector {
    /// Which arguments of which tools travel in headers too. `anew`: whatever was known before.
    pub(crate) async fn parameters(&self, anew: bool) -> Arc<Parameters> {
        let known = self.tools.learned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((since, known)) = known
            && !anew
            && since.elapsed() < BELIEVED
        {
            return known;
        }
        let learned = Arc::new(self.learn().await);
        let mut known = self.tools.learned.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((Instant::now(), Arc::clone(&learned)));
        learned
    }

    async fn learn(&self) -> Parameters {
        let mut parameters = Parameters::default();
        let (to_agent, _unheard) = mpsc::channel(1);
        let talk = Talk { to_agent, questions: None };
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let params = format!(r#"{{{cursor}"_meta":{}}}"#, own_meta());
            let list = Message::request(Id::from_number(0), "tools/list", &params);
            let answer = self.answer(&Client::modern(), &list, &talk, &mut |_, _| {}).await;
            let Some(next) = parameters.learn(answer.body()) else { break };
            cursor = format!(r#""cursor":{},"#, serde_json::Value::from(next));
        }
        parameters
    }
}

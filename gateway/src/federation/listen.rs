//! `subscriptions/listen` at several servers: one at each, answered as one.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{Federation, Standing, lists_changed, prefix::Prefix, prefix::split_uri, rewrite};
use crate::{
    bridge::SUBSCRIPTION_ID,
    connect::{Connector, Talk, retry},
    message::{Id, Message, code, object_members},
};

/// How long servers may take to say what they tell of, before the agent is told without them.
const PATIENCE: Duration = Duration::from_secs(10);
/// Notifications that may wait for the agent.
const HEARD_MAX: usize = 256;
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
/// What is asked for, and the notification that tells it.
const LISTS: [(&str, &str); 3] = [
    ("toolsListChanged", "notifications/tools/list_changed"),
    ("promptsListChanged", "notifications/prompts/list_changed"),
    ("resourcesListChanged", "notifications/resources/list_changed"),
];

/// Tells the agent of changes until it wants no more.
pub(super) async fn run(federation: &Federation, request: &Message, talk: &Talk) -> Message {
    let Some(id) = request.id() else {
        return Message::error(None, code::INVALID_REQUEST, "a request is wanted", "");
    };
    let Some((span, filter)) = filter(request) else {
        let reason = "`notifications` must be a filter as MCP 2026-07-28 has it";
        return Message::error(Some(id), code::INVALID_PARAMS, reason, "");
    };
    let mut changes = federation.changes.clone();
    changes.mark_unchanged();
    let (heard, mut messages) = mpsc::channel(HEARD_MAX);
    // Ends them when the agent goes.
    let mut listening = JoinSet::new();
    let mut awaited = BTreeSet::new();
    for (index, member) in federation.members.iter().enumerate() {
        let own = json!(own_filter(&filter, &member.prefix)).to_string();
        let listener = Listener {
            index,
            request: request.with_body_part(&span, &own),
            standing: member.standing.clone(),
            heard: heard.clone(),
        };
        if member.connector().is_ok() {
            awaited.insert(index);
        }
        listening.spawn(listener.run());
    }
    let mut told = Told { filter: &filter, resources: Vec::new(), early: Vec::new() };
    let until = Instant::now() + PATIENCE;
    while !awaited.is_empty() {
        let Ok(Some((index, message))) = tokio::time::timeout_at(until, messages.recv()).await
        else {
            break;
        };
        let prefix = &federation.members[index].prefix;
        if message.method() == ACKNOWLEDGED {
            awaited.remove(&index);
            told.acknowledged(&message, prefix);
        } else if told.early.len() < HEARD_MAX {
            told.early.push(rewrite::notification(message, prefix));
        }
    }
    let mut going = talk.to_agent.send(told.acknowledgement(id)).await.is_ok();
    for message in told.early {
        going = going && talk.to_agent.send(message).await.is_ok();
    }
    while going {
        tokio::select! {
            Some((index, message)) = messages.recv() => {
                if message.method() != ACKNOWLEDGED {
                    let prefix = &federation.members[index].prefix;
                    let message = rewrite::notification(message, prefix);
                    going = talk.to_agent.send(message).await.is_ok();
                }
            }
            Ok(()) = changes.changed() => {
                for message in lists_changed(Some(id)).into_iter().filter(|m| wanted(&filter, m)) {
                    going = going && talk.to_agent.send(message).await.is_ok();
                }
            }
        }
    }
    let result = json!({"resultType": "complete", "_meta": {SUBSCRIPTION_ID: raw(id)}});
    Message::result(id, result.to_string().as_bytes())
}

type Filter = serde_json::Map<String, Value>;

/// The filter of a request, and where it stands in the params.
fn filter(request: &Message) -> Option<(std::ops::Range<usize>, Filter)> {
    let members = object_members(request.body())?;
    let member = members.into_iter().find(|member| member.name == "notifications")?;
    let filter: Filter = serde_json::from_str(member.value).ok()?;
    let lists = LISTS.iter().all(|(name, _)| filter.get(*name).is_none_or(Value::is_boolean));
    let uris = filter
        .get("resourceSubscriptions")
        .is_none_or(|uris| uris.as_array().is_some_and(|uris| uris.iter().all(Value::is_string)));
    (lists && uris).then_some((member.span, filter))
}

/// What is asked of one server.
fn own_filter(filter: &Filter, prefix: &Prefix) -> Filter {
    let mut own = filter.clone();
    if let Some(Value::Array(uris)) = own.get_mut("resourceSubscriptions") {
        let of_server = |uri: &Value| {
            let (of, rest) = split_uri(uri.as_str()?)?;
            (of == prefix.as_str()).then(|| Value::from(rest))
        };
        *uris = uris.iter().filter_map(of_server).collect();
    }
    own
}

/// Whether a change of a list was asked for.
fn wanted(filter: &Filter, message: &Message) -> bool {
    LISTS.iter().any(|(name, method)| {
        message.method() == *method && filter.get(*name) == Some(&Value::Bool(true))
    })
}

fn raw(id: &Id) -> Value {
    serde_json::from_str(id.as_raw()).unwrap_or_default()
}

/// What the servers tell of.
struct Told<'a> {
    filter: &'a Filter,
    resources: Vec<String>,
    /// What came before all of them had acknowledged.
    early: Vec<Message>,
}

impl Told<'_> {
    fn acknowledged(&mut self, message: &Message, prefix: &Prefix) {
        let params: Value = serde_json::from_str(message.body()).unwrap_or_default();
        let uris = params.pointer("/notifications/resourceSubscriptions").and_then(Value::as_array);
        let uris = uris.into_iter().flatten().filter_map(Value::as_str);
        self.resources.extend(uris.map(|uri| prefix.uri(uri)));
    }

    /// The acknowledgement for the agent: of lists it is told whatever the servers tell of theirs,
    /// since servers come and go.
    fn acknowledgement(&self, id: &Id) -> Message {
        let mut accepted = Filter::new();
        for (name, _) in LISTS {
            if self.filter.get(name) == Some(&Value::Bool(true)) {
                accepted.insert(name.to_owned(), Value::Bool(true));
            }
        }
        if !self.resources.is_empty() {
            accepted.insert("resourceSubscriptions".to_owned(), json!(self.resources));
        }
        let params = json!({"_meta": {SUBSCRIPTION_ID: raw(id)}, "notifications": accepted});
        Message::notification(ACKNOWLEDGED, &params.to_string())
    }
}

/// Listens at one server, and again whenever that ends.
struct Listener {
    index: usize,
    request: Message,
    standing: watch::Receiver<Standing>,
    heard: mpsc::Sender<(usize, Message)>,
}

impl Listener {
    /// The server, once it is there.
    async fn found(&mut self) -> Option<Arc<Connector>> {
        let found = self.standing.wait_for(|s| matches!(s, Standing::Found(_))).await.ok()?;
        match &*found {
            Standing::Found(connector) => Some(Arc::clone(connector)),
            Standing::Sought | Standing::Absent(_) => None,
        }
    }

    async fn run(mut self) {
        loop {
            let Some(connector) = self.found().await else { return };
            let (to_agent, mut messages) = mpsc::channel(HEARD_MAX);
            let talk = Talk { to_agent, questions: None };
            let listening = connector.answer_modern(&self.request, &talk);
            let passing = async {
                while let Some(message) = messages.recv().await {
                    if self.heard.send((self.index, message)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                answer = listening => {
                    tracing::debug!(answer = answer.body(), "a server's subscription has ended");
                }
                () = passing => return,
            }
            tokio::time::sleep(retry()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_asked_for_its_own_resources() {
        let params = r#"{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a+u:1","b+u:2","u:3"]}}"#;
        let request = Message::request(Id::from_number(1), "subscriptions/listen", params);
        let (span, filter) = filter(&request).unwrap();
        let own = own_filter(&filter, &Prefix::new("b").unwrap());
        let sent = request.with_body_part(&span, &json!(own).to_string());
        let sent: Value = serde_json::from_str(sent.body()).unwrap();
        let expected = json!({"toolsListChanged": true, "resourceSubscriptions": ["u:2"]});
        assert_eq!(sent["notifications"], expected);
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        for params in [
            "{}",
            r#"{"notifications":1}"#,
            r#"{"notifications":{"toolsListChanged":1}}"#,
            r#"{"notifications":{"resourceSubscriptions":[1]}}"#,
        ] {
            let request = Message::request(Id::from_number(1), "subscriptions/listen", params);
            assert!(filter(&request).is_none(), "{params}");
        }
    }
}

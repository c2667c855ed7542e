//! `subscriptions/listen` of MCP 2026-07-28, answered from tracks.

use std::time::Duration;

use futures::{StreamExt as _, future::join_all, stream};
use serde::Deserialize;

use super::{
    Client, Connector, Talk, call,
    follow::{Followed, Follower, follow},
};
use crate::{
    bridge::SUBSCRIPTION_ID,
    description::Notifies,
    message::{Id, Message, code, object_members},
    read::Read,
};

/// How long tracks may take to say whether they can be followed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Resources that one request may follow.
const RESOURCES_MAX: usize = 1_000;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Filter {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
    resource_subscriptions: Vec<String>,
}

/// Tells the agent of changes until it wants no more.
pub(super) async fn run(
    connector: &Connector,
    client: &Client,
    request: &Message,
    talk: &Talk,
) -> Message {
    let Some(id) = request.id() else {
        return Message::error(None, code::INVALID_REQUEST, "a request is wanted", "");
    };
    let members = object_members(request.body()).unwrap_or_default();
    let filter = members.iter().find(|member| member.name == "notifications");
    let filter = filter.and_then(|member| serde_json::from_str::<Filter>(member.value).ok());
    let Some(filter) = filter.filter(|f| f.resource_subscriptions.len() <= RESOURCES_MAX) else {
        let reason = format!(
            "`notifications` must be a filter as MCP 2026-07-28 has it, with at most \
             {RESOURCES_MAX} resources"
        );
        return Message::error(Some(id), code::INVALID_PARAMS, &reason, "");
    };
    let description = connector.description();
    let wanted = filter.reads(description.notifies);
    let followed = join_all(wanted.into_iter().map(|read| begin(connector, read))).await;
    let (accepted, refused): (Vec<_>, Vec<_>) =
        followed.into_iter().partition(|(_, follower)| follower.is_some());
    if !refused.is_empty() && description.revision.is_modern() {
        // What tracks do not carry, the server itself tells.
        return call::run(connector, client, request, talk).await;
    }
    let acknowledged = acknowledgement(id, accepted.iter().map(|(read, _)| read));
    if talk.to_agent.send(acknowledged).await.is_err() {
        return ended(id);
    }
    let changes = accepted.into_iter().filter_map(|(read, follower)| {
        let follower = follower?;
        Some(Box::pin(stream::unfold((read, follower), |(read, mut follower)| async move {
            let followed = follower.changes.recv().await?;
            Some(((read.clone(), followed), (read, follower)))
        })))
    });
    let mut changes = stream::select_all(changes);
    loop {
        match changes.next().await {
            Some((read, Followed::Changed(_))) => {
                if talk.to_agent.send(notification(&read, Some(id))).await.is_err() {
                    return ended(id);
                }
            }
            Some((_, Followed::Current(_) | Followed::Refused(_))) => {}
            // Nothing is followed, or nothing can be any more: the agent ends it, not we.
            None => std::future::pending::<()>().await,
        }
    }
}

/// Follows a track; `None` if it cannot be followed.
async fn begin(connector: &Connector, read: Read) -> (Read, Option<Follower>) {
    let Ok(track) = connector.options.server.track(&read.track_name()) else {
        return (read, None);
    };
    let mut follower = follow(connector.link.clone(), track);
    let first = tokio::time::timeout(PATIENCE, follower.changes.recv()).await;
    let followed = !matches!(first, Ok(Some(Followed::Refused(_)) | None));
    (read, followed.then_some(follower))
}

impl Filter {
    /// The tracks of what is wanted, as far as the server tells of it.
    fn reads(&self, notifies: Notifies) -> Vec<Read> {
        let mut reads = Vec::new();
        if self.tools_list_changed && notifies.tools {
            reads.push(Read::Tools);
        }
        if self.prompts_list_changed && notifies.prompts {
            reads.push(Read::Prompts);
        }
        if self.resources_list_changed && notifies.resources {
            reads.push(Read::Resources);
        }
        if notifies.updates {
            let resources = self.resource_subscriptions.iter().cloned();
            reads.extend(resources.map(|uri| Read::Resource { uri }));
        }
        reads
    }
}

fn acknowledgement<'a>(id: &Id, reads: impl Iterator<Item = &'a Read>) -> Message {
    let (mut members, mut resources) = (Vec::new(), Vec::new());
    for read in reads {
        match read {
            Read::Tools => members.push(r#""toolsListChanged":true"#.to_owned()),
            Read::Prompts => members.push(r#""promptsListChanged":true"#.to_owned()),
            Read::Resources => members.push(r#""resourcesListChanged":true"#.to_owned()),
            Read::Resource { uri } => {
                resources.push(serde_json::Value::from(uri.as_str()).to_string());
            }
            Read::Templates | Read::Prompt { .. } => {}
        }
    }
    if !resources.is_empty() {
        members.push(format!(r#""resourceSubscriptions":[{}]"#, resources.join(",")));
    }
    let params = format!(
        r#"{{"_meta":{{"{SUBSCRIPTION_ID}":{}}},"notifications":{{{}}}}}"#,
        id.as_raw(),
        members.join(",")
    );
    Message::notification("notifications/subscriptions/acknowledged", &params)
}

/// The notification that a track has changed; `listen` is the id of the request that asked.
pub(crate) fn notification(read: &Read, listen: Option<&Id>) -> Message {
    let meta = listen.map(|id| format!(r#""_meta":{{"{SUBSCRIPTION_ID}":{}}}"#, id.as_raw()));
    let (method, uri) = match read {
        Read::Tools => ("notifications/tools/list_changed", None),
        Read::Prompts | Read::Prompt { .. } => ("notifications/prompts/list_changed", None),
        Read::Resources | Read::Templates => ("notifications/resources/list_changed", None),
        Read::Resource { uri } => {
            let uri = format!(r#""uri":{}"#, serde_json::Value::from(uri.as_str()));
            ("notifications/resources/updated", Some(uri))
        }
    };
    let members: Vec<String> = meta.into_iter().chain(uri).collect();
    let params =
        if members.is_empty() { String::new() } else { format!("{{{}}}", members.join(",")) };
    Message::notification(method, &params)
}

fn ended(id: &Id) -> Message {
    let result =
        format!(r#"{{"resultType":"complete","_meta":{{"{SUBSCRIPTION_ID}":{}}}}}"#, id.as_raw());
    Message::result(id, result.as_bytes())
}

//! What a server that was never seen before offers, and what of it may be asked.

use std::time::Duration;

use aip_gateway::message::{Id, Message};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    plan::{Plan, Request},
    schema,
    target::Connection,
};

/// How long a tool that nobody named may take to be put under load.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pages of a list that are read.
const PAGES_MAX: usize = 100;
/// Resources that are read in turn.
const RESOURCES_MAX: usize = 20;

/// What a server offers.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// Its tools.
    pub tools: Vec<Tool>,
    /// Its resources' URIs.
    pub resources: Vec<String>,
}

/// A tool.
#[derive(Clone, Debug, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it says of its arguments.
    #[serde(default, rename = "inputSchema")]
    pub schema: Value,
    /// What it says of itself.
    #[serde(default)]
    pub annotations: Annotations,
}

/// Hints; a server need not be honest.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Annotations {
    /// Whether it changes nothing.
    #[serde(default, rename = "readOnlyHint")]
    pub read_only: bool,
}

impl Offer {
    /// Asks a server for its lists.
    ///
    /// # Errors
    /// If it answers none of them.
    pub async fn of(connection: &Connection) -> Result<Self, String> {
        let tools = list(connection, "tools/list", "tools").await;
        let resources = list(connection, "resources/list", "resources").await;
        if let (Err(reason), Err(_)) = (&tools, &resources) {
            return Err(format!("the server lists neither tools nor resources: {reason}"));
        }
        let tools = tools.unwrap_or_default().into_iter();
        let resources = resources.unwrap_or_default().into_iter();
        Ok(Self {
            tools: tools.filter_map(|tool| serde_json::from_value(tool).ok()).collect(),
            resources: resources
                .filter_map(|resource| Some(resource.get("uri")?.as_str()?.to_owned()))
                .take(RESOURCES_MAX)
                .collect(),
        })
    }

    /// The tools that do not say that they only read.
    pub fn unsure(&self) -> Vec<&Tool> {
        self.tools.iter().filter(|tool| !tool.annotations.read_only).collect()
    }

    /// The tools that may be called: those `named`; or, if none is, those that say they only read
    /// and those `besides`.
    pub fn allowed(&self, named: &[String], besides: &[String]) -> Vec<&Tool> {
        let may = |tool: &&Tool| {
            if named.is_empty() {
                tool.annotations.read_only || besides.contains(&tool.name)
            } else {
                named.contains(&tool.name)
            }
        };
        self.tools.iter().filter(may).collect()
    }

    /// A plan's requests, with the tools and resources that it leaves open; or, if it has none,
    /// what fits the server: calls, reads and lists as six to three to one. Gives the names of the
    /// tools that it filled in.
    pub fn complete(&self, plan: &mut Plan, allowed: &[&Tool]) -> Vec<String> {
        let kind = |method: &str, weight| Request {
            method: method.to_owned(),
            weight,
            ..Request::default()
        };
        if plan.requests.is_empty() {
            plan.requests =
                vec![kind("tools/call", 6.0), kind("resources/read", 3.0), kind("tools/list", 1.0)];
            if self.tools.is_empty() {
                plan.requests.retain(|request| !request.method.starts_with("tools/"));
            }
        }
        // Not the run's seed: runs with other seeds ask for the same, and their reports add up.
        let mut random = fastrand::Rng::with_seed(0);
        let mut complete = Vec::new();
        let mut filled_in = Vec::new();
        for request in std::mem::take(&mut plan.requests) {
            match (request.method.as_str(), &request.tool) {
                ("tools/call", None) => {
                    let share = request.weight() / allowed.len().max(1) as f64;
                    filled_in.extend(allowed.iter().map(|tool| tool.name.clone()));
                    complete.extend(allowed.iter().map(|tool| Request {
                        weight: share,
                        tool: Some(tool.name.clone()),
                        arguments: Some(arguments(tool, &mut random)),
                        ..request.clone()
                    }));
                }
                ("tools/call", Some(name)) if request.arguments.is_none() => {
                    let tool = self.tools.iter().find(|tool| tool.name == *name);
                    let arguments = tool.map(|tool| arguments(tool, &mut random));
                    complete.push(Request { arguments, ..request });
                }
                ("resources/read", _) if request.uris.is_empty() => {
                    if !self.resources.is_empty() {
                        complete.push(Request { uris: self.resources.clone(), ..request });
                    }
                }
                _ => complete.push(request),
            }
        }
        plan.requests = complete;
        filled_in
    }
}

/// Calls each of these tools once, as the plan would, and takes those out of the plan that fail or
/// take longer than 2 s: what nobody knows is not to be measured by errors and time-outs. Says which.
pub async fn try_once(connection: &Connection, plan: &mut Plan, tools: &[String]) -> Vec<String> {
    let mut left_out = Vec::new();
    for (index, name) in tools.iter().enumerate() {
        let is_it = |request: &&Request| request.tool.as_ref() == Some(name);
        let Some(request) = plan.requests.iter().find(is_it) else { continue };
        let params = Map::from_iter([
            ("name".to_owned(), Value::from(name.as_str())),
            ("arguments".to_owned(), Value::from(request.arguments.clone().unwrap_or_default())),
        ]);
        let id = Id::from_number(10_000 + index as u64);
        let params = connection.params(&params, None);
        let call = connection.ask(Message::request(id, "tools/call", &params));
        let why = match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(_)) => continue,
            Ok(Err(failure)) => format!("one call of it failed: {}", failure.kind()),
            Err(_) => "one call of it took longer than 2 s".to_owned(),
        };
        left_out.push(format!("{} is left out: {why}", name.escape_debug()));
        plan.requests.retain(|request| request.tool.as_ref() != Some(name));
    }
    left_out
}

fn arguments(tool: &Tool, random: &mut fastrand::Rng) -> Map<String, Value> {
    match schema::generate(&tool.schema, random) {
        Value::Object(arguments) => arguments,
        _ => Map::new(),
    }
}

/// All pages of a list.
async fn list(connection: &Connection, method: &str, member: &str) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    for page in 0..PAGES_MAX {
        let mut params = Map::new();
        if let Some(cursor) = &cursor {
            params.insert("cursor".to_owned(), Value::from(cursor.as_str()));
        }
        let id = Id::from_number(1_000 + page as u64);
        let request = Message::request(id, method, &connection.params(&params, None));
        let answer = connection
            .ask(request)
            .await
            .map_err(|failure| format!("{method}: {}", failure.kind()))?;
        let result: Value =
            serde_json::from_str(answer.body()).map_err(|error| format!("{method}: {error}"))?;
        if let Some(Value::Array(items)) = result.get(member) {
            all.extend(items.iter().cloned());
        }
        cursor = result.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn offer() -> Offer {
        let tool = |name: &str, read_only: bool| {
            serde_json::from_value(json!({
                "name": name,
                "inputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
                "annotations": {"readOnlyHint": read_only}
            }))
            .unwrap()
        };
        Offer {
            tools: vec![tool("look", true), tool("delete", false)],
            resources: vec!["a:b".into()],
        }
    }

    #[test]
    fn what_changes_something_is_asked_about() {
        let offer = offer();
        let names =
            |tools: Vec<&Tool>| tools.iter().map(|tool| tool.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(offer.unsure()), ["delete"]);
        assert_eq!(names(offer.allowed(&[], &[])), ["look"]);
        let delete = ["delete".to_owned()];
        assert_eq!(names(offer.allowed(&[], &delete)), ["look", "delete"]);
        assert_eq!(names(offer.allowed(&delete, &[])), ["delete"]);
    }

    #[test]
    fn an_empty_plan_gets_what_fits_the_server() {
        let offer = offer();
        let mut plan = Plan::default();
        let filled_in = offer.complete(&mut plan, &offer.allowed(&[], &[]));
        assert_eq!(filled_in, ["look"]);
        let methods: Vec<_> = plan.requests.iter().map(|it| it.method.as_str()).collect();
        assert_eq!(methods, ["tools/call", "resources/read", "tools/list"]);
        assert_eq!(plan.requests[0].tool.as_deref(), Some("look"));
        assert!(plan.requests[0].arguments.as_ref().unwrap()["n"].is_i64());
        assert_eq!(plan.requests[1].uris, ["a:b"]);
    }
}

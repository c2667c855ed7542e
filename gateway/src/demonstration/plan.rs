//! What the agents do: chosen by what the server offers.

use rmcp::model::{CallToolRequestParams, JsonObject};
use serde_json::{Value, json};

use super::{
    Options,
    agent::Agent,
    shelf::{self, Shelf},
};

/// A tool to call, and what its answers must hold.
#[derive(Clone, Debug)]
enum Tool {
    /// The library's: finds a note by its needle.
    Search,
    /// Says what it is told.
    Echo {
        /// The argument to say it in.
        argument: String,
    },
    /// Any other that wants no argument.
    Bare {
        /// Its name.
        name: String,
    },
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    tool: Option<Tool>,
    /// The resource that all agents read.
    pub(super) resource: Option<String>,
    follows: bool,
    counts: bool,
    skipped: Vec<String>,
}

impl Plan {
    /// Asks the server what it offers.
    pub(super) async fn make(
        agents: &[Agent],
        options: &Options,
        shelf: &Shelf,
    ) -> Result<Self, String> {
        let first = agents.first().ok_or("there are no agents")?;
        let mut skipped = Vec::new();
        if options.server.is_none() {
            let resource = format!("library:///{}", shelf::NEWS);
            debug_assert!(shelf.folder().join(shelf::NEWS).exists(), "the news is there");
            let tool = Some(Tool::Search);
            return Ok(Self {
                tool,
                resource: Some(resource),
                follows: true,
                counts: true,
                skipped,
            });
        }
        let tool = first.tools().await?.iter().filter_map(tool_of).min_by_key(|tool| match tool {
            Tool::Echo { .. } => 0,
            Tool::Bare { .. } | Tool::Search => 1,
        });
        if tool.is_none() {
            skipped.push(
                "calls: the server has neither a tool `echo` nor one that wants no argument".into(),
            );
        }
        let resource = first.first_resource().await;
        if resource.is_none() {
            skipped.push("reads: the server lists no resource".to_owned());
        }
        skipped.push("changes: only the server could make its resources change".to_owned());
        Ok(Self { tool, resource, follows: false, counts: false, skipped })
    }

    /// What is done and what is not, for people.
    pub(super) fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match &self.tool {
            Some(Tool::Search) => lines.push("the agents search, each for its own needle".into()),
            Some(Tool::Echo { .. }) => {
                lines.push("the agents call `echo`, each with its own words".into())
            }
            Some(Tool::Bare { name }) => lines.push(format!("the agents call `{name}`")),
            None => {}
        }
        if let Some(resource) = &self.resource {
            lines.push(format!("all agents read {resource}"));
        }
        lines.extend(self.skipped.iter().map(|skipped| format!("skipped {skipped}")));
        lines
    }

    /// Whether the resource is changed, and every agent must be told.
    pub(super) const fn follows_changes(&self) -> bool {
        self.follows
    }

    /// An agent's next call, and what its answer must hold.
    pub(super) fn call(
        &self,
        agent: usize,
        number: usize,
    ) -> Option<(CallToolRequestParams, String)> {
        let (name, arguments, expected) = match self.tool.as_ref()? {
            Tool::Search => {
                let note = (agent * 13 + number) % 100;
                let words = shelf::needle(note);
                let expected = format!("note-{note}.md:3: {words}");
                ("search".to_owned(), json!({"words": words}), expected)
            }
            Tool::Echo { argument } => {
                let words = format!("agent {agent} call {number}.");
                ("echo".to_owned(), json!({argument.as_str(): words}), words)
            }
            Tool::Bare { name } => (name.clone(), json!({}), String::new()),
        };
        let call = CallToolRequestParams::new(name);
        Some((call.with_arguments(arguments.as_object().cloned().unwrap_or_default()), expected))
    }

    /// How often the server says that it was asked to read, if it counts that.
    pub(super) async fn asked(&self, agents: &[Agent]) -> Option<u64> {
        let first = agents.first().filter(|_| self.counts)?;
        let text = first.call_text(CallToolRequestParams::new("statistics")).await.ok()?;
        serde_json::from_str::<Value>(&text).ok()?.get("reads")?.as_u64()
    }
}

/// What a listed tool is good for here; `None` if it must not be called just so.
fn tool_of(tool: &Value) -> Option<Tool> {
    let name = tool.get("name")?.as_str()?;
    let schema = tool.get("inputSchema")?;
    let empty = JsonObject::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if name == "echo" {
        let argument = match required[..] {
            [argument] => argument,
            _ => properties.keys().next()?,
        };
        return Some(Tool::Echo { argument: argument.to_owned() });
    }
    let read_only = tool.pointer("/annotations/readOnlyHint").and_then(Value::as_bool);
    (required.is_empty() && read_only == Some(true)).then(|| Tool::Bare { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_tools_are_called() {
        let echo = json!({"name": "echo", "inputSchema": {"required": ["message"], "properties": {"message": {}}}});
        assert!(matches!(tool_of(&echo), Some(Tool::Echo { argument }) if argument == "message"));
        let bare = json!({"name": "now", "inputSchema": {}, "annotations": {"readOnlyHint": true}});
        assert!(matches!(tool_of(&bare), Some(Tool::Bare { .. })));
        for other in [
            json!({"name": "drop_table", "inputSchema": {}}),
            json!({"name": "read", "inputSchema": {"required": ["path"]}, "annotations": {"readOnlyHint": true}}),
        ] {
            assert!(tool_of(&other).is_none(), "{other}");
        }
    }
}

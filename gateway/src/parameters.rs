//! Arguments of tools that travel in headers too (`x-mcp-header`, 2026-07-28).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::header::encoded;

/// How deep an annotated argument may stand.
const DEPTH_MAX: usize = 16;

/// For each tool, the headers of its arguments and where these stand.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Parameters {
    tools: BTreeMap<String, Vec<(String, Vec<String>)>>,
    /// Tools whose definitions name headers in a way that is forbidden: nobody may call them.
    refused: BTreeSet<String>,
}

impl Parameters {
    /// Learns from a result of `tools/list`. The cursor of the next page, if there is one.
    pub(crate) fn learn(&mut self, result: &str) -> Option<String> {
        let result: Value = serde_json::from_str(result).ok()?;
        for tool in result.get("tools")?.as_array()? {
            let Some(name) = tool.get("name").and_then(Value::as_str) else { continue };
            let mut found = Vec::new();
            let schema = tool.get("inputSchema").unwrap_or(&Value::Null);
            if annotated(schema, &mut Vec::new(), &mut found) == Annotations::Forbidden {
                self.refused.insert(name.to_owned());
            } else if !found.is_empty() {
                self.tools.insert(name.to_owned(), found);
            }
        }
        result.get("nextCursor")?.as_str().map(ToOwned::to_owned)
    }

    /// Whether a tool's definition is one that a client has to reject.
    pub(crate) fn refuses(&self, tool: &str) -> bool {
        self.refused.contains(tool)
    }

    /// Learns what is known of another server's tools, whose names are changed.
    pub(crate) fn learn_renamed(&mut self, other: &Self, renamed: impl Fn(&str) -> String) {
        let tools = other.tools.iter().map(|(tool, headers)| (renamed(tool), headers.clone()));
        self.tools.extend(tools);
    }

    /// Each header that a tool's arguments may have, and what it must say; `None` is that it must
    /// not be there.
    pub(crate) fn wanted(&self, tool: &str, arguments: &Value) -> Vec<(String, Option<String>)> {
        let annotated = self.tools.get(tool).into_iter().flatten();
        annotated
            .map(|(name, path)| {
                let value = path.iter().try_fold(arguments, |value, step| value.get(step));
                (format!("mcp-param-{name}"), value.and_then(text_of))
            })
            .collect()
    }

    /// The headers of a call: name and value.
    pub(crate) fn headers(&self, tool: &str, arguments: &Value) -> Vec<(String, String)> {
        let wanted = self.wanted(tool, arguments).into_iter();
        wanted.filter_map(|(name, text)| Some((name, encoded(&text?)))).collect()
    }
}

/// An argument as a header says it.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) => Some(value.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        // An integer may be written as 42.0.
        Value::Number(number) => {
            number.as_f64().filter(|n| n.fract() == 0.0).map(|n| n.to_string())
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What becomes of a tool's annotations.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Annotations {
    Good,
    /// A header's name is none, or stands twice, or is that of no string, integer or boolean.
    Forbidden,
}

/// Every annotated property that is reached by `properties` alone.
fn annotated(
    schema: &Value,
    path: &mut Vec<String>,
    found: &mut Vec<(String, Vec<String>)>,
) -> Annotations {
    let properties = schema.get("properties").and_then(Value::as_object);
    let Some(properties) = properties.filter(|_| path.len() < DEPTH_MAX) else {
        return Annotations::Good;
    };
    for (name, property) in properties {
        path.push(name.clone());
        if let Some(header) = property.get("x-mcp-header") {
            let header = header.as_str().unwrap_or_default().to_ascii_lowercase();
            let twice = found.iter().any(|(known, _)| *known == header);
            if !is_token(&header) || twice || !is_primitive(property) {
                return Annotations::Forbidden;
            }
            found.push((header, path.clone()));
        }
        if annotated(property, path, found) == Annotations::Forbidden {
            return Annotations::Forbidden;
        }
        path.pop();
    }
    Annotations::Good
}

/// Whether a property is, or may be, a string, an integer or a boolean.
fn is_primitive(property: &Value) -> bool {
    let primitive = |kind: &Value| matches!(kind.as_str(), Some("string" | "integer" | "boolean"));
    match property.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(primitive),
        Some(kind) => primitive(kind),
        None => true,
    }
}

/// Whether a header's name can be this (RFC 9110 section 5.1).
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn annotated_arguments_become_headers() {
        let mut parameters = Parameters::default();
        let list = json!({"nextCursor": "c", "tools": [{"name": "sql", "inputSchema": {"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
            "list": {"items": {"properties": {"x": {"x-mcp-header": "X"}}}},
        }}}]});
        assert_eq!(parameters.learn(&list.to_string()).as_deref(), Some("c"));
        let arguments = json!({"region": "zürich", "deep": {"n": -7}, "query": 1});
        assert_eq!(
            parameters.headers("sql", &arguments),
            [
                ("mcp-param-n".to_owned(), "-7".to_owned()),
                ("mcp-param-region".to_owned(), "=?base64?esO8cmljaA==?=".to_owned()),
            ]
        );
        assert_eq!(parameters.headers("sql", &json!({"region": null})), []);
        assert_eq!(parameters.headers("other", &arguments), []);
    }
    #[test]
    fn a_tool_that_names_headers_wrongly_is_refused() {
        for property in [
            json!({"type": "string", "x-mcp-header": "a b"}),
            json!({"type": "string", "x-mcp-header": ""}),
            json!({"type": "string", "x-mcp-header": 1}),
            json!({"type": "number", "x-mcp-header": "N"}),
            json!({"type": "object", "x-mcp-header": "N"}),
            json!({"type": "null", "x-mcp-header": "N"}),
            json!({"type": "string", "x-mcp-header": "TWICE"}),
        ] {
            let mut parameters = Parameters::default();
            let list = json!({"tools": [{"name": "bad", "inputSchema": {"properties": {
                "good": {"type": "string", "x-mcp-header": "Twice"}, "other": property,
            }}}, {"name": "good"}]});
            parameters.learn(&list.to_string());
            assert!(parameters.refuses("bad"), "{property}");
            assert!(!parameters.refuses("good"));
            assert_eq!(parameters.headers("bad", &json!({"good": "x"})), []);
        }
    }
}

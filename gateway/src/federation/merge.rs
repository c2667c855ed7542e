//! What several servers say, as one.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::{
    prefix::Prefix,
    rewrite::{self, List},
};
use crate::{
    connect::CACHE_STATUS,
    description::Description,
    message::{array_items, meta, object_members, string_member},
    revision::Revision,
};

/// In the `_meta` of a merged list: the servers that are missing in it, and why.
const UNAVAILABLE: &str = "aip/unavailable";
/// Bytes of a cursor that is looked into.
const CURSOR_LENGTH_MAX: usize = 64 << 10;

/// The servers whose lists have more, and where each goes on.
pub(super) type Cursor = BTreeMap<String, String>;

/// A cursor as agents see it.
fn encoded(cursor: &Cursor) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json!(cursor).to_string())
}

/// The cursor that an agent gives back; `None` if it is none of ours.
pub(super) fn decoded(cursor: &str) -> Option<Cursor> {
    if CURSOR_LENGTH_MAX < cursor.len() {
        return None;
    }
    let text = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
    serde_json::from_slice::<Cursor>(&text).ok().filter(|cursor| !cursor.is_empty())
}

/// A page of a list of several servers.
#[derive(Debug)]
pub(super) struct Page {
    list: List,
    items: Vec<String>,
    next: Cursor,
    ttl_ms: Option<f64>,
    private: bool,
    statuses: Map<String, Value>,
    unavailable: Map<String, Value>,
}

impl Page {
    pub(super) fn new(list: List) -> Self {
        Self {
            list,
            items: Vec::new(),
            next: Cursor::new(),
            ttl_ms: None,
            private: false,
            statuses: Map::new(),
            unavailable: Map::new(),
        }
    }

    /// Adds a server's page. Whether it is one.
    pub(super) fn add(&mut self, prefix: &Prefix, result: &str) -> bool {
        let Some(members) = object_members(result) else { return false };
        let value = |name: &str| members.iter().find(|m| m.name == name).map(|m| m.value);
        let Some(items) = value(self.list.member()).and_then(array_items) else { return false };
        self.items.extend(items.into_iter().map(|(_, i)| rewrite::item(self.list, i, prefix)));
        if let Some(cursor) = string_member(result, "nextCursor") {
            self.next.insert(prefix.to_string(), cursor);
        }
        if let Some(ttl) = value("ttlMs").and_then(|ttl| ttl.parse::<f64>().ok()) {
            self.ttl_ms = Some(self.ttl_ms.map_or(ttl, |least| least.min(ttl)));
        }
        self.private |= value("cacheScope").is_some_and(|scope| scope != r#""public""#);
        if let Some(status) = meta(result, CACHE_STATUS) {
            let status = serde_json::from_str(status.value).unwrap_or_default();
            self.statuses.insert(prefix.to_string(), status);
        }
        true
    }

    /// A server is missing.
    pub(super) fn miss(&mut self, prefix: &Prefix, reason: &str) {
        self.unavailable.insert(prefix.to_string(), reason.into());
    }

    /// Whether servers are missing.
    pub(super) fn misses(&self) -> bool {
        !self.unavailable.is_empty()
    }

    /// The result of the page for an agent of this revision.
    pub(super) fn result(self, revision: Revision) -> String {
        let mut text = format!(r#"{{"{}":[{}]"#, self.list.member(), self.items.join(","));
        if !self.next.is_empty() {
            text.push_str(&format!(r#","nextCursor":"{}""#, encoded(&self.next)));
        }
        if revision.is_modern() {
            // A page that misses something is not to be kept.
            let kept = self.ttl_ms.filter(|_| self.unavailable.is_empty()).unwrap_or(0.0);
            let scope = if self.private { "private" } else { "public" };
            text.push_str(&format!(
                r#","resultType":"complete","ttlMs":{},"cacheScope":"{scope}""#,
                kept.max(0.0)
            ));
        }
        let mut said = Map::new();
        if !self.statuses.is_empty() {
            said.insert(CACHE_STATUS.to_owned(), self.statuses.into());
        }
        if !self.unavailable.is_empty() {
            said.insert(UNAVAILABLE.to_owned(), self.unavailable.into());
        }
        if !said.is_empty() {
            text.push_str(&format!(r#","_meta":{}"#, Value::Object(said)));
        }
        text.push('}');
        text
    }
}

/// What all servers can do together. Tasks are left out: their names are the servers' own.
fn capabilities(servers: &[(Prefix, std::sync::Arc<Description>)]) -> Value {
    let mut merged = Map::new();
    for (_, description) in servers {
        let said =
            description.member("capabilities").and_then(|text| serde_json::from_str(text).ok());
        let said: Map<String, Value> = said.unwrap_or_default();
        for (name, capability) in said.into_iter().filter(|(name, _)| name != "tasks") {
            match merged.get_mut(&name).and_then(Value::as_object_mut) {
                // What one of them can do, all together can.
                Some(known) => {
                    for (detail, value) in capability.as_object().cloned().unwrap_or_default() {
                        let known = known.entry(detail).or_insert_with(|| value.clone());
                        if value == Value::Bool(true) {
                            *known = value;
                        }
                    }
                }
                None => _ = merged.insert(name, capability),
            }
        }
    }
    // Servers come and go, and agents are told of that.
    for list in ["tools", "prompts", "resources"] {
        if let Some(known) = merged.get_mut(list).and_then(Value::as_object_mut) {
            known.insert("listChanged".to_owned(), Value::Bool(true));
        }
    }
    merged.into()
}

/// What the servers tell of how they are used, each under its prefix.
fn instructions(servers: &[(Prefix, std::sync::Arc<Description>)]) -> String {
    let mut text = "Several servers. Names of their tools and prompts begin with the server's \
                    prefix and `_`, URIs of their resources with the prefix and `+`.\n"
        .to_owned();
    for (prefix, description) in servers {
        let said = string_member(description.text(), "instructions").unwrap_or_default();
        let end = if said.is_empty() { "" } else { ": " };
        text.push_str(&format!("\n{prefix}_{end}{said}\n"));
    }
    text
}

fn server_info(servers: &[(Prefix, std::sync::Arc<Description>)]) -> Value {
    let prefixes: Vec<&str> = servers.iter().map(|(prefix, _)| prefix.as_str()).collect();
    json!({
        "name": "aip-mcp", "title": prefixes.join(", "), "version": env!("CARGO_PKG_VERSION"),
    })
}

/// The result of `initialize`.
pub(super) fn initialize_result(
    servers: &[(Prefix, std::sync::Arc<Description>)],
    negotiated: Revision,
) -> String {
    json!({
        "protocolVersion": negotiated.as_str(),
        "capabilities": capabilities(servers),
        "serverInfo": server_info(servers),
        "instructions": instructions(servers),
    })
    .to_string()
}

/// The result of `server/discover`.
pub(super) fn discover_result(servers: &[(Prefix, std::sync::Arc<Description>)]) -> String {
    json!({
        "resultType": "complete",
        "supportedVersions": [Revision::LATEST.as_str()],
        "capabilities": capabilities(servers),
        "instructions": instructions(servers),
        "_meta": {"io.modelcontextprotocol/serverInfo": server_info(servers)},
        "ttlMs": 0,
        "cacheScope": "public",
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::new(text).unwrap()
    }

    #[test]
    fn pages_of_several_servers_are_one_page() {
        let mut page = Page::new(List::Tools);
        assert!(page.add(&prefix("a"), r#"{"tools":[{"name":"x", "n":1.50}],"nextCursor":"c","ttlMs":500,"cacheScope":"public"}"#));
        assert!(
            page.add(&prefix("b"), r#"{"tools":[{"name":"x"}],"ttlMs":90,"cacheScope":"private"}"#)
        );
        let result = page.result(Revision::LATEST);
        let cursor = string_member(&result, "nextCursor").unwrap();
        assert_eq!(decoded(&cursor), Some(Cursor::from([("a".to_owned(), "c".to_owned())])));
        let rest = result.replace(&cursor, "");
        assert_eq!(
            rest,
            r#"{"tools":[{"name":"a_x", "n":1.50},{"name":"b_x"}],"nextCursor":"","resultType":"complete","ttlMs":90,"cacheScope":"private"}"#
        );
        for wrong in ["", "c", "e30", "W10", "e30=", &"a".repeat(100_000)] {
            assert_eq!(decoded(wrong), None, "{wrong:.9}");
        }
    }

    #[test]
    fn a_page_says_who_is_missing_in_it() {
        let mut page = Page::new(List::Tools);
        assert!(!page.add(&prefix("a"), r#"{"toolz":[]}"#));
        page.miss(&prefix("a"), "gone");
        assert!(page.add(&prefix("b"), r#"{"tools":[],"ttlMs":90,"cacheScope":"public"}"#));
        assert_eq!(
            page.result(Revision::LATEST),
            r#"{"tools":[],"resultType":"complete","ttlMs":0,"cacheScope":"public","_meta":{"aip/unavailable":{"a":"gone"}}}"#
        );
        assert_eq!(Page::new(List::Prompts).result(Revision::V2025_11_25), r#"{"prompts":[]}"#);
    }

    #[test]
    fn together_they_can_do_what_one_of_them_can() {
        let of = |name: &str, capabilities: &str| {
            let text = format!(
                r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"serverInfo":{{"name":"s","version":"1"}},"instructions":"use {name}"}}"#
            );
            (prefix(name), Arc::new(Description::from_result(Bytes::from(text)).unwrap()))
        };
        let servers = [
            of("a", r#"{"tools":{},"tasks":{},"resources":{"subscribe":false}}"#),
            of("b", r#"{"resources":{"subscribe":true},"logging":{}}"#),
        ];
        let result: Value =
            serde_json::from_str(&initialize_result(&servers, Revision::V2025_06_18)).unwrap();
        assert_eq!(result["protocolVersion"], "2025-06-18");
        assert_eq!(
            result["capabilities"],
            json!({
                "tools": {"listChanged": true}, "logging": {},
                "resources": {"listChanged": true, "subscribe": true},
            })
        );
        let told = result["instructions"].as_str().unwrap();
        assert!(told.contains("\na_: use a\n") && told.contains("\nb_: use b\n"), "{told}");
        let described = Description::from_result(Bytes::from(discover_result(&servers))).unwrap();
        assert!(described.revision.is_modern());
    }
}

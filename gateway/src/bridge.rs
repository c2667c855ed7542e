//! What one revision of MCP needs that another does not say.
//!
//! Between equal revisions every byte goes through. Between a client of one era and a server of the
//! other only what the client's revision *requires* is added or asked for: required members of
//! results, required members of `_meta`. What is asked of a client in the midst of a request takes
//! another way in each era: `connect::rounds` and `serve::rounds` turn one into the other. What one
//! era has and the other has not is refused with an error that says so.

use std::borrow::Cow;

use crate::{
    description::Description,
    message::{meta, object_members},
    revision::Revision,
};

/// Methods whose results say how long and for whom they may be kept (2026-07-28).
pub(crate) const CACHEABLE: [&str; 6] = [
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
];

/// The key of `_meta` that says the revision of a request.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The key of `_meta` that says what the client can do.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// The key of `_meta` that says who the client is.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// The key of `_meta` that says which log messages are wanted.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// The key of `_meta` that says to which `subscriptions/listen` a message belongs.
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// The result of `initialize` for a client whose session speaks `negotiated`.
pub fn initialize_result(description: &Description, negotiated: Revision) -> String {
    if !description.revision.is_modern() {
        let version = object_members(description.text())
            .into_iter()
            .flatten()
            .find(|member| member.name == "protocolVersion");
        let mut text = description.text().to_owned();
        if let Some(version) = version {
            text.replace_range(version.span, &format!("\"{negotiated}\""));
        }
        return text;
    }
    let capabilities = description.member("capabilities").unwrap_or("{}");
    let server = meta(description.text(), "io.modelcontextprotocol/serverInfo")
        .map_or(r#"{"name":"unknown","version":"0"}"#, |member| member.value);
    let mut text = format!(
        r#"{{"protocolVersion":"{negotiated}","capabilities":{capabilities},"serverInfo":{server}"#
    );
    if let Some(instructions) = description.member("instructions") {
        text.push_str(r#","instructions":"#);
        text.push_str(instructions);
    }
    text.push('}');
    text
}

/// The result of `server/discover`.
pub fn discover_result(description: &Description) -> String {
    if description.revision.is_modern() {
        return description.text().to_owned();
    }
    let capabilities = without_tasks(description.member("capabilities").unwrap_or("{}"));
    let mut text = format!(
        r#"{{"resultType":"complete","supportedVersions":["{}"],"capabilities":{capabilities}"#,
        Revision::LATEST,
    );
    if let Some(server) = description.member("serverInfo") {
        text.push_str(r#","_meta":{"io.modelcontextprotocol/serverInfo":"#);
        text.push_str(server);
        text.push('}');
    }
    if let Some(instructions) = description.member("instructions") {
        text.push_str(r#","instructions":"#);
        text.push_str(instructions);
    }
    text.push_str(r#","ttlMs":0,"cacheScope":"public"}"#);
    text
}

/// A session server's capabilities without its tasks, which 2026-07-28 has in another form.
fn without_tasks(capabilities: &str) -> String {
    let members = object_members(capabilities).unwrap_or_default();
    if members.iter().all(|member| member.name != "tasks") {
        return capabilities.to_owned();
    }
    let kept = members.iter().filter(|member| member.name != "tasks");
    let kept: Vec<String> = kept
        .map(|member| format!("{}:{}", serde_json::Value::from(&*member.name), member.value))
        .collect();
    format!("{{{}}}", kept.join(","))
}

/// A server's result as a client of revision `client` needs it; `Err` says why it cannot have it.
///
/// # Errors
/// If it is of a kind that the client's revision does not have.
pub fn result_for(
    client: Revision,
    server: Revision,
    method: &str,
    result: &str,
) -> Result<Option<String>, &'static str> {
    match (client.is_modern(), server.is_modern()) {
        (true, true) | (false, false) => Ok(None),
        (true, false) => {
            let mut added = with_missing(result, "resultType", r#""complete""#);
            if CACHEABLE.contains(&method) {
                added = Cow::Owned(with_missing(&added, "ttlMs", "0").into_owned());
                added = Cow::Owned(with_missing(&added, "cacheScope", r#""public""#).into_owned());
            }
            Ok(Some(added.into_owned()))
        }
        (false, true) => {
            let complete = object_members(result).is_some_and(|members| {
                members
                    .iter()
                    .all(|member| member.name != "resultType" || member.value == r#""complete""#)
            });
            if complete {
                return Ok(None);
            }
            Err(
                "the server gives a result of a kind that this client's revision does not have: use \
                 a client that speaks 2026-07-28",
            )
        }
    }
}

/// The params of a request of a client with sessions as a server without sessions needs them:
/// with who asks in `_meta`.
pub fn params_for_modern(params: &str, who: &ClientIdentity<'_>) -> String {
    let params = if params.is_empty() { "{}" } else { params };
    let outer = object_members(params).unwrap_or_default();
    let (mut meta, span) = match outer.iter().find(|member| member.name == "_meta") {
        Some(member) => (member.value.to_owned(), Some(member.span.clone())),
        None => ("{}".to_owned(), None),
    };
    let version = format!("\"{}\"", Revision::LATEST);
    meta = with_missing(&meta, PROTOCOL_VERSION, &version).into_owned();
    meta = with_missing(&meta, CLIENT_CAPABILITIES, who.capabilities).into_owned();
    if let Some(info) = who.info {
        meta = with_missing(&meta, CLIENT_INFO, info).into_owned();
    }
    if let Some(level) = who.log_level {
        meta = with_missing(&meta, LOG_LEVEL, level).into_owned();
    }
    match span {
        Some(span) => {
            let mut text = params.to_owned();
            text.replace_range(span, &meta);
            text
        }
        None => with_missing(params, "_meta", &meta).into_owned(),
    }
}

/// The params of a request of a client without sessions as a server with sessions needs them:
/// without what a session says once.
pub fn params_for_legacy(params: &str) -> String {
    let outer = object_members(params).unwrap_or_default();
    let Some(meta) = outer.iter().find(|member| member.name == "_meta") else {
        return params.to_owned();
    };
    let said_once = [PROTOCOL_VERSION, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL];
    let inner = object_members(meta.value).unwrap_or_default();
    let kept: Vec<String> = inner
        .iter()
        .filter(|member| !said_once.contains(&member.name.as_str()))
        .map(|member| format!("{}:{}", serde_json::Value::from(&*member.name), member.value))
        .collect();
    let mut text = params.to_owned();
    text.replace_range(meta.span.clone(), &format!("{{{}}}", kept.join(",")));
    text
}

/// Who a client with sessions said it is; all JSON text.
#[derive(Clone, Copy, Debug)]
pub struct ClientIdentity<'a> {
    /// What it can do.
    pub capabilities: &'a str,
    /// Its name and version.
    pub info: Option<&'a str>,
    /// Log messages that it wants.
    pub log_level: Option<&'a str>,
}

/// The object with a member more at its end, if it has none of that name.
pub fn with_missing<'a>(object: &'a str, name: &str, value: &str) -> Cow<'a, str> {
    let Some(members) = object_members(object) else { return Cow::Borrowed(object) };
    if members.iter().any(|member| member.name == name) {
        return Cow::Borrowed(object);
    }
    let Some(end) = object.rfind('}') else { return Cow::Borrowed(object) };
    let comma = if members.is_empty() { "" } else { "," };
    let name = serde_json::Value::from(name);
    Cow::Owned(format!("{}{comma}{name}:{value}{}", &object[..end], &object[end..]))
}

/// The object with a member more in its `_meta`, if that has none of that name.
pub(crate) fn with_meta(object: &str, name: &str, value: &str) -> String {
    let members = object_members(object).unwrap_or_default();
    match members.iter().find(|member| member.name == "_meta") {
        Some(meta) => {
            let mut text = object.to_owned();
            text.replace_range(meta.span.clone(), &with_missing(meta.value, name, value));
            text
        }
        None => {
            let meta = format!("{{{}:{value}}}", serde_json::Value::from(name));
            with_missing(object, "_meta", &meta).into_owned()
        }
    }
}

/// The object with another value for a member of its `_meta`; as it was if that has none of the name.
pub(crate) fn replaced_meta(object: &str, name: &str, value: &str) -> String {
    let members = object_members(object).unwrap_or_default();
    let Some(meta) = members.iter().find(|member| member.name == "_meta") else {
        return object.to_owned();
    };
    let inner = object_members(meta.value).unwrap_or_default();
    let Some(member) = inner.iter().find(|member| member.name == name) else {
        return object.to_owned();
    };
    let start = meta.span.start;
    let mut text = object.to_owned();
    text.replace_range(start + member.span.start..start + member.span.end, value);
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn legacy() -> Description {
        let raw = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"},"instructions":"i","y":[ ]}"#;
        Description::from_result(Bytes::from_static(raw.as_bytes())).unwrap()
    }

    fn modern() -> Description {
        let raw = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}},"ttlMs":5,"cacheScope":"public"}"#;
        Description::from_result(Bytes::from_static(raw.as_bytes())).unwrap()
    }

    #[test]
    fn equal_revisions_get_the_same_bytes() {
        assert_eq!(initialize_result(&legacy(), Revision::V2025_11_25), legacy().text());
        assert_eq!(discover_result(&modern()), modern().text());
        let (old, new) = (Revision::V2025_11_25, Revision::V2026_07_28);
        assert_eq!(result_for(new, new, "tools/list", "{}"), Ok(None));
        assert_eq!(result_for(Revision::V2025_06_18, old, "tools/list", "{}"), Ok(None));
    }

    #[test]
    fn an_older_client_gets_its_revision_and_the_rest_as_it_was() {
        let result = initialize_result(&legacy(), Revision::V2025_06_18);
        assert_eq!(result, legacy().text().replace("2025-11-25", "2025-06-18"));
    }

    #[test]
    fn across_eras_only_what_is_required_is_added() {
        let (old, new) = (Revision::V2025_11_25, Revision::V2026_07_28);
        assert_eq!(
            result_for(new, old, "tools/list", r#"{ "tools":[] }"#).unwrap().unwrap(),
            r#"{ "tools":[] ,"resultType":"complete","ttlMs":0,"cacheScope":"public"}"#
        );
        assert_eq!(
            result_for(new, old, "tools/call", "{}").unwrap().unwrap(),
            r#"{"resultType":"complete"}"#
        );
        assert_eq!(result_for(old, new, "tools/call", r#"{"resultType":"complete"}"#), Ok(None));
        assert!(result_for(old, new, "tools/call", r#"{"resultType":"input_required"}"#).is_err());
        assert_eq!(
            initialize_result(&modern(), Revision::V2025_11_25),
            r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}"#
        );
        let discovered = discover_result(&legacy());
        let description = Description::from_result(Bytes::from(discovered)).unwrap();
        assert_eq!(description.revision, new);
    }

    #[test]
    fn a_member_more_in_meta_leaves_the_rest_as_it_was() {
        assert_eq!(with_meta(r#"{ "a":1 }"#, "x", "2"), r#"{ "a":1 ,"_meta":{"x":2}}"#);
        assert_eq!(
            with_meta(r#"{"_meta":{"y":[ ]},"a":1}"#, "x", "2"),
            r#"{"_meta":{"y":[ ],"x":2},"a":1}"#
        );
        assert_eq!(with_meta(r#"{"_meta":{"x":1}}"#, "x", "2"), r#"{"_meta":{"x":1}}"#);
        let replaced = replaced_meta(r#"{"a": 1,"_meta":{ "y":0,"x":1 }}"#, "x", "2");
        assert_eq!(replaced, r#"{"a": 1,"_meta":{ "y":0,"x":2 }}"#);
    }

    #[test]
    fn params_say_who_asks() {
        let who = ClientIdentity { capabilities: "{}", info: None, log_level: Some("\"info\"") };
        let expected = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/logLevel":"info"}}"#;
        assert_eq!(params_for_modern("", &who), expected);
        let params = params_for_modern(r#"{"a":1,"_meta":{"progressToken":2},"b":3}"#, &who);
        assert!(params.starts_with(r#"{"a":1,"_meta":{"progressToken":2,"io."#), "{params}");
        assert!(params.ends_with(r#"},"b":3}"#), "{params}");
        assert_eq!(params_for_legacy(&params), r#"{"a":1,"_meta":{"progressToken":2},"b":3}"#);
        assert_eq!(params_for_legacy(r#"{"a":1}"#), r#"{"a":1}"#);
    }
}

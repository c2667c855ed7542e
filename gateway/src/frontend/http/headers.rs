//! What the headers of a request say, and whether that is true.

use axum::http::{HeaderMap, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    bridge::{CLIENT_CAPABILITIES, PROTOCOL_VERSION},
    message::{Message, code, meta, string_member},
    revision::Revision,
};

/// Names a session.
pub(super) const SESSION_ID: &str = "mcp-session-id";
/// Names the revision of a request.
pub(super) const VERSION: &str = "mcp-protocol-version";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

/// Whether the body is said to be JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| {
        kind.split(';')
            .next()
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    })
}

/// Whether either form of an answer is accepted.
pub(super) fn accepts_answers(headers: &HeaderMap) -> bool {
    let accepted: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accepted = accepted.join(",").to_ascii_lowercase();
    let names = |kind: &str| accepted.contains(kind) || accepted.contains("*/*");
    names("application/json") && names("text/event-stream")
}

/// Whether a page of this origin is of this machine.
pub(super) fn is_loopback_origin(origin: &str) -> bool {
    origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
        .is_some_and(is_loopback_host)
}

/// Whether this `host` or `host:port` is this machine.
pub(super) fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the revision that a request in a session names is one with sessions.
pub(super) fn check_session_version(headers: &HeaderMap) -> Result<(), String> {
    let Some(version) = headers.get(VERSION) else { return Ok(()) };
    let version = version.to_str().unwrap_or_default();
    match Revision::parse(version) {
        Some(revision) if !revision.is_modern() => Ok(()),
        Some(_) | None => Err(format!(
            "MCP-Protocol-Version `{}` is none that has sessions and is spoken here",
            version.escape_debug()
        )),
    }
}

/// Code, reason and data of an error.
type Refused = (i32, String, String);

/// Whether the headers of a request without a session are there and say what its body says.
pub(super) fn check_modern(headers: &HeaderMap, message: &Message) -> Result<(), Refused> {
    let mismatch = |reason: String| (code::HEADER_MISMATCH, reason, String::new());
    let text = |name: &str| match headers.get(name) {
        None => Ok(None),
        Some(value) => value
            .to_str()
            .map(Some)
            .map_err(|_| mismatch(format!("Header mismatch: {name} holds invalid characters"))),
    };
    let said = text(VERSION)?;
    let body = meta(message.body(), PROTOCOL_VERSION);
    let body: Option<String> = body.and_then(|member| serde_json::from_str(member.value).ok());
    if said.is_none() && body.is_none() && message.method() != "server/discover" {
        let reason = "Mcp-Session-Id is missing: send `initialize` first, or say a revision without \
                      sessions in MCP-Protocol-Version and params._meta";
        return Err((code::INVALID_REQUEST, reason.to_owned(), String::new()));
    }
    let Some(said) = said else {
        return Err(mismatch("Header mismatch: MCP-Protocol-Version is missing".to_owned()));
    };
    let Some(body) = body else {
        let reason = format!("params._meta must say `{PROTOCOL_VERSION}`");
        return Err((code::INVALID_PARAMS, reason, String::new()));
    };
    if said != body {
        return Err(mismatch(format!(
            "Header mismatch: MCP-Protocol-Version is '{}', the body says '{}'",
            said.escape_debug(),
            body.escape_debug()
        )));
    }
    if !Revision::parse(&body).is_some_and(Revision::is_modern) {
        let requested = serde_json::Value::from(body);
        let data = format!(r#"{{"supported":["{}"],"requested":{requested}}}"#, Revision::LATEST);
        let reason = "Unsupported protocol version".to_owned();
        return Err((code::UNSUPPORTED_PROTOCOL_VERSION, reason, data));
    }
    if meta(message.body(), CLIENT_CAPABILITIES).is_none() {
        let reason = format!("params._meta must say `{CLIENT_CAPABILITIES}`");
        return Err((code::INVALID_PARAMS, reason, String::new()));
    }
    if text(METHOD)? != Some(message.method()) {
        return Err(mismatch("Header mismatch: Mcp-Method is not the body's method".to_owned()));
    }
    let member = match message.method() {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => return Ok(()),
    };
    let wanted = string_member(message.body(), member);
    let named = text(NAME)?.map(decoded);
    // What has no name in its body is for the server to refuse.
    if named.is_none() || (wanted.is_some() && named.flatten() != wanted) {
        return Err(mismatch(format!("Header mismatch: Mcp-Name is not the body's {member}")));
    }
    Ok(())
}

/// A header's value, which may be written in Base64; `None` if it is written wrongly.
fn decoded(value: &str) -> Option<String> {
    let encoded = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
    match encoded {
        None => Some(value.to_owned()),
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok(),
    }
}

/// A value as a header may carry it: as it is, or in Base64.
pub(crate) fn encoded(value: &str) -> String {
    let plain = value.bytes().all(|byte| (0x20..0x7f).contains(&byte) || byte == b'\t')
        && value.trim() == value
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    if plain { value.to_owned() } else { format!("=?base64?{}?=", BASE64_STANDARD.encode(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_travel_in_headers_whatever_they_hold() {
        for value in ["a", "", " a", "é", "a\nb", "=?base64?literal?=", "file:///a b"] {
            let header = encoded(value);
            assert!(header.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{header}");
            assert_eq!(decoded(&header).as_deref(), Some(value));
        }
        assert_eq!(encoded("Hello, 世界"), "=?base64?SGVsbG8sIOS4lueVjA==?=");
        assert_eq!(decoded("=?base64?!?="), None);
    }

    #[test]
    fn this_machine_has_these_names() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:1", "127.9.9.9", "[::1]:80"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["", "example.org", "localhost.example.org", "10.0.0.1", "127.0.0.1.nip.io"] {
            assert!(!is_loopback_host(host), "{host}");
        }
        assert!(is_loopback_origin("http://localhost:6274"));
        assert!(!is_loopback_origin("null"));
    }
}

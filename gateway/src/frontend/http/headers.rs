//! What the headers of a request say, and whether that is true.

use axum::http::{HeaderMap, header};

use crate::{
    bridge::{CLIENT_CAPABILITIES, PROTOCOL_VERSION},
    header::{decoded, named_member},
    message::{Message, code, meta, object_members, string_member},
    parameters::Parameters,
    revision::Revision,
};

/// Names a session.
pub(super) const SESSION_ID: &str = "mcp-session-id";
/// Names the last event that was read of a stream.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";
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

/// Whether a stream of events is accepted more gladly than JSON: by weight, or else named first.
pub(super) fn prefers_stream(headers: &HeaderMap) -> bool {
    let accepted: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accepted = accepted.join(",").to_ascii_lowercase();
    let weight_of = |kind: &str| {
        let mut ranges = accepted.split(',').enumerate();
        ranges.find_map(|(place, range)| {
            let mut parts = range.split(';').map(str::trim);
            let weight = |mut rest: std::str::Split<'_, char>| {
                rest.find_map(|part| part.trim().strip_prefix("q=")?.parse::<f32>().ok())
            };
            (parts.next() == Some(kind)).then(|| (weight(range.split(';')).unwrap_or(1.0), place))
        })
    };
    match (weight_of("text/event-stream"), weight_of("application/json")) {
        (Some((stream, first)), Some((json, second))) => {
            json < stream || (json == stream && first < second)
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
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

/// Why a request is refused.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) code: i32,
    pub(super) reason: String,
    /// JSON text; empty is none.
    pub(super) data: String,
}

impl Refused {
    pub(super) const fn new(code: i32, reason: String) -> Self {
        Self { code, reason, data: String::new() }
    }

    pub(super) fn mismatch(reason: &str) -> Self {
        Self::new(code::HEADER_MISMATCH, format!("Header mismatch: {reason}"))
    }
}

/// Whether the headers of a request without a session are there and say what its body says.
pub(super) fn check_modern(headers: &HeaderMap, message: &Message) -> Result<(), Refused> {
    let text = |name: &str| text_of(headers, name);
    let said = text(VERSION)?;
    let body = meta(message.body(), PROTOCOL_VERSION);
    let body: Option<String> = body.and_then(|member| serde_json::from_str(member.value).ok());
    if said.is_none() && body.is_none() && message.method() != "server/discover" {
        let reason = "Mcp-Session-Id is missing: send `initialize` first, or say a revision without \
                      sessions in MCP-Protocol-Version and params._meta";
        return Err(Refused::new(code::INVALID_REQUEST, reason.to_owned()));
    }
    let Some(said) = said else {
        return Err(Refused::mismatch("MCP-Protocol-Version is missing"));
    };
    let Some(body) = body else {
        let reason = format!("params._meta must say `{PROTOCOL_VERSION}`");
        return Err(Refused::new(code::INVALID_PARAMS, reason));
    };
    if said != body {
        let (said, body) = (said.escape_debug(), body.escape_debug());
        return Err(Refused::mismatch(&format!(
            "MCP-Protocol-Version is '{said}', the body says '{body}'"
        )));
    }
    if !Revision::parse(&body).is_some_and(Revision::is_modern) {
        let requested = serde_json::Value::from(body);
        let data = format!(r#"{{"supported":["{}"],"requested":{requested}}}"#, Revision::LATEST);
        let reason = "Unsupported protocol version".to_owned();
        return Err(Refused { code: code::UNSUPPORTED_PROTOCOL_VERSION, reason, data });
    }
    if meta(message.body(), CLIENT_CAPABILITIES).is_none() {
        let reason = format!("params._meta must say `{CLIENT_CAPABILITIES}`");
        return Err(Refused::new(code::INVALID_PARAMS, reason));
    }
    if text(METHOD)? != Some(message.method()) {
        return Err(Refused::mismatch("Mcp-Method is not the body's method"));
    }
    let Some(member) = named_member(message.method()) else { return Ok(()) };
    let wanted = string_member(message.body(), member);
    let named = text(NAME)?.map(decoded);
    // What has no name in its body is for the server to refuse.
    if named.is_none() || (wanted.is_some() && named.flatten() != wanted) {
        return Err(Refused::mismatch(&format!("Mcp-Name is not the body's {member}")));
    }
    Ok(())
}

/// Whether the headers of a tool's arguments say what these are.
pub(super) fn check_parameters(
    headers: &HeaderMap,
    message: &Message,
    parameters: &Parameters,
) -> Result<(), Refused> {
    let Some(tool) = string_member(message.body(), "name") else { return Ok(()) };
    let members = object_members(message.body()).unwrap_or_default();
    let arguments = members.iter().find(|member| member.name == "arguments");
    let arguments = arguments.and_then(|member| serde_json::from_str(member.value).ok());
    for (name, wanted) in parameters.wanted(&tool, &arguments.unwrap_or_default()) {
        let said = text_of(headers, &name)?;
        let agrees = match (said, &wanted) {
            (None, None) => true,
            (Some(said), Some(wanted)) => decoded(said).is_some_and(|said| same(&said, wanted)),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if !agrees {
            return Err(Refused::mismatch(&format!("{name} is not the body's argument")));
        }
    }
    Ok(())
}

/// A header's value as text.
fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refused> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map(Some);
    text.map_err(|_| Refused::mismatch(&format!("{name} holds invalid characters")))
}

/// Whether two values are the same text, or the same number.
fn same(said: &str, wanted: &str) -> bool {
    said == wanted
        || matches!((said.parse::<f64>(), wanted.parse::<f64>()), (Ok(said), Ok(wanted)) if said == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_an_answer_is_the_agents_choice() {
        for (accept, streams) in [
            ("application/json, text/event-stream", false),
            ("text/event-stream, application/json", true),
            ("text/event-stream;q=0.5, application/json", false),
            ("application/json;q=0.5, text/event-stream", true),
            ("*/*", false),
            ("text/event-stream, */*", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(prefers_stream(&headers), streams, "{accept}");
        }
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

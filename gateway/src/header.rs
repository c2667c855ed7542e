//! What MCP 2026-07-28 says once more in headers of HTTP.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// The member of a method's params that the header Mcp-Name repeats.
pub(crate) fn named_member(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// A header's value, which may be written in Base64; `None` if it is written wrongly.
pub(crate) fn decoded(value: &str) -> Option<String> {
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
}

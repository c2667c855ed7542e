//! What an MCP server says of itself, and how the tier announces it.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{encoding::CONTENT_TYPES, message::object_members, revision::Revision};

/// A server's `server/discover` result, or its `initialize` result; byte for byte.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    /// The revision that the edge beside the server speaks with it.
    pub revision: Revision,
    /// The result as the server gave it.
    pub raw: Bytes,
    /// What the server tells of by itself.
    pub notifies: Notifies,
    /// Whether the edge beside the server takes calls in `compact`.
    pub takes_compact: bool,
    /// Whether agents that can be asked have a process of the server for themselves, which may have
    /// other lists for them.
    pub own_processes: bool,
}

/// Changes that a server tells of by itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Notifies {
    /// `notifications/tools/list_changed`.
    pub tools: bool,
    /// `notifications/prompts/list_changed`.
    pub prompts: bool,
    /// `notifications/resources/list_changed`.
    pub resources: bool,
    /// `notifications/resources/updated`, of resources that are subscribed to.
    pub updates: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Capabilities {
    tools: Option<Capability>,
    prompts: Option<Capability>,
    resources: Option<Capability>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Capability {
    list_changed: bool,
    subscribe: bool,
}

/// Whether a server can be used now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Availability {
    /// It can.
    Available,
    /// It is about to end.
    Draining,
    /// It cannot; the edge beside it tries to start it again.
    Unavailable,
}

impl Availability {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Draining => "draining",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Description {
    /// The description that this result of `server/discover` or `initialize` is; `None` if it is
    /// neither, or speaks no revision that is spoken here.
    pub fn from_result(raw: Bytes) -> Option<Self> {
        let text = std::str::from_utf8(&raw).ok()?;
        let members = object_members(text)?;
        let value = |name: &str| members.iter().find(|member| member.name == name).map(|m| m.value);
        let revision = match (value("supportedVersions"), value("protocolVersion")) {
            (Some(versions), _) => {
                let versions: Vec<String> = serde_json::from_str(versions).ok()?;
                Revision::ALL.into_iter().find(|revision| {
                    revision.is_modern() && versions.iter().any(|v| v == revision.as_str())
                })?
            }
            (None, Some(version)) => {
                Revision::parse(&serde_json::from_str::<String>(version).ok()?)?
            }
            (None, None) => return None,
        };
        let capabilities: Capabilities =
            serde_json::from_str(value("capabilities").unwrap_or("{}")).unwrap_or_default();
        let listed = |capability: &Option<Capability>| {
            capability.as_ref().is_some_and(|capability| capability.list_changed)
        };
        let notifies = Notifies {
            tools: listed(&capabilities.tools),
            prompts: listed(&capabilities.prompts),
            resources: listed(&capabilities.resources),
            updates: capabilities.resources.is_some_and(|resources| resources.subscribe),
        };
        Some(Self { revision, raw, notifies, takes_compact: false, own_processes: false })
    }

    /// The result as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.raw).unwrap_or_default()
    }

    /// A member of the result as JSON text.
    pub fn member(&self, name: &str) -> Option<&str> {
        object_members(self.text())?.into_iter().find(|m| m.name == name).map(|m| m.value)
    }

    /// The payload of the track `server`.
    pub fn announcement(&self, availability: Availability) -> Bytes {
        Bytes::from(format!(
            concat!(
                r#"{{"type":"mcp","availability":"{}","#,
                r#""access":{{"read":"allow","call":"allow","train":"deny","cache":"allow"}},"#,
                r#""maxVerificationLevel":0,"contentTypes":["{}"],"ownProcesses":{},"mcp":{}}}"#,
            ),
            availability.as_str(),
            CONTENT_TYPES.join(r#"",""#),
            self.own_processes,
            self.text()
        ))
    }

    /// What an announcement says; `None` if it is none of an MCP server.
    pub fn of_announcement(payload: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Announcement<'a> {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            content_types: Vec<String>,
            #[serde(default)]
            own_processes: bool,
            #[serde(borrow)]
            mcp: &'a RawValue,
        }
        let announcement: Announcement<'_> = serde_json::from_slice(payload).ok()?;
        if announcement.kind != "mcp" {
            return None;
        }
        let takes_compact = announcement.content_types.iter().any(|name| name == "compact");
        let description = Self::from_result(Bytes::from(announcement.mcp.get().to_owned()))?;
        Some(Self { takes_compact, own_processes: announcement.own_processes, ..description })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_keeps_the_result_byte_for_byte() {
        let raw = Bytes::from_static(
            br#"{ "protocolVersion":"2025-11-25", "x":1.50, "capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}},"serverInfo":{"name":"n","version":"1"}}"#,
        );
        let mut description = Description::from_result(raw.clone()).unwrap();
        description.own_processes = true;
        assert_eq!(description.revision, Revision::V2025_11_25);
        let notifies = Notifies { tools: true, updates: true, ..Notifies::default() };
        assert_eq!(description.notifies, notifies);
        let announced = description.announcement(Availability::Available);
        let read = Description::of_announcement(&announced).unwrap();
        assert_eq!(read, Description { takes_compact: true, ..description });
        assert_eq!(read.raw, raw);
        assert_eq!(Description::of_announcement(br#"{"type":"other","mcp":{}}"#), None);
    }

    #[test]
    fn a_modern_server_may_speak_older_revisions_too() {
        let raw = br#"{"resultType":"complete","supportedVersions":["2025-11-25","2026-07-28"],"capabilities":{}}"#;
        let description = Description::from_result(Bytes::from_static(raw)).unwrap();
        assert_eq!(description.revision, Revision::V2026_07_28);
        let raw = br#"{"supportedVersions":["2099-01-01"],"capabilities":{}}"#;
        assert_eq!(Description::from_result(Bytes::from_static(raw)), None);
    }
}

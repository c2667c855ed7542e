//! Reads: requests that a track answers (PROFILE.md section 3).

use std::collections::BTreeMap;

use crate::connect::call::{DEADLINE, IDEMPOTENCY_KEY, PRIORITY};
use crate::message::{Kind, Member, Message, object_members};

/// A request whose whole meaning is a track's name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Read {
    /// `tools/list`, first page.
    Tools,
    /// `prompts/list`, first page.
    Prompts,
    /// `resources/list`, first page.
    Resources,
    /// `resources/templates/list`, first page.
    Templates,
    /// `resources/read`.
    Resource {
        /// The resource.
        uri: String,
    },
    /// `prompts/get`.
    Prompt {
        /// The prompt.
        name: String,
        /// Its arguments as canonical JSON, if any were given.
        arguments: Option<String>,
    },
}

/// The methods that list what a server has.
pub(crate) const LISTS: [&str; 4] =
    ["tools/list", "prompts/list", "resources/list", "resources/templates/list"];

/// Members of `_meta` that tell who asks, not what is asked. A progress token asks for nothing: a
/// server may leave progress unsaid, and some clients put one into every request.
const INNOCENT_META: [&str; 10] = [
    "progressToken",
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/clientCapabilities",
    "traceparent",
    "tracestate",
    "baggage",
    IDEMPOTENCY_KEY,
    DEADLINE,
    PRIORITY,
];

impl Read {
    /// The read that a request is; `None` if it says more than a track's name can, such as a
    /// cursor or a member that is not known here: then it is a call.
    pub fn of_request(request: &Message) -> Option<Self> {
        if request.kind() != Kind::Request {
            return None;
        }
        let params = Params::of(request.body())?;
        match request.method() {
            "tools/list" => params.nothing().then_some(Self::Tools),
            "prompts/list" => params.nothing().then_some(Self::Prompts),
            "resources/list" => params.nothing().then_some(Self::Resources),
            "resources/templates/list" => params.nothing().then_some(Self::Templates),
            "resources/read" => {
                let uri = params.only("uri")?;
                Some(Self::Resource { uri })
            }
            "prompts/get" => Self::of_prompt(&params),
            _ => None,
        }
    }

    fn of_prompt(params: &Params<'_>) -> Option<Self> {
        let name: String = serde_json::from_str(params.value("name")?).ok()?;
        // The first question mark begins the arguments.
        if name.contains('?') {
            return None;
        }
        let arguments = match params.value("arguments") {
            None => None,
            Some(arguments) => {
                let members = object_members(arguments)?;
                let arguments = members
                    .iter()
                    .map(|member| Some((&member.name, serde_json::from_str(member.value).ok()?)))
                    .collect::<Option<BTreeMap<&String, String>>>()?;
                Some(serde_json_canonicalizer::to_string(&arguments).ok()?)
            }
        };
        let known = 1 + usize::from(arguments.is_some());
        (params.count() == known).then_some(Self::Prompt { name, arguments })
    }

    /// The track's name, before it is fitted to its length.
    pub fn track_name(&self) -> String {
        match self {
            Self::Tools => "tools".to_owned(),
            Self::Prompts => "prompts".to_owned(),
            Self::Resources => "resources".to_owned(),
            Self::Templates => "templates".to_owned(),
            Self::Resource { uri } => format!("resource/{uri}"),
            Self::Prompt { name, arguments: None } => format!("prompt/{name}"),
            Self::Prompt { name, arguments: Some(arguments) } => {
                format!("prompt/{name}?{arguments}")
            }
        }
    }

    /// The read of this track; `None` if the name is no read's, or had its tail hashed.
    pub fn of_track_name(name: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        if crate::name::is_hashed(name) {
            return None;
        }
        match name {
            "tools" => return Some(Self::Tools),
            "prompts" => return Some(Self::Prompts),
            "resources" => return Some(Self::Resources),
            "templates" => return Some(Self::Templates),
            _ => {}
        }
        if let Some(uri) = name.strip_prefix("resource/") {
            return Some(Self::Resource { uri: uri.to_owned() });
        }
        let prompt = name.strip_prefix("prompt/")?;
        let Some((name, arguments)) = prompt.split_once('?') else {
            return Some(Self::Prompt { name: prompt.to_owned(), arguments: None });
        };
        let parsed: BTreeMap<String, String> = serde_json::from_str(arguments).ok()?;
        let canonical = serde_json_canonicalizer::to_string(&parsed).ok()?;
        (canonical == arguments)
            .then(|| Self::Prompt { name: name.to_owned(), arguments: Some(canonical) })
    }

    /// The MCP method.
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
            Self::Resource { .. } => "resources/read",
            Self::Prompt { .. } => "prompts/get",
        }
    }

    /// The request's params as JSON text, with this `_meta` if it is not empty.
    pub fn params(&self, meta: &str) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut members = Vec::new();
        match self {
            Self::Tools | Self::Prompts | Self::Resources | Self::Templates => {}
            Self::Resource { uri } => members.push(format!(r#""uri":{}"#, quoted(uri))),
            Self::Prompt { name, arguments } => {
                members.push(format!(r#""name":{}"#, quoted(name)));
                if let Some(arguments) = arguments {
                    members.push(format!(r#""arguments":{arguments}"#));
                }
            }
        }
        if !meta.is_empty() {
            members.push(format!(r#""_meta":{meta}"#));
        }
        format!("{{{}}}", members.join(","))
    }
}

/// A request's params without an innocent `_meta`.
struct Params<'a> {
    members: Vec<Member<'a>>,
}

impl<'a> Params<'a> {
    /// `None` if a member stands twice, or `_meta` says more than who asks.
    fn of(params: &'a str) -> Option<Self> {
        let mut members = object_members(params)?;
        if let Some(index) = members.iter().position(|member| member.name == "_meta") {
            let meta = members.swap_remove(index);
            let innocent = |member: &Member<'_>| INNOCENT_META.contains(&member.name.as_str());
            if !object_members(meta.value)?.iter().all(innocent) {
                return None;
            }
        }
        Some(Self { members })
    }

    const fn count(&self) -> usize {
        self.members.len()
    }

    const fn nothing(&self) -> bool {
        self.members.is_empty()
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.members.iter().find(|member| member.name == name).map(|member| member.value)
    }

    /// The string of the only member there is.
    fn only(&self, name: &str) -> Option<String> {
        (self.count() == 1).then(|| self.value(name))?.and_then(|v| serde_json::from_str(v).ok())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::{Id, Limits};

    fn of(method: &str, params: &str) -> Option<Read> {
        let text = Message::request(Id::from_number(1), method, params).text().clone();
        Read::of_request(&Message::parse(text, &Limits::default()).unwrap())
    }

    #[track_caller]
    fn check(method: &str, params: &str, track: &str, again: &str) {
        let read = of(method, params).unwrap();
        assert_eq!(read.track_name(), track);
        assert_eq!(Read::of_track_name(track.as_bytes()), Some(read.clone()));
        assert_eq!((read.method(), read.params("")), (method, again.to_owned()));
    }

    #[test]
    fn plain_reads_are_tracks_and_back() {
        check("tools/list", "", "tools", "{}");
        check("prompts/list", "{}", "prompts", "{}");
        check("resources/list", r#"{"_meta":{}}"#, "resources", "{}");
        check("resources/templates/list", r#"{"_meta":{"traceparent":"x"}}"#, "templates", "{}");
        check("tools/list", r#"{"_meta":{"progressToken":1}}"#, "tools", "{}");
        check(
            "resources/read",
            r#"{"uri":"file:///a \u00e9?b"}"#,
            "resource/file:///a é?b",
            r#"{"uri":"file:///a é?b"}"#,
        );
        check("prompts/get", r#"{"name":"p"}"#, "prompt/p", r#"{"name":"p"}"#);
        check(
            "prompts/get",
            r#"{"arguments":{"b":"2", "a":"\u0031"},"name":"p"}"#,
            r#"prompt/p?{"a":"1","b":"2"}"#,
            r#"{"name":"p","arguments":{"a":"1","b":"2"}}"#,
        );
    }

    #[test]
    fn what_says_more_is_a_call() {
        assert_eq!(of("tools/list", r#"{"cursor":"c"}"#), None);
        assert_eq!(of("tools/list", r#"{"_meta":{"x":1}}"#), None);
        assert_eq!(
            of("tools/list", r#"{"_meta":{"io.modelcontextprotocol/logLevel":"info"}}"#),
            None
        );
        assert_eq!(of("resources/read", r#"{"uri":"a","uri":"b"}"#), None);
        assert_eq!(of("resources/read", r#"{"uri":1}"#), None);
        assert_eq!(of("resources/read", r#"{"uri":"a","x":1}"#), None);
        assert_eq!(of("resources/read", r#"{"uri":"a","requestState":"s"}"#), None);
        assert_eq!(of("prompts/get", r#"{"name":"a?b"}"#), None);
        assert_eq!(of("prompts/get", r#"{"name":"a","arguments":{"x":1}}"#), None);
        assert_eq!(of("prompts/get", r#"{"name":"a","arguments":{},"x":1}"#), None);
        assert_eq!(of("tools/call", r#"{"name":"a"}"#), None);
    }

    #[test]
    fn foreign_track_names_are_no_reads() {
        for name in ["", "server", "toolz", "prompt/p?x", r#"prompt/p?{"b":"1","a":"2"}"#] {
            assert_eq!(Read::of_track_name(name.as_bytes()), None, "{name}");
        }
        assert_eq!(Read::of_track_name(b"resource/\xff"), None);
        let hashed = format!("resource/a#sha256={}", "0".repeat(64));
        assert_eq!(Read::of_track_name(hashed.as_bytes()), None);
        assert!(Bytes::from(hashed).len() < 100);
    }
}

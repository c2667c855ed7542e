//! Names and URIs in a server's messages as agents see them, and back; every other byte as it was.

use std::ops::Range;

use serde_json::Value;

use super::prefix::Prefix;
use crate::message::{Message, array_items, object_members, string_member};

/// Kinds of things that servers list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum List {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl List {
    pub(super) fn of_method(method: &str) -> Option<Self> {
        match method {
            "tools/list" => Some(Self::Tools),
            "prompts/list" => Some(Self::Prompts),
            "resources/list" => Some(Self::Resources),
            "resources/templates/list" => Some(Self::Templates),
            _ => None,
        }
    }

    /// The member of a result that holds the list.
    pub(super) const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// The capability that a server has that has such a list.
    pub(super) const fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }

    /// The member of an item that names it.
    const fn naming(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }
}

/// Parts of a text to be replaced.
#[derive(Debug, Default)]
struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Replaces a string at `span` of the text by what `renamed` makes of it.
    fn string(&mut self, span: Range<usize>, raw: &str, renamed: impl Fn(&str) -> String) {
        if let Ok(string) = serde_json::from_str::<String>(raw) {
            self.0.push((span, Value::from(renamed(&string)).to_string()));
        }
    }

    fn apply(mut self, text: &str) -> String {
        self.0.sort_by_key(|(span, _)| span.start);
        let mut changed = String::with_capacity(text.len() + 16 * self.0.len());
        let mut end = 0;
        for (span, replacement) in self.0 {
            changed.push_str(&text[end..span.start]);
            changed.push_str(&replacement);
            end = span.end;
        }
        changed.push_str(&text[end..]);
        changed
    }
}

/// A part of a text and where it stands in the whole.
#[derive(Clone)]
struct Part<'a> {
    text: &'a str,
    start: usize,
}

impl<'a> Part<'a> {
    const fn whole(text: &'a str) -> Self {
        Self { text, start: 0 }
    }

    fn member(&self, name: &str) -> Option<Self> {
        let member = object_members(self.text)?.into_iter().find(|member| member.name == name)?;
        Some(Self { text: member.value, start: self.start + member.span.start })
    }

    fn items(&self) -> Vec<Self> {
        let items = array_items(self.text).unwrap_or_default().into_iter();
        items.map(|(span, text)| Self { text, start: self.start + span.start }).collect()
    }

    const fn span(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }
}

/// An item of a list.
pub(super) fn item(list: List, item: &str, prefix: &Prefix) -> String {
    let mut edits = Edits::default();
    let whole = Part::whole(item);
    if let Some(named) = whole.member(list.naming()) {
        match list {
            List::Tools | List::Prompts => {
                edits.string(named.span(), named.text, |name| prefix.name(name));
            }
            List::Resources | List::Templates => {
                edits.string(named.span(), named.text, |uri| prefix.uri(uri));
            }
        }
    }
    // The resource that shows a tool (MCP Apps), in its present and its former place.
    if let Some(meta) = whole.member("_meta").filter(|_| list == List::Tools) {
        let shown = meta.member("ui").and_then(|ui| ui.member("resourceUri"));
        for uri in shown.into_iter().chain(meta.member("ui/resourceUri")) {
            edits.string(uri.span(), uri.text, |uri| prefix.uri(uri));
        }
    }
    edits.apply(item)
}

/// A result, with the URIs of resources in it as agents see them.
pub(super) fn result(method: &str, result: &str, prefix: &Prefix) -> String {
    let whole = Part::whole(result);
    let mut edits = Edits::default();
    let rename = |uri: &str| prefix.uri(uri);
    match method {
        "resources/read" => {
            for content in whole.member("contents").iter().flat_map(Part::items) {
                if let Some(uri) = content.member("uri") {
                    edits.string(uri.span(), uri.text, rename);
                }
            }
        }
        "tools/call" => {
            for content in whole.member("content").iter().flat_map(Part::items) {
                in_content(&content, &mut edits, rename);
            }
        }
        "prompts/get" => {
            let messages = whole.member("messages");
            let contents = messages.iter().flat_map(Part::items);
            for content in contents.filter_map(|message| message.member("content")) {
                in_content(&content, &mut edits, rename);
            }
        }
        _ => {}
    }
    if edits.0.is_empty() { result.to_owned() } else { edits.apply(result) }
}

/// A link to a resource, or a resource itself, in a piece of content.
fn in_content(content: &Part<'_>, edits: &mut Edits, rename: impl Fn(&str) -> String) {
    let linked = match string_member(content.text, "type").as_deref() {
        Some("resource_link") => content.member("uri"),
        Some("resource") => content.member("resource").and_then(|resource| resource.member("uri")),
        _ => None,
    };
    if let Some(uri) = linked {
        edits.string(uri.span(), uri.text, rename);
    }
}

/// A notification that belongs to no request.
pub(super) fn notification(message: Message, prefix: &Prefix) -> Message {
    if message.method() != "notifications/resources/updated" {
        return message;
    }
    renamed(&message, &["uri"], |uri| Some(prefix.uri(uri))).unwrap_or(message)
}

/// A request whose param at `path` is what `renamed` makes of it; `None` if there is no such string,
/// or `renamed` makes nothing of it.
pub(super) fn renamed(
    request: &Message,
    path: &[&str],
    renamed: impl Fn(&str) -> Option<String>,
) -> Option<Message> {
    let whole = Part::whole(request.body());
    let part = path.iter().try_fold(whole, |part, name| part.member(name))?;
    let string: String = serde_json::from_str(part.text).ok()?;
    let changed = Value::from(renamed(&string)?).to_string();
    Some(request.with_body_part(&part.span(), &changed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Id;

    fn prefix() -> Prefix {
        Prefix::new("p").unwrap()
    }

    #[test]
    fn an_item_keeps_every_other_byte() {
        let tool = r#"{ "x":1.50,"name" : "a\u0062", "_meta":{"ui":{"resourceUri":"ui://a"}}, "name2":"n"}"#;
        let expected = r#"{ "x":1.50,"name" : "p_ab", "_meta":{"ui":{"resourceUri":"p+ui://a"}}, "name2":"n"}"#;
        assert_eq!(item(List::Tools, tool, &prefix()), expected);
        let resource = r#"{"name":"n","uri":"file:///x"}"#;
        assert_eq!(
            item(List::Resources, resource, &prefix()),
            r#"{"name":"n","uri":"p+file:///x"}"#
        );
        let template = r#"{"uriTemplate":"f:///{x}","name":"n"}"#;
        let expected = r#"{"uriTemplate":"p+f:///{x}","name":"n"}"#;
        assert_eq!(item(List::Templates, template, &prefix()), expected);
        for odd in ["1", "[]", r#"{"name":1}"#, r#"{"name":"a","name":"b"}"#] {
            assert_eq!(item(List::Tools, odd, &prefix()), odd);
        }
    }

    #[test]
    fn uris_in_results_are_what_agents_can_read() {
        let check = |method, text: &str, expected: &str| {
            assert_eq!(result(method, text, &prefix()), expected);
        };
        check(
            "tools/call",
            r#"{"content":[{"type":"text","text":"u:x"},{"type":"resource_link","uri":"u:x"},{"type":"resource","resource":{"uri":"u:y","text":"t"}}],"structuredContent":{"uri":"u:z"}}"#,
            r#"{"content":[{"type":"text","text":"u:x"},{"type":"resource_link","uri":"p+u:x"},{"type":"resource","resource":{"uri":"p+u:y","text":"t"}}],"structuredContent":{"uri":"u:z"}}"#,
        );
        check(
            "resources/read",
            r#"{"contents":[{"uri":"u:x","text":""},{"uri":"u:y"}]}"#,
            r#"{"contents":[{"uri":"p+u:x","text":""},{"uri":"p+u:y"}]}"#,
        );
        check(
            "prompts/get",
            r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"u"}}}]}"#,
            r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"p+u"}}}]}"#,
        );
        check("tools/call", r#"{"content":7}"#, r#"{"content":7}"#);
    }

    #[test]
    fn a_request_is_what_its_server_knows() {
        let params = r#"{"ref":{"type":"ref/prompt", "name":"p_a"},"x":1}"#;
        let request = Message::request(Id::from_number(1), "completion/complete", params);
        let sent = renamed(&request, &["ref", "name"], |n| Some(n.replace("p_", ""))).unwrap();
        assert_eq!(sent.body(), r#"{"ref":{"type":"ref/prompt", "name":"a"},"x":1}"#);
        assert!(renamed(&request, &["ref", "uri"], |n| Some(n.to_owned())).is_none());
        assert!(renamed(&request, &["ref", "name"], |_| None).is_none());
    }
}

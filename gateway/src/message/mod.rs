//! One JSON-RPC message as it stood on the wire, and where its parts are.
//!
//! A message is never taken apart and written anew: an edge that must change an id or a progress
//! token splices those bytes and leaves every other one as it was, `params`, `result` and `error`
//! with them.

mod id;
mod parts;

use std::{fmt::Write as _, ops::Range};

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

pub use id::Id;
pub use parts::{Member, array_items, meta, object_members, string_member};

/// What a message may be at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one message. 64 MiB.
    pub length_max: usize,
    /// Arrays and objects within one another. 512.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { length_max: 64 << 20, depth_max: 512 }
    }
}

/// JSON-RPC's and MCP's error codes that an edge says itself.
pub mod code {
    /// The text is no JSON.
    pub const PARSE_ERROR: i32 = -32700;
    /// The JSON is no JSON-RPC message.
    pub const INVALID_REQUEST: i32 = -32600;
    /// The method is not known, or not offered here.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// The method's parameters are wrong.
    pub const INVALID_PARAMS: i32 = -32602;
    /// The edge, the relay or the way between could not do it.
    pub const INTERNAL_ERROR: i32 = -32603;
    /// MCP 2026-07-28: a header says otherwise than the body.
    pub const HEADER_MISMATCH: i32 = -32020;
    /// MCP 2026-07-28: the request's revision is not spoken here.
    pub const UNSUPPORTED_PROTOCOL_VERSION: i32 = -32022;
}

/// Why bytes are no message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct ParseError {
    /// A code of [`code`].
    pub code: i32,
    /// For people.
    pub reason: String,
}

impl ParseError {
    fn json(reason: impl Into<String>) -> Self {
        Self { code: code::PARSE_ERROR, reason: reason.into() }
    }

    fn request(reason: impl Into<String>) -> Self {
        Self { code: code::INVALID_REQUEST, reason: reason.into() }
    }
}

/// What kind of message it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It has a method and an id.
    Request,
    /// It has a method and no id.
    Notification,
    /// It has a result and an id.
    Result,
    /// It has an error, and an id unless the request's could not be read.
    Error,
}

/// One JSON-RPC message, byte for byte.
#[derive(Clone, Debug)]
pub struct Message {
    /// Valid UTF-8, one JSON object.
    text: Bytes,
    kind: Kind,
    method: String,
    id: Option<Id>,
    id_span: Range<usize>,
    /// Of `params`, `result` or `error`, whichever it has.
    body: Range<usize>,
}

/// The members that JSON-RPC knows; a member twice is refused by the derived code.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "parts::present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "parts::present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "parts::present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "parts::present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "parts::present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "parts::present")]
    error: Option<&'a RawValue>,
}

impl Message {
    /// The message that `text` is. Surrounding white space is dropped.
    ///
    /// # Errors
    /// If it is too long or too deep, no JSON, no single JSON-RPC message, or has a member twice.
    pub fn parse(text: Bytes, limits: &Limits) -> Result<Self, ParseError> {
        if limits.length_max < text.len() {
            return Err(ParseError::request(format!(
                "the message has {} bytes, at most {} are taken",
                text.len(),
                limits.length_max
            )));
        }
        let trimmed = text.trim_ascii();
        let text = text.slice_ref(trimmed);
        let string = std::str::from_utf8(&text).map_err(|_| ParseError::json("not valid UTF-8"))?;
        if limits.depth_max < parts::depth(string) {
            return Err(ParseError::json(format!("nested deeper than {}", limits.depth_max)));
        }
        if string.starts_with('[') {
            return match serde_json::from_str::<&RawValue>(string) {
                Ok(_) => Err(ParseError::request("batches are not taken: send one message each")),
                Err(error) => Err(ParseError::json(error.to_string())),
            };
        }
        let envelope: Envelope<'_> = serde_json::from_str(string).map_err(|error| {
            if error.is_data() {
                ParseError::request(error.to_string())
            } else {
                ParseError::json(error.to_string())
            }
        })?;
        let Classified { kind, method, id, body } = envelope.classify()?;
        let id_span = match (&id, envelope.id) {
            (Some(_), Some(raw)) => parts::span_in(string, raw.get()),
            (None, _) | (Some(_), None) => 0..0,
        };
        let body = body.map_or(0..0, |raw| parts::span_in(string, raw.get()));
        Ok(Self { kind, method, id, id_span, body, text })
    }

    /// What kind it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The method of a request or notification; empty for a response.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The id, if it has one.
    pub const fn id(&self) -> Option<&Id> {
        self.id.as_ref()
    }

    /// The whole message, as it stood.
    pub const fn text(&self) -> &Bytes {
        &self.text
    }

    /// `params`, `result` or `error` as it stood; empty if there is none.
    pub fn body(&self) -> &str {
        std::str::from_utf8(&self.text[self.body.clone()]).unwrap_or_default()
    }

    /// The same, as shared bytes.
    pub fn body_bytes(&self) -> Bytes {
        self.text.slice(self.body.clone())
    }

    /// Whether it is a response of either kind.
    pub const fn is_response(&self) -> bool {
        matches!(self.kind, Kind::Result | Kind::Error)
    }

    /// A request of our own. `params` is JSON text; empty is none.
    pub fn request(id: Id, method: &str, params: &str) -> Self {
        let mut text = String::with_capacity(64 + method.len() + params.len());
        text.push_str(r#"{"jsonrpc":"2.0","id":"#);
        let start = text.len();
        text.push_str(id.as_raw());
        let id_span = start..text.len();
        let body = push_method(&mut text, method, params);
        let method = method.to_owned();
        Self { text: text.into(), kind: Kind::Request, method, id: Some(id), id_span, body }
    }

    /// A notification of our own. `params` is JSON text; empty is none.
    pub fn notification(method: &str, params: &str) -> Self {
        let mut text = String::with_capacity(48 + method.len() + params.len());
        text.push_str(r#"{"jsonrpc":"2.0""#);
        let body = push_method(&mut text, method, params);
        let method = method.to_owned();
        Self { text: text.into(), kind: Kind::Notification, method, id: None, id_span: 0..0, body }
    }

    /// A response of our own with `result`, JSON text.
    pub fn result(id: &Id, result: &[u8]) -> Self {
        Self::response(Some(id), "result", Kind::Result, result)
    }

    /// An error response of our own. `data` is JSON text; empty is none.
    pub fn error(id: Option<&Id>, code: i32, message: &str, data: &str) -> Self {
        let mut body = format!(r#"{{"code":{code},"message":{}"#, parts::quoted(message));
        if !data.is_empty() {
            body.push_str(r#","data":"#);
            body.push_str(data);
        }
        body.push('}');
        Self::response(id, "error", Kind::Error, body.as_bytes())
    }

    /// An error response with `error`, JSON text, as somebody else said it.
    pub fn error_of(id: Option<&Id>, error: &str) -> Self {
        Self::response(id, "error", Kind::Error, error.as_bytes())
    }

    fn response(id: Option<&Id>, member: &str, kind: Kind, body: &[u8]) -> Self {
        let mut head = String::from(r#"{"jsonrpc":"2.0","#);
        let mut id_span = 0..0;
        if let Some(id) = id {
            head.push_str(r#""id":"#);
            id_span = head.len()..head.len() + id.as_raw().len();
            head.push_str(id.as_raw());
            head.push(',');
        }
        // Writing to a String cannot fail.
        _ = write!(head, r#""{member}":"#);
        let mut text = BytesMut::with_capacity(head.len() + body.len() + 1);
        text.extend_from_slice(head.as_bytes());
        text.extend_from_slice(body);
        let body = head.len()..text.len();
        text.extend_from_slice(b"}");
        Self { text: text.freeze(), kind, method: String::new(), id: id.cloned(), id_span, body }
    }

    /// The message with another id; every other byte as it was.
    #[must_use]
    pub fn with_id(&self, id: Id) -> Self {
        if self.id.is_none() {
            return self.clone();
        }
        let mut changed = self.spliced(&self.id_span, id.as_raw().as_bytes());
        changed.id = Some(id);
        changed
    }

    /// The message with `span` of its body (see [`Member::span`]) replaced by JSON text.
    #[must_use]
    pub fn with_body_part(&self, span: &Range<usize>, replacement: &str) -> Self {
        let span = self.body.start + span.start..self.body.start + span.end;
        self.spliced(&span, replacement.as_bytes())
    }

    /// The message with its whole `params`, `result` or `error` replaced; as it was if it has none.
    #[must_use]
    pub fn with_body(&self, body: &str) -> Self {
        if self.body.is_empty() {
            return self.clone();
        }
        self.spliced(&self.body.clone(), body.as_bytes())
    }

    fn spliced(&self, span: &Range<usize>, replacement: &[u8]) -> Self {
        let mut text = BytesMut::with_capacity(self.text.len() - span.len() + replacement.len());
        text.extend_from_slice(&self.text[..span.start]);
        text.extend_from_slice(replacement);
        text.extend_from_slice(&self.text[span.end..]);
        let moved = |part: &Range<usize>| {
            let shift = |place: usize| {
                if span.end <= place { place - span.len() + replacement.len() } else { place }
            };
            if part.is_empty() { 0..0 } else { shift(part.start)..shift(part.end) }
        };
        Self {
            text: text.freeze(),
            kind: self.kind,
            method: self.method.clone(),
            id: self.id.clone(),
            id_span: moved(&self.id_span),
            body: moved(&self.body),
        }
    }
}

/// Appends method, params and the closing brace; where the params stand.
fn push_method(text: &mut String, method: &str, params: &str) -> Range<usize> {
    text.push_str(r#","method":"#);
    text.push_str(&parts::quoted(method));
    let mut body = 0..0;
    if !params.is_empty() {
        text.push_str(r#","params":"#);
        body = text.len()..text.len() + params.len();
        text.push_str(params);
    }
    text.push('}');
    body
}

/// What an envelope turned out to be; `body` is the member that [`Message::body`] is.
struct Classified<'a> {
    kind: Kind,
    method: String,
    id: Option<Id>,
    body: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    fn classify(&self) -> Result<Classified<'a>, ParseError> {
        if self.jsonrpc.map(RawValue::get) != Some(r#""2.0""#) {
            return Err(ParseError::request(r#"the member "jsonrpc" must be "2.0""#));
        }
        let id = match self.id {
            None => None,
            Some(raw) if raw.get() == "null" && self.error.is_some() => None,
            Some(raw) => Some(
                Id::from_raw(raw.get())
                    .ok_or_else(|| ParseError::request("the id must be a string or an integer"))?,
            ),
        };
        match (self.method, self.result, self.error) {
            (Some(method), None, None) => {
                let method = serde_json::from_str(method.get())
                    .map_err(|_| ParseError::request("the method must be a string"))?;
                if self.params.is_some_and(|params| !params.get().starts_with('{')) {
                    return Err(ParseError::request("params must be an object"));
                }
                let kind = if id.is_some() { Kind::Request } else { Kind::Notification };
                Ok(Classified { kind, method, id, body: self.params })
            }
            (None, Some(result), None) if id.is_some() => {
                Ok(Classified { kind: Kind::Result, method: String::new(), id, body: Some(result) })
            }
            (None, None, Some(error)) => {
                Ok(Classified { kind: Kind::Error, method: String::new(), id, body: Some(error) })
            }
            (Some(_) | None, Some(_) | None, Some(_) | None) => {
                Err(ParseError::request("neither a request, a notification nor a response"))
            }
        }
    }
}

#[cfg(test)]
mod tests;

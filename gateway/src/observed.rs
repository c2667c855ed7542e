//! What an edge tells of the requests that go through it: a span and a duration each.
//!
//! Only where somebody wants to know (`--otlp` or the standard variables); elsewhere nothing is made
//! and no message is touched. Names are those of OpenTelemetry's conventions for MCP.

use std::{sync::Arc, time::Duration};

use aip_codec::aip::trace::TraceContext;
use aip_telemetry::{
    KeyValue, SdkSpan, SdkTracer, Telemetry, local,
    metrics::Histogram,
    remote,
    trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use tokio::time::Instant;

use crate::{
    bridge::{replaced_meta, with_meta},
    message::{Kind, Message, meta, string_member},
    name::ServerName,
};

/// In a request's `_meta`: the span that it belongs to.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// Seconds, as the conventions want them.
const BOUNDARIES: [f64; 14] =
    [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Which side of MCP an edge stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The server, towards an agent.
    Server,
    /// The client, towards an MCP server.
    Client,
}

/// Makes spans and measures durations; the default does neither. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    inner: Option<Arc<Inner>>,
    /// The MCP server that the edge stands for or beside.
    server: Arc<str>,
}

#[derive(Debug)]
struct Inner {
    side: Side,
    tracer: Option<SdkTracer>,
    duration: Option<Histogram<f64>>,
}

impl Observer {
    /// Tells `telemetry` of requests.
    pub fn new(telemetry: &Telemetry, side: Side) -> Self {
        let name = match side {
            Side::Server => "mcp.server.operation.duration",
            Side::Client => "mcp.client.operation.duration",
        };
        let duration = telemetry.meter().map(|meter| {
            let histogram = meter.f64_histogram(name).with_unit("s");
            histogram.with_boundaries(BOUNDARIES.to_vec()).build()
        });
        let tracer = telemetry.tracer();
        let inner = Some(Arc::new(Inner { side, tracer, duration }));
        Self { inner, server: Arc::default() }
    }

    /// The same for requests to this server.
    #[must_use]
    pub fn of(&self, server: &ServerName) -> Self {
        Self { inner: self.inner.clone(), server: server.to_string().into() }
    }

    /// A request begins. Its parent is `parent`, or what the request says.
    pub(crate) fn begin(&self, request: &Message, parent: Option<TraceContext>) -> Observed {
        let Some(inner) = &self.inner else { return Observed { begun: None } };
        let attributes = attributes(request, &self.server);
        let name = match attributes.target() {
            Some(target) => format!("{} {target}", request.method()),
            None => request.method().to_owned(),
        };
        let span = inner.tracer.as_ref().map(|tracer| {
            let kind = match inner.side {
                Side::Server => SpanKind::Server,
                Side::Client => SpanKind::Client,
            };
            let parent = parent.or_else(|| context_of(request));
            let context = match parent {
                Some(parent) => {
                    aip_telemetry::Context::new().with_remote_span_context(remote(parent))
                }
                None => aip_telemetry::Context::new(),
            };
            let builder = tracer.span_builder(name).with_kind(kind);
            let builder = builder.with_attributes(attributes.of_span.clone());
            tracer.build_with_context(builder, &context)
        });
        let begun = Begun { inner: Arc::clone(inner), attributes, span, began: Instant::now() };
        Observed { begun: Some(begun) }
    }
}

/// A request that is told of when it ends, or is dropped.
#[derive(Debug)]
pub(crate) struct Observed {
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    inner: Arc<Inner>,
    attributes: Attributes,
    span: Option<SdkSpan>,
    began: Instant,
}

impl Observed {
    /// The request with this span as its parent; as it was if nobody wants to know.
    pub(crate) fn passed_on(&self, request: &Message) -> Message {
        let span = self.begun.as_ref().and_then(|begun| begun.span.as_ref());
        let Some(span) = span.filter(|span| span.span_context().is_valid()) else {
            return request.clone();
        };
        let value = format!("\"{}\"", local(span.span_context()));
        let body = match (request.body(), meta(request.body(), TRACEPARENT)) {
            ("", _) => with_meta("{}", TRACEPARENT, &value),
            (body, Some(_)) => replaced_meta(body, TRACEPARENT, &value),
            (body, None) => with_meta(body, TRACEPARENT, &value),
        };
        match (request.body().is_empty(), request.id()) {
            (true, Some(id)) => Message::request(id.clone(), request.method(), &body),
            _ => request.with_body(&body),
        }
    }

    /// The request has its answer.
    pub(crate) fn end(mut self, answer: &Message) {
        if let Some(begun) = self.begun.take() {
            begun.end(failure_of(answer));
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            begun.end(Some("cancelled".to_owned()));
        }
    }
}

impl Begun {
    fn end(self, failure: Option<String>) {
        let Self { inner, attributes, span, began } = self;
        let mut of_metric = attributes.of_metric;
        if let Some(failure) = &failure {
            of_metric.push(KeyValue::new("error.type", failure.clone()));
        }
        if let Some(duration) = &inner.duration {
            duration.record(Duration::as_secs_f64(&began.elapsed()), &of_metric);
        }
        if let Some(mut span) = span {
            if let Some(failure) = failure {
                span.set_attribute(KeyValue::new("error.type", failure.clone()));
                span.set_status(Status::error(failure));
            }
            span.end();
        }
    }
}

/// What is said of a request.
#[derive(Debug)]
struct Attributes {
    of_span: Vec<KeyValue>,
    /// Without what has no end of values.
    of_metric: Vec<KeyValue>,
    target: Option<String>,
}

impl Attributes {
    fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }
}

fn attributes(request: &Message, server: &str) -> Attributes {
    let mut of_metric = vec![
        KeyValue::new("mcp.method.name", request.method().to_owned()),
        KeyValue::new("aip.server", server.to_owned()),
    ];
    let name = string_member(request.body(), "name");
    let target = match request.method() {
        "tools/call" => name.map(|name| ("gen_ai.tool.name", name)),
        "prompts/get" => name.map(|name| ("gen_ai.prompt.name", name)),
        _ => None,
    };
    if let Some((key, name)) = &target {
        of_metric.push(KeyValue::new(*key, name.clone()));
    }
    let mut of_span = of_metric.clone();
    if let Some(uri) = string_member(request.body(), "uri") {
        of_span.push(KeyValue::new("mcp.resource.uri", uri));
    }
    if let Some(id) = request.id() {
        of_span.push(KeyValue::new("jsonrpc.request.id", id.as_raw().trim_matches('"').to_owned()));
    }
    Attributes { of_span, of_metric, target: target.map(|(_, name)| name) }
}

/// The span that a request says it belongs to.
pub(crate) fn context_of(request: &Message) -> Option<TraceContext> {
    let member = meta(request.body(), TRACEPARENT)?;
    TraceContext::parse(&serde_json::from_str::<String>(member.value).ok()?)
}

/// What kind of failure an answer is; `None` if it is none.
fn failure_of(answer: &Message) -> Option<String> {
    if answer.kind() == Kind::Error {
        let error: Option<serde_json::Value> = serde_json::from_str(answer.body()).ok();
        let code = error.and_then(|error| error.get("code")?.as_i64());
        return Some(code.map_or_else(|| "_OTHER".to_owned(), |code| code.to_string()));
    }
    let members = crate::message::object_members(answer.body()).unwrap_or_default();
    let is_error = members.iter().any(|m| m.name == "isError" && m.value == "true");
    is_error.then(|| "tool_error".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Id;

    #[test]
    fn where_nobody_wants_to_know_nothing_is_touched() {
        let request = Message::request(Id::from_number(1), "tools/call", r#"{"name": "t"}"#);
        let observed = Observer::default().begin(&request, None);
        assert_eq!(observed.passed_on(&request).text(), request.text());
        observed.end(&Message::result(&Id::from_number(1), b"{}"));
    }

    #[test]
    fn an_answer_is_a_failure_or_none() {
        let id = Id::from_number(1);
        assert_eq!(failure_of(&Message::result(&id, b"{}")), None);
        let failed = Message::result(&id, br#"{"content":[],"isError":true}"#);
        assert_eq!(failure_of(&failed).as_deref(), Some("tool_error"));
        let error = Message::error(Some(&id), -32601, "?", "");
        assert_eq!(failure_of(&error).as_deref(), Some("-32601"));
    }
}

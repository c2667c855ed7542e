//! Spans and metrics of the edges, as a collector receives them.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
};

use crate::tier::{PATIENCE, Relay, lines_of, program, until};

/// What was received, with the name of the program that told it.
#[derive(Debug, Default)]
struct Received {
    spans: Vec<(String, Span)>,
    /// Names of metrics and what their points are counts of.
    metrics: Vec<(String, String, u64)>,
}

type Shared = Arc<Mutex<Received>>;

/// A collector; its URL.
async fn collect() -> (String, Shared) {
    let received = Shared::default();
    let routes = Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/metrics", post(metrics))
        .with_state(Arc::clone(&received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (url, received)
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    }
}

async fn traces(State(received): State<Shared>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for of_program in request.resource_spans {
        let resource = of_program.resource.unwrap_or_default();
        let service = text(&resource.attributes, "service.name").unwrap();
        let spans = of_program.scope_spans.into_iter().flat_map(|scope| scope.spans);
        let spans = spans.map(|span| (service.clone(), span));
        received.lock().unwrap().spans.extend(spans);
    }
}

async fn metrics(State(received): State<Shared>, body: Bytes) {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    for of_program in request.resource_metrics {
        for metric in of_program.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            let Some(Data::Histogram(histogram)) = metric.data else { continue };
            for point in histogram.data_points {
                let method = text(&point.attributes, "mcp.method.name").unwrap_or_default();
                let seen = (metric.name.clone(), method, point.count);
                received.lock().unwrap().metrics.push(seen);
            }
        }
    }
}

/// `aip-mcp` with these arguments; what it prints goes nowhere.
fn aip_mcp(arguments: &[&str]) -> Child {
    Command::new(program("aip-mcp"))
        .args(arguments)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn ended(mut child: Child) {
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    assert!(ended.expect("it ends").unwrap().success());
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_through_both_edges_and_on_to_the_server() {
    let seen = tempfile::NamedTempFile::new().unwrap();
    let (collector, received) = collect().await;
    let relay = Relay::start();
    let url = format!("moqt://{}", relay.address);
    let server = format!(
        r#"while IFS= read -r line; do id=${{line#*\"id\":}}; id=${{id%%[,\}}]*}}
        case "$line" in
        *server/discover*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}}}}}}\n' "$id";;
        *tools/call*) printf '%s\n' "$line" >> {}; printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"complete","isError":true}}}}\n' "$id";;
        esac; done"#,
        seen.path().display()
    );
    let common = ["--relay", &url, "--insecure", "--otlp", &collector];
    let serve = [&["serve", "--name", "s"][..], &common, &["--", "sh", "-c", &server]].concat();
    let serving = aip_mcp(&serve);
    let connect = [&["connect", "--server", "s"][..], &common].concat();
    let mut connecting = aip_mcp(&connect);
    let mut input = connecting.stdin.take().unwrap();
    let mut lines = BufReader::new(connecting.stdout.take().unwrap()).lines();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "t",
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "traceparent": format!("00-{trace}-b7ad6b7169203331-01"),
            "tracestate": "a=1",
            "baggage": "k=v",
        },
    }});
    input.write_all(format!("{call}\n").as_bytes()).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let answer: Json = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    // What is left is told at the end.
    drop(input);
    ended(connecting).await;
    let serving_id = serving.id().unwrap().to_string();
    assert!(Command::new("kill").arg(serving_id).status().await.unwrap().success());
    ended(serving).await;
    until(|| 2 <= received.lock().unwrap().metrics.len()).await;
    let received = received.lock().unwrap();
    let span = |service: &str| {
        let of_it =
            received.spans.iter().find(|(of, span)| of == service && span.name == "tools/call t");
        &of_it.unwrap_or_else(|| panic!("no span of {service}: {received:?}")).1
    };
    let (agents, servers) = (span("aip-mcp-connect"), span("aip-mcp-serve"));
    for (span, kind) in [(agents, SpanKind::Server), (servers, SpanKind::Client)] {
        assert_eq!(hexadecimal(&span.trace_id), trace);
        assert_eq!(span.kind(), kind);
        assert_eq!(text(&span.attributes, "mcp.method.name").as_deref(), Some("tools/call"));
        assert_eq!(text(&span.attributes, "error.type").as_deref(), Some("tool_error"));
        assert!(span.start_time_unix_nano < span.end_time_unix_nano);
    }
    assert_eq!(hexadecimal(&agents.parent_span_id), "b7ad6b7169203331");
    assert_eq!(servers.parent_span_id, agents.span_id);
    let at_server: Json = serde_json::from_str(&lines_of(&seen)[0]).unwrap();
    let said = &at_server["params"]["_meta"];
    assert_eq!(said["traceparent"], format!("00-{trace}-{}-01", hexadecimal(&servers.span_id)));
    assert_eq!((&said["tracestate"], &said["baggage"]), (&json!("a=1"), &json!("k=v")));
    for name in ["mcp.server.operation.duration", "mcp.client.operation.duration"] {
        let counted = (name.to_owned(), "tools/call".to_owned(), 1);
        assert!(received.metrics.contains(&counted), "{:?}", received.metrics);
    }
}

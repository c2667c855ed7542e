//! MCP servers: one that freezes, and the demonstration's.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aip_load::report::Report;
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde_json::{Value, json};
use tokio::sync::RwLock;

use crate::support::{RelayNode, aip_load, report_of};

/// After so many requests nobody is answered for a second.
const FREEZE_AFTER: usize = 200;
const FREEZE: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
struct Server {
    asked: Arc<AtomicUsize>,
    frozen: Arc<RwLock<()>>,
}

/// An MCP server of revision 2026-07-28 over HTTP, of which one tool is known.
async fn answer(
    State(server): State<Server>,
    Json(request): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let Some(id) = request.get("id").cloned() else {
        return (StatusCode::ACCEPTED, Json(json!({})));
    };
    let result = match request["method"].as_str().unwrap_or_default() {
        "server/discover" => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "frozen", "version": "1"}},
            "ttlMs": 0, "cacheScope": "public",
        }),
        "tools/list" => json!({
            "resultType": "complete", "ttlMs": 0, "cacheScope": "public",
            "tools": [
                {"name": "echo", "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}, "annotations": {"readOnlyHint": true}},
                {"name": "destroy", "inputSchema": {"type": "object"}},
            ],
        }),
        "tools/call" if request["params"]["name"] == "echo" => {
            if server.asked.fetch_add(1, Ordering::SeqCst) == FREEZE_AFTER {
                let _all = server.frozen.write().await;
                tokio::time::sleep(FREEZE).await;
            }
            let _free = server.frozen.read().await;
            let text = request["params"]["arguments"]["text"].clone();
            json!({"resultType": "complete", "content": [{"type": "text", "text": text}]})
        }
        _ => {
            let error = json!({"code": -32601, "message": "not here"});
            return (StatusCode::OK, Json(json!({"jsonrpc": "2.0", "id": id, "error": error})));
        }
    };
    (StatusCode::OK, Json(json!({"jsonrpc": "2.0", "id": id, "result": result})))
}

/// Runs `load` while the server is up.
fn with_server<T>(load: impl FnOnce(&str) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = Router::new().route("/mcp", post(answer)).with_state(Server::default());
    let serving = runtime.spawn(async move { axum::serve(listener, router).await });
    let loaded = load(&url);
    serving.abort();
    loaded
}

/// The share of answers that took at least half of the freeze.
fn share_frozen(report: &Report) -> f64 {
    let times = report.main().unwrap().times().unwrap();
    let half = u64::try_from(FREEZE.as_nanos() / 2).unwrap();
    let slow: u64 =
        times.recorded().filter(|(time, _)| half <= *time).map(|(_, count)| count).sum();
    slow as f64 / times.count() as f64
}

const SHORT: [&str; 7] = ["--quiet", "--json", "-", "--warm-up", "100ms", "--duration", "4s"];

#[test]
fn a_target_that_freezes_for_a_second_shows_in_the_tail() {
    let open = with_server(|url| {
        let rate = ["mcp", "--url", url, "--tool", "echo", "--arrivals", "constant:100"];
        report_of(&aip_load(&[&rate[..], &SHORT].concat()))
    });
    assert_eq!(open.counts.ok, 400, "{:?}", open.counts);
    // Half of the second's 100 requests were due in its first half, and waited for the other.
    let share = share_frozen(&open);
    assert!(0.11 <= share, "{share}: those who would have come meanwhile are missing");
    assert!(500_000_000 <= open.main().unwrap().summary.p90);

    let closed = with_server(|url| {
        let one = ["mcp", "--url", url, "--tool", "echo", "--closed", "--agents", "1"];
        report_of(&aip_load(&[&one[..], &SHORT].concat()))
    });
    assert!(0 < closed.counts.ok && share_frozen(&closed) < share / 4.0, "a closed loop hides it");
    let warned = closed.validity.warnings.iter().any(|warning| warning.contains("closed loop"));
    assert!(warned, "and says so");
    assert_eq!(closed.main().unwrap().name, "latency (closed loop)");
}

#[test]
fn answers_are_checked_and_tools_that_may_change_something_are_not_called() {
    with_server(|url| {
        let common = ["mcp", "--url", url, "--arrivals", "constant:50", "--quiet", "--json", "-"];
        let times = ["--warm-up", "100ms", "--duration", "1s"];
        let report = report_of(&aip_load(&[&common[..], &times].concat()));
        let titles: Vec<_> = report.series.iter().map(|series| series.title()).collect();
        assert!(titles.contains(&"latency[request=tools/call echo]".to_owned()), "{titles:?}");
        assert!(!titles.iter().any(|title| title.contains("destroy")), "{titles:?}");

        let file = tempfile::NamedTempFile::new().unwrap();
        let plan = "[[request]]\nmethod = 'tools/call'\ntool = 'echo'\nexpect = '{{sequence}}!'\n\
                    arguments = { text = '{{sequence}}!' }\n\
                    [[request]]\nmethod = 'tools/call'\ntool = 'echo'\nexpect = 'never said'\n\
                    [[request]]\nmethod = 'prompts/list'\n";
        std::fs::write(file.path(), plan).unwrap();
        let plan = ["--plan", file.path().to_str().unwrap()];
        let report = report_of(&aip_load(&[&common[..], &times, &plan].concat()));
        let counts = &report.counts;
        assert!(0 < counts.ok && 0 < counts.wrong, "{counts:?}");
        assert_eq!(counts.errors.keys().collect::<Vec<_>>(), ["JSON-RPC -32601"]);
        assert_eq!(counts.ok + counts.wrong + counts.errors_total(), counts.expected);
    });
}

/// A program of this workspace, built beside the tests.
fn program(name: &str) -> String {
    let mut path = PathBuf::from(env!("CARGO_BIN_EXE_aip-load"));
    path.set_file_name(name);
    assert!(path.exists(), "{} is missing: cargo build --workspace --bins", path.display());
    path.to_str().unwrap().to_owned()
}

fn library() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.txt", "b.txt"] {
        std::fs::write(folder.path().join(name), format!("the text of {name}")).unwrap();
    }
    folder
}

#[test]
fn the_same_plan_runs_over_stdio_http_and_through_a_relay() {
    let folder = library();
    let demo = program("aip-demo");
    let path = folder.path().to_str().unwrap();
    let server = ["--", &demo, "library", path];
    let plan = ["mcp", "--tool", "search", "--arrivals", "constant:50", "--agents", "5"];
    let times = ["--quiet", "--json", "-", "--warm-up", "100ms", "--duration", "1s"];
    let stdio = report_of(&aip_load(&[&plan[..], &times, &server].concat()));

    let relay = RelayNode::start();
    let url = relay.url();
    let mut serving = std::process::Command::new(program("aip-mcp"))
        .args(["serve", "--relay", &url, "--insecure", "--name", "lib"])
        .args(server)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let tier = ["--relay", &url, "--insecure", "--server", "lib"];
    let tier = aip_load(&[&plan[..], &times, &tier].concat());
    // It ends on its own when its relay's test is over, but not soon.
    serving.kill().unwrap();
    serving.wait().unwrap();
    let tier = report_of(&tier);
    for report in [&stdio, &tier] {
        assert_eq!(report.counts.ok, 50, "{:?}", report.counts);
        assert_eq!(report.counts.expected, 50);
    }
    assert_eq!(stdio.fingerprint, tier.fingerprint, "so that they can be compared");
    let connects = |report: &Report| {
        report.series.iter().find(|series| series.name == "connect").unwrap().summary.count
    };
    assert_eq!((connects(&stdio), connects(&tier)), (1, 5), "each agent has a session of its own");
}

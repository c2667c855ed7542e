//! An MCP server of revision 2026-07-28 over HTTP whose one tool takes a time that is drawn anew for
//! each call: something to hold two load generators against.
//!
//! Usage: `waiting_server ADDRESS [MEAN_MILLISECONDS]`. A call takes 2 ms and an exponential time of
//! that mean, 8 ms by default.
#![expect(clippy::print_stdout, reason = "it says where it listens")]

use std::{net::SocketAddr, time::Duration};

use axum::{Json, Router, extract::State, routing::post};
use serde_json::{Value, json};

/// What every call takes.
const LEAST: Duration = Duration::from_millis(2);

#[derive(Clone, Copy)]
struct Wait {
    mean: Duration,
}

async fn answer(State(wait): State<Wait>, Json(request): Json<Value>) -> Json<Value> {
    let complete = |key: &str, value: Value| {
        let mut result = json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "public"});
        result[key] = value;
        result
    };
    let result = match request["method"].as_str().unwrap_or_default() {
        "server/discover" => {
            let mut result = complete("supportedVersions", json!(["2026-07-28"]));
            result["capabilities"] = json!({"tools": {}});
            result["_meta"] = json!({
                "io.modelcontextprotocol/serverInfo": {"name": "waiting", "version": "1"}
            });
            result
        }
        "tools/list" => {
            let annotations = json!({"readOnlyHint": true});
            let schema = json!({"type": "object"});
            let tool = json!({"name": "wait", "inputSchema": schema, "annotations": annotations});
            complete("tools", json!([tool]))
        }
        "tools/call" => {
            // 1 - f64() lies in (0, 1], so that the time is finite.
            let drawn = wait.mean.mul_f64(-(1.0 - fastrand::f64()).ln());
            // A thread that sleeps does not fail.
            _ = tokio::task::spawn_blocking(move || sleep(LEAST + drawn)).await;
            complete("content", json!([{"type": "text", "text": "waited"}]))
        }
        _ => {
            let error = json!({"code": -32601, "message": "not here"});
            return Json(json!({"jsonrpc": "2.0", "id": request["id"], "error": error}));
        }
    };
    Json(json!({"jsonrpc": "2.0", "id": request["id"], "result": result}))
}

/// On a thread of its own: the runtime's timers tick each millisecond, and a client that calls right
/// after an answer would wait for the rest of each tick, another would not.
#[expect(clippy::disallowed_methods, reason = "the call takes a time")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or("ADDRESS is wanted")?.parse()?;
    let mean = arguments.next().map_or(Ok(8), |text| text.parse())?;
    let wait = Wait { mean: Duration::from_millis(mean) };
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let router = Router::new().route("/mcp", post(answer)).with_state(wait);
    axum::serve(listener, router).await?;
    Ok(())
}

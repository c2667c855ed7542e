//! An MCP server of revision 2026-07-28 over HTTP, which freezes once, and tells of changes.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{
        IntoResponse as _, Response,
        sse::{Event, Sse},
    },
    routing::post,
};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::{RwLock, broadcast};

/// After so many calls of `echo` nobody is answered for a second.
const FREEZE_AFTER: usize = 200;
pub(crate) const FREEZE: Duration = Duration::from_secs(1);
/// The one resource.
pub(crate) const RESOURCE: &str = "test://one";

/// What the server knows.
#[derive(Clone)]
pub(crate) struct Server {
    /// Calls of `echo` so far.
    pub(crate) asked: Arc<AtomicUsize>,
    frozen: Arc<RwLock<()>>,
    changes: broadcast::Sender<()>,
}

async fn answer(State(server): State<Server>, Json(request): Json<Value>) -> Response {
    let Some(id) = request.get("id").cloned() else {
        return (StatusCode::ACCEPTED, Json(json!({}))).into_response();
    };
    let method = request["method"].as_str().unwrap_or_default();
    if method == "subscriptions/listen" {
        return listen(&server, &id).into_response();
    }
    let answer = match result(&server, method, &request["params"]).await {
        Some(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        None => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "not here"}})
        }
    };
    Json(answer).into_response()
}

async fn result(server: &Server, method: &str, params: &Value) -> Option<Value> {
    let complete = |members: Value| {
        let mut result = json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "public"});
        result.as_object_mut()?.extend(members.as_object()?.clone());
        Some(result)
    };
    match (method, params["name"].as_str().unwrap_or_default()) {
        ("server/discover", _) => complete(json!({
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}, "resources": {"subscribe": true}},
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "frozen", "version": "1"}},
        })),
        ("tools/list", _) => complete(json!({"tools": [
            {"name": "echo", "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}, "annotations": {"readOnlyHint": true}},
            {"name": "destroy", "inputSchema": {"type": "object"}},
        ]})),
        ("resources/list", _) => complete(json!({"resources": [{"uri": RESOURCE, "name": "one"}]})),
        ("tools/call", "echo") => {
            if server.asked.fetch_add(1, Ordering::SeqCst) == FREEZE_AFTER {
                let _all = server.frozen.write().await;
                tokio::time::sleep(FREEZE).await;
            }
            let _free = server.frozen.read().await;
            let text = params["arguments"]["text"].clone();
            complete(json!({"content": [{"type": "text", "text": text}]}))
        }
        ("tools/call", "touch") => {
            // Nobody need listen.
            _ = server.changes.send(());
            complete(json!({"content": []}))
        }
        _ => None,
    }
}

/// A stream that says that it listens, and then of every change.
fn listen(
    server: &Server,
    id: &Value,
) -> Sse<impl futures::Stream<Item = Result<Event, Infallible>> + use<>> {
    let said = |method: &str, mut params: Value| {
        params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId": id});
        json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
    };
    let first = said("notifications/subscriptions/acknowledged", json!({"notifications": {}}));
    let change = said("notifications/resources/updated", json!({"uri": RESOURCE}));
    let changes = stream::unfold(server.changes.subscribe(), |mut changes| async move {
        changes.recv().await.ok().map(|()| ((), changes))
    });
    let changes = changes.map(move |()| change.clone());
    let all = stream::once(async move { first }).chain(changes);
    Sse::new(all.map(|text| Ok(Event::default().data(text))))
}

/// Runs `load` while the server is up.
pub(crate) fn with_server<T>(load: impl FnOnce(&str, &Server) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let server =
        Server { asked: Arc::default(), frozen: Arc::default(), changes: broadcast::channel(64).0 };
    let router = Router::new().route("/mcp", post(answer)).with_state(server.clone());
    let serving = runtime.spawn(async move { axum::serve(listener, router).await });
    let loaded = load(&url, &server);
    serving.abort();
    loaded
}

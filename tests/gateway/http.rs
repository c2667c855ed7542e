//! Agents and servers over Streamable HTTP, with sessions and without.

use std::sync::{Arc, Mutex};

use aip_gateway::demonstration::library::Library;
use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt as _, RoleClient, ServiceExt as _,
    model::{
        CallToolRequestParams, ClientConfig, ProtocolVersion, ReadResourceRequestParams,
        ResourceUpdatedNotificationParam, ServerNotification, SubscriptionFilter,
    },
    service::{NotificationContext, RunningService},
    transport::{
        StreamableHttpClientTransport,
        streamable_http_server::{
            StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
        },
    },
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::tier::{
    Agent, Listening, PATIENCE, Relay, Serving, behind, connector, connector_with, library,
};

const URI: &str = "library:///a.md";

/// An agent that hears of updates.
#[derive(Clone)]
struct Hearing(Arc<Mutex<mpsc::UnboundedSender<String>>>);

impl Hearing {
    fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Arc::new(Mutex::new(sender))), receiver)
    }
}

impl ClientHandler for Hearing {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::default()
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        _ = self.0.lock().unwrap().send(params.uri);
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.md"), "one two\n").unwrap();
    folder
}

async fn read(client: &RunningService<RoleClient, Hearing>) -> String {
    let result = client.read_resource(ReadResourceRequestParams::new(URI)).await.unwrap();
    let result = serde_json::to_value(result).unwrap();
    result["contents"][0]["text"].as_str().unwrap().to_owned()
}

async fn search(client: &RunningService<RoleClient, Hearing>) -> Value {
    let arguments = json!({"words": "two"}).as_object().unwrap().clone();
    let call = CallToolRequestParams::new("search").with_arguments(arguments);
    serde_json::to_value(client.call_tool(call).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_a_session_lists_calls_reads_and_is_told() {
    let (folder, relay) = (folder(), Relay::start());
    let serving = Serving::start(&relay, library(folder.path(), Some(false))).await;
    let (link, _served, _worker) = relay.link();
    let listening = Listening::start(connector(link).await).await;
    let (hearing, mut heard) = Hearing::new();
    let transport = StreamableHttpClientTransport::from_uri(listening.url.clone());
    let client = hearing.serve(transport).await.unwrap();
    assert_eq!(client.list_all_tools().await.unwrap().len(), 3);
    assert_eq!(search(&client).await["content"][0]["text"], "a.md:1: one two");
    assert_eq!(read(&client).await, "one two\n");
    #[expect(deprecated, reason = "it is what sessions have")]
    client.subscribe(rmcp::model::SubscribeRequestParams::new(URI)).await.unwrap();
    std::fs::write(folder.path().join("a.md"), "three\n").unwrap();
    let told = tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap();
    assert_eq!(told.as_deref(), Some(URI));
    assert_eq!(read(&client).await, "three\n");
    client.cancel().await.unwrap();
    drop(listening);
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_session_lists_calls_reads_and_is_told() {
    let (folder, relay) = (folder(), Relay::start());
    let serving = Serving::start(&relay, library(folder.path(), Some(true))).await;
    let (link, _served, _worker) = relay.link();
    let listening = Listening::start(connector(link).await).await;
    let transport = StreamableHttpClientTransport::from_uri(listening.url.clone());
    let modern =
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let client = Hearing::new().0.serve_with_lifecycle(transport, modern).await.unwrap();
    assert_eq!(client.list_all_tools().await.unwrap().len(), 3);
    assert_eq!(search(&client).await["content"][0]["text"], "a.md:1: one two");
    assert_eq!(read(&client).await, "one two\n");
    let mut filter = SubscriptionFilter::new();
    filter.resources_list_changed = Some(true);
    filter.resource_subscriptions = Some(vec![URI.to_owned()]);
    let mut subscription = client.listen(filter.clone()).await.unwrap();
    assert_eq!(*subscription.acknowledged(), filter);
    std::fs::write(folder.path().join("a.md"), "three\n").unwrap();
    let told = tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
    assert!(matches!(told, Some(ServerNotification::ResourceUpdatedNotification(_))), "{told:?}");
    assert_eq!(read(&client).await, "three\n");
    std::fs::write(folder.path().join("b.md"), "new\n").unwrap();
    let told = tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
    assert!(
        matches!(told, Some(ServerNotification::ResourceListChangedNotification(_))),
        "{told:?}"
    );
    subscription.cancel().await.unwrap();
    client.cancel().await.unwrap();
    drop(listening);
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_can_do_both_does_what_the_server_does() {
    let relay = Relay::start();
    // Where the edge bridges, it may choose, and is served all the same.
    let ways = [
        (false, false, "2025-11-25"),
        (true, false, "2026-07-28"),
        (false, true, "2026-07-28"),
        (true, true, "2026-07-28"),
    ];
    for (modern, bridges, version) in ways {
        let folder = folder();
        let serving = Serving::start(&relay, library(folder.path(), Some(modern))).await;
        let (link, _served, _worker) = relay.link();
        let connector = connector_with(link, |options| options.bridges = bridges).await;
        let listening = Listening::start(connector).await;
        let transport = StreamableHttpClientTransport::from_uri(listening.url.clone());
        let both = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        };
        let client = Hearing::new().0.serve_with_lifecycle(transport, both).await.unwrap();
        let spoken = client.peer_info().unwrap().protocol_version.to_string();
        assert_eq!(spoken, version);
        assert_eq!(search(&client).await["content"][0]["text"], "a.md:1: one two");
        client.cancel().await.unwrap();
        drop(listening);
        serving.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_servers_of_different_eras_understand_each_other() {
    let relay = Relay::start();
    let folder = folder();
    let serving = Serving::start(&relay, library(folder.path(), Some(true))).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    assert_eq!(agent.ask("tools/list", json!({})).await.unwrap()["tools"][0]["name"], "search");
    let call = json!({"name": "search", "arguments": {"words": "two"}});
    let called = agent.ask("tools/call", call).await.unwrap();
    assert_eq!(called["content"][0]["text"], "a.md:1: one two");
    agent.ask("resources/subscribe", json!({"uri": URI})).await.unwrap();
    std::fs::write(folder.path().join("a.md"), "three\n").unwrap();
    agent.notified("notifications/resources/updated").await;
    agent.close().await;
    serving.end().await;

    let folder = self::folder();
    let serving = Serving::start(&relay, library(folder.path(), Some(false))).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::new(connector(link).await).await;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let list = agent.ask("tools/list", json!({"_meta": meta})).await.unwrap();
    assert_eq!(
        (&list["resultType"], &list["cacheScope"], list["ttlMs"].is_u64()),
        (&json!("complete"), &json!("public"), true)
    );
    let call = json!({"name": "search", "arguments": {"words": "two"}, "_meta": meta});
    let called = agent.ask("tools/call", call).await.unwrap();
    assert_eq!(called["resultType"], "complete");
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_behind_urls_are_served_of_either_era() {
    for modern in [false, true] {
        let (folder, relay) = (folder(), Relay::start());
        let library = Library::start(folder.path().to_owned(), Some(modern));
        let config = StreamableHttpServerConfig::default();
        let service: StreamableHttpService<Library, LocalSessionManager> =
            StreamableHttpService::new(move || Ok(library.clone()), Arc::default(), config);
        let routes = axum::Router::new().nest_service("/mcp", service);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let server = tokio::spawn(axum::serve(listener, routes).into_future());
        let serving = Serving::start(&relay, behind(&url)).await;
        let (link, _served, _worker) = relay.link();
        let connector = connector(link).await;
        assert_eq!(connector.description().revision.is_modern(), modern);
        let mut agent = Agent::begun(connector).await;
        assert_eq!(agent.ask("tools/list", json!({})).await.unwrap()["tools"][0]["name"], "search");
        let call = json!({"name": "search", "arguments": {"words": "two"}});
        let called = agent.ask("tools/call", call).await.unwrap();
        assert_eq!(called["content"][0]["text"], "a.md:1: one two");
        agent.ask("resources/subscribe", json!({"uri": URI})).await.unwrap();
        std::fs::write(folder.path().join("a.md"), "three\n").unwrap();
        agent.notified("notifications/resources/updated").await;
        let text = agent.ask("resources/read", json!({"uri": URI})).await.unwrap();
        assert_eq!(text["contents"][0]["text"], "three\n");
        let unknown = agent.ask("resources/read", json!({"uri": "library:///b"})).await;
        assert!(unknown.unwrap_err()["message"].as_str().unwrap().contains("no file `b`"));
        agent.close().await;
        serving.end().await;
        server.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_http_forbids_is_refused_with_its_status() {
    let (folder, relay) = (folder(), Relay::start());
    let serving = Serving::start(&relay, library(folder.path(), Some(true))).await;
    let (link, _served, _worker) = relay.link();
    let listening = Listening::start(connector(link).await).await;
    let client = reqwest::Client::new();
    let list = |version: &str| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": {
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {},
        }}})
        .to_string()
    };
    let post = |body: String, headers: &[(&'static str, &'static str)]| {
        let mut request = client
            .post(&listening.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        async move {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let body = response.text().await.unwrap();
            let body: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
            (status, body["error"]["code"].as_i64().unwrap_or(0))
        }
    };
    let (version, method) = (("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list"));
    let body = list("2026-07-28");
    assert_eq!(post(body.clone(), &[version, method]).await, (200, 0));
    assert_eq!(post(body.clone(), &[method]).await, (400, -32020), "no version");
    assert_eq!(post(body.clone(), &[version]).await, (400, -32020), "no method");
    let other = ("mcp-method", "tools/call");
    assert_eq!(post(body.clone(), &[version, other]).await, (400, -32020), "another method");
    let old = ("mcp-protocol-version", "2025-11-25");
    assert_eq!(post(body.clone(), &[old, method]).await, (400, -32020), "another version");
    let future = ("mcp-protocol-version", "2099-01-01");
    assert_eq!(post(list("2099-01-01"), &[future, method]).await, (400, -32022));
    let origin = ("origin", "https://example.org");
    assert_eq!(post(body.clone(), &[version, method, origin]).await.0, 403);
    let origin = ("origin", "http://localhost:6274");
    assert_eq!(post(body.clone(), &[version, method, origin]).await.0, 200);
    let host = ("host", "rebound.example.org");
    assert_eq!(post(body.clone(), &[version, method, host]).await.0, 403);
    let session = ("mcp-session-id", "x");
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_owned();
    assert_eq!(post(ping.clone(), &[session]).await.0, 404);
    assert_eq!(post(ping, &[]).await.0, 400);
    assert_eq!(post("[]".to_owned(), &[version]).await, (400, -32600));
    assert_eq!(post("{".to_owned(), &[version]).await, (400, -32700));
    let unknown = body.replace("tools/list", "no/such");
    let no_such = ("mcp-method", "no/such");
    assert_eq!(post(unknown, &[version, no_such]).await, (404, -32601));
    let call =
        body.replace("tools/list", "tools/call").replace(r#""_meta""#, r#""name":"é","_meta""#);
    let (called, named) = (("mcp-method", "tools/call"), ("mcp-name", "=?base64?w6k=?="));
    assert_eq!(post(call.clone(), &[version, called, ("mcp-name", "e")]).await, (400, -32020));
    assert_eq!(post(call.clone(), &[version, called]).await, (400, -32020));
    assert_eq!(post(call, &[version, called, named]).await.1, -32602, "the server's own error");
    assert_eq!(client.get(&listening.url).send().await.unwrap().status(), 405);
    assert_eq!(client.delete(&listening.url).send().await.unwrap().status(), 405);
    drop(listening);
    serving.end().await;
}

//! Servers behind an edge: processes of agents' own, several of one file, credentials, limits.

use std::{path::Path, sync::Arc, time::Duration};

use aip_gateway::{
    backend::{Backend, ClientSide, stdio},
    connect::{self, Connector},
    fleet,
    link::{self, Link},
    message::Limits,
    name::ServerName,
    observed::Observer,
    serve::{OwnProcesses, Processes},
};
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    revisions::modern,
    tier::{
        Agent, Listening, PATIENCE, Relay, Serving, behind_with, connector, lines_of, modern_shell,
        shell, shell_options, until,
    },
};

/// A server with sessions that asks for roots as soon as one has begun, and tells by any call what
/// it was told, of whom, and how many calls it has had.
const ROOTED: &str = r#"case "$line" in
    *'"id":"roots"'*) roots=${line#*\"uri\":\"}; roots=${roots%%\"*};;
    *'"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[],"sampling":%s}}\n' "$id" "$sampling";;
    *'"tools/call"'*) n=$((n+1)); printf '{"jsonrpc":"2.0","id":%s,"result":{"roots":"%s","calls":%s,"sampling":%s}}\n' "$id" "$roots" "$n" "$sampling";;
    *) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id";; esac"#;

/// The same, and the question after the handshake.
fn rooted() -> stdio::Options {
    let mut options = shell_options(r#"{"tools":{}}"#, ROOTED);
    let script = options.command.last_mut().unwrap();
    *script = script.replace(
        "*notifications/initialized*) ;;",
        r#"*notifications/initialized*) printf '{"jsonrpc":"2.0","id":"roots","method":"roots/list"}\n';;"#,
    );
    *script = script.replace(
        r#"*'"initialize"'*)"#,
        r#"*'"initialize"'*) case "$line" in *'"sampling"'*) sampling=true;; *) sampling=false;; esac;"#,
    );
    options
}

async fn agent_with_roots(connector: Arc<Connector>, root: &str) -> Agent {
    let mut agent = Agent::new(connector).await;
    let begin = json!({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {"roots": {}},
        "clientInfo": {"name": root, "version": "1"},
    }});
    agent.ask_raw(&begin.to_string()).await;
    agent.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    let question = agent.notified("roots/list").await;
    let answer =
        json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": [{"uri": root}]}});
    agent.send(&answer.to_string()).await;
    agent
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_can_be_asked_have_processes_of_their_own() {
    let relay = Relay::start();
    let stdio = rooted();
    let (backend, news) = stdio::Stdio::start(stdio.clone());
    let own = OwnProcesses { stdio, processes: Processes::Auto, processes_max: 8 };
    let serving =
        Serving::start_own(&relay, (Backend::Stdio(backend), news), Some(own), |_| {}).await;
    let (link, _served, _worker) = relay.link();
    let connector = connector(link).await;
    let mut first = agent_with_roots(Arc::clone(&connector), "file:///a").await;
    let mut second = agent_with_roots(Arc::clone(&connector), "file:///b").await;
    let call = || json!({"name": "t"});
    for calls in 1..=3 {
        for (agent, root) in [(&mut first, "file:///a"), (&mut second, "file:///b")] {
            let told = agent.ask("tools/call", call()).await.unwrap();
            assert_eq!(told, json!({"roots": root, "calls": calls, "sampling": false}));
        }
    }
    // Agents that cannot be asked share a process, which asks nobody.
    for calls in 1..=2 {
        let mut other = Agent::new(Arc::clone(&connector)).await;
        other
            .ask_raw(r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#)
            .await;
        let told = other.ask("tools/call", call()).await.unwrap();
        assert_eq!(told["calls"], calls);
        assert!(!told["roots"].as_str().unwrap().starts_with("file"), "{told}");
        other.close().await;
    }
    first.close().await;
    second.close().await;
    serving.end().await;
}

/// A server with sessions lists what its client's capabilities allow: so it does for agents without.
#[tokio::test(flavor = "multi_thread")]
async fn lists_suit_what_an_agent_can_do() {
    let relay = Relay::start();
    let mut stdio = rooted();
    let own = OwnProcesses { stdio: stdio.clone(), processes: Processes::Auto, processes_max: 8 };
    stdio.client = ClientSide::silent();
    let (backend, news) = stdio::Stdio::start(stdio);
    let serving =
        Serving::start_own(&relay, (Backend::Stdio(backend), news), Some(own), |_| {}).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::new(connector(link).await).await;
    let able = [json!({}), json!({"sampling": {}}), json!({"roots": {}}), json!({})];
    for capabilities in able {
        let listed = agent.ask("tools/list", modern(json!({}), &capabilities)).await.unwrap();
        let samples = capabilities.get("sampling").is_some();
        assert_eq!(listed["sampling"], samples, "{capabilities}: {listed}");
    }
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_end_with_their_agents() {
    let pids = tempfile::NamedTempFile::new().unwrap();
    let relay = Relay::start();
    let mut stdio = rooted();
    let script = stdio.command.last_mut().unwrap();
    *script = format!("echo $$ >> {}; {script}", pids.path().display());
    let (backend, news) = stdio::Stdio::start(stdio.clone());
    let own = OwnProcesses { stdio, processes: Processes::Auto, processes_max: 8 };
    let serving =
        Serving::start_own(&relay, (Backend::Stdio(backend), news), Some(own), |_| {}).await;
    let (link, _served, _worker) = relay.link();
    let connector = connector(link).await;
    let running = || {
        let pids = lines_of(&pids);
        let there = pids.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
        (pids.len(), there.count())
    };
    let agent = agent_with_roots(Arc::clone(&connector), "file:///a").await;
    let mut other = agent_with_roots(connector, "file:///b").await;
    assert_eq!(running(), (3, 3));
    agent.close().await;
    until(|| running() == (3, 2)).await;
    other.ask("tools/call", json!({"name": "t"})).await.unwrap();
    other.close().await;
    serving.end().await;
    assert_eq!(running(), (3, 0), "a process is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_works_on_no_more_than_it_may() {
    let relay = Relay::start();
    // Holds each call until the next line: with one at a time there is none.
    let body = r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"first":true}}\n' "$id""#;
    let mut options = shell_options(r#"{"tools":{}}"#, body);
    options.concurrency = 1;
    let (backend, news) = stdio::Stdio::start(options);
    let serving = Serving::start(&relay, (Backend::Stdio(backend), news)).await;
    let (link, _served, _worker) = relay.link();
    let connector = connector(link).await;
    let mut asking = Vec::new();
    for _ in 0..10 {
        let mut agent = Agent::begun(Arc::clone(&connector)).await;
        asking.push(tokio::spawn(async move {
            for _ in 0..10 {
                agent.ask("tools/call", json!({"name": "t"})).await.unwrap();
            }
            agent.close().await;
        }));
    }
    for asked in asking {
        asked.await.unwrap();
    }
    serving.end().await;
}

/// An edge that offers this server.
async fn offers(
    link: Link,
    server: &str,
    wait: Duration,
) -> Result<Arc<Connector>, connect::Error> {
    let mut options = connect::Options::new(ServerName::new("localhost", server).unwrap());
    options.wait = wait;
    Connector::start(link, options).await
}

/// A configured server that answers any call with a word.
fn saying(name: &str, word: &str) -> String {
    let body = format!(
        r#"printf '{{"jsonrpc":"2.0","id":%s,"result":{{"word":"{word}","key":"'"$KEY"'"}}}}\n' "$id""#
    );
    let command = shell_options(r#"{"tools":{}}"#, &body).command;
    let command: Vec<String> =
        command.into_iter().map(|part| Value::from(part).to_string()).collect();
    let command = command.join(", ");
    format!("[server.{name}]\ncommand = [{command}]\nenvironment = {{ KEY = \"of {name}\" }}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_servers_is_followed_as_it_changes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), saying("one", "a") + &saying("two", "b")).unwrap();
    let relay = Relay::start();
    let options = fleet::Options {
        file: file.path().to_owned(),
        link: link::Options::new(relay.target.clone()),
        limits: Limits::default(),
        observer: Observer::default(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(fleet::run(options, async move { _ = stopped.await }));
    let (link, _served, _worker) = relay.link();
    let word = async |server: &str, wait| {
        let connector = offers(link.clone(), server, wait).await.ok()?;
        let mut agent = Agent::begun(connector).await;
        let said = agent.ask("tools/call", json!({"name": "t"})).await.ok()?;
        agent.close().await;
        assert_eq!(said["key"], format!("of {server}"));
        said["word"].as_str().map(str::to_owned)
    };
    assert_eq!(word("one", PATIENCE).await.as_deref(), Some("a"));
    assert_eq!(word("two", PATIENCE).await.as_deref(), Some("b"));
    // One goes, one changes, one comes.
    std::fs::write(file.path(), saying("two", "c") + &saying("three", "d")).unwrap();
    assert_eq!(word("three", PATIENCE).await.as_deref(), Some("d"));
    let began = Instant::now();
    while word("two", Duration::from_secs(2)).await.as_deref() != Some("c") {
        assert!(began.elapsed() < PATIENCE, "the change is not followed");
    }
    assert_eq!(word("one", Duration::from_millis(500)).await, None, "it was to go");
    stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_the_edges_credentials_and_never_an_agents() {
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |headers: axum::http::HeaderMap, body: String| {
        let seen = seen.clone();
        async move {
            let request: Value = serde_json::from_str(&body).unwrap();
            seen.send((request["method"].clone(), headers)).unwrap();
            let result = match request["method"].as_str() {
                Some("server/discover") => {
                    json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
                }
                _ => json!({"resultType": "complete", "content": [], "tools": []}),
            };
            axum::Json(json!({"jsonrpc": "2.0", "id": request["id"], "result": result}))
        }
    };
    let routes = axum::Router::new().route("/mcp", axum::routing::post(handler));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let server = tokio::spawn(axum::serve(listener, routes).into_future());
    let relay = Relay::start();
    let backend = behind_with(&url, |options| {
        options.headers = vec![("authorization".to_owned(), "Bearer edge".to_owned())];
    });
    let serving = Serving::start(&relay, backend).await;
    let (link, _served, _worker) = relay.link();
    let listening = Listening::start(connector(link).await).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    let response = reqwest::Client::new()
        .post(&listening.url)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "t")
        .header("authorization", "Bearer agent")
        .header("cookie", "agent")
        .body(call.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let mut called = false;
    while let Ok((method, headers)) = requests.try_recv() {
        assert_eq!(headers["authorization"], "Bearer edge", "{method}");
        assert!(!headers.contains_key("cookie"), "{method}");
        called |= method == "tools/call";
    }
    assert!(called);
    drop(listening);
    serving.end().await;
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_result_stands_in_for_a_server_that_fails() {
    let failing = tempfile::NamedTempFile::new().unwrap();
    let failed = tempfile::NamedTempFile::new().unwrap();
    let relay = Relay::start();
    let body = format!(
        r#"if [ -s {0} ]; then echo x >> {1}; printf '{{"jsonrpc":"2.0","id":%s,"error":{{"code":-32603,"message":"broken"}}}}\n' "$id";
        else printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"complete","tools":[],"ttlMs":50,"cacheScope":"public"}}}}\n' "$id"; fi"#,
        failing.path().display(),
        failed.path().display()
    );
    let serving = Serving::start_with(&relay, modern_shell(r#"{"tools":{}}"#, &body), |options| {
        options.stale_if_error = Duration::from_secs(60);
    })
    .await;
    let (link, _served, _worker) = relay.link();
    let mut options = connect::Options::new(ServerName::new("localhost", "server").unwrap());
    options.tells_cache_status = true;
    let mut agent = Agent::new(Connector::start(link, options).await.unwrap()).await;
    let list = || {
        json!({"_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }})
    };
    let first = agent.ask("tools/list", list()).await.unwrap();
    assert_eq!(first["_meta"]["aip/cache"]["from"], "track");
    let version = &first["_meta"]["aip/cache"]["version"];
    std::fs::write(failing.path(), "x").unwrap();
    // Until the version has expired nobody asks the server; whoever does gets it once more.
    let began = Instant::now();
    while lines_of(&failed).is_empty() {
        assert!(began.elapsed() < PATIENCE, "the server is not asked");
        let again = agent.ask("tools/list", list()).await.unwrap();
        assert_eq!(&again["_meta"]["aip/cache"]["version"], version, "an older result");
    }
    // What nobody knows is the server's error.
    let error = agent.ask("tools/call", json!({"name": "t", "_meta": list()["_meta"]})).await;
    assert_eq!(error.unwrap_err()["message"], "broken");
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_answers_reach_their_callers() {
    let relay = Relay::start();
    let body = r#"word=${line#*\"word\":\"}; printf '{"jsonrpc":"2.0","id":%s,"result":{"word":"%s"}}\n' "$id" "${word%%\"*}""#;
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    let connector = connector(link).await;
    let mut asking = Vec::new();
    for number in 0..50 {
        let mut agent = Agent::begun(Arc::clone(&connector)).await;
        asking.push(tokio::spawn(async move {
            let mut own = 0;
            // All ids start at 0, and all of an agent's calls are under way at once.
            for id in 0..200 {
                let word = format!("w{number}x{id}");
                let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
                    "name": "t", "arguments": {"word": word},
                }});
                agent.send(&call.to_string()).await;
            }
            for _ in 0..200 {
                let answer: Value = serde_json::from_str(&agent.response().await).unwrap();
                let word = format!("w{number}x{}", answer["id"]);
                let is_own = answer["result"]["word"] == word.as_str();
                assert!(is_own, "{word} was answered with {answer}");
                own += 1;
            }
            agent.close().await;
            own
        }));
    }
    let mut own = 0;
    for asked in asking {
        own += asked.await.unwrap();
    }
    assert_eq!(own, 10_000, "of 10,000 answers");
    serving.end().await;
}

/// The most memory that a process has held, in bytes.
fn most_memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_past_the_cap_is_an_error_and_no_memory() {
    const CAP: u64 = 64 << 20;
    let relay = Relay::start();
    let script = shell_options(
        r#"{"tools":{}}"#,
        r#"case "$line" in
        *'"flood"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"x":"' "$id"; head -c 200000000 /dev/zero | tr '\0' x; printf '"}}\n';;
        *) printf '{"jsonrpc":"2.0","id":%s,"result":{"well":true}}\n' "$id";; esac"#,
    );
    let relay_url = format!("moqt://{}", relay.address);
    let mut edge = tokio::process::Command::new(crate::tier::program("aip-mcp"))
        .args(["serve", "--relay", &relay_url, "--insecure", "--name", "server"])
        .args(["--result-max", &CAP.to_string(), "--"])
        .args(script.command)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = edge.id().unwrap();
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    agent.ask("tools/call", json!({"name": "t"})).await.unwrap();
    let before = most_memory_of(pid);
    let error = agent.ask("tools/call", json!({"name": "flood"})).await.unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("--result-max"), "{error}");
    let grown = most_memory_of(pid) - before;
    assert!(grown <= 2 * CAP, "{grown} bytes for a cap of {CAP}");
    assert_eq!(agent.ask("tools/call", json!({"name": "t"})).await.unwrap()["well"], true);
    agent.close().await;
    edge.kill().await.unwrap();
}

//! What servers, agents and results do that they should not, and what is kept from whom.

use std::{sync::Arc, time::Duration};

use aip_engine::io::{Target, Trust};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::tier::{Agent, Relay, Serving, connector, library, modern_shell, shell};

/// What a request of MCP 2026-07-28 says of itself.
fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn private_results_are_each_agents_own() {
    let relay = Relay::start();
    // Each answer is another one.
    let body = r#"n=$((n+1)); printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","n":%s,"contents":[],"ttlMs":60000,"cacheScope":"private"}}\n' "$id" "$n""#;
    let serving = Serving::start(&relay, modern_shell(r#"{"resources":{}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    let connector = connector(link).await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let mut agent = Agent::new(Arc::clone(&connector)).await;
        let params = json!({"uri": "u", "_meta": meta()});
        let result = agent.ask("resources/read", params).await.unwrap();
        assert_eq!(result["cacheScope"], "private");
        seen.push(result["n"].as_u64().unwrap());
        agent.close().await;
    }
    let mut distinct = seen.clone();
    distinct.dedup();
    assert_eq!(distinct, seen, "a result was kept for another agent");
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn public_results_are_asked_for_once() {
    let relay = Relay::start();
    let body = r#"n=$((n+1)); printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","n":%s,"tools":[],"ttlMs":60000,"cacheScope":"public"}}\n' "$id" "$n""#;
    let serving = Serving::start(&relay, modern_shell(r#"{"tools":{}}"#, body)).await;
    let mut workers = Vec::new();
    for _ in 0..5 {
        // Each agent has an edge and a session with the relay of its own.
        let (link, served, worker) = relay.link();
        let mut agent = Agent::new(connector(link).await).await;
        let list = json!({"jsonrpc": "2.0", "id": "x", "method": "tools/list", "params": {"_meta": meta()}});
        assert_eq!(
            agent.ask_raw(&list.to_string()).await,
            r#"{"jsonrpc":"2.0","id":"x","result":{"resultType":"complete","n":1,"tools":[],"ttlMs":60000,"cacheScope":"public"}}"#
        );
        agent.close().await;
        workers.push((served, worker));
    }
    assert_eq!(serving.end().await.track_reads, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_is_wanted_is_asked_of_who_called() {
    let relay = Relay::start();
    let body = r#"case "$line" in
        *'"requestState":"s"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","contents":[]}}\n' "$id";;
        *) printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"input_required","requestState":"s"}}\n' "$id";; esac"#;
    let serving = Serving::start(&relay, modern_shell(r#"{"resources":{}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    let connector = connector(link).await;
    let mut agent = Agent::new(Arc::clone(&connector)).await;
    let first = agent.ask("resources/read", json!({"uri": "u", "_meta": meta()})).await.unwrap();
    assert_eq!(
        (&first["resultType"], &first["requestState"]),
        (&json!("input_required"), &json!("s"))
    );
    let params = json!({"uri": "u", "inputResponses": {}, "requestState": "s", "_meta": meta()});
    let second = agent.ask("resources/read", params).await.unwrap();
    assert_eq!(second["resultType"], "complete");
    agent.close().await;
    // For a client whose revision does not have that, it is one request.
    let mut agent = Agent::begun(connector).await;
    let read = agent.ask("resources/read", json!({"uri": "u"})).await.unwrap();
    assert_eq!(read["resultType"], "complete");
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_or_drips_is_given_up_in_time() {
    let seen = tempfile::NamedTempFile::new().unwrap();
    let relay = Relay::start();
    let body = format!(
        r#"printf '%s\n' "$line" >> {0}; case "$line" in
        *'"drip"'*) for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do printf '{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":%s,"progress":%s}}}}\n' "$id" $i; sleep 0.1; done;; esac"#,
        seen.path().display()
    );
    let serving = Serving::start_with(&relay, shell(r#"{"tools":{}}"#, &body), |options| {
        options.call_timeout = Duration::from_millis(300);
        options.call_deadline = Duration::from_millis(900);
    })
    .await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    for (name, within) in [("hang", "300ms"), ("drip", "900ms")] {
        let params = json!({"name": name, "_meta": {"progressToken": "p"}});
        let error = agent.ask("tools/call", params).await.unwrap_err();
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("within {within}; the request was cancelled")),
            "{error}"
        );
    }
    let deadline = Instant::now() + crate::tier::PATIENCE;
    while std::fs::read_to_string(seen.path()).unwrap().matches("notifications/cancelled").count()
        < 2
    {
        assert!(Instant::now() < deadline, "the server is not told");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_changes_is_gathered() {
    let relay = Relay::start();
    let body = r#"case "$line" in
        *'"flood"'*) i=0; while [ $i -lt 10000 ]; do printf '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n'; i=$((i+1)); done; printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id";;
        *) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[]}}\n' "$id";; esac"#;
    let serving = Serving::start(&relay, shell(r#"{"tools":{"listChanged":true}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    let connector = connector(link).await;
    let mut agent = Agent::begun(Arc::clone(&connector)).await;
    agent.ask("tools/list", json!({})).await.unwrap();
    let mut other = Agent::begun(connector).await;
    agent.ask("tools/call", json!({"name": "flood"})).await.unwrap();
    agent.notified("notifications/tools/list_changed").await;
    other.ask("tools/call", json!({"name": "t"})).await.unwrap();
    other.notified("notifications/tools/list_changed").await;
    agent.close().await;
    other.close().await;
    let counts = serving.end().await;
    assert!(counts.track_reads < 1_000, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_answered_and_harms_nobody() {
    let relay = Relay::start();
    let body = r#"printf 'noise\n{"jsonrpc":"2.0","id":999,"result":{}}\n'; printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id""#;
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    let deep =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{}"#, "[".repeat(100_000));
    let twice = r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call"}"#;
    for (line, code) in [("{", -32700), (&deep[..], -32700), ("[]", -32600), (twice, -32600)] {
        let answer: Value = serde_json::from_str(&agent.ask_raw(line).await).unwrap();
        assert_eq!(answer["error"]["code"], code, "{line:.40}");
        assert!(answer.get("id").is_none(), "{answer}");
    }
    agent.ask("tools/call", json!({"name": "t"})).await.unwrap();
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_followed_again() {
    let relay = Relay::start();
    let flag = tempfile::NamedTempFile::new().unwrap();
    let body = format!(
        r#"case "$line" in
        *'"crash"'*) echo x > {0}; kill -9 $$;;
        *) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"tools":[],"runs":%s}}}}\n' "$id" "$(wc -c < {0})";; esac"#,
        flag.path().display()
    );
    let backend = shell(r#"{"tools":{"listChanged":true}}"#, &body);
    let serving = Serving::start(&relay, backend).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    assert_eq!(agent.ask("tools/list", json!({})).await.unwrap()["runs"], 0);
    agent.ask("tools/call", json!({"name": "crash"})).await.unwrap_err();
    agent.notified("notifications/tools/list_changed").await;
    assert_eq!(agent.ask("tools/list", json!({})).await.unwrap()["runs"], 2);
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_comes_back_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.md"), "one\n").unwrap();
    let mut relay = Relay::start();
    // Its certificate is another one each time.
    relay.target = Target::new(&format!("moqt://{}", relay.address), Trust::Insecure).unwrap();
    let serving = Serving::start(&relay, library(folder.path(), Some(false))).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    let uri = json!({"uri": "library:///a.md"});
    agent.ask("resources/subscribe", uri.clone()).await.unwrap();
    let address = relay.address;
    drop(relay);
    std::fs::write(folder.path().join("a.md"), "two\n").unwrap();
    let _relay = Relay::start_at(address);
    // The change tells that both edges are back.
    agent.notified("notifications/resources/updated").await;
    let text = agent.ask("resources/read", uri).await.unwrap();
    assert_eq!(text["contents"][0]["text"], "two\n");
    agent.ask("tools/call", json!({"name": "statistics"})).await.unwrap();
    agent.close().await;
    serving.end().await;
}

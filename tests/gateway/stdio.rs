//! Agents and servers on standard streams, with sessions (MCP 2025-11-25).

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::tier::{Agent, PATIENCE, Relay, Serving, connector, library, shell, until};

#[tokio::test(flavor = "multi_thread")]
async fn answers_go_through_byte_for_byte() {
    let relay = Relay::start();
    let backend = shell(
        r#"{ "tools":{}, "x-own":{"a":[1, 2]} }"#,
        r#"printf '{"result": {"content" :[ ],"n":1.50,"u":"\\u00e9", "big":123456789012345678901234567890},"id":%s, "jsonrpc":"2.0"}\n' "$id""#,
    );
    let serving = Serving::start(&relay, backend).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::new(connector(link).await).await;
    assert_eq!(
        agent.initialize().await,
        r#"{"jsonrpc":"2.0","id":"i","result":{ "protocolVersion":"2025-11-25","capabilities":{ "tools":{}, "x-own":{"a":[1, 2]} },"serverInfo":{"name":"s","version":"1"},"extra":1.50 }}"#
    );
    let call = r#"{"jsonrpc":"2.0","id":"mine","method":"tools/call","params":{"name":"t"}}"#;
    assert_eq!(
        agent.ask_raw(call).await,
        r#"{"result": {"content" :[ ],"n":1.50,"u":"\u00e9", "big":123456789012345678901234567890},"id":"mine", "jsonrpc":"2.0"}"#
    );
    let list = r#"{"jsonrpc":"2.0","id":5,"method":"tools/list"}"#;
    assert_eq!(
        agent.ask_raw(list).await,
        r#"{"jsonrpc":"2.0","id":5,"result":{"content" :[ ],"n":1.50,"u":"\u00e9", "big":123456789012345678901234567890}}"#
    );
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_is_listed_read_searched_and_followed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.md"), "one two\n").unwrap();
    let relay = Relay::start();
    let serving = Serving::start(&relay, library(folder.path(), Some(false))).await;
    let (link, _served, _worker) = relay.link();
    let connector = connector(link).await;
    let mut agents = Vec::new();
    for _ in 0..4 {
        agents.push(Agent::begun(Arc::clone(&connector)).await);
    }
    let uri = json!({"uri": "library:///a.md"});
    for agent in &mut agents {
        let tools = agent.ask("tools/list", json!({})).await.unwrap();
        assert_eq!(tools["tools"][0]["name"], "search");
        let found = json!({"name": "search", "arguments": {"words": "two"}});
        let found = agent.ask("tools/call", found).await.unwrap();
        assert_eq!(found["content"][0]["text"], "a.md:1: one two");
        let text = agent.ask("resources/read", uri.clone()).await.unwrap();
        assert_eq!(text["contents"][0]["text"], "one two\n");
        agent.ask("resources/subscribe", uri.clone()).await.unwrap();
        let prompt = json!({"name": "summarize", "arguments": {"path": "a.md"}});
        let prompt = agent.ask("prompts/get", prompt).await.unwrap();
        assert!(prompt["messages"][0]["content"]["text"].as_str().unwrap().ends_with("one two\n"));
        let unknown = agent.ask("resources/read", json!({"uri": "library:///b"})).await;
        assert!(unknown.unwrap_err()["message"].as_str().unwrap().contains("no file `b`"));
    }
    let counted = json!({"name": "statistics"});
    let counted = agents[0].ask("tools/call", counted).await.unwrap();
    let counted: Value =
        serde_json::from_str(counted["content"][0]["text"].as_str().unwrap()).unwrap();
    // Four agents read one resource by one track; the unknown one is one track and one call each.
    assert_eq!(counted["reads"], json!(1 + 8), "{counted}");
    std::fs::write(folder.path().join("a.md"), "three\n").unwrap();
    for agent in &mut agents {
        let updated = agent.notified("notifications/resources/updated").await;
        assert_eq!(updated["params"], uri);
        let text = agent.ask("resources/read", uri.clone()).await.unwrap();
        assert_eq!(text["contents"][0]["text"], "three\n");
    }
    std::fs::write(folder.path().join("b.md"), "new\n").unwrap();
    for agent in &mut agents {
        agent.notified("notifications/resources/list_changed").await;
        let list = agent.ask("resources/list", json!({})).await.unwrap();
        assert_eq!(list["resources"].as_array().unwrap().len(), 2);
    }
    for agent in agents {
        agent.close().await;
    }
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_agents_with_equal_ids_each_get_their_own_answers() {
    const CALLS: u64 = 20;
    let relay = Relay::start();
    // Answers with what it was asked, the later ones sooner: order tells nothing.
    let backend = shell(
        r#"{"tools":{}}"#,
        r#"word=${line#*\"word\":\"}; word=${word%%\"*}
           if [ -n "$held" ]; then printf '{"jsonrpc":"2.0","id":%s,"result":{"word":"%s"}}\n' "$id" "$word"; printf '%s\n' "$held"; held=
           else case "$line" in *'"alone"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"word":"%s"}}\n' "$id" "$word";; *) held="{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"word\":\"$word\"}}";; esac; fi"#,
    );
    let serving = Serving::start(&relay, backend).await;
    let (link, _served, _worker) = relay.link();
    let connector = connector(link).await;
    let mut asking = Vec::new();
    for number in 0..50 {
        let mut agent = Agent::begun(Arc::clone(&connector)).await;
        asking.push(tokio::spawn(async move {
            for call in 0..CALLS {
                let word = format!("w{number}x{call}");
                let params = json!({"name": "t", "arguments": {"word": word}});
                let answer = agent.ask("tools/call", params).await.unwrap();
                assert_eq!(answer["word"], word, "crossed");
            }
            // Nobody is left behind whose answer is held.
            agent
        }));
    }
    // An odd number of calls may be under way: one more lets go of what is held.
    let mut helper = Agent::begun(Arc::clone(&connector)).await;
    let params = json!({"name": "alone", "arguments": {"word": "h"}});
    while !asking.iter().all(tokio::task::JoinHandle::is_finished) {
        helper.ask("tools/call", params.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for agent in asking {
        agent.await.unwrap().close().await;
    }
    helper.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_is_cancelled_at_the_server() {
    let seen = tempfile::NamedTempFile::new().unwrap();
    let relay = Relay::start();
    let body = format!(r#"printf '%s\n' "$line" >> {}"#, seen.path().display());
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, &body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#;
    agent.send(call).await;
    until(|| read(&seen).contains("tools/call")).await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    agent.send(cancel).await;
    until(|| read(&seen).contains("notifications/cancelled")).await;
    // An agent that vanishes in the middle of a call has it cancelled too.
    agent.send(&call.replace("\"id\":1", "\"id\":2")).await;
    until(|| read(&seen).matches("tools/call").count() == 2).await;
    agent.vanish().await;
    until(|| read(&seen).matches("notifications/cancelled").count() == 2).await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_call_is_an_error_and_the_server_comes_back() {
    let relay = Relay::start();
    let body = r#"case "$line" in *'"crash"'*) kill -9 $$;; *) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id";; esac"#;
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    let error = agent.ask("tools/call", json!({"name": "crash"})).await.unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("ended before it answered"), "{error}");
    let began = Instant::now();
    while agent.ask("tools/call", json!({"name": "t"})).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_and_questions_reach_the_agent_that_called() {
    let relay = Relay::start();
    let body = r#"case "$line" in
        *'"tools/call"'*) call=$id; token=${line#*\"progressToken\":}; token=${token%%\}*}
            printf '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":0.50}}\n' "$token"
            printf '{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"sure?"}}\n';;
        *'"id":"q"'*) word=${line#*\"word\":\"}; word=${word%%\"*}
            printf '{"jsonrpc":"2.0","id":%s,"result":{"word":"%s"}}\n' "$call" "$word";;
        *) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id";;
        esac"#;
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    agent.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":"mine"}}}"#).await;
    assert_eq!(
        agent.line().await,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mine","progress":0.50}}"#
    );
    let question: Value = serde_json::from_str(&agent.line().await).unwrap();
    assert_eq!(question["method"], "elicitation/create");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"word": "yes"}});
    agent.send(&answer.to_string()).await;
    assert_eq!(agent.line().await, r#"{"jsonrpc":"2.0","id":1,"result":{"word":"yes"}}"#);
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_before_the_end_of_input_is_answered() {
    let relay = Relay::start();
    let body = r#"sleep 0.3; printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id""#;
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    agent.send(r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"t"}}"#).await;
    assert_eq!(agent.close().await, [r#"{"jsonrpc":"2.0","id":9,"result":{}}"#]);
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_results_come_whole() {
    let relay = Relay::start();
    let body = r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"x":"' "$id"; head -c 5000000 /dev/zero | tr '\0' y; printf '"}}\n'"#;
    let serving = Serving::start(&relay, shell(r#"{"tools":{},"resources":{}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    let read = agent.ask("resources/read", json!({"uri": "u"})).await.unwrap();
    assert_eq!(read["x"].as_str().unwrap().len(), 5_000_000);
    let called = agent.ask("tools/call", json!({"name": "t"})).await.unwrap();
    assert_eq!(called["x"].as_str().unwrap().len(), 5_000_000);
    agent.close().await;
    serving.end().await;
}

fn read(file: &tempfile::NamedTempFile) -> String {
    std::fs::read_to_string(file.path()).unwrap()
}

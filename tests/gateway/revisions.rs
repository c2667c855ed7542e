//! Agents of one era at servers of the other: what is asked in the midst of a call.

use std::sync::Arc;

use aip_gateway::{backend::stdio, serve::OwnProcesses};
use serde_json::{Value, json};

use crate::tier::{
    Agent, Relay, Serving, connector, connector_with, lines_of, modern_shell, shell, shell_options,
    until,
};

/// The params of a request without a session.
pub(super) fn modern(mut params: Value, capabilities: &Value) -> Value {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities.clone();
    params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({"name": "a", "version": "1"});
    params
}

/// A server with sessions that asks for a name in the midst of a call, tells of progress with the
/// token that it was given, and says the name.
const ASKING: &str = r#"case "$line" in
    *'"tools/call"'*) call=$id; token=${line#*\"progressToken\":}; token=${token%%\}*}
        printf '{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"Name?","requestedSchema":{"type":"object","properties":{"n": {"type":"string"}}}}}\n';;
    *'"id":"q"'*) case "$token" in [0-9]*)
            printf '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}\n' "$token";; esac
        case "$line" in
        *'"error"'*) said=refused;;
        *) said=${line#*\"n\":\"}; said=${said%%\"*};; esac
        printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}\n' "$call" "$said";;
    esac"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_sessions_asks_an_agent_without_one_in_rounds() {
    let relay = Relay::start();
    let serving = Serving::start(&relay, shell(r#"{"tools":{},"tasks":{}}"#, ASKING)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::new(connector(link).await).await;
    let able = json!({"elicitation": {}});
    let described = agent.ask("server/discover", modern(json!({}), &able)).await.unwrap();
    assert_eq!(described["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(described["capabilities"], json!({"tools": {}}), "tasks have another form");
    let call = json!({"name": "t", "_meta": {"progressToken": 7}});
    let asked = agent.ask("tools/call", modern(call.clone(), &able)).await.unwrap();
    assert_eq!(asked["resultType"], "input_required");
    let (name, question) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(question["params"]["message"], "Name?");
    let state = asked["requestState"].as_str().unwrap();
    assert!(32 <= state.len(), "it can be guessed: {state}");
    let answered = |mut call: Value, state: &str| {
        call["requestState"] = json!(state);
        call["inputResponses"] = json!({name: {"action": "accept", "content": {"n": "Ada"}}});
        modern(call, &able)
    };
    // Another request, another client, a guess: none of them has the call.
    let other = answered(json!({"name": "t", "arguments": {"x": 1}}), state);
    assert_eq!(agent.ask("tools/call", other).await.unwrap_err()["code"], -32602);
    let mut other = answered(call.clone(), state);
    other["_meta"]["io.modelcontextprotocol/clientInfo"]["name"] = json!("b");
    assert_eq!(agent.ask("tools/call", other).await.unwrap_err()["code"], -32602);
    let guess = answered(call.clone(), &"0".repeat(32));
    assert_eq!(agent.ask("tools/call", guess).await.unwrap_err()["code"], -32602);
    // What is left out is asked again.
    let mut nothing = answered(call.clone(), state);
    nothing["inputResponses"] = json!({});
    let again = agent.ask("tools/call", nothing).await.unwrap();
    assert_eq!(again["inputRequests"], asked["inputRequests"]);
    let state = again["requestState"].as_str().unwrap();
    let mut last = answered(call.clone(), state);
    last["_meta"]["progressToken"] = json!("new");
    let result = agent.ask("tools/call", last.clone()).await.unwrap();
    assert_eq!(result["content"][0]["text"], "Ada");
    assert_eq!(result["resultType"], "complete");
    assert_eq!(agent.notified("notifications/progress").await["params"]["progressToken"], "new");
    let twice = agent.ask("tools/call", last).await.unwrap_err();
    assert!(twice["message"].as_str().unwrap().contains("not known"), "{twice}");
    // Who cannot be asked is not asked, and the server is told so.
    let result = agent.ask("tools/call", modern(json!({"name": "t"}), &json!({}))).await.unwrap();
    assert_eq!(result["content"][0]["text"], "refused");
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_held_have_processes_of_their_own_and_the_next_call_has_them_again() {
    let started = tempfile::NamedTempFile::new().unwrap();
    let relay = Relay::start();
    let body = ASKING;
    let mut options: stdio::Options = shell_options(r#"{"tools":{}}"#, body);
    let script = options.command.pop().unwrap();
    options.command.push(format!("echo x >> {}\n{script}", started.path().display()));
    let (backend, news) = stdio::Stdio::start(options.clone());
    let backend = (aip_gateway::backend::Backend::Stdio(backend), news);
    let own = OwnProcesses { stdio: options, processes: Default::default(), processes_max: 8 };
    let serving = Serving::start_own(&relay, backend, Some(own), |_| {}).await;
    let (link, _served, _worker) = relay.link();
    let connector = connector(link).await;
    let able = json!({"elicitation": {}});
    let (mut agents, mut held) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut agent = Agent::new(Arc::clone(&connector)).await;
        let call = modern(json!({"name": "t"}), &able);
        held.push(agent.ask("tools/call", call).await.unwrap());
        agents.push(agent);
    }
    // One that all share, and one for each call that waits.
    assert_eq!(lines_of(&started).len(), 5);
    for (number, (agent, asked)) in agents.iter_mut().zip(&held).enumerate().rev() {
        let name = asked["inputRequests"].as_object().unwrap().keys().next().unwrap();
        let answer = json!({name: {"action": "accept", "content": {"n": format!("n{number}")}}});
        let again =
            json!({"name": "t", "requestState": asked["requestState"], "inputResponses": answer});
        let result = agent.ask("tools/call", modern(again, &able)).await.unwrap();
        assert_eq!(result["content"][0]["text"], format!("n{number}"), "answers crossed");
    }
    let asked = agents[0].ask("tools/call", modern(json!({"name": "t"}), &able)).await.unwrap();
    assert_eq!(asked["resultType"], "input_required");
    assert_eq!(lines_of(&started).len(), 5, "a process that waits is used again");
    for agent in agents {
        agent.close().await;
    }
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_comes_back_for_is_given_up() {
    let seen = tempfile::NamedTempFile::new().unwrap();
    let relay = Relay::start();
    let body = format!(r#"printf '%s\n' "$line" >> {}; {ASKING}"#, seen.path().display());
    let serving = Serving::start_with(&relay, shell(r#"{"tools":{}}"#, &body), |options| {
        options.input_wait = std::time::Duration::from_millis(100);
    })
    .await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::new(connector(link).await).await;
    let able = json!({"elicitation": {}});
    let asked = agent.ask("tools/call", modern(json!({"name": "t"}), &able)).await.unwrap();
    until(|| lines_of(&seen).iter().any(|line| line.contains("notifications/cancelled"))).await;
    let late = json!({"name": "t", "requestState": asked["requestState"], "inputResponses": {}});
    assert_eq!(agent.ask("tools/call", modern(late, &able)).await.unwrap_err()["code"], -32602);
    agent.close().await;
    serving.end().await;
}

/// A server without sessions that asks in rounds, as often as the tool's name says.
const IN_ROUNDS: &str = r#"case "$line" in
    *'"requestState":"s'*) round=${line#*\"requestState\":\"s}; round=${round%%\"*};;
    *) round=0;; esac
    case "$line" in *'"for-ever"'*) last=1000;; *) last=2;; esac
    if [ "$round" = "$last" ]; then
        said=${line#*\"n\":\"}; said=${said%%\"*}
        printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","content":[{"type":"text","text":"%s after %s"}]}}\n' "$id" "$said" "$round"
    else
        printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"input_required","inputRequests":{"who":{"method":"elicitation/create","params":{"mode":"form","message":"Name?","requestedSchema":{"type":"object","properties":{}}}}},"requestState":"s%s"}}\n' "$id" $((round + 1))
    fi"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_sessions_asks_an_agent_with_one_in_the_midst_of_its_call() {
    let seen = tempfile::NamedTempFile::new().unwrap();
    let relay = Relay::start();
    let body = format!(r#"printf '%s\n' "$line" >> {}; {IN_ROUNDS}"#, seen.path().display());
    let serving = Serving::start(&relay, modern_shell(r#"{"tools":{}}"#, &body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    agent.send(r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"t","_meta":{"aip/idempotencyKey":"k"}}}"#).await;
    for round in ["Bob", "Ada"] {
        let asked = agent.notified("elicitation/create").await;
        assert_eq!(asked["params"]["message"], "Name?");
        let answer = json!({"action": "accept", "content": {"n": round}});
        agent
            .send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": answer}).to_string())
            .await;
    }
    let result: Value = serde_json::from_str(&agent.response().await).unwrap();
    assert_eq!(result["id"], "c");
    assert_eq!(result["result"]["content"][0]["text"], "Ada after 2");
    let first = lines_of(&seen)[0].clone();
    assert!(first.contains(r#"clientCapabilities":{"elicitation":{}}"#), "{first}");
    // An answer that is an error is none that the server's revision could be given.
    agent.send(r#"{"jsonrpc":"2.0","id":"d","method":"tools/call","params":{"name":"t"}}"#).await;
    let asked = agent.notified("elicitation/create").await;
    let error = json!({"code": -1, "message": "not now"});
    agent.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "error": error}).to_string()).await;
    let refused: Value = serde_json::from_str(&agent.response().await).unwrap();
    assert!(
        refused["error"]["message"].as_str().unwrap().ends_with("an error: not now"),
        "{refused}"
    );
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_ever_is_given_up() {
    let relay = Relay::start();
    let serving = Serving::start(&relay, modern_shell(r#"{"tools":{}}"#, IN_ROUNDS)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    agent
        .send(r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"for-ever"}}"#)
        .await;
    for _ in 0..16 {
        let asked = agent.notified("elicitation/create").await;
        let answer = json!({"action": "accept", "content": {"n": "x"}});
        agent
            .send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": answer}).to_string())
            .await;
    }
    let refused: Value = serde_json::from_str(&agent.response().await).unwrap();
    assert!(refused["error"]["message"].as_str().unwrap().contains("16 times"), "{refused}");
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_revisions_do_not_have_in_common_is_an_error_that_says_so() {
    let relay = Relay::start();
    let body =
        r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"task","taskId":"t"}}\n' "$id""#;
    let serving = Serving::start(&relay, modern_shell(r#"{"tools":{}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    let error = agent.ask("tools/call", json!({"name": "t"})).await.unwrap_err();
    assert_eq!(error["code"], -32603);
    let reason = error["message"].as_str().unwrap();
    assert!(reason.starts_with("the server gives a result of a kind"), "{reason}");
    agent.close().await;
    serving.end().await;
    // What is asked outside of what may be asked, and by whom.
    let relay = Relay::start();
    let body = r#"case "$line" in
        *'"method":"tools/call"'*|*'"method":"completion/complete"'*) call=$id
            case "$line" in *'"other"'*) what=other/thing;; *) what=elicitation/create;; esac
            printf '{"jsonrpc":"2.0","id":"q","method":"%s","params":{}}\n' "$what";;
        *'"id":"q"'*) told=${line#*\"message\":\"}; told=${told%%\"*}
            printf '{"jsonrpc":"2.0","id":%s,"result":{"told":"%s"}}\n' "$call" "$told";; esac"#;
    let serving = Serving::start(&relay, shell(r#"{"tools":{},"completions":{}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::new(connector(link).await).await;
    for (method, name, capabilities, told) in [
        ("tools/call", "t", json!({"roots": {}}), "the client does not offer this capability"),
        (
            "tools/call",
            "other",
            json!({"roots": {}}),
            "a client of MCP 2026-07-28 cannot be asked this",
        ),
        (
            "completion/complete",
            "t",
            json!({"elicitation": {}}),
            "MCP 2026-07-28 lets nothing be asked in a request of this method",
        ),
    ] {
        let request = modern(json!({"name": name}), &capabilities);
        assert_eq!(agent.ask(method, request).await.unwrap()["told"], told);
    }
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_does_not_bridge_says_what_the_server_would() {
    for is_modern in [false, true] {
        let relay = Relay::start();
        let body = r#"printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id""#;
        let capabilities = r#"{"tools":{}}"#;
        let backend =
            if is_modern { modern_shell(capabilities, body) } else { shell(capabilities, body) };
        let serving = Serving::start(&relay, backend).await;
        let (link, _served, _worker) = relay.link();
        let connector = connector_with(link, |options| options.bridges = false).await;
        let mut agent = Agent::new(connector).await;
        let discovered = agent.ask("server/discover", modern(json!({}), &json!({}))).await;
        let begin = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
        let begun = agent.ask("initialize", begin).await;
        let refused = if is_modern { begun.unwrap_err() } else { discovered.unwrap_err() };
        assert_eq!(refused["code"], -32601, "{refused}");
        agent.close().await;
        serving.end().await;
    }
}

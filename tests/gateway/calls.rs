//! Calls that are repeated, resumed, late, or urgent.

use std::{sync::Arc, time::Duration};

use aip_codec::{
    aip::call::RecordType,
    moqt::{error_code::RequestCode, parameter::Parameters},
};
use aip_engine::{
    client::Refusal,
    io::{Target, Trust},
};
use aip_gateway::{
    link::{CallEvent, CallOutcome, Served},
    name::ServerName,
};
use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use crate::tier::{Agent, Relay, Serving, connector, lines_of, modern_shell, shell, until};

/// A relay whose address survives it; its certificate is another one each time.
fn lasting_relay() -> Relay {
    let mut relay = Relay::start();
    relay.target = Target::new(&format!("moqt://{}", relay.address), Trust::Insecure).unwrap();
    relay
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_runs_once() {
    let seen = tempfile::NamedTempFile::new().unwrap();
    let relay = Relay::start();
    let body = format!(
        r#"printf '%s\n' "$line" >> {0}; printf '{{"jsonrpc":"2.0","id":%s,"result":{{"run":%s}}}}\n' "$id" "$(wc -l < {0})""#,
        seen.path().display()
    );
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, &body)).await;
    let (link, _served, _worker) = relay.link();
    let connector = connector(link).await;
    let mut agent = Agent::begun(Arc::clone(&connector)).await;
    let pay = |key: &str, amount: u64| json!({"name": "pay", "arguments": {"amount": amount}, "_meta": {"aip/idempotencyKey": key}});
    assert_eq!(agent.ask("tools/call", pay("k", 1)).await.unwrap()["run"], 1);
    assert_eq!(agent.ask("tools/call", pay("k", 1)).await.unwrap()["run"], 1, "it ran again");
    let mut other = Agent::begun(connector).await;
    assert_eq!(other.ask("tools/call", pay("k", 1)).await.unwrap()["run"], 1, "it ran again");
    assert_eq!(agent.ask("tools/call", pay("l", 1)).await.unwrap()["run"], 2);
    let error = agent.ask("tools/call", pay("k", 2)).await.unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("another request"), "{error}");
    for run in [3, 4] {
        let call = json!({"name": "pay", "arguments": {"amount": 1}});
        assert_eq!(agent.ask("tools/call", call).await.unwrap()["run"], run, "it has no key");
    }
    agent.close().await;
    other.close().await;
    let counts = serving.end().await;
    assert_eq!((counts.calls, counts.repeated_calls), (4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_call_survives_the_relay() {
    let seen = tempfile::NamedTempFile::new().unwrap();
    let go = tempfile::NamedTempFile::new().unwrap();
    let relay = lasting_relay();
    // Tells of progress, waits until it may go on, tells of more, and answers.
    let body = format!(
        r#"printf '%s\n' "$line" >> {seen}; token=${{line#*\"progressToken\":}}; token=${{token%%\}}*}}
        for step in 1 2 3 4 5 6; do
            printf '{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":%s,"progress":%s}}}}\n' "$token" $step
            if [ $step = 3 ]; then while [ ! -s {go} ]; do sleep 0.02; done; fi
        done
        printf '{{"jsonrpc":"2.0","id":%s,"result":{{"done":true}}}}\n' "$id""#,
        seen = seen.path().display(),
        go = go.path().display(),
    );
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, &body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    let call = r#"{"jsonrpc":"2.0","id":"long","method":"tools/call","params":{"name":"t","_meta":{"progressToken":7}}}"#;
    agent.send(call).await;
    for step in 1..=3 {
        let progress = agent.notified("notifications/progress").await;
        assert_eq!(progress["params"]["progress"], step);
    }
    let address = relay.address;
    drop(relay);
    std::fs::write(go.path(), "go").unwrap();
    let _relay = Relay::start_at(address);
    assert_eq!(agent.response().await, r#"{"jsonrpc":"2.0","id":"long","result":{"done":true}}"#);
    let steps: Vec<_> =
        agent.heard.iter().map(|heard| heard["params"]["progress"].as_u64().unwrap()).collect();
    assert_eq!(steps, [4, 5, 6], "something was missed or heard twice");
    assert_eq!(lines_of(&seen).len(), 1, "it ran more than once");
    agent.close().await;
    assert_eq!(serving.end().await.repeated_calls, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_agent_is_lost_is_cancelled_and_kept_for_nobody() {
    let seen = tempfile::NamedTempFile::new().unwrap();
    let relay = Relay::start();
    let body = format!(r#"printf '%s\n' "$line" >> {}"#, seen.path().display());
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, &body)).await;
    let (link, _served, worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    agent.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#).await;
    until(|| lines_of(&seen).len() == 1).await;
    // The edge's session ends, and nobody comes back.
    drop(worker);
    until(|| lines_of(&seen).iter().any(|line| line.contains("notifications/cancelled"))).await;
    agent.vanish().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_late_is_given_up_at_the_server() {
    let seen = tempfile::NamedTempFile::new().unwrap();
    let relay = Relay::start();
    let body = format!(r#"printf '%s\n' "$line" >> {}"#, seen.path().display());
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, &body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    let began = Instant::now();
    let call = json!({"name": "t", "_meta": {"aip/deadlineMs": 300}});
    let error = agent.ask("tools/call", call).await.unwrap_err();
    assert!(Duration::from_millis(299) <= began.elapsed(), "{:?}", began.elapsed());
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("deadline") || message.contains("did not answer"), "{error}");
    until(|| lines_of(&seen).iter().any(|line| line.contains("notifications/cancelled"))).await;
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_through_a_relay_that_knows_no_call() {
    let seen = tempfile::NamedTempFile::new().unwrap();
    let relay = Relay::start_plain();
    let body = format!(
        r#"printf '%s\n' "$line" >> {}; case "$line" in
        *'"refused"'*) printf '{{"jsonrpc":"2.0","id":%s,"error":{{"code":-7,"message":"no"}}}}\n' "$id";;
        *) token=${{line#*\"progressToken\":}}; token=${{token%%\}}*}}
            printf '{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":%s,"progress":1}}}}\n' "$token"
            printf '{{"jsonrpc":"2.0","id":%s,"result":{{"n": 1.50}}}}\n' "$id";; esac"#,
        seen.path().display()
    );
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, &body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    let call = r#"{"jsonrpc":"2.0","id":"mine","method":"tools/call","params":{"name":"t","_meta":{"progressToken":7}}}"#;
    for calls in 1..=3 {
        let answer = agent.ask_raw(call).await;
        assert_eq!(answer, r#"{"jsonrpc":"2.0","id":"mine","result":{"n": 1.50}}"#);
        assert_eq!(agent.notified("notifications/progress").await["params"]["progressToken"], 7);
        assert_eq!(lines_of(&seen).len(), calls, "each runs, and once");
    }
    let error = agent.ask("tools/call", json!({"name": "refused"})).await.unwrap_err();
    assert_eq!(error, json!({"code": -7, "message": "no"}));
    for length in [3_000, 200_000] {
        let long = "y".repeat(length);
        let call = json!({"name": "t", "arguments": {"x": long}, "_meta": {"progressToken": 7}});
        assert_eq!(agent.ask("tools/call", call).await.unwrap(), json!({"n": 1.50}));
        let last = lines_of(&seen).pop().unwrap();
        assert!(last.contains(&long), "it did not come whole");
    }
    assert_eq!(lines_of(&seen).len(), 6, "each runs, and once");
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_who_cannot_be_asked_is_told_so() {
    let relay = Relay::start();
    let body = r#"case "$line" in
        *'"tools/call"'*) call=$id; printf '{"jsonrpc":"2.0","id":"q","method":"roots/list"}\n';;
        *'"id":"q"'*) case "$line" in *'"error"'*) refused=true;; *) refused=false;; esac
            printf '{"jsonrpc":"2.0","id":%s,"result":{"refused":%s}}\n' "$call" "$refused";; esac"#;
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::new(connector(link).await).await;
    agent
        .ask_raw(r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#)
        .await;
    let answer = agent.ask("tools/call", json!({"name": "t"})).await.unwrap();
    assert_eq!(answer, json!({"refused": true}));
    agent.close().await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_context_goes_through_untouched() {
    let trace = r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01","tracestate":"a=1, b=2","baggage":"k=v""#;
    for modern in [false, true] {
        let seen = tempfile::NamedTempFile::new().unwrap();
        let body = format!(
            r#"printf '%s\n' "$line" >> {}; printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"complete"}}}}\n' "$id""#,
            seen.path().display()
        );
        let relay = Relay::start();
        let capabilities = r#"{"tools":{}}"#;
        let backend =
            if modern { modern_shell(capabilities, &body) } else { shell(capabilities, &body) };
        let serving = Serving::start(&relay, backend).await;
        let (link, _served, _worker) = relay.link();
        let mut agent = Agent::begun(connector(link).await).await;
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","_meta":{{{trace}}}}}}}"#
        );
        agent.ask_raw(&call).await;
        let last = lines_of(&seen).pop().unwrap();
        assert!(last.contains(trace), "{last}");
        agent.close().await;
        serving.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_refused_unread_is_refused_to_its_caller() {
    let relay = Relay::start();
    let (publisher, mut served, _publishing) = relay.link();
    let server = ServerName::new("localhost", "refuses").unwrap();
    publisher.announce(server.namespace().clone()).await;
    let refusing = tokio::spawn(async move {
        while let Some(served) = served.recv().await {
            if let Served::Called(incoming) = served {
                let refusal = Refusal {
                    code: RequestCode::EXCESSIVE_LOAD,
                    retry_after: None,
                    reason: "no".to_owned(),
                };
                incoming.call.refuse(refusal).await;
            }
        }
    });
    let (link, _served, _worker) = relay.link();
    let mut refused = 0;
    let mut others = Vec::new();
    while refused < 200 {
        let name = Bytes::from_static(b"tools/call");
        let mut call = link.call(server.namespace().clone(), name, Parameters::new()).await;
        call.send(RecordType::Request, Bytes::from_static(b"{}"), true).await;
        match call.next().await {
            // The namespace may not be known yet.
            CallEvent::Ended(CallOutcome::Refused(refusal))
                if refusal.code == RequestCode::DOES_NOT_EXIST && refused == 0 => {}
            CallEvent::Ended(CallOutcome::Refused(refusal)) => {
                assert_eq!(refusal.code, RequestCode::EXCESSIVE_LOAD);
                refused += 1;
            }
            CallEvent::Ended(CallOutcome::Unavailable(_)) => {}
            event => {
                refused += 1;
                others.push(event);
            }
        }
    }
    assert!(others.is_empty(), "{} of 200: {:?}", others.len(), others.first());
    refusing.abort();
}

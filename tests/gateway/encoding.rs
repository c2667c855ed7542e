//! Calls in the content type `compact`.

use aip_codec::{
    aip::{call::RecordType, compact},
    moqt::{
        error_code::RequestCode,
        parameter::{Parameter, Parameters},
    },
};
use aip_gateway::{
    connect::{self, Connector},
    encoding::Encoding,
    link::{CallEvent, CallOutcome, Link},
    name::ServerName,
};
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::tier::{Agent, PATIENCE, Relay, Serving, lines_of, shell};

/// Answers with what it was called with, after progress and a question.
const TALKING: &str = r#"case "$line" in
    *'"tools/call"'*) call=$id; token=${line#*\"progressToken\":}; token=${token%%\}*}
        printf '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":0.5}}\n' "$token"
        printf '{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"sure?"}}\n';;
    *'"id":"q"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"n":1.5,"u":"\\u00e9","x":[]}}\n' "$call";;
    *) printf '{"jsonrpc":"2.0","id":%s,"result":{"big":123456789012345678901234567890}}\n' "$id";; esac"#;

async fn compact_agent(link: Link) -> Agent {
    let mut options = connect::Options::new(ServerName::new("localhost", "server").unwrap());
    (options.encoding, options.wait) = (Encoding::Compact, PATIENCE);
    Agent::begun(Connector::start(link, options).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compact_call_says_what_a_json_call_says() {
    let relay = Relay::start();
    let seen = tempfile::NamedTempFile::new().unwrap();
    let body = format!(r#"printf '%s\n' "$line" >> {}; {TALKING}"#, seen.path().display());
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, &body)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = compact_agent(link).await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":[1,null]},"_meta":{"progressToken":"mine"}}}"#;
    agent.send(call).await;
    assert_eq!(
        agent.line().await,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mine","progress":0.5}}"#
    );
    let question: Value = serde_json::from_str(&agent.line().await).unwrap();
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}});
    let answer = agent.ask_raw(&answer.to_string()).await;
    assert_eq!(answer, r#"{"jsonrpc":"2.0","id":1,"result":{"n":1.5,"u":"é","x":[]}}"#);
    let asked: Value = serde_json::from_str(&lines_of(&seen)[0]).unwrap();
    assert_eq!(asked["params"]["arguments"], json!({"a": [1, null]}));
    // What compact cannot say comes all the same.
    let odd = r#"{"jsonrpc":"2.0","id":2,"method":"completion/complete","params":{"x":0.12345678901234567890123}}"#;
    let answer = agent.ask_raw(odd).await;
    assert_eq!(
        answer,
        r#"{"jsonrpc":"2.0","id":2,"result":{"big":123456789012345678901234567890}}"#
    );
    assert!(lines_of(&seen).last().unwrap().contains("0.12345678901234567890123"));
    agent.close().await;
    serving.end().await;
}

/// What comes back of a call whose only record is `request`.
async fn call(link: &Link, content_type: &'static [u8], request: Bytes) -> CallEvent {
    let server = ServerName::new("localhost", "server").unwrap();
    let mut parameters = Parameters::new();
    parameters.push(Parameter::ContentType(Bytes::from_static(content_type)));
    let name = Bytes::from_static(b"tools/call");
    let mut call = link.call(server.namespace().clone(), name, parameters).await;
    call.send(RecordType::Request, request, true).await;
    call.next().await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_compact_call_are_compact() {
    let relay = Relay::start();
    let body = r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}\n' "$id""#;
    let serving = Serving::start(&relay, shell(r#"{"tools":{}}"#, body)).await;
    let (link, _served, _worker) = relay.link();
    // The server is there once this is answered.
    compact_agent(link.clone()).await.close().await;
    let text = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#;
    let mut request = BytesMut::new();
    compact::encode(text, &mut request).unwrap();
    let mut expected = BytesMut::new();
    let answer = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#;
    compact::encode(answer, &mut expected).unwrap();
    assert!(expected.len() < answer.len() / 3);
    let answered = call(&link, b"compact", request.freeze()).await;
    let (kind, payload) = (RecordType::Result, expected.freeze());
    assert_eq!(answered, CallEvent::Record { kind, payload });
    // Bytes that are no message are an error in the answer, in the same encoding.
    let CallEvent::Record { payload, .. } =
        call(&link, b"compact", Bytes::from_static(b"\x09")).await
    else {
        panic!("no answer")
    };
    let answer = compact::decode(&payload, 10_000).unwrap();
    assert!(answer.contains("-32700") && answer.contains("compact"), "{answer}");
    let refused = call(&link, b"other", Bytes::from_static(text.as_bytes())).await;
    let CallEvent::Ended(CallOutcome::Refused(refusal)) = refused else {
        panic!("not refused: {refused:?}")
    };
    assert_eq!(refusal.code, RequestCode::NOT_SUPPORTED);
    assert!(refusal.reason.contains("json or compact"), "{}", refusal.reason);
    serving.end().await;
}

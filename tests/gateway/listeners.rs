//! Many listeners, one upstream subscription. `LISTENERS=10000 EDGES=100` makes it a measurement,
//! which `--nocapture` shows.

use std::sync::Arc;

use aip_gateway::{
    connect::{Connector, Talk},
    message::{Id, Limits, Message},
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::tier::{Agent, PATIENCE, Relay, Serving, connector, lines_of, modern_shell};

const ROUNDS: usize = 5;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub(crate) fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

/// Kilobytes of memory that this process has: relay, edges and listeners.
fn resident_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// A server that tells of a change whenever it is called, and writes to a file when it is asked to.
pub(crate) fn telling(seen: &std::path::Path) -> String {
    format!(
        r#"case "$line" in
        *'"subscriptions/listen"'*) echo x >> {}; sub=$id
            printf '{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":%s}},"notifications":{{"resourceSubscriptions":["u:x"]}}}}}}\n' "$id";;
        *'"tools/call"'*) n=$((n+1))
            printf '{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":%s}},"uri":"u:x"}}}}\n' "$sub"
            printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"complete"}}}}\n' "$id";;
        *) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"complete","contents":[],"n":"%s","ttlMs":60000,"cacheScope":"public"}}}}\n' "$id" "$n";; esac"#,
        seen.display()
    )
}

/// What listeners hear: which one, what, and when.
pub(crate) type Heard = mpsc::UnboundedSender<(usize, Message, Instant)>;

/// So many listeners, on the edges in turn.
pub(crate) fn listen(
    connectors: &[Arc<Connector>],
    listeners: usize,
    heard: &Heard,
) -> JoinSet<()> {
    let mut listening = JoinSet::new();
    for listener in 0..listeners {
        let connector = Arc::clone(&connectors[listener % connectors.len()]);
        let heard = heard.clone();
        listening.spawn(async move {
            let (to_agent, mut messages) = mpsc::channel(16);
            let talk = Talk { to_agent, questions: None };
            let request = json!({"jsonrpc": "2.0", "id": format!("l{listener}"),
                "method": "subscriptions/listen", "params": {
                    "_meta": meta(), "notifications": {"resourceSubscriptions": ["u:x"]},
            }});
            let request = Bytes::from(request.to_string());
            let request = Message::parse(request, &Limits::default()).unwrap();
            let passing = async {
                while let Some(message) = messages.recv().await {
                    // The test may have ended.
                    _ = heard.send((listener, message, Instant::now()));
                }
            };
            tokio::join!(connector.answer_modern(&request, &talk), passing);
        });
    }
    listening
}

#[tokio::test(flavor = "multi_thread")]
async fn one_upstream_listen_serves_all_listeners() {
    let (listeners, edges) = (number("LISTENERS", 300), number("EDGES", 3));
    let seen = tempfile::NamedTempFile::new().unwrap();
    let relay = Relay::start();
    let backend =
        modern_shell(r#"{"resources":{"subscribe":true},"tools":{}}"#, &telling(seen.path()));
    let serving = Serving::start(&relay, backend).await;
    let before = resident_kilobytes();
    let began = Instant::now();
    let (mut workers, mut connectors) = (Vec::new(), Vec::new());
    for _ in 0..edges {
        let (link, served, worker) = relay.link();
        connectors.push(connector(link).await);
        workers.push((served, worker));
    }
    let (heard, mut all) = mpsc::unbounded_channel::<(usize, Message, Instant)>();
    let mut listening = listen(&connectors, listeners, &heard);
    // Each hears, as its own, what `method` names; when the last one does.
    let mut each_hears = async |method: &str| {
        let mut left: Vec<bool> = vec![true; listeners];
        let mut times = Vec::new();
        while times.len() < listeners {
            let next = tokio::time::timeout(PATIENCE * 6, all.recv()).await;
            let (listener, message, when): (usize, Message, Instant) =
                next.expect("each hears").unwrap();
            assert_eq!(message.method(), method);
            let own = Id::from_raw(&format!("\"l{listener}\"")).unwrap();
            assert!(message.body().contains(&format!("subscriptionId\":{}", own.as_raw())));
            assert!(std::mem::take(&mut left[listener]), "{listener} hears twice");
            times.push(when);
        }
        times.sort();
        times
    };
    each_hears("notifications/subscriptions/acknowledged").await;
    println!(
        "{listeners} listeners on {edges} sessions of one relay: listening after {:?}, {} KiB each",
        began.elapsed(),
        resident_kilobytes().saturating_sub(before) / listeners as u64
    );
    let mut agent = Agent::new(Arc::clone(&connectors[0])).await;
    for round in 1..=ROUNDS {
        let changed = Instant::now();
        agent.ask("tools/call", json!({"name": "t", "_meta": meta()})).await.unwrap();
        let times = each_hears("notifications/resources/updated").await;
        let after = |place: usize| times[place] - changed;
        println!(
            "change {round}: the first listener after {:?}, half of them {:?}, the last {:?}",
            after(0),
            after(listeners / 2),
            after(listeners - 1)
        );
    }
    assert_eq!(lines_of(&seen).len(), 1, "the server was asked to tell more than once");
    let read = agent.ask("resources/read", json!({"uri": "u:x", "_meta": meta()})).await.unwrap();
    assert_eq!(read["n"], ROUNDS.to_string());
    listening.shutdown().await;
    agent.close().await;
    let counts = serving.end().await;
    assert_eq!(counts.track_reads, 1 + ROUNDS as u64, "once at first, and once for each change");
    drop(workers);
}

/// Ends what it was asked to tell of when it is called, and is another afterwards.
fn ending() -> String {
    r#"case "$line" in
        *'"subscriptions/listen"'*) sub=$id
            printf '{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s},"notifications":{"resourceSubscriptions":["u:x"]}}}\n' "$id";;
        *'"tools/call"'*) n=$((n+1))
            printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete"}}\n' "$sub"
            printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete"}}\n' "$id";;
        *) printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","contents":[],"n":"%s","ttlMs":60000,"cacheScope":"public"}}\n' "$id" "$n";; esac"#
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listen_that_the_server_ends_is_asked_for_again() {
    let relay = Relay::start();
    let backend = modern_shell(r#"{"resources":{"subscribe":true},"tools":{}}"#, &ending());
    let serving = Serving::start(&relay, backend).await;
    let (link, _served, _worker) = relay.link();
    let connectors = [connector(link).await];
    let (heard, mut all) = mpsc::unbounded_channel();
    let mut listening = listen(&connectors, 1, &heard);
    let mut hears = async || tokio::time::timeout(PATIENCE, all.recv()).await.unwrap().unwrap().1;
    assert_eq!(hears().await.method(), "notifications/subscriptions/acknowledged");
    let mut agent = Agent::new(Arc::clone(&connectors[0])).await;
    for round in 1..=2 {
        // What changes between two subscriptions is heard of, though the server tells of nothing.
        agent.ask("tools/call", json!({"name": "t", "_meta": meta()})).await.unwrap();
        assert_eq!(hears().await.method(), "notifications/resources/updated");
        let read = json!({"uri": "u:x", "_meta": meta()});
        assert_eq!(agent.ask("resources/read", read).await.unwrap()["n"], round.to_string());
    }
    listening.shutdown().await;
    agent.close().await;
    serving.end().await;
}

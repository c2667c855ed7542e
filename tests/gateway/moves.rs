//! Edges whose addresses change, as behind a translator that forgot them: nobody notices.

use std::sync::Arc;

use aip_engine::io::{Target, Trust};
use aip_tests::forwarder::Forwarder;
use serde_json::json;
use tokio::{sync::mpsc, time};

use crate::{
    listeners::{listen, meta, telling},
    tier::{Agent, PATIENCE, Relay, Serving, connector, lines_of, modern_shell, shell},
};

const ROUNDS: usize = 5;

/// A relay whose addresses as the edges know them are those of forwarders.
struct Moving {
    relay: Relay,
    to_server: Forwarder,
    to_agent: Forwarder,
}

impl Moving {
    fn start() -> Self {
        let relay = Relay::start();
        let port = relay.address.port();
        Self { relay, to_server: Forwarder::new(port), to_agent: Forwarder::new(port) }
    }

    /// What connects from now on goes through this forwarder.
    fn lead_through(relay: &mut Relay, forwarder: &Forwarder) {
        let url = format!("moqt://127.0.0.1:{}", forwarder.port());
        relay.target = Target::new(&url, Trust::Insecure).unwrap();
    }

    /// Now both edges have other addresses.
    fn rebind(&self) {
        self.to_server.rebind();
        self.to_agent.rebind();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_call_goes_on_when_both_edges_move() {
    let seen = tempfile::NamedTempFile::new().unwrap();
    let go = tempfile::tempdir().unwrap();
    let mut moving = Moving::start();
    // Tells of each step when it may.
    let body = format!(
        r#"printf '%s\n' "$line" >> {seen}; token=${{line#*\"progressToken\":}}; token=${{token%%\}}*}}
        for step in 1 2 3 4 5; do
            while [ ! -e {go}/$step ]; do sleep 0.02; done
            printf '{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":%s,"progress":%s}}}}\n' "$token" $step
        done
        printf '{{"jsonrpc":"2.0","id":%s,"result":{{"done":true}}}}\n' "$id""#,
        seen = seen.path().display(),
        go = go.path().display(),
    );
    Moving::lead_through(&mut moving.relay, &moving.to_server);
    let serving = Serving::start(&moving.relay, shell(r#"{"tools":{}}"#, &body)).await;
    Moving::lead_through(&mut moving.relay, &moving.to_agent);
    let (link, _served, _worker) = moving.relay.link();
    let mut agent = Agent::begun(connector(link).await).await;
    let call = r#"{"jsonrpc":"2.0","id":"long","method":"tools/call","params":{"name":"t","_meta":{"progressToken":7}}}"#;
    agent.send(call).await;
    for step in 1..=ROUNDS {
        moving.rebind();
        std::fs::write(go.path().join(step.to_string()), "go").unwrap();
        let progress = agent.notified("notifications/progress").await;
        assert_eq!(progress["params"]["progress"], step, "missed, or heard twice");
    }
    moving.rebind();
    assert_eq!(agent.response().await, r#"{"jsonrpc":"2.0","id":"long","result":{"done":true}}"#);
    assert!(agent.heard.is_empty(), "heard twice: {:?}", agent.heard);
    assert_eq!(lines_of(&seen).len(), 1, "it ran more than once");
    agent.close().await;
    assert_eq!(serving.end().await.repeated_calls, 0, "a session did not survive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listen_goes_on_when_both_edges_move() {
    let seen = tempfile::NamedTempFile::new().unwrap();
    let mut moving = Moving::start();
    let capabilities = r#"{"resources":{"subscribe":true},"tools":{}}"#;
    let backend = modern_shell(capabilities, &telling(seen.path()));
    Moving::lead_through(&mut moving.relay, &moving.to_server);
    let serving = Serving::start(&moving.relay, backend).await;
    Moving::lead_through(&mut moving.relay, &moving.to_agent);
    let (link, _served, _worker) = moving.relay.link();
    let connectors = [connector(link).await];
    let (heard, mut all) = mpsc::unbounded_channel();
    let mut listening = listen(&connectors, 1, &heard);
    let mut hears = async || time::timeout(PATIENCE, all.recv()).await.unwrap().unwrap().1;
    assert_eq!(hears().await.method(), "notifications/subscriptions/acknowledged");
    let mut agent = Agent::new(Arc::clone(&connectors[0])).await;
    for round in 1..=ROUNDS {
        moving.rebind();
        agent.ask("tools/call", json!({"name": "t", "_meta": meta()})).await.unwrap();
        assert_eq!(hears().await.method(), "notifications/resources/updated");
        let read = json!({"uri": "u:x", "_meta": meta()});
        assert_eq!(agent.ask("resources/read", read).await.unwrap()["n"], round.to_string());
    }
    listening.shutdown().await;
    assert!(all.try_recv().is_err(), "it heard something twice");
    agent.close().await;
    assert_eq!(serving.end().await.track_reads, 1 + ROUNDS as u64, "read anew without a change");
    assert_eq!(lines_of(&seen).len(), 1, "the server was asked to tell more than once");
}

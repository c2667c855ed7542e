//! Sessions of WebTransport, over HTTP/3.

use std::time::{Duration, Instant};

use aip_codec::moqt::error_code::SessionCode;
use aip_engine::{
    io::{Config, Target, Trust},
    transport::{Action, Closed},
};

use crate::node::{Habits, Node, Pair, client_uni, pattern, server_uni};

const PLAIN: Habits = Habits { echo: false, quiet: false, drains: false };

fn pair() -> Pair {
    let server = Node::server(PLAIN);
    let url = format!("https://127.0.0.1:{}/path?query=1", server.port());
    let pin = server.handle.certificate_sha256().unwrap();
    let target = Target::new(&url, Trust::CertificateSha256(vec![pin])).unwrap();
    let client = Node::new(Config::client(vec![target]), PLAIN);
    Pair::of(server, client)
}

#[test]
fn a_close_says_its_code_and_reason_after_what_was_queued() {
    let pair = pair();
    let bytes = pattern(1 << 20, 1);
    pair.server.send(pair.accepted, server_uni(0), bytes.clone(), true);
    pair.server.act(
        pair.accepted,
        Action::Close { code: SessionCode::UNAUTHORIZED, reason: "go away".to_owned() },
    );
    // The server's first stream is its control stream of HTTP/3.
    assert!(pair.client.whole_stream(pair.dialled, server_uni(1)) == bytes);
    let expected = Closed::ByPeer { code: SessionCode::UNAUTHORIZED.0, reason: "go away".into() };
    assert_eq!(pair.client.closed(pair.dialled), expected);
    assert_eq!(pair.server.closed(pair.accepted), Closed::Locally);
}

#[test]
fn a_close_waits_for_no_peer_that_does_not_read() {
    let pair = pair();
    pair.client.send(pair.dialled, client_uni(0), "first", false);
    pair.server.bytes(pair.accepted, client_uni(1), 5);
    pair.server.act(pair.accepted, Action::Pause { stream: client_uni(1) });
    pair.client.send(pair.dialled, client_uni(0), pattern(16 << 20, 1), false);
    let began = Instant::now();
    let reason = "é".repeat(2_000);
    pair.client.act(pair.dialled, Action::Close { code: SessionCode::NO_ERROR, reason });
    assert_eq!(pair.client.closed(pair.dialled), Closed::Locally);
    assert!(began.elapsed() < Duration::from_secs(3));
    let Closed::ByPeer { code: 0, reason } = pair.server.closed(pair.accepted) else {
        panic!("another end");
    };
    assert_eq!(reason, "é".repeat(512));
}

//! Sessions of WebTransport, over HTTP/3.

use aip_engine::io::{Config, Target, Trust};

use crate::{
    closing,
    node::{Habits, Node, Pair},
};

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
    closing::says_its_code_and_reason(&pair(), 1);
}

#[test]
fn a_close_waits_for_no_peer_that_does_not_read() {
    closing::waits_for_nobody(&pair(), 1);
}

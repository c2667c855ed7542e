//! Paths that change under a session.

use std::time::Duration;

use aip_engine::io::Config;
use aip_tests::forwarder::Forwarder;

use crate::node::{
    Habits, Node, Pair, Told, client_bidi, client_uni, pattern, server_config, server_uni,
};

const PLAIN: Habits = Habits { echo: false, quiet: false, drains: false };
const ECHO: Habits = Habits { echo: true, quiet: false, drains: false };

fn forwarded(server: Habits) -> (Pair, Forwarder) {
    let server = Node::server(server);
    let forwarder = Forwarder::new(server.port());
    let target = server.target_at(forwarder.port());
    let client = Node::new(Config::client(vec![target]), PLAIN);
    (Pair::of(server, client), forwarder)
}

#[test]
fn a_session_survives_ten_changes_of_its_peers_address() {
    let (pair, forwarder) = forwarded(ECHO);
    for round in 0..11 {
        let bytes = pattern(200_000, round);
        pair.client.send(pair.dialled, client_bidi(round), bytes.clone(), true);
        assert!(pair.client.whole_stream(pair.dialled, client_bidi(round)) == bytes, "{round}");
        pair.server.counted("a move", |counters| counters.migrations_total == round);
        forwarder.rebind();
    }
    for node in [&pair.server, &pair.client] {
        node.never("lost", |told| matches!(told, Told::Closed(..)));
    }
}

#[test]
fn bytes_on_their_way_survive_changes_in_quick_succession() {
    let (pair, forwarder) = forwarded(ECHO);
    let bytes = pattern(8 << 20, 1);
    pair.client.send(pair.dialled, client_bidi(0), bytes.clone(), true);
    let mut echoed = Vec::new();
    let mut next = 500_000;
    while echoed.len() < bytes.len() {
        pair.client.wait("an echo", |told| match told {
            Told::Stream(_, _, bytes, _) => {
                echoed.extend_from_slice(bytes);
                Some(())
            }
            _ => None,
        });
        if next < echoed.len() {
            forwarder.rebind();
            next += 500_000;
        }
    }
    assert!(echoed == bytes);
}

#[test]
fn what_the_server_sends_follows_a_client_that_moved_silently() {
    let (pair, forwarder) = forwarded(PLAIN);
    forwarder.rebind();
    // The client says something, if only to keep the session alive; then the server knows.
    let bytes = pattern(500_000, 1);
    pair.server.send(pair.accepted, server_uni(0), bytes.clone(), true);
    assert!(pair.client.whole_stream(pair.dialled, server_uni(0)) == bytes);
}

#[test]
fn a_path_that_could_not_be_proven_does_not_hold_up_the_next() {
    let mut config = server_config();
    config.quic.idle_timeout = Duration::from_secs(60);
    let server = Node::new(config, ECHO);
    let forwarder = Forwarder::new(server.port());
    let mut config = Config::client(vec![server.target_at(forwarder.port())]);
    config.quic.idle_timeout = Duration::from_secs(60);
    let pair = Pair::of(server, Node::new(config, PLAIN));
    let bytes = pattern(20_000, 1);
    pair.client.send(pair.dialled, client_bidi(0), bytes.clone(), true);
    assert!(pair.client.whole_stream(pair.dialled, client_bidi(0)) == bytes);
    // The server may answer three times what comes from the new address, and all of that is lost.
    forwarder.deafen(true);
    forwarder.rebind();
    pair.client.send(pair.dialled, client_bidi(1), pattern(1, 1), true);
    forwarder.wait_for_words(1);
    forwarder.cut();
    // Each comes after twice as long: the server has time to want the proof again, for which it may
    // send nothing any more.
    forwarder.wait_for_words(9);
    forwarder.rebind();
    forwarder.mend();
    forwarder.deafen(false);
    pair.client.send(pair.dialled, client_bidi(2), bytes.clone(), true);
    assert!(pair.client.whole_stream(pair.dialled, client_bidi(2)) == bytes);
}

#[test]
fn what_was_lost_on_a_path_left_without_proof_is_sent_again() {
    let (pair, forwarder) = forwarded(PLAIN);
    // The server may send three times what came from the new address, would like to send more, and
    // all of it is lost.
    let bytes = pattern(500_000, 1);
    forwarder.deafen(true);
    forwarder.rebind();
    pair.client.send(pair.dialled, client_uni(0), pattern(6_000, 1), true);
    assert!(pair.server.whole_stream(pair.accepted, client_uni(0)) == pattern(6_000, 1));
    pair.server.send(pair.accepted, server_uni(0), bytes.clone(), true);
    forwarder.wait_until_quiet();
    forwarder.rebind();
    forwarder.deafen(false);
    assert!(pair.client.whole_stream(pair.dialled, server_uni(0)) == bytes);
}

#[test]
fn streams_go_on_when_the_path_becomes_narrower() {
    let (pair, forwarder) = forwarded(PLAIN);
    // Enough that wider packets have been found to pass.
    let bytes = pattern(1 << 20, 1);
    pair.client.send(pair.dialled, client_uni(0), bytes.clone(), true);
    assert!(pair.server.whole_stream(pair.accepted, client_uni(0)) == bytes);
    forwarder.narrow(1_280);
    pair.client.send(pair.dialled, client_uni(1), bytes.clone(), true);
    assert!(pair.server.whole_stream(pair.accepted, client_uni(1)) == bytes);
    pair.client.counted("a new search", |counters| 0 < counters.path_mtu_revalidations_total);
}

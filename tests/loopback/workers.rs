//! Several workers on one port: who is whose, and stays so.

use std::collections::BTreeSet;

use aip_engine::{
    io::{Config, Identity},
    transport::SessionId,
};
use aip_tests::forwarder::Forwarder;

use crate::node::{Habits, Node, Told, client_bidi, pattern};

const ECHO: Habits = Habits { echo: true, quiet: true, drains: true };
const PLAIN: Habits = Habits { echo: false, quiet: false, drains: true };
/// Enough that no worker goes without, but by a chance of one in a million.
const CLIENTS: u64 = 24;

fn server(workers: usize, steer: bool) -> Node {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let mut config = Config::server(listen, Identity::Development).with_workers(workers);
    config.steer = steer;
    Node::of_workers(config, ECHO)
}

/// Clients that each move once between two echoes.
fn moved(server: &Node) {
    let clients: Vec<(Node, SessionId, Forwarder)> = (0..CLIENTS)
        .map(|_| {
            let forwarder = Forwarder::new(server.port());
            let target = server.target_at(forwarder.port());
            let client = Node::new(Config::client(vec![target]), PLAIN);
            let (session, _) = client.connected();
            (client, session, forwarder)
        })
        .collect();
    for round in 0..2 {
        for (client, session, forwarder) in &clients {
            let bytes = pattern(20_000, round);
            client.send(*session, client_bidi(round), bytes.clone(), true);
            assert!(client.whole_stream(*session, client_bidi(round)) == bytes, "{round}");
            if round == 0 {
                forwarder.rebind();
            }
        }
    }
    server.counted("every move", |counters| counters.migrations_total == CLIENTS);
    for (client, ..) in &clients {
        client.never("lost", |told| matches!(told, Told::Closed(..)));
    }
}

#[test]
fn the_kernel_gives_each_worker_what_is_its_own_wherever_it_comes_from() {
    let server = server(3, true);
    moved(&server);
    let workers = server.handle.counters_by_worker();
    assert_eq!(workers.len(), 3);
    assert!(workers.iter().all(|worker| 0 < worker.sessions_total), "one has nothing to do");
    let counters = server.handle.counters();
    assert_eq!(counters.datagrams_misrouted_total, 0);
    assert_eq!(counters.packets_dropped_total, 0);
}

#[test]
fn workers_hand_each_other_what_the_kernel_does_not_steer() {
    let server = server(3, false);
    moved(&server);
    let counters = server.handle.counters();
    assert!(0 < counters.datagrams_misrouted_total, "the kernel has guessed right every time");
    assert_eq!(counters.datagrams_misrouted_dropped_total, 0);
}

#[test]
fn all_workers_drain_and_end_together() {
    let server = server(3, true);
    let clients: Vec<Node> = (0..CLIENTS).map(|_| Node::client(&server, PLAIN)).collect();
    let sessions: Vec<SessionId> = clients.iter().map(|client| client.connected().0).collect();
    server.handle.shutdown();
    for (client, session) in clients.iter().zip(sessions) {
        client.closed(session);
    }
    assert!(server.handle.wait(crate::node::PATIENCE), "a worker goes on");
}

#[test]
fn a_worker_that_panics_takes_the_others_along_and_leaves_no_port() {
    let first = server(3, true);
    let address = first.handle.addresses()[0];
    first.panic();
    assert!(first.handle.wait(crate::node::PATIENCE), "a worker goes on");
    let error = first.handle.join().unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    let config = Config::server(vec![address], Identity::Development).with_workers(3);
    let second = Node::of_workers(config, ECHO);
    assert_eq!(second.handle.addresses(), [address]);
}

#[test]
fn a_port_belongs_to_one_process_however_many_workers_it_has() {
    let first = server(2, true);
    let address = first.handle.addresses()[0];
    for workers in [1, 2] {
        let config = Config::server(vec![address], Identity::Development).with_workers(workers);
        let again = aip_engine::io::spawn_workers(config, |_| -> aip_engine::relay::Relay {
            unreachable!("it must not run")
        });
        assert!(again.unwrap_err().to_string().contains("in use"), "{workers}");
    }
}

#[test]
fn each_address_has_its_own_sockets() {
    let listen = ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"].map(|it| it.parse().unwrap());
    let config = Config::server(listen.to_vec(), Identity::Development).with_workers(2);
    let server = Node::of_workers(config, ECHO);
    let ports: BTreeSet<u16> = server.handle.addresses().iter().map(|it| it.port()).collect();
    assert_eq!(ports.len(), 3);
    assert!(!ports.contains(&0));
    for address in server.handle.addresses() {
        let target = match address.is_ipv6() {
            true => server.target_of(&format!("[::1]:{}", address.port())),
            false => server.target_at(address.port()),
        };
        let client = Node::new(Config::client(vec![target]), PLAIN);
        let (session, _) = client.connected();
        let bytes = pattern(5_000, 1);
        client.send(session, client_bidi(0), bytes.clone(), true);
        assert!(client.whole_stream(session, client_bidi(0)) == bytes, "{address}");
    }
}

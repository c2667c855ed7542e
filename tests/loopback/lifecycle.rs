//! How sessions end, and begin again.

use std::time::{Duration, Instant};

use aip_codec::moqt::error_code::SessionCode;
use aip_engine::{
    io::{Config, Dial, Quic, Trust},
    transport::{Action, Closed, Connect, Side},
};
use aip_tests::forwarder::Forwarder;

use crate::{
    closing,
    node::{Habits, Node, PATIENCE, Pair, Told, client_bidi, client_uni, pair, server_config},
};

const PLAIN: Habits = Habits { echo: false, quiet: false, drains: false };
const ECHO: Habits = Habits { echo: true, quiet: false, drains: false };

#[test]
fn a_session_knows_its_peer() {
    let server = Node::server(PLAIN);
    let client = Node::client(&server, PLAIN);
    let (_, peer) = client.connected();
    assert_eq!((peer.side, peer.version), (Side::Client, aip_codec::Version::Draft22));
    assert_eq!(peer.target, Some(0));
    assert_eq!(peer.authority, Some(format!("127.0.0.1:{}", server.port())));
    assert_eq!(peer.path.as_deref(), Some("/path?query=1"));
    assert_eq!(peer.address.port(), server.port());
    let (_, peer) = server.connected();
    assert_eq!((peer.side, peer.target, peer.path), (Side::Server, None, None));
}

#[test]
fn a_close_says_its_code_and_reason_after_what_was_queued() {
    closing::says_its_code_and_reason(&pair(PLAIN, PLAIN), 0);
}

#[test]
fn a_close_waits_for_no_peer_that_does_not_read() {
    closing::waits_for_nobody(&pair(PLAIN, PLAIN), 0);
}

#[test]
fn a_client_comes_back_when_its_session_ends() {
    let server = Node::server(PLAIN);
    let mut dial = Dial::default();
    dial.backoff_min = Duration::from_millis(10);
    let client = Node::new(Config::client(vec![server.target()]).with_dial(dial), PLAIN);
    for _ in 0..5 {
        let (session, _) = server.connected();
        client.connected();
        let reason = String::new();
        server.act(session, Action::Close { code: SessionCode::INTERNAL_ERROR, reason });
        client.wait("the end", |told| matches!(told, Told::Closed(..)).then_some(()));
    }
}

#[test]
fn an_unreachable_target_is_told_and_tried_again() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Node::server(PLAIN);
    let mut dial = Dial::default();
    dial.timeout = Duration::from_millis(200);
    dial.backoff_min = Duration::from_millis(10);
    dial.backoff_max = Duration::from_millis(20);
    let targets = vec![server.target_at(free), server.target()];
    let client = Node::new(Config::client(targets).with_dial(dial), PLAIN);
    assert_eq!(client.connected().1.target, Some(1));
    for _ in 0..3 {
        let (target, reason) = client.wait("a failure", |told| match told {
            Told::Unreachable(target, reason) => Some((*target, reason.clone())),
            _ => None,
        });
        assert_eq!((target, reason.as_str()), (0, "no answer"));
    }
    client.never("the other target failed", |told| matches!(told, Told::Unreachable(1, _)));
}

#[test]
fn a_name_is_reached_at_whichever_address_answers() {
    let server = Node::server(PLAIN);
    let mut target = server.target();
    target.url = format!("moqt://localhost:{}", server.port()).parse().unwrap();
    let client = Node::new(Config::client(vec![target]), PLAIN);
    let began = Instant::now();
    client.connected();
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_drain_waits_for_the_driver_then_says_farewell() {
    let server = Node::server(PLAIN);
    let client = Node::client(&server, PLAIN);
    let pair = Pair::of(server, client);
    pair.server.handle.shutdown();
    pair.server.wait("the drain", |told| matches!(told, Told::Drain).then_some(()));
    // What is under way goes on.
    pair.client.send(pair.dialled, client_uni(0), "still here", true);
    assert_eq!(pair.server.whole_stream(pair.accepted, client_uni(0)), b"still here");
    drop(pair.server.handle.mailbox().send(crate::node::Command::Drained));
    let expected = Closed::ByPeer { code: SessionCode::NO_ERROR.0, reason: "".into() };
    assert_eq!(pair.client.closed(pair.dialled), expected);
    assert_eq!(pair.server.closed(pair.accepted), Closed::Locally);
    pair.server.end();
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let timeout = Duration::from_millis(300);
    let server = Node::new(server_config().with_drain_timeout(timeout), PLAIN);
    let client = Node::client(&server, PLAIN);
    let pair = Pair::of(server, client);
    let began = Instant::now();
    pair.server.handle.shutdown();
    let expected = Closed::ByPeer { code: SessionCode::GOAWAY_TIMEOUT.0, reason: "".into() };
    assert_eq!(pair.client.closed(pair.dialled), expected);
    assert!(timeout <= began.elapsed());
    assert!(pair.server.handle.wait(PATIENCE));
    pair.server.handle.join().unwrap();
}

#[test]
fn nobody_new_is_taken_while_draining() {
    let server = Node::server(PLAIN);
    server.handle.shutdown();
    server.wait("the drain", |told| matches!(told, Told::Drain).then_some(()));
    let client = Node::client(&server, PLAIN);
    server.counted("a refusal", |counters| 0 < counters.handshakes_refused_total);
    client.never("a session", |told| matches!(told, Told::Connected(..)));
    server.end();
}

#[test]
fn an_idle_session_is_kept_alive() {
    let mut quic = Quic::default();
    quic.idle_timeout = Duration::from_secs(1);
    quic.keep_alive = Duration::from_millis(300);
    let server = Node::new(server_config().with_quic(quic), ECHO);
    // The client's own keep-alive is longer than the server's patience, which it must respect.
    let client = Node::client(&server, PLAIN);
    let pair = Pair::of(server, client);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(50));
        pair.client.never("lost", |told| matches!(told, Told::Closed(..)));
    }
    pair.client.send(pair.dialled, client_bidi(0), "here", true);
    assert_eq!(pair.client.whole_stream(pair.dialled, client_bidi(0)), b"here");
}

#[test]
fn a_dead_peer_is_noticed_within_six_seconds() {
    let server = Node::server(PLAIN);
    let forwarder = Forwarder::new(server.port());
    let target = server.target_at(forwarder.port());
    let pair = Pair::of(server, Node::new(Config::client(vec![target]), PLAIN));
    forwarder.cut();
    let began = Instant::now();
    let patience = Duration::from_secs(6);
    assert_eq!(pair.server.closed_within(patience, pair.accepted), Closed::TimedOut);
    assert_eq!(pair.client.closed_within(patience, pair.dialled), Closed::TimedOut);
    assert!(Duration::from_secs(3) < began.elapsed(), "noticed before it can have been");
}

#[test]
fn a_worker_that_ended_takes_no_more_commands() {
    let server = Node::server(Habits { drains: true, ..PLAIN });
    let mailbox = server.handle.mailbox();
    server.end();
    assert!(mailbox.is_closed());
    let rejected = mailbox.send(crate::node::Command::Drained);
    assert!(matches!(rejected, Err(aip_engine::io::Rejected::Closed(_))));
}

#[test]
fn connections_on_request_are_begun_as_often_as_asked_and_never_again() {
    let server = Node::server(PLAIN);
    let mut dial = Dial::default();
    dial.on_request = true;
    let mut config = Config::client(vec![server.target()]).with_dial(dial);
    config.client_sockets = 2;
    let client = Node::new(config, PLAIN);
    let address = server.handle.addresses()[0];
    let mut keys = Vec::new();
    let mut ports = Vec::new();
    for key in 0..3 {
        client.connect(Connect { target: 0, address, key });
        let (_, peer) = client.connected();
        keys.push(peer.key);
        let (session, peer) = server.connected();
        ports.push(peer.address.port());
        let reason = String::new();
        server.act(session, Action::Close { code: SessionCode::NO_ERROR, reason });
        client.wait("the end", |told| matches!(told, Told::Closed(..)).then_some(()));
    }
    assert_eq!(keys, [Some(0), Some(1), Some(2)]);
    assert_ne!(ports[0], ports[1], "the sockets take turns");
    assert_eq!(ports[0], ports[2]);

    client.connect(Connect { target: 1, address, key: 7 });
    let failed = |told: &Told| match told {
        Told::ConnectFailed(key, reason) => Some((*key, reason.clone())),
        Told::Connected(..) => panic!("nobody asked for this one"),
        _ => None,
    };
    assert_eq!(client.wait("the failure", failed), (7, "there is no target 1".to_owned()));
}

#[test]
fn a_target_that_moves_is_followed_while_its_connection_lasts_and_only_to_known_hosts() {
    let (first, second) = (Node::server(PLAIN), Node::server(PLAIN));
    let mut target = first.target();
    target.trust = Some(Trust::Insecure);
    let client = Node::new(Config::client(vec![target]), PLAIN);
    let (old, _) = client.connected();
    first.connected();
    // Another host, another scheme: what follows them would come before the last word.
    for uri in ["moqt://127.0.0.2:{}", "https://127.0.0.1:{}", "moqt://127.0.0.1@127.0.0.2:{}"] {
        client.move_to(0, &uri.replace("{}", &second.port().to_string()));
    }
    client.move_to(0, &format!("moqt://127.0.0.1:{}/elsewhere", second.port()));
    let (new, peer) = client.connected();
    second.connected();
    assert_eq!((peer.target, peer.path.as_deref()), (Some(0), Some("/elsewhere")));
    client.never("the old one ended", |told| matches!(told, Told::Closed(..)));
    // Back and forth is not followed; and the end of the old one changes nothing.
    client.move_to(0, &format!("moqt://127.0.0.1:{}", first.port()));
    first.end();
    client.closed(old);
    client.send(new, client_bidi(0), "here", true);
    second.wait("bytes", |told| matches!(told, Told::Stream(..)).then_some(()));
    client.never("another session", |told| matches!(told, Told::Connected(..)));
}

//! How connections begin, and what those get who do not mean to.

use std::{fs, net::UdpSocket, path::PathBuf, time::Duration};

use aip_engine::{
    io::{Config, Dial, Handshake, RetryPolicy, Target, Trust},
    transport::Closed,
};
use aip_tests::forwarder::Forwarder;

use crate::node::{Habits, Node, Pair, Told, client_bidi, pattern, server_config};

const PLAIN: Habits = Habits { echo: false, quiet: false, drains: false };
const ECHO: Habits = Habits { echo: true, quiet: false, drains: false };

fn server_with(change: impl FnOnce(&mut Handshake)) -> Node {
    let mut handshake = Handshake::default();
    change(&mut handshake);
    Node::new(server_config().with_handshake(handshake), ECHO)
}

#[track_caller]
fn unreachable(client: &Node) -> String {
    client.wait("a failure", |told| match told {
        Told::Unreachable(_, reason) => Some(reason.clone()),
        _ => None,
    })
}

/// A packet with a long header of version 1, long enough to begin a connection.
fn initial(destination: &[u8], token: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = vec![0xc3];
    bytes.extend(1_u32.to_be_bytes());
    for id in [destination, &b"source id"[..]] {
        bytes.push(u8::try_from(id.len()).unwrap());
        bytes.extend(id);
    }
    bytes.extend(u16::try_from(0x4000 | token.len()).unwrap().to_be_bytes());
    bytes.extend(token);
    bytes.resize(length, 0x5a);
    bytes
}

struct Stranger {
    socket: UdpSocket,
}

impl Stranger {
    fn of(server: &Node) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", server.port())).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket }
    }

    fn send(&self, bytes: &[u8]) {
        self.socket.send(bytes).unwrap();
    }

    fn answer(&self) -> Vec<u8> {
        let mut bytes = [0; 2_000];
        let length = self.socket.recv(&mut bytes).unwrap();
        bytes[..length].to_vec()
    }

    /// Whatever was sent before, the first answer is to this: a version that is not spoken.
    #[track_caller]
    fn heard_nothing(&self) {
        let mut probe = initial(b"destination", b"", 1_200);
        probe[1..5].copy_from_slice(&0x0a1a_2a3a_u32.to_be_bytes());
        self.send(&probe);
        let answer = self.answer();
        assert_eq!(answer[1..5], [0; 4], "something else was answered: {answer:x?}");
    }
}

#[test]
fn a_certificate_that_is_not_pinned_is_refused() {
    let server = Node::server(PLAIN);
    let mut target = server.target();
    target.trust = Some(Trust::CertificateSha256(vec![[7; 32]]));
    let client = Node::new(Config::client(vec![target]), PLAIN);
    assert!(unreachable(&client).contains("pinned"));
    client.never("connected", |told| matches!(told, Told::Connected(..)));
    // The server may have thought that it was: then it learns better.
    server.never("alive", |told| matches!(told, Told::Stream(..)));
}

#[test]
fn a_server_whose_certificate_is_not_pinned_is_asked_for_nothing_over_http() {
    let server = Node::server(PLAIN);
    let url = format!("https://127.0.0.1:{}/path?secret=1", server.port());
    let target = Target::new(&url, Trust::CertificateSha256(vec![[7; 32]])).unwrap();
    let client = Node::new(Config::client(vec![target]), PLAIN);
    assert!(unreachable(&client).contains("pinned"));
    server.never("asked for a session", |told| matches!(told, Told::Connected(..)));
}

#[test]
fn anyone_will_do_for_those_who_say_so() {
    let server = Node::server(ECHO);
    let mut target = server.target();
    target.trust = Some(Trust::Insecure);
    let client = Node::new(Config::client(vec![target]), PLAIN);
    client.connected();
}

#[test]
fn nobody_is_trusted_without_a_reason() {
    let target = Target::new("moqt://127.0.0.1:1", None).unwrap();
    let driver = || -> aip_engine::relay::Relay { unreachable!("it must not run") };
    let error = aip_engine::io::spawn(Config::client(vec![target]), driver).unwrap_err();
    assert!(error.to_string().contains("--certificate-sha256"), "{error}");
}

#[test]
fn a_demand_for_proof_costs_honest_clients_a_round_trip() {
    let server = server_with(|it| it.retry = RetryPolicy::Always);
    let client = Node::client(&server, PLAIN);
    let pair = Pair::of(server, client);
    pair.client.send(pair.dialled, client_bidi(0), "here", true);
    assert_eq!(pair.client.whole_stream(pair.dialled, client_bidi(0)), b"here");
    // One for each packet of the client's first flight.
    pair.server.counted("a retry", |counters| {
        (1..=2).contains(&counters.retries_total) && counters.retry_tokens_refused_total == 0
    });
}

#[test]
fn forged_and_foreign_tokens_are_refused() {
    let server = server_with(|it| it.retry = RetryPolicy::Always);
    let honest = Stranger::of(&server);
    honest.send(&initial(b"destination", b"", 1_200));
    let retry = honest.answer();
    assert!(retry.len() < 3 * 1_200);
    assert_eq!(retry[0] & 0xf0, 0xf0, "no Retry: {retry:x?}");
    // Ids of the Retry, then the token, then its integrity tag.
    let source_at = 6 + usize::from(retry[5]);
    let source = &retry[source_at + 1..][..usize::from(retry[source_at])];
    let token = &retry[source_at + 1 + source.len()..retry.len() - 16];

    let mut refused = 0;
    let mut refuse = |stranger: &Stranger, packet: &[u8]| {
        stranger.send(packet);
        stranger.heard_nothing();
        refused += 1;
        server.counted("a refusal", |counters| counters.retry_tokens_refused_total == refused);
    };
    refuse(&honest, &initial(source, &[0; 60], 1_200));
    refuse(&honest, &initial(source, b"quiche", 1_200));
    let mut flipped = token.to_vec();
    flipped[token.len() / 2] ^= 4;
    refuse(&honest, &initial(source, &flipped, 1_200));
    refuse(&honest, &initial(b"another id of 16", token, 1_200));
    refuse(&Stranger::of(&server), &initial(source, token, 1_200));
    // The token itself is good; what follows it is no handshake, and costs nothing that stays.
    honest.send(&initial(source, token, 1_200));
    honest.heard_nothing();
    server.counted("nothing left", |counters| {
        counters.retry_tokens_refused_total == refused
            && counters.connections == 0
            && counters.handshakes_half_open == 0
    });
}

/// Before an address is proven, three times what came from there is all that goes back, however often
/// it is sent again.
#[test]
fn who_has_proven_nothing_gets_no_more_than_three_times_what_it_sent() {
    // What a client of ours says first.
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let url = format!("moqt://{}", listener.local_addr().unwrap());
    let client =
        Node::new(Config::client(vec![Target::new(&url, Trust::Insecure).unwrap()]), PLAIN);
    let mut first = [0; 2_000];
    let length = listener.recv(&mut first).unwrap();
    drop(client);
    let server = server_with(|it| it.timeout = Duration::from_secs(2));
    let stranger = Stranger::of(&server);
    stranger.send(&first[..length]);
    server.counted("the end of the handshake", |counters| {
        0 < counters.handshakes_failed_total && counters.connections == 0
    });
    stranger.socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2_000];
    let answered: usize = std::iter::from_fn(|| stranger.socket.recv(&mut buffer).ok()).sum();
    assert!(0 < answered && answered <= 3 * length, "{answered} for {length}");
}

#[test]
fn proof_is_demanded_above_so_many_half_open_handshakes() {
    let server = server_with(|it| it.half_open_max = 0);
    let client = Node::client(&server, PLAIN);
    let pair = Pair::of(server, client);
    pair.server.counted("a retry", |counters| (1..=2).contains(&counters.retries_total));
}

#[test]
fn noise_is_not_answered_and_leaves_nothing() {
    let server = Node::server(PLAIN);
    let stranger = Stranger::of(&server);
    for length in [0, 1, 20, 100, 1_199] {
        stranger.send(&initial(b"destination", b"", 1_200)[..length]);
    }
    // Too short an id, ids too long, a Handshake for nobody, a version negotiation, a token that
    // is longer than its packet.
    stranger.send(&initial(b"short", b"", 1_200));
    stranger.send(&initial(&[1; 21], b"", 1_200));
    let mut handshake = initial(b"destination", b"", 1_200);
    handshake[0] = 0xe3;
    stranger.send(&handshake);
    let mut negotiation = initial(b"destination", b"", 1_200);
    negotiation[1..5].fill(0);
    stranger.send(&negotiation);
    stranger.send(&[&[0xc3, 0, 0, 0, 1, 8][..], &[1; 8], &[0, 0x7f, 0xff]].concat());
    // Short headers that are too short to be answered by something shorter.
    for length in 1..22 {
        stranger.send(&vec![0x41; length]);
    }
    // Random bytes in an otherwise good Initial.
    let mut garbage = pattern(1_200, 1);
    garbage[..20].copy_from_slice(&initial(b"destination", b"", 20));
    stranger.send(&garbage);
    stranger.heard_nothing();
    server.counted("nothing left", |counters| {
        counters.connections == 0 && counters.handshakes_half_open == 0
    });
    server.never("told", |_| true);
}

#[test]
fn an_unknown_connection_is_reset_statelessly_and_not_too_often() {
    let server = server_with(|it| it.stateless_resets_per_second = 10);
    let stranger = Stranger::of(&server);
    let packet = [&[0x41][..], &pattern(99, 1)].concat();
    stranger.send(&packet);
    let answer = stranger.answer();
    assert!(answer.len() < packet.len() && 21 <= answer.len());
    assert_eq!(answer[0] & 0xc0, 0x40);
    // The same id has the same token, another one has another.
    stranger.send(&packet);
    let again = stranger.answer();
    assert_eq!(answer[answer.len() - 16..], again[again.len() - 16..]);
    stranger.send(&[&[0x41][..], &pattern(99, 2)].concat());
    let other = stranger.answer();
    assert_ne!(answer[answer.len() - 16..], other[other.len() - 16..]);
    for _ in 0..200 {
        stranger.send(&packet);
    }
    stranger.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut bytes = [0; 100];
    let answers = (0..200).take_while(|_| stranger.socket.recv(&mut bytes).is_ok()).count();
    assert!(answers <= 30, "{answers} answers");
}

#[test]
fn a_server_that_restarts_ends_the_sessions_of_the_one_before_at_once() {
    let key = KeyFile::new();
    let handshake = |it: &mut Handshake| it.stateless_reset_key = Some(key.0.clone());
    let first = server_with(handshake);
    let port = first.port();
    let mut dial = Dial::default();
    dial.backoff_min = Duration::from_millis(10);
    let mut target = first.target();
    target.trust = Some(Trust::Insecure);
    // Through a forwarder that is cut while the first server ends, so that its farewell is lost:
    // to the client it was killed.
    let forwarder = Forwarder::new(port);
    target.url = format!("moqt://127.0.0.1:{}", forwarder.port()).parse().unwrap();
    let client = Node::new(Config::client(vec![target]).with_dial(dial), PLAIN);
    let (session, _) = client.connected();
    // Until a server has confirmed the handshake, its client sends packets that no server may
    // answer by a reset.
    client.send(session, client_bidi(0), "hello", true);
    client.whole_stream(session, client_bidi(0));
    forwarder.cut();
    first.end();
    forwarder.wait_until_quiet();

    let mut again = Handshake::default();
    again.stateless_reset_key = Some(key.0.clone());
    let mut config = server_config().with_handshake(again);
    config.listen = vec![format!("127.0.0.1:{port}").parse().unwrap()];
    let second = Node::new(config, ECHO);
    forwarder.mend();
    client.send(session, client_bidi(1), "still there?", true);
    assert_eq!(client.closed(session), Closed::TimedOut);
    second.counted("a reset", |counters| 0 < counters.stateless_resets_total);
    let (session, _) = client.connected();
    client.send(session, client_bidi(0), "again", true);
    assert_eq!(client.whole_stream(session, client_bidi(0)), b"again");
}

#[test]
fn no_more_connections_than_allowed() {
    let server = server_with(|it| it.connections_max = 2);
    let clients: Vec<_> = (0..3).map(|_| Node::client(&server, PLAIN)).collect();
    server.connected();
    server.connected();
    server.counted("a refusal", |counters| 0 < counters.handshakes_refused_total);
    server.never("one more", |told| matches!(told, Told::Connected(..)));
    drop(clients);
}

#[test]
fn a_client_may_be_reached_by_either_address_family() {
    let mut config = server_config();
    config.listen = vec!["[::1]:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
    let server = Node::new(config, ECHO);
    for address in server.handle.addresses() {
        let pin = server.handle.certificate_sha256().unwrap();
        let target =
            Target::new(&format!("moqt://{address}"), Trust::CertificateSha256(vec![pin])).unwrap();
        let client = Node::new(Config::client(vec![target]), PLAIN);
        let (session, _) = client.connected();
        client.send(session, client_bidi(0), "here", true);
        assert_eq!(client.whole_stream(session, client_bidi(0)), b"here");
    }
}

#[test]
fn a_server_at_no_address_answers_from_the_one_it_was_asked_at() {
    let mut config = server_config();
    config.listen = vec!["0.0.0.0:0".parse().unwrap(), "[::]:0".parse().unwrap()];
    let server = Node::new(config, ECHO);
    let ports: Vec<_> = server.handle.addresses().iter().map(|it| it.port()).collect();
    // Not the address that the system would choose to answer from.
    for url in [format!("moqt://127.0.0.77:{}", ports[0]), format!("moqt://[::1]:{}", ports[1])] {
        let client =
            Node::new(Config::client(vec![Target::new(&url, Trust::Insecure).unwrap()]), PLAIN);
        let (session, _) = client.connected();
        let bytes = pattern(300_000, 1);
        client.send(session, client_bidi(0), bytes.clone(), true);
        assert!(client.whole_stream(session, client_bidi(0)) == bytes, "{url}");
    }
}

/// A file of secret bytes that is gone at the end.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new() -> Self {
        let name = format!("aip-loopback-{}-reset-key", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, pattern(32, 9)).unwrap();
        Self(path)
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

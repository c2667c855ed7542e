//! A flood of first packets: G7.

use std::{
    net::UdpSocket,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aip_engine::io::Quic;

use crate::{Figure, crowd::Crowd, mib, relay::Relay, stalled::Live};

const PER_SECOND: u32 = 5_000;
const TIME: Duration = Duration::from_secs(20);
/// Addresses that the flood comes from: with each first packet they make another client, so that
/// none comes twice within a handshake's time.
const SOCKETS: usize = 256;
const HONEST: usize = 100;
/// Bytes of a group of the live track: little, so that the cache grows by little.
const GROUP: usize = 1 << 10;

/// First packets of clients of ours, as they would reach a server.
fn initials() -> Vec<Vec<u8>> {
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let clients = Crowd::new(listener.local_addr().unwrap().port(), 100, Quic::default());
    let mut initials = Vec::new();
    let mut buffer = [0; 2_000];
    while initials.len() < 200 {
        match listener.recv(&mut buffer) {
            Ok(length) if 1_200 <= length && buffer[0] & 0xf0 == 0xc0 => {
                initials.push(buffer[..length].to_vec());
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    drop(clients);
    assert!(!initials.is_empty());
    initials
}

/// Sends at a steady pace until told to end; counts what is sent and what comes back.
fn flood(port: u16, end: &AtomicBool, sent: &AtomicU64, answered: &AtomicU64) -> u64 {
    let initials = initials();
    let sockets: Vec<UdpSocket> =
        (0..SOCKETS).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for socket in &sockets {
        socket.connect(("127.0.0.1", port)).unwrap();
        socket.set_nonblocking(true).unwrap();
    }
    let mut buffer = [0; 2_000];
    let (begun, mut count) = (Instant::now(), 0_u64);
    while !end.load(Ordering::Relaxed) {
        let due =
            u64::try_from(begun.elapsed().as_micros()).unwrap() * u64::from(PER_SECOND) / 1_000_000;
        while count < due {
            let socket = &sockets[usize::try_from(count).unwrap() % SOCKETS];
            let index = usize::try_from(count).unwrap() / SOCKETS % initials.len();
            // Another id makes it another client.
            let initial = &initials[index];
            if let Ok(length) = socket.send(initial) {
                sent.fetch_add(length as u64, Ordering::Relaxed);
            }
            // What earlier ones were answered with.
            while let Ok(length) = socket.recv(&mut buffer) {
                answered.fetch_add(length as u64, Ordering::Relaxed);
            }
            count += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
    count
}

pub(crate) fn measure(program: &Path) -> Vec<Figure> {
    let relay = Relay::start(program);
    let mut live = Live::new(relay.port, GROUP);
    live.publish(Duration::from_secs(3), || {});
    let (_, lost_before) = live.latencies(live.published());
    let before = live.published();
    let memory = relay.memory();
    let (end, sent, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
    );
    let flooder = {
        let (end, sent, answered) = (Arc::clone(&end), Arc::clone(&sent), Arc::clone(&answered));
        let port = relay.port;
        thread::spawn(move || flood(port, &end, &sent, &answered))
    };
    let mut most = memory;
    live.publish(TIME / 2, || most = most.max(relay.memory()));
    let since = Instant::now();
    let honest = Crowd::new(relay.port, HONEST, Quic::default());
    live.publish(TIME / 2, || most = most.max(relay.memory()));
    let in_time = honest.ask(move |clients| {
        let limit = Duration::from_secs(2);
        clients.connected_at.iter().filter(|at| at.duration_since(since) <= limit).count()
    });
    end.store(true, Ordering::Relaxed);
    let count = flooder.join().unwrap();
    let (_, lost) = live.latencies(live.published() - before);
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let (lost, count, amplification, in_time) = (
        (lost + lost_before) as f64,
        count as f64,
        answered.load(Ordering::Relaxed) as f64 / sent.load(Ordering::Relaxed).max(1) as f64,
        in_time as f64,
    );
    vec![
        Figure::least("G7 Initials sent in 20 s (about)", count, 80_000.0, ""),
        Figure::most("G7 memory growth under them", mib(most - memory), 32.0, "MiB"),
        Figure::most("G7 groups lost by a live subscriber", lost, 0.0, ""),
        Figure::least("G7 honest handshakes within 2 s, of 100", in_time, 99.0, ""),
        Figure::most("G7 bytes answered for each byte sent", amplification, 3.0, ""),
    ]
}

//! A flood of requests: G8.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use aip_codec::moqt::{
    name::{FullTrackName, TrackNamespace},
    parameter::Parameters,
};
use aip_engine::{
    io::Quic,
    session::{Event, Response},
};
use bytes::Bytes;

use crate::{
    Figure,
    crowd::{Clients, Crowd},
    mib, p99,
    relay::Relay,
};

const FLOODERS: usize = 4;
const OPEN: usize = 90;
const TIME: Duration = Duration::from_secs(10);

/// Keeps many requests for tracks with long names open, for ever new ones.
fn flood(clients: &mut Clients) {
    let name = Bytes::from(vec![b'x'; 3_900]);
    let namespace = TrackNamespace::new(["nothing", "here"]).unwrap();
    let answered = clients.heard.len();
    clients.heard.clear();
    for peer in clients.peers.values_mut() {
        for _ in 0..answered.div_ceil(FLOODERS).clamp(1, OPEN) {
            let track = FullTrackName::new(namespace.clone(), name.clone()).unwrap();
            if peer.session().subscribe(track, Parameters::default()).is_err() {
                break;
            }
        }
    }
}

/// Asks for one thing after the other; how long each answer took.
fn canary(crowd: &Crowd, time: Duration) -> Vec<Duration> {
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < time {
        let asked = crowd.ask(|clients| {
            let track =
                FullTrackName::new(TrackNamespace::new(["canary"]).unwrap(), Bytes::from("t"));
            let peer = clients.peers.values_mut().next().unwrap();
            let asked = Instant::now();
            peer.session().subscribe(track.unwrap(), Parameters::default()).unwrap();
            asked
        });
        let answered = crowd.wait(Duration::from_secs(5), |clients| {
            let answer = clients.heard.iter().find_map(|(_, at, event)| match event {
                Event::Response { body: Response::Error(_), .. } => Some(*at),
                _ => None,
            });
            clients.heard.clear();
            answer
        });
        times.push(answered.map_or(Duration::from_secs(5), |at| at.duration_since(asked)));
    }
    times
}

pub(crate) fn measure(program: &Path) -> Vec<Figure> {
    let relay = Relay::start(program);
    let crowd = Crowd::new(relay.port, 1, Quic::default());
    crowd.connected(1);
    let quiet = p99(&mut canary(&crowd, Duration::from_secs(5)));
    let memory = relay.memory();
    let flooders = Crowd::new(relay.port, FLOODERS, Quic::default());
    flooders.connected(FLOODERS);
    let flooding = thread::spawn(move || {
        let begun = Instant::now();
        while begun.elapsed() < TIME {
            flooders.ask(flood);
            thread::sleep(Duration::from_millis(1));
        }
    });
    let loud = p99(&mut canary(&crowd, TIME));
    let grown = relay.memory() - memory;
    flooding.join().unwrap();
    thread::sleep(Duration::from_secs(8));
    let kept = relay.memory() - memory;
    vec![
        Figure::most(
            "G8 p99 of a canary in a flood of requests",
            loud,
            (2.0 * quiet).max(20.0),
            "ms",
        ),
        Figure::most("G8 memory growth in the flood", mib(grown), 64.0, "MiB"),
        Figure::most("G8 memory kept 8 s later", mib(kept), 8.0, "MiB"),
    ]
}

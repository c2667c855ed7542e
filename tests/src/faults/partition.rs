//! A ring of three relays, of which one is cut off from the others for a while.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;

use super::{
    agent::{Agent, Command, PATIENCE, Role, Told},
    case::Scale,
    delivery::{ANY, runtime},
    figure::{Figure, Goal},
    proxy::{Proxy, Weather},
    relay::{Relay, target},
};

/// How long the first relay is cut off: longer than a session lives in silence.
const LASTS: Duration = Duration::from_secs(9);

/// Relays of which each has dialled the next one, by a path of its own.
struct Ring {
    relays: Vec<Relay>,
    paths: Vec<Proxy>,
    _runtime: Runtime,
}

impl Ring {
    fn new() -> io::Result<Self> {
        let runtime = runtime()?;
        // The last one's address has to be known before the first one begins.
        let free = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let mut relays = Vec::new();
        let mut paths = Vec::new();
        for number in 0..3_u64 {
            let dialled = relays.last().map_or(free, Relay::address);
            let path = Proxy::new(&runtime, dialled, number, Weather::default())?;
            let listen = if number == 2 { free } else { ANY };
            let url = format!("moqt://{}", path.address());
            relays.push(Relay::start(listen, &["--insecure", "--upstream", &url])?);
            paths.push(path);
        }
        let ring = Self { relays, paths, _runtime: runtime };
        for (relay, path) in ring.relays.iter().zip(&ring.paths) {
            let labels = format!("target=\"0\",authority=\"{}\"", path.address());
            let series = format!("aip_upstream_connected{{{labels}}}");
            relay.await_metric(&series, |up| up == 1.0)?;
        }
        Ok(ring)
    }

    /// The paths of the first relay: the one that it has dialled by, and the one that it was
    /// dialled by.
    fn turn(&self, weather: Weather) {
        self.paths[0].turn(weather);
        self.paths[1].turn(weather);
    }
}

/// Subscribes to one track after the other until one is accepted; how long that takes.
fn until_served(subscriber: &Agent, tracks: &mut u64) -> Option<Duration> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        *tracks += 1;
        let track = *tracks;
        subscriber.tell(Command::Subscribe(track));
        let came = subscriber.listen(
            Duration::from_millis(100),
            |told| matches!(told, Told::Accepted(_, of) if of == track),
        );
        if came {
            return Some(began.elapsed());
        }
    }
    None
}

/// The publisher's relay is cut off, and comes back.
pub(super) fn partition(_: Scale) -> io::Result<Vec<Figure>> {
    let case = "partition";
    let ring = Ring::new()?;
    let publisher = Agent::new(Role::Publisher, vec![target(ring.relays[0].address())]);
    publisher.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    let subscribers: Vec<Agent> = ring
        .relays
        .iter()
        .map(|relay| Agent::new(Role::Subscriber, vec![target(relay.address())]))
        .collect();
    let mut tracks = 0;
    let figure = |what: &str, took: Option<Duration>, most: f64| Figure {
        case,
        what: what.to_owned(),
        value: took.map_or(f64::INFINITY, |took| took.as_secs_f64()),
        unit: "s",
        goal: Goal::AtMost(most),
    };
    let mut figures = Vec::new();
    for subscriber in &subscribers {
        subscriber.wait("sessions", 1, |told| matches!(told, Told::Established(_)))?;
        figures.push(figure("before: until served", until_served(subscriber, &mut tracks), 5.0));
    }

    ring.turn(Weather::GONE);
    std::thread::sleep(LASTS);
    figures.push(figure("cut off: its own side", until_served(&subscribers[0], &mut tracks), 1.0));
    let mut stale = 0;
    for relay in &ring.relays[1..] {
        stale += u64::from(relay.metric("aip_namespaces")? != 0.0);
    }
    let what = "cut off: stale announcements at the others";
    figures.push(Figure::count(case, what, stale, Goal::AtMost(0.0)));

    ring.turn(Weather::default());
    let healed = Instant::now();
    let mut served = true;
    for subscriber in &subscribers[1..] {
        served &= until_served(subscriber, &mut tracks).is_some();
    }
    let took = served.then(|| healed.elapsed());
    figures.push(figure("healed: until the others are served again", took, 5.0));

    drop(publisher);
    let mut stale = 0;
    for relay in &ring.relays {
        stale += u64::from(relay.await_metric("aip_namespaces", |count| count == 0.0).is_err());
    }
    let what = "in the end: stale announcements";
    figures.push(Figure::count(case, what, stale, Goal::AtMost(0.0)));
    Ok(figures)
}

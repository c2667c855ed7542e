//! Whether every object arrives once and unchanged, whatever befalls the path.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use aip_engine::transport::SessionId;
use tokio::runtime::{Builder, Runtime};

use super::{
    agent::{Agent, Command, Group, Role, Told},
    case::Scale,
    figure::{Figure, Goal},
    proxy::{Hole, Proxy, Weather},
    relay::{Relay, target},
};
use crate::sim::random::Random;

/// The port of the system's choice.
pub(super) const ANY: SocketAddr =
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0));
/// How long deliveries may take, all together.
const PATIENCE: Duration = Duration::from_secs(240);
/// Objects of one group.
const OBJECTS: u64 = 10;
/// How long groups are sent.
const SPAN: Duration = Duration::from_secs(1);
/// Subscribers behind paths of their own.
const SUBSCRIBERS: u64 = 4;

/// Threads for paths.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

/// A publisher at a relay, and so many subscribers of its first track.
pub(super) fn agents(relay: &Relay, subscribers: usize) -> io::Result<(Agent, Agent)> {
    let publisher = Agent::new(Role::Publisher, vec![target(relay.address())]);
    publisher.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    let audience = Agent::new(Role::Subscriber, vec![target(relay.address()); subscribers]);
    audience.wait("sessions", subscribers, |told| matches!(told, Told::Established(_)))?;
    audience.tell(Command::Subscribe(0));
    audience.wait("subscriptions", subscribers, |told| matches!(told, Told::Accepted(..)))?;
    Ok((publisher, audience))
}

/// What has come, by session, track, group and object.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    heard: BTreeMap<(SessionId, u64, u64, u64), u64>,
    changed: u64,
    ended: u64,
}

impl Deliveries {
    /// Notes what an agent tells; says how many different objects have come.
    pub(super) fn note(&mut self, told: &Told) -> u64 {
        match told {
            Told::Object { session, track, group, object, intact } => {
                *self.heard.entry((*session, *track, *group, *object)).or_default() += 1;
                self.changed += u64::from(!intact);
            }
            Told::Closed(..) | Told::Ended(..) => self.ended += 1,
            _ => {}
        }
        self.count()
    }

    /// Notes what an agent tells until `expected` different objects have come, or it takes longer
    /// than `patience`.
    pub(super) fn await_from(&mut self, agent: &Agent, patience: Duration, expected: u64) {
        if self.count() < expected {
            agent.listen(patience, |told| self.note(&told) == expected);
        }
    }

    /// How many different objects have come.
    pub(super) fn count(&self) -> u64 {
        self.heard.len() as u64
    }

    /// Lost, changed, doubled, and subscriptions that ended.
    pub(super) fn figures(&self, case: &'static str, what: &str, expected: u64) -> Vec<Figure> {
        let lost = expected.saturating_sub(self.count());
        let doubled = self.heard.values().map(|count| count - 1).sum();
        [
            ("lost", lost),
            ("changed", self.changed),
            ("doubled", doubled),
            ("sessions or subscriptions lost", self.ended),
        ]
        .into_iter()
        .map(|(kind, count)| {
            let what = format!("{what}: {kind} of {expected}");
            Figure::count(case, what, count, Goal::AtMost(0.0))
        })
        .collect()
    }
}

/// A relay, a publisher and subscribers, each client behind a path of its own.
struct Stage {
    publisher: Agent,
    subscribers: Agent,
    proxies: Vec<Proxy>,
    // Dropped after those who speak to it.
    _relay: Relay,
    _runtime: Runtime,
}

impl Stage {
    fn new(seed: u64, subscribers: u64, weather: Weather) -> io::Result<Self> {
        let runtime = runtime()?;
        let relay = Relay::start(ANY, &[])?;
        let mut random = Random::new(seed);
        let proxies = (0..=subscribers)
            .map(|_| Proxy::new(&runtime, relay.address(), random.next(), weather))
            .collect::<io::Result<Vec<_>>>()?;
        let mut targets: Vec<_> = proxies.iter().map(|proxy| target(proxy.address())).collect();
        let publisher = Agent::new(Role::Publisher, vec![targets.remove(0)]);
        publisher.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
        let subscribers = Agent::new(Role::Subscriber, targets);
        Ok(Self { publisher, subscribers, proxies, _relay: relay, _runtime: runtime })
    }

    /// Subscribes everyone to a track.
    fn subscribe(&self, track: u64) -> io::Result<()> {
        let count = self.proxies.len() - 1;
        self.subscribers.wait("sessions", count, |told| matches!(told, Told::Established(_)))?;
        self.subscribers.tell(Command::Subscribe(track));
        self.subscribers.wait("subscriptions", count, |told| matches!(told, Told::Accepted(..)))
    }

    fn befallen(&self) -> String {
        let sum = |count: fn(&super::Befallen) -> &std::sync::atomic::AtomicU64| -> u64 {
            self.proxies.iter().map(|proxy| count(proxy.befallen()).load(Ordering::Relaxed)).sum()
        };
        format!(
            "{} lost, {} twice, {} changed, {} late",
            sum(|it| &it.lost),
            sum(|it| &it.duplicated),
            sum(|it| &it.corrupted),
            sum(|it| &it.reordered),
        )
    }
}

/// Groups of small objects, one after the other, through this weather.
fn through(
    case: &'static str,
    what: &str,
    seed: u64,
    (scale, span): (Scale, Duration),
    weather: Weather,
) -> io::Result<Vec<Figure>> {
    let stage = Stage::new(seed, SUBSCRIBERS, weather)?;
    stage.subscribe(0)?;
    let groups = scale.deliveries / OBJECTS / SUBSCRIBERS;
    let began = Instant::now();
    for id in 0..groups {
        let group = Group { id, objects: OBJECTS, length: 300 };
        stage.publisher.tell(Command::Publish(0, vec![group]));
        // A pace, so that the weather changes under way.
        stage.publisher.listen(span / u32::try_from(groups).unwrap_or(u32::MAX), |_| false);
    }
    let expected = groups * OBJECTS * SUBSCRIBERS;
    let mut deliveries = Deliveries::default();
    deliveries.await_from(&stage.subscribers, PATIENCE, expected);
    // Whatever comes twice comes soon.
    stage.subscribers.listen(Duration::from_millis(300), |told| {
        deliveries.note(&told);
        false
    });
    let mut figures = deliveries.figures(case, what, expected);
    figures.push(Figure {
        case,
        what: format!("{what}: until all was there ({})", stage.befallen()),
        value: began.elapsed().as_secs_f64(),
        unit: "s",
        goal: Goal::None,
    });
    Ok(figures)
}

/// Loss in bursts.
pub(super) fn loss(scale: Scale) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    // Bursts of two on average: half as many begin as datagrams are lost.
    for (what, per_thousand) in [("2 %", 10), ("5 %", 25), ("10 %", 50)] {
        let weather = Weather {
            loss_per_thousand: per_thousand,
            burst_max: 3,
            delay: Duration::from_millis(10),
            ..Weather::default()
        };
        figures.extend(through("loss", what, per_thousand, (scale, SPAN), weather)?);
    }
    Ok(figures)
}

/// Everything but loss.
pub(super) fn disorder(scale: Scale) -> io::Result<Vec<Figure>> {
    let calm = Weather { delay: Duration::from_millis(5), ..Weather::default() };
    let kinds = [
        ("jitter", Weather { jitter: Duration::from_millis(30), ..calm }),
        ("reordering", Weather { reordered_per_thousand: 200, ..calm }),
        ("duplication", Weather { duplicated_per_thousand: 200, ..calm }),
        ("corruption", Weather { corrupted_per_thousand: 50, ..calm }),
    ];
    let mut figures = Vec::new();
    for (seed, (what, weather)) in (1..).zip(kinds) {
        figures.extend(through("disorder", what, seed, (scale, SPAN), weather)?);
    }
    Ok(figures)
}

/// Times in which nothing passes.
pub(super) fn holes(scale: Scale) -> io::Result<Vec<Figure>> {
    let hole = Hole { every: Duration::from_secs(3), lasts: Duration::from_millis(1_500) };
    let weather =
        Weather { hole: Some(hole), delay: Duration::from_millis(5), ..Weather::default() };
    through("holes", "1.5 s of 3 s", 7, (scale, hole.every * 2), weather)
}

/// The longest UDP payload on a path of so many bytes (IPv4).
const fn payload_of(mtu: usize) -> usize {
    mtu - 28
}

/// A path that becomes narrower.
pub(super) fn narrow(_: Scale) -> io::Result<Vec<Figure>> {
    let wide = Weather { length_max: payload_of(1_500), ..Weather::default() };
    let stage = Stage::new(11, 1, wide)?;
    stage.subscribe(0)?;
    let large = |id| Group { id, objects: 4, length: 40_000 };
    let mut deliveries = Deliveries::default();
    stage.publisher.tell(Command::Publish(0, (0..10).map(large).collect()));
    deliveries.await_from(&stage.subscribers, PATIENCE, 40);
    for proxy in &stage.proxies {
        proxy.turn(Weather { length_max: payload_of(1_280), ..wide });
    }
    let began = Instant::now();
    stage.publisher.tell(Command::Publish(0, (10..20).map(large).collect()));
    let mut first = None;
    stage.subscribers.listen(PATIENCE, |told| {
        let count = deliveries.note(&told);
        if 40 < count {
            first.get_or_insert_with(|| began.elapsed());
        }
        count == 80
    });
    let mut figures = deliveries.figures("narrow", "1,500 to 1,280", 80);
    let seconds = first.map_or(f64::INFINITY, |first| first.as_secs_f64());
    let what = "until streams went on".to_owned();
    figures.push(Figure {
        case: "narrow",
        what,
        value: seconds,
        unit: "s",
        goal: Goal::AtMost(5.0),
    });
    Ok(figures)
}

/// Groups in any order.
pub(super) fn order(scale: Scale) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (what, shuffle) in [("reversed", false), ("shuffled", true)] {
        let subscribers = 8;
        let stage = Stage::new(5, subscribers, Weather::default())?;
        stage.subscribe(0)?;
        let groups = scale.ordered_deliveries / subscribers;
        let mut ids: Vec<u64> = (0..groups).rev().collect();
        if shuffle {
            let mut random = Random::new(groups);
            for at in (1..ids.len()).rev() {
                ids.swap(at, random.index(at + 1));
            }
        }
        let burst: Vec<_> = ids.iter().map(|&id| Group { id, objects: 1, length: 400 }).collect();
        for groups in burst.chunks(20) {
            stage.publisher.tell(Command::Publish(0, groups.to_vec()));
        }
        let expected = groups * subscribers;
        let mut deliveries = Deliveries::default();
        deliveries.await_from(&stage.subscribers, PATIENCE, expected);
        figures.extend(deliveries.figures("order", what, expected));
    }
    Ok(figures)
}

/// The first objects that a track ever has.
pub(super) fn fresh(scale: Scale) -> io::Result<Vec<Figure>> {
    let subscribers = 8;
    // Each takes a stream in each session, of which there are 100.
    let tracks = (scale.ordered_deliveries / subscribers / 5).min(50);
    let groups = scale.ordered_deliveries / subscribers / tracks;
    let stage = Stage::new(6, subscribers, Weather::default())?;
    let mut deliveries = Deliveries::default();
    let mut expected = 0;
    for track in 0..tracks {
        if track == 0 {
            stage.subscribe(track)?;
        } else {
            stage.subscribers.tell(Command::Subscribe(track));
            stage
                .subscribers
                .wait("subscriptions", 8, |told| matches!(told, Told::Accepted(..)))?;
        }
        let burst = (0..groups).map(|id| Group { id, objects: 1, length: 400 }).collect();
        stage.publisher.tell(Command::Publish(track, burst));
        expected += groups * subscribers;
        let patience = Duration::from_secs(10);
        deliveries.await_from(&stage.subscribers, patience, expected);
    }
    Ok(deliveries.figures("fresh", "first burst", expected))
}

//! Upstream relays that die, one after the other, above an edge relay that has both.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use aip_engine::transport::SessionId;

use super::{
    agent::{Agent, Command, Object, PATIENCE, Role, Told},
    case::Scale,
    delivery::{ANY, Deliveries},
    figure::{Figure, Goal, percentile},
    relay::{Relay, StateDirectory, target},
};

/// Time between two objects.
const EVERY: Duration = Duration::from_millis(10);
/// Objects of one group.
const OBJECTS: u64 = 40;
/// How long their payloads are: some are cut in two by a death.
const LENGTH: usize = 6_000;
/// Objects between the return of one relay and the death of the next.
const BETWEEN: u64 = 50;
/// Subscribers of the edge relay.
const SUBSCRIBERS: usize = 4;

/// A publisher, two upstream relays, an edge relay, subscribers.
struct Stage {
    publisher: Agent,
    subscribers: Agent,
    edge: Relay,
    upstreams: [Relay; 2],
    state: StateDirectory,
    /// Objects published so far.
    published: u64,
    deliveries: Deliveries,
    /// When each subscriber first heard an object of those that were published after the last death.
    heard: BTreeMap<SessionId, Instant>,
    /// The first of those.
    first_after: u64,
    announced: usize,
}

impl Stage {
    fn new() -> io::Result<Self> {
        let state = StateDirectory::new()?;
        let start = |index| start_above(ANY, &state, index);
        let upstreams = [start(0)?, start(1)?];
        let urls = upstreams.each_ref().map(|relay| format!("moqt://{}", relay.address()));
        let edge =
            Relay::start(ANY, &["--insecure", "--upstream", &urls[0], "--upstream", &urls[1]])?;
        let targets = upstreams.iter().map(|relay| target(relay.address())).collect();
        let publisher = Agent::new(Role::Publisher, targets);
        publisher.wait("announcements", 2, |told| matches!(told, Told::Announced(_)))?;
        let subscribers = Agent::new(Role::Subscriber, vec![target(edge.address()); SUBSCRIBERS]);
        subscribers.wait("sessions", SUBSCRIBERS, |told| matches!(told, Told::Established(_)))?;
        let mut stage = Self {
            publisher,
            subscribers,
            edge,
            upstreams,
            state,
            published: 0,
            deliveries: Deliveries::default(),
            heard: BTreeMap::new(),
            first_after: 0,
            announced: 2,
        };
        stage.await_upstreams(|_| {})?;
        stage.subscribers.tell(Command::Subscribe(0));
        stage
            .subscribers
            .wait("subscriptions", SUBSCRIBERS, |told| matches!(told, Told::Accepted(..)))?;
        Ok(stage)
    }

    /// Publishes the next object, and listens for as long as it takes until the one after it.
    fn publish(&mut self) {
        let (group, number) = (self.published / OBJECTS, self.published % OBJECTS);
        let object = Object { group, number, length: LENGTH, last: number + 1 == OBJECTS };
        self.publisher.tell(Command::Object(0, object));
        self.published += 1;
        let due = Instant::now() + EVERY;
        self.listen(due);
        self.publisher.listen(Duration::ZERO, |told| {
            self.announced += usize::from(matches!(told, Told::Announced(_)));
            false
        });
    }

    /// Notes what subscribers hear until then.
    fn listen(&mut self, until: Instant) {
        let patience = until.saturating_duration_since(Instant::now());
        self.subscribers.listen(patience, |told| {
            if let Told::Object { session, group, object, .. } = told
                && self.first_after <= group * OBJECTS + object
            {
                self.heard.entry(session).or_insert_with(Instant::now);
            }
            self.deliveries.note(&told);
            false
        });
    }

    /// The relay above dies that the edge relay has the track from. How long subscribers go without.
    fn kill(&mut self, dies: usize) -> io::Result<Duration> {
        self.first_after = self.published;
        self.heard.clear();
        self.upstreams[dies].kill()?;
        let died = Instant::now();
        while self.heard.len() < SUBSCRIBERS && died.elapsed() < PATIENCE {
            self.publish();
        }
        let last = self.heard.values().max().filter(|_| self.heard.len() == SUBSCRIBERS);
        Ok(last.map_or(PATIENCE, |last| last.saturating_duration_since(died)))
    }

    /// It comes back, and is found by the publisher and the edge relay.
    fn restart(&mut self, died: usize) -> io::Result<()> {
        let announced = self.announced;
        let address = self.upstreams[died].address();
        self.upstreams[died] = start_above(address, &self.state, died)?;
        self.await_upstreams(Self::publish)?;
        let began = Instant::now();
        while self.announced == announced {
            if PATIENCE < began.elapsed() {
                return Err(io::Error::other("the publisher does not come back"));
            }
            self.publish();
        }
        for _ in 0..BETWEEN {
            self.publish();
        }
        Ok(())
    }

    /// Waits until the edge relay has both relays above it.
    fn await_upstreams(&mut self, meanwhile: impl Fn(&mut Self)) -> io::Result<()> {
        let began = Instant::now();
        let upstreams = |edge: &Relay| -> io::Result<usize> {
            let metrics = edge.get("/metrics")?;
            let lines = metrics.lines();
            let of_upstreams = lines.filter(|line| line.starts_with("aip_upstream_connected{"));
            Ok(of_upstreams.filter(|line| line.ends_with(" 1")).count())
        };
        while upstreams(&self.edge)? < self.upstreams.len() {
            if PATIENCE < began.elapsed() {
                return Err(io::Error::other("the edge relay does not reach a relay above it"));
            }
            meanwhile(self);
        }
        Ok(())
    }
}

/// One of the relays above.
fn start_above(listen: SocketAddr, state: &StateDirectory, index: usize) -> io::Result<Relay> {
    Relay::start(listen, &["--state-directory", &state.of(&index.to_string())])
}

/// SIGKILL to one of two relays above, in turn: always the one that the track comes from.
pub(super) fn failover(scale: Scale) -> io::Result<Vec<Figure>> {
    let case = "failover";
    let mut stage = Stage::new()?;
    for _ in 0..BETWEEN {
        stage.publish();
    }
    let mut gaps = Vec::new();
    let mut serves = stage.serving()?;
    for _ in 0..scale.kills {
        gaps.push(stage.kill(serves)?);
        stage.restart(serves)?;
        // There was only the other one to go on from.
        serves = 1 - serves;
    }
    let expected = stage.published * SUBSCRIBERS as u64;
    let began = Instant::now();
    while stage.deliveries.count() < expected && began.elapsed() < Duration::from_secs(10) {
        stage.listen(Instant::now() + EVERY);
    }
    // Whatever comes twice comes soon.
    stage.listen(Instant::now() + Duration::from_millis(300));
    let what = format!("{} deaths", scale.kills);
    let mut figures = stage.deliveries.figures(case, &what, expected);
    let mut gaps: Vec<f64> = gaps.iter().map(Duration::as_secs_f64).collect();
    gaps.sort_by(f64::total_cmp);
    let goals = [
        ("p50", 50, Goal::None),
        ("p95", 95, Goal::AtMost(2.0)),
        ("longest", 100, Goal::AtMost(4.0)),
    ];
    for (name, of_hundred, goal) in goals {
        let what = format!("until objects come again: {name}");
        let value = percentile(&gaps, of_hundred);
        figures.push(Figure { case, what, value, unit: "s", goal });
    }
    Ok(figures)
}

impl Stage {
    /// Which relay above the edge relay has the track from.
    fn serving(&self) -> io::Result<usize> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            for (index, relay) in self.upstreams.iter().enumerate() {
                // The edge relay is the only one who subscribes there.
                if relay.metric("aip_subscriptions")? == 1.0 {
                    return Ok(index);
                }
            }
            std::thread::sleep(EVERY);
        }
        Err(io::Error::other("no relay above serves the edge relay"))
    }
}

//! Worlds that a seed makes: topology, drafts, weather, who comes and goes. Checkers look on.
//!
//! `SIMULATION_SEED` runs one seed (with `SIMULATION_TRACE` telling all that is sent), `SIMULATION_SEEDS` so many from 0 on. Each runs twice and must
//! leave the same trace.

mod agent;
mod origin;
mod plan;
mod sink;
mod source;

use std::{collections::BTreeMap, time::Duration};

use aip_codec::moqt::name::{FullTrackName, TrackNamespace};
use aip_engine::relay::{Config, Relay};
use aip_tests::{
    checker::{Calls, Fetches, Objects, Versions},
    sim::{LinkId, NodeId, Weather, World, node::Node, random::Random},
};
use bytes::Bytes;

use self::{
    agent::Agent,
    origin::Origin,
    plan::{Deed, Plan},
    sink::Sink,
    source::{Feed, Source},
};

/// How many seeds an ordinary run tries.
const SEEDS: u64 = 200;

/// Says on the way out of a failed run how to see it again.
struct Replay(u64);

#[expect(clippy::print_stderr, reason = "whoever sees the test fail needs it")]
impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!(
                "replay: SIMULATION_SEED={seed} cargo nextest run -p aip-tests --test simulation swarm"
            );
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn swarm() {
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        check(seed);
    }
}

/// Runs a seed twice.
fn check(seed: u64) {
    let replay = Replay(seed);
    let first = Swarm::run(seed);
    let second = Swarm::run(seed);
    assert_eq!(first, second, "seed {seed} does not do the same twice");
    drop(replay);
}

/// Where a node is connected.
#[derive(Debug)]
struct Place {
    node: NodeId,
    /// The relay that it dials, by its place in the chain.
    relay: usize,
    link: Option<LinkId>,
    /// Connections that it has had.
    connections: u64,
}

/// Everything in one world.
struct Swarm {
    world: World,
    random: Random,
    plan: Plan,
    relays: Vec<Place>,
    partitioned: Vec<LinkId>,
    origins: Vec<Origin>,
    agents: Vec<Agent>,
    sources: Vec<Source>,
    feeds: BTreeMap<u64, Feed>,
    sinks: Vec<Sink>,
    versions: Versions,
    calls: Calls,
    objects: Objects,
    fetches: Fetches,
    /// Ends of connections lost so far.
    losses: u64,
}

/// Tracks of origins have ten numbers for each; those of the source come after 100.
fn name_of(track: u64) -> FullTrackName {
    let namespace = namespace_of(track);
    FullTrackName::new(namespace, Bytes::from(format!("t{track}"))).unwrap()
}

fn namespace_of(track: u64) -> TrackNamespace {
    TrackNamespace::new([format!("o{}", track / 10)]).unwrap()
}

fn track_of(name: &FullTrackName) -> u64 {
    std::str::from_utf8(&name.name()[1..]).unwrap().parse().unwrap()
}

impl Swarm {
    fn run(seed: u64) -> u64 {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let mut swarm = Self::build(seed, random, plan);
        for _ in 0..swarm.plan.steps {
            let deed = Deed::draw(&mut swarm.random, &swarm.plan);
            swarm.carry_out(deed);
            swarm.come_back();
            let pause = swarm.random.between(0, swarm.plan.pause_max);
            swarm.pass(Duration::from_millis(pause));
        }
        swarm.settle();
        swarm.check_settled();
        swarm.everybody_leaves();
        swarm.world.trace()
    }

    fn build(seed: u64, mut random: Random, plan: Plan) -> Self {
        let mut world = World::new(seed, Weather::CALM);
        world.tells_all = std::env::var_os("SIMULATION_TRACE").is_some();
        let mut config = Config::default();
        config.linger = Duration::from_secs(2);
        config.session.delivery.queued_bytes_max = 200_000;
        config.stream_queued_bytes_max = 50_000;
        let relays: Vec<Place> = (0..plan.relays)
            .map(|index| {
                let node = world.add(Relay::new(config.clone()));
                Place { node, relay: index.saturating_sub(1), link: None, connections: 0 }
            })
            .collect();
        let place = |world: &mut World, random: &mut Random, node: Box<dyn Node>| Place {
            node: world.add_boxed(node),
            relay: random.index(relays.len()),
            link: None,
            connections: 0,
        };
        let origins = (0..plan.origins)
            .map(|index| {
                let client = Box::new(Origin::client());
                Origin::new(place(&mut world, &mut random, client), index)
            })
            .collect();
        let agents = (0..plan.agents)
            .map(|_| {
                let client = Box::new(Agent::client());
                Agent::new(place(&mut world, &mut random, client))
            })
            .collect();
        let sources = (0..plan.sources)
            .map(|_| {
                let peer = Box::new(Source::peer());
                Source::new(place(&mut world, &mut random, peer))
            })
            .collect();
        let sinks = (0..plan.sinks)
            .map(|_| {
                let peer = Box::new(Sink::peer());
                Sink::new(place(&mut world, &mut random, peer))
            })
            .collect();
        let mut swarm = Self {
            world,
            random,
            plan,
            relays,
            partitioned: Vec::new(),
            origins,
            agents,
            sources,
            feeds: Feed::all(),
            sinks,
            versions: Versions::default(),
            calls: Calls::default(),
            objects: Objects::default(),
            fetches: Fetches::default(),
            losses: 0,
        };
        for origin in &swarm.origins {
            origin.begin(&mut swarm.world);
        }
        swarm.connect_all();
        swarm.world.weather = swarm.plan.weather;
        swarm.pass(Duration::from_millis(100));
        swarm
    }

    /// Every place whose connection may be made or lost; the first relay dials nobody.
    fn places(&mut self) -> Vec<(bool, &mut Place)> {
        let relays = self.relays.iter_mut().skip(1).map(|place| (true, place));
        let origins = self.origins.iter_mut().map(|origin| (false, &mut origin.place));
        let agents = self.agents.iter_mut().map(|agent| (false, &mut agent.place));
        let sinks = self.sinks.iter_mut().map(|sink| (false, &mut sink.place));
        let sources = self.sources.iter_mut().map(|source| (false, &mut source.place));
        relays.chain(origins).chain(agents).chain(sinks).chain(sources).collect()
    }

    fn connect_all(&mut self) {
        for index in 0..self.places().len() {
            self.connect(index);
        }
    }

    /// Connects a place that has no connection.
    fn connect(&mut self, index: usize) {
        let nodes: Vec<NodeId> = self.relays.iter().map(|relay| relay.node).collect();
        let version = self.plan.draft(&mut self.random);
        let (is_relay, node, relay) = {
            let mut places = self.places();
            let (is_relay, place) = &mut places[index];
            if place.link.is_some() {
                return;
            }
            place.connections += 1;
            (*is_relay, place.node, nodes[place.relay])
        };
        let link = self.world.connect(node, relay, version, is_relay.then_some(0));
        self.places()[index].1.link = Some(link);
    }

    /// Whoever has lost its connection may come back.
    fn come_back(&mut self) {
        for index in 0..self.places().len() {
            if self.places()[index].1.link.is_none() && self.random.chance(300) {
                self.connect(index);
            }
        }
    }

    fn carry_out(&mut self, deed: Deed) {
        match deed {
            Deed::Bump => self.bump(),
            Deed::Subscribe { read } => self.agent_subscribes(read),
            Deed::Unsubscribe => self.agent_unsubscribes(),
            Deed::Call => self.agent_calls(),
            Deed::CancelCall => self.agent_cancels(),
            Deed::Answer => self.origin_answers(),
            Deed::Publish => self.source_publishes(),
            Deed::SinkSubscribe => self.sink_subscribes(),
            Deed::SinkCancel => self.sink_cancels(),
            Deed::SinkFetch => self.sink_fetches(),
            Deed::Kill => {
                if let Some(link) = self.any_link() {
                    self.world.kill(link);
                }
            }
            Deed::Partition => {
                if let Some(link) = self.any_link() {
                    self.world.partition(link, true);
                    self.partitioned.push(link);
                }
            }
            Deed::Heal => {
                for link in std::mem::take(&mut self.partitioned) {
                    self.world.partition(link, false);
                }
            }
            Deed::Stall { stalled } => self.sink_stalls(stalled),
        }
    }

    fn any_link(&mut self) -> Option<LinkId> {
        let count = self.places().len();
        let index = self.random.index(count);
        self.places()[index].1.link
    }

    /// Lets time pass; after each thing that happens everybody acts on what they were told.
    fn pass(&mut self, time: Duration) {
        let end = self.world.now() + time;
        self.pump();
        while self.world.step(end) {
            self.pump();
        }
        self.world.run(end - self.world.now());
        self.pump();
    }

    fn pump(&mut self) {
        if self.losses != self.world.losses() {
            self.losses = self.world.losses();
            self.forget_lost_links();
        }
        self.pump_origins();
        self.pump_agents();
        self.pump_sources();
        self.pump_sinks();
        assert_eq!(self.world.faults, [], "nobody breaks the protocol here");
        let limit = self.plan.queued_max(self.sinks.len() + self.agents.len() + self.relays.len());
        for relay in &self.relays {
            let queued = self.world.queued(relay.node);
            assert!(queued <= limit, "{queued} bytes are queued, more than {limit}");
        }
    }

    fn forget_lost_links(&mut self) {
        for index in 0..self.places().len() {
            let link = self.places()[index].1.link;
            if link.is_some_and(|link| !self.world.is_up(link) && self.world.is_told(link)) {
                self.places()[index].1.link = None;
            }
        }
    }

    /// Good weather: everybody comes back, and what was begun ends.
    fn settle(&mut self) {
        self.carry_out(Deed::Heal);
        self.world.weather = Weather::CALM;
        for _ in 0..self.sinks.len() {
            self.sink_stalls(false);
        }
        for _ in 0..3 {
            self.connect_all();
            self.pass(Duration::from_secs(2));
        }
        self.answer_all();
        self.pass(Duration::from_secs(40));
        self.connect_all();
        self.pass(Duration::from_secs(2));
        for _ in 0..4 {
            self.agent_subscribes(false);
        }
        self.pass(Duration::from_secs(2));
        for _ in 0..2 {
            self.bump_all();
            self.pass(Duration::from_secs(2));
        }
        self.source_finishes();
        self.pass(Duration::from_secs(2));
    }

    fn check_settled(&self) {
        self.versions.check_settled();
        self.calls.check_settled();
        if self.plan.weather.stream_loss == 0 {
            // Of a stream that is reset at its very beginning nobody can tell which fetch it was.
            self.fetches.check_settled();
        }
        if self.plan.is_calm() {
            self.objects.check_nothing_lost();
        }
    }

    /// When all are gone, the relays have forgotten them.
    fn everybody_leaves(&mut self) {
        let first = self.relays.len() - 1;
        for index in first..self.places().len() {
            if let Some(link) = self.places()[index].1.link {
                self.world.kill(link);
            }
        }
        self.world.run(Duration::from_secs(20));
        for index in 0..self.relays.len() {
            let (counts, cached) = self.relay(index);
            let links = usize::from(0 < index) + usize::from(index + 1 < self.relays.len());
            assert_eq!((counts, cached), ((links, 0, 0), 0), "relay {index} remembers");
        }
        for index in 0..first {
            if let Some(link) = self.places()[index].1.link {
                self.world.kill(link);
            }
        }
        self.world.run(Duration::from_secs(1));
        for index in 0..self.relays.len() {
            assert_eq!(self.relay(index), ((0, 0, 0), 0), "relay {index} remembers");
        }
    }

    fn relay(&mut self, index: usize) -> ((usize, usize, usize), usize) {
        let node = self.relays[index].node;
        self.world.with(node, |relay: &mut Relay, _| (relay.counts(), relay.cached_bytes()))
    }
}

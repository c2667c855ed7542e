//! Worlds that a seed makes: topology, drafts, weather, who comes and goes. Checkers look on.
//!
//! Each seed runs twice and must leave the same trace. `make simulate` runs many on all cores.

mod agent;
mod origin;
mod plan;
mod sink;
mod source;
mod tier;

use std::{collections::BTreeMap, time::Duration};

use aip_codec::moqt::name::{FullTrackName, TrackNamespace};
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
    tier::Tier,
};

/// Runs a seed twice.
///
/// # Panics
/// If something does not hold in it.
pub(crate) fn check(seed: u64, tells_all: bool) {
    let first = Swarm::run(seed, tells_all);
    let second = Swarm::run(seed, false);
    assert_eq!(first, second, "seed {seed} does not do the same twice");
}

/// Relays are looked into after so many steps.
const CHECK_EVERY: u64 = 8;

/// Where a node is connected.
#[derive(Debug)]
struct Place {
    node: NodeId,
    /// The relay that it dials, by its number.
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
    tier: Tier,
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
    /// How often everybody has acted.
    pumps: u64,
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
    fn run(seed: u64, tells_all: bool) -> u64 {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let mut swarm = Self::build(seed, random, plan, tells_all);
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

    fn build(seed: u64, mut random: Random, plan: Plan, tells_all: bool) -> Self {
        let mut world = World::new(seed, Weather::CALM);
        world.tells_all = tells_all;
        world.idle_timeout = Some(tier::IDLE);
        let tier = Tier::new(&mut world, &plan, &mut random);
        let place = |world: &mut World, random: &mut Random, node: Box<dyn Node>| Place {
            node: world.add_boxed(node),
            relay: random.index(plan.relays),
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
            .map(|index| {
                let peer = Box::new(Source::peer());
                let mut place = place(&mut world, &mut random, peer);
                if plan.failover {
                    place.relay = index;
                } else if plan.splits {
                    // A relay whose own sessions publish a track asks no other relay for it.
                    place.relay = 0;
                }
                Source::new(place)
            })
            .collect();
        let sinks = (0..plan.sinks)
            .map(|_| {
                let peer = Box::new(Sink::peer());
                let mut place = place(&mut world, &mut random, peer);
                if plan.failover {
                    place.relay = tier.nodes.len() - 1;
                }
                Sink::new(place)
            })
            .collect();
        let mut swarm = Self {
            world,
            random,
            plan,
            tier,
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
            pumps: 0,
        };
        for origin in &swarm.origins {
            origin.begin(&mut swarm.world);
        }
        swarm.connect_all();
        swarm.world.weather = swarm.plan.weather;
        swarm.pass(Duration::from_millis(100));
        swarm
    }

    /// Every place whose connection may be made or lost; those of relays first.
    fn places(&mut self) -> Vec<&mut Place> {
        let relays = self.tier.dials.iter_mut().map(|(_, place)| place);
        let origins = self.origins.iter_mut().map(|origin| &mut origin.place);
        let agents = self.agents.iter_mut().map(|agent| &mut agent.place);
        let sinks = self.sinks.iter_mut().map(|sink| &mut sink.place);
        let sources = self.sources.iter_mut().map(|source| &mut source.place);
        relays.chain(origins).chain(agents).chain(sinks).chain(sources).collect()
    }

    fn connect_all(&mut self) {
        for index in 0..self.places().len() {
            self.connect(index);
        }
    }

    /// Connects a place that has no connection, if what it dials is there.
    fn connect(&mut self, index: usize) {
        let version = self.plan.draft(&mut self.random);
        let dialler = self.tier.dials.get(index).map(|(relay, _)| *relay);
        let (node, relay, is_connected) = {
            let mut places = self.places();
            let place = &mut places[index];
            (place.node, place.relay, place.link.is_some())
        };
        let is_there = dialler
            .map_or_else(|| self.tier.is_alive(relay), |from| self.tier.can_dial(from, relay));
        if is_connected || !is_there {
            return;
        }
        let target = dialler.map(|from| {
            let others = self.tier.dials[..index].iter();
            others.filter(|(other, _)| *other == from).count()
        });
        let link = self.world.connect(node, self.tier.nodes[relay], version, target);
        let mut places = self.places();
        places[index].connections += 1;
        places[index].link = Some(link);
    }

    /// Whoever has lost its connection may come back, and not always to the same relay.
    fn come_back(&mut self) {
        for index in 0..self.places().len() {
            if self.places()[index].link.is_some() || !self.random.chance(300) {
                continue;
            }
            if self.tier.dials.len() <= index && self.plan.roams && self.random.chance(500) {
                let relay = self.random.index(self.tier.nodes.len());
                self.places()[index].relay = relay;
            }
            self.connect(index);
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
            Deed::SinkWatch => self.sink_watches(),
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
            Deed::CutOff => self.relay_is_cut_off(),
            Deed::Crash => self.relay_crashes(),
            Deed::Restart => self.relays_restart(),
            Deed::Rest => self.rest(),
            Deed::Heal => {
                self.tier.cut_off = None;
                for link in std::mem::take(&mut self.partitioned) {
                    self.world.partition(link, false);
                }
            }
            Deed::Stall { stalled } => self.sink_stalls(stalled),
        }
    }

    fn any_link(&mut self) -> Option<LinkId> {
        let count = self.places().len();
        let count = if self.plan.failover { self.tier.dials.len() } else { count };
        let index = self.random.index(count);
        self.places()[index].link
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
        let neighbours = self.sinks.len() + self.agents.len() + self.tier.dials.len();
        let limit = self.plan.queued_max(neighbours);
        for relay in &self.tier.nodes {
            let queued = self.world.queued(*relay);
            assert!(queued <= limit, "{queued} bytes are queued, more than {limit}");
        }
        // It looks at everything: after each step it would take most of the time.
        self.pumps += 1;
        if self.pumps.is_multiple_of(CHECK_EVERY) {
            self.check_relays();
        }
    }

    fn forget_lost_links(&mut self) {
        for index in 0..self.places().len() {
            let link = self.places()[index].link;
            if link.is_some_and(|link| !self.world.is_up(link) && self.world.is_told(link)) {
                self.places()[index].link = None;
            }
        }
    }

    /// Good weather: everybody comes back, and what was begun ends.
    fn settle(&mut self) {
        self.carry_out(Deed::Heal);
        self.carry_out(Deed::Restart);
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
        self.check_converged();
    }

    fn check_settled(&self) {
        self.versions.check_settled();
        self.calls.check_settled();
        if self.plan.weather.stream_loss == 0 {
            // Of a stream that is reset at its very beginning nobody can tell which fetch it was.
            self.fetches.check_settled();
        }
        if self.plan.weather.stream_loss == 0 {
            self.objects.check_nothing_lost();
        }
    }
}

//! The relays of a world: who dials whom, which of them are cut off or gone, and what must hold of
//! them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aip_codec::{aip::hops::RelayId, moqt::name::TrackNamespace};
use aip_engine::relay::Config;
use aip_tests::sim::{
    LinkId, NodeId, World,
    random::Random,
    shards::{Pace, Shards},
};

use super::{
    Place, Swarm, namespace_of,
    plan::{Plan, Topology},
    source,
};

/// Silence after which a connection is taken for dead.
pub(super) const IDLE: Duration = Duration::from_secs(5);
/// How long after the last change everybody must know what there is.
pub(super) const CONVERGED: Duration = Duration::from_secs(5);

/// The relays.
pub(super) struct Tier {
    pub(super) nodes: Vec<NodeId>,
    /// The connections that they dial, by the relay that dials and the one that is dialled.
    pub(super) dials: Vec<(usize, Place)>,
    /// Relays that are gone and have not come back.
    dead: BTreeSet<usize>,
    /// The relay that is cut off from the others.
    pub(super) cut_off: Option<usize>,
    mesh: bool,
    pace: Pace,
    next_id: u64,
}

impl Tier {
    pub(super) fn new(world: &mut World, plan: &Plan, random: &mut Random) -> Self {
        let mut tier = Self {
            nodes: Vec::new(),
            dials: Vec::new(),
            dead: BTreeSet::new(),
            cut_off: None,
            mesh: plan.mesh,
            pace: plan.pace,
            next_id: 1,
        };
        for _ in 0..plan.relays {
            let relay = tier.relay(random);
            let node = world.add(relay);
            tier.nodes.push(node);
        }
        let dials = match plan.topology {
            Topology::Chain => (1..plan.relays).map(|relay| (relay, relay - 1)).collect(),
            Topology::Triangle => vec![(0, 1), (1, 2), (2, 0)],
            Topology::TwoUpstreams => vec![(2, 0), (2, 1), (1, 0)],
        };
        for (from, to) in dials {
            let place = Place { node: tier.nodes[from], relay: to, link: None, connections: 0 };
            tier.dials.push((from, place));
        }
        tier
    }

    /// A relay that has just begun.
    fn relay(&mut self, random: &mut Random) -> Shards {
        let mut config = Config::default();
        config.linger = Duration::from_secs(2);
        config.session.delivery.queued_bytes_max = 200_000;
        config.stream_queued_bytes_max = 50_000;
        if self.mesh {
            config.session.relay_id = Some(RelayId(self.next_id));
            self.next_id += 1;
        }
        let mut relay = Shards::new(&config, Plan::shards(random));
        relay.set_pace(self.pace, random.below(u64::MAX));
        relay
    }

    /// Whether a relay takes connections.
    pub(super) fn is_alive(&self, relay: usize) -> bool {
        !self.dead.contains(&relay)
    }

    /// Whether a relay can reach another.
    pub(super) fn can_dial(&self, from: usize, to: usize) -> bool {
        let is_cut = self.cut_off.is_some_and(|cut| (from == cut) != (to == cut));
        !is_cut && self.is_alive(from) && self.is_alive(to)
    }

    /// The relays that are connected with `relay`, itself among them.
    fn reached_from(&self, relay: usize, world: &World) -> BTreeSet<usize> {
        let mut reached = BTreeSet::from([relay]);
        loop {
            let before = reached.len();
            for (from, place) in &self.dials {
                let open = place.link.is_some_and(|link| world.is_open(link));
                if open && (reached.contains(from) || reached.contains(&place.relay)) {
                    reached.extend([*from, place.relay]);
                }
            }
            if reached.len() == before {
                return reached;
            }
        }
    }
}

impl Swarm {
    /// A relay is gone from one moment to the next; its neighbours hear of it at once, as after a
    /// stateless reset, or when it has been silent for too long.
    pub(super) fn relay_crashes(&mut self) {
        // The one below is never the one that fails.
        let relays = self.tier.nodes.len() - usize::from(self.plan.failover);
        let relay = self.random.index(relays);
        if !self.tier.is_alive(relay) {
            return;
        }
        let heard = if self.random.chance(500) { Duration::from_millis(1) } else { IDLE };
        let successor = self.tier.relay(&mut self.random);
        let node = self.tier.nodes[relay];
        self.world.replace(node, Box::new(successor), heard);
        self.tier.dead.insert(relay);
    }

    /// Relays that are gone come back, without anything that they knew.
    pub(super) fn relays_restart(&mut self) {
        self.tier.dead.clear();
    }

    /// One relay is cut off from the others; who is connected to it stays so.
    pub(super) fn relay_is_cut_off(&mut self) {
        if self.tier.cut_off.is_some() || self.tier.nodes.len() < 2 {
            return;
        }
        let cut = self.random.index(self.tier.nodes.len());
        self.tier.cut_off = Some(cut);
        for link in self.links_of(cut) {
            self.world.partition(link, true);
            self.partitioned.push(link);
        }
    }

    fn links_of(&self, relay: usize) -> Vec<LinkId> {
        self.tier
            .dials
            .iter()
            .filter(|(from, place)| (*from == relay) != (place.relay == relay))
            .filter_map(|(_, place)| place.link)
            .collect()
    }

    /// Nothing changes for a while: then every relay knows what is to be had, and nothing else.
    pub(super) fn rest(&mut self) {
        self.pass(IDLE + CONVERGED);
        self.check_converged();
    }

    /// Every relay tells of the namespaces that are published at the relays it is connected with,
    /// and of no others.
    pub(super) fn check_converged(&mut self) {
        let mut published: BTreeMap<usize, BTreeSet<TrackNamespace>> = BTreeMap::new();
        let origins = self
            .origins
            .iter()
            .enumerate()
            .map(|(number, origin)| (&origin.place, namespace_of(10 * number as u64)));
        let sources = self.sources.iter().map(|it| (&it.place, namespace_of(source::TRACKS.start)));
        for (place, namespace) in origins.chain(sources) {
            if place.link.is_some_and(|link| self.world.is_open(link)) {
                published.entry(place.relay).or_default().insert(namespace);
            }
        }
        for relay in 0..self.tier.nodes.len() {
            if !self.tier.is_alive(relay) {
                continue;
            }
            let reached = self.tier.reached_from(relay, &self.world);
            let expected: BTreeSet<TrackNamespace> = reached
                .into_iter()
                .filter_map(|relay| published.get(&relay))
                .flatten()
                .cloned()
                .collect();
            let node = self.tier.nodes[relay];
            let known = self.world.with(node, |relay: &mut Shards, _| relay.namespaces());
            let known: BTreeSet<TrackNamespace> = known.into_iter().collect();
            assert_eq!(known, expected, "relay {relay} does not know what there is");
        }
    }

    /// No relay contradicts itself.
    pub(super) fn check_relays(&mut self) {
        for relay in 0..self.tier.nodes.len() {
            let node = self.tier.nodes[relay];
            let found = self.world.with(node, |relay: &mut Shards, _| relay.contradiction());
            assert_eq!(found, None, "relay {relay}");
        }
    }

    /// When all are gone, the relays have forgotten them.
    pub(super) fn everybody_leaves(&mut self) {
        for index in self.tier.dials.len()..self.places().len() {
            if let Some(link) = self.places()[index].link {
                self.world.kill(link);
            }
        }
        self.world.run(Duration::from_secs(20));
        for relay in 0..self.tier.nodes.len() {
            let dials = self.tier.dials.iter();
            let links =
                dials.filter(|(from, place)| *from == relay || place.relay == relay).count();
            self.check_forgotten(relay, links);
        }
        for index in 0..self.tier.dials.len() {
            if let Some(link) = self.places()[index].link {
                self.world.kill(link);
            }
        }
        self.world.run(Duration::from_secs(1));
        for relay in 0..self.tier.nodes.len() {
            self.check_forgotten(relay, 0);
        }
    }

    fn check_forgotten(&mut self, relay: usize, links: usize) {
        let node = self.tier.nodes[relay];
        let left =
            self.world.with(node, |relay: &mut Shards, _| (relay.counts(), relay.cached_bytes()));
        assert_eq!(left, ((links, 0, 0), 0), "relay {relay} remembers");
    }
}

//! What a seed decides before anything happens.

use aip_codec::Version;
use aip_tests::sim::{Weather, random::Random, shards::Pace};

/// Shards that a relay may have.
const SHARDS_MAX: usize = 4;

/// Size of a world, and which faults it has.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) relays: usize,
    /// How the shards of a relay hand each other what they have.
    pub(super) pace: Pace,
    pub(super) topology: Topology,
    /// Whether relays tell each other their numbers.
    pub(super) mesh: bool,
    /// Whether the world is one of a relay whose two upstreams have the same to offer, and fail.
    pub(super) failover: bool,
    /// Whether clients that come back may come to another relay.
    pub(super) roams: bool,
    pub(super) origins: usize,
    pub(super) agents: usize,
    pub(super) sinks: usize,
    /// Publishers of the same tracks.
    pub(super) sources: usize,
    /// Whether they also publish their tracks (PUBLISH).
    pub(super) publishes: bool,
    /// Whether each group comes from one of them only.
    pub(super) splits: bool,
    pub(super) steps: u64,
    /// Milliseconds between deeds, at most.
    pub(super) pause_max: u64,
    pub(super) payload_max: u64,
    pub(super) weather: Weather,
    drafts: Vec<Version>,
    kills: bool,
    partitions: bool,
    stalls: bool,
    crashes: bool,
}

/// How relays dial each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Topology {
    /// Each the one before it.
    Chain,
    /// Three in a ring, each the next one.
    Triangle,
    /// The last of three the other two, and one of these the other.
    TwoUpstreams,
}

/// Something that is done to the world.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Bump,
    Subscribe { read: bool },
    Unsubscribe,
    Call,
    CancelCall,
    Answer,
    Publish,
    SinkSubscribe,
    SinkWatch,
    SinkCancel,
    SinkFetch,
    Kill,
    Partition,
    CutOff,
    Crash,
    Restart,
    Rest,
    Heal,
    Stall { stalled: bool },
}

impl Plan {
    pub(super) fn draw(random: &mut Random) -> Self {
        let mut weather = Weather::CALM;
        if random.chance(500) {
            weather.delay = (random.between(10, 1_000), random.between(1_000, 50_000));
        }
        if random.chance(500) {
            weather.cut = random.between(1, 500);
        }
        if random.chance(300) {
            weather.stream_loss = random.between(1, 200);
        }
        let all = [
            Version::Draft18,
            Version::Draft19,
            Version::Draft20,
            Version::Draft21,
            Version::Draft22,
        ];
        let drafts =
            if random.chance(300) { vec![all[random.index(all.len())]] } else { all.to_vec() };
        let failover = random.chance(250);
        let topology =
            [Topology::Chain, Topology::Triangle, Topology::TwoUpstreams][random.index(3)];
        let topology = if failover { Topology::TwoUpstreams } else { topology };
        let relays = if topology == Topology::Chain { random.index(3) + 1 } else { 3 };
        let (kills, partitions) = (random.chance(300), random.chance(300));
        let crashes = failover || random.chance(300);
        Self {
            relays,
            pace: [Pace::QUICK, Pace::SLOW][random.index(2)],
            topology,
            // Without numbers relays cannot see a ring.
            failover,
            mesh: topology != Topology::Chain || random.chance(500),
            roams: random.chance(500),
            origins: random.index(2) + 1,
            agents: random.index(4) + 1,
            sinks: random.index(3) + 1,
            sources: 1 + usize::from(failover || random.chance(400)),
            publishes: random.chance(400),
            // What is lost with its only publisher nobody can have.
            splits: !(kills || partitions || crashes) && random.chance(400),
            steps: random.between(20, 80),
            pause_max: [5, 50, 500][random.index(3)],
            payload_max: [10, 1_000, 30_000][random.index(3)],
            weather,
            drafts,
            kills,
            partitions,
            stalls: random.chance(300),
            crashes,
        }
    }

    /// Shards of the next relay that begins.
    pub(super) fn shards(random: &mut Random) -> usize {
        random.index(SHARDS_MAX) + 1
    }

    pub(super) fn draft(&self, random: &mut Random) -> Version {
        self.drafts[random.index(self.drafts.len())]
    }

    /// Bytes that one relay may hold back for so many neighbours: for each a few subscriptions,
    /// fetches and calls, each within its limit and one object more.
    pub(super) fn queued_max(&self, neighbours: usize) -> usize {
        let object = usize::try_from(self.payload_max).unwrap_or(usize::MAX) + 1_000;
        neighbours * 10 * (200_000 + 2 * object)
    }
}

impl Deed {
    pub(super) fn draw(random: &mut Random, plan: &Plan) -> Self {
        let busy = if plan.failover { 4 } else { 1 };
        let deeds = [
            (10, Self::Bump),
            (8, Self::Subscribe { read: false }),
            (6, Self::Subscribe { read: true }),
            (5, Self::Unsubscribe),
            (8, Self::Call),
            (2, Self::CancelCall),
            (6, Self::Answer),
            (20 * busy, Self::Publish),
            (6 * busy, Self::SinkSubscribe),
            (if plan.publishes { 6 } else { 0 }, Self::SinkWatch),
            (3, Self::SinkCancel),
            (8, Self::SinkFetch),
            (if plan.kills { 5 } else { 0 }, Self::Kill),
            (if plan.partitions { 4 } else { 0 }, Self::Partition),
            (if plan.partitions { 2 } else { 0 }, Self::CutOff),
            (if plan.crashes { 2 * busy } else { 0 }, Self::Crash),
            (if plan.crashes { 6 } else { 0 }, Self::Restart),
            (if plan.pause_max < 500 { 0 } else { 1 }, Self::Rest),
            (if plan.partitions { 8 } else { 0 }, Self::Heal),
            (if plan.stalls { 4 } else { 0 }, Self::Stall { stalled: true }),
            (if plan.stalls { 4 } else { 0 }, Self::Stall { stalled: false }),
        ];
        let total = deeds.iter().map(|(weight, _)| weight).sum();
        let mut lot = random.below(total);
        for (weight, deed) in deeds {
            if lot < weight {
                return deed;
            }
            lot -= weight;
        }
        Self::Bump
    }
}

//! What forwarding costs: payloads are never copied, and allocations do not grow with the audience.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ops::Range,
    time::{Duration, Instant},
};

use aip_codec::{
    Version,
    moqt::{
        id::{GroupId, ObjectId, TrackAlias},
        name::{FullTrackName, TrackNamespace},
        parameter::Parameters,
        property::Properties,
        stream::subgroup::{Encoder, ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupMode},
    },
};
use aip_engine::{
    relay::Config,
    transport::{Action, SessionId, Side, StreamId},
};
use aip_tests::sim::{Weather, World, node::Node as _, peer::Peer, shards::Shards};
use bytes::{Bytes, BytesMut};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

/// Counts what this thread asks for.
struct Counting;

// SAFETY: everything is handed to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        LIVE.with(|bytes| bytes.set(bytes.get().wrapping_add(layout.size())));
        // SAFETY: the caller keeps the promises that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.with(|bytes| bytes.set(bytes.get().wrapping_sub(layout.size())));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        LIVE.with(|bytes| bytes.set(bytes.get().wrapping_add(size).wrapping_sub(layout.size())));
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PAYLOAD: usize = 4_000;
const ALIAS: TrackAlias = TrackAlias(7);

/// Bytes of memory that a transport receives into at a time.
const CHUNK: usize = 64 << 10;

/// A subgroup's header.
fn header(group: u64) -> Bytes {
    let mut header = BytesMut::new();
    SubgroupHeader {
        track_alias: ALIAS,
        group: GroupId(group),
        subgroup: SubgroupMode::Zero,
        priority: None,
        properties: false,
        end_of_group: false,
        first_object: true,
    }
    .encode(&mut header);
    header.freeze()
}

fn track() -> FullTrackName {
    FullTrackName::new(TrackNamespace::new(["live"]).unwrap(), Bytes::from("t")).unwrap()
}

/// One relay, a publisher that this test writes for, and subscribers.
struct Stage {
    world: World,
    relay: aip_tests::sim::NodeId,
    publisher: SessionId,
    stream: StreamId,
    encoder: Encoder,
    object: u64,
}

impl Stage {
    fn new(shards: usize, subscribers: usize) -> Self {
        Self::with(&Config::default(), shards, subscribers)
    }

    /// The publisher is the first shard's, subscribers are all shards'.
    fn with(config: &Config, shards: usize, subscribers: usize) -> Self {
        let mut world = World::new(1, Weather::CALM);
        let relay = world.add(Shards::new(config, shards));
        let publisher = world.add(Peer::default());
        let link = world.connect(publisher, relay, Version::Draft22, None);
        let pause = Duration::from_millis(20);
        world.run(pause);
        world.with(publisher, |peer: &mut Peer, _| {
            let namespace = TrackNamespace::new(["live"]).unwrap();
            peer.session().publish_namespace(namespace, Parameters::default()).unwrap();
        });
        for _ in 0..subscribers {
            let subscriber = world.add(Peer::default());
            world.connect(subscriber, relay, Version::Draft22, None);
            world.run(pause);
            world.with(subscriber, |peer: &mut Peer, _| {
                peer.session().subscribe(track(), Parameters::default()).unwrap();
            });
        }
        world.run(pause);
        world.with(publisher, |peer: &mut Peer, _| {
            let (request, _) = peer.take_requests().remove(0);
            peer.accept_subscribe(request, ALIAS.0, Parameters::default());
        });
        world.run(pause);
        let [_, publisher] = world.sessions(link);
        let stream = StreamId::new(Side::Client, false, 9);
        let mut stage =
            Self { world, relay, publisher, stream, encoder: Encoder::new(false), object: 0 };
        stage.hand_over(&header(1));
        stage
    }

    /// Hands over a group that is one small object, received into a large chunk of memory.
    fn tiny_group(&mut self, group: u64) {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        chunk.extend_from_slice(&header(group));
        let object = ObjectHeader {
            object: ObjectId(0),
            properties: Properties::default(),
            payload_length: 10,
            status: ObjectStatus::Normal,
        };
        Encoder::new(false).object(&object, &mut chunk).unwrap();
        chunk.extend_from_slice(b"0123456789");
        let (publisher, stream) = (self.publisher, StreamId::new(Side::Client, false, 100 + group));
        let bytes = chunk.freeze();
        self.world.with(self.relay, |relay: &mut Shards, now: Instant| {
            relay.handle_stream(publisher, stream, bytes, true, now);
            while relay.poll_action().is_some() {}
        });
    }

    /// The next object in one chunk, and where its payload lies.
    fn object(&mut self) -> (Bytes, Range<usize>) {
        let mut chunk = BytesMut::with_capacity(PAYLOAD + 100);
        let header = ObjectHeader {
            object: ObjectId(self.object),
            properties: Properties::default(),
            payload_length: PAYLOAD as u64,
            status: ObjectStatus::Normal,
        };
        self.object += 1;
        self.encoder.object(&header, &mut chunk).unwrap();
        let at = chunk.len();
        chunk.resize(at + PAYLOAD, 7);
        let start = chunk.as_ptr() as usize;
        (chunk.freeze(), start..start + at + PAYLOAD)
    }

    /// Hands a chunk to the relay and takes what it wants sent: how much that is, and how many
    /// allocations it took.
    fn hand_over(&mut self, chunk: &Bytes) -> (Vec<(usize, usize)>, usize) {
        let (publisher, stream) = (self.publisher, self.stream);
        let mut sent = Vec::with_capacity(10_000);
        let count = self.world.with(self.relay, |relay: &mut Shards, now: Instant| {
            let before = ALLOCATIONS.with(Cell::get);
            relay.handle_stream(publisher, stream, chunk.clone(), false, now);
            // Until what goes from shard to shard has arrived.
            for milliseconds in 0..3 {
                relay.handle_timeout(now + Duration::from_millis(milliseconds));
                while let Some((session, action)) = relay.poll_action() {
                    if let Action::Send { stream, bytes, .. } = action {
                        sent.push((bytes.as_ptr() as usize, bytes.len()));
                        relay.handle_sent(session, stream, bytes.len(), now);
                    }
                }
            }
            ALLOCATIONS.with(Cell::get) - before
        });
        (sent, count)
    }
}

/// Allocations of the relay for each of some objects, once things are warm.
fn allocations(shards: usize, subscribers: usize) -> Vec<usize> {
    let mut stage = Stage::new(shards, subscribers);
    let mut counts = Vec::new();
    for round in 0..40 {
        let (chunk, place) = stage.object();
        let (sent, count) = stage.hand_over(&chunk);
        let payload: usize = sent.iter().map(|(_, length)| length).sum();
        assert!(subscribers * PAYLOAD <= payload, "{subscribers} subscribers got {payload} bytes");
        if 0 < round {
            // The first object opens streams, which have headers of their own.
            for (address, length) in sent {
                let is_shared = place.contains(&address) && address + length <= place.end;
                assert!(is_shared, "a copy was made");
            }
        }
        if 20 <= round {
            counts.push(count);
        }
    }
    counts
}

#[test]
fn forwarding_allocates_the_same_for_one_and_for_many() {
    let one = allocations(1, 1);
    let most = one.iter().max().copied().unwrap_or_default();
    assert!(most <= 12, "an object takes {most} allocations");
    for subscribers in [10, 100, 300] {
        assert_eq!(allocations(1, subscribers), one, "{subscribers} subscribers");
    }
}

#[test]
fn forwarding_to_other_shards_allocates_the_same_for_few_and_for_many() {
    // One subscriber of each shard, then more of each.
    let few = allocations(3, 3);
    let most = few.iter().max().copied().unwrap_or_default();
    assert!(most <= 36, "an object takes {most} allocations");
    for subscribers in [9, 99, 300] {
        assert_eq!(allocations(3, subscribers), few, "{subscribers} subscribers");
    }
}

#[test]
fn the_caches_account_is_what_it_costs() {
    const GROUPS: usize = 2_000;
    let mut config = Config::default();
    config.cache_groups_max = usize::MAX;
    let mut stage = Stage::with(&config, 1, 1);
    let before = LIVE.with(Cell::get);
    for group in (2..).take(GROUPS) {
        stage.tiny_group(group);
    }
    let received = LIVE.with(Cell::get) - before;
    assert!(GROUPS * CHUNK <= received, "chunks are held as long as objects rest in them");
    // Once they have rested they are copied together: the chunks are free.
    stage.world.run(Duration::from_secs(6));
    let held = LIVE.with(Cell::get) - before;
    let accounted = stage.world.with(stage.relay, |relay: &mut Shards, _| relay.cached_bytes());
    assert!(held <= accounted + accounted / 5, "{held} bytes are held, {accounted} accounted for");
    let each = accounted / GROUPS;
    assert!(each <= 1_500, "{each} bytes for a group of one small object");
}

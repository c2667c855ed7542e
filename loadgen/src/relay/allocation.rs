//! What receiving an object costs: nothing of the heap, if it lies whole in one chunk.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use aip_codec::moqt::{
    id::{GroupId, ObjectId, TrackAlias},
    property::Properties,
    stream::subgroup::{Encoder, ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupMode},
};
use aip_engine::{
    session::{self, Session},
    transport::{SessionId, Side, StreamId},
};
use bytes::{Bytes, BytesMut};

use super::{
    payload::{Stamp, Template},
    subscriber::{Subscriber, Taken},
    tally::Tally,
};
use crate::{clock, measure::Phase};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts what this thread asks for.
struct Counting;

// SAFETY: everything is handed to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the promises that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const OBJECTS: u64 = 200;

/// Each object's bytes as they stand in its stream, the header of the subgroup before the first of
/// each group.
fn wire(group_length: u64) -> Vec<Bytes> {
    let template = Template::new(1_200, 1);
    let mut encoder = Encoder::new(false);
    let object = |sequence: u64| {
        let mut bytes = BytesMut::new();
        if sequence.is_multiple_of(group_length) {
            encoder = Encoder::new(false);
            let header = SubgroupHeader {
                track_alias: TrackAlias(1),
                group: GroupId(sequence / group_length),
                subgroup: SubgroupMode::Zero,
                priority: None,
                properties: false,
                end_of_group: true,
                first_object: true,
            };
            header.encode(&mut bytes);
        }
        let payload = template.stamp(Stamp { run: 7, sequence, due: 1, sent: 2 });
        let header = ObjectHeader {
            object: ObjectId(sequence % group_length),
            properties: Properties::empty(),
            payload_length: payload.len() as u64,
            status: ObjectStatus::Normal,
        };
        encoder.object(&header, &mut bytes).unwrap();
        bytes.extend_from_slice(&payload);
        // The first clone of fresh bytes makes them shared, which a transport's chunks are.
        let bytes = bytes.freeze();
        drop(bytes.clone());
        bytes
    };
    (0..OBJECTS).map(object).collect()
}

#[track_caller]
fn check(group_length: u64) {
    let wire = wire(group_length);
    let version = aip_codec::Version::Draft22;
    let session = Session::new(session::Config::default(), Side::Client, version, clock::now());
    let mut subscriber = Subscriber::new(SessionId(1), session);
    let mut tally = Tally::new(7, 1, 1, None);
    tally.join(0);
    for _ in 0..OBJECTS {
        tally.publish(Phase::Measured);
    }
    let mut before = 0;
    for (sequence, bytes) in wire.iter().enumerate() {
        // The first may make room for all that follow.
        if sequence == 1 {
            before = ALLOCATIONS.with(Cell::get);
        }
        let sequence = sequence as u64;
        let stream = StreamId::new(Side::Server, false, 1 + sequence / group_length);
        let fin = (sequence + 1).is_multiple_of(group_length);
        let taken = subscriber.handle_stream(stream, bytes, fin, |(stamp, length)| {
            tally.arrive(0, stamp, length, 1_000);
        });
        assert_eq!(taken, Taken::Yes);
    }
    let allocations = ALLOCATIONS.with(Cell::get) - before;
    assert_eq!(tally.counts.ok, OBJECTS);
    assert_eq!(allocations, 0, "in groups of {group_length}");
}

#[test]
fn an_object_in_one_chunk_costs_no_allocation() {
    for group_length in [1, 10, OBJECTS] {
        check(group_length);
    }
}

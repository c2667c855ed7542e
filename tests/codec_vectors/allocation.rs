//! What decoding allocates: by the bytes that are there, never by a length that a peer claims.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use aip_codec::{
    Version,
    aip::call::{CallError, RecordDecoder},
    cursor::Cursor,
    moqt::{
        datagram::ObjectDatagram,
        filter::{LocationFilter, RangeFilter},
        message::{FrameDecoder, Message, MessageType},
        name::FullTrackName,
        parameter::{GroupOrder, Parameters},
        property::Properties,
        stream::{
            fetch,
            subgroup::{self, Item},
        },
        token::Token,
    },
};
use bytes::Bytes;
use proptest::{prelude::prop_assert, proptest};

use super::{strategy, unhex, vectors};

/// The system's allocator, counting for each thread.
struct Counting;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that ends allocates after its counter is gone.
    if BYTES.try_with(|counter| counter.set(counter.get() + bytes)).is_err() {}
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract, and `pointer` is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        // SAFETY: the caller keeps `realloc`'s contract, and `pointer` is the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that `work` allocates, freed or not.
fn allocated(work: impl FnOnce()) -> usize {
    let before = BYTES.get();
    work();
    BYTES.get() - before
}

/// Puts `bytes` through every decoder.
fn decode_everywhere(version: Version, bytes: &Bytes) {
    let cursor = || Cursor::new(bytes.clone());
    for kind in MessageType::ALL {
        drop(Message::decode(version, *kind, bytes.clone()));
        drop(Parameters::decode(&mut cursor(), version, *kind));
    }
    drop(FullTrackName::decode(&mut cursor()));
    drop(Properties::decode(bytes.clone()));
    drop(Token::decode(bytes.clone()));
    let _filter = LocationFilter::decode(&mut cursor(), version);
    drop(RangeFilter { raw: bytes.clone() }.ranges(false));
    drop(ObjectDatagram::decode(bytes.clone()));
    drop(CallError::decode(bytes.clone()));

    let mut frames = FrameDecoder::new(version);
    frames.push(bytes.clone());
    while let Ok(Some(_)) = frames.poll() {}
    let mut objects = subgroup::Decoder::new();
    objects.push(bytes.clone());
    while let Ok(Some(_)) = objects.poll() {}
    let mut fetched = fetch::Decoder::new(version, GroupOrder::Ascending);
    fetched.push(bytes.clone());
    while let Ok(Some(_)) = fetched.poll() {}
    let mut records = RecordDecoder::new(usize::MAX);
    records.push(bytes.clone());
    while let Ok(Some(_)) = records.poll() {}
}

#[test]
fn claimed_lengths_allocate_nothing() {
    let claims = ["80ff", "8fff", "dfffff", "efffffff", "fe00ffffffffffff", "ffffffffffffffffff"];
    let before = [
        "",
        "00",
        "01",
        "00 00",
        "00 01",
        "01 01",
        "03",
        "02 03",
        "01 03",
        "00 00 01 03",
        "00 01 01 61",
        "00 01 0161 01 74 01 03",
        "10 00 00 00",
        "11 00 00 00",
        "31 00 00 00",
        "05 00 1c 00 00 80",
        "05 00 3c 00 00 80",
        "09 00 00 00 80",
        "00 02",
        "01 23",
        "01 25",
        "00 00 00 00 01",
        "af00 ffff",
        "03 ffff 00 20",
        "84a1",
    ];
    for version in Version::PREFERENCE {
        for start in before {
            for claim in claims {
                let bytes = unhex(&format!("{start} {claim} 0102"));
                let used = allocated(|| decode_everywhere(version, &bytes));
                // Every decoder in turn, 40 of them, with what little there is to keep.
                assert!(used <= 40 * 256, "{start} {claim}: {used} bytes");
            }
        }
    }
}

#[test]
fn one_claimed_length_allocates_what_is_there() {
    let mut frames = FrameDecoder::new(Version::Draft22);
    let used = allocated(|| {
        frames.push(unhex("03 ffff 01"));
        assert_eq!(frames.poll(), Ok(None));
    });
    assert!(used <= 64, "{used} bytes for four");
    let mut records = RecordDecoder::new(usize::MAX);
    let used = allocated(|| {
        records.push(unhex("00 ffffffffffffffffff 01"));
        assert_eq!(records.poll(), Ok(None));
    });
    assert!(used <= 64, "{used} bytes for eleven");
    let mut objects = subgroup::Decoder::new();
    let used = allocated(|| {
        objects.push(unhex("31 00 00 00 c10000 01"));
        while objects.poll().unwrap().is_some() {}
    });
    assert!(used <= 64, "{used} bytes for eight");
}

#[test]
fn a_record_in_pieces_allocates_as_it_arrives() {
    let piece = Bytes::from(vec![1; 1000]);
    let mut records = RecordDecoder::new(usize::MAX);
    records.push(unhex("00 ef ffffff"));
    let mut used = 0;
    for count in 1..50 {
        used += allocated(|| {
            records.push(piece.clone());
            assert_eq!(records.poll(), Ok(None));
        });
        assert!(used <= 64 + count * 4 * piece.len(), "{used} bytes for {count} pieces");
    }
}

#[test]
fn objects_in_whole_chunks_allocate_nothing() {
    for (name, bytes) in vectors::data("sg_") {
        let mut decoder = subgroup::Decoder::new();
        let used = allocated(|| {
            decoder.push(bytes.clone());
            while let Some(item) = decoder.poll().unwrap() {
                let is_empty = matches!(&item, Item::Payload { bytes, .. } if bytes.is_empty());
                assert!(!is_empty);
            }
        });
        // The first share of a buffer that nobody shared yet makes its counter.
        assert!(used <= 32, "{name}: {used} bytes");
    }
}

#[test]
fn golden_messages_allocate_little() {
    for (name, version, bytes) in vectors::messages() {
        let used = allocated(|| drop(super::decode(version, bytes.clone())));
        assert!(used <= 1024, "{name}: {used} bytes");
    }
}

proptest! {
    #[test]
    fn random_bytes_allocate_little(
        version in strategy::version(),
        bytes in strategy::bytes(200),
    ) {
        let used = allocated(|| decode_everywhere(version, &bytes));
        // A parameter of two bytes is a value of some eighty, in a list that doubles.
        prop_assert!(used <= 40 * (256 + 128 * bytes.len()), "{} bytes", used);
    }
}

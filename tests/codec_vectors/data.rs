//! Data streams in any chunks, datagrams, and where their bytes lie.

use std::ops::Range;

use aip_codec::{
    Version, Violation,
    moqt::{
        datagram::{Content, Datagram, ObjectDatagram},
        id::{GroupId, ObjectId, RequestId, TrackAlias},
        location::Location,
        parameter::GroupOrder,
        property::Properties,
        stream::{
            StreamType,
            fetch::{self, FetchHeader, FetchObject, RangeKind},
            subgroup::{self, Item, ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupMode},
        },
    },
};
use aip_tests::fuzz::{FetchRecord, read_fetch, read_subgroup, write_fetch};
use bytes::{Bytes, BytesMut};
use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof},
    proptest,
};

use super::{strategy, unhex};

pub(crate) fn subgroup_header() -> impl Strategy<Value = SubgroupHeader> {
    let mode = prop_oneof![
        Just(SubgroupMode::Zero),
        Just(SubgroupMode::FirstObject),
        strategy::subgroup_id().prop_map(SubgroupMode::Explicit),
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (strategy::number(), strategy::number(), mode, option::of(any::<u8>()), flags).prop_map(
        |(alias, group, subgroup, priority, (properties, end_of_group, first_object))| {
            SubgroupHeader {
                track_alias: TrackAlias(alias),
                group: GroupId(group),
                subgroup,
                priority,
                properties,
                end_of_group,
                first_object,
            }
        },
    )
}

fn status() -> impl Strategy<Value = ObjectStatus> {
    prop_oneof![
        4 => Just(ObjectStatus::Normal),
        1 => Just(ObjectStatus::EndOfGroup),
        1 => Just(ObjectStatus::EndOfTrack),
    ]
}

pub(crate) fn subgroup_objects(
    has_properties: bool,
) -> impl Strategy<Value = Vec<(ObjectHeader, Vec<u8>)>> {
    let contents = vec((strategy::properties(), strategy::bytes(60), status()), 8);
    (strategy::object_ids(8), contents).prop_map(move |(ids, contents)| {
        let objects =
            ids.into_iter().zip(contents).map(|(object, (properties, payload, status))| {
                let is_normal = status == ObjectStatus::Normal;
                let properties =
                    if is_normal && has_properties { properties } else { Properties::empty() };
                let payload = if is_normal { payload.to_vec() } else { Vec::new() };
                let payload_length = payload.len() as u64;
                (ObjectHeader { object, properties, payload_length, status }, payload)
            });
        objects.collect()
    })
}

pub(crate) fn write_subgroup(header: SubgroupHeader, objects: &[(ObjectHeader, Vec<u8>)]) -> Bytes {
    let mut out = BytesMut::new();
    header.encode(&mut out);
    let mut encoder = subgroup::Encoder::new(header.properties);
    for (object, payload) in objects {
        encoder.object(object, &mut out).unwrap();
        out.extend_from_slice(payload);
    }
    out.freeze()
}

pub(crate) fn fetch_records(
    order: GroupOrder,
    version: Version,
) -> impl Strategy<Value = Vec<FetchRecord>> {
    let place = (0..3_u64, prop_oneof![3 => 0..4_u64, 1 => strategy::number()]);
    let subgroup = option::weighted(0.8, strategy::subgroup_id());
    let object = (subgroup, 0..3_u8, strategy::properties(), strategy::bytes(40));
    let range = proptest::sample::select(match version {
        Version::Draft18 | Version::Draft19 => &[RangeKind::NonExistent, RangeKind::Unknown][..],
        _ => &[RangeKind::NonExistent, RangeKind::Unknown, RangeKind::TimedOut][..],
    });
    let start = strategy::number().prop_map(|start| start.clamp(100, u64::MAX - 100));
    (start, vec((place, object, option::weighted(0.2, range)), 0..10)).prop_map(
        move |(start, records)| {
            let mut prior: Option<Location> = None;
            let mut written = Vec::new();
            for ((groups, object), (subgroup, priority, properties, payload), range) in records {
                let Some(location) = after(order, prior, start, groups, object) else { break };
                prior = Some(location);
                written.push(match range {
                    Some(kind) => FetchRecord::Range(kind, location),
                    None => FetchRecord::Object(
                        FetchObject {
                            location,
                            subgroup,
                            priority,
                            properties,
                            payload_length: payload.len() as u64,
                        },
                        payload.to_vec(),
                    ),
                });
            }
            written
        },
    )
}

/// A location after `prior`, `groups` groups on.
fn after(
    order: GroupOrder,
    prior: Option<Location>,
    start: u64,
    groups: u64,
    object: u64,
) -> Option<Location> {
    let Some(prior) = prior else { return Some(Location::new(start, object)) };
    if groups == 0 {
        let object = prior.object.0.checked_add(1)?.checked_add(object)?;
        return Some(Location::new(prior.group.0, object));
    }
    let group = match order {
        GroupOrder::Ascending => prior.group.0.checked_add(groups)?,
        GroupOrder::Descending => prior.group.0.checked_sub(groups)?,
    };
    Some(Location::new(group, object))
}

pub(crate) fn object_datagram() -> impl Strategy<Value = ObjectDatagram> {
    let numbers = (strategy::number(), strategy::number(), strategy::number());
    let content = prop_oneof![
        strategy::bytes(60).prop_map(Content::Payload),
        status().prop_map(Content::Status),
    ];
    (numbers, option::of(any::<u8>()), any::<bool>(), strategy::properties(), content).prop_map(
        |((alias, group, object), priority, end_of_group, properties, content)| {
            let status = match &content {
                Content::Status(status) => Some(*status),
                Content::Payload(_) => None,
            };
            let has_properties = status.is_none_or(|status| status == ObjectStatus::Normal);
            ObjectDatagram {
                track_alias: TrackAlias(alias),
                group: GroupId(group),
                object: ObjectId(object),
                priority,
                end_of_group: end_of_group && status.is_none(),
                properties: if has_properties { properties } else { Properties::empty() },
                content,
            }
        },
    )
}

/// `stream` in chunks of these lengths, again and again.
fn cut(mut stream: Bytes, lengths: &[usize]) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    for &length in lengths.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        chunks.push(stream.split_to(length.min(stream.len())));
    }
    chunks
}

fn addresses(bytes: &Bytes) -> Range<usize> {
    let start = bytes.as_ptr().addr();
    start..start + bytes.len()
}

/// Whether `part` is a slice of one of `chunks`.
fn is_slice(part: &Bytes, chunks: &[Bytes]) -> bool {
    let part = addresses(part);
    part.is_empty()
        || chunks
            .iter()
            .map(addresses)
            .any(|chunk| chunk.start <= part.start && part.end <= chunk.end)
}

proptest! {
    #[test]
    fn subgroups_in_any_chunks(
        (header, objects) in subgroup_header().prop_flat_map(|header| {
            subgroup_objects(header.properties).prop_map(move |objects| (header, objects))
        }),
        lengths in vec(prop_oneof![1..4_usize, 1..200_usize], 1..6),
    ) {
        let stream = write_subgroup(header, &objects);
        let chunks = cut(stream, &lengths);
        let read = read_subgroup(&chunks);
        prop_assert_eq!(read.end, Ok(()));
        prop_assert_eq!(read.header, Some(header));
        prop_assert_eq!(&read.objects, &objects);

        let mut decoder = subgroup::Decoder::new();
        for chunk in &chunks {
            decoder.push(chunk.clone());
        }
        while let Some(item) = decoder.poll().unwrap() {
            match item {
                Item::Header(_) => {}
                Item::Object { wire, wire_has_payload, payload, .. } => {
                    prop_assert!(is_slice(&payload, &chunks), "payload is copied");
                    prop_assert!(!wire_has_payload || is_slice(&wire, &chunks), "wire is copied");
                    let in_wire = addresses(&payload).end == addresses(&wire).end;
                    prop_assert!(payload.is_empty() || in_wire == wire_has_payload);
                }
                Item::Payload { bytes, .. } => {
                    prop_assert!(is_slice(&bytes, &chunks), "payload is copied");
                }
            }
        }
        prop_assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn fetches_in_any_chunks(
        (version, order, records) in
            (strategy::version(), prop_oneof![Just(GroupOrder::Ascending), Just(GroupOrder::Descending)])
                .prop_flat_map(|(version, order)| {
                    fetch_records(order, version).prop_map(move |records| (version, order, records))
                }),
        request_id in strategy::number(),
        lengths in vec(prop_oneof![1..4_usize, 1..200_usize], 1..6),
    ) {
        let header = FetchHeader { request_id: RequestId(request_id) };
        let stream = write_fetch(version, order, header, &records).unwrap();
        let chunks = cut(stream, &lengths);
        let read = read_fetch(version, order, &chunks);
        prop_assert_eq!(read.end, Ok(()));
        prop_assert_eq!(read.header, Some(header));
        prop_assert_eq!(&read.records, &records);

        let mut decoder = fetch::Decoder::new(version, order);
        for chunk in &chunks {
            decoder.push(chunk.clone());
        }
        while let Some(item) = decoder.poll().unwrap() {
            if let fetch::Item::Object { payload: bytes, .. } | fetch::Item::Payload { bytes, .. } = item {
                prop_assert!(is_slice(&bytes, &chunks), "payload is copied");
            }
        }
    }

    #[test]
    fn datagrams(datagram in object_datagram()) {
        let mut out = BytesMut::new();
        datagram.encode(&mut out).unwrap();
        let encoded = out.freeze();
        for cut in 0..encoded.len() {
            let result = ObjectDatagram::decode(encoded.slice(..cut));
            let is_shorter = matches!(
                &result,
                Ok(Datagram::Object(ObjectDatagram { content: Content::Payload(_), .. }))
            );
            prop_assert!(is_shorter || result == Err(Violation::DatagramTruncated.into()));
        }
        let decoded = ObjectDatagram::decode(encoded.clone()).unwrap();
        if let Datagram::Object(ObjectDatagram { content: Content::Payload(payload), .. }) = &decoded {
            prop_assert!(is_slice(payload, &[encoded]), "payload is copied");
        }
        prop_assert_eq!(decoded, Datagram::Object(datagram));
    }

    #[test]
    fn random_streams_never_panic(bytes in strategy::bytes(80)) {
        aip_tests::fuzz::subgroup(&bytes);
        aip_tests::fuzz::fetch(&bytes);
        aip_tests::fuzz::datagram(&bytes);
        aip_tests::fuzz::call_records(&bytes);
        aip_tests::fuzz::control(&bytes);
        aip_tests::fuzz::parameters_and_properties(&bytes);
    }

    #[test]
    fn random_objects_never_panic(
        flags in prop_oneof![0x10..0x16_u8, 0x50..0x56_u8],
        rest in strategy::bytes(80),
        chunk_length in any::<u8>(),
    ) {
        aip_tests::fuzz::subgroup(&[&[chunk_length, flags, 1, 2], &rest[..]].concat());
    }

    #[test]
    fn random_fetches_never_panic(
        draft in 0..5_u8,
        order in 0..2_u8,
        chunk_length in any::<u8>(),
        flags in vec(0..0x80_u8, 0..10),
        rest in strategy::bytes(60),
    ) {
        let mut stream = vec![draft, order, chunk_length, 0x05, 0x02];
        // Flags, three small numbers, payload of one byte: often a record.
        for flags in flags {
            stream.extend_from_slice(&[flags, 1, 2, 3, 1, 0]);
        }
        stream.extend_from_slice(&rest);
        aip_tests::fuzz::fetch(&stream);
    }
}

#[test]
fn an_object_in_one_chunk_is_one_slice_of_it() {
    let bytes = unhex("7407812c02 000461626364 00046566 6768 040003");
    let mut decoder = subgroup::Decoder::new();
    decoder.push(bytes.clone());
    assert!(matches!(decoder.poll(), Ok(Some(Item::Header(_)))));
    let Ok(Some(Item::Object { wire, wire_has_payload, payload, last, .. })) = decoder.poll()
    else {
        panic!("no object")
    };
    assert_eq!((wire.as_ptr(), wire.len()), (bytes[5..].as_ptr(), 6));
    assert_eq!((payload.as_ptr(), payload.len()), (bytes[7..].as_ptr(), 4));
    assert!(wire_has_payload && last);
}

#[test]
fn an_object_split_in_its_payload_goes_on_piece_by_piece() {
    let bytes = unhex("7407812c02 000461626364");
    let mut decoder = subgroup::Decoder::new();
    decoder.push(bytes.slice(..8));
    assert!(matches!(decoder.poll(), Ok(Some(Item::Header(_)))));
    let Ok(Some(Item::Object { wire, wire_has_payload, payload, last, .. })) = decoder.poll()
    else {
        panic!("no object")
    };
    assert_eq!((&wire[..], &payload[..]), (&b"\0\x04a"[..], &b"a"[..]));
    assert!(wire_has_payload && !last);
    assert_eq!(decoder.poll(), Ok(None));
    assert_eq!(decoder.finish(), Err(Violation::StreamTruncated.into()));
    decoder.push(bytes.slice(8..));
    let rest = Item::Payload { bytes: bytes.slice(8..), last: true };
    assert_eq!(decoder.poll(), Ok(Some(rest)));
    assert_eq!(decoder.finish(), Ok(()));
}

#[test]
fn an_object_split_in_its_header_has_the_header_alone_put_together() {
    let bytes = unhex("7407812c02 000461626364");
    let mut decoder = subgroup::Decoder::new();
    decoder.push(bytes.slice(..6));
    assert!(matches!(decoder.poll(), Ok(Some(Item::Header(_)))));
    assert_eq!(decoder.poll(), Ok(None));
    decoder.push(bytes.slice(6..));
    let Ok(Some(Item::Object { wire, wire_has_payload, payload, last, .. })) = decoder.poll()
    else {
        panic!("no object")
    };
    assert_eq!(&wire[..], b"\0\x04");
    assert_eq!(payload.as_ptr(), bytes[7..].as_ptr());
    assert!(!wire_has_payload && last);
}

#[test]
fn descending_fetch_counts_groups_down() {
    let stream = unhex("0508 1f0a020080 0161 0e0103 0162 0c0900 0163");
    let read = read_fetch(Version::Draft22, GroupOrder::Descending, &[stream]);
    let locations: Vec<_> = read
        .records
        .iter()
        .map(|record| match record {
            FetchRecord::Object(object, _) => object.location,
            FetchRecord::Range(_, end) => *end,
        })
        .collect();
    assert_eq!(locations, [Location::new(10, 0), Location::new(8, 3)]);
    assert_eq!(read.end, Err(Violation::FetchOverflow.into()));
}

#[test]
fn stream_types() {
    let cases = [
        ("af00", Ok(StreamType::Control)),
        ("05", Ok(StreamType::Fetch)),
        ("8005", Ok(StreamType::Fetch)),
        ("10", Ok(StreamType::Subgroup)),
        ("7d", Ok(StreamType::Subgroup)),
        ("f0132b3e28", Ok(StreamType::Padding)),
        ("16", Err(Violation::UnknownStreamType)),
        ("0f", Err(Violation::UnknownStreamType)),
        ("20", Err(Violation::UnknownStreamType)),
        ("8090", Err(Violation::UnknownStreamType)),
        ("f0132b3e29", Err(Violation::UnknownStreamType)),
    ];
    for (hex, expected) in cases {
        assert_eq!(StreamType::decode(&unhex(hex)), expected.map_err(Into::into), "{hex}");
    }
    let subgroups = (0..=0xff_u64).filter(|&flags| {
        let mut bytes = BytesMut::new();
        aip_codec::moqt::varint::encode(flags, &mut bytes);
        StreamType::decode(&bytes) == Ok(StreamType::Subgroup)
    });
    assert_eq!(subgroups.count(), 48);
}

#[test]
fn an_encoder_goes_on_after_objects_already_written() {
    let header = ObjectHeader {
        object: ObjectId(7),
        properties: Properties::empty(),
        payload_length: 0,
        status: ObjectStatus::EndOfGroup,
    };
    let mut out = BytesMut::new();
    subgroup::Encoder::after(false, Some(ObjectId(4))).object(&header, &mut out).unwrap();
    assert_eq!(out, unhex("02 00 03"));
}

#[test]
fn the_order_of_a_fetch_may_become_known_with_its_header() {
    let mut decoder = fetch::Decoder::new(Version::Draft22, GroupOrder::Ascending);
    decoder.push(unhex("0508 1f0a020080 0161 0c0103 0162"));
    assert!(matches!(decoder.poll(), Ok(Some(fetch::Item::Header(_)))));
    decoder.set_order(GroupOrder::Descending);
    assert!(matches!(decoder.poll(), Ok(Some(fetch::Item::Object { .. }))));
    let Ok(Some(fetch::Item::Object { header, .. })) = decoder.poll() else { panic!("no object") };
    assert_eq!(header.location, Location::new(8, 3));
}

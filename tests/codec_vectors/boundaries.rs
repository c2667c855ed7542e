//! The rules' edges: every violation has bytes that commit it, limits hold to the byte, integers may
//! be longer than needed.

use std::collections::BTreeSet;

use aip_codec::{
    DecodeError, EncodeError, Version, Violation,
    aip::{
        call::{CallError, RecordDecoder},
        compact,
    },
    cursor::Cursor,
    moqt::{
        datagram::{Content, ObjectDatagram},
        error_code::{RequestCode, SessionCode},
        filter::{InvalidFilter, LocationFilter, Range, RangeFilter, Ranges},
        id::{GroupId, ObjectId, RequestId, SubgroupId, TrackAlias},
        location::Location,
        message::{
            FetchTarget, FrameDecoder, Goaway, Message, MessageType, Reason, RequestError,
            RequestOk, Setup, Subscribe,
        },
        name::{FullTrackName, NameError, TrackNamespace},
        parameter::{GroupOrder, Parameter, Parameters},
        property::Properties,
        stream::{
            StreamType,
            fetch::{self, FetchObject, RangeKind},
            subgroup::{self, ObjectHeader, ObjectStatus},
        },
        token::Token,
        varint,
    },
};
use aip_tests::fuzz::{FetchRecord, read_fetch, read_subgroup};
use bytes::{Bytes, BytesMut};

use super::{decode, encode, unhex};

/// Where bytes that commit a violation arrive.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// A control or request stream in this draft.
    Control(Version),
    Unidirectional,
    Subgroup,
    Fetch,
    Datagram,
    Records,
    ErrorRecord,
    CompactRecord,
}

const D18: Place = Place::Control(Version::Draft18);
const D19: Place = Place::Control(Version::Draft19);
const D21: Place = Place::Control(Version::Draft21);
const D22: Place = Place::Control(Version::Draft22);

fn outcome(place: Place, bytes: Bytes) -> Result<(), DecodeError> {
    match place {
        Place::Control(version) => decode(version, bytes).map(|_| ()),
        Place::Unidirectional => StreamType::decode(&bytes).map(|_| ()),
        Place::Subgroup => read_subgroup(&[bytes]).end,
        Place::Fetch => read_fetch(Version::Draft19, GroupOrder::Ascending, &[bytes]).end,
        Place::Datagram => ObjectDatagram::decode(bytes).map(|_| ()),
        Place::Records => {
            let mut decoder = RecordDecoder::new(8);
            decoder.push(bytes);
            while decoder.poll()?.is_some() {}
            decoder.finish()
        }
        Place::ErrorRecord => CallError::decode(bytes).map(|_| ()),
        Place::CompactRecord => compact::decode(&bytes, 1_000).map(|_| ()),
    }
}

/// A SUBSCRIBE to the track `t` of the root, whose parameters are `parameters`.
fn subscribe(parameters: &str) -> String {
    let body = format!("00 00 0174 {parameters}");
    format!("03 {:04x} {body}", unhex(&body).len())
}

/// A SUBSCRIBE_OK with alias 0, no parameters and `properties`.
fn subscribe_ok(properties: &str) -> String {
    let body = format!("00 00 {properties}");
    format!("04 {:04x} {body}", unhex(&body).len())
}

/// A rule, and bytes that break it.
#[derive(Clone, Debug)]
struct Case {
    violation: Violation,
    place: Place,
    bytes: String,
}

fn case(violation: Violation, place: Place, bytes: &str) -> Case {
    Case { violation, place, bytes: bytes.to_owned() }
}

/// 2^64 - 1.
const MAX: &str = "ffffffffffffffffff";

fn violations() -> Vec<Case> {
    [message_violations(), parameter_violations(), stream_violations(), call_violations()].concat()
}

fn message_violations() -> Vec<Case> {
    use Violation as V;
    vec![
        case(V::UnknownMessageType, D22, "01"),
        case(V::UnknownMessageType, D19, "22"),
        case(V::TrailingBytes, D22, "08 0002 00 00"),
        case(V::TruncatedMessage, D22, "08 0002 01 05"),
        case(V::NamespaceTooManyFields, D22, "08 0001 21"),
        case(V::NamespaceFieldEmpty, D22, "08 0002 01 00"),
        case(V::NameTooLong, D22, "08 0003 01 9001"),
        case(V::NameTooLong, D22, "03 0007 00 01 0161 9000 61"),
        case(V::ReasonTooLong, D22, "05 0004 00 00 8401"),
        case(V::KeyTypeOverflow, D22, &subscribe_ok(&format!("{MAX} 00 01 00"))),
        case(V::KeyValueTooLong, D22, &subscribe_ok("01 c10000")),
        case(V::KeyValueTruncated, D22, &subscribe_ok("01 02 00")),
        case(V::DefaultGroupOrder, D22, &subscribe_ok("22 03")),
        case(V::DefaultGroupOrder, D22, &subscribe_ok("0b 02 22 00")),
        case(V::DynamicGroups, D22, &subscribe_ok("30 02")),
        case(V::FetchType, D19, "16 0002 00 04"),
        case(V::EndOfTrack, D22, "18 0004 02 00 00 00"),
        case(V::TokenMalformed, D22, "af00 0003 03 01 00"),
        case(V::DefaultPublisherPriority, D22, &subscribe_ok("0e 8100")),
        case(V::AipOption, D22, "af00 0005 84a1 02 01 05"),
        case(V::AipOption, D22, "af00 0003 84a1 00"),
        case(V::SetupOptionDuplicate, D22, "af00 0004 04 01 00 01"),
        case(V::GoawayUriTooLong, D22, "10 0002 a001"),
    ]
}

fn parameter_violations() -> Vec<Case> {
    use Violation as V;
    vec![
        case(V::ParameterUnknown, D22, &subscribe("01 01 00")),
        case(V::ParameterUnknown, D18, &subscribe("01 25 00")),
        case(V::ParameterOutOfScope, D22, &subscribe("01 08 00")),
        case(V::ParameterOutOfScope, D22, &subscribe("01 23 03 01 02 00")),
        case(V::ParameterDuplicate, D22, &subscribe("02 02 00 00 00")),
        case(V::ParameterTypeOverflow, D22, &subscribe(&format!("02 02 00 {MAX} 00"))),
        case(V::Forward, D22, &subscribe("01 10 02")),
        case(V::GroupOrder, D22, &subscribe("01 22 00")),
        case(V::IncludeProperties, D22, &subscribe("01 35 02")),
        case(V::LocationFilterType, D22, &subscribe("01 21 06")),
        case(V::LocationFilterType, D18, &subscribe("01 21 01 05")),
        case(V::LocationFilterLength, D21, &subscribe("01 21 05 00 00 00 00 00")),
        case(V::LocationFilterLength, D18, &subscribe("01 21 02 01 00")),
        case(V::LocationFilterLength, D18, &subscribe("01 21 02 03 00")),
        case(V::LocationFilterOverflow, D22, &subscribe(&format!("01 21 03 01 00 {MAX}"))),
        case(V::LocationFilterOverflow, D21, &subscribe(&format!("01 21 0b 01 00 {MAX}"))),
        case(V::FillParameters, D22, &subscribe("01 23 02 01 20")),
        case(V::FillParameters, D22, &subscribe("01 23 02 00 00")),
        case(V::TokenMalformed, D22, &subscribe("01 03 01 04")),
        case(V::TokenMalformed, D22, &subscribe("01 03 03 02 00 00")),
    ]
}

fn stream_violations() -> Vec<Case> {
    use Violation as V;
    vec![
        case(V::UnknownStreamType, Place::Unidirectional, "06"),
        case(V::SubgroupFlags, Place::Subgroup, "16"),
        case(V::SubgroupFlags, Place::Subgroup, "8090"),
        case(V::ObjectIdOverflow, Place::Subgroup, &format!("30 00 00 {MAX} 00 00 00")),
        case(V::ObjectStatus, Place::Subgroup, "30 00 00 00 00 01"),
        case(V::StatusWithProperties, Place::Subgroup, "31 00 00 00 02 1000 00 03"),
        case(V::PropertiesTooLong, Place::Subgroup, "31 00 00 00 c11001"),
        case(V::StreamTruncated, Place::Subgroup, "30 00 00 00 02 61"),
        case(V::FetchHeader, Place::Fetch, "06"),
        case(V::FetchFlags, Place::Fetch, "05 00 8080"),
        case(V::FetchFlags, Place::Fetch, "05 00 820c"),
        case(V::FetchFirstLocation, Place::Fetch, "05 00 14 00 00 00"),
        case(V::FetchPriorMissing, Place::Fetch, "05 00 0c 00 00 00"),
        case(V::FetchPriorMissing, Place::Fetch, "05 00 1d 00 00 00 00"),
        case(V::FetchPriorMissing, Place::Fetch, "05 00 808c 00 00 12"),
        case(V::FetchNotAscending, Place::Fetch, "05 00 1c 01 01 80 00 04 00 00"),
        case(V::FetchNotAscending, Place::Fetch, "05 00 1c 01 01 80 00 808c 01 01"),
        case(V::FetchOverflow, Place::Fetch, &format!("05 00 1c 01 {MAX} 80 00 00 00")),
        case(V::FetchOverflow, Place::Fetch, &format!("05 00 1c {MAX} 00 80 00 08 00")),
        case(V::DatagramFlags, Place::Datagram, "10 00 00"),
        case(V::DatagramFlags, Place::Datagram, "22 00 00 00 80 00"),
        case(V::DatagramTruncated, Place::Datagram, "00 00"),
        case(V::DatagramPropertiesEmpty, Place::Datagram, "0d 00 00 00"),
        case(V::DatagramTrailing, Place::Datagram, "2c 00 00 03 00"),
        case(V::StatusWithProperties, Place::Datagram, "2d 00 00 02 10 00 03"),
    ]
}

fn call_violations() -> Vec<Case> {
    use Violation as V;
    let key = "61".repeat(65);
    vec![
        case(V::RecordType, Place::Records, "04"),
        case(V::RecordTooLong, Place::Records, "00 09"),
        case(V::RecordTruncated, Place::Records, "00 02 61"),
        case(V::CallError, Place::ErrorRecord, "10 05 61"),
        case(V::Compact, Place::CompactRecord, "09"),
        // HOPS of seven bytes, and of 17 relays, in PUBLISH_NAMESPACE; NAMESPACE with an empty block.
        case(V::Hops, D22, "06 000d 00 00 01 84a8 07 00000000000000"),
        case(V::Hops, D22, &format!("06 008f 00 00 01 84a8 8088 {}", "00".repeat(136))),
        case(V::TrailingBytes, D22, "08 0002 00 00"),
        case(V::IdempotencyKeyTooLong, D22, &format!("c04a10 0048 00 00 00 01 84a4 41 {key}")),
        case(V::TraceContext, D22, "c04a10 0007 00 00 00 01 84ae 00"),
        case(V::TraceContext, D22, &format!("c04a10 0020 00 00 00 01 84ae 19 {}", "00".repeat(25))),
    ]
}

#[test]
fn every_violation_has_its_bytes() {
    for Case { violation, place, bytes } in violations() {
        let result = outcome(place, unhex(&bytes));
        assert_eq!(result, Err(violation.into()), "{place:?}: {bytes}");
    }
    let committed: BTreeSet<_> = violations().into_iter().map(|case| case.violation).collect();
    let all: BTreeSet<_> = Violation::ALL.iter().copied().collect();
    assert_eq!(committed, all, "each violation needs bytes that commit it");
}

#[test]
fn violations_close_with_the_drafts_code() {
    let formatting =
        [Violation::TokenMalformed, Violation::DefaultPublisherPriority, Violation::AipOption];
    for &violation in Violation::ALL {
        let code = if formatting.contains(&violation) {
            SessionCode::KEY_VALUE_FORMATTING_ERROR
        } else {
            SessionCode::PROTOCOL_VIOLATION
        };
        assert_eq!(violation.session_code(), code);
        assert_eq!(DecodeError::from(violation).session_code(), code);
    }
    assert_eq!(DecodeError::Incomplete.session_code(), SessionCode::PROTOCOL_VIOLATION);
}

#[test]
fn integers_of_the_draft() {
    let cases: &[(&str, u64)] = &[
        ("25", 37),
        ("8025", 37),
        ("bbbd", 15_293),
        ("ed7f3e7d", 226_442_877),
        ("faa1a0e403d8", 2_893_212_287_960),
        ("fc8998abc66bc0", 151_288_809_941_952),
        ("fefa318fa8e3ca11", 70_423_237_261_249_041),
        ("ffffffffffffffffff", u64::MAX),
    ];
    for &(hex, value) in cases {
        let bytes = unhex(hex);
        assert_eq!(varint::decode(&bytes), Ok((value, bytes.len())), "{hex}");
        for cut in 0..bytes.len() {
            assert_eq!(varint::decode(&bytes[..cut]), Err(DecodeError::Incomplete), "{hex}");
        }
    }
    for (bits, size) in [(7, 1), (14, 2), (21, 3), (28, 4), (35, 5), (42, 6), (49, 7), (56, 8)] {
        assert_eq!(varint::size((1 << bits) - 1), size);
        assert_eq!(varint::size(1 << bits), size + 1);
    }
}

/// `value` in `size` bytes.
fn wide(value: u64, size: usize) -> Vec<u8> {
    let mut bytes = value.to_be_bytes()[8 - size.min(8)..].to_vec();
    if size == 9 {
        bytes.insert(0, 0xff);
    } else {
        bytes[0] |= !(0xff_u8 >> (size - 1));
    }
    bytes
}

#[test]
fn integers_may_be_longer_than_needed() {
    for size in 2..=9 {
        let int = |value: u64| wide(value, size);
        assert_eq!(varint::decode(&int(37)), Ok((37, size)));

        // SUBSCRIBE to a/t with DELIVERY_TIMEOUT 5, USE_ALIAS 1, FILTER {3, 4}.. group 3, fill.
        let token = [int(2), int(1)].concat();
        let fill = [int(1), int(0x21), int(5)].concat();
        let parts = [
            [int(1), int(1), int(1), b"a".to_vec(), int(1), b"t".to_vec()].concat(),
            [int(4), int(2), int(5)].concat(),
            [int(1), int(token.len() as u64), token].concat(),
            [int(0x1e), int(3), int(3), int(4), int(0)].concat(),
            [int(2), int(fill.len() as u64), fill].concat(),
        ];
        let body = parts.concat();
        let parameters = Parameters::new()
            .with(Parameter::ObjectDeliveryTimeout(5))
            .with(Parameter::AuthorizationToken(Token::UseAlias { alias: 1 }))
            .with(Parameter::LocationFilter(LocationFilter::Groups {
                start: Location::new(3, 4),
                end_group: GroupId(3),
            }))
            .with(Parameter::FillParameters(
                Parameters::new().with(Parameter::LocationFilter(LocationFilter::NextObject)),
            ));
        let namespace = TrackNamespace::new(["a"]).unwrap();
        let track = FullTrackName::new(namespace, Bytes::from_static(b"t")).unwrap();
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        let frame = [int(3), length.to_vec(), body].concat();
        let expected = Subscribe { request_id: RequestId(1), track, parameters };
        assert_eq!(decode(Version::Draft22, frame.into()), Ok(Message::Subscribe(expected)));

        let properties = [int(0x10), int(9)].concat();
        let objects = [
            [int(0x31), int(1), int(2), int(3), int(properties.len() as u64), properties].concat(),
            [int(1), b"x".to_vec(), int(0), int(0), int(0), int(3)].concat(),
        ];
        let stream = read_subgroup(&[objects.concat().into()]);
        assert_eq!(stream.end, Ok(()));
        let (first, _) = &stream.objects[0];
        assert_eq!((first.object, first.properties.integer(0x10)), (ObjectId(3), Some(9)));
        assert_eq!(stream.objects[1].0.status, ObjectStatus::EndOfGroup);

        let records = [
            [int(5), int(8), int(0x0f | 0x10), int(1), int(2), int(3), vec![7]].concat(),
            [int(1), b"x".to_vec(), int(0x10c), int(1), int(9)].concat(),
        ];
        let bytes = records.concat().into();
        let stream = read_fetch(Version::Draft22, GroupOrder::Ascending, &[bytes]);
        assert_eq!(stream.end, Ok(()));
        let object = FetchObject {
            location: Location::new(1, 3),
            subgroup: Some(SubgroupId(2)),
            priority: 7,
            properties: Properties::empty(),
            payload_length: 1,
        };
        let range = FetchRecord::Range(RangeKind::Unknown, Location::new(1, 9));
        assert_eq!(stream.records, [FetchRecord::Object(object, b"x".to_vec()), range]);
    }
}

#[test]
fn names_hold_their_limits() {
    let long = vec![b'x'; 4096];
    let namespace = TrackNamespace::new([&long]).unwrap();
    assert_eq!(TrackNamespace::new([&long[..], b"y"]), Err(NameError::TooLong));
    assert!(FullTrackName::new(namespace.clone(), Bytes::new()).is_ok());
    let one = Bytes::from_static(b"y");
    assert_eq!(FullTrackName::new(namespace.clone(), one), Err(NameError::TooLong));
    assert_eq!(TrackNamespace::new([""]), Err(NameError::EmptyField));
    assert!(TrackNamespace::new(vec!["x"; 32]).is_ok());
    assert_eq!(TrackNamespace::new(vec!["x"; 33]), Err(NameError::TooManyFields));
    let mut out = BytesMut::new();
    namespace.encode(&mut out);
    let decoded = TrackNamespace::decode(&mut Cursor::new(out.freeze()));
    assert_eq!(decoded, Ok(namespace));
}

#[test]
fn names_decode_into_their_canonical_form_in_memory_of_their_own() {
    let bytes = unhex("8001 8001 61 8001 74");
    let track = FullTrackName::decode(&mut Cursor::new(bytes.clone())).unwrap();
    let namespace = TrackNamespace::new(["a"]).unwrap();
    assert_eq!(track, FullTrackName::new(namespace, Bytes::from_static(b"t")).unwrap());
    let chunk = bytes.as_ptr().addr()..bytes.as_ptr().addr() + bytes.len();
    assert!(!chunk.contains(&track.name().as_ptr().addr()));
}

#[test]
fn reasons_are_cut_between_characters_and_escaped() {
    let long = "é".repeat(600);
    assert_eq!(Reason::new(&long).as_bytes().len(), 1024);
    let odd = format!("x{long}");
    assert_eq!(Reason::new(&odd).as_str().chars().count(), 512);
    let reason = RequestError {
        code: RequestCode::INTERNAL_ERROR,
        retry_interval: 0,
        reason: Reason::new("line\nbreak \u{1b}[31m"),
        redirect: None,
    };
    let decoded =
        decode(Version::Draft22, encode(Version::Draft22, &Message::RequestError(reason)));
    let Ok(Message::RequestError(error)) = decoded else { panic!("{decoded:?}") };
    assert_eq!(error.reason.to_string(), "line\\nbreak \\u{1b}[31m");
    let not_text = decode(Version::Draft22, unhex("05 0006 00 00 03 61 ff 62"));
    let Ok(Message::RequestError(error)) = not_text else { panic!("{not_text:?}") };
    assert_eq!((error.reason.as_str(), error.reason.to_string().as_str()), ("a", "a\\xffb"));
}

#[test]
fn fill_parameters_are_read_with_and_without_their_count() {
    let fill = Parameters::new()
        .with(Parameter::FillTimeout(3000))
        .with(Parameter::LocationFilter(LocationFilter::Relative { groups_back: 1 }));
    for block in ["07 02 0a8bb8 17 01 01", "06 0a8bb8 17 01 01"] {
        let message = decode(Version::Draft22, unhex(&subscribe(&format!("01 23 {block}"))));
        let Ok(Message::Subscribe(subscribe)) = message else { panic!("{message:?}") };
        assert_eq!(subscribe.parameters.fill_parameters(), Some(&fill), "{block}");
    }
    for block in ["00", "01 00"] {
        let message = decode(Version::Draft22, unhex(&subscribe(&format!("01 23 {block}"))));
        let Ok(Message::Subscribe(subscribe)) = message else { panic!("{message:?}") };
        assert_eq!(subscribe.parameters.fill_parameters(), Some(&Parameters::new()), "{block}");
    }
}

#[test]
fn location_filters_differ_between_drafts() {
    let check = |version: Version, hex: &str, filter: LocationFilter| {
        let mut cursor = Cursor::new(unhex(hex));
        assert_eq!(LocationFilter::decode(&mut cursor, version), Ok(filter), "{version:?} {hex}");
        assert!(cursor.is_empty());
    };
    let zero = LocationFilter::Start { start: Location::default() };
    check(Version::Draft22, "02 00 00", zero);
    check(Version::Draft21, "02 00 00", LocationFilter::NextObject);
    check(Version::Draft18, "03 03 00 00", zero);
    check(Version::Draft22, "05", LocationFilter::NextObject);
    check(Version::Draft18, "01 02", LocationFilter::NextObject);
    check(Version::Draft18, "01 01", LocationFilter::Relative { groups_back: 0 });
    check(Version::Draft20, "02 8080", LocationFilter::Relative { groups_back: 128 });
    check(Version::Draft22, "01 8080", LocationFilter::Relative { groups_back: 128 });

    let encoded = |filter: LocationFilter, version: Version| {
        let mut out = BytesMut::new();
        filter.encode(version, &mut out).map(|()| out.freeze())
    };
    assert_eq!(encoded(zero, Version::Draft20), Ok(unhex("00")), "that is no filter");
    assert_eq!(encoded(LocationFilter::None, Version::Draft19), Ok(unhex("03 03 00 00")));
    let unsupported = Err(EncodeError::Unsupported("this location filter"));
    let back = LocationFilter::Relative { groups_back: 1 };
    assert_eq!(encoded(back, Version::Draft19), unsupported);
    let range = LocationFilter::Range { start: Location::new(1, 2), end: Location::new(1, 3) };
    assert_eq!(encoded(range, Version::Draft18), unsupported);
    let inverted = LocationFilter::Groups { start: Location::new(2, 0), end_group: GroupId(1) };
    assert_eq!(
        encoded(inverted, Version::Draft22),
        Err(EncodeError::OutOfRange("location filter's end group"))
    );
}

#[test]
fn range_filters_reject_their_request_and_not_the_session() {
    let ranges = |hex: &str, with_property_type: bool| {
        RangeFilter { raw: unhex(hex) }.ranges(with_property_type)
    };
    assert_eq!(ranges("", false), Ok(None));
    let bounds = vec![Range { start: 3, end: 5 }, Range { start: 10, end: 15 }];
    let expected = Ranges { set: 0, property_type: None, ranges: bounds };
    assert_eq!(ranges("00 03 02 05 05", false), Ok(Some(expected.clone())));
    assert!(expected.contains(15) && !expected.contains(6));
    let open = Ranges {
        set: 1,
        property_type: Some(0x10),
        ranges: vec![Range { start: 3, end: u64::MAX }],
    };
    assert_eq!(ranges("01 10 03", true), Ok(Some(open)));
    assert_eq!(ranges("00", false), Err(InvalidFilter::NoRange));
    assert_eq!(ranges("00", true), Err(InvalidFilter::Truncated));
    assert_eq!(ranges("00 80", false), Err(InvalidFilter::Truncated));
    assert_eq!(ranges("00 11 03", true), Err(InvalidFilter::OddPropertyType));
    assert_eq!(ranges("00 01 ffffffffffffffffff", false), Err(InvalidFilter::Overflow));
    let priorities = |hex: &str| RangeFilter { raw: unhex(hex) }.priority_ranges();
    assert!(priorities("00 00 80ff").is_ok());
    assert!(priorities("00 05").is_ok());
    assert_eq!(priorities("00 00 8100"), Err(InvalidFilter::PriorityTooLarge));
    assert_eq!(priorities("00 8100"), Err(InvalidFilter::PriorityTooLarge));
}

#[test]
fn properties_are_looked_up_inside_immutable_properties_too() {
    let inner =
        Properties::builder().integer(0x04, 7).bytes(0x3a11, &b"proof"[..]).build().unwrap();
    let properties = Properties::builder()
        .bytes(0x0b, inner.as_bytes().clone())
        .integer(0x0e, 3)
        .integer(0x4002, 1)
        .build()
        .unwrap();
    assert_eq!(properties.max_cache_duration(), Some(7));
    assert_eq!(properties.bytes(0x3a11).as_deref(), Some(&b"proof"[..]));
    assert_eq!(properties.default_publisher_priority(), 3);
    assert_eq!(properties.unknown_mandatory_track_property(), Some(0x4002));
    assert!(!properties.dynamic_groups());
    assert!(properties.check_immutable().is_ok());
    assert_eq!(Properties::empty().default_publisher_priority(), 128);
    assert_eq!(Properties::empty().default_group_order(), GroupOrder::Ascending);
    for malformed in ["0b 01 02", "0b 02 0b 00", "0b 00 00 00"] {
        let properties = Properties::decode(unhex(malformed)).unwrap();
        assert!(properties.check_immutable().is_err(), "{malformed}");
    }
    assert!(Properties::decode_object(unhex("22 03")).is_ok(), "objects have no group order");
}

#[test]
fn what_a_draft_cannot_say_is_not_written() {
    let fails = |version: Version, message: Message, error: EncodeError| {
        let mut out = BytesMut::from(&b"before"[..]);
        assert_eq!(message.encode(version, &mut out), Err(error));
        assert_eq!(&out[..], b"before", "the buffer is as before");
    };
    let track = FullTrackName::default();
    let fetch = |target: FetchTarget| {
        let parameters = Parameters::new();
        Message::Fetch(aip_codec::moqt::message::Fetch {
            request_id: RequestId(0),
            target,
            parameters,
        })
    };
    let unsupported = EncodeError::Unsupported;
    fails(
        Version::Draft19,
        fetch(FetchTarget::Track(track.clone())),
        unsupported("FETCH of a track"),
    );
    let joining = FetchTarget::Joining { relative: true, request_id: RequestId(0), start: 0 };
    fails(Version::Draft20, fetch(joining), unsupported("joining FETCH"));
    let (start, end) = (Location::default(), Location::default());
    let standalone = FetchTarget::Standalone { track, start, end };
    fails(Version::Draft20, fetch(standalone), unsupported("standalone FETCH"));
    let goaway = Goaway { request_id: Some(RequestId(0)), ..Goaway::default() };
    fails(Version::Draft19, Message::Goaway(goaway), unsupported("GOAWAY's request ID"));
    let uri = Goaway { uri: vec![0; 8193].into(), ..Goaway::default() };
    fails(Version::Draft22, Message::Goaway(uri), EncodeError::TooLong("new session URI"));
    let setup = Setup { max_filter_ranges: 1, ..Setup::default() };
    fails(Version::Draft18, Message::Setup(setup), unsupported("a limit in SETUP"));
    fails(
        Version::Draft19,
        Message::PublishStateNotify(Default::default()),
        unsupported("message"),
    );
    let forward = Parameters::new().with(Parameter::Forward(true));
    let ok = RequestOk { parameters: forward, properties: Properties::empty() };
    fails(Version::Draft22, Message::RequestOk(ok), unsupported("FORWARD"));
    let block = Properties::builder().bytes(0x101, vec![0; 65_535]).build().unwrap();
    let ok = RequestOk { parameters: Parameters::new(), properties: block };
    fails(Version::Draft22, Message::RequestOk(ok), EncodeError::TooLong("message"));
    let redirect = RequestError {
        code: RequestCode::REDIRECT,
        retry_interval: 0,
        reason: Reason::default(),
        redirect: None,
    };
    fails(Version::Draft22, Message::RequestError(redirect), EncodeError::OutOfRange("redirect"));
}

#[test]
fn the_longest_message_is_read_in_pieces() {
    let property = Properties::builder().bytes(0x101, vec![7; 65_535 - 6]).build().unwrap();
    let ok = Message::RequestOk(RequestOk { parameters: Parameters::new(), properties: property });
    let bytes = encode(Version::Draft22, &ok);
    assert_eq!(bytes.len(), 3 + 65_535);
    let mut decoder = FrameDecoder::new(Version::Draft22);
    for chunk in aip_tests::fuzz::chunks(&bytes, 1000) {
        assert_eq!(decoder.poll(), Ok(None));
        decoder.push(chunk);
    }
    let frame = decoder.poll().unwrap().unwrap();
    assert_eq!(Message::decode(Version::Draft22, frame.kind, frame.body), Ok(ok));
}

#[test]
fn publish_ok_is_request_ok_in_draft_18_alone() {
    let kind = MessageType::from_code(Version::Draft18, 0x1e);
    assert_eq!(kind, Ok(MessageType::RequestOk));
    for version in [Version::Draft19, Version::Draft20, Version::Draft21, Version::Draft22] {
        let kind = MessageType::from_code(version, 0x1e);
        assert_eq!(kind, Err(Violation::UnknownMessageType.into()));
    }
}

#[test]
fn streams_and_datagrams_cannot_be_written_wrongly() {
    let object = |object: u64, status: ObjectStatus, payload_length: u64| ObjectHeader {
        object: ObjectId(object),
        properties: Properties::empty(),
        payload_length,
        status,
    };
    let mut out = BytesMut::new();
    let mut encoder = subgroup::Encoder::new(false);
    encoder.object(&object(4, ObjectStatus::Normal, 1), &mut out).unwrap();
    let written = out.clone();
    let again = encoder.object(&object(4, ObjectStatus::Normal, 1), &mut out);
    assert_eq!(again, Err(EncodeError::NotAscending));
    let full = encoder.object(&object(5, ObjectStatus::EndOfGroup, 1), &mut out);
    assert_eq!(full, Err(EncodeError::OutOfRange("status of an object with content")));
    let properties = Properties::builder().integer(0x10, 1).build().unwrap();
    let with_properties = ObjectHeader { properties, ..object(6, ObjectStatus::Normal, 1) };
    let none = encoder.object(&with_properties, &mut out);
    assert_eq!(none, Err(EncodeError::Unsupported("a property in this stream")));

    let mut fetch = fetch::Encoder::new(Version::Draft19, GroupOrder::Ascending);
    let timed_out = fetch.range(RangeKind::TimedOut, Location::new(0, 0), &mut out);
    assert_eq!(timed_out, Err(EncodeError::Unsupported("a range that timed out")));

    let datagram = ObjectDatagram {
        track_alias: TrackAlias(0),
        group: GroupId(0),
        object: ObjectId(0),
        priority: None,
        end_of_group: true,
        properties: Properties::empty(),
        content: Content::Status(ObjectStatus::EndOfTrack),
    };
    let end_twice = datagram.encode(&mut out);
    assert_eq!(end_twice, Err(EncodeError::OutOfRange("end of group beside a status")));
    assert_eq!(out, written, "nothing is appended after an error");
}

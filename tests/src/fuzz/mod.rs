//! What holds for any bytes: one function for each fuzz target. The committed corpus goes through
//! the same functions in the ordinary tests.
//!
//! An input begins with a few bytes that choose (draft, length of chunks, …); the rest is what a
//! peer sends.

mod compact;
mod encode;
#[cfg(feature = "io")]
mod json_rpc;
mod relay;
mod session;
mod text;
#[cfg(feature = "io")]
mod webtransport;

use aip_codec::{
    DecodeError, EncodeError, Version, Violation,
    aip::call::{CallError, Record, RecordDecoder, RecordType},
    cursor::Cursor,
    moqt::{
        datagram::{Datagram, ObjectDatagram},
        filter::RangeFilter,
        message::{BODY_LENGTH_MAX, Frame, FrameDecoder, Message, MessageType},
        parameter::{GroupOrder, Parameters},
        property::Properties,
        stream::{StreamType, fetch, subgroup},
        token::Token,
    },
};
use bytes::{Bytes, BytesMut};

pub use self::{compact::compact, encode::encode, relay::relay, session::session, text::text};
#[cfg(feature = "io")]
pub use self::{json_rpc::json_rpc, webtransport::webtransport};

/// Bytes that a re-encoded message may have more than the one it came from: a fill's count.
const GROWTH_MAX: usize = 16;

/// Takes the first byte of what is left; 0 if nothing is.
fn choice(input: &mut &[u8]) -> u8 {
    let Some((&first, rest)) = input.split_first() else { return 0 };
    *input = rest;
    first
}

fn version(choice: u8) -> Version {
    Version::PREFERENCE[usize::from(choice) % Version::PREFERENCE.len()]
}

fn message_type(choice: u8) -> MessageType {
    MessageType::ALL[usize::from(choice) % MessageType::ALL.len()]
}

/// `stream` in pieces of `length` bytes; whole if that is 0.
pub fn chunks(stream: &[u8], length: usize) -> Vec<Bytes> {
    let length = if length == 0 { stream.len().max(1) } else { length };
    stream.chunks(length).map(|chunk| Bytes::from(chunk.to_vec())).collect()
}

/// A control or request stream: draft, length of chunks, stream.
///
/// # Panics
/// If what has to hold does not.
pub fn control(mut input: &[u8]) {
    let version = version(choice(&mut input));
    let chunk_length = choice(&mut input);
    let whole = frames(version, &chunks(input, 0));
    assert_eq!(whole, frames(version, &chunks(input, chunk_length.into())), "chunks matter");
    for frame in whole.frames {
        match Message::decode(version, frame.kind, frame.body.clone()) {
            Ok(message) => message_round_trip(version, &message, frame.body.len()),
            Err(error) => assert_ne!(error, DecodeError::Incomplete),
        }
    }
}

/// What a stream of frames holds.
#[derive(Debug, Eq, PartialEq)]
struct Frames {
    frames: Vec<Frame>,
    /// What follows them, if no error does.
    end: Result<Bytes, DecodeError>,
}

fn frames(version: Version, chunks: &[Bytes]) -> Frames {
    let mut decoder = FrameDecoder::new(version);
    let mut frames = Vec::new();
    for chunk in chunks {
        decoder.push(chunk.clone());
        loop {
            match decoder.poll() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return Frames { frames, end: Err(error) },
            }
        }
    }
    Frames { frames, end: Ok(decoder.into_remainder()) }
}

/// Encodes `message`, whose body had `body_length` bytes, and decodes it again.
fn message_round_trip(version: Version, message: &Message, body_length: usize) {
    let mut out = BytesMut::from(&b"before"[..]);
    match message.encode(version, &mut out) {
        Ok(()) => {
            let encoded = frames(version, &[out.freeze().slice(6..)]);
            assert_eq!(encoded.end, Ok(Bytes::new()));
            let [frame] = &encoded.frames[..] else { panic!("not one frame: {encoded:?}") };
            assert!(frame.body.len() <= body_length + GROWTH_MAX, "the shortest form is longer");
            let again = Message::decode(version, frame.kind, frame.body.clone());
            assert_eq!(again.as_ref(), Ok(message));
        }
        Err(EncodeError::TooLong(_)) => {
            assert!(BODY_LENGTH_MAX < body_length + GROWTH_MAX, "{message:?}");
            assert_eq!(&out[..], b"before");
        }
        Err(error) => panic!("decoded but not encoded: {error}: {message:?}"),
    }
}

/// A block of parameters, and what follows it as track properties, object properties, token and
/// range filter: draft, message, bytes.
///
/// # Panics
/// If what has to hold does not.
pub fn parameters_and_properties(mut input: &[u8]) {
    let version = version(choice(&mut input));
    let message = message_type(choice(&mut input));
    let mut cursor = Cursor::new(Bytes::from(input.to_vec()));
    if let Ok(parameters) = Parameters::decode(&mut cursor, version, message) {
        let mut out = BytesMut::new();
        let encoded = parameters.encode(version, message, &mut out);
        assert_eq!(encoded, Ok(()), "decoded but not encoded: {parameters:?}");
        let mut again = Cursor::new(out.freeze());
        assert_eq!(Parameters::decode(&mut again, version, message).as_ref(), Ok(&parameters));
        assert!(again.is_empty());
        let pushed = parameters.iter().cloned().fold(Parameters::new(), Parameters::with);
        assert_eq!(pushed, parameters, "pushing keeps the wire's order");
    }
    let rest = cursor.rest();
    properties(&rest);
    range_filter(&rest);
    token(&rest);
}

/// An authorization token's structure.
///
/// # Panics
/// If what has to hold does not.
pub fn token(input: &[u8]) {
    if let Ok(token) = Token::decode(Bytes::from(input.to_vec())) {
        let mut out = BytesMut::new();
        token.encode(&mut out);
        assert!(out.len() <= input.len(), "the shortest form is longer");
        assert_eq!(out.len(), token.encoded_length());
        assert_eq!(Token::decode(out.freeze()), Ok(token));
    }
}

fn properties(block: &Bytes) {
    let of_object = Properties::decode_object(block.clone());
    let of_track = Properties::decode(block.clone());
    let Ok(properties) = of_object else {
        assert!(of_track.is_err());
        return;
    };
    assert_eq!(properties.as_bytes(), block);
    assert!(properties.check_immutable().is_ok() || properties.bytes(0x0b).is_some());
    for pair in properties.iter() {
        let is_found = properties.integer(pair.key_type).is_some()
            || properties.bytes(pair.key_type).is_some();
        assert!(is_found, "{pair:?} is not found");
    }
    let built = properties.iter().fold(Properties::builder(), |builder, pair| builder.pair(pair));
    match (built.build(), of_track) {
        (Ok(built), Ok(properties)) => {
            assert!(built.as_bytes().len() <= block.len(), "the shortest form is longer");
            assert!(built.iter().eq(properties.iter()));
            assert_eq!(built.default_publisher_priority(), properties.default_publisher_priority());
            assert_eq!(built.default_group_order(), properties.default_group_order());
        }
        (Err(EncodeError::OutOfRange(_)), Err(DecodeError::Violation(_))) => {}
        (built, decoded) => panic!("built {built:?}, decoded {decoded:?}"),
    }
}

fn range_filter(raw: &Bytes) {
    let filter = RangeFilter { raw: raw.clone() };
    for with_property_type in [false, true] {
        if let Ok(Some(ranges)) = filter.ranges(with_property_type) {
            let again = RangeFilter::from_ranges(&ranges);
            assert!(again.raw.len() <= raw.len(), "the shortest form is longer");
            assert_eq!(again.ranges(with_property_type), Ok(Some(ranges)));
        }
    }
    if let Ok(ranges) = filter.priority_ranges() {
        assert_eq!(filter.ranges(false), Ok(ranges));
    }
}

/// What a subgroup stream holds, whatever its chunks.
#[derive(Debug, Eq, PartialEq)]
pub struct Subgroup {
    /// Its header, if it is there.
    pub header: Option<subgroup::SubgroupHeader>,
    /// Its objects, the last one perhaps without its payload's end.
    pub objects: Vec<(subgroup::ObjectHeader, Vec<u8>)>,
    /// How it ends.
    pub end: Result<(), DecodeError>,
}

/// Reads a subgroup stream, checking what each item says of itself.
///
/// # Panics
/// If an item contradicts itself.
pub fn read_subgroup(chunks: &[Bytes]) -> Subgroup {
    let mut decoder = subgroup::Decoder::new();
    let mut stream = Subgroup { header: None, objects: Vec::new(), end: Ok(()) };
    for chunk in chunks {
        decoder.push(chunk.clone());
        loop {
            match decoder.poll() {
                Ok(Some(item)) => add_subgroup_item(&mut stream, item),
                Ok(None) => break,
                Err(error) => return Subgroup { end: Err(error), ..stream },
            }
        }
    }
    Subgroup { end: decoder.finish(), ..stream }
}

fn add_subgroup_item(stream: &mut Subgroup, item: subgroup::Item) {
    let is_last = match item {
        subgroup::Item::Header(header) => {
            assert_eq!(stream.header.replace(header), None, "two headers");
            return;
        }
        subgroup::Item::Object { header, wire, wire_has_payload, payload, last } => {
            if wire_has_payload {
                assert!(wire.ends_with(&payload));
            }
            stream.objects.push((header, payload.to_vec()));
            last
        }
        subgroup::Item::Payload { bytes, last } => {
            assert!(!bytes.is_empty());
            let (_, payload) = stream.objects.last_mut().expect("an object before its payload");
            payload.extend_from_slice(&bytes);
            last
        }
    };
    let (header, payload) = stream.objects.last().expect("an object");
    assert_eq!(is_last, header.payload_length == payload.len() as u64);
}

/// A subgroup stream: length of chunks, stream.
///
/// # Panics
/// If what has to hold does not.
pub fn subgroup(mut input: &[u8]) {
    let chunk_length = choice(&mut input);
    let whole = read_subgroup(&chunks(input, 0));
    assert_eq!(whole, read_subgroup(&chunks(input, chunk_length.into())), "chunks matter");
    let Some(header) = whole.header else { return };
    assert_eq!(StreamType::decode(input), Ok(StreamType::Subgroup));
    let mut out = BytesMut::new();
    header.encode(&mut out);
    let mut encoder = subgroup::Encoder::new(header.properties);
    for (object, payload) in &whole.objects {
        encoder.object(object, &mut out).expect("what is decoded can be encoded");
        out.extend_from_slice(payload);
    }
    assert!(out.len() <= input.len(), "the shortest form is longer");
    let again = read_subgroup(&[out.freeze()]);
    assert_eq!((again.header, again.objects), (whole.header, whole.objects));
}

/// What a fetch stream holds, whatever its chunks.
#[derive(Debug, Eq, PartialEq)]
pub struct Fetch {
    /// Its header, if it is there.
    pub header: Option<fetch::FetchHeader>,
    /// Its records, the last one perhaps without its payload's end.
    pub records: Vec<FetchRecord>,
    /// How it ends.
    pub end: Result<(), DecodeError>,
}

/// A record of a fetch stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FetchRecord {
    /// An object and its payload.
    Object(fetch::FetchObject, Vec<u8>),
    /// A range without objects.
    Range(fetch::RangeKind, aip_codec::moqt::location::Location),
}

/// Reads a fetch stream, checking what each item says of itself.
///
/// # Panics
/// If an item contradicts itself.
pub fn read_fetch(version: Version, order: GroupOrder, chunks: &[Bytes]) -> Fetch {
    let mut decoder = fetch::Decoder::new(version, order);
    let mut stream = Fetch { header: None, records: Vec::new(), end: Ok(()) };
    for chunk in chunks {
        decoder.push(chunk.clone());
        loop {
            match decoder.poll() {
                Ok(Some(item)) => add_fetch_item(&mut stream, item),
                Ok(None) => break,
                Err(error) => return Fetch { end: Err(error), ..stream },
            }
        }
    }
    Fetch { end: decoder.finish(), ..stream }
}

fn add_fetch_item(stream: &mut Fetch, item: fetch::Item) {
    let is_last = match item {
        fetch::Item::Header(header) => {
            assert_eq!(stream.header.replace(header), None, "two headers");
            return;
        }
        fetch::Item::Range { kind, end } => {
            stream.records.push(FetchRecord::Range(kind, end));
            return;
        }
        fetch::Item::Object { header, payload, last } => {
            stream.records.push(FetchRecord::Object(header, payload.to_vec()));
            last
        }
        fetch::Item::Payload { bytes, last } => {
            assert!(!bytes.is_empty());
            let Some(FetchRecord::Object(_, payload)) = stream.records.last_mut() else {
                panic!("payload without an object")
            };
            payload.extend_from_slice(&bytes);
            last
        }
    };
    let Some(FetchRecord::Object(header, payload)) = stream.records.last() else {
        panic!("no object")
    };
    assert_eq!(is_last, header.payload_length == payload.len() as u64);
}

/// Writes a fetch stream.
///
/// # Errors
/// If a record does not come after the one before, or the draft has no such record.
pub fn write_fetch(
    version: Version,
    order: GroupOrder,
    header: fetch::FetchHeader,
    records: &[FetchRecord],
) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::new();
    header.encode(&mut out);
    let mut encoder = fetch::Encoder::new(version, order);
    for record in records {
        match record {
            FetchRecord::Object(object, payload) => {
                encoder.object(object, &mut out)?;
                out.extend_from_slice(payload);
            }
            FetchRecord::Range(kind, end) => encoder.range(*kind, *end, &mut out)?,
        }
    }
    Ok(out.freeze())
}

/// A fetch stream: draft, order, length of chunks, stream.
///
/// # Panics
/// If what has to hold does not.
pub fn fetch(mut input: &[u8]) {
    let version = version(choice(&mut input));
    let is_ascending = choice(&mut input).is_multiple_of(2);
    let order = if is_ascending { GroupOrder::Ascending } else { GroupOrder::Descending };
    let chunk_length = choice(&mut input);
    let whole = read_fetch(version, order, &chunks(input, 0));
    let split = read_fetch(version, order, &chunks(input, chunk_length.into()));
    assert_eq!(whole, split, "chunks matter");
    let Some(header) = whole.header else { return };
    assert_eq!(StreamType::decode(input), Ok(StreamType::Fetch));
    let written = write_fetch(version, order, header, &whole.records);
    let written = written.expect("what is decoded can be encoded");
    let again = read_fetch(version, order, &[written]);
    assert_eq!((again.header, again.records), (whole.header, whole.records));
}

/// A datagram.
///
/// # Panics
/// If what has to hold does not.
pub fn datagram(input: &[u8]) {
    match ObjectDatagram::decode(Bytes::from(input.to_vec())) {
        Ok(Datagram::Padding) => {}
        Ok(Datagram::Object(object)) => {
            let mut out = BytesMut::new();
            object.encode(&mut out).expect("what is decoded can be encoded");
            assert!(out.len() <= input.len(), "the shortest form is longer");
            assert_eq!(ObjectDatagram::decode(out.freeze()), Ok(Datagram::Object(object)));
        }
        Err(error) => assert_ne!(error, DecodeError::Incomplete),
    }
}

/// The records of one direction of a call: greatest length, length of chunks, stream.
///
/// # Panics
/// If what has to hold does not.
pub fn call_records(mut input: &[u8]) {
    let record_length_max = usize::from(choice(&mut input));
    let chunk_length = choice(&mut input);
    let (whole, whole_end) = read_records(record_length_max, &chunks(input, 0));
    let split = read_records(record_length_max, &chunks(input, chunk_length.into()));
    assert_eq!((&whole, whole_end), (&split.0, split.1), "chunks matter");
    let mut out = BytesMut::new();
    for record in &whole {
        assert!(record.payload.len() <= record_length_max);
        record.encode(&mut out);
        if record.kind == RecordType::Error
            && let Ok(error) = CallError::decode(record.payload.clone())
        {
            let mut payload = BytesMut::new();
            error.encode(&mut payload);
            assert_eq!(CallError::decode(payload.freeze()), Ok(error));
        }
    }
    assert!(out.len() <= input.len(), "the shortest form is longer");
    assert_eq!(read_records(record_length_max, &[out.freeze()]), (whole, Ok(())));
}

fn read_records(
    record_length_max: usize,
    chunks: &[Bytes],
) -> (Vec<Record>, Result<(), DecodeError>) {
    let mut decoder = RecordDecoder::new(record_length_max);
    let mut records = Vec::new();
    for chunk in chunks {
        decoder.push(chunk.clone());
        loop {
            match decoder.poll() {
                Ok(Some(record)) => records.push(record),
                Ok(None) => break,
                Err(error) => {
                    assert_ne!(error, DecodeError::Violation(Violation::RecordTruncated));
                    return (records, Err(error));
                }
            }
        }
    }
    (records, decoder.finish())
}

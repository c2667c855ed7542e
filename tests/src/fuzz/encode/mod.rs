//! Values that no decoder made: what can be written can be read, and says the same; what cannot
//! leaves nothing behind.

mod message;
mod value;

use aip_codec::{
    Version,
    aip::call::{Record, RecordDecoder, RecordType},
    moqt::{
        datagram::{Datagram, ObjectDatagram},
        id::{GroupId, ObjectId, RequestId, SubgroupId, TrackAlias},
        message::Message,
        stream::{fetch, subgroup},
    },
};
use arbitrary::{Result, Unstructured};
use bytes::BytesMut;

use self::{
    message::message,
    value::{
        Input, bytes, datagram, group_order, location, number, optional, properties, range_kind,
        status,
    },
};

/// Objects of one stream.
const OBJECTS_MAX: usize = 16;

/// A message, a datagram, a stream or a record, whatever `arbitrary` makes of the bytes.
///
/// # Panics
/// If what has to hold does not.
pub fn encode(input: &[u8]) {
    let mut input = Unstructured::new(input);
    // An input too short for a value ends with zeros; nothing fails.
    _ = one(&mut input);
}

fn one(input: Input<'_, '_>) -> Result<()> {
    let version = super::version(input.arbitrary()?);
    match input.int_in_range(0..=4)? {
        0 => check_datagram(&datagram(input)?),
        1 => check_subgroup(input)?,
        2 => check_fetch(version, input)?,
        3 => check_record(input)?,
        _ => check_message(version, &message(input)?),
    }
    Ok(())
}

fn check_message(version: Version, message: &Message) {
    let mut out = BytesMut::from(&b"before"[..]);
    if message.encode(version, &mut out).is_err() {
        assert_eq!(&out[..], b"before", "something is left of a failure");
        return;
    }
    let bytes = out.freeze().slice(6..);
    let frames = super::frames(version, std::slice::from_ref(&bytes));
    let [frame] = &frames.frames[..] else { panic!("not one frame: {frames:?}: {message:?}") };
    let read = Message::decode(version, frame.kind, frame.body.clone())
        .unwrap_or_else(|error| panic!("written but not read: {error}: {message:?}"));
    assert_eq!(read.message_type(), message.message_type());
    let mut again = BytesMut::new();
    assert_eq!(read.encode(version, &mut again), Ok(()), "read but not written again: {read:?}");
    assert_eq!(again, bytes, "read as something else: {message:?}: {read:?}");
}

fn check_datagram(datagram: &ObjectDatagram) {
    let mut out = BytesMut::new();
    match datagram.encode(&mut out) {
        Ok(()) => {
            assert_eq!(Datagram::decode(out.freeze()), Ok(Datagram::Object(datagram.clone())));
        }
        Err(_) => assert!(out.is_empty(), "something is left of a failure"),
    }
}

fn check_subgroup(input: Input<'_, '_>) -> Result<()> {
    let header = subgroup::SubgroupHeader {
        track_alias: TrackAlias(number(input)?),
        group: GroupId(number(input)?),
        subgroup: match input.int_in_range(0..=2)? {
            0 => subgroup::SubgroupMode::Zero,
            1 => subgroup::SubgroupMode::FirstObject,
            _ => subgroup::SubgroupMode::Explicit(SubgroupId(number(input)?)),
        },
        priority: input.arbitrary()?,
        properties: input.arbitrary()?,
        end_of_group: input.arbitrary()?,
        first_object: input.arbitrary()?,
    };
    let mut out = BytesMut::new();
    header.encode(&mut out);
    let mut encoder = subgroup::Encoder::new(header.properties);
    let mut written = Vec::new();
    for _ in 0..input.int_in_range(0..=OBJECTS_MAX)? {
        let payload = bytes(input)?;
        let object = subgroup::ObjectHeader {
            object: ObjectId(number(input)?),
            properties: properties(input)?,
            payload_length: payload.len() as u64,
            status: status(input)?,
        };
        let before = out.len();
        if encoder.object(&object, &mut out).is_ok() {
            out.extend_from_slice(&payload);
            written.push((object, payload.to_vec()));
        } else {
            assert_eq!(out.len(), before, "something is left of a failure");
        }
    }
    let read = super::read_subgroup(&[out.freeze()]);
    assert_eq!((read.header, read.objects, read.end), (Some(header), written, Ok(())));
    Ok(())
}

fn check_fetch(version: Version, input: Input<'_, '_>) -> Result<()> {
    let order = group_order(input)?;
    let header = fetch::FetchHeader { request_id: RequestId(number(input)?) };
    let mut out = BytesMut::new();
    header.encode(&mut out);
    let mut encoder = fetch::Encoder::new(version, order);
    let mut written = Vec::new();
    for _ in 0..input.int_in_range(0..=OBJECTS_MAX)? {
        let before = out.len();
        let (record, result) = if input.ratio(1, 4)? {
            let kind = range_kind(input)?;
            let end = location(input)?;
            (super::FetchRecord::Range(kind, end), encoder.range(kind, end, &mut out))
        } else {
            let payload = bytes(input)?;
            let object = fetch::FetchObject {
                location: location(input)?,
                subgroup: optional(input, number)?.map(SubgroupId),
                priority: input.arbitrary()?,
                properties: properties(input)?,
                payload_length: payload.len() as u64,
            };
            let result = encoder.object(&object, &mut out);
            if result.is_ok() {
                out.extend_from_slice(&payload);
            }
            (super::FetchRecord::Object(object, payload.to_vec()), result)
        };
        if result.is_ok() {
            written.push(record);
        } else {
            assert_eq!(out.len(), before, "something is left of a failure");
        }
    }
    let read = super::read_fetch(version, order, &[out.freeze()]);
    assert_eq!((read.header, read.records, read.end), (Some(header), written, Ok(())));
    Ok(())
}

fn check_record(input: Input<'_, '_>) -> Result<()> {
    let kinds = [RecordType::Request, RecordType::Message, RecordType::Result, RecordType::Error];
    let record = Record { kind: *input.choose(&kinds)?, payload: bytes(input)? };
    let mut out = BytesMut::new();
    record.encode(&mut out);
    let mut decoder = RecordDecoder::new(usize::MAX);
    decoder.push(out.freeze());
    assert_eq!(decoder.poll(), Ok(Some(record.clone())));
    assert_eq!(
        record.kind.is_last(),
        matches!(record.kind, RecordType::Result | RecordType::Error)
    );
    Ok(())
}

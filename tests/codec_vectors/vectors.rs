//! Golden vectors: `vectors/messages.tsv` (name, drafts, frame) and `vectors/data.tsv` (name, bytes
//! of a stream or datagram, the same in every draft).

use aip_codec::{
    Version, Violation,
    moqt::{
        datagram::{Datagram, ObjectDatagram},
        message::{FrameDecoder, Message},
        parameter::GroupOrder,
        stream::{StreamType, subgroup},
    },
};
use aip_tests::fuzz::{chunks, read_fetch, read_subgroup, write_fetch};
use bytes::{Bytes, BytesMut};

use super::{decode, encode, frame, unhex};

const MESSAGES: &str = include_str!("../vectors/messages.tsv");
const DATA: &str = include_str!("../vectors/data.tsv");

/// Name, draft and bytes of each message vector.
pub(crate) fn messages() -> impl Iterator<Item = (&'static str, Version, Bytes)> {
    MESSAGES.lines().flat_map(|line| {
        let [name, drafts, hex] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not three columns: {line}")
        };
        drafts.split(',').map(move |draft| {
            let version = Version::PREFERENCE
                .into_iter()
                .find(|version| version.number().to_string() == draft)
                .unwrap();
            (name, version, unhex(hex))
        })
    })
}

/// Bytes of each data vector whose name begins with `kind`.
pub(crate) fn data(kind: &str) -> impl Iterator<Item = (&'static str, Bytes)> {
    DATA.lines().filter(move |line| line.starts_with(kind)).map(|line| {
        let (name, hex) = line.split_once('\t').unwrap();
        (name, unhex(hex))
    })
}

#[test]
fn every_message_decodes_and_encodes_to_its_bytes() {
    let mut count = 0;
    for (name, version, bytes) in messages() {
        let message = decode(version, bytes.clone());
        let message = message.unwrap_or_else(|error| panic!("{name} {version:?}: {error}"));
        assert_eq!(encode(version, &message), bytes, "{name} {version:?}: {message:?}");
        count += 1;
    }
    assert_eq!(count, 178);
}

#[test]
fn every_cut_of_a_frame_is_incomplete() {
    for (name, version, bytes) in messages() {
        for cut in 0..bytes.len() {
            let mut decoder = FrameDecoder::new(version);
            decoder.push(bytes.slice(..cut));
            assert_eq!(decoder.poll(), Ok(None), "{name} {version:?} cut to {cut}");
            assert_eq!(decoder.is_empty(), cut == 0);
            decoder.push(bytes.slice(cut..));
            assert_eq!(decoder.poll(), frame(version, bytes.clone()).map(Some));
        }
    }
}

#[test]
fn every_cut_of_a_body_is_a_violation_unless_it_ends_between_pairs() {
    for (name, version, bytes) in messages() {
        let frame = frame(version, bytes.clone()).unwrap();
        for cut in 0..frame.body.len() {
            let Ok(message) = Message::decode(version, frame.kind, frame.body.slice(..cut)) else {
                continue;
            };
            let is_list = matches!(
                message,
                Message::Setup(_)
                    | Message::Goaway(_)
                    | Message::Publish(_)
                    | Message::FetchOk(_)
                    | Message::SubscribeOk(_)
                    | Message::Namespace(_)
            );
            assert!(is_list, "{name} {version:?} cut to {cut}: {message:?}");
            assert_eq!(
                encode(version, &message).slice(bytes.len() - frame.body.len()..).len(),
                cut
            );
        }
    }
}

#[test]
fn every_byte_after_a_body_is_a_violation() {
    for (name, version, bytes) in messages() {
        let frame = frame(version, bytes).unwrap();
        let takes_more = matches!(
            name,
            "setup_empty" | "setup_client_quic" | "setup_filter_limits" | "goaway_ctrl_18"
        );
        let longer = [&frame.body[..], &[0xff]].concat();
        let result = Message::decode(version, frame.kind, longer.into());
        assert!(result.is_err() || takes_more, "{name} {version:?}: {result:?}");
        if name == "namespace" || name == "subscribe_plain" {
            assert_eq!(result, Err(Violation::TrailingBytes.into()));
        }
    }
}

#[test]
fn every_subgroup_decodes_and_encodes_to_its_bytes() {
    for (name, bytes) in data("sg_") {
        assert_eq!(StreamType::decode(&bytes), Ok(StreamType::Subgroup), "{name}");
        let stream = read_subgroup(std::slice::from_ref(&bytes));
        assert_eq!(stream.end, Ok(()), "{name}");
        let header = stream.header.unwrap();
        let mut out = BytesMut::new();
        header.encode(&mut out);
        let mut encoder = subgroup::Encoder::new(header.properties);
        for (object, payload) in &stream.objects {
            encoder.object(object, &mut out).unwrap();
            out.extend_from_slice(payload);
        }
        assert_eq!(out, bytes, "{name}");
        for length in 1..bytes.len() {
            let split = read_subgroup(&chunks(&bytes, length));
            assert_eq!((split.header, &split.objects), (stream.header, &stream.objects), "{name}");
        }
    }
}

#[test]
fn every_fetch_stream_decodes_and_encodes_to_its_bytes() {
    for (name, bytes) in data("fetch_") {
        assert_eq!(StreamType::decode(&bytes), Ok(StreamType::Fetch), "{name}");
        for version in Version::PREFERENCE {
            let stream = read_fetch(version, GroupOrder::Ascending, std::slice::from_ref(&bytes));
            assert_eq!(stream.end, Ok(()), "{name}");
            let header = stream.header.unwrap();
            let written = write_fetch(version, GroupOrder::Ascending, header, &stream.records);
            assert_eq!(written, Ok(bytes.clone()), "{name}");
            for length in 1..bytes.len() {
                let split = read_fetch(version, GroupOrder::Ascending, &chunks(&bytes, length));
                assert_eq!(split, stream, "{name}");
            }
        }
    }
}

#[test]
fn every_datagram_decodes_and_encodes_to_its_bytes() {
    for (name, bytes) in data("dg_") {
        let Ok(Datagram::Object(object)) = ObjectDatagram::decode(bytes.clone()) else {
            panic!("{name}")
        };
        let mut out = BytesMut::new();
        object.encode(&mut out).unwrap();
        assert_eq!(out, bytes, "{name}");
    }
}

#[test]
fn streams_cut_inside_an_object_are_truncated() {
    for (name, bytes) in data("sg_") {
        for cut in 0..bytes.len() {
            let stream = read_subgroup(&[bytes.slice(..cut)]);
            let lies_between_objects = stream
                .objects
                .iter()
                .all(|(object, payload)| object.payload_length == payload.len() as u64)
                && stream.end.is_ok();
            let is_truncated = stream.end == Err(Violation::StreamTruncated.into());
            assert!(lies_between_objects || is_truncated, "{name} cut to {cut}: {stream:?}");
        }
    }
    for (name, bytes) in data("fetch_") {
        for cut in 0..bytes.len() {
            let end =
                read_fetch(Version::Draft22, GroupOrder::Ascending, &[bytes.slice(..cut)]).end;
            let is_truncated = end == Err(Violation::StreamTruncated.into());
            assert!(end.is_ok() || is_truncated, "{name} cut to {cut}: {end:?}");
        }
    }
}

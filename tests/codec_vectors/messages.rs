//! Every message that a draft can say, there and back.

use aip_codec::{
    DecodeError, Version, Violation,
    aip::{
        call::{Call, CallError, Record, RecordDecoder, RecordType},
        setup_option::AipOption,
    },
    cursor::Cursor,
    moqt::{
        error_code::RequestCode,
        filter::{LocationFilter, RangeFilter},
        id::RequestId,
        message::{FrameDecoder, Message, MessageType, Reason},
        name::{FullTrackName, TrackNamespace},
        parameter::Parameters,
        property::Properties,
        token::Token,
        varint,
    },
};
use bytes::{Bytes, BytesMut};
use proptest::{
    collection::vec,
    prelude::{Strategy as _, any, prop_assert, prop_assert_eq, prop_oneof},
    proptest,
};

use super::{decode, encode, strategy};

proptest! {
    #[test]
    fn integers(value in strategy::number(), rest in strategy::bytes(3)) {
        let mut out = BytesMut::new();
        varint::encode(value, &mut out);
        prop_assert_eq!(out.len(), varint::size(value));
        let size = out.len();
        for cut in 0..size {
            prop_assert!(varint::decode(&out[..cut]).is_err());
        }
        out.extend_from_slice(&rest);
        prop_assert_eq!(varint::decode(&out), Ok((value, size)));
    }

    #[test]
    fn names(track in strategy::track()) {
        let mut out = BytesMut::new();
        track.encode(&mut out);
        let encoded = out.freeze();
        prop_assert_eq!(FullTrackName::decode(&mut Cursor::new(encoded.clone())), Ok(track.clone()));
        for cut in 0..encoded.len() {
            prop_assert!(FullTrackName::decode(&mut Cursor::new(encoded.slice(..cut))).is_err());
        }
        let fields = track.namespace().fields();
        prop_assert_eq!(&TrackNamespace::new(fields).unwrap(), track.namespace());
    }

    #[test]
    fn tokens(token in strategy::token()) {
        let mut out = BytesMut::new();
        token.encode(&mut out);
        prop_assert_eq!(out.len(), token.encoded_length());
        prop_assert_eq!(Token::decode(out.freeze()), Ok(token));
    }

    #[test]
    fn location_filters(
        (version, filter) in strategy::version().prop_flat_map(|version| {
            strategy::location_filter(version).prop_map(move |filter| (version, filter))
        })
    ) {
        let mut out = BytesMut::new();
        filter.encode(version, &mut out).unwrap();
        let encoded = out.freeze();
        let mut cursor = Cursor::new(encoded.clone());
        prop_assert_eq!(LocationFilter::decode(&mut cursor, version), Ok(filter));
        prop_assert!(cursor.is_empty());
        for cut in 0..encoded.len() {
            let mut cursor = Cursor::new(encoded.slice(..cut));
            prop_assert!(LocationFilter::decode(&mut cursor, version).is_err());
        }
    }

    #[test]
    fn range_filters(
        (with_property_type, ranges) in any::<bool>().prop_flat_map(|with_property_type| {
            strategy::ranges(with_property_type).prop_map(move |ranges| (with_property_type, ranges))
        })
    ) {
        let filter = RangeFilter::from_ranges(&ranges);
        prop_assert_eq!(filter.ranges(with_property_type), Ok(Some(ranges)));
    }

    #[test]
    fn properties(properties in strategy::properties()) {
        let decoded = Properties::decode(properties.as_bytes().clone()).unwrap();
        prop_assert_eq!(&decoded, &properties);
        prop_assert_eq!(decoded.as_bytes().as_ptr(), properties.as_bytes().as_ptr());
        let rebuilt = properties.iter().fold(Properties::builder(), |block, pair| block.pair(pair));
        prop_assert_eq!(rebuilt.build().unwrap(), properties);
    }

    #[test]
    fn parameter_blocks(
        (version, kind, parameters) in strategy::version().prop_flat_map(|version| {
            proptest::sample::select(MessageType::ALL).prop_flat_map(move |kind| {
                strategy::parameters(version, kind)
                    .prop_map(move |parameters| (version, kind, parameters))
            })
        })
    ) {
        let mut out = BytesMut::new();
        parameters.encode(version, kind, &mut out).unwrap();
        let encoded = out.freeze();
        let mut cursor = Cursor::new(encoded.clone());
        prop_assert_eq!(Parameters::decode(&mut cursor, version, kind), Ok(parameters));
        prop_assert!(cursor.is_empty());
        for cut in 0..encoded.len() {
            let mut cursor = Cursor::new(encoded.slice(..cut));
            prop_assert!(Parameters::decode(&mut cursor, version, kind).is_err());
        }
    }

    #[test]
    fn aip_options(profile_version in any::<u8>(), types in vec(strategy::bytes(20), 0..5)) {
        let option = AipOption { profile_version, content_types: types };
        prop_assert_eq!(AipOption::decode(option.encode()), Ok(option));
    }

    #[test]
    fn messages(
        (version, message) in strategy::version().prop_flat_map(|version| {
            strategy::message(version).prop_map(move |message| (version, message))
        })
    ) {
        let encoded = encode(version, &message);
        prop_assert_eq!(decode(version, encoded), Ok(message));
    }

    #[test]
    fn frames_in_any_chunks(
        (version, messages) in strategy::version().prop_flat_map(|version| {
            vec(strategy::message(version), 1..4).prop_map(move |messages| (version, messages))
        }),
        lengths in vec(prop_oneof![1..4_usize, 1..200_usize], 1..6),
    ) {
        let mut stream = BytesMut::new();
        for message in &messages {
            message.encode(version, &mut stream).unwrap();
        }
        let mut stream = stream.freeze();
        let mut decoder = FrameDecoder::new(version);
        let mut decoded = Vec::new();
        for length in lengths.into_iter().cycle() {
            if stream.is_empty() {
                break;
            }
            decoder.push(stream.split_to(length.min(stream.len())));
            while let Some(frame) = decoder.poll().unwrap() {
                decoded.push((frame.kind, frame.body));
            }
        }
        prop_assert!(decoder.is_empty());
        let expected: Vec<_> = messages
            .iter()
            .map(|message| {
                let frame = super::frame(version, encode(version, message)).unwrap();
                (frame.kind, frame.body)
            })
            .collect();
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn records_in_any_chunks(
        records in vec((0..4_u8, strategy::bytes(300)), 0..5),
        lengths in vec(1..100_usize, 1..6),
    ) {
        let records: Vec<_> = records
            .into_iter()
            .map(|(kind, payload)| {
                let kind = match kind {
                    0 => RecordType::Request,
                    1 => RecordType::Message,
                    2 => RecordType::Result,
                    _ => RecordType::Error,
                };
                Record { kind, payload }
            })
            .collect();
        let mut stream = BytesMut::new();
        for record in &records {
            record.encode(&mut stream);
        }
        let mut stream = stream.freeze();
        let mut decoder = RecordDecoder::new(300);
        let mut decoded = Vec::new();
        for length in lengths.into_iter().cycle() {
            if stream.is_empty() {
                break;
            }
            decoder.push(stream.split_to(length.min(stream.len())));
            while let Some(record) = decoder.poll().unwrap() {
                decoded.push(record);
            }
        }
        prop_assert_eq!(decoder.finish(), Ok(()));
        prop_assert_eq!(decoded, records);
    }

    #[test]
    fn call_errors(code in strategy::number(), reason in ".{0,40}") {
        let error = CallError { code: RequestCode(code), reason: Reason::new(&reason) };
        let mut out = BytesMut::new();
        error.encode(&mut out);
        let payload = out.freeze();
        prop_assert_eq!(CallError::decode(payload.clone()), Ok(error));
        for cut in 0..payload.len() {
            let result = CallError::decode(payload.slice(..cut));
            prop_assert_eq!(result, Err(Violation::CallError.into()));
        }
    }

    #[test]
    fn random_bodies_never_panic(version in strategy::version(), body in strategy::bytes(60)) {
        for kind in MessageType::ALL {
            let result = Message::decode(version, *kind, body.clone());
            prop_assert!(result != Err(DecodeError::Incomplete));
        }
    }
}

#[test]
fn a_frame_in_one_chunk_is_a_slice_of_it() {
    let bytes = super::unhex("0800090107696e7465726f70 0800090107696e7465726f70");
    let mut decoder = FrameDecoder::new(Version::Draft22);
    decoder.push(bytes.clone());
    let first = decoder.poll().unwrap().unwrap();
    let second = decoder.poll().unwrap().unwrap();
    assert_eq!(first.body.as_ptr(), bytes[3..].as_ptr());
    assert_eq!(second.body.as_ptr(), bytes[15..].as_ptr());
}

#[test]
fn what_follows_call_is_handed_on_as_it_came() {
    let message = Message::Call(Call {
        request_id: RequestId(4),
        namespace: TrackNamespace::new(["aip", "example.org", "files"]).unwrap(),
        name: Bytes::from_static(b"tools/call"),
        parameters: Parameters::new(),
    });
    let mut stream = BytesMut::from(&encode(Version::Draft22, &message)[..]);
    stream.extend_from_slice(b"\0\x02{}");
    let stream = stream.freeze();
    let mut decoder = FrameDecoder::new(Version::Draft22);
    decoder.push(stream.clone());
    let frame = decoder.poll().unwrap().unwrap();
    assert_eq!(frame.kind, MessageType::Call);
    let remainder = decoder.take_remainder();
    assert_eq!(remainder.as_ptr(), stream[stream.len() - 4..].as_ptr());
    let mut records = RecordDecoder::new(10);
    records.push(remainder);
    let record = records.poll().unwrap().unwrap();
    assert_eq!(record.kind, RecordType::Request);
    assert_eq!(record.payload.as_ptr(), stream[stream.len() - 2..].as_ptr());
}

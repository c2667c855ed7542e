//! What of the protocol is text: names as people read them, trace contexts, reasons, ALPN.

use aip_codec::{
    Version,
    aip::{
        call::CallError,
        hops::{HOPS_MAX, Hops, RelayId},
        trace::TraceContext,
    },
    cursor::Cursor,
    moqt::{
        error_code::{PublishDoneCode, RequestCode, ResetCode, SessionCode},
        id::RequestId,
        location::Location,
        message::Reason,
        name::{FullTrackName, TrackNamespace},
        varint,
    },
};
use bytes::{BufMut as _, Bytes, BytesMut};

/// All of them, of the same bytes; the first says where a name's fields are cut.
///
/// # Panics
/// If what has to hold does not.
pub fn text(mut input: &[u8]) {
    let separator = super::choice(&mut input);
    names(separator, input);
    if let Ok(text) = std::str::from_utf8(input) {
        trace(text);
    }
    if let Some(context) = input.first_chunk().and_then(TraceContext::from_bytes) {
        assert_eq!(TraceContext::from_bytes(&context.to_bytes()), Some(context));
        trace(&context.to_string());
    }
    if let Ok(hops) = Hops::decode(&Bytes::from(input.to_vec())) {
        check_hops(&hops);
    }
    reason(input);
    let known = Version::from_alpn(input);
    assert!(known.is_none_or(|version| version.alpn().as_bytes() == input));
    code(input);
}

fn trace(text: &str) {
    let Some(context) = TraceContext::parse(text) else { return };
    let written = context.to_string();
    assert_eq!(TraceContext::parse(&written), Some(context));
    assert_eq!(written.len(), 55);
}

fn check_hops(hops: &Hops) {
    assert_eq!(Hops::decode(&hops.encode()).as_ref(), Ok(hops));
    let relay = RelayId(u64::MAX);
    match hops.then(relay) {
        Some(more) => {
            assert_eq!((more.len(), more.last()), (hops.len() + 1, Some(relay)));
            assert!(more.contains(relay) && !more.is_empty());
        }
        None => assert_eq!(hops.len(), HOPS_MAX),
    }
}

/// A name's text tells it from every other.
fn names(separator: u8, input: &[u8]) {
    let fields: Vec<&[u8]> = input.split(|byte| *byte == separator).collect();
    let Ok(namespace) = TrackNamespace::new(&fields) else {
        assert!(32 < fields.len() || 4_096 < input.len() || fields.iter().any(|it| it.is_empty()));
        return;
    };
    assert_eq!((namespace.field_count(), namespace.is_root()), (fields.len(), false));
    let written = namespace.to_string();
    let read: Vec<Vec<u8>> = written.split('-').map(unescape).collect();
    assert_eq!(read, fields, "{written}");
    let Ok(track) = FullTrackName::new(namespace.clone(), Bytes::from(input.to_vec())) else {
        assert!(4_096 < namespace.length() + input.len());
        return;
    };
    assert!(format!("{track:?} {track}").starts_with(&format!("FullTrackName({namespace}--")));
    let first = TrackNamespace::new(&fields[..1]).expect("a part of a namespace");
    let rest = namespace.strip_prefix(&first).expect("begins with its first field");
    assert_eq!(first.join(&rest).as_ref(), Ok(&namespace));
    assert_eq!(format!("{namespace:?}"), format!("TrackNamespace({namespace})"));
}

/// Letters, digits and `_` stand for themselves, `.` and two digits for any byte.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '.' {
            bytes.push(u8::from_str_radix(&rest[1..3], 16).expect("two digits"));
            rest = &rest[3..];
        } else {
            assert!(first.is_ascii_alphanumeric() || first == '_', "{text}");
            bytes.push(first as u8);
            rest = &rest[1..];
        }
    }
    bytes
}

/// A reason is shown on one line, whatever it holds.
fn reason(input: &[u8]) {
    // A call's error is a number and a reason.
    let mut error = BytesMut::from(&[0][..]);
    varint::encode(input.len() as u64, &mut error);
    error.put_slice(input);
    let Ok(CallError { reason, .. }) = CallError::decode(error.freeze()) else { return };
    assert_eq!((reason.as_bytes().as_ref(), reason.is_empty()), (input, input.is_empty()));
    assert!(!reason.to_string().contains(char::is_control), "{reason}");
    assert_eq!(format!("{reason:?}"), format!("\"{reason}\""));
    assert!(input.starts_with(reason.as_str().as_bytes()));
    assert_eq!(Reason::new(reason.as_str()).as_str(), reason.as_str());
}

fn code(input: &[u8]) {
    let Ok(number) = Cursor::new(Bytes::from(input.to_vec())).varint() else { return };
    for text in [
        SessionCode(number).to_string(),
        RequestCode(number).to_string(),
        PublishDoneCode(number).to_string(),
        ResetCode(number).to_string(),
    ] {
        assert!(text.ends_with(&format!("(0x{number:x})")), "{text}");
    }
    assert_eq!(Location::new(number, number).to_string(), format!("{number}/{number}"));
    assert_eq!(RequestId(number).to_string(), number.to_string());
    assert_eq!(RelayId(number).to_string(), format!("{number:016x}"));
}

//! The content type `compact`, both ways.

use aip_codec::{
    DecodeError, Violation,
    aip::compact::{decode, encode},
};
use bytes::BytesMut;

/// Bytes of JSON that are taken.
const LENGTH_MAX: usize = 1 << 16;

/// Whether bytes or text (first byte), then these. What is read is written again to bytes that are
/// read as the same; what a peer sends gives no more text than may be.
///
/// # Panics
/// If what has to hold does not.
pub fn compact(mut input: &[u8]) {
    let from_bytes = super::choice(&mut input) & 1 == 0;
    let text = if from_bytes {
        match decode(input, LENGTH_MAX) {
            Ok(text) => text,
            Err(DecodeError::Incomplete | DecodeError::Violation(Violation::Compact)) => return,
            Err(error) => {
                assert_eq!(error, Violation::RecordTooLong.into());
                return;
            }
        }
    } else {
        match std::str::from_utf8(input) {
            Ok(text) => text.to_owned(),
            Err(_) => return,
        }
    };
    assert!(text.len() <= LENGTH_MAX.max(input.len()), "longer than it may be");
    let mut bytes = BytesMut::new();
    if encode(&text, &mut bytes).is_err() {
        assert!(!from_bytes, "what is read cannot be written: {text}");
        assert!(bytes.is_empty(), "something is left of a failure");
        return;
    }
    let again = decode(&bytes, usize::MAX).expect("what was encoded is read");
    let mut twice = BytesMut::new();
    encode(&again, &mut twice).expect("what was read is encoded");
    assert_eq!(decode(&twice, usize::MAX).as_ref(), Ok(&again));
    for cut in [bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(decode(&bytes[..cut], usize::MAX), Err(DecodeError::Incomplete));
    }
}

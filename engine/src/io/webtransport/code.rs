//! Codes of WebTransport's applications as HTTP/3 carries them for streams: a range of its own, with
//! HTTP/3's reserved codes left out.

/// HTTP/3's code for the application's code 0.
const FIRST: u64 = 0x52e4_a40f_a8db;
/// Every so many codes one is reserved (RFC 9114 section 8.1).
const BETWEEN_RESERVED: u64 = 0x1e;

/// HTTP/3's code for an application's. It has 32 bits: a larger one becomes the largest.
pub(super) const fn to_http3(code: u64) -> u64 {
    let code = if u32::MAX as u64 <= code { u32::MAX as u64 } else { code };
    FIRST + code + code / BETWEEN_RESERVED
}

/// The application's code in one of HTTP/3's, if there is one.
pub(super) const fn from_http3(code: u64) -> Option<u64> {
    if code < FIRST || to_http3(u32::MAX as u64) < code || (code - 0x21).is_multiple_of(0x1f) {
        return None;
    }
    let shifted = code - FIRST;
    Some(shifted - shifted / (BETWEEN_RESERVED + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_there_and_back() {
        assert_eq!(to_http3(0), 0x52e4_a40f_a8db);
        assert_eq!(to_http3(u32::MAX.into()), 0x52e5_ac98_3162);
        for code in (0..200).chain([u32::MAX.into()]) {
            assert_eq!(from_http3(to_http3(code)), Some(code));
        }
        assert_eq!(to_http3(1 << 32), to_http3(u32::MAX.into()));
        let reserved = (FIRST..FIRST + 310).filter(|code| from_http3(*code).is_none()).count();
        assert_eq!(reserved, 10);
        for code in [0, 0x100, FIRST - 1, 0x52e5_ac98_3163] {
            assert_eq!(from_http3(code), None);
        }
    }
}

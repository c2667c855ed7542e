//! QUIC's integers (RFC 9000 section 16), which are not MOQT's.

use bytes::BufMut as _;

/// The integer at the front of `bytes`, and its length; `None` if it is not whole.
pub(in crate::io) fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let (&first, _) = bytes.split_first()?;
    let length = 1 << (first >> 6);
    let bytes = bytes.get(..length)?;
    let value = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some((value & (u64::MAX >> (64 - (8 * length - 2))), length))
}

/// Appends an integer below 2^62 in its shortest form.
pub(in crate::io) fn encode(value: u64, out: &mut Vec<u8>) {
    match value {
        0..=0x3f => out.put_u8(u8::try_from(value).unwrap_or(0)),
        0x40..=0x3fff => out.put_u16(0x4000 | u16::try_from(value).unwrap_or(0)),
        0x4000..=0x3fff_ffff => out.put_u32(0x8000_0000 | u32::try_from(value).unwrap_or(0)),
        _ => {
            debug_assert!(value >> 62 == 0, "{value} is no integer of QUIC's");
            out.put_u64(0xc000_0000_0000_0000 | value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_rfc_9000() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(decode(bytes), Some((value, bytes.len())));
            let mut out = Vec::new();
            encode(value, &mut out);
            assert_eq!(out, bytes);
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), None);
            }
        }
        assert_eq!(decode(&[0x40, 0x25]), Some((37, 2)));
        assert_eq!(decode(&[0xff; 8]), Some(((1 << 62) - 1, 8)));
    }
}

//! The variable-length integer vi64 (draft-22 section 8.1): the leading one-bits of the first byte
//! count the bytes that follow it.

use bytes::BufMut;

use crate::error::DecodeError;

/// Bytes that the longest integer takes.
pub const SIZE_MAX: usize = 9;

/// The integer at the start of `input`, and the bytes it takes, 1 to 9. Longer forms than needed
/// are accepted.
///
/// # Errors
/// [`DecodeError::Incomplete`] if `input` ends inside the integer.
pub fn decode(input: &[u8]) -> Result<(u64, usize), DecodeError> {
    let Some((&first, rest)) = input.split_first() else { return Err(DecodeError::Incomplete) };
    let extra = first.leading_ones() as usize;
    let Some(extra_bytes) = rest.get(..extra) else { return Err(DecodeError::Incomplete) };
    let first_bits = u64::from(first) & (0x7f >> extra);
    let value = extra_bytes.iter().fold(first_bits, |value, &byte| value << 8 | u64::from(byte));
    Ok((value, extra + 1))
}

/// Appends `value` in its shortest form.
pub fn encode(value: u64, out: &mut impl BufMut) {
    let size = size(value);
    if size == SIZE_MAX {
        out.put_u8(0xff);
        out.put_u64(value);
        return;
    }
    let prefix = u64::from(!(0xff_u8 >> (size - 1))) << (8 * (size - 1));
    out.put_uint(prefix | value, size);
}

/// Bytes that the shortest form of `value` takes, 1 to 9.
pub const fn size(value: u64) -> usize {
    let bits = (u64::BITS - value.leading_zeros()) as usize;
    match bits {
        0 => 1,
        1..=56 => bits.div_ceil(7),
        _ => SIZE_MAX,
    }
}

/// Bytes missing at the end of `input` before the integer at its start is there; 0 if it is.
pub(crate) fn missing(input: &[u8]) -> usize {
    let size = input.first().map_or(1, |first| first.leading_ones() as usize + 1);
    size.saturating_sub(input.len())
}

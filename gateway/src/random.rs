//! Names that nobody can guess.

use std::io::Read as _;

/// 128 random bits.
pub(crate) fn unguessable_bytes() -> Option<[u8; 16]> {
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom").ok()?.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// The same in hexadecimal digits.
pub(crate) fn unguessable() -> Option<String> {
    Some(unguessable_bytes()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

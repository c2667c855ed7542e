//! Maps whose keys are stream numbers.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// A map by stream number.
pub(crate) type StreamMap<V> = HashMap<u64, V, BuildHasherDefault<StreamHasher>>;

/// Multiplies: stream numbers are counted up by four, and a peer's are bounded by the stream
/// limit, so there is nothing to be gained by choosing them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

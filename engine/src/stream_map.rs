//! Maps whose keys are numbers that are counted up: of streams, requests, sessions.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// A map by stream number.
pub(crate) type StreamMap<V> = NumberMap<u64, V>;

/// A map by what is a number: each object looks into a dozen of them for each subscriber, where the
/// standard library's hash, that nobody can foresee, took more than half of the relay's instructions.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Multiplies: such numbers are counted up, ours are not chosen by anybody, and of a peer's no more
/// are in one map than it may have streams, so there is nothing to be gained by choosing them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

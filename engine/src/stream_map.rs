//! Maps whose keys are numbers that are counted up: of streams, requests, sessions.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
};

use slab::Slab;

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

/// Where an entry of a [`DenseMap`] is. It leads nowhere once the entry is gone: numbers are not used
/// again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Handle<K> {
    pub(crate) place: usize,
    /// The entry's number.
    pub(crate) key: K,
}

/// A map by number whose entries keep their places, so that whoever has one's [`Handle`] need not
/// look for it.
#[derive(Debug)]
pub(crate) struct DenseMap<K, V> {
    entries: Slab<(K, V)>,
    places: NumberMap<K, usize>,
}

impl<K, V> Default for DenseMap<K, V> {
    fn default() -> Self {
        Self { entries: Slab::new(), places: NumberMap::default() }
    }
}

impl<K: Copy + Eq + Hash, V> DenseMap<K, V> {
    /// Takes a new number's entry; one of the same number is replaced.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Handle<K> {
        if self.entries.capacity() == 0 {
            // Of most maps there are thousands, with one entry each.
            self.entries.reserve_exact(1);
        }
        let place = self.entries.insert((key, value));
        if let Some(before) = self.places.insert(key, place) {
            self.entries.try_remove(before);
        }
        Handle { place, key }
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let place = self.places.remove(&key)?;
        self.entries.try_remove(place).map(|(_, value)| value)
    }

    /// Looks for a number.
    pub(crate) fn handle(&self, key: K) -> Option<Handle<K>> {
        self.places.get(&key).map(|&place| Handle { place, key })
    }

    pub(crate) fn get(&self, key: K) -> Option<&V> {
        self.at(self.handle(key)?)
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.at_mut(self.handle(key)?)
    }

    /// The entry that a handle leads to, if it is still there.
    pub(crate) fn at(&self, handle: Handle<K>) -> Option<&V> {
        let (key, value) = self.entries.get(handle.place)?;
        (*key == handle.key).then_some(value)
    }

    /// The entry that a handle leads to, if it is still there.
    pub(crate) fn at_mut(&mut self, handle: Handle<K>) -> Option<&mut V> {
        let (key, value) = self.entries.get_mut(handle.place)?;
        (*key == handle.key).then_some(value)
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.places.contains_key(&key)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.entries.iter().map(|(_, (key, value))| (*key, value))
    }

    /// All, in the order of their places.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        self.entries.iter_mut().map(|(_, (key, value))| (*key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_leads_to_its_entry_alone() {
        let mut map = DenseMap::default();
        let one = map.insert(1_u64, "one");
        let two = map.insert(2, "two");
        assert_eq!(
            (map.at(one), map.get(2), map.handle(2)),
            (Some(&"one"), Some(&"two"), Some(two))
        );
        assert_eq!(map.remove(1), Some("one"));
        let three = map.insert(3, "three");
        assert_eq!(three.place, one.place, "places are used again");
        assert_eq!((map.at(one), map.get(1)), (None, None));
        assert_eq!(map.at_mut(one), None);
        assert_eq!(map.iter().map(|(key, _)| key).collect::<Vec<_>>(), [3, 2]);
        assert_eq!((map.len(), map.contains(1), map.contains(3)), (2, false, true));
    }

    #[test]
    fn a_number_has_one_entry() {
        let mut map = DenseMap::default();
        let before = map.insert(7_u64, 1);
        let after = map.insert(7, 2);
        assert_eq!((map.len(), map.get(7), map.at(after)), (1, Some(&2), Some(&2)));
        assert_eq!(map.at(before), None);
    }
}

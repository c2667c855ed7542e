//! HOPS (0x4A8): the relays that an announcement, a track or a request has passed.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError, Violation};

/// Relays that a list of hops may name. Whatever would pass more is not passed on.
pub const HOPS_MAX: usize = 16;
/// Bytes of a relay's number in the list.
const RELAY_ID_LENGTH: usize = 8;

/// A relay's number: random for each process, or configured; the same on all its sessions.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RelayId(pub u64);

impl RelayId {
    /// What stands for a relay that tells no number: one that speaks MOQT alone.
    pub const UNKNOWN: Self = Self(0);
}

impl std::fmt::Display for RelayId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// Relays passed, the first one first; at most [`HOPS_MAX`].
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Hops {
    list: Vec<RelayId>,
}

impl Hops {
    /// No relays.
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// These and `relay` behind them; `None` if they are [`HOPS_MAX`] already.
    #[must_use]
    pub fn then(&self, relay: RelayId) -> Option<Self> {
        if HOPS_MAX <= self.list.len() {
            return None;
        }
        let mut list = Vec::with_capacity(self.list.len() + 1);
        list.extend_from_slice(&self.list);
        list.push(relay);
        Some(Self { list })
    }

    /// Whether `relay` is one of them.
    pub fn contains(&self, relay: RelayId) -> bool {
        self.list.contains(&relay)
    }

    /// The last one: whoever sent the list.
    pub fn last(&self) -> Option<RelayId> {
        self.list.last().copied()
    }

    /// They, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = RelayId> {
        self.list.iter().copied()
    }

    /// How many they are.
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The list that `value` is.
    ///
    /// # Errors
    /// If it is no whole number of relays, or names more than [`HOPS_MAX`].
    pub fn decode(value: &Bytes) -> Result<Self, DecodeError> {
        if !value.len().is_multiple_of(RELAY_ID_LENGTH) || HOPS_MAX * RELAY_ID_LENGTH < value.len()
        {
            return Err(Violation::Hops.into());
        }
        let number = |chunk: &[u8]| {
            RelayId(chunk.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        };
        Ok(Self { list: value.chunks_exact(RELAY_ID_LENGTH).map(number).collect() })
    }

    /// The list's bytes: eight for each relay, the highest first.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.list.len() * RELAY_ID_LENGTH);
        for relay in &self.list {
            out.put_u64(relay.0);
        }
        out.freeze()
    }
}

impl TryFrom<Vec<RelayId>> for Hops {
    type Error = EncodeError;

    fn try_from(list: Vec<RelayId>) -> Result<Self, EncodeError> {
        if HOPS_MAX < list.len() {
            return Err(EncodeError::TooLong("HOPS"));
        }
        Ok(Self { list })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_eight_bytes_for_each_relay() {
        let hops = Hops::new().then(RelayId(1)).unwrap().then(RelayId(u64::MAX)).unwrap();
        let bytes = hops.encode();
        assert_eq!(bytes[..], [0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(Hops::decode(&bytes).unwrap(), hops);
        assert!(hops.contains(RelayId(1)) && !hops.contains(RelayId(2)));
        assert_eq!(hops.last(), Some(RelayId(u64::MAX)));
    }

    #[test]
    fn a_list_has_its_limit_both_ways() {
        let mut hops = Hops::new();
        for relay in 0..HOPS_MAX as u64 {
            hops = hops.then(RelayId(relay)).unwrap();
        }
        assert_eq!(hops.then(RelayId(99)), None);
        assert_eq!(Hops::decode(&hops.encode()).unwrap(), hops);
        for length in [1, 7, 9, HOPS_MAX * RELAY_ID_LENGTH + 8] {
            let value = Bytes::from(vec![1; length]);
            assert_eq!(Hops::decode(&value), Err(Violation::Hops.into()), "{length}");
        }
    }
}

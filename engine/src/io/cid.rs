//! Connection ids that say where their connection lives.
//!
//! ```text
//! | worker 1 | slot ^ mask 3 | generation 2 | random 10 |
//! ```
//! A packet's worker is read from the first byte (by the kernel, once there are many), its slot
//! from the next three: nothing is hashed. The whole id is then compared with those that the
//! connection issued, so guessing one means guessing 80 random bits.

use boring::{error::ErrorStack, rand::rand_bytes};

/// Bytes of every id that this side issues.
pub(super) const LENGTH: usize = 16;
/// Slots that an id can name.
pub(super) const SLOTS_MAX: usize = 1 << 24;

/// The bytes of an id that this side issued.
pub(super) type Cid = [u8; LENGTH];

/// The bytes of an id that stands in a Retry: no connection has it yet. Short, because quiche has
/// 128 bytes for all transport parameters, and after a Retry four ids are among them.
pub(super) type RetryCid = [u8; 8];

/// Issues ids, and reads them.
#[derive(Debug)]
pub(super) struct Issuer {
    worker: u8,
    mask: [u8; 3],
}

impl Issuer {
    /// An issuer for one worker.
    pub(super) fn new(worker: u8) -> Result<Self, ErrorStack> {
        let mut mask = [0; 3];
        rand_bytes(&mut mask)?;
        Ok(Self { worker, mask })
    }

    /// A new id for the connection in `slot`, the `generation`-th to live there.
    pub(super) fn issue(&self, slot: u32, generation: u16) -> Result<Cid, ErrorStack> {
        debug_assert!((slot as usize) < SLOTS_MAX, "slot {slot} does not fit an id");
        let [_, slot @ ..] = slot.to_be_bytes();
        let mut cid = [0; LENGTH];
        cid[0] = self.worker;
        for (index, byte) in slot.into_iter().enumerate() {
            cid[1 + index] = byte ^ self.mask[index];
        }
        cid[4..6].copy_from_slice(&generation.to_be_bytes());
        rand_bytes(&mut cid[6..])?;
        Ok(cid)
    }

    /// A new id for a Retry.
    pub(super) fn issue_retry(&self) -> Result<RetryCid, ErrorStack> {
        let mut cid = RetryCid::default();
        cid[0] = self.worker;
        rand_bytes(&mut cid[1..])?;
        Ok(cid)
    }

    /// Slot and generation that an id names; `None` if another worker issued it.
    pub(super) fn read(&self, cid: &Cid) -> Option<(u32, u16)> {
        let [worker, high, middle, low, generation @ ..] = *cid;
        let [a, b, c] = self.mask;
        let slot = u32::from_be_bytes([0, high ^ a, middle ^ b, low ^ c]);
        let generation = u16::from_be_bytes([generation[0], generation[1]]);
        (worker == self.worker).then_some((slot, generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_slot() {
        let issuer = Issuer::new(3).unwrap();
        for (slot, generation) in [(0, 0), (1, 7), (0x00ab_cdef, 0xffff), (0x00ff_ffff, 1)] {
            let cid = issuer.issue(slot, generation).unwrap();
            assert_eq!(cid[0], 3);
            assert_eq!(issuer.read(&cid), Some((slot, generation)));
        }
    }

    #[test]
    fn ids_of_other_workers_name_nothing() {
        let cid = Issuer::new(4).unwrap().issue(1, 1).unwrap();
        assert_eq!(Issuer::new(3).unwrap().read(&cid), None);
    }

    #[test]
    fn two_ids_of_one_slot_differ() {
        let issuer = Issuer::new(0).unwrap();
        assert_ne!(issuer.issue(5, 5).unwrap(), issuer.issue(5, 5).unwrap());
    }
}

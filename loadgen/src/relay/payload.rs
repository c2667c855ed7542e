//! What stands in the objects that are sent, so that whoever receives one knows all of it.
//!
//! ```text
//! | magic 4 | CRC-32 of all that follows 4 | run 4 | sequence 8 | due 8 | sent 8 | filler … |
//! ```
//! Times are nanoseconds since the Unix epoch; numbers are big-endian.

use bytes::{Bytes, BytesMut};

/// Bytes before the filler, and the least that a payload has.
pub const HEADER: usize = 36;
const MAGIC: [u8; 4] = *b"AIPL";

/// What an object says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// The run that it belongs to.
    pub run: u32,
    /// Its number in the run, from 0.
    pub sequence: u64,
    /// When it was to be sent.
    pub due: u64,
    /// When it was handed to the transport.
    pub sent: u64,
}

/// Makes payloads of one length.
#[derive(Clone, Debug)]
pub struct Template {
    filler: Bytes,
}

impl Template {
    /// Payloads of `length` bytes, at least [`HEADER`]. The filler does not compress.
    pub fn new(length: usize, seed: u64) -> Self {
        let mut filler = vec![0; length.max(HEADER) - HEADER];
        fastrand::Rng::with_seed(seed).fill(&mut filler);
        Self { filler: filler.into() }
    }

    /// The payload with this stamp.
    pub fn stamp(&self, stamp: Stamp) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER + self.filler.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&stamp.run.to_be_bytes());
        for number in [stamp.sequence, stamp.due, stamp.sent] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.filler);
        let sum = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&sum.to_be_bytes());
        bytes.freeze()
    }
}

/// A payload that is arriving, in one piece or more.
#[derive(Clone, Debug)]
pub struct Arriving {
    head: [u8; HEADER],
    length: usize,
    sum: crc32fast::Hasher,
}

impl Default for Arriving {
    fn default() -> Self {
        Self { head: [0; HEADER], length: 0, sum: crc32fast::Hasher::new() }
    }
}

impl Arriving {
    /// The next bytes. Nothing of them is kept but the header.
    pub fn push(&mut self, bytes: &[u8]) {
        let wanted = HEADER.saturating_sub(self.length).min(bytes.len());
        if 0 < wanted {
            self.head[self.length..self.length + wanted].copy_from_slice(&bytes[..wanted]);
        }
        let unsummed = 8_usize.saturating_sub(self.length).min(bytes.len());
        self.sum.update(&bytes[unsummed..]);
        self.length += bytes.len();
    }

    /// What the whole payload says, if it is what was sent; and its length.
    pub fn finish(self) -> (Option<Stamp>, usize) {
        let sum = self.sum.finalize();
        let stamp = (HEADER <= self.length).then(|| read(&self.head, sum)).flatten();
        (stamp, self.length)
    }
}

/// What a payload that is whole says, if it is what was sent.
pub fn check(payload: &[u8]) -> Option<Stamp> {
    let head = payload.first_chunk::<HEADER>()?;
    read(head, crc32fast::hash(&payload[8..]))
}

fn read(head: &[u8; HEADER], sum: u32) -> Option<Stamp> {
    let number = |at: usize| {
        let bytes: [u8; 8] = head[at..at + 8].try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    };
    let short = |at: usize| {
        let bytes: [u8; 4] = head[at..at + 4].try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    };
    if head[..4] != MAGIC || short(4)? != sum {
        return None;
    }
    Some(Stamp { run: short(8)?, sequence: number(12)?, due: number(20)?, sent: number(28)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 7, sequence: 1 << 40, due: 12, sent: 13 };

    fn arrive(payload: &[u8], piece: usize) -> (Option<Stamp>, usize) {
        let mut arriving = Arriving::default();
        for piece in payload.chunks(piece) {
            arriving.push(piece);
        }
        arriving.finish()
    }

    #[test]
    fn a_payload_says_what_was_stamped_however_it_is_cut() {
        for length in [0, HEADER, HEADER + 1, 120, 5_000] {
            let payload = Template::new(length, 1).stamp(STAMP);
            assert_eq!(payload.len(), length.max(HEADER));
            assert_eq!(check(&payload), Some(STAMP));
            for piece in [1, 7, 35, 36, 37, 4_096] {
                assert_eq!(arrive(&payload, piece), (Some(STAMP), payload.len()));
            }
        }
    }

    #[test]
    fn a_changed_byte_is_seen() {
        let payload = Template::new(200, 1).stamp(STAMP);
        for index in 0..payload.len() {
            let mut changed = payload.to_vec();
            changed[index] ^= 0x10;
            assert_eq!(check(&changed), None, "byte {index}");
            assert_eq!(arrive(&changed, 9).0, None, "byte {index}");
        }
        assert_eq!(check(&payload[..199]), None);
        assert_eq!(check(&payload[..20]), None);
    }
}

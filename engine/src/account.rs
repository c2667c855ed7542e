//! What waits for the network, and what it costs to keep: the one measure of every queue.
//!
//! The same type counts a stream, a subscription, a session, an identity and a relay; each level is
//! the sum of the one below it.

use std::ops::{AddAssign, SubAssign};

/// What an open stream is counted as, beside its bytes: what session, queue and QUIC keep of it.
pub const STREAM: usize = 1_024;
/// What a piece of a stream is counted as, beside its bytes: a reference and its place in a queue.
pub const PIECE: usize = 64;

/// What waits at one level.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Account {
    /// Bytes handed to the transport that have not left for the network.
    pub bytes: usize,
    /// What keeping them costs beside: [`STREAM`] for each stream, [`PIECE`] for each piece.
    pub overhead: usize,
}

impl Account {
    /// Nothing.
    pub const ZERO: Self = Self { bytes: 0, overhead: 0 };

    /// One open stream on which nothing waits.
    pub const OPEN_STREAM: Self = Self { bytes: 0, overhead: STREAM };

    /// One piece of so many bytes.
    pub const fn piece(bytes: usize) -> Self {
        Self { bytes, overhead: if bytes == 0 { 0 } else { PIECE } }
    }

    /// All of it.
    pub const fn total(self) -> usize {
        self.bytes + self.overhead
    }

    /// What leaves when so many bytes do, `fixed` overhead staying: pieces are not told apart, so
    /// their overhead leaves in proportion, and the last of it with the last byte.
    pub const fn leaving(self, bytes: usize, fixed: usize) -> Self {
        let bytes = if bytes < self.bytes { bytes } else { self.bytes };
        let pieces = self.overhead.saturating_sub(fixed);
        let overhead = if bytes == self.bytes {
            pieces
        } else {
            // Saturates only far beyond what any queue may hold.
            pieces.saturating_mul(bytes) / self.bytes
        };
        Self { bytes, overhead }
    }
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.overhead += other.overhead;
    }
}

impl SubAssign for Account {
    /// # Panics
    /// In debug builds, if more leaves than is there.
    fn sub_assign(&mut self, other: Self) {
        debug_assert!(
            other.bytes <= self.bytes && other.overhead <= self.overhead,
            "more leaves than is there"
        );
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.overhead = self.overhead.saturating_sub(other.overhead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_leaves_with_the_bytes_it_belongs_to() {
        let mut stream = Account::OPEN_STREAM;
        for _ in 0..10 {
            stream += Account::piece(100);
        }
        assert_eq!(stream.total(), STREAM + 10 * (100 + PIECE));
        stream -= stream.leaving(250, STREAM);
        assert_eq!(stream.bytes, 750);
        assert_eq!(stream.overhead, STREAM + 10 * PIECE * 3 / 4);
        stream -= stream.leaving(750, STREAM);
        assert_eq!(stream, Account::OPEN_STREAM);
        assert_eq!(stream.leaving(5, STREAM), Account::ZERO, "no more than is there");
    }
}

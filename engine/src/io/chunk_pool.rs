//! Memory that stream bytes are read into: large chunks, cut into pieces, and used again when the
//! last piece is gone.
//!
//! A piece of any length keeps its whole chunk: whoever keeps few bytes for long should copy them.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut, buf::Limit};

/// Bytes of one chunk, and of the longest piece.
pub(super) const CHUNK: usize = 64 << 10;
/// A piece may be cut shorter than its stream's bytes only if it is at least this long.
const PIECE_MIN: usize = 4 << 10;
/// Chunks that are waited for; more are left to their pieces.
const RETIRED_MAX: usize = 256;
/// Retired chunks that are asked before a new one is made.
const ASKED_MAX: usize = 8;

/// Hands out chunks' memory piece by piece.
#[derive(Debug, Default)]
pub(super) struct ChunkPool {
    current: BytesMut,
    /// Full chunks of which pieces were abroad when last asked, oldest first.
    retired: VecDeque<BytesMut>,
    allocated: u64,
}

impl ChunkPool {
    /// Room for a piece of at most `wanted` bytes. Never less than the lesser of `wanted` and 4 KiB.
    pub(super) fn room(&mut self, wanted: usize) -> Limit<&mut BytesMut> {
        let wanted = wanted.clamp(1, CHUNK);
        if self.current.capacity() < wanted.min(PIECE_MIN) {
            let fresh = self.fresh();
            let full = std::mem::replace(&mut self.current, fresh);
            if self.retired.len() < RETIRED_MAX {
                self.retired.push_back(full);
            }
        }
        let room = self.current.capacity().min(wanted);
        (&mut self.current).limit(room)
    }

    /// What has been written to the last room.
    pub(super) fn piece(&mut self) -> Bytes {
        self.current.split().freeze()
    }

    /// Chunks made so far.
    pub(super) const fn allocated(&self) -> u64 {
        self.allocated
    }

    /// An empty chunk.
    fn fresh(&mut self) -> BytesMut {
        for _ in 0..self.retired.len().min(ASKED_MAX) {
            let Some(mut chunk) = self.retired.pop_front() else { break };
            chunk.clear();
            if chunk.try_reclaim(CHUNK) {
                return chunk;
            }
            self.retired.push_back(chunk);
        }
        self.allocated += 1;
        BytesMut::with_capacity(CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pool: &mut ChunkPool, length: usize) -> Bytes {
        let mut room = pool.room(length);
        let length = length.min(room.remaining_mut());
        room.put_bytes(0x5a, length);
        pool.piece()
    }

    #[test]
    fn a_piece_is_as_long_as_wanted_or_long_enough() {
        let mut pool = ChunkPool::default();
        for wanted in [1, 100, PIECE_MIN, CHUNK, CHUNK * 2].into_iter().cycle().take(1_000) {
            let room = pool.room(wanted).remaining_mut();
            assert!(room <= wanted.min(CHUNK) && wanted.min(PIECE_MIN) <= room);
            assert!(read(&mut pool, wanted).len() <= wanted);
        }
    }

    #[test]
    fn steady_use_allocates_nothing() {
        let mut pool = ChunkPool::default();
        let mut abroad = VecDeque::new();
        let mut turn = |pool: &mut ChunkPool| {
            for length in [20, 1_200, 65_536, 4_096, 300] {
                abroad.push_back(read(pool, length));
            }
            while 64 < abroad.len() {
                abroad.pop_front();
            }
        };
        (0..1_000).for_each(|_| turn(&mut pool));
        let allocated = pool.allocated();
        (0..100_000).for_each(|_| turn(&mut pool));
        assert_eq!(pool.allocated(), allocated);
        assert!(allocated < 64, "{allocated} chunks for 64 pieces");
    }

    #[test]
    fn pieces_keep_their_bytes_while_their_chunk_waits() {
        let mut pool = ChunkPool::default();
        let kept: Vec<_> = (0..100).map(|_| read(&mut pool, 30_000)).collect();
        for _ in 0..1_000 {
            read(&mut pool, 50_000);
        }
        assert!(kept.iter().all(|piece| piece.iter().all(|&byte| byte == 0x5a)));
    }
}

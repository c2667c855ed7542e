//! Headers of unknown length that may be split over a stream's chunks.
//!
//! Bytes are copied only where a header does not lie in one chunk, and then only the header's.

use std::{collections::VecDeque, mem, ops::Range};

use bytes::{Bytes, BytesMut};

use crate::{
    error::{DecodeError, Violation},
    moqt::varint,
};

/// Why a header is not there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shortfall {
    /// At least so many bytes more are needed; at least 1.
    Missing(usize),
    /// No bytes would help.
    Violation(Violation),
}

impl From<Violation> for Shortfall {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// Reads a header's fields off the front of bytes that may end too early.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Scan<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// The next integer.
    pub(crate) fn varint(&mut self) -> Result<u64, Shortfall> {
        match varint::decode(self.rest()) {
            Ok((value, size)) => {
                self.position += size;
                Ok(value)
            }
            Err(_) => Err(Shortfall::Missing(varint::missing(self.rest()))),
        }
    }

    /// The next byte.
    pub(crate) fn u8(&mut self) -> Result<u8, Shortfall> {
        let byte = self.rest().first().copied().ok_or(Shortfall::Missing(1))?;
        self.position += 1;
        Ok(byte)
    }

    /// Where the next `length` bytes lie.
    pub(crate) fn bytes(&mut self, length: u64) -> Result<Range<usize>, Shortfall> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let missing = length.saturating_sub(self.rest().len());
        if 0 < missing {
            return Err(Shortfall::Missing(missing));
        }
        let start = self.position;
        self.position += length;
        Ok(start..self.position)
    }
}

/// A header that is there.
#[derive(Debug)]
pub(crate) enum Head<T> {
    /// It is the chunk's first `length` bytes.
    InChunk {
        /// What it says.
        fields: T,
        /// Its bytes, still in the chunk.
        length: usize,
    },
    /// It came in pieces.
    Assembled {
        /// What it says.
        fields: T,
        /// Its bytes, which are no longer in the chunk.
        wire: Bytes,
    },
}

/// A stream's bytes on their way to a decoder.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// The beginning of a header that no chunk holds whole.
    held: BytesMut,
    /// What comes next.
    chunk: Bytes,
    /// What comes after it, if more is pushed than read. No chunk is empty.
    queue: VecDeque<Bytes>,
}

impl Inbox {
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        if self.chunk.is_empty() && self.queue.is_empty() {
            self.chunk = chunk;
        } else {
            self.queue.push_back(chunk);
        }
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.chunk.is_empty() && self.queue.is_empty()
    }

    /// Whether there is a byte after what is held.
    fn refill(&mut self) -> bool {
        if self.chunk.is_empty() {
            self.chunk = self.queue.pop_front().unwrap_or_default();
        }
        !self.chunk.is_empty()
    }

    /// The header that `parse` finds; `None` until more bytes are pushed.
    pub(crate) fn poll_header<T>(
        &mut self,
        parse: impl Fn(&mut Scan<'_>) -> Result<T, Shortfall>,
    ) -> Result<Option<Head<T>>, DecodeError> {
        loop {
            let is_held = !self.held.is_empty();
            if !is_held && !self.refill() {
                return Ok(None);
            }
            let mut scan = Scan::new(if is_held { &self.held } else { &self.chunk });
            let missing = match parse(&mut scan) {
                Ok(fields) if is_held => {
                    return Ok(Some(Head::Assembled { fields, wire: self.take_held() }));
                }
                Ok(fields) => return Ok(Some(Head::InChunk { fields, length: scan.position })),
                Err(Shortfall::Violation(violation)) => return Err(violation.into()),
                Err(Shortfall::Missing(missing)) => missing,
            };
            if is_held && !self.refill() {
                return Ok(None);
            }
            // What is held ends with the header, so that a payload is never in it.
            let wanted = if is_held { missing } else { self.chunk.len() };
            let piece = self.chunk.split_to(wanted.min(self.chunk.len()));
            self.held.extend_from_slice(&piece);
        }
    }

    /// What a header says, and its bytes, which are no longer in the chunk.
    pub(crate) fn take_head<T>(&mut self, head: Head<T>) -> (T, Bytes) {
        match head {
            Head::InChunk { fields, length } => (fields, self.chunk.split_to(length)),
            Head::Assembled { fields, wire } => (fields, wire),
        }
    }

    fn take_held(&mut self) -> Bytes {
        mem::take(&mut self.held).freeze()
    }

    /// The next `length` bytes of the chunk, or as many as it has.
    pub(crate) fn take(&mut self, length: u64) -> Bytes {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.chunk.split_to(length.min(self.chunk.len()))
    }

    /// A piece of a payload of which `left` bytes are to come; `None` until more bytes are pushed.
    pub(crate) fn poll_payload(&mut self, left: u64) -> Option<Bytes> {
        self.refill().then(|| self.take(left))
    }

    /// All bytes; none are left. Copies if they are not in one chunk.
    pub(crate) fn take_all(&mut self) -> Bytes {
        if self.held.is_empty() && self.queue.is_empty() {
            return mem::take(&mut self.chunk);
        }
        let mut all = mem::take(&mut self.held);
        while self.refill() {
            all.extend_from_slice(&mem::take(&mut self.chunk));
        }
        all.freeze()
    }
}

//! Messages that are lines, as stdio has them, without trust in their length.

use aip_engine::io::give_back;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes that are read at one time.
const CHUNK: usize = 65_536;
/// Bytes of a line that is long.
const LONG: usize = 1 << 20;
/// Bytes kept of each end of a line that is too long.
const END_KEPT: usize = 512;

/// One line, without its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Line {
    /// A line; never empty.
    Whole(Bytes),
    /// A line that passed the limit: its first and last bytes.
    TooLong {
        /// How it began.
        head: Bytes,
        /// How it ended.
        tail: Bytes,
    },
}

/// Reads lines of at most `length_max` bytes; of a longer one no more than that is ever held.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    held: BytesMut,
    /// Bytes of `held` that hold no line's end.
    searched: usize,
    length_max: usize,
    /// The line that is being dropped.
    dropping: Option<Ends>,
}

/// The first and the last bytes of a line.
#[derive(Debug, Default)]
struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Ends {
    /// Takes what follows of the line.
    fn take(&mut self, bytes: &[u8]) {
        let wanted = END_KEPT.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..wanted]);
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(END_KEPT)..]);
        let surplus = self.tail.len().saturating_sub(END_KEPT);
        self.tail.drain(..surplus);
    }
}

impl From<Ends> for Line {
    fn from(Ends { head, tail }: Ends) -> Self {
        Self::TooLong { head: head.into(), tail: tail.into() }
    }
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// The lines that `reader` gives.
    pub fn new(reader: R, length_max: usize) -> Self {
        Self { reader, held: BytesMut::new(), searched: 0, length_max, dropping: None }
    }

    /// The next line that is not empty; `None` at the end.
    ///
    /// Safe to be dropped half-way: nothing is lost.
    ///
    /// # Errors
    /// If reading fails.
    pub async fn next(&mut self) -> std::io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            if self.held.capacity() - self.held.len() < 4_096 {
                self.grow();
            }
            if self.reader.read_buf(&mut self.held).await? == 0 {
                return Ok(self.take_rest());
            }
        }
    }

    /// Makes room for more. A long line gets room for the longest at once: memory that is not written
    /// to is none, and doubling up to it would leave as much again behind.
    fn grow(&mut self) {
        let held = self.held.len();
        if held < LONG {
            return self.held.reserve(CHUNK);
        }
        let mut larger = BytesMut::with_capacity(self.length_max.max(held).saturating_add(CHUNK));
        larger.extend_from_slice(&self.held);
        self.held = larger;
    }

    /// The next line in what is held.
    fn take_line(&mut self) -> Option<Line> {
        loop {
            let Some(end) = self.held[self.searched..].iter().position(|&byte| byte == b'\n')
            else {
                self.searched = self.held.len();
                if self.dropping.is_some() || self.length_max < self.held.len() {
                    self.drop_held();
                }
                return None;
            };
            let line = self.held.split_to(self.searched + end + 1).freeze();
            self.searched = 0;
            let line = line.slice(..line.len() - 1);
            if let Some(line) = self.finish(line) {
                return Some(line);
            }
        }
    }

    /// What was left when the reader ended.
    fn take_rest(&mut self) -> Option<Line> {
        let line = self.held.split().freeze();
        self.searched = 0;
        self.finish(line)
    }

    fn finish(&mut self, line: Bytes) -> Option<Line> {
        if let Some(mut ends) = self.dropping.take() {
            ends.take(&line);
            return Some(ends.into());
        }
        if self.length_max < line.len() {
            let mut ends = Ends::default();
            ends.take(&line);
            return Some(ends.into());
        }
        let trimmed = line.trim_ascii();
        (!trimmed.is_empty()).then(|| Line::Whole(line.slice_ref(trimmed)))
    }

    /// Lets go of what is held of a line that is too long, but for its ends. A long one's memory is
    /// given back at once: the next such line may come before the allocator would.
    fn drop_held(&mut self) {
        self.dropping.get_or_insert_default().take(&self.held);
        self.held.clear();
        if self.length_max < self.held.capacity() {
            self.held = BytesMut::new();
            if LONG <= self.length_max {
                give_back();
            }
        }
        self.searched = 0;
    }
}

/// The message on one line. Between JSON's tokens a line break is white space; in its strings it
/// cannot stand.
pub fn on_one_line(text: Bytes) -> Bytes {
    if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return text;
    }
    let mut changed = BytesMut::from(&text[..]);
    for byte in changed.iter_mut() {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    changed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &[u8], length_max: usize) -> Vec<Line> {
        let mut lines = Lines::new(text, length_max);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push(line);
        }
        found
    }

    #[tokio::test]
    async fn lines_are_trimmed_and_empty_ones_skipped() {
        let lines = all(b"a\r\n\n  \n b \nlast", 100).await;
        let expected = ["a", "b", "last"].map(|line| Line::Whole(Bytes::from(line)));
        assert_eq!(lines, expected);
    }

    #[tokio::test]
    async fn a_line_too_long_is_dropped_but_for_its_ends() {
        let mut text = b"{\"id\":1,".to_vec();
        text.resize(300_000, b'x');
        text.extend_from_slice(b"end}\nnext\n");
        let lines = all(&text, 1_000).await;
        let [Line::TooLong { head, tail }, next] = &lines[..] else { panic!("{lines:?}") };
        assert!(head.starts_with(b"{\"id\":1,"));
        assert!(tail.ends_with(b"end}"));
        assert!(tail.len() <= END_KEPT);
        assert_eq!(*next, Line::Whole(Bytes::from_static(b"next")));
        // However it comes: a limit may be less than what is kept of either end.
        let mut lines = Lines::new((&b"123"[..]).chain(&b"45\n1234\n"[..]), 2);
        let expected = Line::TooLong { head: "12345".into(), tail: "12345".into() };
        assert_eq!(lines.next().await.unwrap(), Some(expected));
        let lines = all(b"12345\n1234\n", 4).await;
        assert!(matches!(&lines[..], [Line::TooLong { .. }, Line::Whole(_)]), "{lines:?}");
    }
}

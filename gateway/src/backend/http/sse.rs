//! Server-sent events, without trust in their length.

use bytes::{Bytes, BytesMut};

/// What a server said in one event.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Event {
    /// Its data; empty in an event that only carries an id.
    pub(super) data: Bytes,
    /// The id to resume after, once one was given.
    pub(super) id: Option<String>,
    /// How long to wait before resuming, in milliseconds.
    pub(super) retry_ms: Option<u64>,
}

/// An event grew too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an event has more than {0} bytes")]
pub(super) struct TooLong(pub(super) usize);

/// Finds events in bytes as they come.
#[derive(Debug)]
pub(super) struct Decoder {
    held: BytesMut,
    /// Bytes of `held` that hold no line's end.
    searched: usize,
    data: BytesMut,
    has_data: bool,
    id: Option<String>,
    retry_ms: Option<u64>,
    /// Whether the event under way said anything that is told.
    told: bool,
    length_max: usize,
}

impl Decoder {
    /// Events of at most `length_max` bytes.
    pub(super) fn new(length_max: usize) -> Self {
        Self {
            held: BytesMut::new(),
            searched: 0,
            data: BytesMut::new(),
            has_data: false,
            id: None,
            retry_ms: None,
            told: false,
            length_max,
        }
    }

    /// Takes bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next event in what was taken.
    pub(super) fn poll(&mut self) -> Result<Option<Event>, TooLong> {
        while let Some(line) = self.take_line()? {
            if line.is_empty() {
                if std::mem::take(&mut self.told) {
                    self.has_data = false;
                    let data = self.data.split().freeze();
                    let retry_ms = self.retry_ms;
                    return Ok(Some(Event { data, id: self.id.clone(), retry_ms }));
                }
                continue;
            }
            self.take_field(&line)?;
        }
        Ok(None)
    }

    fn take_line(&mut self) -> Result<Option<Bytes>, TooLong> {
        let found =
            self.held[self.searched..].iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let Some(found) = found.map(|place| self.searched + place) else {
            self.searched = self.held.len();
            // The name of a field and a little more beside the data.
            if self.length_max.saturating_add(64) < self.held.len() {
                return Err(TooLong(self.length_max));
            }
            return Ok(None);
        };
        if self.held[found] == b'\r' {
            match self.held.get(found + 1) {
                // It may be half a line's end.
                None => {
                    self.searched = found;
                    return Ok(None);
                }
                Some(b'\n') => {
                    let line = self.held.split_to(found + 2).freeze();
                    self.searched = 0;
                    return Ok(Some(line.slice(..found)));
                }
                Some(_) => {}
            }
        }
        let line = self.held.split_to(found + 1).freeze();
        self.searched = 0;
        Ok(Some(line.slice(..found)))
    }

    fn take_field(&mut self, line: &Bytes) -> Result<(), TooLong> {
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let mut value = line.slice((colon + 1).min(line.len())..);
        if value.first() == Some(&b' ') {
            value = value.slice(1..);
        }
        match &line[..colon] {
            b"data" => {
                if self.length_max < self.data.len() + value.len() {
                    return Err(TooLong(self.length_max));
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.extend_from_slice(b"\n");
                }
                self.data.extend_from_slice(&value);
                self.told = true;
            }
            b"id" if !value.contains(&0) => {
                self.id = std::str::from_utf8(&value).ok().map(ToOwned::to_owned);
                self.told = true;
            }
            b"retry" => {
                let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                self.retry_ms = number.or(self.retry_ms);
            }
            // Comments, and names of events: MCP has only messages.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &[u8], cuts: &[usize]) -> Vec<(String, Option<String>)> {
        let mut decoder = Decoder::new(1_000);
        let mut events = Vec::new();
        let mut rest = text;
        for &cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            rest = later;
            decoder.push(now);
            while let Some(event) = decoder.poll().unwrap() {
                events.push((String::from_utf8(event.data.to_vec()).unwrap(), event.id));
            }
        }
        decoder.push(rest);
        while let Some(event) = decoder.poll().unwrap() {
            events.push((String::from_utf8(event.data.to_vec()).unwrap(), event.id));
        }
        events
    }

    const TEXT: &[u8] = b": hello\r\n\r\nid: 1\ndata:\n\nevent: message\ndata: {\"a\":1}\r\ndata:x\n\n\nretry: 5\n\ndata: end\n\n";

    #[test]
    fn events_are_found() {
        let one = Some("1".to_owned());
        let expected = [
            (String::new(), one.clone()),
            ("{\"a\":1}\nx".to_owned(), one.clone()),
            ("end".to_owned(), one),
        ];
        assert_eq!(all(TEXT, &[]), expected);
    }

    #[test]
    fn too_long_an_event_is_an_error() {
        let mut decoder = Decoder::new(10);
        decoder.push(b"data: 12345\ndata: 123456\n");
        assert_eq!(decoder.poll(), Err(TooLong(10)));
        let mut decoder = Decoder::new(10);
        decoder.push(&[b'x'; 100]);
        assert_eq!(decoder.poll(), Err(TooLong(10)));
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(cuts in proptest::collection::vec(0usize..9, 0..30)) {
            prop_assert_eq!(all(TEXT, &cuts), all(TEXT, &[]));
        }
    }
}

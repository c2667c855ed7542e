//! A session's streams among those of its connection: numbers, and what each begins with.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    io::http3,
    stream_map::StreamMap,
    transport::{Side, StreamId},
};

/// What a session's unidirectional streams begin with,
pub(super) const UNIDIRECTIONAL: u64 = 0x54;
/// and its bidirectional ones; behind either stands the session's number.
pub(super) const BIDIRECTIONAL: u64 = 0x41;

/// Our unidirectional streams that are HTTP/3's: the control stream.
const OWN_UNIDIRECTIONAL: u64 = 1;
/// A client's bidirectional streams that are HTTP/3's: the CONNECT stream.
const OWN_BIDIRECTIONAL: u64 = 1;

/// The streams that we open, which the driver counts from 0, and the connection from behind
/// HTTP/3's own. Streams that the peer opens have one number only.
#[derive(Debug)]
pub(super) struct Streams {
    side: Side,
    /// What each kind begins with, bidirectional first.
    heads: [Bytes; 2],
    /// One more than the highest index that has begun, per kind.
    begun: [u64; 2],
    /// Those below it that have not, by the driver's numbers.
    skipped: BTreeSet<u64>,
    /// Bytes of a stream's head of which it was not told yet that they have left, by the
    /// connection's numbers.
    untold: StreamMap<usize>,
}

impl Streams {
    /// No streams yet, of this session.
    pub(super) fn new(side: Side, session: u64) -> Self {
        let head = |kind| {
            let mut head = Vec::new();
            http3::encode(kind, &mut head);
            http3::encode(session, &mut head);
            Bytes::from(head)
        };
        Self {
            side,
            heads: [head(BIDIRECTIONAL), head(UNIDIRECTIONAL)],
            begun: [0; 2],
            skipped: BTreeSet::new(),
            untold: StreamMap::default(),
        }
    }

    /// The connection's number for the driver's.
    pub(super) fn outward(&self, stream: StreamId) -> StreamId {
        self.shifted(stream, u64::wrapping_add)
    }

    /// The driver's number for the connection's.
    pub(super) fn inward(&self, stream: StreamId) -> StreamId {
        self.shifted(stream, u64::wrapping_sub)
    }

    fn shifted(&self, stream: StreamId, shift: fn(u64, u64) -> u64) -> StreamId {
        let own = match (stream.opener() == self.side, stream.is_bidirectional(), self.side) {
            (false, ..) | (true, true, Side::Server) => 0,
            (true, true, Side::Client) => OWN_BIDIRECTIONAL,
            (true, false, _) => OWN_UNIDIRECTIONAL,
        };
        StreamId(shift(stream.0, own << 2))
    }

    /// What must be sent first, if the driver sends on this stream for the first time.
    pub(super) fn begin(&mut self, stream: StreamId) -> Option<Bytes> {
        if stream.opener() != self.side {
            return None;
        }
        let (kind, index) = (kind(stream), stream.0 >> 2);
        if index < self.begun[kind] && !self.skipped.remove(&stream.0) {
            return None;
        }
        let between = self.begun[kind]..index;
        let number = |index| StreamId::new(self.side, stream.is_bidirectional(), index).0;
        self.skipped.extend(between.map(number));
        self.begun[kind] = self.begun[kind].max(index + 1);
        let head = self.heads[kind].clone();
        self.untold.insert(self.outward(stream).0, head.len());
        Some(head)
    }

    /// How many of these bytes that have left a stream are the driver's.
    pub(super) fn told(&mut self, stream: StreamId, length: usize) -> usize {
        let Some(untold) = self.untold.get_mut(&stream.0) else { return length };
        let of_head = (*untold).min(length);
        *untold -= of_head;
        if *untold == 0 {
            self.untold.remove(&stream.0);
        }
        length - of_head
    }
}

const fn kind(stream: StreamId) -> usize {
    if stream.is_bidirectional() { 0 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_ours_stand_behind_http3s() {
        for (side, pairs) in [
            (Side::Server, [(3, 7), (1, 1), (0, 0), (2, 2)]),
            (Side::Client, [(2, 6), (0, 4), (1, 1), (3, 3)]),
        ] {
            let streams = Streams::new(side, 0);
            for (driver, connection) in pairs {
                assert_eq!(streams.outward(StreamId(driver)), StreamId(connection), "{side:?}");
                assert_eq!(streams.inward(StreamId(connection)), StreamId(driver), "{side:?}");
            }
        }
    }

    #[test]
    fn each_begins_with_its_head_once_and_that_is_not_told() {
        let mut streams = Streams::new(Side::Server, 4);
        assert_eq!(streams.begin(StreamId(11)).as_deref(), Some(&[0x40, 0x54, 4][..]));
        assert_eq!(streams.begin(StreamId(11)), None);
        assert_eq!(streams.begin(StreamId(7)).as_deref(), Some(&[0x40, 0x54, 4][..]));
        assert_eq!(streams.begin(StreamId(1)).as_deref(), Some(&[0x40, 0x41, 4][..]));
        assert_eq!(streams.begin(StreamId(0)), None, "the peer's");
        assert!(streams.begin(StreamId(3)).is_some());
        assert!(streams.skipped.is_empty());
        let connection = streams.outward(StreamId(11));
        assert_eq!(streams.told(connection, 2), 0);
        assert_eq!(streams.told(connection, 6), 5);
        assert_eq!(streams.told(connection, 6), 6);
    }
}

//! Datagrams that wait for their turn. quiche knows no age of what it holds, so it is handed little
//! at a time, and what is late by then is left.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::{Connection, Context, DATAGRAM_OVERHEAD};
use crate::metrics::Counters;

/// Datagrams that quiche holds at most: so many small ones fill a packet.
const HANDED_MAX: usize = 16;

struct Waiting {
    bytes: Bytes,
    expires: Option<Instant>,
}

impl Waiting {
    fn is_late(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// See the module.
pub(super) struct Datagrams {
    waiting: VecDeque<Waiting>,
    max: usize,
}

impl Datagrams {
    pub(super) const fn new(max: usize) -> Self {
        Self { waiting: VecDeque::new(), max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts one behind the others; if there is no room for it, what is late makes room. How many were
    /// dropped of either.
    fn push(&mut self, bytes: Bytes, expires: Option<Instant>, now: Instant) -> Dropped {
        let mut dropped = Dropped::default();
        if self.max <= self.waiting.len() {
            let before = self.waiting.len();
            self.waiting.retain(|it| !it.is_late(now));
            dropped.late = before - self.waiting.len();
        }
        if self.max <= self.waiting.len() {
            dropped.without_room = 1;
        } else {
            self.waiting.push_back(Waiting { bytes, expires });
        }
        dropped
    }

    /// The next one that is not late.
    fn pop(&mut self, now: Instant) -> (Option<Bytes>, Dropped) {
        let mut dropped = Dropped::default();
        while let Some(next) = self.waiting.pop_front() {
            if !next.is_late(now) {
                return (Some(next.bytes), dropped);
            }
            dropped.late += 1;
        }
        (None, dropped)
    }

    /// Drops all of them, for good.
    pub(super) fn clear(&mut self, counters: &mut Counters) {
        Dropped { late: 0, without_room: self.waiting.len() }.count(counters);
        self.waiting.clear();
    }
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Dropped {
    late: usize,
    without_room: usize,
}

impl Dropped {
    const fn count(self, counters: &mut Counters) {
        counters.datagrams_late_total += self.late as u64;
        counters.datagrams_dropped_total += self.without_room as u64;
    }
}

impl Connection {
    pub(super) fn send_datagram(
        &mut self,
        bytes: Bytes,
        expires: Option<Instant>,
        context: &mut Context<'_>,
    ) {
        // What is too large now would only take room from others.
        if self.fits(&bytes) {
            self.datagrams.push(bytes, expires, context.now).count(context.counters);
            self.hand_datagrams(context);
        } else {
            context.counters.datagrams_dropped_total += 1;
        }
    }

    /// Whether the path carries it. quiche would keep a datagram that fits the largest packet it
    /// hopes for, and hold up those behind it until the path carries such packets.
    const fn fits(&self, bytes: &Bytes) -> bool {
        bytes.len() + DATAGRAM_OVERHEAD <= self.path_mtu
    }

    /// Hands on what quiche has room for; says whether that was anything.
    pub(super) fn hand_datagrams(&mut self, context: &mut Context<'_>) -> bool {
        let mut has_handed = false;
        while !self.datagrams.is_empty() && self.quic.dgram_send_queue_len() < HANDED_MAX {
            let (next, dropped) = self.datagrams.pop(context.now);
            dropped.count(context.counters);
            let Some(bytes) = next else { break };
            // The path may be narrower by now.
            if self.fits(&bytes) && self.quic.dgram_send_buf(bytes).is_ok() {
                context.counters.datagrams_sent_total += 1;
                has_handed = true;
            } else {
                context.counters.datagrams_dropped_total += 1;
            }
        }
        has_handed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_late_is_left_and_makes_room() {
        let now = Instant::now();
        let (soon, later) = (Some(now + Duration::from_millis(1)), now + Duration::from_millis(2));
        let mut datagrams = Datagrams::new(3);
        for (bytes, expires) in [("a", None), ("b", soon), ("c", Some(later))] {
            assert_eq!(datagrams.push(bytes.into(), expires, now), Dropped::default());
        }
        let full = Dropped { late: 0, without_room: 1 };
        assert_eq!(datagrams.push("d".into(), None, now), full);
        let late = Dropped { late: 1, without_room: 0 };
        assert_eq!(datagrams.push("e".into(), None, soon.unwrap()), late);
        assert_eq!(datagrams.pop(now), (Some("a".into()), Dropped::default()));
        let long_after = later + Duration::from_secs(1);
        assert_eq!(datagrams.pop(long_after), (Some("e".into()), late));
        assert_eq!(datagrams.pop(long_after), (None, Dropped::default()));
        datagrams.push("f".into(), None, now);
        let mut counters = Counters::default();
        datagrams.clear(&mut counters);
        assert_eq!((datagrams.is_empty(), counters.datagrams_dropped_total), (true, 1));
    }
}

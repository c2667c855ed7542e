//! The ends of connections of the process before this one, and what is left to the one after it.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{Endpoint, Port};
use crate::io::{
    connection::Connection,
    record::{Link, Record},
};

/// The least time between stateless resets: those who get them all come back.
const PAUSE: Duration = Duration::from_millis(10);
/// Longer than any packet that a stateless reset answers.
const UNASKED: usize = 1_200;

/// Connections that are still to be told that they have ended, and the record of those there are.
#[derive(Debug)]
pub(super) struct Farewells {
    links: VecDeque<Link>,
    at: Instant,
    /// Whether the record is still to be told that all is said.
    owed: bool,
    record: Option<Record>,
    /// Slots whose connections are over, of which the record still says something. No more than there
    /// are slots.
    stale: BTreeSet<u32>,
}

impl Farewells {
    pub(super) const fn new(now: Instant) -> Self {
        Self { links: VecDeque::new(), at: now, owed: false, record: None, stale: BTreeSet::new() }
    }

    /// When the next are due.
    pub(super) fn next(&self) -> Option<Instant> {
        (!self.links.is_empty()).then_some(self.at)
    }

    /// Tells the record what it had no room for.
    fn catch_up(&mut self) {
        let Some(record) = &self.record else { return };
        while let Some(&slot) = self.stale.first()
            && record.note(slot, None)
        {
            self.stale.pop_first();
        }
        if self.owed && self.links.is_empty() {
            self.owed = !record.note_nothing_owed();
        }
    }
}

/// How many are told at once, and after what time the next, if there may be so many in one second.
fn pace(per_second: u32) -> (u32, Duration) {
    let at_once = per_second / 100;
    if 0 < at_once { (at_once, PAUSE) } else { (1, Duration::from_secs(1) / per_second.max(1)) }
}

impl Endpoint {
    /// Notes connections in `record` from now on, and ends those that were `left`.
    pub(in crate::io) fn leave(&mut self, record: Option<Record>, left: Vec<Link>, now: Instant) {
        let owed = !left.is_empty();
        // Who sends no stateless reset sends none of these.
        let silent = self.config.handshake.stateless_resets_per_second == 0;
        let links = if silent { VecDeque::new() } else { left.into() };
        self.farewells = Farewells { links, owed, record, ..Farewells::new(now) };
    }

    /// Tells peers of the process before this one that their connections have ended.
    pub(super) fn say_farewells(&mut self, now: Instant) {
        self.farewells.catch_up();
        if self.farewells.next().is_none_or(|at| now < at) {
            return;
        }
        let (at_once, pause) = pace(self.config.handshake.stateless_resets_per_second);
        self.farewells.at = now + pause;
        for _ in 0..at_once {
            let Some(&link) = self.farewells.links.front() else { return };
            if !self.say_farewell(&link) {
                return;
            }
            self.farewells.links.pop_front();
        }
    }

    /// Tells one peer. False if there is no room for that now.
    fn say_farewell(&mut self, link: &Link) -> bool {
        let home = |port: &&mut Port| port.listening && port.socket.is_home_of(link.local);
        let Some(port) = self.ports.iter_mut().find(home) else { return true };
        let mut reset = [0; UNASKED];
        let Some(length) = self.reset_key.write(&mut reset, &link.id, UNASKED) else {
            return true;
        };
        let has_room = port.out.push(link.peer, port.socket.from(link.local), &reset[..length]);
        self.counters.stateless_resets_total += u64::from(has_room);
        has_room
    }

    /// Notes a connection for the process after this one, if there is something new to note.
    pub(super) fn note(&mut self, slot: u32) {
        let Farewells { record: Some(record), stale, .. } = &mut self.farewells else { return };
        let Some(connection) = self.table.get(slot) else { return };
        let Some(link) = connection.note() else { return };
        if record.note(slot, Some(link)) {
            connection.set_noted(link);
            stale.remove(&slot);
        } else {
            self.counters.connection_notes_lost_total += 1;
        }
    }

    /// A connection is over: there is nothing to be told any more.
    pub(super) fn forget_note(&mut self, slot: u32, connection: &Connection) {
        if self.farewells.record.is_some() && connection.is_noted() {
            self.farewells.stale.insert(slot);
            self.farewells.catch_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_said_in_a_second_than_may_be() {
        for per_second in [1, 7, 99, 100, 1_000, 5_050] {
            let (at_once, pause) = pace(per_second);
            let turns = Duration::from_secs(1).div_duration_f64(pause);
            let said = f64::from(at_once) * turns;
            assert!(said <= f64::from(per_second) + 0.1, "{said} of {per_second}");
            assert!(f64::from(per_second) * 0.9 <= said, "{said} of {per_second}");
        }
    }

    #[test]
    fn what_the_record_has_no_room_for_it_is_told_later() {
        let (record, changes) = Record::of_capacity(2);
        let now = Instant::now();
        let mut farewells = Farewells { record: Some(record), ..Farewells::new(now) };
        farewells.owed = true;
        farewells.stale.extend([1, 2, 3]);
        farewells.catch_up();
        assert_eq!(farewells.stale.len(), 1);
        assert_eq!(changes.try_iter().count(), 2);
        farewells.catch_up();
        assert!(farewells.stale.is_empty() && !farewells.owed);
    }
}

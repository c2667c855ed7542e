//! The ends of connections of the process before this one, and what is left to the one after it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::Endpoint;
use crate::io::{connection::Connection, record::Link};

/// Stateless resets that are sent at once: those who get them all come back.
const AT_ONCE: usize = 50;
/// Time between.
const PAUSE: Duration = Duration::from_millis(10);
/// Longer than any packet that a stateless reset answers.
const UNASKED: usize = 1_200;

/// Connections that are still to be told that they have ended.
#[derive(Debug)]
pub(super) struct Farewells {
    links: VecDeque<Link>,
    at: Instant,
}

impl Farewells {
    pub(super) fn new(links: Vec<Link>, now: Instant) -> Self {
        Self { links: links.into(), at: now }
    }

    /// When the next are due.
    pub(super) fn next(&self) -> Option<Instant> {
        (!self.links.is_empty()).then_some(self.at)
    }
}

impl Endpoint {
    /// Tells peers of the process before this one that their connections have ended.
    pub(super) fn say_farewells(&mut self, now: Instant) {
        if self.farewells.next().is_none_or(|at| now < at) {
            return;
        }
        self.farewells.at = now + PAUSE;
        for _ in 0..AT_ONCE {
            let Some(link) = self.farewells.links.pop_front() else { return };
            let home =
                |port: &&mut super::Port| port.listening && port.socket.is_home_of(link.local);
            let Some(port) = self.ports.iter_mut().find(home) else { continue };
            let mut reset = [0; UNASKED];
            if let Some(length) = self.reset_key.write(&mut reset, &link.id, UNASKED) {
                port.out.push(link.peer, port.socket.from(link.local), &reset[..length]);
                self.counters.stateless_resets_total += 1;
            }
        }
    }

    /// Notes a connection for the process after this one, if there is something new to note.
    pub(super) fn note(&mut self, slot: u32) {
        let Some(record) = &self.site.record else { return };
        if let Some(link) = self.table.get(slot).and_then(Connection::take_note) {
            let noted = record.note(slot, Some(link));
            self.counters.connection_notes_lost_total += u64::from(!noted);
        }
    }

    /// A connection is over: there is nothing to be told any more.
    pub(super) fn forget_note(&mut self, slot: u32, connection: &Connection) {
        if let Some(record) = self.site.record.as_ref().filter(|_| connection.is_noted()) {
            let noted = record.note(slot, None);
            self.counters.connection_notes_lost_total += u64::from(!noted);
        }
    }
}

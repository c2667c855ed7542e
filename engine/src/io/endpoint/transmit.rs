//! What connections send, and when they want attention again.

use std::time::Instant;

use super::{Endpoint, Port};
use crate::{
    io::{
        connection::Context,
        connection_table::{generation_of, slot_of},
        udp::{Built, Limits, Written},
    },
    metrics::Counters,
};

/// Bytes that one connection sends before the others have their turn.
const SEND_SHARE: usize = 256 << 10;
/// Bytes of the largest packet that is ever written.
const PACKET_MAX: usize = 1_500;

impl Endpoint {
    /// Lets a connection write what it has, then removes it if nothing is left of it, or sees to
    /// its next deadline. Says whether it has more than its share. It must have been taken off the
    /// list.
    pub(in crate::io) fn transmit(&mut self, slot: u32, now: Instant) -> bool {
        let mut more = false;
        let Some((connection, mut context)) = self.connection(slot, now) else { return more };
        let sends = connection.pump(&mut context);
        connection.follow_path(context.counters, context.now);
        self.note(slot);
        self.give_ids(slot);
        while let Some(connection) = self.table.get(slot) {
            let port = &mut self.ports[connection.socket];
            if port.out.is_full() {
                flush(port, &mut self.counters);
            }
            if port.out.is_full() {
                // What the socket does not take is not sealed yet.
                if !std::mem::replace(&mut connection.stalled, true) {
                    port.stalled.push(slot);
                }
                break;
            }
            let Port { socket, out, .. } = port;
            let limits =
                Limits { datagram_max: PACKET_MAX, bytes_max: SEND_SHARE, segments_max: 64 };
            let mut strays = Vec::new();
            let (pool, counters) = (&mut self.pool, &mut self.counters);
            let (numbered, stopped) = (&mut self.numbered, self.stopped);
            let mut context = Context { pool, counters, numbered, now, stopped };
            let built = out.build(limits, socket.gso(), |room| -> Written {
                loop {
                    let (length, info) = connection.write(room, &mut context)?;
                    if socket.is_home_of(info.from) {
                        return Some((length, info.to, socket.from(info.from)));
                    }
                    strays.push((info, room[..length].to_vec()));
                }
            });
            self.forward_strays(slot, &strays);
            let port_full =
                self.table.get(slot).is_none_or(|it| self.ports[it.socket].out.is_full());
            let Some(connection) = self.table.get(slot) else { break };
            match built {
                Built::More if port_full => {}
                Built::More => {
                    more = true;
                    break;
                }
                Built::Done => {
                    let counters = &mut self.counters;
                    let pool = &mut self.pool;
                    let (numbered, stopped) = (&mut self.numbered, self.stopped);
                    let mut context = Context { pool, counters, numbered, now, stopped };
                    if !connection.pump(&mut context) && !connection.written(&mut context) {
                        break;
                    }
                }
            }
        }
        self.note_owed(slot, sends);
        self.settle(slot);
        more
    }

    /// Takes note of what a connection's peer owes, that has just been sent something or not.
    fn note_owed(&mut self, slot: u32, sends: bool) {
        let Some(connection) = self.table.get(slot) else { return };
        if sends && !std::mem::replace(&mut connection.owed, true) {
            self.owing += 1;
        }
        let held = connection.has_waiting();
        self.held -= usize::from(std::mem::replace(&mut connection.held, held));
        self.held += usize::from(held);
    }

    /// Sends packets of a path of another socket: the peer has turned to another of our ports.
    fn forward_strays(&mut self, slot: u32, strays: &[(quiche::SendInfo, Vec<u8>)]) {
        for (info, packet) in strays {
            let home = self.ports.iter().position(|port| port.socket.is_home_of(info.from));
            let Some(home) = home else { continue };
            let Port { socket, out, .. } = &mut self.ports[home];
            out.push(info.to, socket.from(info.from), packet);
            if let Some(connection) = self.table.get(slot) {
                connection.socket = home;
            }
        }
    }

    /// Gives the peer ids to move with.
    fn give_ids(&mut self, slot: u32) {
        let Some(connection) = self.table.get(slot) else { return };
        while connection.wants_id() {
            let generation = generation_of(connection.session);
            let Ok(id) = self.ids.issue(slot, generation) else { return };
            let Ok(token) = self.reset_key.token(&id) else { return };
            let id = quiche::ConnectionId::from_ref(&id);
            if connection.quic().new_scid(&id, token, false).is_err() {
                return;
            }
        }
    }

    /// Removes a connection of which nothing is left, or sets its next deadline.
    fn settle(&mut self, slot: u32) {
        let Some(connection) = self.table.get(slot) else { return };
        if connection.is_over() && !connection.has_events() {
            if let Some(mut connection) = self.table.remove(slot) {
                self.forget_note(slot, &connection);
                connection.clear(&mut self.counters);
                self.owing -= usize::from(connection.owed);
                self.held -= usize::from(connection.held);
                self.counters.connections -= 1;
                self.site.hub.connection_over();
            }
            return;
        }
        if connection.has_events() {
            self.attend(slot);
            return;
        }
        let Some(deadline) = connection.deadline(self.stopped) else { return };
        if connection.timer.is_none_or(|timer| self.wheel.tick_at(deadline) < timer) {
            connection.timer = Some(self.wheel.set(deadline, connection.session));
        }
    }

    /// Lets connections see to what is due.
    pub(in crate::io) fn handle_timeouts(&mut self, now: Instant) {
        self.say_farewells(now);
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(now, &mut fired);
        for (tick, session) in fired.drain(..) {
            let slot = slot_of(session);
            let Some((connection, mut context)) = self.connection(slot, now) else { continue };
            if connection.session != session || connection.timer != Some(tick) {
                continue;
            }
            connection.timer = None;
            if connection.deadline(context.stopped).is_some_and(|deadline| deadline <= now) {
                connection.handle_timeout(&mut context);
                self.attend(slot);
            } else {
                self.settle(slot);
            }
        }
        self.fired = fired;
    }

    /// Hands what was written to the system.
    pub(in crate::io) fn flush(&mut self) {
        for index in 0..self.ports.len() {
            let port = &mut self.ports[index];
            if !port.out.is_empty() {
                flush(port, &mut self.counters);
            }
            if port.blocked.is_none() && !port.stalled.is_empty() {
                for slot in std::mem::take(&mut port.stalled) {
                    if let Some(connection) = self.table.get(slot) {
                        connection.stalled = false;
                    }
                    self.attend(slot);
                }
            }
        }
    }
}

fn flush(port: &mut Port, counters: &mut Counters) {
    let flushed = port.out.flush(&mut port.socket);
    counters.udp_send_calls_total += flushed.calls;
    counters.udp_sent_total += flushed.datagrams;
    counters.udp_sent_bytes_total += flushed.bytes;
    counters.udp_send_refused_total += flushed.refused;
    counters.udp_send_blocked_total += u64::from(flushed.blocked.is_some());
    port.blocked = flushed.blocked;
}

//! The connections of one worker, and whose a packet is.

use std::{collections::HashMap, net::SocketAddr};

use slab::Slab;

use super::{
    cid::{Issuer, SLOTS_MAX},
    connection::{Connection, Role},
    packet::{CID_MAX, Packet},
};
use crate::transport::SessionId;

/// Low bits of a session's number, which are its slot.
const SLOT_BITS: u32 = 24;

/// Connections in slots.
#[derive(Default)]
pub(super) struct ConnectionTable {
    /// Each has memory of its own: the table would move kilobytes of every one when it grows.
    connections: Slab<Box<Connection>>,
    /// Accepted connections whose client may not know our id yet.
    initial: HashMap<InitialKey, u32>,
    /// Connections that we opened.
    clients: Vec<u32>,
    sequence: u64,
}

/// What a client's first packets are known by: where they come from, and the id that it chose.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct InitialKey {
    peer: SocketAddr,
    id: [u8; CID_MAX],
    length: usize,
}

impl InitialKey {
    /// The key of packets from `peer` to `id`; `None` if the id is longer than one can be.
    pub(super) fn new(peer: SocketAddr, id: &[u8]) -> Option<Self> {
        let mut bytes = [0; CID_MAX];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self { peer, id: bytes, length: id.len() })
    }
}

impl ConnectionTable {
    /// Connections that we opened.
    pub(super) const fn clients(&self) -> usize {
        self.clients.len()
    }

    /// The slot and session number of the connection that [`Self::insert`] will take next.
    pub(super) fn next(&self) -> Option<(u32, SessionId)> {
        let slot = u32::try_from(self.connections.vacant_key()).ok()?;
        ((slot as usize) < SLOTS_MAX)
            .then_some((slot, SessionId((self.sequence + 1) << SLOT_BITS | u64::from(slot))))
    }

    /// Takes a connection that was made for [`Self::next`].
    pub(super) fn insert(&mut self, connection: Connection) -> u32 {
        self.sequence += 1;
        if let Some(key) = connection.initial {
            self.initial.insert(key, slot_of(connection.session));
        }
        let slot = slot_of(connection.session);
        if connection.role != Role::Server {
            self.clients.push(slot);
        }
        let key = self.connections.insert(Box::new(connection));
        debug_assert_eq!(key, slot as usize, "the slot was not the next");
        slot
    }

    /// The connection in a slot.
    pub(super) fn get(&mut self, slot: u32) -> Option<&mut Connection> {
        self.connections.get_mut(slot as usize).map(Box::as_mut)
    }

    /// The slot of a session that has not ended.
    pub(super) fn slot(&self, session: SessionId) -> Option<u32> {
        let slot = slot_of(session);
        let connection = self.connections.get(slot as usize)?;
        (connection.session == session).then_some(slot)
    }

    /// Removes what a slot holds.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Box<Connection>> {
        let connection = self.connections.try_remove(slot as usize)?;
        if let Some(key) = connection.initial {
            self.initial.remove(&key);
        }
        if connection.role != Role::Server {
            self.clients.retain(|client| *client != slot);
        }
        Some(connection)
    }

    /// The client knows our id: its first packets' key is needed no more.
    pub(super) fn forget_initial(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot as usize)
            && let Some(key) = connection.initial.take()
        {
            self.initial.remove(&key);
        }
    }

    /// Whose a packet is.
    pub(super) fn find(&self, packet: &Packet<'_>, from: SocketAddr, ids: &Issuer) -> Option<u32> {
        match packet {
            Packet::Short { destination } => self.by_id(&destination[..], ids),
            Packet::Initial { destination, .. } | Packet::Long { destination } => {
                self.by_id(destination, ids).or_else(|| {
                    let key = InitialKey::new(from, destination)?;
                    self.initial.get(&key).copied()
                })
            }
            Packet::OtherVersion { .. } => None,
        }
    }

    /// The `index`-th connection that we opened to this address and that is up.
    pub(super) fn find_client(&self, peer: SocketAddr, index: usize) -> Option<u32> {
        let ours = |slot: &&u32| {
            let connection = self.connections.get(**slot as usize);
            connection.is_some_and(|connection| connection.peer == peer && connection.is_up())
        };
        self.clients.iter().filter(ours).nth(index).copied()
    }

    fn by_id(&self, id: &[u8], ids: &Issuer) -> Option<u32> {
        let (slot, generation) = ids.read(id.try_into().ok()?)?;
        let connection = self.connections.get(slot as usize)?;
        let same = generation_of(connection.session) == generation && connection.has_id(id);
        same.then_some(slot)
    }

    /// Every slot in use.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.connections.iter().map(|(_, connection)| slot_of(connection.session))
    }
}

/// Where a session's connection is.
pub(super) const fn slot_of(session: SessionId) -> u32 {
    let [low, middle, high, ..] = session.0.to_le_bytes();
    u32::from_le_bytes([low, middle, high, 0])
}

/// The generation that stands in the ids of a session's connection.
pub(super) const fn generation_of(session: SessionId) -> u16 {
    let [_, _, _, low, high, ..] = session.0.to_le_bytes();
    u16::from_le_bytes([low, high])
}

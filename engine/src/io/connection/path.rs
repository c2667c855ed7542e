//! Paths that change under a connection: what quiche leaves to its user, or leaves undone.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Connection, DATAGRAM_OVERHEAD, PATH_MIN};
use crate::metrics::Counters;

/// How long packets are looked after that were under way to an address that the peer has left.
const LEFT_BEHIND: Duration = Duration::from_secs(10);
/// How long to wait for the proof that a new path is the peer's before asking again.
const PROOF: Duration = Duration::from_millis(100);
/// Bytes that may be sent on a path without that proof, per byte that came on it (RFC 9000 section
/// 8.1).
const AMPLIFICATION: u64 = 3;
/// As many of them are kept for questions and nudges.
const RESERVE: usize = 640;
/// Bytes of a packet that holds one of these.
const SMALL_PACKET: usize = 80;

impl Connection {
    /// Writes a packet that asks for an acknowledgement of those under way to an address that the
    /// peer has left.
    ///
    /// quiche takes packets for lost when a later one of the same path is acknowledged. After the
    /// peer moved, nothing is sent on the old path any more, so what was lost there stays lost and
    /// its streams stand still. Therefore a last packet is written on the old path, but sent to
    /// where the peer is now.
    pub(super) fn write_nudge(&mut self, room: &mut [u8]) -> Option<(usize, quiche::SendInfo)> {
        let (local, peer) = self.path_in_use()?;
        while let Some(index) = self.nudges.checked_sub(1) {
            self.nudges = index;
            let Some(&(from, to)) = self.paths.get(index) else { continue };
            if (from, to) != (local, peer)
                && self.quic.send_ack_eliciting_on_path(from, to).is_ok()
                && let Ok((length, info)) =
                    self.quic.send_on_path(small(room), Some(from), Some(to))
            {
                return Some((length, quiche::SendInfo { from: local, to: peer, ..info }));
            }
        }
        None
    }

    /// Writes a packet on the path in use, whatever quiche would do on others first.
    ///
    /// A path that is to be proven goes first with quiche, even if the peer has left it and it may
    /// send nothing, since it has sent three times what came on it: then nothing is ever sent on
    /// any path, and the session dies although both ends hear each other.
    pub(super) fn write_past_other_paths(
        &mut self,
        room: &mut [u8],
    ) -> quiche::Result<(usize, quiche::SendInfo)> {
        let (local, peer) = self.path_in_use().ok_or(quiche::Error::Done)?;
        self.quic.send_on_path(room, Some(local), Some(peer))
    }

    /// How much of `room` a packet may fill while there is no proof that the path in use is the
    /// peer's.
    ///
    /// Until then little may be sent on it. Were all of that used for stream data and the peer moved
    /// again, no nudge could be sent on that path any more: data lost there would stay lost. So a
    /// rest is kept.
    pub(super) fn fillable(&mut self, room: usize) -> usize {
        let Some(path) = self.quic.path_stats().find(|path| path.active) else { return room };
        if self.quic.is_path_validated(path.local_addr, path.peer_addr) != Ok(false) {
            return room;
        }
        let allowed = (AMPLIFICATION * path.recv_bytes).saturating_sub(path.sent_bytes);
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        if RESERVE + SMALL_PACKET <= allowed {
            room.min(allowed - RESERVE)
        } else if std::mem::take(&mut self.asks) {
            room.min(SMALL_PACKET)
        } else {
            0
        }
    }

    /// Our address and the peer's on the path that quiche sends on.
    pub(super) fn path_in_use(&self) -> Option<(SocketAddr, SocketAddr)> {
        let path = self.quic.path_stats().find(|path| path.active)?;
        Some((path.local_addr, path.peer_addr))
    }

    /// Takes note of what quiche says of the path.
    pub(in crate::io) fn follow_path(&mut self, counters: &mut Counters, now: Instant) {
        while let Some(event) = self.quic.path_event_next() {
            match event {
                quiche::PathEvent::PeerMigrated(_, peer) => {
                    tracing::debug!(session = %self.session, from = %self.peer, to = %peer, "moved");
                    self.left_until = Some(now + LEFT_BEHIND);
                    self.nudges = self.paths.len();
                    self.peer = peer;
                    self.path_mtu = PATH_MIN;
                    counters.migrations_total += 1;
                }
                quiche::PathEvent::New(local, peer) => {
                    self.paths.push((local, peer));
                    self.left_until = Some(now + LEFT_BEHIND);
                    self.heard = Some((local, peer));
                    self.asks = true;
                    self.prove_at = Some(now + PROOF);
                }
                quiche::PathEvent::Closed(local, peer) => {
                    self.paths.retain(|path| *path != (local, peer));
                }
                quiche::PathEvent::PmtuUpdated { peer, pmtu, .. } if peer == self.peer => {
                    let narrower = pmtu < self.path_mtu;
                    self.path_mtu = pmtu;
                    if narrower {
                        let fits = pmtu.saturating_sub(DATAGRAM_OVERHEAD);
                        self.quic.dgram_purge_outgoing(|datagram| fits < datagram.len());
                    }
                }
                _ => {}
            }
        }
        while self.quic.retired_scid_next().is_some() {}
        // What a path lost that the peer has left says nothing of how wide the one in use is.
        let is_settled = self.left_until.is_none_or(|until| until <= now);
        if is_settled && self.width.is_due(now) {
            let counted = self.quic.stats().into();
            if self.width.is_doubtful(counted) {
                self.search_width(counters);
            }
        }
    }

    /// A timeout of quiche's has passed.
    pub(super) fn suspect_silence(&mut self, counters: &mut Counters) {
        let counted = self.quic.stats().into();
        if self.width.is_silent(counted) {
            self.search_width(counters);
        }
    }

    /// quiche searches the path's width once. If wide packets vanish later, it goes on sending
    /// them; so it is asked to search again.
    fn search_width(&mut self, counters: &mut Counters) {
        if self.quic.pmtu().is_some_and(|pmtu| PATH_MIN < pmtu) {
            counters.path_mtu_revalidations_total += 1;
            self.quic.revalidate_pmtu();
        }
    }

    /// quiche asks a peer that moved for a proof, but not again if the answer is lost and the
    /// question is not; nor does it make sure that its own answers are sent. Without a proof it
    /// sends no more than three times what it receives.
    ///
    /// If losses made it wait three times, it takes the path for failed and sends on one that the
    /// peer has left, until it hears of the peer again: so the path that the peer was heard on last
    /// is asked about, too.
    pub(super) fn prove_path(&mut self, now: Instant) {
        self.prove_at = None;
        for (local, peer) in [self.path_in_use(), self.heard].into_iter().flatten() {
            if self.quic.is_path_validated(local, peer) == Ok(false)
                && self.quic.probe_path(local, peer).is_ok()
            {
                self.asks = true;
                self.prove_at = Some(now + PROOF);
            }
        }
    }
}

/// As much of a buffer as a small packet fills.
fn small(room: &mut [u8]) -> &mut [u8] {
    let length = room.len().min(SMALL_PACKET);
    &mut room[..length]
}

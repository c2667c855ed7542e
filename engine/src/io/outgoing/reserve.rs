//! What objects leave of the connection's flow control to messages.
//!
//! A subscriber that does not read objects may use up its connection's window; it must still be
//! told that its subscription is over. quiche does not say how much the peer allows, only what it
//! takes now, which is the lesser of that and of what congestion control leaves. Where it takes
//! clearly less than congestion control would leave, the peer's window is what holds it.

use crate::io::quic::Quic;

/// Bytes left to messages.
const KEPT: usize = 4 << 10;
/// Above this much room there is no need to look.
const NEAR: usize = 128 << 10;
/// Windows smaller than this cannot spare anything.
const WINDOW_MIN: u64 = 64 << 10;
/// Bytes by which counts of what is under way may be off: packets that carry no data.
const SLACK: usize = 4 << 10;
/// The first unidirectional stream of either side: the control stream.
const CONTROL: [u64; 2] = [2, 3];

/// Found out once for each time that streams hand over.
#[derive(Debug, Default)]
pub(super) struct Reserve(Option<usize>);

impl Reserve {
    /// Bytes of room that objects must leave, if so many would be left anyway.
    pub(super) fn kept(&mut self, quic: &mut Quic, left: usize) -> usize {
        if KEPT <= left {
            return 0;
        }
        *self.0.get_or_insert_with(|| if is_window_nearly_used(quic) { KEPT } else { 0 })
    }
}

fn is_window_nearly_used(quic: &mut Quic) -> bool {
    let control = CONTROL[usize::from(quic.is_server())];
    let Ok(room) = quic.stream_capacity(control) else { return false };
    if NEAR < room {
        return false;
    }
    let Some(peer) = quic.peer_transport_params() else { return false };
    if peer.initial_max_stream_data_uni.min(peer.initial_max_data) < WINDOW_MIN {
        return false;
    }
    let stats = quic.stats();
    let under_way = stats.sent_bytes.saturating_sub(stats.acked_bytes + stats.lost_bytes);
    let window = quic.path_stats().find(|path| path.active).map_or(0, |path| path.cwnd);
    let under_way = usize::try_from(under_way).unwrap_or(usize::MAX);
    room.saturating_add(under_way).saturating_add(SLACK) < window
}

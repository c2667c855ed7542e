//! What a relay does when nothing comes.

use std::time::Instant;

use aip_codec::moqt::error_code::{RequestCode, ResetCode};

use super::{Relay, peer::PeerIndex, track::TrackIndex};

impl Relay {
    /// Sees to it that a session is looked at when it wants to be, at the latest.
    ///
    /// A timer that is due before that stays: what a session waits for changes with every object,
    /// and one look for nothing now and then costs less than two changes of the table each time.
    pub(super) fn arm_session_timer(&mut self, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let has_changed = std::mem::replace(&mut peer.timer_is_stale, false);
        if !peer.session.take_sooner() && !has_changed {
            debug_assert!(
                peer.session.poll_timeout().is_none_or(|wanted| peer.is_looked_at_by(wanted)),
                "sending alone makes nothing due that is not told"
            );
            return;
        }
        let Some(wanted) = peer.session.earliest_timeout() else { return };
        if peer.is_looked_at_by(wanted) {
            return;
        }
        if let Some(timer) = peer.timer.replace(wanted) {
            self.session_timers.remove(&(timer, index));
        }
        self.session_timers.insert((wanted, index));
    }

    /// Looks at a track again at `when`.
    pub(super) fn arm_track_timer(&mut self, track: TrackIndex, when: Instant) {
        self.track_timers.insert((when, track));
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let session = self.session_timers.first().map(|(when, _)| *when);
        let track = self.track_timers.first().map(|(when, _)| *when);
        let cache = self.retention.next_timeout(self.config.cache_age_max);
        let asks = self.asks_again.first().map(|(when, _)| *when);
        let namespaces = self.mesh.believes_at();
        [session, track, cache, asks, namespaces].into_iter().flatten().min()
    }

    pub(super) fn sessions_timed_out(&mut self, now: Instant) {
        while let Some(&(when, index)) = self.session_timers.first() {
            if now < when {
                break;
            }
            self.session_timers.pop_first();
            let Some(peer) = self.peers.get_mut(index.0) else { continue };
            peer.timer = None;
            peer.session.handle_timeout(now);
            super::touch(&mut self.touched, peer, index);
            self.drain_events(index, now);
        }
    }

    pub(super) fn tracks_timed_out(&mut self, now: Instant) {
        while let Some(&(when, index)) = self.track_timers.first() {
            if now < when {
                break;
            }
            self.track_timers.pop_first();
            self.track_timed_out(index, now);
        }
    }

    fn track_timed_out(&mut self, index: TrackIndex, now: Instant) {
        let Some(track) = self.tracks.get_mut(index.0) else { return };
        let late: Vec<_> = track
            .waiting
            .iter()
            .filter(|waiting| track.upstreams.is_empty() && waiting.deadline <= now)
            .map(|waiting| waiting.key)
            .collect();
        let silent: Vec<_> = track
            .upstreams
            .iter()
            .filter(|upstream| !upstream.established && upstream.deadline <= now)
            .map(|upstream| upstream.key)
            .collect();
        let lingered = track.linger_until.is_some_and(|until| until <= now);
        for key in late {
            self.refuse_waiting(index, key, RequestCode::TIMEOUT, "no publisher came in time");
        }
        for key in silent {
            if let Some(session) = self.session(key.peer) {
                session.cancel(key.request, ResetCode::CANCELLED);
            }
            self.disown(key);
            self.upstream_gone(index, key, RequestCode::TIMEOUT, now);
        }
        if lingered {
            self.end_linger(index, now);
        }
        self.leave_those_going_away(index, now);
        self.upstream_fetches_timed_out(index, now);
        self.passed_on_timed_out(index, now);
        self.pump_track_fetches(index, now);
        self.forget_track_if_unused(index);
    }
}

//! REDIRECT of publishers: passed on to who asked, and remembered for as long as it may be
//! (draft-22 section 12.3). This relay itself goes nowhere for it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aip_codec::{
    Version,
    moqt::{
        error_code::RequestCode,
        message::{Reason, RequestError},
        name::FullTrackName,
    },
};

use super::{Relay, namespace_tree::RequestKey, track::TrackIndex};
use crate::transport::Side;

/// Redirects that publishers have given, and until when they stand.
#[derive(Debug, Default)]
pub(super) struct Redirects {
    by_track: BTreeMap<FullTrackName, (Instant, RequestError)>,
}

impl Relay {
    /// Refuses a request as the publisher that it was for has refused ours.
    pub(super) fn reject_like(&mut self, key: RequestKey, error: &RequestError) {
        let Some(session) = self.session(key.peer) else { return };
        let mut error = error.clone();
        let leads_away = error.redirect.as_ref().is_some_and(|there| !there.uri.is_empty());
        if leads_away && session.side() == Side::Client {
            // A client must not send its server elsewhere.
            let reason = Reason::new("the track is elsewhere");
            let code = RequestCode::DOES_NOT_EXIST;
            error = RequestError { code, retry_interval: 0, reason, redirect: None };
        }
        session.reject(key.request, error);
    }

    /// A publisher refuses a SUBSCRIBE of ours and names another place. If it was the only one
    /// asked, whoever waits is sent there.
    pub(super) fn note_redirect(
        &mut self,
        index: TrackIndex,
        key: RequestKey,
        error: &RequestError,
        now: Instant,
    ) {
        let Some(track) = self.tracks.get(index.0) else { return };
        let is_last = track.upstreams.iter().all(|upstream| upstream.key == key);
        let Some(mut there) = error.redirect.clone().filter(|_| is_last) else { return };
        let version = self.peers[key.peer.0].session.version();
        if version < Version::Draft20 && there.name.is_empty() && there.namespace.is_root() {
            // In these drafts nothing is the same as before; later ones take it by its word.
            there.namespace = track.name.namespace().clone();
            there.name = track.name.name().clone();
        }
        let error = RequestError { redirect: Some(there), ..error.clone() };
        let name = track.name.clone();
        let subscribes: Vec<RequestKey> = track
            .waiting
            .iter()
            .filter(|waiting| matches!(waiting.body, super::track::WaitingBody::Subscribe(_)))
            .map(|waiting| waiting.key)
            .collect();
        for waiting in subscribes {
            self.take_waiting(index, waiting);
            self.reject_like(waiting, &error);
            self.answered.push_back(waiting.peer);
        }
        self.remember_redirect(name, error, now);
    }

    fn remember_redirect(&mut self, name: FullTrackName, error: RequestError, now: Instant) {
        let Some(milliseconds) = error.retry_interval.checked_sub(1).filter(|time| 0 < *time)
        else {
            return;
        };
        let life = Duration::from_millis(milliseconds).min(self.config.redirect_age_max);
        let by_track = &mut self.redirects.by_track;
        if self.config.redirects_max <= by_track.len() {
            by_track.retain(|_, (until, _)| now < *until);
        }
        if by_track.len() < self.config.redirects_max {
            by_track.insert(name, (now + life, error));
        }
    }

    /// Sends a subscriber where an earlier one was sent, if that still stands.
    pub(super) fn redirect_again(
        &mut self,
        key: RequestKey,
        name: &FullTrackName,
        now: Instant,
    ) -> bool {
        let Some((until, error)) = self.redirects.by_track.get(name) else { return false };
        let Some(left) = until.checked_duration_since(now).filter(|left| !left.is_zero()) else {
            self.redirects.by_track.remove(name);
            return false;
        };
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let error = RequestError { retry_interval: left, ..error.clone() };
        self.reject_like(key, &error);
        true
    }
}

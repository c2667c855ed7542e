//! Subscribers that cannot keep up, and peers that do not read (draft-22 section 5.2).
//!
//! An untimed track is sent whole or ended: its subscription is over, TOO_FAR_BEHIND, once too much
//! waits for it or nothing has left for too long. A timed track loses its least important and
//! oldest groups instead, but ends like any other if nothing leaves at all.

use std::{cmp::Reverse, time::Instant};

use aip_codec::moqt::{
    error_code::{PublishDoneCode, ResetCode},
    id::RequestId,
};

use super::{
    Event, Misbehavior, Session,
    request::{Kind, Publication, Request},
};
use crate::{account::Account, stream_map::Handle, transport::StreamId};

/// Streams in a row that a timed track may give up before its subscriber counts as waiting, though
/// nothing waits: each is one that the peer must still hear of.
const GIVEN_UP_MAX: u32 = 64;

/// How a stream of ours stands that has not ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// Whether its subscriber cannot keep up.
    pub(crate) is_behind: bool,
    /// Whether its objects can be too late.
    pub(crate) is_timed: bool,
}

impl Session {
    /// Whether a subscriber of ours cannot keep up: call it before more is sent. Too much of a timed
    /// track is cut down here, so that it is not behind.
    pub fn is_behind(&mut self, subscription: RequestId, now: Instant) -> bool {
        let subscription = self.requests.handle(subscription);
        subscription.is_some_and(|subscription| self.is_owner_behind(subscription, now))
    }

    /// How a stream of ours stands, and whether its subscriber cannot keep up; `None` if it has ended.
    pub(crate) fn standing(&mut self, stream: Handle<StreamId>, now: Instant) -> Option<Standing> {
        let outgoing = self.outgoing.at(stream)?;
        let (owner, is_timed) = (outgoing.owner, outgoing.timed.is_some());
        let is_behind = self.is_owner_behind(owner, now);
        // It may have been given up just now.
        let is_open = !is_timed || self.is_open(stream);
        is_open.then_some(Standing { is_behind, is_timed })
    }

    fn is_owner_behind(&mut self, owner: Handle<RequestId>, now: Instant) -> bool {
        self.clock = self.clock.max(now);
        let Some(publication) = self.requests.publication_at(owner) else { return false };
        if publication.is_idle() {
            publication.waits_since = Some(now);
        }
        let since = *publication.waits_since.get_or_insert(now);
        let (waits, is_timed) = (publication.account.total(), publication.timed);
        self.watch_queues();
        let limits = &self.config.delivery;
        let standing_bytes_max = limits.standing_bytes_max;
        if waits <= standing_bytes_max {
            return limits.queued_bytes_max < waits;
        }
        if is_timed {
            self.shed(owner.key, standing_bytes_max);
            return false;
        }
        limits.queued_bytes_max < waits || since + limits.standstill_max <= now
    }

    /// Resets streams of a timed subscription, the least important first and of those the oldest
    /// group, until no more than this waits.
    fn shed(&mut self, subscription: RequestId, bytes_max: usize) {
        while bytes_max < self.account_of(subscription).total()
            && let Some(stream) = self.least_important_stream(subscription)
        {
            self.reset_stream(stream, ResetCode::DELIVERY_TIMEOUT);
        }
    }

    fn least_important_stream(&self, subscription: RequestId) -> Option<StreamId> {
        let Some(Request { kind: Kind::Publication(publication), .. }) =
            self.requests.get(subscription)
        else {
            return None;
        };
        let key = |stream: &StreamId| {
            let outgoing = self.outgoing.get(*stream)?;
            let group = outgoing.timed.as_ref()?.group;
            Some((Reverse(outgoing.precedence.publisher_priority), group, *stream))
        };
        publication.streams.iter().filter_map(key).min().map(|(.., stream)| stream)
    }

    /// The subscriber of ours that is most in the way: the least important, and of those the one
    /// for which most waits. `None` if nothing waits for any.
    pub fn heaviest_subscriber(&self) -> Option<RequestId> {
        let mut heaviest: Option<((u8, usize, RequestId), RequestId)> = None;
        for (_, outgoing) in self.outgoing.iter() {
            let owner = outgoing.owner.key;
            let waits = self.account_of(owner).total();
            if 0 < waits {
                let key = (outgoing.precedence.subscriber_priority, waits, owner);
                if heaviest.is_none_or(|(other, _)| other < key) {
                    heaviest = Some((key, owner));
                }
            }
        }
        heaviest.map(|(_, request)| request)
    }

    /// The FETCH or call of ours to answer for which most waits. `None` if nothing waits for any.
    pub fn heaviest_answer(&self) -> Option<RequestId> {
        let mut heaviest: Option<(usize, RequestId)> = None;
        for (_, outgoing) in self.outgoing.iter() {
            let owner = outgoing.owner.key;
            let is_subscriber = self.account_of(owner) != Account::ZERO;
            if !is_subscriber && 0 < outgoing.account.bytes {
                heaviest = heaviest.max(Some((outgoing.account.bytes, owner)));
            }
        }
        heaviest.map(|(_, request)| request)
    }

    /// Ends a subscription that cannot keep up: resets its streams and says why.
    pub fn end_behind(&mut self, subscription: RequestId) {
        let code = PublishDoneCode::TOO_FAR_BEHIND;
        self.reset_streams_of(subscription, ResetCode::TOO_FAR_BEHIND);
        self.publish_done(subscription, code, code.name());
    }

    /// Resets the answer to a FETCH, or our side of a call, and forgets it.
    pub fn give_up_answer(&mut self, request: RequestId, code: ResetCode) {
        self.cancel_streams(request, code);
        // What is left of a call that was over but for its last bytes.
        let left: Vec<StreamId> = self.streams_left_of(request);
        for stream in left {
            self.reset_stream(stream, code);
        }
    }

    fn streams_left_of(&self, request: RequestId) -> Vec<StreamId> {
        let all = self.outgoing.iter();
        all.filter(|(_, outgoing)| outgoing.owner.key == request)
            .map(|(stream, _)| stream)
            .collect()
    }

    /// Something waits: looks at the queues again before long.
    pub(super) fn watch_queues(&mut self) {
        if self.queues_watched_at.is_none() {
            let often = self.config.delivery.standstill_max / 4;
            self.queues_watched_at = Some(self.clock + often);
            self.sooner = true;
        }
    }

    /// Looks for queues from which nothing leaves.
    pub(super) fn look_at_queues(&mut self, now: Instant) {
        if self.queues_watched_at.is_none_or(|when| now < when) {
            return;
        }
        self.queues_watched_at = None;
        let limits = self.config.delivery.clone();
        if 0 < self.messages.bytes {
            let since = *self.messages_wait_since.get_or_insert(now);
            if since + limits.message_stall_max <= now {
                self.close_on_error(Err(Misbehavior::MessagesNotRead.into()));
                return;
            }
            self.watch_queues();
        }
        let mut behind = Vec::new();
        let mut waits = false;
        self.requests.for_each_publication(|request, publication| {
            if publication.is_idle() {
                publication.waits_since = None;
                return;
            }
            let since = *publication.waits_since.get_or_insert(now);
            let stalled = since + limits.stall_max <= now;
            let heavy = !publication.timed
                && limits.standing_bytes_max < publication.account.total()
                && since + limits.standstill_max <= now;
            if stalled || heavy {
                behind.push(request);
            } else {
                waits = true;
            }
        });
        behind.sort_unstable();
        for request in behind {
            self.events.push_back(Event::TooFarBehind { request });
        }
        if waits {
            self.watch_queues();
        }
    }
}

impl Publication {
    /// Whether nothing waits, nor was much given up since something last left.
    const fn is_idle(&self) -> bool {
        self.account.bytes == 0 && self.given_up < GIVEN_UP_MAX
    }
}

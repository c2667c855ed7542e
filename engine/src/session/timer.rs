//! What a session does when nothing comes.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Instant,
};

use super::{Misbehavior, Session, State};
use crate::transport::StreamId;

/// Streams with a begun message or object, and when it must be whole.
#[derive(Debug, Default)]
pub(super) struct Partial {
    by_stream: BTreeMap<StreamId, (Instant, bool)>,
    by_deadline: BTreeSet<(Instant, StreamId)>,
}

impl Partial {
    /// Notes whether a stream is in the midst of something. A deadline once set stands until the
    /// thing is whole, however it drips.
    pub(super) fn note(
        &mut self,
        stream: StreamId,
        partial: bool,
        deadline: Instant,
        is_message: bool,
    ) {
        if !partial {
            self.forget(stream);
        } else if let Entry::Vacant(entry) = self.by_stream.entry(stream) {
            entry.insert((deadline, is_message));
            self.by_deadline.insert((deadline, stream));
        }
    }

    /// Something new has begun on a stream: its time starts again.
    pub(super) fn restart(&mut self, stream: StreamId) {
        self.forget(stream);
    }

    pub(super) fn forget(&mut self, stream: StreamId) {
        if let Some((deadline, _)) = self.by_stream.remove(&stream) {
            self.by_deadline.remove(&(deadline, stream));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Whether one is over its time: a message (true) or an object (false).
    fn overdue(&self, now: Instant) -> Option<bool> {
        let (deadline, stream) = self.by_deadline.first()?;
        (*deadline <= now).then(|| self.by_stream.get(stream).is_some_and(|(_, message)| *message))
    }
}

impl Session {
    /// Time has passed. Early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock = self.clock.max(now);
        match self.state {
            State::Closed => return,
            State::Starting { deadline } if deadline <= now => {
                self.close_on_error(Err(Misbehavior::SetupTimeout.into()));
                return;
            }
            State::Starting { .. } | State::Established => {}
        }
        if self.control.closed_by.is_some_and(|by| by <= now) {
            self.close_on_error(Err(Misbehavior::ControlStreamClosed.into()));
            return;
        }
        match self.partial.overdue(now) {
            Some(true) => {
                self.close_on_error(Err(Misbehavior::ControlMessageTimeout.into()));
                return;
            }
            Some(false) => {
                self.close_on_error(Err(Misbehavior::DataStreamTimeout.into()));
                return;
            }
            None => {}
        }
        self.reset_late(now);
        self.look_at_queues(now);
        if self.is_closed() {
            return;
        }
        self.drop_unknown_aliases(now);
        while let Some(&(deadline, request)) = self.stopped.first() {
            if now < deadline {
                break;
            }
            self.stopped.pop_first();
            if self.requests.get(request).is_some() {
                self.cancelled_by_peer(request);
            }
        }
        while let Some(&(deadline, request)) = self.done_deadlines.first() {
            if now < deadline {
                break;
            }
            self.done_overdue(request, now);
        }
    }

    /// When `handle_timeout` is wanted at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_closed() {
            return None;
        }
        let queues = self.queues_watched_at.filter(|_| 0 < self.queued_bytes());
        earlier(self.first_deadline(), queues)
    }

    /// No later than what [`Self::poll_timeout`] will say, as long as what is done with the session
    /// is to send on streams that are open, and [`Self::take_sooner`] says no.
    pub(crate) fn earliest_timeout(&self) -> Option<Instant> {
        if self.is_closed() { None } else { earlier(self.first_deadline(), self.queues_watched_at) }
    }

    /// Whether sending has made something due earlier; told once.
    pub(crate) const fn take_sooner(&mut self) -> bool {
        std::mem::replace(&mut self.sooner, false)
    }

    /// Of all but the queues.
    fn first_deadline(&self) -> Option<Instant> {
        let setup = match self.state {
            State::Starting { deadline } => Some(deadline),
            State::Established | State::Closed => None,
        };
        let stopped = self.stopped.first().map(|(deadline, _)| *deadline);
        let done = self.done_deadlines.first().map(|(deadline, _)| *deadline);
        [
            self.control.closed_by,
            self.partial.next(),
            self.unknown_alias.deadline(),
            stopped,
            done,
            self.late.next(),
        ]
        .into_iter()
        .fold(setup, earlier)
    }
}

/// The earlier of two moments, as far as there are any.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, None) => one,
        (None, other) => other,
    }
}

//! Delivery timeouts (draft-22 section 5.2): what is too late is not sent.
//!
//! OBJECT_DELIVERY_TIMEOUT: an object that has not been handed to QUIC so long after it came here
//! resets its stream. SUBGROUP_DELIVERY_TIMEOUT: a stream that is not acknowledged so long after
//! its end was known is reset. Neither is opened again.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use aip_codec::moqt::{
    error_code::ResetCode, id::GroupId, parameter::Parameters, property::Properties,
};

use super::Session;
use crate::{
    stream_map::Handle,
    transport::{Action, StreamId},
};

/// How long objects and subgroups of one stream may take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DeliveryTimeouts {
    /// From an object's arrival until all of it is handed to QUIC. `None` is for ever.
    pub object: Option<Duration>,
    /// From a subgroup's known end until all of it is acknowledged. `None` is for ever.
    pub subgroup: Option<Duration>,
}

impl DeliveryTimeouts {
    /// What a subscriber asks for; 0 is for ever.
    pub fn of_subscriber(parameters: &Parameters) -> Self {
        Self {
            object: duration(parameters.object_delivery_timeout()),
            subgroup: duration(parameters.subgroup_delivery_timeout()),
        }
    }

    /// What a publisher says of a subgroup: on its first object, else on the track.
    pub fn of_publisher(first_object: &Properties, track: &Properties) -> Self {
        let object = first_object.object_delivery_timeout();
        let subgroup = first_object.subgroup_delivery_timeout();
        Self {
            object: duration(object.or_else(|| track.object_delivery_timeout())),
            subgroup: duration(subgroup.or_else(|| track.subgroup_delivery_timeout())),
        }
    }

    /// The shorter of each kind.
    #[must_use]
    pub fn shorter(self, other: Self) -> Self {
        let shorter = |one: Option<Duration>, other: Option<Duration>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self {
            object: shorter(self.object, other.object),
            subgroup: shorter(self.subgroup, other.subgroup),
        }
    }

    /// As a subscriber's update changes them, for streams that it opens from then on.
    #[must_use]
    pub fn updated(self, parameters: &Parameters) -> Self {
        let new = Self::of_subscriber(parameters);
        let (object, subgroup) =
            (parameters.object_delivery_timeout(), parameters.subgroup_delivery_timeout());
        Self {
            object: if object.is_some() { new.object } else { self.object },
            subgroup: if subgroup.is_some() { new.subgroup } else { self.subgroup },
        }
    }

    /// Whether anything can come too late.
    pub const fn is_timed(self) -> bool {
        self.object.is_some() || self.subgroup.is_some()
    }
}

/// Milliseconds as a duration; 0 is none. Longer than a year is none, too.
fn duration(millis: Option<u64>) -> Option<Duration> {
    const YEAR: u64 = 365 * 24 * 3_600 * 1_000;
    millis.filter(|millis| (1..=YEAR).contains(millis)).map(Duration::from_millis)
}

/// What a stream with a timeout remembers of its objects.
#[derive(Debug)]
pub(super) struct Timed {
    timeouts: DeliveryTimeouts,
    /// Of two streams of equal importance, the one of the lower group is given up first.
    pub(super) group: GroupId,
    /// Where each object that has not left begins in the stream, and when it is too late. The
    /// first may have left in part.
    objects: VecDeque<(u64, Instant)>,
    /// Whether a deadline of it stands in the session's list.
    armed: bool,
}

impl Timed {
    /// `None` if nothing of this stream can be too late.
    pub(super) fn new(timeouts: DeliveryTimeouts, group: GroupId) -> Option<Box<Self>> {
        let timed = || Self { timeouts, group, objects: VecDeque::new(), armed: false };
        timeouts.is_timed().then(|| Box::new(timed()))
    }
}

/// When something of a session's streams is too late.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Of the first object on a stream; at most one for each stream.
    objects: BinaryHeap<Reverse<(Instant, StreamId)>>,
    /// Of streams whose end is known.
    subgroups: BinaryHeap<Reverse<(Instant, StreamId)>>,
}

impl Deadlines {
    pub(super) fn next(&self) -> Option<Instant> {
        let object = self.objects.peek().map(|Reverse((deadline, _))| *deadline);
        let subgroup = self.subgroups.peek().map(|Reverse((deadline, _))| *deadline);
        object.into_iter().chain(subgroup).min()
    }
}

impl Session {
    /// What is sent on `stream` from now on is an object that came at `received_at`.
    pub(crate) fn begin_object(&mut self, stream: Handle<StreamId>, received_at: Instant) {
        let Some(outgoing) = self.outgoing.at_mut(stream) else { return };
        let (written, left) = (outgoing.written, outgoing.left());
        let Some(timed) = &mut outgoing.timed else { return };
        let Some(timeout) = timed.timeouts.object else { return };
        if left == written {
            timed.objects.clear();
        }
        timed.objects.push_back((written, received_at + timeout));
        self.arm_objects(stream);
    }

    /// A stream's bytes have left: whole objects of it are done with.
    pub(super) fn timed_progress(&mut self, stream: Handle<StreamId>) {
        let Some(outgoing) = self.outgoing.at_mut(stream) else { return };
        let left = outgoing.left();
        let Some(timed) = &mut outgoing.timed else { return };
        while timed.objects.get(1).is_some_and(|(begin, _)| *begin <= left) {
            timed.objects.pop_front();
        }
    }

    fn arm_objects(&mut self, stream: Handle<StreamId>) {
        let Some(timed) = self.outgoing.at_mut(stream).and_then(|it| it.timed.as_mut()) else {
            return;
        };
        if let Some((_, deadline)) = timed.objects.front()
            && !std::mem::replace(&mut timed.armed, true)
        {
            self.late.objects.push(Reverse((*deadline, stream.key)));
            self.sooner = true;
        }
    }

    /// More of an object is sent: if its time is up already, that must be seen.
    pub(super) fn timed_send(&mut self, stream: Handle<StreamId>) {
        let wants = self
            .outgoing
            .at(stream)
            .and_then(|outgoing| outgoing.timed.as_ref())
            .is_some_and(|timed| !timed.armed && !timed.objects.is_empty());
        if wants {
            self.arm_objects(stream);
        }
    }

    /// A subgroup's end was told to us at `now`: its stream may take so much longer. Before the end
    /// is sent on it.
    pub fn end_of_subgroup(&mut self, stream: StreamId, now: Instant) {
        let timed = self.outgoing.get(stream).and_then(|outgoing| outgoing.timed.as_ref());
        let Some(timeout) = timed.and_then(|timed| timed.timeouts.subgroup) else { return };
        if self.config.delivery.ended_subgroups_max <= self.late.subgroups.len() {
            // The one that has waited longest is cut off early.
            self.next_subgroup_is_late();
        }
        self.late.subgroups.push(Reverse((now + timeout, stream)));
        self.sooner = true;
    }

    fn next_subgroup_is_late(&mut self) {
        let Some(Reverse((_, stream))) = self.late.subgroups.pop() else { return };
        // A stream that the transport has forgotten is acknowledged; then this does nothing.
        self.act(Action::Reset { stream, code: ResetCode::DELIVERY_TIMEOUT.0 });
        self.outgoing_ended(stream);
    }

    /// Resets the streams whose objects or ends are too late.
    pub(super) fn reset_late(&mut self, now: Instant) {
        while let Some(&Reverse((deadline, _))) = self.late.subgroups.peek()
            && deadline <= now
        {
            self.next_subgroup_is_late();
        }
        while let Some(&Reverse((deadline, stream))) = self.late.objects.peek()
            && deadline <= now
        {
            self.late.objects.pop();
            let Some(handle) = self.outgoing.handle(stream) else { continue };
            let Some(outgoing) = self.outgoing.at_mut(handle) else { continue };
            let waits = 0 < outgoing.account.bytes;
            let Some(timed) = &mut outgoing.timed else { continue };
            timed.armed = false;
            let is_late = timed.objects.front().is_some_and(|(_, deadline)| *deadline <= now);
            if is_late && waits {
                self.reset_stream(stream, ResetCode::DELIVERY_TIMEOUT);
            } else if waits {
                self.arm_objects(handle);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_for_ever_and_the_shorter_counts() {
        let ms = |millis| duration(Some(millis));
        assert_eq!((ms(0), duration(None), ms(u64::MAX)), (None, None, None));
        let both =
            |object, subgroup| DeliveryTimeouts { object: ms(object), subgroup: ms(subgroup) };
        assert_eq!(both(200, 0).shorter(both(300, 50)), both(200, 50));
        assert_eq!(both(0, 0).shorter(both(0, 9)), both(0, 9));
        assert!(!both(0, 0).is_timed());
    }
}

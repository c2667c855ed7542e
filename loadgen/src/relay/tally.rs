//! What is owed to whom, and what came.
//!
//! Every object has a number. A subscriber is owed the objects that are published from the moment
//! its subscription is accepted until it is told to leave; only those of the measured part count.

use std::collections::VecDeque;

use super::payload::Stamp;
use crate::measure::{Arrival, Coarse, Counts, Phase, Timeline, Times, Window};

/// Objects of which it is known to how many they still must come.
const PENDING_MAX: usize = 65_536;

/// One subscriber's account.
#[derive(Clone, Debug, Default)]
struct Account {
    window: Window,
    /// The first number owed, while something is.
    from: Option<u64>,
    /// The range owed before, whose last objects may still come.
    before: (u64, u64),
    expected: u64,
    came: u64,
    duplicated: u64,
    reordered: u64,
    times: Coarse,
}

impl Account {
    fn is_owed(&self, sequence: u64) -> bool {
        self.from.is_some_and(|from| from <= sequence)
            || (self.before.0..self.before.1).contains(&sequence)
    }
}

/// One object on its way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    expected: u32,
    came: u32,
    last: u64,
    measured: bool,
}

/// All accounts.
#[derive(Debug)]
pub struct Tally {
    run: u32,
    late_after: Option<u64>,
    accounts: Vec<Account>,
    active: u32,
    published: u64,
    /// Numbers of the measured part: the first, and the first after it.
    measured: (u64, u64),
    pending: VecDeque<Pending>,
    pending_from: u64,
    /// Deliveries of any phase that are still owed.
    outstanding: u64,
    /// From the due time to arrival.
    pub latency: Times,
    /// The same of the subscribers at each relay, if there is more than one.
    pub by_relay: Vec<Times>,
    /// From the actual sending to arrival.
    pub service: Times,
    /// From the due time until the last subscriber had it.
    pub last: Times,
    /// What came of the measured part.
    pub counts: Counts,
    /// Measured objects that not everybody got.
    pub incomplete: u64,
    /// Second by second, of every phase.
    pub timeline: Timeline,
    /// When the load began.
    origin: u64,
}

impl Tally {
    /// Accounts of so many subscribers, to whom nothing is owed yet. They are at the relays in turn.
    pub fn new(run: u32, subscribers: usize, relays: usize, late_after: Option<u64>) -> Self {
        let relays = if relays < 2 { 0 } else { relays };
        Self {
            run,
            late_after,
            accounts: vec![Account::default(); subscribers],
            active: 0,
            published: 0,
            measured: (u64::MAX, u64::MAX),
            pending: VecDeque::new(),
            pending_from: 0,
            outstanding: 0,
            latency: Times::default(),
            by_relay: vec![Times::default(); relays],
            service: Times::default(),
            last: Times::default(),
            counts: Counts::default(),
            incomplete: 0,
            timeline: Timeline::default(),
            origin: 0,
        }
    }

    /// Objects published.
    pub const fn published(&self) -> u64 {
        self.published
    }

    /// Subscribers to whom objects are owed.
    pub const fn active(&self) -> u32 {
        self.active
    }

    /// Deliveries still owed.
    pub const fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// From now on objects are owed to a subscriber.
    pub fn join(&mut self, subscriber: usize) {
        let from = self.published;
        if let Some(account) = self.accounts.get_mut(subscriber)
            && account.from.is_none()
        {
            account.from = Some(from);
            self.active += 1;
        }
    }

    /// No further objects are owed to it; those published are.
    pub fn leave(&mut self, subscriber: usize) {
        let (until, measured) = (self.published, self.measured);
        if let Some(account) = self.accounts.get_mut(subscriber)
            && let Some(from) = account.from.take()
        {
            account.expected += overlap((from, until), measured);
            account.before = (from, until);
            self.active -= 1;
        }
    }

    /// The next object is published, or was to be: its number.
    pub fn publish(&mut self, phase: Phase) -> u64 {
        let sequence = self.published;
        self.published += 1;
        match phase {
            Phase::WarmUp => {}
            Phase::Measured => self.measured.0 = self.measured.0.min(sequence),
            Phase::CoolDown => {
                self.measured.0 = self.measured.0.min(sequence);
                self.measured.1 = self.measured.1.min(sequence);
            }
        }
        let measured = phase == Phase::Measured;
        if self.pending.len() == PENDING_MAX {
            self.give_up_oldest();
        }
        self.pending.push_back(Pending { expected: self.active, came: 0, last: 0, measured });
        self.outstanding += u64::from(self.active);
        if measured {
            self.counts.expected += u64::from(self.active);
        }
        sequence
    }

    fn give_up_oldest(&mut self) {
        let Some(object) = self.pending.pop_front() else { return };
        self.pending_from += 1;
        self.outstanding -= u64::from(object.expected - object.came);
        self.incomplete += u64::from(object.measured && object.came < object.expected);
    }

    /// An object's payload came whole to a subscriber.
    pub fn arrive(&mut self, subscriber: usize, stamp: Option<Stamp>, length: usize, now: u64) {
        let right = stamp.filter(|it| it.run == self.run && it.sequence < self.published);
        let at = now.saturating_sub(self.origin);
        let Some(stamp) = right else {
            self.counts.wrong += 1;
            self.timeline.wrong(at);
            return;
        };
        let sequence = stamp.sequence;
        let Some(account) = self.accounts.get_mut(subscriber) else { return };
        let measured = self.measured.0 <= sequence && sequence < self.measured.1;
        let arrival = account.window.record(sequence);
        match arrival {
            Arrival::Duplicate => {
                account.duplicated += u64::from(measured);
                self.counts.duplicated += u64::from(measured);
                return;
            }
            Arrival::TooOld => {
                if measured {
                    self.counts.error("too old to tell whether it came before");
                }
                return;
            }
            Arrival::InOrder | Arrival::Reordered => {}
        }
        if !account.is_owed(sequence) {
            return;
        }
        let latency = now.saturating_sub(stamp.due);
        self.timeline.right(at, latency);
        if measured {
            account.came += 1;
            account.times.record(latency);
            account.reordered += u64::from(arrival == Arrival::Reordered);
            self.counts.ok += 1;
            self.counts.bytes += length as u64;
            self.counts.reordered += u64::from(arrival == Arrival::Reordered);
            self.counts.late += u64::from(self.late_after.is_some_and(|late| late < latency));
            self.latency.record(latency);
            if let Some(times) = subscriber
                .checked_rem(self.by_relay.len())
                .and_then(|relay| self.by_relay.get_mut(relay))
            {
                times.record(latency);
            }
            self.service.record(now.saturating_sub(stamp.sent));
        }
        self.settle(sequence, latency);
    }

    /// One more has an object.
    fn settle(&mut self, sequence: u64, latency: u64) {
        let index = sequence.checked_sub(self.pending_from).and_then(|it| usize::try_from(it).ok());
        let Some(object) = index.and_then(|index| self.pending.get_mut(index)) else { return };
        if object.came == object.expected {
            return;
        }
        object.came += 1;
        object.last = object.last.max(latency);
        self.outstanding -= 1;
        if object.came == object.expected && object.measured {
            self.last.record(object.last);
        }
        while self.pending.front().is_some_and(|object| object.came == object.expected) {
            self.pending.pop_front();
            self.pending_from += 1;
        }
    }

    /// The load begins then: seconds are counted from there.
    pub const fn begin(&mut self, origin: u64) {
        self.origin = origin;
    }

    /// Ends the seconds that are over.
    pub fn tick(&mut self, now: u64) {
        self.timeline.advance(now.saturating_sub(self.origin));
    }

    /// Nothing more will come: what is still owed is lost.
    pub fn conclude(&mut self) {
        for subscriber in 0..self.accounts.len() {
            self.leave(subscriber);
        }
        while !self.pending.is_empty() {
            self.give_up_oldest();
        }
        let lost = self.accounts.iter().map(|account| account.expected - account.came);
        self.counts.lost = lost.sum();
        debug_assert_eq!(
            self.counts.expected,
            self.accounts.iter().map(|account| account.expected).sum::<u64>(),
            "what is owed is counted twice, by object and by subscriber"
        );
    }

    /// Each subscriber's share of all this.
    pub fn subscribers(&self) -> impl Iterator<Item = Share<'_>> {
        self.accounts.iter().map(|account| Share {
            times: &account.times,
            expected: account.expected,
            lost: account.expected - account.came,
            duplicated: account.duplicated,
            reordered: account.reordered,
        })
    }
}

/// What came of what was owed to one subscriber.
#[derive(Clone, Copy, Debug)]
pub struct Share<'a> {
    /// From the due time to arrival.
    pub times: &'a Coarse,
    /// Objects owed.
    pub expected: u64,
    /// Those that never came.
    pub lost: u64,
    /// Those that came again.
    pub duplicated: u64,
    /// Those that came after a later one.
    pub reordered: u64,
}

/// How many numbers two ranges share.
fn overlap(one: (u64, u64), other: (u64, u64)) -> u64 {
    one.1.min(other.1).saturating_sub(one.0.max(other.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    fn tally(subscribers: usize) -> Tally {
        let mut tally = Tally::new(7, subscribers, 1, Some(10 * MILLISECOND));
        for subscriber in 0..subscribers {
            tally.join(subscriber);
        }
        tally
    }

    fn stamp(sequence: u64) -> Option<Stamp> {
        Some(Stamp { run: 7, sequence, due: 1_000, sent: 2_000 })
    }

    #[test]
    fn what_never_came_is_lost_and_what_came_twice_is_a_duplicate() {
        let mut tally = tally(2);
        for _ in 0..3 {
            tally.publish(Phase::Measured);
        }
        for sequence in [0, 1, 2, 1] {
            tally.arrive(0, stamp(sequence), 100, 5_000);
        }
        tally.arrive(1, stamp(2), 100, 5_000);
        tally.arrive(1, stamp(0), 100, 5_000);
        assert_eq!(tally.outstanding(), 1);
        tally.conclude();
        let counts = &tally.counts;
        assert_eq!((counts.expected, counts.ok, counts.lost), (6, 5, 1));
        assert_eq!((counts.duplicated, counts.reordered, counts.bytes), (1, 1, 500));
        assert_eq!(tally.last.count(), 2, "two objects came to both");
        assert_eq!(tally.incomplete, 1);
        let lost: Vec<u64> = tally.subscribers().map(|share| share.lost).collect();
        assert_eq!(lost, [0, 1]);
    }

    #[test]
    fn the_last_subscriber_is_the_slowest() {
        let mut tally = tally(2);
        tally.publish(Phase::Measured);
        tally.arrive(0, stamp(0), 100, 20 * MILLISECOND + 1_000);
        tally.arrive(1, stamp(0), 100, MILLISECOND + 1_000);
        let last = tally.last.summary().max;
        assert!((20 * MILLISECOND..20 * MILLISECOND + 20_000).contains(&last), "{last}");
        assert_eq!(tally.counts.late, 1);
    }

    #[test]
    fn only_the_measured_part_counts() {
        let mut tally = tally(1);
        for phase in [Phase::WarmUp, Phase::Measured, Phase::CoolDown] {
            tally.publish(phase);
        }
        for sequence in 0..3 {
            tally.arrive(0, stamp(sequence), 100, 5_000);
        }
        tally.conclude();
        assert_eq!((tally.counts.expected, tally.counts.ok, tally.counts.lost), (1, 1, 0));
        assert_eq!((tally.latency.count(), tally.last.count()), (1, 1));
    }

    #[test]
    fn who_leaves_is_owed_what_was_published_and_no_more() {
        let mut tally = tally(1);
        tally.publish(Phase::Measured);
        tally.publish(Phase::Measured);
        tally.leave(0);
        tally.publish(Phase::Measured);
        tally.arrive(0, stamp(1), 100, 5_000);
        tally.arrive(0, stamp(2), 100, 5_000);
        tally.join(0);
        tally.publish(Phase::Measured);
        tally.arrive(0, stamp(3), 100, 5_000);
        tally.conclude();
        assert_eq!((tally.counts.expected, tally.counts.ok, tally.counts.lost), (3, 2, 1));
    }

    #[test]
    fn what_was_not_sent_is_wrong() {
        let mut tally = tally(1);
        tally.publish(Phase::Measured);
        tally.arrive(0, None, 100, 5_000);
        tally.arrive(0, stamp(5), 100, 5_000);
        tally.arrive(0, Some(Stamp { run: 8, sequence: 0, due: 0, sent: 0 }), 100, 5_000);
        tally.conclude();
        assert_eq!((tally.counts.wrong, tally.counts.ok, tally.counts.lost), (3, 0, 1));
    }
}

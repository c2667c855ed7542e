//! What is owed to whom, and what came.
//!
//! Every object has a number. A subscriber is owed the objects that are published from the moment
//! its subscription is accepted until it is told to leave; only those of the measured part count.

use std::collections::VecDeque;

use super::payload::Stamp;
use crate::{
    measure::{Arrival, Counts, Phase, Times, Window},
    report::Interval,
};

/// Objects of which it is known to how many they still must come.
const PENDING_MAX: usize = 65_536;
const SECOND: u64 = 1_000_000_000;

/// Times of one subscriber, to a quarter of a power of two: memory for thousands of them.
#[derive(Clone, Debug)]
pub struct Coarse {
    counts: Box<[u32; 256]>,
    total: u64,
    sum: u64,
}

impl Default for Coarse {
    fn default() -> Self {
        Self { counts: Box::new([0; 256]), total: 0, sum: 0 }
    }
}

impl Coarse {
    /// Counts a time.
    pub fn record(&mut self, nanoseconds: u64) {
        self.counts[Self::bucket(nanoseconds)] += 1;
        self.total += 1;
        self.sum = self.sum.saturating_add(nanoseconds);
    }

    const fn bucket(nanoseconds: u64) -> usize {
        // Below 4 ns nothing is told apart; nothing is that fast.
        let nanoseconds = if nanoseconds < 4 { 4 } else { nanoseconds };
        let power = nanoseconds.ilog2();
        (power * 4) as usize + ((nanoseconds >> (power - 2)) & 3) as usize
    }

    /// The mean in nanoseconds; `None` if nothing came.
    pub fn mean(&self) -> Option<f64> {
        (self.total != 0).then(|| self.sum as f64 / self.total as f64)
    }

    /// The upper end of the bucket in which a share of all lies.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let mut left = (self.total as f64 * share).ceil().max(1.0);
        for (index, count) in self.counts.iter().enumerate() {
            left -= f64::from(*count);
            if left <= 0.0 {
                let (power, quarter) = (index / 4, index % 4);
                let power = i32::try_from(power).unwrap_or(63);
                return Some(2.0_f64.powi(power) * (1.0 + (quarter as f64 + 1.0) / 4.0));
            }
        }
        None
    }
}

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
    /// From the actual sending to arrival.
    pub service: Times,
    /// From the due time until the last subscriber had it.
    pub last: Times,
    /// What came of the measured part.
    pub counts: Counts,
    /// Measured objects that not everybody got.
    pub incomplete: u64,
    second: Second,
    /// Seconds that are over.
    pub timeline: Vec<Interval>,
}

#[derive(Debug, Default)]
struct Second {
    began: u64,
    origin: u64,
    ok: u64,
    errors: u64,
    times: Times,
}

impl Tally {
    /// Accounts of so many subscribers, to whom nothing is owed yet.
    pub fn new(run: u32, subscribers: usize, late_after: Option<u64>) -> Self {
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
            service: Times::default(),
            last: Times::default(),
            counts: Counts::default(),
            incomplete: 0,
            second: Second::default(),
            timeline: Vec::new(),
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
        let Some(stamp) = right else {
            self.counts.wrong += 1;
            self.second.errors += 1;
            return;
        };
        let sequence = stamp.sequence;
        let Some(account) = self.accounts.get_mut(subscriber) else { return };
        let measured = self.measured.0 <= sequence && sequence < self.measured.1;
        let arrival = account.window.record(sequence);
        match arrival {
            Arrival::Duplicate => {
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
        self.second.ok += 1;
        self.second.times.record(latency);
        if measured {
            account.came += 1;
            account.times.record(latency);
            self.counts.ok += 1;
            self.counts.bytes += length as u64;
            self.counts.reordered += u64::from(arrival == Arrival::Reordered);
            self.counts.late += u64::from(self.late_after.is_some_and(|late| late < latency));
            self.latency.record(latency);
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

    /// Ends the seconds that are over. `origin` is when the load began.
    pub fn tick(&mut self, now: u64, origin: u64) {
        if self.second.origin == 0 {
            (self.second.origin, self.second.began) = (origin, origin);
        }
        while self.second.began + SECOND <= now {
            let summary = self.second.times.summary();
            self.timeline.push(Interval {
                at: (self.second.began - self.second.origin) as f64 / 1e9,
                ok: self.second.ok,
                errors: self.second.errors,
                p50: summary.p50,
                p99: summary.p99,
                max: summary.max,
            });
            let (began, origin) = (self.second.began + SECOND, self.second.origin);
            self.second = Second { began, origin, ..Second::default() };
        }
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

    /// Each subscriber's times, and what it lost.
    pub fn subscribers(&self) -> impl Iterator<Item = (&Coarse, u64)> {
        self.accounts.iter().map(|account| (&account.times, account.expected - account.came))
    }
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
        let mut tally = Tally::new(7, subscribers, Some(10 * MILLISECOND));
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
        let lost: Vec<u64> = tally.subscribers().map(|(_, lost)| lost).collect();
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

    #[test]
    fn seconds_are_told_apart() {
        let mut tally = tally(1);
        tally.publish(Phase::Measured);
        tally.tick(SECOND, SECOND);
        tally.arrive(0, stamp(0), 100, 5_000);
        tally.tick(2 * SECOND + 1, SECOND);
        tally.tick(3 * SECOND, SECOND);
        let seconds: Vec<(f64, u64)> =
            tally.timeline.iter().map(|second| (second.at, second.ok)).collect();
        assert_eq!(seconds, [(0.0, 1), (1.0, 0)]);
    }

    #[test]
    fn coarse_times_are_within_a_quarter() {
        let mut coarse = Coarse::default();
        assert_eq!((coarse.mean(), coarse.quantile(0.5)), (None, None));
        for time in [1_000_u64, 1_000, 1_000, 90_000] {
            coarse.record(time);
        }
        assert_eq!(coarse.mean(), Some(23_250.0));
        let (half, most) = (coarse.quantile(0.5).unwrap(), coarse.quantile(1.0).unwrap());
        assert!((1_000.0..1_300.0).contains(&half), "{half}");
        assert!((90_000.0..115_000.0).contains(&most), "{most}");
    }
}

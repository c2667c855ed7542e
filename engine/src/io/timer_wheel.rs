//! Deadlines of many connections: a hierarchical wheel of milliseconds, never disarmed.
//!
//! A connection's deadline moves with each packet, nearly always to later. So a deadline is put
//! into the wheel only if it is earlier than the one that is there; when that fires, the
//! connection says its real one. Four levels of 64 slots span 4.6 hours; what is later waits in
//! the last slot and goes round again. Setting and firing cost no search and, once the slots have
//! grown, no allocation.

use std::time::{Duration, Instant};

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: u8 = 4;
/// The farthest deadline, in ticks from now.
const SPAN: u64 = (1 << (BITS * 4)) - 1;

/// The number of a millisecond since the wheel was made.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Tick(u64);

/// A wheel of deadlines, each of which wakes a `K`.
#[derive(Debug)]
pub(super) struct TimerWheel<K> {
    epoch: Instant,
    /// The tick that was handled last.
    now: u64,
    slots: Vec<Vec<(u64, K)>>,
    /// One bit per slot that is not empty, per level.
    occupied: [u64; LEVELS as usize],
    spare: Vec<(u64, K)>,
}

impl<K: Copy> TimerWheel<K> {
    /// An empty wheel.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            now: 0,
            slots: (0..SLOTS * usize::from(LEVELS)).map(|_| Vec::new()).collect(),
            occupied: [0; LEVELS as usize],
            spare: Vec::new(),
        }
    }

    /// Sets a deadline; `key` fires with this tick, at the deadline or up to a millisecond later.
    pub(super) fn set(&mut self, deadline: Instant, key: K) -> Tick {
        let tick = self.tick_at(deadline);
        self.insert(tick.0, key);
        tick
    }

    /// The tick by which a deadline fires.
    pub(super) fn tick_at(&self, deadline: Instant) -> Tick {
        let since = deadline.saturating_duration_since(self.epoch);
        let millis = u64::from(since.subsec_nanos().div_ceil(1_000_000));
        let millis = since.as_secs().saturating_mul(1_000).saturating_add(millis);
        Tick(millis.clamp(self.now + 1, self.now + SPAN))
    }

    /// Moves everything whose tick is over to `fired`.
    pub(super) fn advance(&mut self, now: Instant, fired: &mut Vec<(Tick, K)>) {
        let since = now.saturating_duration_since(self.epoch).as_millis();
        let target = u64::try_from(since).unwrap_or(u64::MAX);
        while self.now < target {
            let Some(next) = self.next_event() else {
                self.now = target;
                return;
            };
            if target < next {
                self.now = target;
                return;
            }
            self.now = next;
            self.handle(fired);
        }
    }

    /// When [`Self::advance`] has something to do; early for what is far.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next_event().map(|tick| self.epoch + Duration::from_millis(tick))
    }

    fn insert(&mut self, tick: u64, key: K) {
        // The highest level at which the deadline's digit differs from the present's.
        let differing = (0..LEVELS).rev().find(|&level| shifted(tick ^ self.now, level) != 0);
        let level = differing.unwrap_or(0);
        let digit = digit(tick, level);
        self.occupied[usize::from(level)] |= 1 << digit;
        self.slots[slot(level, digit)].push((tick, key));
    }

    /// The next tick at which a slot must be fired or spread over the level below.
    fn next_event(&self) -> Option<u64> {
        let begin = |level: u8| {
            let occupied = self.occupied[usize::from(level)];
            // Slots count from the one after the present's, round to the present's own.
            let ahead = occupied.rotate_right((u32::from(digit(self.now, level)) + 1) % 64);
            let steps = u64::from(ahead.trailing_zeros()) + 1;
            (occupied != 0).then(|| (shifted(self.now, level) + steps) << (u32::from(level) * BITS))
        };
        (0..LEVELS).filter_map(begin).min()
    }

    /// Spreads the slots that begin at the present tick over the levels below, then fires.
    fn handle(&mut self, fired: &mut Vec<(Tick, K)>) {
        for level in (0..LEVELS).rev() {
            let begins = shifted(self.now, level) << (u32::from(level) * BITS) == self.now;
            let digit = digit(self.now, level);
            let occupied = &mut self.occupied[usize::from(level)];
            if !begins || *occupied & (1 << digit) == 0 {
                continue;
            }
            *occupied &= !(1 << digit);
            let empty = std::mem::take(&mut self.spare);
            let mut due = std::mem::replace(&mut self.slots[slot(level, digit)], empty);
            for (tick, key) in due.drain(..) {
                if tick <= self.now {
                    fired.push((Tick(tick), key));
                } else {
                    self.insert(tick, key);
                }
            }
            self.spare = due;
        }
    }
}

/// A tick without what is finer than a level.
const fn shifted(tick: u64, level: u8) -> u64 {
    tick >> (level as u32 * BITS)
}

/// A tick's digit at a level, 0 to 63.
const fn digit(tick: u64, level: u8) -> u8 {
    let [digit, ..] = (shifted(tick, level) & (SLOTS as u64 - 1)).to_le_bytes();
    digit
}

/// Where the slot of a level's digit is.
fn slot(level: u8, digit: u8) -> usize {
    usize::from(level) * SLOTS + usize::from(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A small generator, so that the cases are many and the same each time.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn fires_at_the_deadline_and_not_before() {
        for millis in [1, 2, 63, 64, 65, 4_095, 4_096, 4_097, 262_144, 5_000_000, 16_000_000] {
            let epoch = Instant::now();
            let mut wheel = TimerWheel::new(epoch);
            let mut fired = Vec::new();
            wheel.set(epoch + MS * millis, 7);
            wheel.advance(epoch + MS * (millis - 1), &mut fired);
            assert!(fired.is_empty(), "{millis} ms fired early");
            assert!(wheel.next().is_some_and(|next| next <= epoch + MS * millis));
            wheel.advance(epoch + MS * millis, &mut fired);
            assert_eq!(fired.iter().map(|&(_, key)| key).collect::<Vec<_>>(), [7], "{millis} ms");
            assert_eq!(wheel.next(), None);
        }
    }

    #[test]
    fn agrees_with_a_sorted_list() {
        let epoch = Instant::now();
        let mut wheel = TimerWheel::new(epoch);
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let mut expected = std::collections::BTreeSet::new();
        let mut now = 0_u64;
        for key in 0..20_000_u32 {
            let delay = 1 + random(&mut state) % [10, 100, 5_000, 300_000][key as usize % 4];
            wheel.set(epoch + MS * u32::try_from(now + delay).unwrap(), key);
            expected.insert((now + delay, key));
            now += random(&mut state) % 20;
            let mut fired = Vec::new();
            wheel.advance(epoch + MS * u32::try_from(now).unwrap(), &mut fired);
            let fired: std::collections::BTreeSet<_> =
                fired.into_iter().map(|(tick, key)| (tick.0, key)).collect();
            let later = expected.split_off(&(now + 1, 0));
            assert_eq!(fired, std::mem::replace(&mut expected, later));
            let first =
                expected.first().map(|&(tick, _)| epoch + MS * u32::try_from(tick).unwrap());
            assert!(wheel.next() <= first && wheel.next().is_some() == first.is_some());
        }
    }

    #[test]
    fn a_deadline_that_is_over_fires_next() {
        let epoch = Instant::now();
        let mut wheel = TimerWheel::new(epoch);
        let mut fired = Vec::new();
        wheel.advance(epoch + MS * 100, &mut fired);
        wheel.set(epoch + MS * 3, 1);
        wheel.advance(epoch + MS * 101, &mut fired);
        assert_eq!(fired.len(), 1);
    }

    #[test]
    fn what_is_farther_than_the_span_fires_early_and_is_set_again() {
        let epoch = Instant::now();
        let mut wheel = TimerWheel::new(epoch);
        let mut fired = Vec::new();
        wheel.set(epoch + Duration::from_secs(86_400 * 365), 1);
        wheel.advance(epoch + Duration::from_secs(3_600 * 5), &mut fired);
        assert_eq!(fired.len(), 1);
    }
}

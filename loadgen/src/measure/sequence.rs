//! What has come of a sequence, in bounded memory.

/// Numbers that are told from one another below the highest that came.
const SPAN: u64 = 1_024;
const WORDS: usize = 16;

/// What a number that came is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// It came for the first time, and none after it had come.
    InOrder,
    /// It came for the first time, after a later one.
    Reordered,
    /// It had come before.
    Duplicate,
    /// So far below the highest that nobody knows whether it had come.
    TooOld,
}

/// The numbers that came, exact for the highest 1,024.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// One above the highest that came.
    end: u64,
    /// One bit for each of the last, at its number modulo the span.
    came: [u64; WORDS],
}

impl Window {
    /// A number came.
    pub fn record(&mut self, number: u64) -> Arrival {
        if number < self.end {
            if number + SPAN < self.end {
                return Arrival::TooOld;
            }
            let known = self.is_set(number);
            self.set(number);
            return if known { Arrival::Duplicate } else { Arrival::Reordered };
        }
        if SPAN <= number - self.end {
            self.came = [0; WORDS];
        } else {
            for skipped in self.end..number {
                self.came[Self::word(skipped)] &= !Self::bit(skipped);
            }
        }
        self.set(number);
        self.end = number + 1;
        Arrival::InOrder
    }

    fn set(&mut self, number: u64) {
        self.came[Self::word(number)] |= Self::bit(number);
    }

    fn is_set(&self, number: u64) -> bool {
        self.came[Self::word(number)] & Self::bit(number) != 0
    }

    const fn word(number: u64) -> usize {
        (number % SPAN / 64) as usize
    }

    const fn bit(number: u64) -> u64 {
        1 << (number % 64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_window_agrees_with_a_set() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut window, mut set) = (Window::default(), BTreeSet::new());
        let mut at = 0_u64;
        for _ in 0..100_000 {
            at += random.u64(0..3);
            if random.u32(0..2_000) == 0 {
                at += random.u64(0..5_000);
            }
            let number = at.saturating_sub(random.u64(0..1_200));
            let highest = set.last().copied();
            let is_new = set.insert(number);
            let expected = match highest {
                Some(highest) if number + SPAN <= highest => Arrival::TooOld,
                Some(highest) if number <= highest && is_new => Arrival::Reordered,
                Some(highest) if number <= highest => Arrival::Duplicate,
                _ => Arrival::InOrder,
            };
            assert_eq!(window.record(number), expected, "{number} after {highest:?}");
        }
    }
}

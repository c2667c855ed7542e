//! How long the turns of a worker's loop take: plain integers in fixed steps.

/// Upper bounds of the steps, in nanoseconds; the last step has none.
pub const BOUNDS: [u64; 11] = [
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    300_000_000,
    1_000_000_000,
];

/// Durations by [`BOUNDS`]. Noting one costs a short search and two additions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    sum: u64,
}

impl Histogram {
    /// Notes one duration, in nanoseconds.
    pub fn note(&mut self, nanoseconds: u64) {
        let step = BOUNDS.partition_point(|&bound| bound < nanoseconds);
        self.counts[step] += 1;
        self.sum = self.sum.saturating_add(nanoseconds);
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many durations were noted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum, in nanoseconds.
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// How many lie in each step: its upper bound in nanoseconds, `None` for the last.
    pub fn steps(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = BOUNDS.into_iter().map(Some).chain([None]);
        bounds.zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_step() {
        let mut histogram = Histogram::default();
        for nanoseconds in [0, 10_000, 10_001, u64::MAX] {
            histogram.note(nanoseconds);
        }
        let mut steps = histogram.steps();
        assert_eq!(steps.next(), Some((Some(10_000), 2)));
        assert_eq!(steps.next(), Some((Some(30_000), 1)));
        assert_eq!(steps.last(), Some((None, 1)));
        assert_eq!((histogram.count(), histogram.sum()), (4, u64::MAX));
    }

    #[test]
    fn histograms_add_up() {
        let mut sum = Histogram::default();
        sum.note(5);
        let mut other = Histogram::default();
        other.note(7);
        other.note(40_000);
        sum.add(&other);
        assert_eq!((sum.count(), sum.sum()), (3, 40_012));
    }
}

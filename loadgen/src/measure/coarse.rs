//! Times in little memory.

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

#[cfg(test)]
mod tests {
    use super::*;

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

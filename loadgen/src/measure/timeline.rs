//! A run second by second.

use super::Times;
use crate::report::Interval;

const SECOND: u64 = 1_000_000_000;
/// Seconds that are kept; of a longer run, the first ones.
const SECONDS_MAX: usize = 86_400;

/// The seconds that are over, and the one that goes on. Times are nanoseconds from the beginning.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    over: Vec<Interval>,
    began: u64,
    ok: u64,
    errors: u64,
    times: Times,
}

impl Timeline {
    /// Something came right.
    pub fn right(&mut self, at: u64, latency: u64) {
        self.advance(at);
        self.ok += 1;
        self.times.record(latency);
    }

    /// Something came that is not right, or did not come.
    pub fn wrong(&mut self, at: u64) {
        self.advance(at);
        self.errors += 1;
    }

    /// Time has passed: ends the seconds that are over.
    pub fn advance(&mut self, at: u64) {
        while self.began + SECOND <= at && self.over.len() < SECONDS_MAX {
            let times = &self.times;
            self.over.push(Interval {
                at: self.began as f64 / 1e9,
                ok: self.ok,
                errors: self.errors,
                p50: times.quantile(0.5),
                p99: times.quantile(0.99),
                max: times.quantile(1.0),
            });
            self.began += SECOND;
            if self.ok != 0 {
                self.times.clear();
            }
            (self.ok, self.errors) = (0, 0);
        }
    }

    /// The seconds that are over.
    pub fn seconds(&self) -> &[Interval] {
        &self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_times() {
        let mut timeline = Timeline::default();
        timeline.right(10, 1_000);
        timeline.right(SECOND - 1, 3_000);
        timeline.wrong(SECOND);
        timeline.right(3 * SECOND, 7_000);
        timeline.advance(4 * SECOND);
        let seen: Vec<_> =
            timeline.seconds().iter().map(|it| (it.at, it.ok, it.errors, it.max)).collect();
        let max = |nanoseconds: u64| {
            let mut times = Times::default();
            times.record(nanoseconds);
            times.quantile(1.0)
        };
        assert_eq!(
            seen,
            [(0.0, 2, 0, max(3_000)), (1.0, 0, 1, 0), (2.0, 0, 0, 0), (3.0, 1, 0, max(7_000))]
        );
    }
}

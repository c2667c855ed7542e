//! The highest rate that meets an objective, by bisection.
//!
//! A rate passes if most of several runs with different seeds meet the objective. From the lowest
//! rate on it doubles until one fails; then the middle, in ratio, of the highest that passed and the
//! lowest that failed is tried, until they are close.

/// What the search keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The rate to begin with. 10.
    pub min: f64,
    /// The highest rate that is tried. 1,000,000.
    pub max: f64,
    /// How close the bounds are in the end, as a share. 0.05.
    pub precision: f64,
    /// Runs of each rate, of which most decide; odd. 3.
    pub repeat: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { min: 10.0, max: 1_000_000.0, precision: 0.05, repeat: 3 }
    }
}

/// See the module. Ask [`Self::rate`] what to run, then tell [`Self::record`] whether it passed.
#[derive(Clone, Debug)]
pub struct Search {
    settings: Settings,
    passed: Option<f64>,
    failed: Option<f64>,
    trying: Option<f64>,
    good: u32,
    bad: u32,
    /// Votes of the highest rate that passed.
    votes: (u32, u32),
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The highest rate that passed.
    pub passed: Option<f64>,
    /// The lowest rate that failed.
    pub failed: Option<f64>,
    /// Of the highest rate that passed: runs that met the objective, and all its runs.
    pub votes: (u32, u32),
}

impl Search {
    /// A search that has tried nothing.
    pub const fn new(settings: Settings) -> Self {
        let trying = Some(settings.min);
        Self { settings, passed: None, failed: None, trying, good: 0, bad: 0, votes: (0, 0) }
    }

    /// The rate to run next; `None` once the answer is known.
    pub const fn rate(&self) -> Option<f64> {
        self.trying
    }

    /// The last run met the objective, or did not.
    pub fn record(&mut self, met: bool) {
        let Some(rate) = self.trying else { return };
        if met {
            self.good += 1;
        } else {
            self.bad += 1;
        }
        let needed = self.settings.repeat / 2 + 1;
        if self.good < needed && self.bad < needed {
            return;
        }
        if needed <= self.good {
            self.passed = Some(rate);
            self.votes = (self.good, self.good + self.bad);
        } else {
            self.failed = Some(rate);
        }
        (self.good, self.bad) = (0, 0);
        self.trying = self.next();
    }

    fn next(&self) -> Option<f64> {
        match (self.passed, self.failed) {
            (Some(passed), Some(failed)) => {
                let close = failed <= passed * (1.0 + self.settings.precision);
                (!close).then(|| (passed * failed).sqrt())
            }
            (Some(passed), None) => {
                let next = (passed * 2.0).min(self.settings.max);
                (passed < next).then_some(next)
            }
            // Even the lowest fails.
            (None, _) => None,
        }
    }

    /// What is known by now.
    pub const fn found(&self) -> Found {
        Found { passed: self.passed, failed: self.failed, votes: self.votes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(settings: Settings, mut meets: impl FnMut(f64) -> bool) -> (Found, u32) {
        let mut search = Search::new(settings);
        let mut runs = 0;
        while let Some(rate) = search.rate() {
            search.record(meets(rate));
            runs += 1;
            assert!(runs < 1_000, "it comes to no end");
        }
        (search.found(), runs)
    }

    #[test]
    fn the_ceiling_is_found_to_its_precision() {
        for ceiling in [10.0, 137.0, 4_321.0, 99_999.0] {
            let (found, runs) = search(Settings::default(), |rate| rate <= ceiling);
            let (passed, failed) = (found.passed.unwrap(), found.failed.unwrap());
            assert!(passed <= ceiling && ceiling < failed && failed <= passed * 1.05);
            assert_eq!(found.votes, (2, 2), "two of three agree at once");
            assert!(runs < 50, "{runs}");
        }
    }

    #[test]
    fn noise_is_outvoted() {
        let mut random = fastrand::Rng::with_seed(4);
        let settings = Settings { repeat: 9, ..Settings::default() };
        let (found, _) = search(settings, |rate| (rate <= 1_000.0) != (random.f64() < 0.1));
        let passed = found.passed.unwrap();
        assert!((950.0..=1_000.0).contains(&passed), "{passed}");
    }

    #[test]
    fn ends_of_the_range_are_ends() {
        assert_eq!(search(Settings::default(), |_| false).0.passed, None);
        let settings = Settings { max: 500.0, ..Settings::default() };
        let found = search(settings, |_| true).0;
        assert_eq!((found.passed, found.failed), (Some(500.0), None));
    }
}

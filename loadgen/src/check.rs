//! The generator's check of itself: a run that it could not carry out as planned is invalid.

use std::time::Duration;

use crate::{duration::Shown, environment::Environment, measure::Times, report::Validity};

/// What the generator must keep to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// By how much the 99th percentile of what was due may have been late, in nanoseconds. 5 ms.
    pub lag_p99_max: u64,
    /// The share of a core that one of the generator's threads may be busy. 0.9.
    pub busy_max: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lag_p99_max: 5_000_000, busy_max: 0.9 }
    }
}

/// What the generator saw of itself in the measured part.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// From when something was due until it was done.
    pub lag: Times,
    /// The share of a core that its busiest thread was busy.
    pub busy: f64,
    /// Load average of the machine when the run began, per core.
    pub load_before: f64,
}

/// Whether figures may be believed.
pub fn judge(seen: &Seen, limits: Limits) -> Validity {
    let mut validity = Validity::default();
    let lag = seen.lag.quantile(0.99);
    if limits.lag_p99_max < lag {
        validity.invalid.push(format!(
            "the generator was late: 1 of 100 sendings came {} or more after it was due (at most \
             {} is allowed). Give it a core of its own, lower the rate, or use several processes",
            crate::report::time(lag),
            crate::report::time(limits.lag_p99_max),
        ));
    }
    if limits.busy_max < seen.busy {
        validity.invalid.push(format!(
            "the generator was saturated: its thread was busy {:.0} % of the time (at most {:.0} % \
             is allowed), so that it measured itself. Use fewer subscribers or several processes",
            seen.busy * 100.0,
            limits.busy_max * 100.0,
        ));
    }
    if 1.5 < seen.load_before {
        validity.warnings.push(format!(
            "the machine was busy before the run began (load {:.1} per core): times are not those \
             of a quiet machine",
            seen.load_before
        ));
    }
    validity
}

/// Warns of a generator that was built without optimisations.
pub fn note_build(validity: &mut Validity, environment: &Environment) {
    if !environment.optimised {
        let warning = "this is a debug build of aip-load: its own cost is several times higher";
        validity.warnings.push(warning.to_owned());
    }
}

/// A run that was interrupted is not the run that was planned.
pub fn note_interruption(validity: &mut Validity, measured: Duration, planned: Duration) {
    if measured < planned {
        let whole = Duration::from_millis(u64::try_from(measured.as_millis()).unwrap_or(u64::MAX));
        validity.invalid.push(format!(
            "the run was interrupted: figures are of {} of the {} that were planned",
            Shown(whole),
            Shown(planned)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(nanoseconds: u64) -> Times {
        let mut times = Times::default();
        for _ in 0..100 {
            times.record(nanoseconds);
        }
        times
    }

    #[test]
    fn a_late_or_saturated_generator_is_invalid() {
        let fine = Seen { lag: lag(100_000), busy: 0.5, load_before: 0.1 };
        assert_eq!(judge(&fine, Limits::default()), Validity::default());
        let late = Seen { lag: lag(6_000_000), ..Seen::default() };
        assert!(!judge(&late, Limits::default()).is_valid());
        let saturated = Seen { busy: 0.95, ..fine.clone() };
        assert!(!judge(&saturated, Limits::default()).is_valid());
        let noisy = Seen { load_before: 4.0, ..fine };
        let validity = judge(&noisy, Limits::default());
        assert!(validity.is_valid() && validity.warnings.len() == 1);
    }
}

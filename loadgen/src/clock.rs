//! The one place that reads clocks.

#![expect(clippy::disallowed_methods, reason = "this is the load generator's one clock reader")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch that never go backwards: read once from the system's clock,
/// then from the monotonic one. Processes of one machine agree to some microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Instant,
    unix_nanoseconds: u64,
}

impl Clock {
    /// A clock that agrees with the system's now.
    pub fn start() -> Self {
        Self { anchor: Instant::now(), unix_nanoseconds: unix_nanoseconds() }
    }

    /// A clock that says `unix_nanoseconds` at `anchor`.
    pub const fn at(anchor: Instant, unix_nanoseconds: u64) -> Self {
        Self { anchor, unix_nanoseconds }
    }

    /// Nanoseconds at this moment.
    pub fn now(&self) -> u64 {
        self.of(Instant::now())
    }

    /// Nanoseconds at `instant`.
    pub fn of(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.anchor).as_nanos();
        let before = self.anchor.saturating_duration_since(instant).as_nanos();
        let nanoseconds = u128::from(self.unix_nanoseconds) + since;
        u64::try_from(nanoseconds.saturating_sub(before)).unwrap_or(u64::MAX)
    }

    /// When this clock says `nanoseconds`.
    pub fn instant(&self, nanoseconds: u64) -> Instant {
        let later = Duration::from_nanos(nanoseconds.saturating_sub(self.unix_nanoseconds));
        let earlier = Duration::from_nanos(self.unix_nanoseconds.saturating_sub(nanoseconds));
        self.anchor.checked_sub(earlier).unwrap_or(self.anchor) + later
    }
}

/// The system's clock, for dates in reports.
pub fn unix_nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// This moment.
pub fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_nanoseconds_are_each_other() {
        let anchor = Instant::now();
        let clock = Clock::at(anchor, 1_000_000_000);
        assert_eq!(clock.of(anchor + Duration::from_nanos(5)), 1_000_000_005);
        assert_eq!(clock.instant(1_000_000_005), anchor + Duration::from_nanos(5));
        assert_eq!(clock.of(clock.instant(999_999_000)), 999_999_000);
    }
}

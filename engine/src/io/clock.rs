//! The one reader of the system's clock.

use std::time::{Duration, Instant};

/// Time beyond what was waited for after which the process is taken to have been stopped.
const STOPPED_MIN: Duration = Duration::from_secs(2);

/// The time, read once per turn: every callee of one turn sees the same.
///
/// Time in which the process, or its machine, was stopped does not count: what was not heard then
/// says nothing of whoever was not heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    now: Instant,
    stopped: Duration,
}

impl Clock {
    /// A clock that shows the present.
    pub(super) fn new() -> Self {
        Self { now: Self::system(), stopped: Duration::ZERO }
    }

    /// The time by the system's clock, to measure how long something takes.
    pub(super) fn system() -> Instant {
        Instant::now()
    }

    /// The time at the last [`Self::tick`].
    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    /// Time that does not count: how far this clock is behind the system's.
    pub(super) const fn stopped(&self) -> Duration {
        self.stopped
    }

    /// Reads the system's clock, after a wait of at most `waited`. How long the process was stopped,
    /// if it was.
    pub(super) fn tick(&mut self, waited: Duration) -> Option<Duration> {
        self.advance(Self::system(), waited)
    }

    fn advance(&mut self, system: Instant, waited: Duration) -> Option<Duration> {
        let now = system.checked_sub(self.stopped)?;
        let stopped = now.saturating_duration_since(self.now).saturating_sub(waited);
        if stopped < STOPPED_MIN {
            self.now = self.now.max(now);
            return None;
        }
        self.stopped += stopped;
        self.now += waited;
        Some(stopped)
    }
}

/// Wall-clock time, for certificates.
pub(super) fn since_unix_epoch() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_time_in_which_nothing_ran_does_not_count() {
        let mut clock = Clock::new();
        let began = clock.now();
        assert_eq!(clock.advance(began + SECOND, SECOND), None);
        assert_eq!(clock.now(), began + SECOND);
        // A wait of half a second took twenty.
        let stopped = clock.advance(began + SECOND * 21, SECOND / 2);
        assert_eq!(stopped, Some(SECOND * 20 - SECOND / 2));
        assert_eq!(clock.now(), began + SECOND * 3 / 2);
        assert_eq!(clock.stopped(), SECOND * 39 / 2);
        assert_eq!(clock.advance(began + SECOND * 22, SECOND), None);
        assert_eq!(clock.now(), began + SECOND * 5 / 2);
    }

    #[test]
    fn being_late_is_not_being_stopped() {
        let mut clock = Clock::new();
        let began = clock.now();
        assert_eq!(clock.advance(began + SECOND * 19 / 10, Duration::ZERO), None);
        assert_eq!(clock.now(), began + SECOND * 19 / 10);
    }
}

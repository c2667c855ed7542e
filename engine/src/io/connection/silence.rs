//! A peer from which nothing comes, though it was asked for a sign of life.

use std::time::{Duration, Instant};

/// Whether a peer is silent, and when it is found to be.
#[derive(Debug)]
pub(super) struct Silence {
    /// How long it may say nothing, beside the time that an answer takes; zero is for ever.
    most: Duration,
    /// When it is silent, or is given the time that an answer takes.
    at: Option<Instant>,
    is_answer_awaited: bool,
    is_silent: bool,
}

impl Silence {
    pub(super) const fn new(most: Duration) -> Self {
        Self { most, at: None, is_answer_awaited: false, is_silent: false }
    }

    /// The peer is heard. True if it had been silent.
    pub(super) fn heard(&mut self, now: Instant) -> bool {
        if !self.most.is_zero() {
            self.at = Some(now + self.most);
        }
        self.is_answer_awaited = false;
        std::mem::take(&mut self.is_silent)
    }

    /// Time until now does not count. Who was silent before is still.
    pub(super) fn forgive(&mut self, now: Instant) {
        if self.at.is_some() {
            self.at = Some(now + self.most);
            self.is_answer_awaited = false;
        }
    }

    /// When `handle_timeout` is wanted.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// The deadline has come; answers take `rtt`. True if the peer is silent now.
    pub(super) fn handle_timeout(&mut self, rtt: Duration, now: Instant) -> bool {
        if std::mem::replace(&mut self.is_answer_awaited, true) {
            self.at = None;
            self.is_silent = true;
        } else {
            self.at = Some(now + rtt);
        }
        self.is_silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(1);
    const RTT: Duration = Duration::from_millis(300);

    #[test]
    fn who_says_nothing_for_longer_than_an_answer_takes_is_silent_once() {
        let began = Instant::now();
        let mut silence = Silence::new(MOST);
        assert!(!silence.heard(began));
        assert_eq!(silence.deadline(), Some(began + MOST));
        assert!(!silence.handle_timeout(RTT, began + MOST));
        assert_eq!(silence.deadline(), Some(began + MOST + RTT));
        assert!(silence.handle_timeout(RTT, began + MOST + RTT));
        assert_eq!(silence.deadline(), None);
        assert!(silence.heard(began + MOST * 2), "it was silent until now");
        assert!(!silence.heard(began + MOST * 2));
    }

    #[test]
    fn an_answer_in_time_ends_the_wait() {
        let began = Instant::now();
        let mut silence = Silence::new(MOST);
        silence.heard(began);
        assert!(!silence.handle_timeout(RTT, began + MOST));
        assert!(!silence.heard(began + MOST + RTT / 2));
        assert_eq!(silence.deadline(), Some(began + MOST + RTT / 2 + MOST));
    }

    #[test]
    fn time_that_does_not_count_is_no_sign_of_life() {
        let began = Instant::now();
        let mut silence = Silence::new(MOST);
        silence.heard(began);
        silence.handle_timeout(RTT, began + MOST);
        silence.forgive(began + MOST * 9);
        assert_eq!(silence.deadline(), Some(began + MOST * 10));
        silence.handle_timeout(RTT, began + MOST * 10);
        assert!(silence.handle_timeout(RTT, began + MOST * 10 + RTT));
        silence.forgive(began + MOST * 20);
        assert_eq!(silence.deadline(), None);
        assert!(silence.heard(began + MOST * 20), "it was silent until now");
    }

    #[test]
    fn nobody_minds_the_silence_of_others() {
        let mut silence = Silence::new(Duration::ZERO);
        assert!(!silence.heard(Instant::now()));
        assert_eq!(silence.deadline(), None);
    }
}

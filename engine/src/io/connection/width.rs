//! Whether a path has become narrower than it was found to be.

use std::time::{Duration, Instant};

use super::PATH_MIN;

/// Timeouts without an acknowledgement between, after which nothing seems to pass.
const SILENT_TIMEOUTS: u32 = 2;
/// Wide packets that are written before it is seen what became of them.
const WIDE_WRITTEN: usize = 16;
/// Wide packets after which the count begins anew, whatever became of them.
const WIDE_MAX: usize = 64;
/// How often it is seen at most: quiche's counts cost a walk through the connection's streams.
const PAUSE: Duration = Duration::from_millis(50);

/// What quiche has counted of a connection so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) acknowledged_bytes: u64,
    pub(super) lost: usize,
    pub(super) lost_bytes: u64,
}

impl From<quiche::Stats> for Counted {
    fn from(stats: quiche::Stats) -> Self {
        Self {
            acknowledged_bytes: stats.acked_bytes,
            lost: stats.lost,
            lost_bytes: stats.lost_bytes,
        }
    }
}

/// Watches for packets that vanish because they are wide: wider than the 1,200 bytes that every
/// path carries.
///
/// Silence alone does not tell. The last packet that a congestion window has room for is often
/// small; it passes and is acknowledged, so that there is never silence, and a stream goes on at a
/// few bytes per round trip.
#[derive(Debug, Default)]
pub(super) struct Width {
    /// Wide packets written since `before`.
    wide: usize,
    before: Counted,
    /// When it was seen last.
    seen_at: Option<Instant>,
    acknowledged_bytes: u64,
    silent_timeouts: u32,
}

impl Width {
    /// A packet was written.
    pub(super) const fn note_written(&mut self, length: usize) {
        if PATH_MIN < length {
            self.wide += 1;
        }
    }

    /// Whether enough was written to ask [`Width::is_doubtful`], which takes note that it was.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = WIDE_WRITTEN <= self.wide
            && self.seen_at.is_none_or(|at| PAUSE <= now.saturating_duration_since(at));
        if is_due {
            self.seen_at = Some(now);
        }
        is_due
    }

    /// Whether about as many wide packets were lost as were written.
    pub(super) fn is_doubtful(&mut self, now: Counted) -> bool {
        let lost = now.lost - self.before.lost;
        let lost_bytes = now.lost_bytes - self.before.lost_bytes;
        let passes = lost * 2 < self.wide;
        // The newest of them may still be on their way.
        let vanishes = self.wide <= lost + lost / 8
            && u64::try_from(lost * PATH_MIN).is_ok_and(|least| least < lost_bytes);
        if passes || vanishes || WIDE_MAX <= self.wide {
            self.wide = 0;
            self.before = now;
        }
        vanishes
    }

    /// Whether this timeout is one of several between which nothing was acknowledged.
    pub(super) const fn is_silent(&mut self, now: Counted) -> bool {
        if self.acknowledged_bytes != now.acknowledged_bytes {
            self.acknowledged_bytes = now.acknowledged_bytes;
            self.silent_timeouts = 0;
        }
        self.silent_timeouts += 1;
        let is_silent = SILENT_TIMEOUTS <= self.silent_timeouts;
        if is_silent {
            self.silent_timeouts = 0;
        }
        is_silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: usize = 1_452;

    /// What becomes of packets: each of a round is written, then some of them are lost.
    struct Path {
        width: Width,
        counted: Counted,
        now: Instant,
    }

    impl Path {
        fn new() -> Self {
            Self { width: Width::default(), counted: Counted::default(), now: Instant::now() }
        }

        fn write(&mut self, length: usize, count: usize) {
            for _ in 0..count {
                self.width.note_written(length);
            }
        }

        fn lose(&mut self, length: usize, count: usize) {
            self.counted.lost += count;
            self.counted.lost_bytes += u64::try_from(length * count).unwrap();
        }

        fn acknowledge(&mut self, length: usize) {
            self.counted.acknowledged_bytes += u64::try_from(length).unwrap();
        }

        fn is_doubted(&mut self) -> bool {
            self.now += PAUSE;
            self.width.is_due(self.now) && self.width.is_doubtful(self.counted)
        }

        /// Whether it is doubted in so many rounds of a small packet that passes and wide ones.
        fn is_doubted_within(&mut self, rounds: usize, wide: usize, lost: usize) -> bool {
            (0..rounds).any(|_| {
                self.write(WIDE, wide);
                self.write(90, 1);
                let doubted = self.is_doubted();
                self.lose(WIDE, lost);
                self.acknowledge(90 + WIDE * (wide - lost));
                let silent = self.width.is_silent(self.counted);
                assert!(!silent, "something was acknowledged");
                doubted
            })
        }
    }

    #[test]
    fn a_path_that_carries_small_packets_only_is_doubted() {
        let mut path = Path::new();
        assert!(!path.is_doubted_within(100, 10, 0));
        assert!(path.is_doubted_within(40, 1, 1));
    }

    #[test]
    fn what_was_on_its_way_when_the_path_became_narrower_counts() {
        let mut path = Path::new();
        path.write(WIDE, 54);
        assert!(!path.is_doubted());
        path.lose(WIDE, 54);
        assert!(path.is_doubted_within(40, 1, 1));
    }

    #[test]
    fn a_path_that_loses_some_of_all_is_not_doubted() {
        let mut path = Path::new();
        assert!(!path.is_doubted_within(1_000, 10, 3));
    }

    #[test]
    fn a_path_that_loses_small_packets_is_not_doubted() {
        let mut path = Path::new();
        for _ in 0..1_000 {
            path.write(90, 4);
            path.write(WIDE, 1);
            path.lose(90, 2);
            assert!(!path.is_doubted());
        }
    }

    #[test]
    fn small_packets_that_were_lost_long_ago_do_not_matter() {
        let mut path = Path::new();
        path.lose(90, 10_000);
        assert!(path.is_doubted_within(200, 1, 1));
    }

    #[test]
    fn it_is_seen_now_and_then_however_much_is_written() {
        let mut path = Path::new();
        path.write(WIDE, 1_000);
        assert!(path.width.is_due(path.now));
        assert!(!path.width.is_due(path.now));
        assert!(path.width.is_due(path.now + PAUSE));
    }

    #[test]
    fn silence_is_two_timeouts_without_an_acknowledgement() {
        let mut path = Path::new();
        assert!(!path.width.is_silent(path.counted));
        path.acknowledge(90);
        assert!(!path.width.is_silent(path.counted));
        assert!(path.width.is_silent(path.counted));
        assert!(!path.width.is_silent(path.counted));
    }
}

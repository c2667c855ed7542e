//! Peers that open request streams only to reset them.
//!
//! Who resets what was answered has made use of it: a reader of one version leaves so, and the
//! caller of a call that is over.

use std::time::{Duration, Instant};

use super::Misbehavior;

/// Streams after which a peer is judged, and judging begins anew.
const STREAMS: u32 = 500;
/// A reset so soon after its stream began is hasty.
const HASTY: Duration = Duration::from_secs(1);

/// How a peer uses its request streams: of each 500, it may reset half within a second, unanswered.
#[derive(Debug, Default)]
pub(super) struct Flood {
    begun: u32,
    hasty: u32,
}

impl Flood {
    /// The peer has opened a request stream.
    pub(super) const fn stream_begun(&mut self) {
        if self.begun == STREAMS {
            *self = Self { begun: 0, hasty: 0 };
        }
        self.begun += 1;
    }

    /// The peer has reset a request stream that began at `began`, before it was answered.
    pub(super) fn stream_reset(&mut self, began: Instant, now: Instant) -> Result<(), Misbehavior> {
        self.hasty += u32::from(now < began + HASTY);
        if STREAMS / 2 < self.hasty { Err(Misbehavior::TooManyResets) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resets `resets` of each 500 streams after `age`; whether 5,000 streams go well.
    fn goes_well(resets: u32, age: Duration) -> bool {
        #[expect(clippy::disallowed_methods, reason = "only a beginning to count from")]
        let began = Instant::now();
        let mut flood = Flood::default();
        (0..5_000).all(|stream| {
            flood.stream_begun();
            stream % STREAMS >= resets || flood.stream_reset(began, began + age).is_ok()
        })
    }

    #[test]
    fn more_than_half_of_the_streams_reset_at_once_is_a_flood() {
        assert!(goes_well(250, Duration::ZERO));
        assert!(!goes_well(251, Duration::from_millis(999)));
        assert!(goes_well(500, Duration::from_secs(1)), "cancelling what takes long is no fault");
    }
}

//! When a worker lets acknowledgements gather before it receives again.
//!
//! What goes out to many peers is acknowledged by each alone, and each acknowledgement would wake a
//! worker that sleeps: a wake-up, a system call and caches gone cold for a packet that nothing waits
//! for. So while many peers owe one, a worker that has nothing to do naps instead of waiting for the
//! next packet, as a network card holds back its interrupts. It does not while what it has to send
//! waits for acknowledgements, nor for a while after naps in which nothing gathered.

use std::time::Duration;

/// Peers that must owe an acknowledgement: of fewer, each is taken as it comes.
const OWING_MIN: usize = 16;
/// Of the peers that owe one, so many to one for whom something waits.
const OWING_PER_HELD: usize = 8;
/// Packets that a nap must bring to be worth it.
const PACKETS_MIN: u64 = 4;
/// Waits that are no naps after one that was not.
const RESTS: u32 = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Gathering {
    nap: Duration,
    /// Packets received before the last nap, if that is what came last.
    before: Option<u64>,
    /// Waits that are no naps.
    rests: u32,
}

/// How it stands with a worker that has nothing to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Packets received so far.
    pub(super) received: u64,
    /// Peers that owe an acknowledgement.
    pub(super) owing: usize,
    /// Peers for whom something waits until they have acknowledged.
    pub(super) held: usize,
}

impl Gathering {
    /// Naps are so long; zero is none.
    pub(super) const fn new(nap: Duration) -> Self {
        Self { nap, before: None, rests: 0 }
    }

    /// How long to nap; `None` if the next packet is to be waited for.
    pub(super) fn next(&mut self, standing: Standing) -> Option<Duration> {
        let Standing { received, owing, held } = standing;
        if let Some(before) = self.before.take()
            && received - before < PACKETS_MIN
        {
            self.rests = RESTS;
        }
        if self.nap.is_zero() || owing < OWING_MIN || owing < held * OWING_PER_HELD {
            return None;
        }
        if let Some(rests) = self.rests.checked_sub(1) {
            self.rests = rests;
            return None;
        }
        self.before = Some(received);
        Some(self.nap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAP: Duration = Duration::from_micros(200);
    const MANY: Standing = Standing { received: 0, owing: 200, held: 0 };

    #[test]
    fn naps_while_many_owe_and_little_is_held() {
        let mut gathering = Gathering::new(NAP);
        assert_eq!(gathering.next(MANY), Some(NAP));
        assert_eq!(gathering.next(Standing { received: 100, held: 25, ..MANY }), Some(NAP));
        assert_eq!(gathering.next(Standing { received: 200, held: 26, ..MANY }), None);
        assert_eq!(gathering.next(Standing { received: 200, owing: 15, ..MANY }), None);
        assert_eq!(Gathering::new(Duration::ZERO).next(MANY), None);
    }

    #[test]
    fn rests_after_a_nap_that_brought_little() {
        let mut gathering = Gathering::new(NAP);
        assert_eq!(gathering.next(MANY), Some(NAP));
        let little = Standing { received: PACKETS_MIN - 1, ..MANY };
        for _ in 0..RESTS {
            assert_eq!(gathering.next(little), None);
        }
        assert_eq!(gathering.next(little), Some(NAP));
    }
}

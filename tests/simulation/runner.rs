//! Many seeds on all cores.

use std::{
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Seeds that failed; after so many no others are begun.
const FAILURES_MAX: usize = 10;

/// Runs `check` for each of `seeds`, on all cores; `tell` hears now and then how many are done,
/// and in what time. Returns the seeds that failed, smallest first.
#[expect(clippy::disallowed_methods, reason = "how long it takes is told to people")]
pub(crate) fn run(
    seeds: std::ops::Range<u64>,
    check: impl Fn(u64) + Sync,
    tell: impl Fn(u64, Duration) + Sync,
) -> Vec<u64> {
    let begun_at = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let done = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let failures = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let told_at = Mutex::new(begun_at);
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while failures().len() < FAILURES_MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seeds.end <= seed {
                        break;
                    }
                    if catch_unwind(AssertUnwindSafe(|| check(seed))).is_err() {
                        failures().push(seed);
                    }
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    let mut told_at = told_at.lock().unwrap_or_else(PoisonError::into_inner);
                    if Duration::from_secs(5) <= told_at.elapsed() {
                        *told_at = Instant::now();
                        tell(done, begun_at.elapsed());
                    }
                }
            });
        }
    });
    tell(done.into_inner(), begun_at.elapsed());
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_unstable();
    failed
}

//! Tells when something is due, to some tens of microseconds.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::{clock, schedule::Schedule};

/// Something that is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    /// Its number.
    pub(super) sequence: u64,
    /// From the beginning.
    pub(super) offset: Duration,
}

/// Arrivals that may wait to be taken. Beyond, the pacer waits, and its lateness is measured.
const WAITING_MAX: usize = 65_536;

/// Begins to tell of a schedule that begins at `origin`, from a thread of its own: the runtime's
/// timers are good to a millisecond only.
pub(super) fn start(schedule: Schedule, origin: Instant) -> Result<mpsc::Receiver<Due>, String> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let pace = move || {
        for (sequence, offset) in schedule.enumerate() {
            let wait = (origin + offset).saturating_duration_since(clock::now());
            if !wait.is_zero() {
                sleep(wait);
            }
            let due = Due { sequence: sequence as u64, offset };
            if sender.blocking_send(due).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("aip-pacer".to_owned())
        .spawn(pace)
        .map_err(|error| format!("no thread can be had: {error}"))?;
    Ok(receiver)
}

#[expect(clippy::disallowed_methods, reason = "pacing is waiting for a time")]
fn sleep(wait: Duration) {
    std::thread::sleep(wait);
}

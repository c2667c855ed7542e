//! Which core a thread runs on, and what CPU time it took.

use std::{io, mem, time::Duration};

/// Lets the calling thread, and what it starts from now on, run on one core only.
///
/// Does nothing but one system call, so that it may stand between `fork` and `exec`.
///
/// # Errors
/// If there is no such core, or this process may not use it.
pub fn pin(core: usize) -> io::Result<()> {
    // SAFETY: a set of cores is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    if size_of::<libc::cpu_set_t>() * 8 <= core {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the core is within the set, as checked above.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set lives through the call, and its size is its own.
    let done = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// CPU time of the calling thread.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_is_not_there_is_an_error() {
        assert!(pin(1_023).is_err());
        assert!(pin(usize::MAX).is_err());
    }
}

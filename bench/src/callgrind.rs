//! Instructions of a scenario, counted by callgrind (valgrind).
//!
//! Counts are repeatable where times are not. They are of one processor architecture, one compiler
//! and one profile; what the kernel does is not in them.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::scenario::Scenario;

/// Runs before anything is counted, for buffers to grow.
const WARM_UP: u64 = 3;
/// Runs that are counted.
const RUNS: u64 = 20;

/// valgrind's requests to callgrind, as its valgrind.h numbers them.
const START: u64 = 0x4354_0004;
const STOP: u64 = 0x4354_0005;

/// Asks valgrind for something; nothing happens where the program does not run in it.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn ask(request: u64) {
    let words = [request, 0, 0, 0, 0, 0];
    // SAFETY: rdi is turned by 128 bits, which is not at all, and rbx exchanged with itself. In
    // valgrind, which knows the sequence, the words behind rax are read and rdx is written.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") words.as_ptr(),
            inout("rdx") 0_u64 => _,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn ask(_request: u64) {}

/// Runs a scenario where callgrind watches: only its own part is counted.
pub fn run(mut scenario: Scenario) {
    for _ in 0..WARM_UP {
        scenario();
    }
    ask(START);
    for _ in 0..RUNS {
        scenario();
    }
    ask(STOP);
}

/// Counts a scenario's instructions: `program NAME` has to [`run`] it. The cost of one of what the
/// scenario does `times` in a run.
///
/// # Errors
/// If valgrind is missing, or counts nothing.
pub fn count(program: &Path, name: &str, times: u64) -> Result<f64, String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("instructions are counted on x86-64 only".to_owned());
    }
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--instr-atstart=no"])
        .arg(program)
        .args(["run", name])
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind does not run: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    let total = collected(&words).filter(|total| 0 < *total && output.status.success());
    let total = total.ok_or_else(|| format!("{name} was not counted:\n{words}"))?;
    Ok(total as f64 / (RUNS * times) as f64)
}

/// The number in `Collected : N` of callgrind's last words.
fn collected(words: &str) -> Option<u64> {
    let line = words.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 1234\n"), Some(1_234));
        assert_eq!(collected("==7== valgrind: failed"), None);
    }

    #[test]
    fn outside_of_valgrind_nothing_happens() {
        let mut runs = 0;
        let counted = std::rc::Rc::new(std::cell::Cell::new(0));
        let seen = std::rc::Rc::clone(&counted);
        let again = move || {
            runs += 1;
            seen.set(runs);
        };
        run(Box::new(again));
        assert_eq!(counted.get(), WARM_UP + RUNS);
    }
}

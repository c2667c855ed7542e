//! Where a run took place.

use serde::{Deserialize, Serialize};

use crate::clock;

/// The machine and its state.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Environment {
    /// Of this program.
    pub version: String,
    /// Whether it was built with optimisations.
    pub optimised: bool,
    /// When the run began, in seconds since the Unix epoch.
    pub began_unix_seconds: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Bytes of memory of the machine.
    pub memory_bytes: u64,
    /// The load average of a minute when the run began.
    pub load_before: f64,
    /// The same when it ended; the run is part of it.
    pub load_after: f64,
}

impl Environment {
    /// What is known at the beginning. What cannot be read is empty.
    pub fn observe() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kibibytes: u64 =
            memory.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            optimised: !cfg!(debug_assertions),
            began_unix_seconds: clock::unix_nanoseconds() / 1_000_000_000,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: kibibytes << 10,
            load_before: load_average(),
            load_after: 0.0,
        }
    }

    /// Notes what is known at the end.
    pub fn conclude(&mut self) {
        self.load_after = load_average();
    }
}

fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

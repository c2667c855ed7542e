//! What other processes use while they are loaded: CPU, memory, context switches.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};

/// What a process used between two looks.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Usage {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Seconds of CPU, user and system, of all its threads.
    pub cpu_seconds: f64,
    /// The same as a share of one core.
    pub cpu_share: f64,
    /// The most resident memory that was seen.
    pub rss_max_bytes: u64,
    /// Times that a thread gave its core up.
    pub switches_voluntary: u64,
    /// Times that a thread was made to.
    pub switches_involuntary: u64,
}

#[derive(Clone, Debug, Default)]
struct Look {
    cpu_seconds: f64,
    rss_bytes: u64,
    voluntary: u64,
    involuntary: u64,
}

/// Looks at processes.
#[derive(Debug, Default)]
pub struct Watch {
    names: BTreeMap<u32, String>,
    first: BTreeMap<u32, Look>,
    last: BTreeMap<u32, Look>,
    rss_max: BTreeMap<u32, u64>,
}

impl Watch {
    /// A watch over what each of `whom` names: a process's number, or the name of its program.
    ///
    /// # Errors
    /// If one names no process.
    pub fn new(whom: &[String]) -> Result<Self, String> {
        let mut watch = Self::default();
        for one in whom {
            let found = find(one);
            if found.is_empty() {
                return Err(format!("--watch {one}: there is no such process"));
            }
            watch.names.extend(found);
        }
        Ok(watch)
    }

    /// Begins to count.
    pub fn begin(&mut self) {
        self.look();
        self.first = self.last.clone();
        self.rss_max.clear();
    }

    /// Looks again; memory is seen only by looks.
    pub fn look(&mut self) {
        for &pid in self.names.keys() {
            if let Some(look) = look(pid) {
                let most = self.rss_max.entry(pid).or_default();
                *most = (*most).max(look.rss_bytes);
                self.last.insert(pid, look);
            }
        }
    }

    /// What was used in `seconds` between [`Self::begin`] and the last look.
    pub fn usage(&self, seconds: f64) -> Vec<Usage> {
        let nothing = Look::default();
        let usage = |(&pid, name): (&u32, &String)| {
            let first = self.first.get(&pid).unwrap_or(&nothing);
            let last = self.last.get(&pid).unwrap_or(first);
            let cpu_seconds = (last.cpu_seconds - first.cpu_seconds).max(0.0);
            Usage {
                pid,
                name: name.clone(),
                cpu_seconds,
                cpu_share: if seconds == 0.0 { 0.0 } else { cpu_seconds / seconds },
                rss_max_bytes: self.rss_max.get(&pid).copied().unwrap_or_default(),
                switches_voluntary: last.voluntary.saturating_sub(first.voluntary),
                switches_involuntary: last.involuntary.saturating_sub(first.involuntary),
            }
        };
        self.names.iter().map(usage).collect()
    }
}

/// Seconds of CPU, user and system, of all threads that a process has and had: its CPU clock,
/// which tells nanoseconds, where `/proc` tells hundredths of a second.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the clock's number is written to a place that lives through the call.
    let found = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if found != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above.
    let read = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (read == 0).then(|| time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// The processes that a number or a name names.
fn find(whom: &str) -> BTreeMap<u32, String> {
    if let Ok(pid) = whom.parse() {
        return name(pid).map(|name| (pid, name)).into_iter().collect();
    }
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let own = std::process::id();
    pids.filter(|pid| *pid != own)
        .filter_map(|pid| Some((pid, name(pid)?)))
        .filter(|(pid, name)| name == whom || program(*pid).as_deref() == Some(whom))
        .collect()
}

fn name(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

/// The file name of a process's program, which its name may be a part of.
fn program(pid: u32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(Path::new(&path).file_name()?.to_str()?.to_owned())
}

fn look(pid: u32) -> Option<Look> {
    let mut look = Look { cpu_seconds: cpu_seconds(pid)?, ..Look::default() };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    for line in status.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.split_whitespace().next().and_then(|word| word.parse().ok());
        if let ("VmRSS", Some(value)) = (key, value) {
            look.rss_bytes = u64::saturating_mul(value, 1_024);
        }
    }
    (look.voluntary, look.involuntary) = switches(pid);
    Some(look)
}

/// Context switches of all threads: a process's own status tells only of its first one.
fn switches(pid: u32) -> (u64, u64) {
    let mut sum = (0, 0);
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return sum };
    for thread in threads.flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        for line in status.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value: u64 = value.trim().parse().unwrap_or_default();
            match key {
                "voluntary_ctxt_switches" => sum.0 += value,
                "nonvoluntary_ctxt_switches" => sum.1 += value,
                _ => {}
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_watched_by_number() {
        let own = std::process::id();
        let mut watch = Watch::new(&[own.to_string()]).unwrap();
        watch.begin();
        let mut work = 0_u64;
        // Until the kernel's clock of CPU time has moved.
        while watch.usage(1.0)[0].cpu_seconds < 0.02 {
            for step in 0..1_000_000_u64 {
                work = std::hint::black_box(work.wrapping_add(step));
            }
            watch.look();
        }
        let usage = &watch.usage(2.0)[0];
        assert_eq!(usage.pid, own);
        assert!((usage.cpu_share - usage.cpu_seconds / 2.0).abs() < 1e-9);
        assert!(1 << 20 < usage.rss_max_bytes);
    }

    #[test]
    fn who_is_not_there_is_an_error() {
        assert!(Watch::new(&["no program has such a name".to_owned()]).is_err());
    }
}

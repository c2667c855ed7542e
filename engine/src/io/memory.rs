//! How much memory this process may have, and whether it comes near that.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(250);
/// Quarters of what may be had above which it is short, and eighths below which it is no longer: what
/// is freed is not given back to the last byte.
const SHORT_QUARTERS: u64 = 3;
const ENOUGH_EIGHTHS: u64 = 5;

/// Where hierarchies of control groups are, what `/proc/self/cgroup` calls them, and in which of their
/// files a limit stands: version 2, and version 1.
const HIERARCHIES: [(&str, &str, &str); 2] = [
    ("", "/sys/fs/cgroup", "memory.max"),
    ("memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
];
/// Version 1 says this much or more for no limit.
const NO_LIMIT: u64 = 1 << 60;

/// Bytes that the control groups of this process let it have. Nothing if they set no limit.
pub fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = HIERARCHIES.iter().filter_map(|&(controllers, root, file)| {
        let group = groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (names, group) = rest.split_once(':')?;
            names.split(',').any(|name| name == controllers).then_some(group)
        })?;
        lowest(Path::new(root), group, |path| fs::read_to_string(path.join(file)).ok())
    });
    limits.min()
}

/// The lowest of the limits of a group and of those that it is in. `read` tells what a group's file
/// says. In a container the group is seen as the root, whatever it is called.
fn lowest(root: &Path, group: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let group = Path::new(group.trim_start_matches('/'));
    let limit = |group: &Path| read(&root.join(group))?.trim().parse::<u64>().ok();
    group.ancestors().filter_map(limit).filter(|&limit| limit < NO_LIMIT).min()
}

/// Watches the memory of this process.
#[derive(Debug)]
pub(super) struct Memory {
    /// Bytes that it may have.
    max: Option<u64>,
    is_short: bool,
    look_at: Instant,
}

impl Memory {
    pub(super) const fn new(max: Option<u64>, now: Instant) -> Self {
        Self { max, is_short: false, look_at: now }
    }

    /// Looks, if it is time to. Whether memory is short, if that has changed.
    pub(super) fn look(&mut self, now: Instant) -> Option<bool> {
        let max = self.max?;
        if now < self.look_at {
            return None;
        }
        self.look_at = now + INTERVAL;
        if self.is_short {
            give_back();
        }
        let is_short = is_short(self.is_short, resident()?, max);
        (std::mem::replace(&mut self.is_short, is_short) != is_short).then_some(is_short)
    }
}

/// Whether memory is short with so many bytes of so many in use.
const fn is_short(was: bool, used: u64, max: u64) -> bool {
    if was { max / 8 * ENOUGH_EIGHTHS < used } else { max / 4 * SHORT_QUARTERS < used }
}

/// Gives back to the system what this thread has freed. The allocator keeps that for about a second,
/// for what comes next; where memory is short, or what was freed is much and seldom, that is too long.
pub fn give_back() {
    // SAFETY: it takes nothing, and any thread may call it at any time. Where another allocator is in
    // use, this one has nothing to give back.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Bytes of this process that are in RAM.
pub(super) fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_all_groups_around_counts() {
        let read = |path: &Path| {
            let said = match path.to_str()? {
                "/root/a/b" => "max\n",
                "/root/a" => "3000\n",
                "/root/" => "9223372036854771712\n",
                _ => return None,
            };
            Some(said.to_owned())
        };
        assert_eq!(lowest(Path::new("/root"), "/a/b", read), Some(3_000));
        assert_eq!(lowest(Path::new("/root"), "/", read), None);
        assert_eq!(lowest(Path::new("/root"), "/../elsewhere", |_| Some("5".to_owned())), Some(5));
    }

    #[test]
    fn memory_is_short_above_three_quarters_until_below_five_eighths() {
        assert!(!is_short(false, 750, 1_000));
        assert!(is_short(false, 751, 1_000));
        assert!(is_short(true, 626, 1_000));
        assert!(!is_short(true, 625, 1_000));
    }

    #[test]
    fn changes_alone_are_told() {
        let now = Instant::now();
        let mut memory = Memory::new(Some(1), now);
        assert_eq!(memory.look(now), Some(true));
        assert_eq!(memory.look(now + INTERVAL), None);
        memory.max = Some(1 << 50);
        assert_eq!(memory.look(now + INTERVAL), None);
        assert_eq!(memory.look(now + INTERVAL * 2), Some(false));
        assert_eq!(Memory::new(None, now).look(now), None);
    }
}

//! The one place where the edges read the time of day.

/// Milliseconds since 1970, for group ids that grow across restarts.
#[expect(clippy::disallowed_methods, reason = "a group's number must grow across restarts")]
pub fn unix_milliseconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

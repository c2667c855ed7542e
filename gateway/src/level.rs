//! Levels of log messages.

/// Most talkative first.
const LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// How many levels there are: above every [`index`].
pub(crate) const COUNT: usize = LEVELS.len();

/// The place of a level, the most talkative one first; `None` if it is none.
pub(crate) fn index(level: &str) -> Option<usize> {
    LEVELS.iter().position(|known| *known == level)
}

/// Whether who wants `wanted` and above wants a message of `level`. What is no level is wanted.
pub(crate) fn passes(wanted: &str, level: Option<&str>) -> bool {
    match (index(wanted), level.and_then(index)) {
        (Some(wanted), Some(level)) => wanted <= level,
        (None, _) | (Some(_), None) => true,
    }
}

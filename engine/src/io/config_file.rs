//! Configuration files.

/// Durations as text: `250ms`, `1.5s`, `2m`.
pub(super) mod duration {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, de::Error as _};

    pub(in crate::io) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            D::Error::custom(format!("{text:?} is no duration: write 250ms, 1.5s or 2m"))
        })
    }

    /// The duration that `text` says.
    pub(in crate::io) fn parse(text: &str) -> Option<Duration> {
        let (number, unit) = [("ms", 0.001), ("s", 1.0), ("m", 60.0)]
            .into_iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
        Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * unit).ok()
    }
}

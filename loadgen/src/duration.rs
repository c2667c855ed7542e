//! Durations as people write them: `500us`, `20ms`, `1.5s`, `2m`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A unit is needed, so that nobody's milliseconds are taken for seconds.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let unit = text.find(|letter: char| letter.is_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let scale = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("`{text}` needs a unit: ns, us, ms, s, m or h")),
    };
    let number: f64 = number.trim().parse().map_err(|_| format!("`{text}` is no time"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| format!("`{text}` is no time"))
}

/// Writes a duration so that [`parse`] reads it.
#[derive(Clone, Copy, Debug)]
pub struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        let (scale, unit) = match nanoseconds {
            0 => (1, "s"),
            _ if nanoseconds.is_multiple_of(1_000_000_000) => (1_000_000_000, "s"),
            _ if nanoseconds.is_multiple_of(1_000_000) => (1_000_000, "ms"),
            _ if nanoseconds.is_multiple_of(1_000) => (1_000, "us"),
            _ => (1, "ns"),
        };
        write!(formatter, "{}{unit}", nanoseconds / scale)
    }
}

/// A time, or one that is drawn evenly from a range: `500ms`, `1s..5s`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span {
    /// The least.
    pub from: Duration,
    /// The most.
    pub to: Duration,
}

impl Span {
    /// A time of it.
    pub fn draw(self, random: &mut fastrand::Rng) -> Duration {
        self.from + self.to.saturating_sub(self.from).mul_f64(random.f64())
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((from, to)) = text.split_once("..") else {
            let time = parse(text)?;
            return Ok(Self { from: time, to: time });
        };
        let span = Self { from: parse(from)?, to: parse(to)? };
        if span.to < span.from {
            return Err(format!("`{text}` goes backwards"));
        }
        Ok(span)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(self.from).fmt(formatter)?;
        if self.from != self.to {
            write!(formatter, "..{}", Shown(self.to))?;
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'a> Deserialize<'a> for Span {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Serde's way to write durations as text.
pub mod text {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes [`super::Shown`].
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&super::Shown(*time))
    }

    /// Reads what [`super::parse`] reads.
    ///
    /// # Errors
    /// If the text is no duration.
    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
        super::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_times_or_ranges() {
        let mut random = fastrand::Rng::with_seed(1);
        for text in ["0s", "500ms", "1s..5s"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string(), text);
            for _ in 0..100 {
                let time = span.draw(&mut random);
                assert!(span.from <= time && time <= span.to, "{time:?}");
            }
        }
        for text in ["5s..1s", "1..2", "", "1s.."] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, nanoseconds) in
            [("20ms", 20_000_000), ("1.5s", 1_500_000_000), ("3us", 3_000), ("2m", 120_000_000_000)]
        {
            let time = parse(text).unwrap();
            assert_eq!(time, Duration::from_nanos(nanoseconds));
            assert_eq!(parse(&Shown(time).to_string()), Ok(time));
        }
        for text in ["5", "", "-1s", "ms", "1d", "1e30h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

//! When requests are due: open-loop arrivals, which wait for nobody.
//!
//! A shape says the rate at each moment; its integral `N(t)` counts the arrivals until then. An
//! evenly spaced schedule has its `i`-th arrival where `N(t) = i`; a Poisson schedule where `N(t)`
//! is the sum of `i` exponential gaps of mean 1, which is the inhomogeneous Poisson process of that
//! rate. The same seed gives the same arrivals.

mod times;

use std::{fmt, str::FromStr, time::Duration};

pub use self::times::Schedule;
use crate::duration;

/// How gaps between arrivals are made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Spacing {
    /// As even as the rate allows.
    #[default]
    Even,
    /// Exponential gaps: independent users.
    Poisson,
}

/// How the rate goes over the measured time. Rates are arrivals per second.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// The same all the time.
    Constant(f64),
    /// From one rate to another, linearly.
    Ramp {
        /// At the beginning.
        from: f64,
        /// At the end.
        to: f64,
    },
    /// From one rate to another, in equal stairs.
    Step {
        /// The first stair's.
        from: f64,
        /// The last stair's.
        to: f64,
        /// Stairs; at least 2.
        steps: u32,
    },
    /// One rate, and for some time another.
    Spike {
        /// Before and after.
        base: f64,
        /// In between.
        peak: f64,
        /// When it begins.
        at: Duration,
        /// How long it lasts.
        length: Duration,
    },
    /// Recorded arrivals, in seconds from the beginning, ascending.
    Trace(Vec<f64>),
}

/// A shape and its spacing.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrivals {
    /// The rate.
    pub shape: Shape,
    /// The gaps.
    pub spacing: Spacing,
}

/// What is wrong with a description of arrivals.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{text}` describes no arrivals: {reason}. Examples: constant:500, poisson:500, \
     ramp:100..1000, step:100..1000/5, spike:100^1000@5s+1s, poisson-ramp:100..1000, trace:FILE"
)]
pub struct InvalidArrivals {
    text: String,
    reason: String,
}

impl FromStr for Arrivals {
    type Err = InvalidArrivals;

    fn from_str(text: &str) -> Result<Self, InvalidArrivals> {
        let wrong = |reason: &str| InvalidArrivals { text: text.into(), reason: reason.into() };
        let (kind, rest) = text.split_once(':').unwrap_or(("constant", text));
        let (spacing, kind) = match kind {
            "poisson" => (Spacing::Poisson, "constant"),
            _ => match kind.strip_prefix("poisson-") {
                Some(kind) => (Spacing::Poisson, kind),
                None => (Spacing::Even, kind),
            },
        };
        let shape = match kind {
            "constant" => rate(rest).map(Shape::Constant),
            "ramp" => rest
                .split_once("..")
                .and_then(|(from, to)| Some(Shape::Ramp { from: rate(from)?, to: rate(to)? })),
            "step" => step(rest),
            "spike" => spike(rest),
            "trace" if spacing == Spacing::Even => {
                return Ok(Self {
                    shape: Shape::Trace(trace(rest).map_err(|it| wrong(&it))?),
                    spacing,
                });
            }
            _ => return Err(wrong("the kind is not known")),
        };
        let shape = shape.ok_or_else(|| wrong("the numbers cannot be read, or are negative"))?;
        Ok(Self { shape, spacing })
    }
}

fn rate(text: &str) -> Option<f64> {
    text.parse().ok().filter(|rate: &f64| rate.is_finite() && 0.0 <= *rate)
}

fn step(text: &str) -> Option<Shape> {
    let (from, rest) = text.split_once("..")?;
    let (to, steps) = rest.split_once('/')?;
    let steps = steps.parse().ok().filter(|steps| (2..=10_000).contains(steps))?;
    Some(Shape::Step { from: rate(from)?, to: rate(to)?, steps })
}

fn spike(text: &str) -> Option<Shape> {
    let (base, rest) = text.split_once('^')?;
    let (peak, rest) = rest.split_once('@')?;
    let (at, length) = rest.split_once('+')?;
    Some(Shape::Spike {
        base: rate(base)?,
        peak: rate(peak)?,
        at: duration::parse(at).ok()?,
        length: duration::parse(length).ok()?,
    })
}

/// One number a line, in seconds; empty lines and lines with `#` are skipped.
fn trace(path: &str) -> Result<Vec<f64>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let mut times = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let time = rate(line).ok_or_else(|| format!("{path}: line {}: no seconds", index + 1))?;
        if times.last().is_some_and(|last| time < *last) {
            return Err(format!("{path}: line {}: earlier than the line before", index + 1));
        }
        times.push(time);
    }
    if times.is_empty() {
        return Err(format!("{path} holds no arrival"));
    }
    Ok(times)
}

impl fmt::Display for Arrivals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.spacing == Spacing::Poisson {
            formatter.write_str("poisson-")?;
        }
        match &self.shape {
            Shape::Constant(rate) => write!(formatter, "constant:{rate}"),
            Shape::Ramp { from, to } => write!(formatter, "ramp:{from}..{to}"),
            Shape::Step { from, to, steps } => write!(formatter, "step:{from}..{to}/{steps}"),
            Shape::Spike { base, peak, at, length } => {
                let (at, length) = (duration::Shown(*at), duration::Shown(*length));
                write!(formatter, "spike:{base}^{peak}@{at}+{length}")
            }
            Shape::Trace(times) => write!(formatter, "trace of {} arrivals", times.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Duration = Duration::ZERO;

    fn times(text: &str, seconds: u64, seed: u64) -> Vec<f64> {
        let arrivals: Arrivals = text.parse().unwrap();
        let schedule = arrivals.schedule(ZERO, Duration::from_secs(seconds), ZERO, seed);
        schedule.map(|time| time.as_secs_f64()).collect()
    }

    fn within(times: &[f64], from: f64, to: f64) -> usize {
        times.iter().filter(|time| (from..to).contains(time)).count()
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced() {
        let times = times("constant:200", 10, 1);
        assert_eq!(times.len(), 2_000);
        for (index, time) in times.iter().enumerate() {
            assert!((time - index as f64 / 200.0).abs() < 1e-6, "{index}: {time}");
        }
    }

    #[test]
    fn a_ramp_follows_its_integral() {
        // N(t) = 100 t + 45 t²
        let rising = times("ramp:100..1000", 10, 1);
        assert_eq!(rising.len(), 5_500);
        for (index, time) in rising.iter().enumerate() {
            let count = 100.0 * time + 45.0 * time * time;
            assert!((count - index as f64).abs() < 1e-3, "{index}: {time}");
        }
        let falling = times("ramp:100..0", 10, 1);
        assert_eq!(falling.len(), 500);
        assert!(falling.is_sorted());
    }

    #[test]
    fn steps_and_spikes_have_their_rates() {
        let stairs = times("step:100..300/3", 9, 1);
        let counts =
            [within(&stairs, 0.0, 3.0), within(&stairs, 3.0, 6.0), within(&stairs, 6.0, 9.0)];
        assert_eq!(counts, [300, 600, 900]);
        let spike = times("spike:10^1000@2s+500ms", 5, 1);
        assert_eq!(within(&spike, 2.0, 2.5), 500);
        assert_eq!(within(&spike, 0.0, 2.0), 20);
        assert_eq!(within(&spike, 2.5, 5.0), 25);
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let times = times("poisson:1000", 100, 7);
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let count = gaps.len() as f64;
        // 100,000 arrivals expected; six standard deviations are 1,900.
        assert!((count - 100_000.0).abs() < 1_900.0, "{count}");
        let mean = gaps.iter().sum::<f64>() / count;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
        // The standard deviation of an exponential is its mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "{variance}");
        // P(gap > 1 mean) = 1/e.
        let longer = gaps.iter().filter(|gap| mean < **gap).count() as f64 / count;
        assert!((longer - (-1.0_f64).exp()).abs() < 0.01, "{longer}");
        // Counts in windows scatter as their mean does.
        let windows = (0..1_000).map(|window| f64::from(window) / 10.0);
        let counts = windows.map(|from| within(&times, from, from + 0.1) as f64);
        let spread = counts.map(|count| (count - 100.0).powi(2)).sum::<f64>() / 1_000.0;
        assert!((80.0..120.0).contains(&spread), "{spread}");
    }

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(times("poisson-ramp:10..100", 20, 3), times("poisson-ramp:10..100", 20, 3));
        assert_ne!(times("poisson-ramp:10..100", 20, 3), times("poisson-ramp:10..100", 20, 4));
    }

    #[test]
    fn warm_up_and_cool_down_hold_the_nearest_rate() {
        let arrivals: Arrivals = "ramp:100..300".parse().unwrap();
        let second = Duration::from_secs(1);
        let times: Vec<f64> =
            arrivals.schedule(second, second, second, 1).map(|time| time.as_secs_f64()).collect();
        let counts = [within(&times, 0.0, 1.0), within(&times, 1.0, 2.0), within(&times, 2.0, 3.0)];
        assert_eq!(counts, [100, 200, 300]);
    }

    #[test]
    fn a_trace_is_played_as_it_stands() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# seconds\n0\n0.25\n\n0.25\n3.5\n99\n").unwrap();
        let text = format!("trace:{}", file.path().display());
        assert_eq!(times(&text, 10, 1), [0.0, 0.25, 0.25, 3.5]);
        std::fs::write(file.path(), "1\n0.5\n").unwrap();
        assert!(text.parse::<Arrivals>().is_err());
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in
            ["", "constant:-1", "constant:inf", "ramp:1", "step:1..2/1", "wave:3", "spike:1^2@x+1s"]
        {
            assert!(text.parse::<Arrivals>().is_err(), "{text}");
        }
        for text in ["constant:5", "poisson-step:1..9/3", "spike:1^2@500ms+2s"] {
            let arrivals: Arrivals = text.parse().unwrap();
            assert_eq!(arrivals.to_string().parse(), Ok(arrivals));
        }
    }
}

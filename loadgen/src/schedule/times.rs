//! The arrivals of a schedule, one after the other.

use std::time::Duration;

use super::{Arrivals, Shape, Spacing};

/// A stretch of time over which the rate goes linearly.
#[derive(Clone, Copy, Debug)]
struct Segment {
    seconds: f64,
    from: f64,
    to: f64,
}

impl Segment {
    const fn flat(seconds: f64, rate: f64) -> Self {
        Self { seconds, from: rate, to: rate }
    }

    /// Arrivals in it.
    fn count(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.seconds
    }

    /// Seconds from its beginning until `count` arrivals were.
    fn when(&self, count: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds;
        // slope/2 t² + from t = count, in the form that does not cancel for small slopes.
        let root = (self.from * self.from + 2.0 * slope * count).max(0.0).sqrt();
        2.0 * count / (self.from + root)
    }
}

impl Arrivals {
    /// The rate's course over `measured`, with `before` at the first rate and `after` at the last.
    fn segments(&self, before: Duration, measured: Duration, after: Duration) -> Vec<Segment> {
        let seconds = measured.as_secs_f64();
        let middle = match &self.shape {
            Shape::Constant(rate) => vec![Segment::flat(seconds, *rate)],
            Shape::Ramp { from, to } => vec![Segment { seconds, from: *from, to: *to }],
            Shape::Step { from, to, steps } => (0..*steps)
                .map(|step| {
                    let share = f64::from(step) / f64::from(*steps - 1);
                    Segment::flat(seconds / f64::from(*steps), from + (to - from) * share)
                })
                .collect(),
            Shape::Spike { base, peak, at, length } => {
                let begin = at.as_secs_f64().min(seconds);
                let end = (*at + *length).as_secs_f64().min(seconds);
                vec![
                    Segment::flat(begin, *base),
                    Segment::flat(end - begin, *peak),
                    Segment::flat(seconds - end, *base),
                ]
            }
            Shape::Trace(_) => Vec::new(),
        };
        let (first, last) = (middle.first().copied(), middle.last().copied());
        let before = first.map(|first| Segment::flat(before.as_secs_f64(), first.from));
        let after = last.map(|last| Segment::flat(after.as_secs_f64(), last.to));
        let all = before.into_iter().chain(middle).chain(after);
        all.filter(|segment| 0.0 < segment.seconds).collect()
    }

    /// Arrivals over warm-up, measured time and cool-down, as times from the beginning.
    ///
    /// A trace has neither warm-up nor cool-down of its own: it is shifted behind the first, and
    /// cut at the end of the measured time.
    pub fn schedule(
        &self,
        before: Duration,
        measured: Duration,
        after: Duration,
        seed: u64,
    ) -> Schedule {
        if let Shape::Trace(times) = &self.shape {
            let (shift, end) = (before.as_secs_f64(), measured.as_secs_f64());
            let times = times.iter().take_while(|time| **time < end).map(|time| time + shift);
            return Schedule { source: Source::Trace(times.collect::<Vec<_>>().into_iter()) };
        }
        let mut segments = self.segments(before, measured, after);
        segments.reverse();
        Schedule {
            source: Source::Rate {
                segments,
                spacing: self.spacing,
                random: fastrand::Rng::with_seed(seed),
                arrivals: 0,
                until: 0.0,
                count_before: 0.0,
                seconds_before: 0.0,
            },
        }
    }

    /// The highest rate that ever holds, per second.
    pub fn rate_max(&self) -> f64 {
        match &self.shape {
            Shape::Constant(rate) => *rate,
            Shape::Ramp { from, to } | Shape::Step { from, to, .. } => from.max(*to),
            Shape::Spike { base, peak, .. } => base.max(*peak),
            Shape::Trace(times) => {
                let seconds = times.last().copied().unwrap_or_default().max(f64::MIN_POSITIVE);
                times.len() as f64 / seconds
            }
        }
    }
}

/// Arrivals one after the other, as times from the beginning.
#[derive(Clone, Debug)]
pub struct Schedule {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Trace(std::vec::IntoIter<f64>),
    Rate {
        /// What is to come; the next one last.
        segments: Vec<Segment>,
        spacing: Spacing,
        random: fastrand::Rng,
        /// Arrivals so far.
        arrivals: u64,
        /// The count at which the last arrival was.
        until: f64,
        /// Of the segments that are over.
        count_before: f64,
        seconds_before: f64,
    },
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let (segments, spacing, random, arrivals, until, count_before, seconds_before) =
            match &mut self.source {
                Source::Trace(times) => return times.next().map(Duration::from_secs_f64),
                Source::Rate {
                    segments,
                    spacing,
                    random,
                    arrivals,
                    until,
                    count_before,
                    seconds_before,
                } => (segments, *spacing, random, arrivals, until, count_before, seconds_before),
            };
        *until = match spacing {
            // The first arrival is at the beginning.
            Spacing::Even => *arrivals as f64,
            // 1 - f64() lies in (0, 1], so that the gap is finite.
            Spacing::Poisson => *until - (1.0 - random.f64()).ln(),
        };
        *arrivals += 1;
        loop {
            let segment = segments.last()?;
            let count = segment.count();
            // What falls on the seam belongs to the next segment.
            if *until - *count_before < count {
                let seconds = *seconds_before + segment.when(*until - *count_before);
                return Some(Duration::from_secs_f64(seconds));
            }
            *count_before += count;
            *seconds_before += segment.seconds;
            segments.pop();
        }
    }
}

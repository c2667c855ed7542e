//! What the answers were.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    measure::{Counts, Phase, Times},
    report::{Interval, Series},
};

/// One answer, or its absence. Times are from the run's beginning.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Which of the plan's requests.
    pub(super) kind: usize,
    pub(super) due: Duration,
    pub(super) sent: Duration,
    pub(super) done: Duration,
    pub(super) end: End,
}

/// How a request ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// With a result of so many bytes.
    Right(u64),
    /// With a result that is not what was to be expected.
    Wrong,
    /// In an error of this kind.
    Error(String),
    /// Without any answer, for this reason.
    Lost(String),
    /// It was cancelled, as planned.
    Cancelled,
}

#[derive(Debug, Default)]
struct Kind {
    latency: Times,
    service: Times,
}

/// Counts answers, from any thread.
#[derive(Debug)]
pub(super) struct Recorder {
    warm_up: Duration,
    measured: Duration,
    late: Option<Duration>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kinds: Vec<Kind>,
    phases: BTreeMap<Phase, Times>,
    latency: Times,
    service: Times,
    lag: Times,
    connect: Times,
    counts: Counts,
    cancelled: u64,
    seconds: Vec<Second>,
}

/// Seconds of which times are kept.
const SECONDS_MAX: usize = 86_400;

#[derive(Debug, Default)]
struct Second {
    ok: u64,
    errors: u64,
    max: u64,
    /// Latencies of the second, coarsely enough to keep every second's.
    coarse: crate::relay::Coarse,
}

impl Recorder {
    pub(super) fn new(
        kinds: usize,
        warm_up: Duration,
        measured: Duration,
        late: Option<Duration>,
    ) -> Self {
        let kinds = (0..kinds).map(|_| Kind::default()).collect();
        let inner = Mutex::new(Inner { kinds, ..Inner::default() });
        Self { warm_up, measured, late, inner }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What a thread that panicked left behind are numbers.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In which part of the run something is due.
    pub(super) fn phase(&self, due: Duration) -> Phase {
        if due < self.warm_up {
            Phase::WarmUp
        } else if due < self.warm_up + self.measured {
            Phase::Measured
        } else {
            Phase::CoolDown
        }
    }

    /// A connection came up.
    pub(super) fn connected(&self, took: Duration) {
        self.inner().connect.record(nanoseconds(took));
    }

    /// An error that is no request's.
    pub(super) fn error(&self, kind: &str) {
        self.inner().counts.error(kind);
    }

    /// Errors so far.
    pub(super) fn errors(&self) -> u64 {
        self.inner().counts.errors_total()
    }

    /// A request is over.
    pub(super) fn record(&self, sample: Sample) {
        let phase = self.phase(sample.due);
        let latency = nanoseconds(sample.done.saturating_sub(sample.due));
        let service = nanoseconds(sample.done.saturating_sub(sample.sent));
        let mut guard = self.inner();
        let inner = &mut *guard;
        let right = matches!(sample.end, End::Right(_));
        inner.second(sample.done, right, latency);
        // Time without an answer is time all the same: a target that is gone is not fast.
        if sample.end != End::Cancelled {
            inner.phases.entry(phase).or_default().record(latency);
        }
        if phase != Phase::Measured {
            return;
        }
        inner.lag.record(nanoseconds(sample.sent.saturating_sub(sample.due)));
        if sample.end == End::Cancelled {
            inner.cancelled += 1;
            return;
        }
        let counts = &mut inner.counts;
        counts.expected += 1;
        inner.latency.record(latency);
        inner.service.record(service);
        if let Some(kind) = inner.kinds.get_mut(sample.kind) {
            kind.latency.record(latency);
            kind.service.record(service);
        }
        match sample.end {
            End::Right(bytes) => {
                counts.ok += 1;
                counts.bytes += bytes;
                let late = self.late.is_some_and(|late| nanoseconds(late) < latency);
                counts.late += u64::from(late);
            }
            End::Wrong => counts.wrong += 1,
            End::Error(kind) => counts.error(&kind),
            End::Lost(kind) => {
                counts.lost += 1;
                counts.error(&kind);
            }
            End::Cancelled => {}
        }
    }

    /// The seconds so far.
    pub(super) fn timeline(&self) -> Vec<Interval> {
        let inner = self.inner();
        let interval = |(at, second): (usize, &Second)| Interval {
            at: at as f64,
            ok: second.ok,
            errors: second.errors,
            p50: whole(second.coarse.quantile(0.5)),
            p99: whole(second.coarse.quantile(0.99)),
            max: second.max,
        };
        inner.seconds.iter().enumerate().map(interval).collect()
    }

    /// All that was counted. `titles` are of the plan's requests.
    pub(super) fn conclude(&self, titles: &[String], closed: bool) -> Summary {
        let inner = self.inner();
        let mut series = vec![
            Series::new(
                if closed { "latency (closed loop)" } else { "latency" },
                [],
                &inner.latency,
            ),
            Series::new("service", [], &inner.service),
        ];
        for (kind, title) in inner.kinds.iter().zip(titles) {
            series.push(Series::new("latency", [("request", title)], &kind.latency));
            series.push(Series::new("service", [("request", title)], &kind.service));
        }
        for (phase, times) in &inner.phases {
            let name = match phase {
                Phase::WarmUp => "warm-up",
                Phase::Measured => continue,
                Phase::CoolDown => "cool-down",
            };
            series.push(Series::new("latency", [("phase", name)], times));
        }
        series.push(Series::new("connect", [], &inner.connect));
        series.push(Series::new("lag", [], &inner.lag));
        let (counts, lag) = (inner.counts.clone(), inner.lag.clone());
        Summary { series, counts, lag, cancelled: inner.cancelled }
    }
}

/// What a recorder has to say in the end.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) series: Vec<Series>,
    pub(super) counts: Counts,
    pub(super) lag: Times,
    pub(super) cancelled: u64,
}

impl Inner {
    fn second(&mut self, at: Duration, right: bool, latency: u64) {
        let index = usize::try_from(at.as_secs()).unwrap_or(usize::MAX).min(SECONDS_MAX - 1);
        if self.seconds.len() <= index {
            self.seconds.resize_with(index + 1, Second::default);
        }
        let second = &mut self.seconds[index];
        second.ok += u64::from(right);
        second.errors += u64::from(!right);
        second.max = second.max.max(latency);
        second.coarse.record(latency);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive time of at most ten minutes"
)]
fn whole(nanoseconds: Option<f64>) -> u64 {
    nanoseconds.unwrap_or_default() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sample(due: u64, took: u64, end: End) -> Sample {
        let at = Duration::from_millis;
        Sample { kind: 0, due: at(due), sent: at(due + 1), done: at(due + took), end }
    }

    #[test]
    fn ends_are_counted_where_they_belong() {
        let recorder = Recorder::new(1, SECOND, SECOND, Some(Duration::from_millis(100)));
        recorder.record(sample(500, 10, End::Right(5)));
        recorder.record(sample(1_000, 10, End::Right(5)));
        recorder.record(sample(1_100, 200, End::Right(5)));
        recorder.record(sample(1_200, 10, End::Wrong));
        recorder.record(sample(1_300, 10, End::Error("JSON-RPC 1".to_owned())));
        recorder.record(sample(1_400, 10, End::Lost("timeout".to_owned())));
        recorder.record(sample(1_500, 10, End::Cancelled));
        recorder.record(sample(2_000, 10, End::Right(5)));
        let summary = recorder.conclude(&["tools/list".to_owned()], false);
        let counts = &summary.counts;
        assert_eq!((counts.expected, counts.ok, counts.late, counts.wrong), (5, 2, 1, 1));
        assert_eq!((counts.lost, counts.errors_total(), counts.bytes), (1, 2, 10));
        assert_eq!((summary.cancelled, summary.lag.count()), (1, 6));
        let [latency, service, ..] = &summary.series[..] else { panic!("two at least") };
        assert_eq!((latency.summary.count, service.summary.count), (5, 5));
        assert!(service.summary.max < latency.summary.max);
        let titles: Vec<_> = summary.series.iter().map(Series::title).collect();
        assert!(titles.contains(&"latency[request=tools/list]".to_owned()));
        assert!(titles.contains(&"latency[phase=warm-up]".to_owned()));
    }
}

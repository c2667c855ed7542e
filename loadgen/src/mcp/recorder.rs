//! What the answers were.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    measure::{Counts, Phase, Timeline, Times},
    progress::{Progress, Row},
    report::{Interval, Series},
};

/// One answer, or its absence. Times are from the run's beginning.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Which of the plan's requests.
    pub(super) kind: usize,
    /// Which of the relays or endpoints.
    pub(super) place: usize,
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
    /// Of the plan's requests, and of the relays or endpoints, if there is more than one.
    titles: Titles,
    inner: Mutex<Inner>,
}

/// What is told apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Titles {
    /// Labels of each of the plan's requests.
    pub(super) kinds: Vec<Vec<(&'static str, String)>>,
    /// The relays or endpoints that agents use in turn.
    pub(super) places: Vec<String>,
}

#[derive(Debug, Default)]
struct Inner {
    kinds: Vec<Kind>,
    places: Vec<Times>,
    phases: BTreeMap<Phase, Times>,
    latency: Times,
    service: Times,
    lag: Times,
    connect: Times,
    counts: Counts,
    cancelled: u64,
    timeline: Timeline,
}

impl Recorder {
    pub(super) fn new(
        titles: Titles,
        warm_up: Duration,
        measured: Duration,
        late: Option<Duration>,
    ) -> Self {
        let kinds = titles.kinds.iter().map(|_| Kind::default()).collect();
        let places = if titles.places.len() < 2 { 0 } else { titles.places.len() };
        let places = vec![Times::default(); places];
        let inner = Mutex::new(Inner { kinds, places, ..Inner::default() });
        Self { warm_up, measured, late, titles, inner }
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

    /// A request is over.
    pub(super) fn record(&self, sample: Sample) {
        let phase = self.phase(sample.due);
        let latency = nanoseconds(sample.done.saturating_sub(sample.due));
        let service = nanoseconds(sample.done.saturating_sub(sample.sent));
        let mut guard = self.inner();
        let inner = &mut *guard;
        let right = matches!(sample.end, End::Right(_));
        if right {
            inner.timeline.right(nanoseconds(sample.done), latency);
        } else if sample.end != End::Cancelled {
            inner.timeline.wrong(nanoseconds(sample.done));
        }
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
        if let Some(place) = inner.places.get_mut(sample.place) {
            place.record(latency);
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

    /// Adds what is known so far to what others may see.
    pub(super) fn show(&self, now: Duration, progress: &mut Progress) {
        {
            let mut inner = self.inner();
            inner.timeline.advance(nanoseconds(now));
            progress.counts = inner.counts.clone();
            progress.timeline = inner.timeline.seconds().to_vec();
            progress.rows = vec![Row::of("all", &inner.latency)];
        }
        // One at a time: nobody who has an answer to record is to wait for all of them.
        for (index, labels) in self.titles.kinds.iter().enumerate() {
            let words: Vec<_> = labels.iter().map(|(_, value)| value.as_str()).collect();
            if let Some(kind) = self.inner().kinds.get(index) {
                progress.rows.push(Row::of(&words.join(" "), &kind.latency));
            }
        }
    }

    /// All that was counted, at the end of the run.
    pub(super) fn conclude(&self, now: Duration, closed: bool) -> Summary {
        let mut inner = self.inner();
        inner.timeline.advance(nanoseconds(now));
        let name = if closed { "latency (closed loop)" } else { "latency" };
        let mut series =
            vec![Series::new(name, [], &inner.latency), Series::new("service", [], &inner.service)];
        for method in self.shared_methods() {
            let mut whole = Kind::default();
            let of_method = |labels: &[(&str, String)]| labels[0].1 == method;
            let kinds = inner.kinds.iter().zip(&self.titles.kinds);
            for (kind, _) in kinds.filter(|(_, labels)| of_method(labels)) {
                whole.latency.add(&kind.latency);
                whole.service.add(&kind.service);
            }
            series.push(Series::new("latency", [("method", method)], &whole.latency));
            series.push(Series::new("service", [("method", method)], &whole.service));
        }
        for (kind, labels) in inner.kinds.iter().zip(self.unique_labels()) {
            let labels = labels.iter().map(|(key, value)| (*key, value.as_str()));
            let labels: Vec<_> = labels.collect();
            series.push(Series::labelled("latency", &labels, &kind.latency));
            series.push(Series::labelled("service", &labels, &kind.service));
        }
        for (times, place) in inner.places.iter().zip(&self.titles.places) {
            series.push(Series::new("latency", [("relay", place)], times));
        }
        for (phase, times) in inner.phases.iter().filter(|(phase, _)| **phase != Phase::Measured) {
            series.push(Series::new("latency", [("phase", phase.name())], times));
        }
        series.push(Series::new("connect", [], &inner.connect));
        series.push(Series::new("lag", [], &inner.lag));
        Summary {
            series,
            counts: inner.counts.clone(),
            lag: inner.lag.clone(),
            cancelled: inner.cancelled,
            timeline: inner.timeline.seconds().to_vec(),
        }
    }

    /// Methods that more than one of the plan's requests have.
    fn shared_methods(&self) -> Vec<&str> {
        let mut counts = BTreeMap::<&str, usize>::new();
        for labels in &self.titles.kinds {
            *counts.entry(&labels[0].1).or_default() += 1;
        }
        counts.into_iter().filter(|(_, count)| 1 < *count).map(|(method, _)| method).collect()
    }

    /// The labels of the plan's requests; two that have the same get a number each.
    fn unique_labels(&self) -> Vec<Vec<(&'static str, String)>> {
        let mut unique: Vec<Vec<(&'static str, String)>> = Vec::new();
        for labels in &self.titles.kinds {
            let before = self.titles.kinds.iter().filter(|other| *other == labels).count();
            let mut labels = labels.clone();
            if 1 < before || labels.len() == 1 && self.shared_methods().contains(&&*labels[0].1) {
                labels.push(("request", (unique.len() + 1).to_string()));
            }
            unique.push(labels);
        }
        unique
    }
}

/// What a recorder has to say in the end.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) series: Vec<Series>,
    pub(super) counts: Counts,
    pub(super) lag: Times,
    pub(super) cancelled: u64,
    pub(super) timeline: Vec<Interval>,
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sample(due: u64, took: u64, end: End) -> Sample {
        let at = Duration::from_millis;
        Sample { kind: 0, place: 0, due: at(due), sent: at(due + 1), done: at(due + took), end }
    }

    fn recorder(kinds: &[&[(&'static str, &str)]], places: &[&str]) -> Recorder {
        let labels = |kind: &&[(&'static str, &str)]| {
            kind.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
        };
        let titles = Titles {
            kinds: kinds.iter().map(labels).collect(),
            places: places.iter().map(ToString::to_string).collect(),
        };
        Recorder::new(titles, SECOND, SECOND, Some(Duration::from_millis(100)))
    }

    #[test]
    fn ends_are_counted_where_they_belong() {
        let recorder = recorder(&[&[("method", "tools/list")]], &["one"]);
        recorder.record(sample(500, 10, End::Right(5)));
        recorder.record(sample(1_000, 10, End::Right(5)));
        recorder.record(sample(1_100, 200, End::Right(5)));
        recorder.record(sample(1_200, 10, End::Wrong));
        recorder.record(sample(1_300, 10, End::Error("JSON-RPC 1".to_owned())));
        recorder.record(sample(1_400, 10, End::Lost("timeout".to_owned())));
        recorder.record(sample(1_500, 10, End::Cancelled));
        recorder.record(sample(2_000, 10, End::Right(5)));
        let summary = recorder.conclude(3 * SECOND, false);
        let counts = &summary.counts;
        assert_eq!((counts.expected, counts.ok, counts.late, counts.wrong), (5, 2, 1, 1));
        assert_eq!((counts.lost, counts.errors_total(), counts.bytes), (1, 2, 10));
        assert_eq!((summary.cancelled, summary.lag.count()), (1, 6));
        let [latency, service, ..] = &summary.series[..] else { panic!("two at least") };
        assert_eq!((latency.summary.count, service.summary.count), (5, 5));
        assert!(service.summary.max < latency.summary.max);
        let titles: Vec<_> = summary.series.iter().map(Series::title).collect();
        let expected = [
            "latency",
            "service",
            "latency[method=tools/list]",
            "service[method=tools/list]",
            "latency[phase=warm-up]",
            "latency[phase=cool-down]",
            "connect",
            "lag",
        ];
        assert_eq!(titles, expected);
        let seconds: Vec<_> = summary.timeline.iter().map(|it| (it.ok, it.errors)).collect();
        assert_eq!(seconds, [(1, 0), (2, 3), (1, 0)]);
    }

    #[test]
    fn methods_tools_and_relays_are_told_apart() {
        let kinds: [&[(&'static str, &str)]; 3] = [
            &[("method", "tools/call"), ("tool", "a")],
            &[("method", "tools/call"), ("tool", "b")],
            &[("method", "tools/call"), ("tool", "b")],
        ];
        let recorder = recorder(&kinds, &["near", "far"]);
        for (kind, place) in [(0, 0), (1, 1), (2, 1)] {
            recorder.record(Sample { kind, place, ..sample(1_000, 10, End::Right(1)) });
        }
        let summary = recorder.conclude(3 * SECOND, false);
        let count = |title: &str| {
            let found = summary.series.iter().find(|series| series.title() == title);
            found.unwrap_or_else(|| panic!("{title} is missing")).summary.count
        };
        assert_eq!(count("latency[method=tools/call]"), 3);
        assert_eq!(count("latency[method=tools/call,tool=a]"), 1);
        assert_eq!(count("latency[method=tools/call,request=2,tool=b]"), 1);
        assert_eq!(count("latency[method=tools/call,request=3,tool=b]"), 1);
        assert_eq!((count("latency[relay=near]"), count("latency[relay=far]")), (1, 2));
    }
}

//! What a relay tells an OpenTelemetry collector: calls that are traced, and all that `/metrics` says.
//!
//! On a thread of its own, which looks at what workers have left for others and is never waited for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use aip_telemetry::{Ended, KeyValue, Telemetry, metrics::Meter, trace::SpanKind};

use super::{admin, clock::Clock, error::Error, log, status::Status};
use crate::{metrics::exposition, relay::CallSpan};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// See the module. Dropping it tells what is left.
#[derive(Debug)]
pub(super) struct Export {
    end: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Export {
    /// Tells `telemetry` from now on.
    pub(super) fn new(telemetry: Arc<Telemetry>, status: Arc<Status>) -> Result<Self, Error> {
        let (end, ended) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("aip-export".to_owned())
            .spawn(move || run(&telemetry, &status, &ended))
            .map_err(|source| Error::System { what: "thread", source })?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the export of spans and metrics panicked");
        }
    }
}

fn run(telemetry: &Telemetry, status: &Status, end: &mpsc::Receiver<()>) {
    let mut metrics = telemetry.meter().map(Metrics::new);
    loop {
        let waited = end.recv_timeout(INTERVAL);
        let (spans, dropped) = status.take_spans();
        if 0 < dropped {
            tracing::warn!(dropped, "more calls were traced than could be told of");
        }
        telemetry.tell(told(spans));
        if let Some(metrics) = &mut metrics {
            let text = exposition(status.snapshot(), admin::process(), log::lines_dropped());
            metrics.refresh(&text);
        }
        if waited != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Calls as spans: the relay is the server of one side and the client of the other, in one.
fn told(spans: Vec<CallSpan>) -> Vec<Ended> {
    let clock = (Clock::new().now(), system_now());
    let wall = |at: Instant| clock.1 - clock.0.saturating_duration_since(at);
    spans
        .into_iter()
        .map(|span| {
            let name = String::from_utf8_lossy(&span.name).into_owned();
            let fields = span.namespace.fields().map(String::from_utf8_lossy);
            let namespace = fields.collect::<Vec<_>>().join("/");
            Ended {
                context: span.context,
                parent: span.parent,
                kind: SpanKind::Server,
                began: wall(span.began),
                ended: wall(span.ended),
                attributes: vec![
                    KeyValue::new("aip.call.name", name.clone()),
                    KeyValue::new("aip.call.namespace", namespace),
                ],
                name: format!("CALL {name}"),
                failure: span.failure,
            }
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "a collector wants the time of day")]
fn system_now() -> SystemTime {
    SystemTime::now()
}

/// One number of a metric.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    labels: Vec<KeyValue>,
    value: f64,
}

type Samples = BTreeMap<String, Vec<Sample>>;

/// Instruments for all that is exposed, made as it appears.
struct Metrics {
    meter: Meter,
    latest: Arc<Mutex<Samples>>,
    known: std::collections::BTreeSet<String>,
}

impl Metrics {
    fn new(meter: Meter) -> Self {
        Self { meter, latest: Arc::default(), known: std::collections::BTreeSet::new() }
    }

    fn refresh(&mut self, text: &str) {
        let samples = parse(text);
        for name in samples.keys() {
            if self.known.insert(name.clone()) {
                self.observe(name);
            }
        }
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = samples;
    }

    fn observe(&self, name: &str) {
        let (latest, of) = (Arc::clone(&self.latest), name.to_owned());
        let tell = move |observe: &dyn Fn(f64, &[KeyValue])| {
            let latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
            for sample in latest.get(&of).into_iter().flatten() {
                observe(sample.value, &sample.labels);
            }
        };
        let grows = ["_total", "_sum", "_count", "_bucket"];
        if grows.iter().any(|suffix| name.ends_with(suffix)) {
            let counter = self.meter.f64_observable_counter(name.to_owned());
            counter.with_callback(move |o| tell(&|value, labels| o.observe(value, labels))).build();
        } else {
            let gauge = self.meter.f64_observable_gauge(name.to_owned());
            gauge.with_callback(move |o| tell(&|value, labels| o.observe(value, labels))).build();
        }
    }
}

/// The samples of an OpenMetrics text of our own.
fn parse(text: &str) -> Samples {
    let mut samples = Samples::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, sample)) = parse_line(line) {
            samples.entry(name.to_owned()).or_default().push(sample);
        }
    }
    samples
}

fn parse_line(line: &str) -> Option<(&str, Sample)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, quoted) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = unquoted(quoted)?;
            labels.push(KeyValue::new(key.to_owned(), value));
            rest = after;
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, Sample { labels, value }))
}

/// A label's value up to its closing quote, and what follows that.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[place + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exposed_is_read_back() {
        let text = "# TYPE a gauge\na 3\nb_total{x=\"1,}\",y=\"q\\\"\\\\\\n\"} 4.5\nb_total{x=\"2\",y=\"\"} 5\n# EOF\n";
        let samples = parse(text);
        assert_eq!(samples["a"], [Sample { labels: vec![], value: 3.0 }]);
        let labels = vec![KeyValue::new("x", "1,}"), KeyValue::new("y", "q\"\\\n")];
        assert_eq!(samples["b_total"][0], Sample { labels, value: 4.5 });
        assert_eq!(samples["b_total"].len(), 2);
        assert!(parse("{\n\na{b=\"c\n").is_empty());
    }
}

//! A snapshot in the OpenMetrics text format, version 1.0.0.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit as ExposedUnit},
};

use super::{Description, Histogram, Kind, Service, Snapshot, Tally, Unit, Upstream};

/// What the text is, for HTTP.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What only the process as a whole knows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    /// Bytes of it that are in RAM.
    pub(crate) resident_memory: u64,
    /// Open file descriptors.
    pub(crate) open_fds: u64,
    /// Threads.
    pub(crate) threads: u64,
}

const RESIDENT_MEMORY: Description =
    gauge("resident_memory", Unit::Bytes, "Memory of the process that is in RAM.");
const OPEN_FDS: Description =
    gauge("open_fds", Unit::Count, "Open file descriptors of the process.");
const THREADS: Description = gauge("threads", Unit::Count, "Threads of the process.");
const LOG_DROPPED: Description =
    counter("log_lines_dropped", Unit::Count, "Lines of the log for which there was no room.");
const TURN: Description =
    gauge("turn", Unit::Nanoseconds, "How long turns of a worker's loop take, without waiting.");
const UPSTREAM: Description =
    gauge("upstream_connected", Unit::Count, "Whether a configured upstream relay is connected.");
const UPSTREAM_FAILURES: Description = gauge(
    "upstream_failures",
    Unit::Count,
    "Tries to reach a configured upstream relay that have failed since a connection lasted.",
);
const UPSTREAM_RETRY: Description = gauge(
    "upstream_retry",
    Unit::Nanoseconds,
    "Time until a configured upstream relay is tried again; 0 if no try waits.",
);
const SESSIONS: Description =
    gauge("sessions_by_draft", Unit::Count, "Sessions that are up, by the draft they speak.");
const QUEUED: Description = gauge(
    "queued",
    Unit::Bytes,
    "What waits for the network: of the relay, of the address and of the session with most.",
);
const REQUESTS: Description =
    counter("requests_received", Unit::Count, "Requests of peers, by message.");
const REFUSED: Description =
    counter("requests_refused", Unit::Count, "Requests of peers that were refused, by code.");
const ENDED: Description = counter(
    "subscriptions_ended",
    Unit::Count,
    "Subscriptions of peers that we have ended, by the code of PUBLISH_DONE.",
);
const DROPPED: Description =
    counter("objects_dropped", Unit::Count, "Objects that went no further, by reason.");
const VIOLATIONS: Description = counter(
    "violations",
    Unit::Count,
    "Sessions closed for the peer's fault, by the rule that was broken.",
);

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Description {
    Description { name, kind: Kind::Gauge, unit, help }
}

const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Description {
    Description { name, kind: Kind::Counter, unit, help }
}

/// The text.
pub(crate) fn exposition(snapshot: Snapshot, process: Process, log_lines_dropped: u64) -> String {
    let mut registry = Registry::default();
    let of_process: [(Description, u64); 3] = [
        (RESIDENT_MEMORY, process.resident_memory),
        (OPEN_FDS, process.open_fds),
        (THREADS, process.threads),
    ];
    registry.sub_registry_with_prefix("process").register_collector(Box::new(Plain(of_process)));
    let ours = registry.sub_registry_with_prefix("aip");
    ours.register_collector(Box::new(Plain([(LOG_DROPPED, log_lines_dropped)])));
    ours.register_collector(Box::new(Exposed(snapshot)));
    let mut text = String::with_capacity(64 << 10);
    let written = text::encode(&mut text, &registry);
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    text
}

/// Numbers without labels.
#[derive(Debug)]
struct Plain<const N: usize>([(Description, u64); N]);

impl<const N: usize> Collector for Plain<N> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&(description, value)| plain(&mut encoder, description, value))
    }
}

/// What a worker tells.
#[derive(Debug)]
struct Exposed(Snapshot);

impl Collector for Exposed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Snapshot { worker, turns, upstreams, service } = &self.0;
        build(&mut encoder)?;
        for (description, value) in worker.iter() {
            plain(&mut encoder, description, value)?;
        }
        histogram(&mut encoder, TURN, turns)?;
        upstream(&mut encoder, upstreams)?;
        service.as_ref().map_or(Ok(()), |service| relay(&mut encoder, service))
    }
}

fn relay(encoder: &mut DescriptorEncoder<'_>, service: &Service) -> fmt::Result {
    for (description, value) in service.counters.iter() {
        plain(encoder, description, value)?;
    }
    let families: [(Description, &str, &Tally); 7] = [
        (SESSIONS, "draft", &service.sessions),
        (QUEUED, "level", &service.queued_bytes),
        (REQUESTS, "message", &service.requests_received),
        (REFUSED, "code", &service.requests_refused),
        (ENDED, "code", &service.subscriptions_ended),
        (DROPPED, "reason", &service.objects_dropped),
        (VIOLATIONS, "rule", &service.violations),
    ];
    families.into_iter().try_for_each(|(description, label, tally)| {
        labelled(encoder, description, label, tally.iter())
    })
}

fn build(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "The program's version; always 1.";
    let mut metric = encoder.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
    let labels = [("version", env!("CARGO_PKG_VERSION"))];
    metric.encode_family(&labels)?.encode_gauge(&1_u64)
}

fn plain(encoder: &mut DescriptorEncoder<'_>, description: Description, value: u64) -> fmt::Result {
    family(encoder, description, |mut metric| number(&mut metric, description, value))
}

/// A family with one label, whose values come from the program or from its configuration.
fn labelled<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    description: Description,
    label: &str,
    mut values: impl Iterator<Item = (&'a str, u64)>,
) -> fmt::Result {
    family(encoder, description, |mut metric| {
        values.try_for_each(|(name, value)| {
            let labels = [(label, name)];
            number(&mut metric.encode_family(&labels)?, description, value)
        })
    })
}

/// A gauge of a target.
type Gauge = (Description, fn(&Upstream) -> u64);

/// How it stands with each target. Several may have one address, so their number counts, too.
fn upstream(encoder: &mut DescriptorEncoder<'_>, upstreams: &[Upstream]) -> fmt::Result {
    let gauges: [Gauge; 3] = [
        (UPSTREAM, |upstream| u64::from(upstream.is_up)),
        (UPSTREAM_FAILURES, |upstream| u64::from(upstream.failures)),
        (UPSTREAM_RETRY, |upstream| upstream.retry_in_milliseconds.saturating_mul(1_000_000)),
    ];
    for (description, value) in gauges {
        family(encoder, description, |mut metric| {
            upstreams.iter().enumerate().try_for_each(|(index, upstream)| {
                let authority = upstream.authority.clone();
                let labels = [("target", index.to_string()), ("authority", authority)];
                number(&mut metric.encode_family(&labels)?, description, value(upstream))
            })
        })?;
    }
    Ok(())
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    description: Description,
    histogram: &Histogram,
) -> fmt::Result {
    let steps: Vec<_> = histogram
        .steps()
        .map(|(bound, count)| (bound.map_or(f64::INFINITY, seconds), count))
        .collect();
    let unit = unit(description.unit);
    let kind = MetricType::Histogram;
    let mut metric =
        encoder.encode_descriptor(description.name, description.help, unit.as_ref(), kind)?;
    let (sum, count) = (seconds(histogram.sum()), histogram.count());
    metric.encode_histogram::<NoLabelSet>(sum, count, &steps, None)
}

/// Begins a family, whose values `fill` writes.
fn family(
    encoder: &mut DescriptorEncoder<'_>,
    description: Description,
    fill: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    let kind = match description.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let unit = unit(description.unit);
    fill(encoder.encode_descriptor(description.name, description.help, unit.as_ref(), kind)?)
}

fn number(metric: &mut MetricEncoder<'_>, description: Description, value: u64) -> fmt::Result {
    match (description.kind, description.unit) {
        (Kind::Counter, Unit::Nanoseconds) => {
            metric.encode_counter::<NoLabelSet, f64, u64>(&seconds(value), None)
        }
        (Kind::Counter, Unit::Count | Unit::Bytes) => {
            metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)
        }
        (Kind::Gauge, Unit::Nanoseconds) => metric.encode_gauge(&seconds(value)),
        (Kind::Gauge, Unit::Count | Unit::Bytes) => metric.encode_gauge(&value),
    }
}

const fn unit(unit: Unit) -> Option<ExposedUnit> {
    match unit {
        Unit::Count => None,
        Unit::Bytes => Some(ExposedUnit::Bytes),
        Unit::Nanoseconds => Some(ExposedUnit::Seconds),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a thousandth of a second of a year is enough")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::session::Misbehavior;

    fn text(snapshot: Snapshot) -> String {
        exposition(snapshot, Process { open_fds: 9, ..Process::default() }, 2)
    }

    fn full() -> Snapshot {
        let mut snapshot = Snapshot { service: Some(Service::default()), ..Snapshot::default() };
        snapshot.worker.sessions = 3;
        snapshot.worker.busy_nanoseconds_total = 1_500_000_000;
        snapshot.turns.note(20_000);
        snapshot.turns.note(2_000_000_000);
        snapshot.upstreams.push(Upstream {
            authority: "relay.example:4443".to_owned(),
            is_up: true,
            failures: 3,
            retry_in_milliseconds: 1_500,
        });
        snapshot
    }

    #[track_caller]
    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }

    #[test]
    fn numbers_stand_there_with_name_type_unit_and_help() {
        let mut snapshot = full();
        let service = snapshot.service.as_mut().unwrap();
        service.note_fault(Misbehavior::SecondSetup.into());
        let text = text(snapshot);
        has(&text, "# HELP aip_sessions Sessions that are up.");
        has(&text, "# TYPE aip_sessions gauge");
        has(&text, "aip_sessions 3");
        has(&text, "# TYPE aip_busy_seconds counter");
        has(&text, "# UNIT aip_busy_seconds seconds");
        has(&text, "aip_busy_seconds_total 1.5");
        has(&text, "aip_turn_seconds_bucket{le=\"0.00003\"} 1");
        has(&text, "aip_turn_seconds_bucket{le=\"+Inf\"} 2");
        has(&text, "aip_violations_total{rule=\"SecondSetup\"} 1");
        has(&text, "aip_violations_total{rule=\"TrailingBytes\"} 0");
        let target = "target=\"0\",authority=\"relay.example:4443\"";
        has(&text, &format!("aip_upstream_connected{{{target}}} 1"));
        has(&text, &format!("aip_upstream_failures{{{target}}} 3"));
        has(&text, &format!("aip_upstream_retry_seconds{{{target}}} 1.5"));
        has(&text, "aip_log_lines_dropped_total 2");
        has(&text, "process_open_fds 9");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn every_family_is_there_once() {
        let text = text(full());
        let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let names: BTreeSet<_> = types.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names.len(), types.len());
        assert!(names.iter().all(|name| !name.ends_with("_total")));
    }

    #[test]
    fn families_stand_in_the_documentation() {
        let documented = include_str!("../../../METRICS.md");
        for line in text(full()).lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            let row = format!("| `{name}{suffix}` | {kind} |");
            assert!(documented.contains(&row), "METRICS.md lacks {row}");
        }
    }
}

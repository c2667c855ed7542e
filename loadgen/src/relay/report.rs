//! What is said of a fan-out run.

use std::{collections::BTreeMap, fmt::Write as _, io, path::Path};

use super::{Options, Outcome, Plan, Tally};
use crate::{
    check,
    environment::Environment,
    fingerprint,
    report::{FORMAT, Report, Series},
};

/// The report of a run.
pub(super) fn report(
    plan: &Plan,
    options: &Options,
    outcome: Outcome,
    busy: f64,
    environment: Environment,
) -> Report {
    let Outcome { tally, lag, connect, subscribe, draft, upstream_subscriptions, measured, .. } =
        outcome;
    let seconds = measured.as_secs_f64();
    let load_before = environment.load_before / environment.cores.max(1) as f64;
    let seen = check::Seen { lag: lag.clone(), busy, load_before };
    let mut validity = check::judge(&seen, options.limits);
    check::note_build(&mut validity, &environment);
    check::note_interruption(&mut validity, measured, plan.measured);
    let mut series = vec![
        Series::new("latency", [], &tally.latency),
        Series::new("service", [], &tally.service),
        Series::new("last", [], &tally.last),
    ];
    for (times, relay) in tally.by_relay.iter().zip(&options.relays) {
        series.push(Series::new("latency", [("relay", relay.url.to_string().as_str())], times));
    }
    for (name, times) in [("connect", &connect), ("subscribe", &subscribe), ("lag", &lag)] {
        series.push(Series::new(name, [], times));
    }
    let mut figures = subscriber_figures(&tally);
    figures.insert("draft".to_owned(), f64::from(draft));
    figures.insert("generator busy (share of a core)".to_owned(), busy);
    figures.insert("objects not delivered to all".to_owned(), tally.incomplete as f64);
    figures.insert("upstream subscriptions at the end".to_owned(), upstream_subscriptions as f64);
    let processes = options.watch.usage(seconds);
    let cpu: f64 = processes.iter().map(|usage| usage.cpu_seconds).sum();
    if !processes.is_empty() && 0 < tally.counts.ok {
        let each = cpu * 1e6 / tally.counts.ok as f64;
        figures.insert("watched CPU per delivered object (µs)".to_owned(), each);
    }
    let plan = serde_json::to_value(plan).unwrap_or_default();
    Report {
        format: FORMAT.to_owned(),
        command: "relay".to_owned(),
        target: target(options),
        validity,
        seed: options.seed,
        fingerprint: fingerprint(&plan),
        plan,
        environment,
        seconds,
        counts: tally.counts,
        series,
        figures,
        timeline: tally.timeline.seconds().to_vec(),
        processes,
    }
}

fn target(options: &Options) -> String {
    let relays: Vec<_> = options.relays.iter().map(|target| target.url.to_string()).collect();
    if options.relays.iter().all(|target| target.url == options.origin.url) {
        options.origin.url.to_string()
    } else {
        format!("{} → {}", options.origin.url, relays.join(", "))
    }
}

/// How unlike the subscribers were.
fn subscriber_figures(tally: &Tally) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    let mut means: Vec<f64> = tally.subscribers().filter_map(|it| it.times.mean()).collect();
    let mut tails: Vec<f64> =
        tally.subscribers().filter_map(|it| it.times.quantile(0.99)).collect();
    for (what, values) in [("mean", &mut means), ("p99", &mut tails)] {
        values.sort_by(f64::total_cmp);
        let picks = [("best", 0), ("median", values.len() / 2), ("worst", values.len().max(1) - 1)];
        for (which, index) in picks {
            if let Some(value) = values.get(index) {
                figures.insert(format!("subscribers' {what} latency, {which} (ms)"), value / 1e6);
            }
        }
    }
    let losers = tally.subscribers().filter(|share| 0 < share.lost).count();
    figures.insert("subscribers that lost something".to_owned(), losers as f64);
    figures
}

/// Writes a line for each subscriber. Percentiles are the upper ends of buckets that are up to a
/// quarter wide.
///
/// # Errors
/// Those of writing.
pub(super) fn write_subscribers(tally: &Tally, relays: usize, path: &Path) -> io::Result<()> {
    let mut text = String::from(
        "subscriber,relay,expected,lost,duplicated,reordered,mean_ms,p50_ms,p99_ms,max_ms\n",
    );
    for (index, share) in tally.subscribers().enumerate() {
        let milliseconds = |nanoseconds: Option<f64>| nanoseconds.unwrap_or_default() / 1e6;
        // Writing to a string cannot fail.
        _ = writeln!(
            text,
            "{index},{},{},{},{},{},{:.3},{:.3},{:.3},{:.3}",
            index % relays.max(1),
            share.expected,
            share.lost,
            share.duplicated,
            share.reordered,
            milliseconds(share.times.mean()),
            milliseconds(share.times.quantile(0.5)),
            milliseconds(share.times.quantile(0.99)),
            milliseconds(share.times.quantile(1.0)),
        );
    }
    std::fs::write(path, text)
}

//! The report as OpenTelemetry metrics, in OTLP's JSON form, and its way to a collector.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Report, Series};
use crate::{clock, measure::Times};

/// Where a collector takes metrics, if its URL names no path.
const PATH: &str = "/v1/metrics";
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Aggregation temporality: what happened in this run, and not since ever.
const DELTA: u32 = 1;

/// An `ExportMetricsServiceRequest`. Times are histograms with bounds of 1, 2 and 5 in each decade
/// from 10 µs to 500 s, and gauges for the percentiles, which are exact.
pub fn request(report: &Report) -> Value {
    let end = clock::unix_nanoseconds();
    let begin = report.environment.began_unix_seconds.saturating_mul(1_000_000_000);
    let span = json!({"startTimeUnixNano": begin.to_string(), "timeUnixNano": end.to_string()});
    let mut metrics = vec![
        gauge(
            "aip_load.valid",
            "1",
            "Whether the run's figures may be believed.",
            &span,
            [(Vec::new(), f64::from(u8::from(report.validity.is_valid())))],
        ),
        gauge(
            "aip_load.rate",
            "1/s",
            "Right answers or deliveries per second.",
            &span,
            [(Vec::new(), report.rate())],
        ),
        counts(report, &span),
        errors(report, &span),
    ];
    let mut quantiles = Vec::new();
    let mut histograms = Vec::new();
    for series in &report.series {
        let of = &series.summary;
        for (quantile, value) in
            [("0.5", of.p50), ("0.9", of.p90), ("0.99", of.p99), ("0.999", of.p999), ("1", of.max)]
        {
            let mut labels = labels(series);
            labels.push(attribute("quantile", quantile));
            quantiles.push((labels, value as f64 / 1e9));
        }
        // What cannot be read was written by nobody; the quantiles are there.
        if let Ok(times) = series.times() {
            histograms.push(histogram(&times, labels(series), &span));
        }
    }
    let description = "Times by series and quantile.";
    metrics.push(gauge("aip_load.quantile", "s", description, &span, quantiles));
    metrics.push(json!({
        "name": "aip_load.time", "unit": "s", "description": "Times by series.",
        "histogram": {"aggregationTemporality": DELTA, "dataPoints": histograms},
    }));
    let figures =
        report.figures.iter().map(|(name, value)| (vec![attribute("name", name)], *value));
    metrics.push(gauge("aip_load.figure", "1", "Single figures by name.", &span, figures));
    let resource = [
        attribute("service.name", "aip-load"),
        attribute("service.version", &report.environment.version),
        attribute("aip_load.command", &report.command),
        attribute("aip_load.target", &report.target),
        attribute("aip_load.plan", &report.fingerprint),
        attribute("aip_load.seed", &report.seed.to_string()),
    ];
    json!({"resourceMetrics": [{
        "resource": {"attributes": resource},
        "scopeMetrics": [{
            "scope": {"name": "aip-load", "version": report.environment.version},
            "metrics": metrics,
        }],
    }]})
}

/// Sends the report to a collector.
///
/// # Errors
/// If it cannot be reached, or does not take it.
pub fn export(report: &Report, url: &str, headers: &[(String, String)]) -> Result<(), String> {
    let wrong = |reason: String| format!("--otlp {url}: {reason}");
    let mut address = reqwest::Url::parse(url).map_err(|error| {
        wrong(format!("{error}; a collector's URL is wanted, as http://127.0.0.1:4318"))
    })?;
    if address.path() == "/" {
        address.set_path(PATH);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| wrong(error.to_string()))?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build();
        let mut post =
            client.map_err(|error| wrong(error.to_string()))?.post(address).json(&request(report));
        for (name, value) in headers {
            post = post.header(name, value);
        }
        let answer = post.send().await.map_err(|error| wrong(format!("{error:#}")))?;
        let status = answer.status();
        if !status.is_success() {
            let words = answer.text().await.unwrap_or_default();
            let words: String = words.chars().take(200).collect();
            return Err(wrong(format!("the collector says {status}: {}", words.escape_debug())));
        }
        Ok(())
    })
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn labels(series: &Series) -> Vec<Value> {
    let mut labels = vec![attribute("series", &series.name)];
    labels.extend(series.labels.iter().map(|(key, value)| attribute(key, value)));
    labels
}

fn gauge(
    name: &str,
    unit: &str,
    description: &str,
    span: &Value,
    points: impl IntoIterator<Item = (Vec<Value>, f64)>,
) -> Value {
    let points: Vec<_> = points
        .into_iter()
        .map(|(attributes, value)| {
            with_span(json!({"attributes": attributes, "asDouble": value}), span)
        })
        .collect();
    json!({"name": name, "unit": unit, "description": description, "gauge": {"dataPoints": points}})
}

fn with_span(mut point: Value, span: &Value) -> Value {
    if let (Some(point), Some(span)) = (point.as_object_mut(), span.as_object()) {
        point.extend(span.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    point
}

fn sum(name: &str, description: &str, points: Vec<Value>) -> Value {
    json!({
        "name": name, "unit": "1", "description": description,
        "sum": {"aggregationTemporality": DELTA, "isMonotonic": true, "dataPoints": points},
    })
}

fn counted(key: &str, name: &str, number: u64, span: &Value) -> Value {
    let point = json!({"attributes": [attribute(key, name)], "asInt": number.to_string()});
    with_span(point, span)
}

fn counts(report: &Report, span: &Value) -> Value {
    let counts = &report.counts;
    let all = [
        ("expected", counts.expected),
        ("ok", counts.ok),
        ("lost", counts.lost),
        ("duplicated", counts.duplicated),
        ("late", counts.late),
        ("wrong", counts.wrong),
        ("reordered", counts.reordered),
    ];
    let points = all.iter().map(|(name, number)| counted("outcome", name, *number, span));
    sum("aip_load.answers", "Answers or deliveries by outcome.", points.collect())
}

fn errors(report: &Report, span: &Value) -> Value {
    let points = report.counts.errors.iter();
    let points = points.map(|(kind, number)| counted("kind", kind, *number, span));
    sum("aip_load.errors", "Errors by kind.", points.collect())
}

/// Upper bounds in seconds: 1, 2 and 5 in each decade.
fn bounds() -> Vec<f64> {
    let decades = -5..=2;
    decades.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10.0_f64.powi(power))).collect()
}

fn histogram(times: &Times, attributes: Vec<Value>, span: &Value) -> Value {
    let bounds = bounds();
    let mut buckets = vec![0_u64; bounds.len() + 1];
    let mut sum = 0.0;
    for (nanoseconds, count) in times.recorded() {
        let seconds = nanoseconds as f64 / 1e9;
        sum += seconds * count as f64;
        buckets[bounds.partition_point(|bound| *bound < seconds)] += count;
    }
    let summary = times.summary();
    let mut point = json!({
        "attributes": attributes,
        "count": times.count().to_string(),
        "sum": sum,
        "bucketCounts": buckets.iter().map(u64::to_string).collect::<Vec<_>>(),
        "explicitBounds": bounds,
    });
    if times.count() != 0 {
        point["min"] = json!(summary.min as f64 / 1e9);
        point["max"] = json!(summary.max as f64 / 1e9);
    }
    with_span(point, span)
}

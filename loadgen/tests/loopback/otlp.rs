//! What a collector is told, as OpenTelemetry's own types read it.

use std::{collections::BTreeMap, net::SocketAddr, sync::mpsc};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::any_value::Value,
    metrics::v1::{Metric, metric::Data, number_data_point},
};

use crate::{
    server::with_server,
    support::{aip_load, report_of},
};

async fn take(
    State(told): State<mpsc::Sender<(HeaderMap, Bytes)>>,
    headers: HeaderMap,
    body: Bytes,
) -> &'static str {
    told.send((headers, body)).unwrap();
    "{}"
}

/// Runs `load` while a collector is up; gives what that was told.
fn with_collector<T>(load: impl FnOnce(&str) -> T) -> (T, HeaderMap, Bytes) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    let router = Router::new().route("/v1/metrics", post(take)).with_state(tell);
    runtime.spawn(async move { axum::serve(listener, router).await });
    let loaded = load(&url);
    let (headers, body) = told.try_recv().unwrap();
    (loaded, headers, body)
}

#[test]
fn a_collector_is_told_what_the_report_says() {
    let (report, headers, body) = with_collector(|collector| {
        with_server(|url, _| {
            let load = ["mcp", "--url", url, "--tool", "echo", "--arrivals", "constant:50"];
            let times = ["--duration", "1s", "--warm-up", "100ms", "--quiet", "--json", "-"];
            let otlp = ["--otlp", collector, "--otlp-header", "authorization=Bearer x"];
            report_of(&aip_load(&[&load[..], &times, &otlp].concat()))
        })
    });
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["authorization"], "Bearer x");
    let request: ExportMetricsServiceRequest = serde_json::from_slice(&body).unwrap();
    let resource = &request.resource_metrics[0];
    let text = |value: &Option<Value>| match value {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{other:?}"),
    };
    let attributes: BTreeMap<_, _> = resource
        .resource
        .as_ref()
        .unwrap()
        .attributes
        .iter()
        .map(|it| (it.key.clone(), text(&it.value.as_ref().unwrap().value)))
        .collect();
    assert_eq!(attributes["service.name"], "aip-load");
    assert_eq!(attributes["aip_load.plan"], report.fingerprint);
    let metrics: BTreeMap<&str, &Metric> = resource.scope_metrics[0]
        .metrics
        .iter()
        .map(|metric| (metric.name.as_str(), metric))
        .collect();

    let Some(Data::Sum(answers)) = &metrics["aip_load.answers"].data else { panic!("no sum") };
    let answers: BTreeMap<_, _> = answers
        .data_points
        .iter()
        .map(|point| {
            let outcome = text(&point.attributes[0].value.as_ref().unwrap().value);
            (outcome, point.value)
        })
        .collect();
    assert_eq!(answers["ok"], Some(number_data_point::Value::AsInt(50)));

    let Some(Data::Histogram(times)) = &metrics["aip_load.time"].data else { panic!("no times") };
    let latency = &times.data_points[0];
    let series = text(&latency.attributes[0].value.as_ref().unwrap().value);
    let summary = &report.series[0].summary;
    assert_eq!((series.as_str(), latency.count), ("latency", 50));
    assert_eq!(latency.bucket_counts.iter().sum::<u64>(), 50);
    assert_eq!(latency.bucket_counts.len(), latency.explicit_bounds.len() + 1);
    assert!(latency.explicit_bounds.is_sorted());
    assert!((latency.max.unwrap() - summary.max as f64 / 1e9).abs() < 1e-9);
    assert!((latency.sum.unwrap() / 50.0 - summary.mean / 1e9).abs() < summary.mean / 1e11);
    assert!(latency.start_time_unix_nano < latency.time_unix_nano);
    for gauge in ["aip_load.quantile", "aip_load.rate", "aip_load.valid", "aip_load.figure"] {
        let Some(Data::Gauge(gauge)) = &metrics[gauge].data else { panic!("{gauge}") };
        assert!(!gauge.data_points.is_empty());
    }
}

#[test]
fn a_collector_that_is_away_is_an_error() {
    let output = with_server(|url, _| {
        let load = ["mcp", "--url", url, "--tool", "echo", "--duration", "200ms"];
        let otlp = ["--warm-up", "0s", "--quiet", "--otlp", "http://127.0.0.1:1"];
        aip_load(&[&load[..], &otlp].concat())
    });
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--otlp http://127.0.0.1:1"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("latency"), "the table is there");
}

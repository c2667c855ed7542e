//! What a program tells an OpenTelemetry collector: spans and metrics, by OTLP over HTTP.
//!
//! Off unless an endpoint is named, by the program's `--otlp` or by the standard variables. Batches
//! are made and sent on threads of their own: whoever ends a span or counts waits for nobody, and
//! what finds no room is dropped, as the SDK does.
#![warn(missing_docs)]

mod context;

use std::{env, time::SystemTime};

use aip_codec::aip::trace::TraceContext;
use opentelemetry::{
    InstrumentationScope,
    metrics::{Meter, MeterProvider as _},
    trace::TracerProvider as _,
};
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    trace::{SdkTracerProvider, SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};

pub use context::{local, remote};
pub use opentelemetry::{Context, KeyValue, metrics, trace};
pub use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

/// The variable that names the endpoint of everything.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Names in what is told: which part of a program it comes from.
const SCOPE: &str = "aip";

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
#[error("`{endpoint}` cannot be told of spans and metrics: {reason}")]
pub struct Error {
    endpoint: String,
    reason: String,
}

/// One kind of what is told.
struct Signal {
    /// Behind the endpoint of everything.
    path: &'static str,
    /// The variable that names an endpoint of its own.
    endpoint: &'static str,
    /// The variable that switches it off with `none`.
    exporter: &'static str,
}

const TRACES: Signal = Signal {
    path: "/v1/traces",
    endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    exporter: "OTEL_TRACES_EXPORTER",
};
const METRICS: Signal = Signal {
    path: "/v1/metrics",
    endpoint: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    exporter: "OTEL_METRICS_EXPORTER",
};

/// What one process tells.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    /// For spans that were made without the SDK.
    ended: Option<SpanExporter>,
}

/// A span that was made elsewhere, and has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its own.
    pub context: TraceContext,
    /// The span that it belongs to.
    pub parent: [u8; 8],
    /// What it is called.
    pub name: String,
    /// Which side it is of.
    pub kind: trace::SpanKind,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What else is known of it.
    pub attributes: Vec<KeyValue>,
    /// Why it did not do what it was to; `None` if it did.
    pub failure: Option<&'static str>,
}

impl Telemetry {
    /// Begins to tell. `endpoint` is what `--otlp` says, such as `http://127.0.0.1:4318`; without it
    /// the standard variables decide, and `None` comes back if they name no endpoint, or
    /// OTEL_SDK_DISABLED is true. `service` is the program's name, unless OTEL_SERVICE_NAME is
    /// another.
    ///
    /// # Errors
    /// If an endpoint is no URL that can be used.
    pub fn start(service: &'static str, endpoint: Option<&str>) -> Result<Option<Self>, Error> {
        let disabled = variable("OTEL_SDK_DISABLED");
        if disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let resource = resource(service);
        let mut ended = None;
        let traces = match TRACES.endpoint(endpoint) {
            None => None,
            Some(endpoint) => {
                let exporter = span_exporter(&endpoint)?;
                let mut other = span_exporter(&endpoint)?;
                other.set_resource(&resource);
                ended = Some(other);
                let provider = SdkTracerProvider::builder().with_resource(resource.clone());
                Some(provider.with_batch_exporter(exporter).build())
            }
        };
        let metrics = match METRICS.endpoint(endpoint) {
            None => None,
            Some(endpoint) => {
                let exporter = MetricExporter::builder()
                    .with_http()
                    .with_protocol(Protocol::HttpBinary)
                    .with_endpoint(&endpoint)
                    .build()
                    .map_err(|error| Error { endpoint, reason: error.to_string() })?;
                let provider = SdkMeterProvider::builder().with_resource(resource);
                Some(provider.with_periodic_exporter(exporter).build())
            }
        };
        let any = traces.is_some() || metrics.is_some();
        Ok(any.then_some(Self { traces, metrics, ended }))
    }

    /// What makes spans; `None` if nobody wants them.
    pub fn tracer(&self) -> Option<SdkTracer> {
        self.traces.as_ref().map(|traces| traces.tracer_with_scope(scope()))
    }

    /// What makes instruments; `None` if nobody wants metrics.
    pub fn meter(&self) -> Option<Meter> {
        self.metrics.as_ref().map(|metrics| metrics.meter_with_scope(scope()))
    }

    /// Tells of spans that were made elsewhere. Takes up to 10 s if the collector does not answer; must
    /// not be called on a thread that drives futures.
    pub fn tell(&self, spans: Vec<Ended>) {
        let Some(exporter) = self.ended.as_ref().filter(|_| !spans.is_empty()) else { return };
        let batch = spans.into_iter().map(Ended::into_data).collect();
        if let Err(error) = futures::executor::block_on(exporter.export(batch)) {
            tracing::warn!(%error, "spans could not be told to the collector");
        }
    }

    /// Tells what is left, and ends. Takes up to 5 s for each of spans and metrics if the collector
    /// does not answer; must not be called on a thread that drives futures.
    pub fn shutdown(self) {
        let traces = self.traces.map_or(Ok(()), |traces| traces.shutdown());
        let metrics = self.metrics.map_or(Ok(()), |metrics| metrics.shutdown());
        for ended in [traces, metrics] {
            if let Err(error) = ended {
                tracing::warn!(%error, "not everything was told to the collector");
            }
        }
    }
}

impl Ended {
    fn into_data(self) -> SpanData {
        SpanData {
            span_context: local_context(self.context),
            parent_span_id: trace::SpanId::from_bytes(self.parent),
            parent_span_is_remote: true,
            span_kind: self.kind,
            name: self.name.into(),
            start_time: self.began,
            end_time: self.ended,
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: self.failure.map_or(trace::Status::Unset, trace::Status::error),
            instrumentation_scope: scope(),
        }
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build()
}

/// The span itself, not as somebody else's.
fn local_context(context: TraceContext) -> trace::SpanContext {
    let remote = remote(context);
    trace::SpanContext::new(
        remote.trace_id(),
        remote.span_id(),
        remote.trace_flags(),
        false,
        trace::TraceState::default(),
    )
}

impl Signal {
    /// Where it is told; `None` is nowhere.
    fn endpoint(&self, given: Option<&str>) -> Option<String> {
        self.endpoint_of(given, variable)
    }

    fn endpoint_of(
        &self,
        given: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Option<String> {
        if variable(self.exporter).is_some_and(|exporter| exporter == "none") {
            return None;
        }
        let below = |base: String| format!("{}{}", base.trim_end_matches('/'), self.path);
        // The command line wins; then the variable that says most.
        given
            .map(|given| below(given.to_owned()))
            .or_else(|| variable(self.endpoint))
            .or_else(|| variable(ENDPOINT).map(below))
    }
}

fn span_exporter(endpoint: &str) -> Result<SpanExporter, Error> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build();
    exporter.map_err(|error| Error { endpoint: endpoint.to_owned(), reason: error.to_string() })
}

fn resource(service: &'static str) -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_attribute(version);
    match variable("OTEL_SERVICE_NAME") {
        // The builder has read it.
        Some(_) => resource.build(),
        None => resource.with_service_name(service).build(),
    }
}

/// A variable that is not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_then_the_variable_that_says_most() {
        let variables = |name: &str| match name {
            ENDPOINT => Some("http://all:4318/".to_owned()),
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" => Some("http://metrics:1/m".to_owned()),
            _ => None,
        };
        let of = |signal: &Signal, given| signal.endpoint_of(given, variables);
        assert_eq!(of(&TRACES, None).as_deref(), Some("http://all:4318/v1/traces"));
        assert_eq!(of(&METRICS, None).as_deref(), Some("http://metrics:1/m"));
        assert_eq!(of(&METRICS, Some("http://a")).as_deref(), Some("http://a/v1/metrics"));
        assert_eq!(TRACES.endpoint_of(None, |_| None), None);
        let none = |name: &str| (name == TRACES.exporter).then(|| "none".to_owned());
        assert_eq!(TRACES.endpoint_of(Some("http://a"), none), None);
    }

    #[test]
    fn an_endpoint_that_is_no_url_is_said() {
        assert!(Telemetry::start("test", Some("not a URL")).is_err());
    }
}

//! Selects the spans that are exported as traces, and exports them to a collector in batches.

use std::{
    error::Error,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter as Otlp, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter},
};
use tokio_rustls::rustls::crypto::ring;
use tracing::{Level, Metadata, Subscriber, info, warn};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use crate::{
    config::{OtlpEndpoint, Traces},
    outage::Outage,
};

type AnyError = Box<dyn Error + Send + Sync>;

static ARE_TRACES_EXPORTED: AtomicBool = AtomicBool::new(false);

/// Returns whether traces are exported. If traces are not exported, callers skip the work for traces.
pub fn are_traces_exported() -> bool {
    ARE_TRACES_EXPORTED.load(Ordering::Relaxed)
}

/// Returns the provider that exports spans in batches in a separate thread. Spans are dropped while 2,048 spans wait for their
/// export.
pub(super) fn tracer_provider(
    name: &str,
    endpoint: &OtlpEndpoint,
    traces: &Traces,
) -> Result<SdkTracerProvider, AnyError> {
    let exporter = Exporter::for_endpoint(endpoint)?;
    ARE_TRACES_EXPORTED.store(true, Ordering::Relaxed);
    let mut resource = Resource::builder();
    // `OTEL_SERVICE_NAME`, a variable of the OpenTelemetry specification, overrides the name of the service.
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(name.to_owned());
    }
    let resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(traces.sample_ratio)));
    Ok(SdkTracerProvider::builder().with_resource(resource).with_sampler(sampler).with_batch_exporter(exporter).build())
}

/// Returns the `tracing` layer that records the spans that [`is_span_exported`] selects, for the export.
pub(super) fn layer<S>(name: &str, provider: &SdkTracerProvider) -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(name.to_owned()))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_span_exported))
}

/// Returns whether a span is exported: spans of requests, of runs, and of handlers' own code are exported, but no spans of the
/// HTTP libraries, because the exporter itself uses the HTTP libraries.
fn is_span_exported(metadata: &Metadata<'_>) -> bool {
    const EXCLUDED_LIBRARIES: [&str; 6] = ["h2", "hyper", "hyper_util", "opentelemetry", "reqwest", "tower"];
    let library = metadata.target().split("::").next().unwrap_or_default();
    metadata.is_span() && *metadata.level() <= Level::INFO && !EXCLUDED_LIBRARIES.contains(&library)
}

/// The time limit for one export of spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends spans to a collector. An outage of the collector and its end are logged once, not for each batch.
#[derive(Debug)]
struct Exporter {
    inner: Otlp,
    outage: Outage,
}

impl Exporter {
    /// Creates the exporter of spans. The environment variables of the OpenTelemetry specification, such as
    /// `OTEL_EXPORTER_OTLP_HEADERS`, apply, too.
    fn for_endpoint(endpoint: &OtlpEndpoint) -> Result<Self, AnyError> {
        // Only the first installation of a cryptography provider in a process has an effect, but Drover always installs the same
        // provider.
        let _ = ring::default_provider().install_default();
        let authorization = endpoint.authorization().map(|value| ("authorization".to_owned(), value));
        let client = reqwest::blocking::Client::builder().timeout(EXPORT_TIMEOUT).build()?;
        let otlp_exporter = Otlp::builder()
            .with_http()
            .with_http_client(client)
            .with_headers(authorization.into_iter().collect())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint.url())
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        Ok(Self { inner: otlp_exporter, outage: Outage::reported_once() })
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let export_result = self.inner.export(batch).await;
        match &export_result {
            Ok(()) if self.outage.record_success() => info!("traces are sent again"),
            Err(error) if self.outage.record_failure() => {
                warn!(%error, spans, "traces can't be sent, and are dropped until the collector takes traces again");
            }
            _ => {}
        }
        export_result
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(limit)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

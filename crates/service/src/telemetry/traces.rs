//! Makes the spans of traces and sends them in batches.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use super::exporter::Exporter;

static IS_TRACING: AtomicBool = AtomicBool::new(false);

/// Whether traces are sent anywhere. Where they are not, nothing need be done for them.
pub fn is_tracing() -> bool {
    IS_TRACING.load(Ordering::Relaxed)
}

/// What makes spans and sends them in batches, from a thread of its own; when 2,048 wait, the next are dropped.
pub(super) fn provider(name: &str, exporter: Exporter, sample_ratio: f64) -> SdkTracerProvider {
    IS_TRACING.store(true, Ordering::Relaxed);
    let mut resource = Resource::builder();
    // The name that the specification has in the environment wins.
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(name.to_owned());
    }
    let resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build();
    SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample_ratio))))
        .with_batch_exporter(exporter)
        .build()
}

/// Makes a trace's span of each span of the program.
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
        .with_filter(filter_fn(is_traced))
}

/// Requests, messages at work, and the spans of handlers; not what libraries below say of themselves, and above all not
/// what the sending of traces does.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    const NOISE: [&str; 6] = ["h2", "hyper", "hyper_util", "opentelemetry", "reqwest", "tower"];
    let library = metadata.target().split("::").next().unwrap_or_default();
    metadata.is_span() && *metadata.level() <= Level::INFO && !NOISE.contains(&library)
}

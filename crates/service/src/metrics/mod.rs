//! `/metrics`: what Prometheus reads. `docs/OBSERVABILITY.md` documents every name, and a test compares. Whoever has something to
//! count registers it with the registry of its service, whose text the crate `prometheus-client` writes.

mod basics;
mod process;

use std::fmt;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, prometheus_text},
    metrics::MetricType,
    registry::Registry,
};

pub use basics::register_basics;

/// The answer of `/metrics`: the figures of these registries.
pub fn page<'r>(registries: impl IntoIterator<Item = &'r Registry>) -> Response {
    let mut text = String::new();
    for registry in registries {
        // Writing to a string does not fail.
        let _ = prometheus_text::encode(&mut text, registry);
    }
    ([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response()
}

/// A gauge whose value is read when it is served.
pub struct ReadGauge<F>(pub F);

impl<F: Fn() -> u64> EncodeMetric for ReadGauge<F> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&(self.0)())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl<F> fmt::Debug for ReadGauge<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadGauge(…)")
    }
}

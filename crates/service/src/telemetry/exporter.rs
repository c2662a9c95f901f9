//! Sends spans to a collector.

use std::{error::Error, time::Duration};

use opentelemetry_otlp::{Protocol, SpanExporter as Otlp, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use tokio_rustls::rustls::crypto::ring;
use tracing::{info, warn};

use crate::{Trouble, config::OtlpEndpoint};

/// How long a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends spans to a collector. That it can't is told once, and once that it can again: not with each batch.
#[derive(Debug)]
pub(super) struct Exporter {
    inner: Otlp,
    trouble: Trouble,
}

/// Beyond the endpoint, what the specification has in the environment applies (`OTEL_EXPORTER_OTLP_HEADERS`).
pub(super) fn to(endpoint: &OtlpEndpoint) -> Result<Exporter, Box<dyn Error + Send + Sync>> {
    // Whoever was first has chosen for the process; there is one choice only.
    let _ = ring::default_provider().install_default();
    let authorization = endpoint.authorization().map(|value| ("authorization".to_owned(), value));
    let client = reqwest::blocking::Client::builder().timeout(PATIENCE).build()?;
    let inner = Otlp::builder()
        .with_http()
        .with_http_client(client)
        .with_headers(authorization.into_iter().collect())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint.url())
        .with_timeout(PATIENCE)
        .build()?;
    Ok(Exporter { inner, trouble: Trouble::told_once() })
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.inner.export(batch).await;
        match &sent {
            Ok(()) if self.trouble.is_over() => info!("traces are sent again"),
            Err(error) if self.trouble.goes_on() => {
                warn!(%error, spans, "traces can't be sent: they are dropped until the collector takes them");
            }
            _ => {}
        }
        sent
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

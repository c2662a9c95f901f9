//! Starts the log and the traces of both services, and exports the last traces when the process ends.

mod log;
mod trace_context;
mod traces;

pub use self::log::rounded_millis;
pub use trace_context::TraceContext;
pub use traces::are_traces_exported;

use std::{io::IsTerminal, time::Duration};

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{ParseError, Targets},
    fmt,
    layer::SubscriberExt,
    registry,
    registry::LookupSpan,
    util::{SubscriberInitExt, TryInitError},
};

use self::log::{EscapedOutput, PlainFields};
use crate::config::{Log, LogFormat, Traces};

/// The time limit for exporting the last traces when the process stops.
const FINAL_EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// A mistake in the configuration of logs or traces.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTelemetry {
    /// The filter is not valid.
    #[error(
        "log.filter: expected off, error, warn, info, debug or trace, or such words by module, as in \"info,queue_core=debug\""
    )]
    Filter(#[from] ParseError),
    /// The exporter of traces can't be created.
    #[error("traces.endpoint: {0}")]
    Exporter(Box<dyn std::error::Error + Send + Sync>),
}

/// The log and the traces of the process.
#[derive(Debug)]
#[must_use = "`finish` exports the last traces"]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Starts the log on standard output, and the export of traces if an endpoint is configured. `start` must not be
    /// called in an asynchronous runtime.
    ///
    /// # Errors
    ///
    /// Returns an error if the filter is not valid, or if the exporter can't be created.
    pub fn start(name: &str, log: &Log, traces: &Traces) -> Result<Self, InvalidTelemetry> {
        let filter = EnvFilter::builder().parse(&log.filter)?;
        let tracer_provider = match &traces.endpoint {
            None => None,
            Some(endpoint) => {
                Some(traces::tracer_provider(name, endpoint, traces).map_err(InvalidTelemetry::Exporter)?)
            }
        };
        // If a process starts its log twice, as a test does, the first log stays in use, and the error of `try_init` is
        // ignored.
        let _: Result<(), TryInitError> = match &tracer_provider {
            None => match filter_without_spans(&log.filter) {
                Some(filter) => registry().with(filter).with(log_layer(log)).try_init(),
                None => registry().with(filter).with(log_layer(log)).try_init(),
            },
            Some(tracer_provider) => registry()
                .with(log_layer(log).with_filter(filter))
                .with(traces::layer(name, tracer_provider))
                .try_init(),
        };
        Ok(Self(tracer_provider))
    }

    /// Exports the spans that have not been exported yet.
    pub fn finish(self) {
        if let Some(provider) = self.0 {
            // The exporter itself logs a failed export.
            let _ = provider.shutdown_with_timeout(FINAL_EXPORT_TIMEOUT);
        }
    }
}

/// Returns a log filter as [`Targets`], if the filter selects by targets and levels only. An [`EnvFilter`] can also select by
/// spans, but takes a lock whenever a span is entered or left, which happens several times per request.
fn filter_without_spans(text: &str) -> Option<Targets> {
    (!text.contains('[')).then(|| text.parse().ok()).flatten()
}

/// Returns the layer that writes the log.
fn log_layer<S: Subscriber + for<'span> LookupSpan<'span>>(log: &Log) -> Box<dyn Layer<S> + Send + Sync> {
    let has_colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Errors of writing the log are not reported on standard error, which may not be writable either.
    let lines = fmt::layer()
        .with_ansi(has_colours)
        .log_internal_errors(false)
        .with_writer(EscapedOutput { colours: has_colours });
    match log.format {
        LogFormat::Pretty if has_colours => lines.boxed(),
        LogFormat::Pretty => lines.fmt_fields(PlainFields).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

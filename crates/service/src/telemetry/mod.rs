//! Logs and traces, the same on both services: starts them with the process, and sends the last traces at its end.

mod log;
mod trace_context;
mod traces;

pub use trace_context::TraceContext;
pub use traces::is_tracing;

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

use self::log::{Escaped, Plain};
use crate::config::{Log, LogFormat, Traces};

/// The time that the collector has for the last traces when the process stops.
const LAST_TRACES: Duration = Duration::from_secs(3);

/// A mistake in the configuration of logs or traces.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTelemetry {
    /// The filter is not valid.
    #[error(
        "log.filter: expected off, error, warn, info, debug or trace, or such words by module, as in \"info,queue_core=debug\""
    )]
    Filter(#[from] ParseError),
    /// The exporter of traces can't be made.
    #[error("traces.endpoint: {0}")]
    Exporter(Box<dyn std::error::Error + Send + Sync>),
}

/// The log and the traces of the process.
#[derive(Debug)]
#[must_use = "the last traces are sent when it is finished"]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Starts logging to standard output, and sending traces if there is an endpoint. Not within an asynchronous runtime.
    ///
    /// # Errors
    ///
    /// The filter is not valid, or the exporter can't be made.
    pub fn start(name: &str, log: &Log, traces: &Traces) -> Result<Self, InvalidTelemetry> {
        let filter = EnvFilter::builder().parse(&log.filter)?;
        let provider = match &traces.endpoint {
            None => None,
            Some(endpoint) => Some(traces::provider(name, endpoint, traces).map_err(InvalidTelemetry::Exporter)?),
        };
        // A second start within one process (a test) keeps the first one's log.
        let _: Result<(), TryInitError> = match &provider {
            None => match plain_filter(&log.filter) {
                Some(filter) => registry().with(filter).with(lines(log)).try_init(),
                None => registry().with(filter).with(lines(log)).try_init(),
            },
            Some(provider) => {
                registry().with(lines(log).with_filter(filter)).with(traces::layer(name, provider)).try_init()
            }
        };
        Ok(Self(provider))
    }

    /// Sends the traces that are left.
    pub fn finish(self) {
        if let Some(provider) = self.0 {
            // The exporter has reported a failure.
            let _ = provider.shutdown_with_timeout(LAST_TRACES);
        }
    }
}

/// A filter that looks at targets and levels only, as nearly all do: one that may look into spans takes a lock whenever
/// one is entered or left, several times with each request.
fn plain_filter(text: &str) -> Option<Targets> {
    (!text.contains('[')).then(|| text.parse().ok()).flatten()
}

/// The lines of the log.
fn lines<S: Subscriber + for<'span> LookupSpan<'span>>(log: &Log) -> Box<dyn Layer<S> + Send + Sync> {
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // No report on standard error of a log that can't be written: that may not be writable either.
    let lines = fmt::layer().with_ansi(colours).log_internal_errors(false).with_writer(Escaped { colours });
    match log.format {
        LogFormat::Pretty if colours => lines.boxed(),
        LogFormat::Pretty => lines.fmt_fields(Plain).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

//! What log and traces say of each run of a handler.

use service::telemetry::{self, TraceContext};
use tracing::{Span, info_span};

use crate::Job;

/// The span of a run: a part of the trace that the message belongs to, linked to the place where it was posted.
pub(crate) fn begin(job: &Job) -> Span {
    // As a text and not as it is displayed: an id of a producer's own may have spaces and quotes, and is written in quotes.
    let (queue, id, attempt) = (job.queue(), job.id().as_str(), job.attempt());
    if !telemetry::is_tracing() {
        return info_span!("job", %queue, id, attempt);
    }
    let span = info_span!(
        "job", otel.kind = "consumer", otel.name = format!("process {queue}"), messaging.system = "drover",
        messaging.operation.type = "process", messaging.destination.name = %queue, messaging.message.id = id,
        %queue, id, attempt,
    );
    if let Some(posted) = TraceContext::read(job.traceparent(), job.headers().get(TraceContext::TRACESTATE)) {
        posted.follow_in(&span);
    }
    span
}

/// The place in a trace that goes on with the work, to a URL or a program: the span of this run, where traces are sent; else
/// what the message carries. Names as in the headers of a request.
pub(crate) fn handed_on(job: &Job) -> [(&'static str, Option<String>); 2] {
    let own = telemetry::is_tracing().then(|| TraceContext::of_span(&Span::current())).flatten();
    let (parent, state) = if let Some(own) = own {
        (Some(own.traceparent()), own.tracestate())
    } else {
        let carried = |name| job.headers().get(name).map(str::to_owned);
        (carried(TraceContext::TRACEPARENT), carried(TraceContext::TRACESTATE))
    };
    [(TraceContext::TRACEPARENT, parent), (TraceContext::TRACESTATE, state)]
}

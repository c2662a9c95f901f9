//! What log and traces say of each run of a handler.

use service::telemetry::{self, TraceContext};
use tracing::{Span, info_span};

use crate::Job;

/// The span of a run: a part of the trace that the message belongs to, linked to the place where it was posted.
pub(crate) fn begin(job: &Job) -> Span {
    let (queue, id, attempt) = (job.queue(), job.id(), job.attempt());
    if !telemetry::is_tracing() {
        return info_span!("job", %queue, %id, attempt);
    }
    let span = info_span!(
        "job", otel.kind = "consumer", otel.name = format!("process {queue}"), messaging.system = "drover",
        messaging.operation.type = "process", messaging.destination.name = %queue, messaging.message.id = %id,
        %queue, %id, attempt,
    );
    if let Some(posted) = TraceContext::read(job.traceparent(), job.headers().get(TraceContext::TRACESTATE)) {
        posted.follow_in(&span);
    }
    span
}

//! The trace context of a request, which is added to the headers of the messages that it posts.

use std::convert::Infallible;

use axum::{extract::FromRequestParts, http::request::Parts};
use queue_core::NewMessage;
use service::telemetry::{self, TraceContext};
use tracing::Span;

/// The trace context of a request: the context of the request's span if traces are exported, else the context in the request's
/// headers.
pub(crate) struct Trace(Option<TraceContext>);

impl<S: Sync> FromRequestParts<S> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let context_of_span =
            telemetry::are_traces_exported().then(|| TraceContext::from_span(&Span::current())).flatten();
        Ok(Self(context_of_span.or_else(|| TraceContext::from_request(&parts.headers))))
    }
}

impl Trace {
    /// Adds the trace context to the headers of a message, unless the producer has set a `traceparent` or the headers have no
    /// room.
    pub(crate) fn add_to_headers_of(&self, message: &mut NewMessage) {
        let Some(context) = &self.0 else { return };
        let headers = &mut message.headers;
        if headers.get(TraceContext::TRACEPARENT).is_some() {
            return;
        }
        let has_room = headers.add(TraceContext::TRACEPARENT, &context.traceparent());
        if let (true, Some(state)) = (has_room, context.tracestate()) {
            headers.add(TraceContext::TRACESTATE, &state);
        }
    }
}

//! Trace context: the messages that a request posts carry its place in a trace.

use std::convert::Infallible;

use axum::{extract::FromRequestParts, http::request::Parts};
use queue_core::NewMessage;
use service::telemetry::{self, TraceContext};
use tracing::Span;

/// The place of a request in a trace: its own span, where traces are exported; else the place that its headers name.
pub(crate) struct Trace(Option<TraceContext>);

impl<S: Sync> FromRequestParts<S> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let own = telemetry::is_tracing().then(|| TraceContext::of_span(&Span::current())).flatten();
        Ok(Self(own.or_else(|| TraceContext::of_request(&parts.headers))))
    }
}

impl Trace {
    /// Adds the place to the headers of a message, unless the producer has set another one, or the headers have no room.
    pub(crate) fn mark(&self, message: &mut NewMessage) {
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

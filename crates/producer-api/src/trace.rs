//! The place of a request in a trace goes with the messages that it posts.

use std::convert::Infallible;

use axum::{extract::FromRequestParts, http::request::Parts};
use queue_core::NewMessage;
use service::telemetry::{self, TraceContext};
use tracing::Span;

/// Where in a trace a request stands: its own span, where traces are sent; else the place that it brought with it.
pub(crate) struct Trace(Option<Place>);

struct Place {
    traceparent: String,
    tracestate: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let own = telemetry::is_tracing().then(|| TraceContext::of_span(&Span::current())).flatten();
        let context = own.or_else(|| TraceContext::of_request(&parts.headers));
        Ok(Self(context.map(|context| Place { traceparent: context.traceparent(), tracestate: context.tracestate() })))
    }
}

impl Trace {
    /// Puts it into the headers of a message, unless the producer has put another one there, or they have no room.
    pub(crate) fn mark(&self, message: &mut NewMessage) {
        let Some(place) = &self.0 else { return };
        let headers = &mut message.headers;
        if headers.get(TraceContext::TRACEPARENT).is_some() {
            return;
        }
        let has_room = headers.add(TraceContext::TRACEPARENT, &place.traceparent);
        if let (true, Some(state)) = (has_room, &place.tracestate) {
            headers.add(TraceContext::TRACESTATE, state);
        }
    }
}

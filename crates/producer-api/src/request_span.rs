//! What log and traces say of each request.

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderValue, StatusCode},
};
use service::telemetry::{self, TraceContext};
use tracing::{Span, debug, field, info_span};

use crate::metrics::UnderWay;

/// The span of a request: a part of the trace that it brought with it, if any.
pub(crate) fn begin(request: &Request, id: Option<&HeaderValue>) -> Span {
    let (method, path) = (request.method(), request.uri().path());
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or("");
    let place = TraceContext::of_request(request.headers());
    let span = if telemetry::is_tracing() {
        let route = request.extensions().get().map_or("", MatchedPath::as_str);
        info_span!(
            "request", otel.kind = "server", otel.name = format!("{method} {route}").trim_end(), http.route = route,
            http.response.status_code = field::Empty, otel.status_code = field::Empty,
            %method, path, id, trace = field::Empty, key = field::Empty,
        )
    } else {
        info_span!("request", %method, path, id, trace = field::Empty, key = field::Empty)
    };
    if let Some(place) = place {
        span.record("trace", place.trace_id());
        place.continue_in(&span);
    }
    span
}

/// Tells what was answered.
pub(crate) fn end(status: StatusCode, under_way: &UnderWay, span: &Span) {
    if telemetry::is_tracing() {
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
    }
    debug!(status = status.as_u16(), duration_ms = under_way.took().as_secs_f64() * 1e3, "answered");
}

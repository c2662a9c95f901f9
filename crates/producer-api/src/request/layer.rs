//! The layer that every request passes: it adds an id and a span, measures the request, and renders error responses.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, HttpBody},
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, StreamExt, stream};
use pin_project_lite::pin_project;
use service::{
    Peer, REQUEST_ID, new_request_id, render_problem,
    telemetry::{self, TraceContext, rounded_millis},
};
use tower::{Layer, Service};
use tracing::{Span, debug, error, field, info_span};

use super::header;
use crate::{
    auth::{Access, endpoint::Endpoints},
    metrics::requests::{InFlightRequest, RequestMetrics},
};

/// The layer that every request passes.
///
/// One layer adds the id and the span, measures the request and renders errors, because each further layer would cost every
/// request a copy of all the layers inside it.
#[derive(Clone)]
pub(crate) struct RequestLayer {
    pub(crate) metrics: RequestMetrics,
    pub(crate) access: Access,
    pub(crate) endpoints: Arc<Endpoints>,
}

impl<S> Layer<S> for RequestLayer {
    type Service = RequestService<S>;

    fn layer(&self, inner: S) -> RequestService<S> {
        RequestService { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct RequestService<S> {
    inner: S,
    layer: RequestLayer,
}

impl<S: Service<Request, Response = Response>> Service<Request> for RequestService<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let in_flight_request = self.layer.metrics.begin_request(&request);
        if self.layer.access == Access::Open {
            self.layer.note_trusted_client(&request);
        }
        let id = client_request_id(request.headers()).cloned().or_else(|| new_request_id().try_into().ok());
        let span = request_span(&request, id.as_ref());
        ResponseFuture { inner: self.inner.call(request), span, id, in_flight: in_flight_request }
    }
}

impl RequestLayer {
    /// For an API without keys: marks the client of a request as trusted if the path of the request would need a key. No new
    /// connection displaces the connection of a trusted client. A request for health or metrics does not mark the client as
    /// trusted, so the client's connection may still be closed to make room for a new connection.
    fn note_trusted_client(&self, request: &Request) {
        let path = request.extensions().get::<MatchedPath>();
        if path.is_some_and(|path| !self.endpoints.needs_no_key(path.as_str()))
            && let Some(peer) = request.extensions().get::<Arc<Peer>>()
        {
            peer.note_trusted_client();
        }
    }
}

pin_project! {
    pub(crate) struct ResponseFuture<F> {
        #[pin]
        inner: F,
        span: Span,
        id: Option<HeaderValue>,
        in_flight: InFlightRequest,
    }
}

impl<F: Future<Output = Result<Response, E>>, E> Future for ResponseFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _in_span = this.span.enter();
        let mut response = ready!(this.inner.poll(context))?;
        let status = response.status();
        this.in_flight.set_status(status);
        if telemetry::are_traces_exported() {
            this.span.record("http.response.status_code", status.as_u16());
            if status.is_server_error() {
                this.span.record("otel.status_code", "ERROR");
            }
        }
        debug!(status = status.as_u16(), duration_ms = rounded_millis(this.in_flight.elapsed()), "answered");
        if let Some(id) = this.id.take() {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        let response = render_problem(response);
        Poll::Ready(Ok(match response.body().size_hint().exact() {
            Some(_) => response,
            None => response.map(|body| body_in_span(body, this.span.clone())),
        }))
    }
}

/// Returns a streaming body whose frames are read within the span of the request.
fn body_in_span(body: Body, span: Span) -> Body {
    let mut frames = body.into_data_stream();
    Body::from_stream(stream::poll_fn(move |context| span.in_scope(|| frames.poll_next_unpin(context))))
}

const MAX_REQUEST_ID_LENGTH: usize = 128;

/// Returns the request id that the client sent, if the id is valid. A valid id is short and printable, because the response and
/// the log repeat the id.
fn client_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let is_valid = |id: &&HeaderValue| {
        (1..=MAX_REQUEST_ID_LENGTH).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    header::single_value(headers, &REQUEST_ID).filter(is_valid)
}

/// Creates the span of a request. If the request's headers name a trace, the span is a part of that trace.
fn request_span(request: &Request, id: Option<&HeaderValue>) -> Span {
    let (method, path) = (request.method(), request.uri().path());
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or("");
    let parent_context = TraceContext::from_request(request.headers());
    let span = if telemetry::are_traces_exported() {
        let route = request.extensions().get().map_or("", MatchedPath::as_str);
        info_span!(
            "request", otel.kind = "server", otel.name = format!("{method} {route}").trim_end(), http.route = route,
            http.response.status_code = field::Empty, otel.status_code = field::Empty,
            %method, path, id, trace = field::Empty, key = field::Empty,
        )
    } else {
        info_span!("request", %method, path, id, trace = field::Empty, key = field::Empty)
    };
    if let Some(parent_context) = parent_context {
        span.record("trace", parent_context.trace_id());
        parent_context.become_parent_of(&span);
    }
    span
}

/// Answers 500 when the code that serves a request panics. The `CatchPanicLayer` of tower-http is not used, because that layer
/// boxes every body.
pub(crate) fn catch_panic(
    responding: impl Future<Output = Result<Response, Infallible>>,
) -> impl Future<Output = Result<Response, Infallible>> {
    AssertUnwindSafe(responding).catch_unwind().map(|ended| {
        ended.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref().copied()).unwrap_or("without a text");
            error!("a request panicked: {text}");
            Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panic_in_a_request_is_answered_with_status_500() {
        let panicking_handler = async { panic!("{} broke", "it") };
        assert_eq!(catch_panic(panicking_handler).await.map(|response| response.status().as_u16()), Ok(500));
        let respond = async { Ok(StatusCode::CREATED.into_response()) };
        assert_eq!(catch_panic(respond).await.map(|response| response.status().as_u16()), Ok(201));
    }

    #[test]
    fn request_id_of_the_client_is_kept_only_if_it_is_one_printable_text() {
        let kept_id = |ids: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for id in ids {
                headers.append(REQUEST_ID, HeaderValue::from_static(id));
            }
            client_request_id(&headers).is_some()
        };
        assert!(kept_id(&["a-1"]));
        assert!(!kept_id(&[]) && !kept_id(&[""]) && !kept_id(&["a b"]) && !kept_id(&["a", "b"]));
    }
}

//! What every request goes through, whatever its route.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use pin_project_lite::pin_project;
use service::{REQUEST_ID, new_request_id, render_problem};
use tower::{Layer, Service};
use tracing::{Span, error};

use crate::{
    auth,
    metrics::{Measure, UnderWay},
    openapi::Access,
    request_span,
    routes::Endpoints,
};

/// The layer that gives each request an id and a span, measures it, and writes its refusal down, if it is one.
///
/// One, where the library has a layer for each of these: each costs every request a copy of all that lies within.
#[derive(Clone)]
pub(crate) struct Attend {
    pub(crate) measure: Measure,
    /// Whether requests need keys. Where they don't, it notes whose connections are kept when there are too many.
    pub(crate) access: Access,
    pub(crate) endpoints: Arc<Endpoints>,
}

impl<S> Layer<S> for Attend {
    type Service = Attended<S>;

    fn layer(&self, inner: S) -> Attended<S> {
        Attended { inner, measure: self.measure.clone(), access: self.access, endpoints: Arc::clone(&self.endpoints) }
    }
}

/// A service whose requests are attended to.
#[derive(Clone)]
pub(crate) struct Attended<S> {
    inner: S,
    measure: Measure,
    access: Access,
    endpoints: Arc<Endpoints>,
}

impl<S: Service<Request, Response = Response>> Service<Request> for Attended<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Attending<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let under_way = self.measure.begin(&request);
        if self.access == Access::Open {
            auth::note_proven(&request, &self.endpoints);
        }
        let id = own_id(request.headers()).cloned().or_else(|| new_request_id().try_into().ok());
        let span = request_span::begin(&request, id.as_ref());
        Attending { inner: self.inner.call(request), span, id, under_way }
    }
}

pin_project! {
    /// A request that is attended to.
    pub(crate) struct Attending<F> {
        #[pin]
        inner: F,
        span: Span,
        id: Option<HeaderValue>,
        under_way: UnderWay,
    }
}

impl<F: Future<Output = Result<Response, E>>, E> Future for Attending<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _in_span = this.span.enter();
        let mut answer = ready!(this.inner.poll(context))?;
        this.under_way.answered(answer.status());
        request_span::end(answer.status(), this.under_way, this.span);
        if let Some(id) = this.id.take() {
            answer.headers_mut().insert(REQUEST_ID, id);
        }
        let answer = render_problem(answer);
        Poll::Ready(Ok(match answer.body().size_hint().exact() {
            Some(_) => answer,
            None => answer.map(|body| Body::new(Streaming { body, span: this.span.clone() })),
        }))
    }
}

/// The longest id of a client's own that is kept.
const LONGEST_ID: usize = 128;

/// An id of a client's own goes into answers and into the log, so it must be one, and short and readable there.
fn own_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut ids = headers.get_all(REQUEST_ID).iter();
    let (id, None) = (ids.next()?, ids.next()) else { return None };
    let is_fit = (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    is_fit.then_some(id)
}

/// The body of an answer that is still made while it is sent, which belongs to its request.
struct Streaming {
    body: Body,
    span: Span,
}

impl HttpBody for Streaming {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let Self { body, span } = self.get_mut();
        let _in_span = span.enter();
        Pin::new(body).poll_frame(context)
    }
}

/// A panic costs the request that met it its answer, and nothing more. Bodies stay as they are, which the library's layer would
/// put into a box.
pub(crate) fn catch_panic(
    answering: impl Future<Output = Result<Response, Infallible>>,
) -> impl Future<Output = Result<Response, Infallible>> {
    AssertUnwindSafe(answering).catch_unwind().map(|ended| {
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
    async fn a_panic_is_answered_and_what_is_no_panic_is_left_alone() {
        let panicking = async { panic!("{} broke", "it") };
        assert_eq!(catch_panic(panicking).await.map(|answer| answer.status().as_u16()), Ok(500));
        let answering = async { Ok(StatusCode::CREATED.into_response()) };
        assert_eq!(catch_panic(answering).await.map(|answer| answer.status().as_u16()), Ok(201));
    }

    #[test]
    fn an_id_of_a_clients_own_is_kept_only_when_it_is_one_and_readable() {
        let kept = |ids: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for id in ids {
                headers.append(REQUEST_ID, HeaderValue::from_static(id));
            }
            own_id(&headers).is_some()
        };
        assert!(kept(&["a-1"]));
        assert!(!kept(&[]) && !kept(&[""]) && !kept(&["a b"]) && !kept(&["a", "b"]));
    }
}

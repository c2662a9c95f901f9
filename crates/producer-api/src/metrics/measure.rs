use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    http::{Method, StatusCode},
    response::Response,
};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::HttpTimes;

/// The layer that measures how long requests take.
#[derive(Clone, Default)]
pub(crate) struct Measure {
    times: Arc<HttpTimes>,
}

impl Measure {
    pub(super) fn new(times: Arc<HttpTimes>) -> Self {
        Self { times }
    }
}

impl<S> Layer<S> for Measure {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Measured<S> {
        Measured { inner, times: Arc::clone(&self.times) }
    }
}

/// A service whose requests are measured.
#[derive(Clone)]
pub(crate) struct Measured<S> {
    inner: S,
    times: Arc<HttpTimes>,
}

impl<S: Service<Request, Response = Response>> Service<Request> for Measured<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let under_way = UnderWay::begin(Arc::clone(&self.times), &request);
        Answering { inner: self.inner.call(request), under_way }
    }
}

pin_project! {
    /// A request under way.
    pub(crate) struct Answering<F> {
        #[pin]
        inner: F,
        under_way: UnderWay,
    }
}

impl<F: Future<Output = Result<Response, E>>, E> Future for Answering<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(context));
        this.under_way.status = answer.as_ref().ok().map(Response::status);
        Poll::Ready(answer)
    }
}

/// It ends when it is dropped: with the answer, or because the client has gone.
struct UnderWay {
    times: Arc<HttpTimes>,
    path: Option<MatchedPath>,
    method: Method,
    start: Instant,
    status: Option<StatusCode>,
}

impl UnderWay {
    fn begin(times: Arc<HttpTimes>, request: &Request) -> Self {
        times.begin();
        let path = request.extensions().get().cloned();
        Self { times, path, method: request.method().clone(), start: Instant::now(), status: None }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let template = self.path.as_ref().map(MatchedPath::as_str);
        self.times.end(template, &self.method, self.status, self.start.elapsed());
    }
}

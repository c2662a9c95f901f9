use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request},
    http::{Method, StatusCode},
};

use super::HttpTimes;

/// Measures how long requests take.
#[derive(Clone, Default)]
pub(crate) struct Measure {
    times: Arc<HttpTimes>,
}

impl Measure {
    pub(super) fn new(times: Arc<HttpTimes>) -> Self {
        Self { times }
    }

    /// A request has come.
    pub(crate) fn begin(&self, request: &Request) -> UnderWay {
        let times = Arc::clone(&self.times);
        times.begin();
        let path = request.extensions().get().cloned();
        UnderWay { times, path, method: request.method().clone(), start: Instant::now(), status: None }
    }
}

/// A request under way. It ends when it is dropped: with the answer, or because the client has gone.
pub(crate) struct UnderWay {
    times: Arc<HttpTimes>,
    path: Option<MatchedPath>,
    method: Method,
    start: Instant,
    status: Option<StatusCode>,
}

impl UnderWay {
    /// There is an answer.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// For how long it has been under way.
    pub(crate) fn took(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let template = self.path.as_ref().map(MatchedPath::as_str);
        self.times.end(template, &self.method, self.status, self.took());
    }
}

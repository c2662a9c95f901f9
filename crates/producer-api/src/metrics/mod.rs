//! `/metrics` of the API. No label has a value that a stranger could make up: routes are templates of the router, queues
//! stand in the index, and of either there is a bounded number.

mod http_times;
mod measure;
mod queue_figures;

use std::sync::Arc;

use axum::{Router, routing::get};
use queue_core::Queues;
use service::metrics::{Basics, Page};

use crate::budget::Budget;
use http_times::HttpTimes;
use queue_figures::QueueFigures;

pub(crate) use measure::{Measure, UnderWay};

/// All figures of the API.
#[derive(Clone)]
pub(crate) struct Metrics {
    basics: Basics,
    http: Arc<HttpTimes>,
    queues: Arc<QueueFigures>,
    listeners: Budget,
}

impl Metrics {
    /// Nothing is counted yet.
    pub(crate) fn new(basics: Basics, queues: Queues, listeners: Budget) -> Self {
        Self { basics, http: Arc::default(), queues: Arc::new(QueueFigures::of(queues)), listeners }
    }

    /// What measures requests.
    pub(crate) fn measure(&self) -> Measure {
        Measure::new(Arc::clone(&self.http))
    }

    /// The route.
    pub(crate) fn routes<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        Router::new().route("/metrics", get(async move || self.page().await))
    }

    async fn page(&self) -> Page {
        let mut page = Page::default();
        self.basics.write(&mut page);
        self.http.write(&mut page);
        page.gauge("drover_event_listeners", "Streams of events that are open.", self.listeners.taken());
        self.queues.read().await.write(&mut page);
        page
    }
}

//! `/metrics` of the API. No label has a value that a stranger could make up: routes are templates of the router, queues
//! stand in the index, and of either there is a bounded number.

mod measure;
mod queue_figures;

use std::sync::Arc;

use axum::response::Response;
use prometheus_client::registry::Registry;
use queue_core::Queues;
use service::metrics::{ReadGauge, page};

use crate::budget::Budget;
use queue_figures::QueueFigures;

pub(crate) use measure::{Measure, UnderWay};

/// All figures of the API.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    queues: Arc<QueueFigures>,
    measure: Measure,
}

impl Metrics {
    /// Nothing is counted yet but what the registry has.
    pub(crate) fn new(mut registry: Registry, queues: Queues, listeners: Budget) -> Self {
        let measure = Measure::default();
        measure.register(&mut registry);
        let listeners = ReadGauge(move || listeners.taken() as u64);
        registry.register("drover_event_listeners", "Streams of events that are open", listeners);
        Self { registry: Arc::new(registry), queues: Arc::new(QueueFigures::of(queues)), measure }
    }

    /// What measures requests.
    pub(crate) fn measure(&self) -> Measure {
        self.measure.clone()
    }

    /// All of them, as they are now.
    pub(crate) async fn page(&self) -> Response {
        let mut queues = Registry::default();
        queues.register_collector(Box::new(self.queues.read().await));
        page([&*self.registry, &queues])
    }
}

//! The metrics that the API serves at `/metrics`. Clients can't create an unlimited number of label values: the label `route`
//! has path templates of the router, and the number of queues with metrics is bounded.

mod queues;
pub(crate) mod requests;

use std::sync::Arc;

use axum::response::Response;
use prometheus_client::registry::Registry;
use queue_core::Queues;
use service::metrics::{ReadGauge, page};

use crate::budget::Budget;
use queues::QueueMetrics;
use requests::RequestMetrics;

#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    queues: Arc<QueueMetrics>,
    pub(crate) requests: RequestMetrics,
}

impl Metrics {
    pub(crate) fn new(mut registry: Registry, queues: Queues, event_streams: Budget) -> Self {
        let requests = RequestMetrics::default();
        requests.register(&mut registry);
        queues.tick_metrics().register(&mut registry);
        let event_streams = ReadGauge(move || event_streams.taken_amount() as u64);
        registry.register("drover_event_listeners", "Open event streams", event_streams);
        Self { registry: Arc::new(registry), queues: Arc::new(QueueMetrics::new(queues)), requests }
    }

    pub(crate) async fn page(&self) -> Response {
        let mut queues = Registry::default();
        queues.register_collector(Box::new(self.queues.read().await));
        page([&*self.registry, &queues])
    }
}

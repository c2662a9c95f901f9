//! The state that all requests share: the queues, the keys, the budgets and the metrics of this process.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use axum::body::Bytes;
use prometheus_client::registry::Registry;
use queue_core::{LongPoll, Millis, Queues, feed::EventFeed, wakeup::Subscriber};
use service::{
    RedisHealthMonitor,
    config::{Api, Dashboard},
    metrics::register_build_process_and_redis_metrics,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span};

use crate::{
    auth::keyring::Keyring,
    budget::{Budget, Client, Share},
    errors::{self, Result},
    metrics::Metrics,
};

#[derive(Clone)]
pub(crate) struct App(Arc<AppState>);

pub(crate) struct AppState {
    pub(crate) queues: Queues,
    pub(crate) subscriber: Subscriber,
    pub(crate) long_poll: LongPoll,
    pub(crate) event_feed: EventFeed,
    pub(crate) event_streams: Budget,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) waiting_requests: Budget,
    /// The memory for request bodies and for responses, in bytes.
    pub(crate) body_memory: Budget,
    /// The part of `body_memory` that responses may use, in bytes.
    pub(crate) response_memory: Budget,
    pub(crate) limits: Api,
    pub(crate) dashboard: Dashboard,
    pub(crate) metrics: Metrics,
    pub(crate) health_monitor: RedisHealthMonitor,
    /// The `OpenAPI` document that `/openapi.json` returns. The router sets the `OpenAPI` document when all routes are
    /// registered.
    pub(crate) description: OnceLock<Bytes>,
    /// The tasks of operations that run to their end even if the client disconnects.
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Deref for App {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.0
    }
}

impl App {
    pub(crate) fn new(
        queues: Queues,
        subscriber: Subscriber,
        keyring: Keyring,
        (limits, dashboard): (Api, Dashboard),
        shutdown: CancellationToken,
    ) -> Self {
        let event_streams = Budget::new(limits.max_listeners, limits.max_listeners_per_key);
        let mut registry = Registry::default();
        register_build_process_and_redis_metrics(&mut registry, "producer-api", queues.redis(), &subscriber);
        Self(Arc::new(AppState {
            metrics: Metrics::new(registry, queues.clone(), event_streams.clone()),
            health_monitor: RedisHealthMonitor::new(queues.redis().clone(), subscriber.clone()),
            long_poll: LongPoll::new(subscriber.clone(), shutdown.clone()),
            event_feed: EventFeed::new(subscriber.clone(), shutdown.clone()),
            queues,
            subscriber,
            event_streams,
            keyring: Arc::new(keyring),
            waiting_requests: Budget::new(usize::MAX, limits.max_waits_per_key),
            body_memory: Budget::new(limits.max_body_memory, limits.max_body_memory_per_client()),
            response_memory: Budget::new(limits.max_answer_memory(), limits.max_answer_memory_per_client()),
            limits,
            dashboard,
            description: OnceLock::new(),
            tasks: TaskTracker::new(),
            shutdown,
        }))
    }

    /// Counts a request that waits for up to `wait` towards the maximum number of waiting requests of its `key`, until the
    /// returned share is dropped. Returns `None` if `wait` is zero. The number of waiting requests without an API key has no
    /// maximum.
    pub(crate) fn count_waiting_request(&self, key: Option<Client>, wait: Millis) -> Result<Option<Share>> {
        let share = (!wait.is_zero()).then(|| self.waiting_requests.take(key, 1)).transpose();
        share.map_err(errors::too_many_waits)
    }

    /// Runs a long operation to its end, even if the client disconnects before that.
    pub(crate) async fn run_to_end<T: Send + 'static>(
        &self,
        operation: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let task = self.tasks.spawn(operation.instrument(Span::current()));
        task.await.map_err(|_| errors::INTERNAL_ERROR.into())
    }
}

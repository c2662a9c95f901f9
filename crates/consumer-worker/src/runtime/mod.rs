//! The runtime of a worker: a separate thread leases messages, starts their handlers and settles their leases. Each queue has
//! one runner in the runtime.

mod capacity;
mod context;
mod executor;
mod handler_slots;
mod heartbeat;
mod lease_ahead;
mod lease_set;
mod metrics;
mod periodic;
mod queue_runner;
mod run;
mod settler;

use std::{
    collections::HashSet,
    future, io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Instant,
};

use queue_core::{ConsumerId, Error, QueueName, Queues, Redis, wakeup::Subscriber};
use service::{Outage, Stop};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::{JoinError, JoinSet},
};
use tracing::{debug, error, info, warn};

pub use metrics::WorkerMetrics;
pub(crate) use run::run;

use self::{
    capacity::Capacity,
    context::WorkerContext,
    heartbeat::Heartbeat,
    queue_runner::{QueueRunner, RunnerEnd, RunnerLifetime},
};
use crate::{
    config,
    routing::{RouteTable, Routes},
};

/// A worker. The worker serves each queue that its routes name, and each existing queue that matches a pattern of its routes.
///
/// Handlers run on the runtime that calls [`run`](Self::run). The worker leases and settles messages, extends leases and
/// receives notifications in a separate thread with separate connections. Handlers that block their threads delay other
/// handlers, but cause no lease to lapse.
pub struct Worker {
    /// The queues, with their declared settings.
    pub queues: Queues,
    /// The subscription that wakes the worker, made by [`Routes::subscriber`]. The worker runs this subscription to the
    /// notifications of its queues.
    pub subscriber: Subscriber,
    /// The routes, which select the handler of each message.
    pub routes: Routes,
    /// The id of this worker as a consumer, which its leases contain.
    pub consumer: ConsumerId,
    /// The limits and pauses of the worker. The worker ignores the `routes` of its configuration section, and uses the
    /// field `routes` of `Worker`.
    pub config: config::Worker,
    /// The metrics of the worker.
    pub metrics: WorkerMetrics,
}

/// The error that stops a worker.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A route is invalid.
    #[error("{0}")]
    Routes(String),
    /// The thread of the worker could not be started.
    #[error("the worker's thread can't be started: {0}")]
    Thread(#[from] io::Error),
    /// The thread of the worker panicked, which is a bug in Drover.
    #[error("the worker's thread panicked")]
    Broken,
    /// A queue has the layout of another version of Drover ([`Error::OtherLayout`]), or the worker's connections to Redis can't
    /// be set up ([`Error::Unexpected`]).
    #[error(transparent)]
    Queue(#[from] Error),
}

impl Worker {
    /// Leases messages and runs their handlers until `stop` is cancelled. After a graceful stop, the worker leases no more
    /// messages, waits for handlers for at most `shutdown_grace`, and releases the messages of the handlers that still run.
    /// After an immediate stop, the worker releases the messages of all running handlers, if Redis answers within 0.2 s.
    ///
    /// # Errors
    ///
    /// Returns a [`WorkerError`]. If a queue has the layout of another version of Drover, the worker stops gracefully before it
    /// returns [`Error::OtherLayout`].
    pub async fn run(self, stop: Stop) -> Result<(), WorkerError> {
        let handlers = Handle::current();
        let (ended, end) = oneshot::channel();
        // Dropping the future of `run` also stops the worker's thread.
        let child_stop = Stop { gracefully: stop.gracefully.child_token(), at_once: stop.at_once.child_token() };
        let _guards = (child_stop.gracefully.clone().drop_guard(), child_stop.at_once.clone().drop_guard());
        thread::Builder::new().name("drover-worker".into()).spawn(move || {
            let result = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(self.run_queues(handlers, child_stop)),
                Err(error) => Err(error.into()),
            };
            // Sending the result fails if the future of `run` was dropped.
            let _ = ended.send(result);
        })?;
        end.await.unwrap_or(Err(WorkerError::Broken))
    }

    async fn run_queues(self, handlers: Handle, stop: Stop) -> Result<(), WorkerError> {
        let route_table = self.routes.table().clone();
        if let Some(mistake) = route_table.mistakes.first() {
            return Err(WorkerError::Routes(mistake.clone()));
        }
        let begin_time = Instant::now();
        let prefixes = route_table.pattern_prefixes();
        let queues = self.queues.with_redis(self.queues.redis().with_own_connections());
        let context = Arc::new(WorkerContext {
            consumer: self.consumer,
            subscriber: self.subscriber.clone(),
            heartbeat: Heartbeat::default(),
            capacity: Capacity::new(self.config.max_leases, self.config.max_bytes, self.config.order),
            handlers,
            queues_of_handlers: self.queues,
            config: self.config,
            stop,
            redis_outage: Outage::reported_once(),
            runner_count: 0.into(),
            worker_count: 1.into(),
        });
        let queue_discovery = async {
            if prefixes.is_empty() {
                future::pending::<()>().await;
            } else {
                context.discover_queues(&queues, &prefixes).await;
            }
        };
        let runners = QueueRunners {
            context: Arc::clone(&context),
            queues: queues.clone(),
            table: route_table,
            metrics: self.metrics.clone(),
            running: JoinSet::new(),
            names: HashSet::new(),
        };
        // The subscription and the heartbeat outlive the runners, whose handlers may still run while the worker stops.
        let result = tokio::select! {
            result = runners.run() => result,
            () = self.subscriber.keep_connected() => unreachable!("this future never completes"),
            () = context.heartbeat.run() => unreachable!("this future never completes"),
            () = queue_discovery => unreachable!("this future never completes"),
            () = context.count_workers(&queues) => unreachable!("this future never completes"),
            () = context.maintain_index(&queues) => unreachable!("this future never completes"),
        };
        settler::log_totals(&self.metrics, begin_time.elapsed());
        Ok(result?)
    }
}

/// The runners of all queues that a worker serves.
struct QueueRunners {
    context: Arc<WorkerContext>,
    queues: Queues,
    table: RouteTable,
    metrics: WorkerMetrics,
    running: JoinSet<(QueueName, Result<RunnerEnd, Error>)>,
    names: HashSet<QueueName>,
}

impl QueueRunners {
    async fn run(mut self) -> Result<(), Error> {
        for name in self.table.exact_queue_names() {
            self.start(name, RunnerLifetime::Worker);
        }
        let mut result = Ok(());
        let context = Arc::clone(&self.context);
        loop {
            tokio::select! {
                biased;
                () = context.stop.gracefully.cancelled() => break,
                Some(ended) = self.running.join_next() => if let Err(error) = self.record_end(ended) {
                    result = Err(error);
                    context.stop.gracefully.cancel();
                    break;
                },
                name = context.subscriber.new_queue() => self.start(name, RunnerLifetime::Queue),
            }
        }
        while let Some(ended) = self.running.join_next().await {
            result = result.and(self.record_end(ended));
        }
        result
    }

    fn start(&mut self, name: QueueName, lifetime: RunnerLifetime) {
        if self.names.contains(&name) {
            return;
        }
        let Some(routes) = self.table.routes_of_queue(&name) else { return };
        let metrics = Arc::new(self.metrics.metrics_of_pattern(routes.pattern.as_str()));
        let queue = self.queues.queue(&name);
        let runner = QueueRunner::new(Arc::clone(&self.context), queue, routes, metrics, lifetime);
        self.context.runner_count.fetch_add(1, Ordering::Relaxed);
        self.names.insert(name.clone());
        self.running.spawn(async move { (name, runner.run().await) });
    }

    fn record_end(&mut self, ended: Result<(QueueName, Result<RunnerEnd, Error>), JoinError>) -> Result<(), Error> {
        self.context.runner_count.fetch_sub(1, Ordering::Relaxed);
        match ended {
            Ok((name, end)) => {
                self.names.remove(&name);
                // After `forget_queue`, the subscriber reports the queue as new if the queue exists again.
                self.context.subscriber.forget_queue(&name);
                if end? == RunnerEnd::QueueDeleted {
                    debug!(queue = %name, "the queue was deleted");
                }
            }
            Err(error) => error!(%error, "the runner of a queue panicked"),
        }
        Ok(())
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// Creates the subscriber that a worker with these routes needs.
    pub fn subscriber(&self, redis: Redis) -> Subscriber {
        Subscriber::for_prefixes(redis, self.table().pattern_prefixes())
    }
}

/// Logs the number of queues and patterns that a starting worker serves.
pub(crate) fn log_start(routes: &Routes, consumer: &ConsumerId, concurrency: usize) {
    let (queues, patterns) = (routes.table().exact_queue_names().len(), routes.table().pattern_prefixes().len());
    info!(%consumer, queues, patterns, concurrency, "working");
    if queues == 0 && patterns == 0 && routes.table().mistakes.is_empty() {
        warn!("there is no route, so there is nothing to do: write [[worker.routes]], or Routes::route in a program");
    }
}

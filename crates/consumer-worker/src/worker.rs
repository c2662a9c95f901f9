use std::{sync::Arc, time::Duration};

use queue_core::{ConsumerId, Error, Queues, Subscriber};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{Routes, WorkerMetrics, line::Line};

/// The slow polls of all queues together are at least so far apart, so that they cost Redis next to nothing whatever the
/// number of queues.
const BETWEEN_POLLS: Duration = Duration::from_millis(10);

/// A worker: one driver for each queue that its routes name.
pub struct Worker {
    /// Where the queues are.
    pub queues: Queues,
    /// The subscription that wakes it. Somebody else runs it.
    pub subscriber: Subscriber,
    /// Who gets which message.
    pub routes: Routes,
    /// Who this worker is.
    pub consumer: ConsumerId,
    /// Leases held at once, per queue.
    pub concurrency: usize,
    /// The slow poll of a queue; slower where there are so many queues that their polls would cost too much.
    pub poll_interval: Duration,
    /// How long handlers may take to end when the worker stops.
    pub shutdown_grace: Duration,
    /// Where it counts what it does.
    pub metrics: WorkerMetrics,
}

impl Worker {
    /// Works until `shutdown`; then leases nothing more, lets handlers end for the grace, and releases the rest.
    ///
    /// # Errors
    ///
    /// [`Error::NewerLayout`]: one of the queues was laid out by a newer Drover. The others were stopped as usual.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut lines = JoinSet::new();
        let queues = u32::try_from(self.routes.queues().len()).unwrap_or(u32::MAX);
        let poll_interval = self.poll_interval.max(BETWEEN_POLLS.saturating_mul(queues));
        let table = self.routes.into_table();
        for name in table.queues() {
            let Some(routes) = table.of(&name) else { continue };
            let bell = self.subscriber.bell(&name);
            bell.serve(&self.consumer);
            let line = Line {
                metrics: self.metrics.queue(&name),
                queue: self.queues.queue(&name),
                bell,
                routes: Arc::new(routes),
                consumer: self.consumer.clone(),
                concurrency: self.concurrency,
                poll_interval,
                shutdown_grace: self.shutdown_grace,
            };
            lines.spawn(line.run(shutdown.clone()));
        }
        // A worker without routes has nothing to do but to be told to stop.
        if lines.is_empty() {
            shutdown.cancelled().await;
        }
        let mut result = Ok(());
        while let Some(ended) = lines.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    shutdown.cancel();
                    result = Err(error);
                }
                Err(error) => error!(%error, "a queue's driver broke"),
            }
        }
        result
    }
}

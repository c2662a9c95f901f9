//! The periodic tasks that a worker runs once for all its queues: it discovers queues, counts workers, and restores names in
//! the index of queues.

use std::{sync::atomic::Ordering, time::Duration};

use queue_core::{QueueName, Queues, Retry};
use service::Outage;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::context::WorkerContext;

/// The pause between two counts of the workers.
const COUNT_INTERVAL: Duration = Duration::from_secs(30);
/// The pause between two checks of the names that this process uses in the index of queues.
const INDEX_CHECK_INTERVAL: Duration = Duration::from_secs(60);

impl WorkerContext {
    /// Counts the workers periodically. The future of `count_workers` never completes.
    pub(crate) async fn count_workers(&self, queues: &Queues) {
        let mut connection = self.subscriber.connection();
        loop {
            // If Redis can't count the workers, `worker_count` keeps the last number. The runners of the queues log an
            // outage of Redis.
            if let Ok(workers) = queues.worker_count().await {
                self.worker_count.store(workers.max(1), Ordering::Relaxed);
            }
            // Other workers notice a new worker within one pause between two counts, each worker at a random time.
            let pause = COUNT_INTERVAL.mul_f64(rand::random_range(0.75..=1.0));
            // `changed` can't fail, because the subscriber owns the sender of the channel.
            let _ = timeout(pause, connection.changed()).await;
        }
    }

    /// Periodically adds missing names of the queues that this process uses to the index of queues. The future of
    /// `maintain_index` never completes.
    pub(crate) async fn maintain_index(&self, queues: &Queues) {
        loop {
            sleep(INDEX_CHECK_INTERVAL).await;
            for queues in [queues, &self.queues_of_handlers] {
                // After an error, the next iteration calls `restore_used_names` again. The runners of the queues log an
                // outage of Redis.
                let _ = queues.restore_used_names().await;
            }
        }
    }

    /// Reports the existing queues that match patterns to the subscriber: periodically, and after each new subscription,
    /// because earlier notifications may be lost. The future of `discover_queues` never completes.
    pub(crate) async fn discover_queues(&self, queues: &Queues, prefixes: &[String]) {
        let mut connection = self.subscriber.connection();
        let mut pause = self.config.poll_interval.to_std();
        let outage = Outage::reported_once();
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                // `changed` can't fail, because the subscriber owns the sender of the channel.
                _ = connection.changed() => if !*connection.borrow_and_update() {
                    continue;
                }
            }
            match names_with_prefixes(queues, prefixes).await {
                Ok(names) => {
                    pause = self.interval_for_poll_count(u32::try_from(names.len()).unwrap_or(u32::MAX));
                    self.subscriber.announce_queues(names);
                    outage.record_success();
                }
                Err(error) => {
                    if outage.record_failure() {
                        warn!(%error, "can't read the list of queues, trying again");
                    }
                    pause = Retry::LONGEST_PAUSE;
                }
            }
        }
    }
}

/// Returns the names of the queues that begin with any of the prefixes.
async fn names_with_prefixes(queues: &Queues, prefixes: &[String]) -> Result<Vec<QueueName>, queue_core::Error> {
    let mut names = Vec::new();
    for prefix in prefixes {
        names.extend(queues.names_with_prefix(prefix).await?);
    }
    Ok(names)
}

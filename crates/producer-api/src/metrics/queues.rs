//! The metrics of the queues, which are read from Redis when a client requests `/metrics`.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter},
};
use queue_core::{QueueStatus, Queues, State};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

/// The maximum number of queues that have metrics. The first queues by name have metrics, so that every response has the same
/// series.
const MAX_MEASURED_QUEUES: usize = 1_000;
/// The time limit for reading all queues; the metrics of queues that were not read in time are omitted.
const READ_TIME_LIMIT: Duration = Duration::from_secs(1);
/// The time for which a snapshot of all queues is reused.
const SNAPSHOT_LIFETIME: Duration = Duration::from_secs(1);
/// The maximum number of queues that are read concurrently.
const MAX_CONCURRENT_READS: usize = 16;

pub(super) struct QueueMetrics {
    queues: Queues,
    /// The latest snapshot of the status of all queues, and the instant at which the snapshot was read. The mutex is locked
    /// during a read, so that concurrent requests get the same snapshot.
    latest: Mutex<Option<(Instant, Arc<Snapshot>)>>,
}

/// The status of all queues at an instant.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// The number of queues in the index of queues; `None` if the index could not be read.
    registered_count: Option<usize>,
    omitted_count: usize,
    queues: Vec<QueueStatus>,
}

impl QueueMetrics {
    pub(super) fn new(queues: Queues) -> Self {
        Self { queues, latest: Mutex::default() }
    }

    pub(super) async fn read(&self) -> Arc<Snapshot> {
        let mut latest_snapshot = self.latest.lock().await;
        if let Some((read_at, snapshot)) = &*latest_snapshot
            && read_at.elapsed() < SNAPSHOT_LIFETIME
        {
            return Arc::clone(snapshot);
        }
        let snapshot = Arc::new(self.read_snapshot(Instant::now() + READ_TIME_LIMIT).await);
        *latest_snapshot = Some((Instant::now(), Arc::clone(&snapshot)));
        snapshot
    }

    async fn read_snapshot(&self, deadline: Instant) -> Snapshot {
        let Ok(Ok(names)) = timeout_at(deadline, self.queues.names()).await else { return Snapshot::default() };
        let registered_count = names.len();
        let mut queue_reads = stream::iter(names.into_iter().take(MAX_MEASURED_QUEUES))
            .map(|name| {
                let queue = self.queues.queue(&name);
                async move { queue.status().await }
            })
            .buffered(MAX_CONCURRENT_READS);
        let (mut queues, mut read) = (Vec::new(), 0);
        while let Ok(Some(status)) = timeout_at(deadline, queue_reads.next()).await {
            let Ok(status) = status else { continue };
            read += 1;
            // The index of queues may name a queue that is about to be created, or that was deleted.
            queues.extend(status);
        }
        Snapshot { registered_count: Some(registered_count), omitted_count: registered_count - read, queues }
    }
}

/// A counter of a queue: its name without the ending `_total`, which the metrics library adds; its help text; and its value.
type QueueCounter = (&'static str, &'static str, fn(&QueueStatus) -> u64);

const QUEUE_COUNTERS: [QueueCounter; 8] = [
    ("drover_queue_enqueued", "Messages stored.", |status| status.totals.enqueued),
    ("drover_queue_completed", "Messages completed.", |status| status.totals.completed),
    ("drover_queue_failed", "Messages that failed for good.", |status| status.totals.failed),
    ("drover_queue_retried", "Failed attempts that were followed by another.", |status| status.totals.retried),
    ("drover_queue_lapsed", "Leases that lapsed.", |status| status.totals.lapsed),
    ("drover_queue_expired", "Messages that failed because they were not started in time.", |status| {
        status.totals.expired
    }),
    ("drover_queue_cancelled", "Messages that failed because they were cancelled.", |status| status.totals.cancelled),
    ("drover_queue_scheduled", "Messages that ticks of schedules posted.", |status| status.totals.scheduled),
];

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut write_gauge = |name, help, value: u64| {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
        };
        let is_readable = u64::from(self.registered_count.is_some());
        write_gauge("drover_queues_readable", "Whether the queues could be read from Redis.", is_readable)?;
        if let Some(registered_count) = self.registered_count {
            write_gauge("drover_queues", "Queues in the index.", registered_count as u64)?;
        }
        let help = "Queues without metrics: beyond the maximum of queues with metrics, or not read from Redis in time.";
        write_gauge("drover_queues_left_out", help, self.omitted_count as u64)?;
        let mut write_family = |name, help, kind, write: WriteFamily<'_>| {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            self.queues.iter().try_for_each(|status| write(status, &mut family))
        };
        write_family("drover_queue_messages", "Messages by state.", MetricType::Gauge, &mut |status, family| {
            State::ALL.iter().copied().try_for_each(|state| {
                let labels = [("queue", status.queue.as_str()), ("state", state.as_str())];
                family.encode_family(&labels)?.encode_gauge(&status.counts.of(state))
            })
        })?;
        let help = "For how long the first message at priority 0, or at another priority, has been ready (the longer time); 0 when none waits.";
        write_family("drover_queue_oldest_waiting_age_seconds", help, MetricType::Gauge, &mut |status, family| {
            let age = status.oldest_waiting_age.unwrap_or_default().to_std().as_secs_f64();
            family.encode_family(&labels(status))?.encode_gauge(&age)
        })?;
        write_family(
            "drover_queue_paused",
            "Whether the queue is paused.",
            MetricType::Gauge,
            &mut |status, family| family.encode_family(&labels(status))?.encode_gauge(&u32::from(status.paused)),
        )?;
        write_family("drover_queue_schedules", "Schedules of the queue.", MetricType::Gauge, &mut |status, family| {
            family.encode_family(&labels(status))?.encode_gauge(&status.schedules)
        })?;
        for (name, help, total) in QUEUE_COUNTERS {
            write_family(name, help, MetricType::Counter, &mut |status, family| {
                let total = ConstCounter::new(total(status));
                total.encode(family.encode_family(&labels(status))?)
            })?;
        }
        Ok(())
    }
}

type WriteFamily<'w> = &'w mut dyn FnMut(&QueueStatus, &mut MetricEncoder<'_>) -> fmt::Result;

fn labels(status: &QueueStatus) -> [(&'static str, &str); 1] {
    [("queue", status.queue.as_str())]
}

#[cfg(test)]
mod tests {
    use drover_tests::RedisServer;
    use queue_core::{Redis, settings::DeclaredSettings};

    use super::*;

    #[tokio::test]
    async fn number_of_queues_with_metrics_is_bounded_and_snapshot_is_reused() {
        let server = RedisServer::start();
        let queues =
            Queues::new(Redis::new(&server.url(), Redis::DEFAULT_TIME_LIMIT).unwrap(), DeclaredSettings::default());
        for n in 0..MAX_MEASURED_QUEUES + 5 {
            server.command(&format!("ZADD drover:queues 0 q{n:04}"));
        }
        let metrics = QueueMetrics::new(queues.clone());
        let read_result = metrics.read_snapshot(Instant::now() + Duration::from_secs(20)).await;
        assert_eq!(
            (read_result.registered_count, read_result.omitted_count, read_result.queues.len()),
            (Some(MAX_MEASURED_QUEUES + 5), 5, 0)
        );

        let first_snapshot = metrics.read().await;
        assert!(Arc::ptr_eq(&first_snapshot, &metrics.read().await));
    }

    #[tokio::test]
    async fn snapshot_of_metrics_without_redis_has_no_queues() {
        let redis = Redis::new("redis://127.0.0.1:1", Duration::from_millis(100)).unwrap();
        let read_result = QueueMetrics::new(Queues::new(redis, DeclaredSettings::default())).read().await;
        assert_eq!((read_result.registered_count, read_result.omitted_count, read_result.queues.len()), (None, 0, 0));
    }
}

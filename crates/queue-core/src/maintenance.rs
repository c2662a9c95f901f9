//! Maintenance of queues that no consumer leases from, and repair of the index of their names.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    names::QueueName,
    outage_log::OutageLog,
    queue::Queues,
    redis::Retry,
    wakeup::{Subscriber, WakeTimers, subscriber::MAINTENANCE_DELAY},
};

/// The minimum pause after a call of maintenance for one queue, unless work is left or a notification arrives.
const MIN_PAUSE: Duration = Duration::from_millis(250);
/// The pause after an error, before a queue is maintained again or all keys are scanned again. A queue whose Redis is not
/// available is maintained again after `Retry::LONGEST_PAUSE`.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// The interval at which all queues are checked, because a notification may be lost.
const CHECK_ALL_QUEUES_EVERY: Duration = Duration::from_secs(60);
/// The pause between two queues in a check of all queues, so that the check costs little with any number of queues.
const PAUSE_BETWEEN_QUEUES: Duration = Duration::from_millis(10);
/// How long a name must be in the index without a queue before it is removed: the queue may be about to be created.
const KEEP_NAME_WITHOUT_QUEUE_FOR: Duration = Duration::from_secs(60);
/// The interval at which all keys are scanned for queues that the index lacks.
const SCAN_FOR_UNLISTED_EVERY: Duration = Duration::from_secs(3_600);
/// The maximum number of queues that are maintained at a time.
const MAX_CONCURRENT_QUEUES: usize = 8;

/// Maintains all queues, including those from which no consumer leases: it recovers lapsed leases, fails expired messages and
/// forgets messages that are no longer kept. Maintenance also repairs the index of queues: it removes names without a queue and
/// adds missing names.
///
/// Maintenance sleeps until a queue has work. Any number of processes may run maintenance: when a queue has work, the process whose
/// maintenance call reaches Redis first does the work.
pub struct Maintenance {
    queues: Queues,
    subscriber: Subscriber,
    timers: Arc<WakeTimers>,
    /// The names without a queue, each with the instant at which this process first found it.
    without_queue: Arc<Mutex<HashMap<QueueName, Instant>>>,
    /// The interval at which all queues are checked. The intervals of `Maintenance` are public only for tests, which can't wait for
    /// hours.
    #[doc(hidden)]
    pub check_all_every: Duration,
    /// The time for which a name must be in the index without a queue before it is removed.
    #[doc(hidden)]
    pub keep_name_without_queue_for: Duration,
    /// The interval at which all keys are scanned for queues that the index lacks.
    #[doc(hidden)]
    pub scan_for_unlisted_every: Duration,
}

impl Maintenance {
    /// Prepares maintenance of `queues`. The caller must make `subscriber` with [`for_all_queues`](Subscriber::for_all_queues), and
    /// must run `subscriber`. Returns `None` if `subscriber` was not made with `for_all_queues`, because it then has no timers of all
    /// queues.
    pub fn new(queues: Queues, subscriber: Subscriber) -> Option<Self> {
        let timers = Arc::clone(subscriber.timers()?);
        Some(Self {
            queues,
            subscriber,
            timers,
            without_queue: Arc::default(),
            check_all_every: CHECK_ALL_QUEUES_EVERY,
            keep_name_without_queue_for: KEEP_NAME_WITHOUT_QUEUE_FOR,
            scan_for_unlisted_every: SCAN_FOR_UNLISTED_EVERY,
        })
    }

    /// Maintains all queues until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.check_all_queues_repeatedly() => {}
            () = self.maintain_due() => {}
            () = self.scan_for_unlisted_queues() => {}
            () = self.restore_names_repeatedly() => {}
        }
    }

    async fn maintain_due(&self) {
        let mut running_checks = JoinSet::new();
        let mut outage_log = OutageLog::new("queues can't be maintained", "queues are maintained again");
        loop {
            let queue = self.timers.next().await;
            while running_checks.len() >= MAX_CONCURRENT_QUEUES {
                // A task that panicked has ended; the other tasks continue.
                if let Some(Ok(result)) = running_checks.join_next().await {
                    outage_log.note_result(result);
                }
            }
            while let Some(done) = running_checks.try_join_next() {
                if let Ok(result) = done {
                    outage_log.note_result(result);
                }
            }
            let (queues, timers) = (self.queues.clone(), Arc::clone(&self.timers));
            let (without_queue, keep_for) = (Arc::clone(&self.without_queue), self.keep_name_without_queue_for);
            running_checks.spawn(async move {
                let result = match queues.queue(&queue).maintain().await {
                    Err(Error::NoSuchQueue) => {
                        let first_seen = *without_queue.lock().await.entry(queue.clone()).or_insert_with(Instant::now);
                        if first_seen.elapsed() < keep_for {
                            return Ok(());
                        }
                        without_queue.lock().await.remove(&queue);
                        queues.queue(&queue).forget_name().await.map(|()| None)
                    }
                    result => {
                        let mut names_without_queue = without_queue.lock().await;
                        if !names_without_queue.is_empty() {
                            names_without_queue.remove(&queue);
                        }
                        result
                    }
                };
                match result {
                    Ok(Some(Duration::ZERO)) => timers.set(queue, Duration::ZERO),
                    Ok(Some(pause)) => timers.set(queue, pause.saturating_add(MAINTENANCE_DELAY).max(MIN_PAUSE)),
                    Ok(None) => {}
                    Err(ref error) if error.is_unavailable() => timers.set(queue, Retry::LONGEST_PAUSE),
                    Err(_) => timers.set(queue, PAUSE_AFTER_ERROR),
                }
                result.map(drop)
            });
        }
    }

    /// Checks all queues after each new subscription, because notifications may have been missed, and at a fixed interval.
    async fn check_all_queues_repeatedly(&self) {
        let mut connection = self.subscriber.connection();
        let mut check_interval = interval(self.check_all_every);
        check_interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_new_subscription = tokio::select! {
                _ = check_interval.tick() => false,
                changed = connection.changed() => {
                    // The channel stays open, because `self.subscriber` owns its sender.
                    if changed.is_err() {
                        return;
                    }
                    *connection.borrow_and_update()
                }
            };
            let names = loop {
                match self.queues.names().await {
                    Ok(names) => break names,
                    Err(_) => sleep(Retry::LONGEST_PAUSE).await,
                }
            };
            self.without_queue.lock().await.retain(|name, _| names.binary_search(name).is_ok());
            // A regular check is spread over time; after a new subscription all queues are checked at once.
            let pause_between_queues = if is_new_subscription { Duration::ZERO } else { PAUSE_BETWEEN_QUEUES };
            for (n, name) in (0_u32..).zip(names) {
                self.timers.set(name, pause_between_queues.saturating_mul(n));
            }
        }
    }
}

impl Maintenance {
    async fn restore_names_repeatedly(&self) {
        loop {
            sleep(self.check_all_every).await;
            // An error of `restore_used_names` is ignored: its next call adds the names that the index of queues lacks, and
            // `maintain_due` logs an outage.
            let _ = self.queues.restore_used_names().await;
        }
    }

    /// Scans all keys for queues that the index lacks: at the start, because an earlier process may have been interrupted, and then
    /// repeatedly.
    async fn scan_for_unlisted_queues(&self) {
        loop {
            // The pauses between failed scans grow, because each scan reads all keys of all servers that answer.
            let mut pause = PAUSE_AFTER_ERROR;
            while self.queues.restore_all_names().await.is_err() {
                sleep(pause).await;
                pause = (2 * pause).min(CHECK_ALL_QUEUES_EVERY);
            }
            // The interval is random, so that processes that started together do not scan together.
            sleep(self.scan_for_unlisted_every.mul_f64(rand::random_range(0.9..=1.0))).await;
        }
    }
}

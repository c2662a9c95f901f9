use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    Access, Action, Bell, Delivery, Error, LeaseRequest, Leased, Millis, Queue, QueueName, Result, Retry, Settlement,
    Subscriber,
};

/// How long a driver that finds nothing sleeps at most: a notification may be lost.
const POLL: Duration = Duration::from_secs(5);
/// How long the first look may take, however short the wait.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Leases messages for consumers that wait for them: any number of them, with one driver a queue while somebody waits.
///
/// A driver leases for its consumers in the order in which they came. What was leased for one that has gone in the
/// meantime is released at once, with no attempt spent.
#[derive(Clone)]
pub struct Receivers {
    shared: Arc<Shared>,
}

struct Shared {
    subscriber: Subscriber,
    drivers: TaskTracker,
    shutdown: CancellationToken,
    lines: Mutex<HashMap<QueueName, VecDeque<Waiter>>>,
}

struct Waiter {
    request: LeaseRequest,
    answer: oneshot::Sender<Result<Vec<Delivery>>>,
    until: Instant,
}

impl Receivers {
    /// Nobody waits yet. `subscriber` wakes the drivers; somebody else runs it. After `shutdown` nobody waits any longer.
    pub fn new(subscriber: Subscriber, shutdown: CancellationToken) -> Self {
        let drivers = TaskTracker::new();
        drivers.close();
        Self { shared: Arc::new(Shared { subscriber, drivers, shutdown, lines: Mutex::default() }) }
    }

    /// Leases what is ready, or waits until something is, for at most `wait`; then there are no deliveries. Safe to give
    /// up half-way.
    ///
    /// # Errors
    ///
    /// As [`Queue::lease`].
    pub async fn receive(&self, queue: &Arc<Queue>, request: LeaseRequest, wait: Millis) -> Result<Vec<Delivery>> {
        let until = Instant::now() + wait.to_std();
        let (answer, answered) = oneshot::channel();
        self.stand_in_line(queue, Waiter { request, answer, until });
        match timeout_at(until + FIRST_LOOK, answered).await {
            Ok(Ok(deliveries)) => deliveries,
            // The driver does not come round, or this process stops.
            Err(_) | Ok(Err(_)) => Ok(Vec::new()),
        }
    }

    /// Waits until all drivers have ended, which they do soon after the shutdown.
    pub async fn stopped(&self) {
        self.shared.drivers.wait().await;
    }

    fn stand_in_line(&self, queue: &Arc<Queue>, waiter: Waiter) {
        let bell = self.shared.subscriber.bell(queue.name());
        let mut lines = self.shared.lock();
        if let Some(line) = lines.get_mut(queue.name()) {
            line.push_back(waiter);
        } else {
            lines.insert(queue.name().clone(), VecDeque::from([waiter]));
            let driver = Driver { shared: Arc::clone(&self.shared), queue: Arc::clone(queue), bell: Arc::clone(&bell) };
            self.shared.drivers.spawn(driver.run());
        }
        // Whoever is new looks at once, whatever was known before.
        bell.ring();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<QueueName, VecDeque<Waiter>>> {
        // Nothing that is done under this lock can panic half-way.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves those who wait at one queue, until nobody does.
struct Driver {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    bell: Arc<Bell>,
}

impl Driver {
    async fn run(self) {
        let mut retry = Retry::new();
        while let Some(first_end) = self.next_end() {
            tokio::select! {
                () = self.bell.time_to_look(POLL.min(first_end.saturating_duration_since(Instant::now()))) => {}
                () = self.shared.shutdown.cancelled() => {
                    // Those who wait learn it when their places go.
                    self.shared.lock().remove(self.queue.name());
                    return;
                }
            }
            if self.serve().await.is_ok() {
                retry.reset();
            } else {
                sleep(retry.pause()).await;
                self.bell.ring();
            }
        }
    }

    /// When the first of those who wait gives up; `None` when nobody waits, and then this driver is no longer the queue's.
    fn next_end(&self) -> Option<Instant> {
        let mut lines = self.shared.lock();
        let line = lines.get_mut(self.queue.name())?;
        line.retain(|waiter| !waiter.answer.is_closed());
        let end = line.iter().map(|waiter| waiter.until).min();
        if end.is_none() {
            lines.remove(self.queue.name());
        }
        end
    }

    /// Leases for each in their order, as long as there is something.
    async fn serve(&self) -> Result<(), ()> {
        let mut still_waiting = VecDeque::new();
        let mut is_something_left = true;
        let mut result = Ok(());
        while let Some(waiter) = self.next_waiter() {
            if waiter.answer.is_closed() {
                continue;
            }
            if !is_something_left || result.is_err() {
                keep_or_dismiss(waiter, &mut still_waiting);
                continue;
            }
            match self.queue.lease(&waiter.request).await {
                Ok(leased) => {
                    if let Some(pause) = leased.next_look {
                        self.bell.ring_in(pause);
                    }
                    // In an exclusive queue another may have access.
                    is_something_left = leased.more_is_ready || leased.access == Access::OneConsumer;
                    if leased.deliveries.is_empty() {
                        keep_or_dismiss(waiter, &mut still_waiting);
                    } else {
                        self.hand_over(waiter, leased).await;
                    }
                }
                Err(Error::NoSuchQueue) => {
                    // It may begin while somebody waits.
                    is_something_left = false;
                    keep_or_dismiss(waiter, &mut still_waiting);
                }
                Err(error) => {
                    let is_outage = matches!(error, Error::Unavailable(_));
                    // Whoever waited may have gone.
                    let _ = waiter.answer.send(Err(error));
                    if is_outage {
                        result = Err(());
                    }
                }
            }
        }
        // Before those who came in the meantime.
        let mut lines = self.shared.lock();
        if let Some(line) = lines.get_mut(self.queue.name()) {
            for waiter in still_waiting.into_iter().rev() {
                line.push_front(waiter);
            }
        }
        result
    }

    fn next_waiter(&self) -> Option<Waiter> {
        self.shared.lock().get_mut(self.queue.name())?.pop_front()
    }

    async fn hand_over(&self, waiter: Waiter, leased: Leased) {
        let Err(Ok(deliveries)) = waiter.answer.send(Ok(leased.deliveries)) else { return };
        let release = |delivery: Delivery| Settlement { lease: delivery.lease, action: Action::Release(None) };
        let settlements: Vec<Settlement> = deliveries.into_iter().map(release).collect();
        if let Err(error) = self.queue.settle(&settlements).await {
            warn!(queue = %self.queue.name(), %error, "what was leased for a client that has gone will lapse");
        }
    }
}

fn keep_or_dismiss(waiter: Waiter, still_waiting: &mut VecDeque<Waiter>) {
    if waiter.until > Instant::now() {
        still_waiting.push_back(waiter);
    } else {
        // Whoever waited may have gone.
        let _ = waiter.answer.send(Ok(Vec::new()));
    }
}

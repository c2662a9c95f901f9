//! Consumers that wait for messages of a queue: one driver a queue leases for all of them, in their order, and hands over
//! what it got. A delivery that was handed over and not taken is released at once.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    error::{Error, Result},
    limits,
    message::{ConsumerId, QueueName},
    queue::{Access, Action, Delivery, LeaseRequest, Leased, Queue, Settlement},
    redis::Retry,
    time::Millis,
    wakeup::{notifier::WakeNotifier, subscriber::Subscriber},
};

/// The maximum sleep of a driver that finds no message, because a notification may be lost.
const POLL: Duration = Duration::from_secs(5);
/// The time that the first lease call may take, however short the client's wait is.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// The memory for what a consumer is answered. It is taken when messages are about to be leased, and not while the consumer waits.
pub trait ResponseMemory: Send + Sync {
    /// Takes memory for the answer of one call, and answers for how many bytes of messages it is. With `None` there is no memory:
    /// nothing is leased, and the consumer is answered [`Error::Overloaded`].
    fn take(&self) -> Option<usize>;

    /// Frees what was taken: nothing was leased.
    fn release(&self);
}

/// As much memory as a call needs.
struct Unbounded;

impl ResponseMemory for Unbounded {
    fn take(&self) -> Option<usize> {
        Some(limits::MAX_BYTES)
    }

    fn release(&self) {}
}

/// Leases messages for consumers that wait for them: any number of them, with one driver a queue while any consumer waits.
///
/// A driver leases for its consumers in the order in which they came. Messages that were leased for one that has gone in the
/// meantime are released at once, with no attempt spent.
#[derive(Clone)]
pub struct LongPoll {
    shared: Arc<Shared>,
}

struct Shared {
    subscriber: Subscriber,
    /// The drivers, and the releases of what was handed over and not taken.
    tasks: TaskTracker,
    shutdown: CancellationToken,
    waiting: Mutex<HashMap<QueueName, WaitingClients>>,
}

/// The consumers that wait at one queue, by the number under which each came.
#[derive(Default)]
struct WaitingClients {
    waiters: BTreeMap<u64, Waiter>,
    newest: u64,
}

impl WaitingClients {
    fn push(&mut self, waiter: Waiter) {
        self.newest += 1;
        self.waiters.insert(self.newest, waiter);
    }
}

struct Waiter {
    request: LeaseRequest,
    answer: oneshot::Sender<Result<Offer>>,
    until: Instant,
    memory: Arc<dyn ResponseMemory>,
}

/// Deliveries on their way to the consumer that they were leased for. It may go away before it takes them: then they are
/// released.
struct Offer {
    deliveries: Vec<Delivery>,
    queue: Arc<Queue>,
    tasks: TaskTracker,
    runtime: Handle,
}

impl Offer {
    fn take(mut self) -> Vec<Delivery> {
        mem::take(&mut self.deliveries)
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let release = |delivery: Delivery| Settlement { lease: delivery.lease, action: Action::Release(None) };
        let settlements: Vec<Settlement> = mem::take(&mut self.deliveries).into_iter().map(release).collect();
        if settlements.is_empty() {
            return;
        }
        let queue = Arc::clone(&self.queue);
        let releasing = async move {
            if let Err(error) = queue.settle(&settlements).await {
                warn!(queue = %queue.name(), %error, "the leases of a client that has gone will lapse");
            }
        };
        drop(self.tasks.spawn_on(releasing, &self.runtime));
    }
}

impl LongPoll {
    /// `subscriber` wakes the drivers; the caller keeps it running. After `shutdown` no consumer waits any longer.
    pub fn new(subscriber: Subscriber, shutdown: CancellationToken) -> Self {
        let tasks = TaskTracker::new();
        tasks.close();
        Self { shared: Arc::new(Shared { subscriber, tasks, shutdown, waiting: Mutex::default() }) }
    }

    /// Leases what is ready, or waits until something is, for at most `wait`; then there are no deliveries. Safe to give
    /// up half-way.
    ///
    /// # Errors
    ///
    /// As [`Queue::lease`].
    pub async fn receive(&self, queue: &Arc<Queue>, request: LeaseRequest, wait: Millis) -> Result<Vec<Delivery>> {
        self.receive_within(queue, request, wait, Arc::new(Unbounded)).await
    }

    /// As [`receive`](Self::receive), with memory for the answer that is taken from `memory` before anything is leased.
    ///
    /// # Errors
    ///
    /// As [`Queue::lease`], and [`Error::Overloaded`] when there is no memory.
    pub async fn receive_within(
        &self,
        queue: &Arc<Queue>,
        request: LeaseRequest,
        wait: Millis,
        memory: Arc<dyn ResponseMemory>,
    ) -> Result<Vec<Delivery>> {
        let until = Instant::now() + wait.to_std();
        let (answer, answered) = oneshot::channel();
        self.wait_in_order(queue, Waiter { request, answer, until, memory });
        match timeout_at(until + FIRST_LOOK, answered).await {
            Ok(Ok(offer)) => offer.map(Offer::take),
            // The driver does not come round, or this process stops.
            Err(_) | Ok(Err(_)) => Ok(Vec::new()),
        }
    }

    /// Waits until all drivers have ended, which they do soon after the shutdown, and all releases.
    pub async fn stopped(&self) {
        self.shared.tasks.wait().await;
    }

    fn wait_in_order(&self, queue: &Arc<Queue>, waiter: Waiter) {
        let notifier = self.shared.subscriber.notifier(queue.name());
        let mut waiting = self.shared.waiting.lock();
        if let Some(clients) = waiting.get_mut(queue.name()) {
            clients.push(waiter);
        } else {
            waiting.entry(queue.name().clone()).or_default().push(waiter);
            let driver =
                Driver { shared: Arc::clone(&self.shared), queue: Arc::clone(queue), notifier: Arc::clone(&notifier) };
            self.shared.tasks.spawn(driver.run());
        }
        // A consumer that is new looks at once, whatever was known before.
        notifier.wake();
    }
}

/// Serves the waiting clients of one queue until there are none.
struct Driver {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    notifier: Arc<WakeNotifier>,
}

impl Driver {
    async fn run(self) {
        let mut retry = Retry::new();
        while let Some(first_end) = self.next_end() {
            tokio::select! {
                () = self.notifier.woken(POLL.min(first_end.saturating_duration_since(Instant::now()))) => {}
                () = self.shared.shutdown.cancelled() => {
                    // The consumers learn it when their channels close.
                    self.shared.waiting.lock().remove(self.queue.name());
                    return;
                }
            }
            if self.serve().await.is_ok() {
                retry.reset();
            } else {
                sleep(retry.pause()).await;
                self.notifier.wake();
            }
        }
    }

    /// When the first waiting consumer gives up; `None` when none waits, and then this driver is no longer the queue's.
    fn next_end(&self) -> Option<Instant> {
        let mut waiting = self.shared.waiting.lock();
        let clients = waiting.get_mut(self.queue.name())?;
        clients.waiters.retain(|_, waiter| !waiter.answer.is_closed());
        let end = clients.waiters.values().map(|waiter| waiter.until).min();
        if end.is_none() {
            waiting.remove(self.queue.name());
        }
        end
    }

    /// Leases for one consumer after the other, as long as one may find something: in an exclusive queue only the consumer that
    /// has access may.
    async fn serve(&self) -> Result<(), ()> {
        let mut turn = Some(Turn::first());
        let mut result = Ok(());
        let mut newest = 0;
        while let Some(asking) = turn.take().and_then(|turn| self.next(turn)) {
            newest = asking.newest;
            let leased = match asking.memory.take() {
                Some(max_bytes) => self.queue.lease_within(&asking.request, max_bytes).await,
                None => Err(Error::Overloaded),
            };
            if leased.as_ref().map_or(true, |leased| leased.deliveries.is_empty()) {
                asking.memory.release();
            }
            match leased {
                Ok(leased) => {
                    if let Some(pause) = leased.next_look {
                        self.notifier.wake_in(pause);
                    }
                    turn = asking.turn_after(&leased);
                    if !leased.deliveries.is_empty() {
                        self.hand_over(asking.number, leased.deliveries);
                    }
                }
                // The queue may begin while consumers wait.
                Err(Error::NoSuchQueue) => {}
                Err(error) => {
                    if matches!(error, Error::Unavailable(_)) {
                        result = Err(());
                    } else {
                        turn = Some(Turn { from: asking.number + 1, ..asking.turn });
                    }
                    self.answer(asking.number, Err(error));
                }
            }
        }
        self.dismiss(newest);
        result
    }

    /// The first waiting consumer whose turn it is.
    fn next(&self, turn: Turn) -> Option<Asking> {
        let waiting = self.shared.waiting.lock();
        let clients = waiting.get(self.queue.name())?;
        let is_next = |waiter: &Waiter| {
            !waiter.answer.is_closed() && turn.only.as_ref().is_none_or(|only| *only == waiter.request.consumer)
        };
        let (number, waiter) = clients.waiters.range(turn.from..).find(|(_, waiter)| is_next(waiter))?;
        Some(Asking {
            number: *number,
            request: waiter.request.clone(),
            memory: Arc::clone(&waiter.memory),
            newest: clients.newest,
            turn,
        })
    }

    fn hand_over(&self, number: u64, deliveries: Vec<Delivery>) {
        let (queue, tasks) = (Arc::clone(&self.queue), self.shared.tasks.clone());
        self.answer(number, Ok(Offer { deliveries, queue, tasks, runtime: Handle::current() }));
    }

    fn answer(&self, number: u64, answer: Result<Offer>) {
        let waiter =
            self.shared.waiting.lock().get_mut(self.queue.name()).and_then(|clients| clients.waiters.remove(&number));
        if let Some(waiter) = waiter {
            // It may have gone. An offer that is not taken releases what is in it.
            let _ = waiter.answer.send(answer);
        }
    }

    /// Answers consumers whose time is over and that waited when the last look began: there is nothing for them. For those that
    /// came later there has been no look yet.
    fn dismiss(&self, newest: u64) {
        let now = Instant::now();
        let overdue: Vec<u64> = match self.shared.waiting.lock().get(self.queue.name()) {
            Some(clients) => {
                clients.waiters.range(..=newest).filter(|(_, waiter)| waiter.until <= now).map(|(n, _)| *n).collect()
            }
            None => return,
        };
        for number in overdue {
            self.hand_over(number, Vec::new());
        }
    }
}

/// The waiting client whose turn it is.
struct Turn {
    /// From this number on.
    from: u64,
    /// Nobody but this consumer.
    only: Option<ConsumerId>,
}

impl Turn {
    fn first() -> Self {
        Self { from: 0, only: None }
    }
}

/// A waiting consumer while messages are leased for it.
struct Asking {
    number: u64,
    request: LeaseRequest,
    memory: Arc<dyn ResponseMemory>,
    /// The newest consumer when the look began.
    newest: u64,
    turn: Turn,
}

impl Asking {
    /// The next consumer that may find something after this one has got what it got, if there is one.
    fn turn_after(&self, leased: &Leased) -> Option<Turn> {
        let after = self.number + 1;
        match &leased.access {
            Access::All => leased.more_is_ready.then_some(Turn { from: after, only: None }),
            Access::OneConsumer(Some(owner)) if *owner == self.request.consumer => {
                // It may wait here with several requests. When one found nothing, another one does not either.
                (!leased.deliveries.is_empty()).then(|| Turn { from: after, only: Some(owner.clone()) })
            }
            // The owner is served once a look: it changes only when another process leases, and that wakes this one.
            Access::OneConsumer(Some(owner)) if self.turn.only.is_none() => {
                Some(Turn { from: 0, only: Some(owner.clone()) })
            }
            Access::OneConsumer(_) => None,
        }
    }
}

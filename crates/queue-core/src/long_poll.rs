//! Long polling: consumers wait for messages of a queue. One lease task per queue leases messages for all consumers that wait for
//! messages of the queue, in the order of their arrival, and sends them the deliveries. Deliveries that a consumer does not take are
//! released at once.

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
    names::{ConsumerId, QueueName},
    queue::{Access, Action, Delivery, LeaseRequest, Leased, Queue, Settlement},
    redis::Retry,
    time::Millis,
    wakeup::{Subscriber, WakeNotifier},
};

/// The maximum pause of a lease task between two lease calls for waiting clients, because a notification of a ready message may be
/// lost.
const MAX_SLEEP: Duration = Duration::from_secs(5);
/// How long lease calls may take beyond the client's wait, so that a client with a short wait, or none, gets messages too.
const LEASE_TIME_BEYOND_WAIT: Duration = Duration::from_secs(2);

/// The memory for the response to a consumer. [`LongPoll`] takes the memory for a response just before it leases the messages of the
/// response, not while the consumer waits.
pub trait ResponseMemory: Send + Sync {
    /// Takes memory for one response, and returns how many bytes of messages fit into it. Returns `None` if there is no memory:
    /// then no message is leased, and the consumer gets [`Error::Overloaded`].
    fn take(&self) -> Option<usize>;

    /// Frees the memory that was taken for a response, because no message was leased.
    fn free(&self);
}

/// A [`ResponseMemory`] without a limit: there is memory for every response.
struct UnlimitedMemory;

impl ResponseMemory for UnlimitedMemory {
    fn take(&self) -> Option<usize> {
        Some(limits::MAX_BYTES)
    }

    fn free(&self) {}
}

/// Leases messages for any number of waiting consumers, with one lease task for each queue at which a consumer waits.
///
/// The lease task of a queue serves waiting consumers in the order of their arrival. Messages that were leased for a consumer that has
/// disconnected meanwhile are released at once, without spending an attempt.
#[derive(Clone)]
pub struct LongPoll {
    shared: Arc<LongPollState>,
}

struct LongPollState {
    subscriber: Subscriber,
    /// The lease tasks of queues, and the tasks that release deliveries that were not taken.
    tasks: TaskTracker,
    shutdown: CancellationToken,
    waiting: Mutex<HashMap<QueueName, WaitingClients>>,
}

/// The clients that wait at one queue: one entry for each waiting request, by number in the order of arrival.
#[derive(Default)]
struct WaitingClients {
    waiters: BTreeMap<u64, Waiter>,
    /// The number of the client that arrived last; clients are numbered from 1 in the order of arrival.
    newest: u64,
}

impl WaitingClients {
    fn add_client(&mut self, waiter: Waiter) {
        self.newest += 1;
        self.waiters.insert(self.newest, waiter);
    }
}

struct Waiter {
    request: LeaseRequest,
    answer: oneshot::Sender<Result<PendingDeliveries>>,
    until: Instant,
    memory: Arc<dyn ResponseMemory>,
}

/// Deliveries that were leased for a consumer, which has not taken them yet. If the consumer disconnects before it takes the
/// deliveries, the messages are released.
struct PendingDeliveries {
    deliveries: Vec<Delivery>,
    queue: Arc<Queue>,
    tasks: TaskTracker,
    runtime: Handle,
}

impl PendingDeliveries {
    fn take(mut self) -> Vec<Delivery> {
        mem::take(&mut self.deliveries)
    }
}

impl Drop for PendingDeliveries {
    fn drop(&mut self) {
        let release = |delivery: Delivery| Settlement { lease: delivery.lease, action: Action::Release(None) };
        let settlements: Vec<Settlement> = mem::take(&mut self.deliveries).into_iter().map(release).collect();
        if settlements.is_empty() {
            return;
        }
        let queue = Arc::clone(&self.queue);
        let release_task = async move {
            if let Err(error) = queue.settle(&settlements).await {
                warn!(queue = %queue.name(), %error, "the leases of a disconnected client will lapse");
            }
        };
        drop(self.tasks.spawn_on(release_task, &self.runtime));
    }
}

impl LongPoll {
    /// Makes a long poll without waiting consumers. `subscriber` wakes the lease tasks; the caller must run `subscriber`. `shutdown`
    /// ends all waits.
    pub fn new(subscriber: Subscriber, shutdown: CancellationToken) -> Self {
        let tasks = TaskTracker::new();
        tasks.close();
        Self { shared: Arc::new(LongPollState { subscriber, tasks, shutdown, waiting: Mutex::default() }) }
    }

    /// Leases ready messages. If no message is ready, waits for at most `wait` until a message is ready, and returns no delivery if
    /// no message has become ready in that time. When the future of `receive` is dropped, deliveries that were leased for it are
    /// released.
    ///
    /// # Errors
    ///
    /// The errors of [`Queue::lease`], except [`Error::NoSuchQueue`]: the queue may be created during the wait.
    pub async fn receive(&self, queue: &Arc<Queue>, request: LeaseRequest, wait: Millis) -> Result<Vec<Delivery>> {
        self.receive_within(queue, request, wait, Arc::new(UnlimitedMemory)).await
    }

    /// Like [`receive`](Self::receive), but takes the memory for the response from `memory` before it leases messages.
    ///
    /// # Errors
    ///
    /// The errors of [`receive`](Self::receive), and [`Error::Overloaded`] when there is no memory.
    pub async fn receive_within(
        &self,
        queue: &Arc<Queue>,
        request: LeaseRequest,
        wait: Millis,
        memory: Arc<dyn ResponseMemory>,
    ) -> Result<Vec<Delivery>> {
        let wait_end = Instant::now() + wait.to_std();
        let (answer, answered) = oneshot::channel();
        self.add_waiter(queue, Waiter { request, answer, until: wait_end, memory });
        match timeout_at(wait_end + LEASE_TIME_BEYOND_WAIT, answered).await {
            Ok(Ok(pending)) => pending.map(PendingDeliveries::take),
            // No lease call for this consumer was answered in time, or this process stops.
            Err(_) | Ok(Err(_)) => Ok(Vec::new()),
        }
    }

    /// Waits until all tasks that lease messages for waiting consumers, and all tasks that release deliveries, have ended, which
    /// happens soon after the shutdown.
    pub async fn wait_until_stopped(&self) {
        self.shared.tasks.wait().await;
    }

    fn add_waiter(&self, queue: &Arc<Queue>, waiter: Waiter) {
        let notifier = self.shared.subscriber.notifier(queue.name());
        let mut waiting_clients = self.shared.waiting.lock();
        if let Some(clients) = waiting_clients.get_mut(queue.name()) {
            clients.add_client(waiter);
        } else {
            waiting_clients.entry(queue.name().clone()).or_default().add_client(waiter);
            let lease_task = LeaseTask {
                shared: Arc::clone(&self.shared),
                queue: Arc::clone(queue),
                notifier: Arc::clone(&notifier),
            };
            self.shared.tasks.spawn(lease_task.run());
        }
        // The lease task makes a lease call for a new consumer at once, even if it found no message a moment ago.
        notifier.wake();
    }
}

/// The task that leases messages for the clients that wait at one queue, until no client waits.
struct LeaseTask {
    shared: Arc<LongPollState>,
    queue: Arc<Queue>,
    notifier: Arc<WakeNotifier>,
}

impl LeaseTask {
    async fn run(self) {
        let mut retry = Retry::new();
        while let Some(first_deadline) = self.next_deadline() {
            tokio::select! {
                () = self.notifier.woken(MAX_SLEEP.min(first_deadline.saturating_duration_since(Instant::now()))) => {}
                () = self.shared.shutdown.cancelled() => {
                    // The consumers learn of the shutdown when their channels close.
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

    /// Returns the earliest end of a consumer's wait; `None` if no consumer waits. If no consumer waits at the queue, the lease task
    /// must end; the next consumer starts another lease task.
    fn next_deadline(&self) -> Option<Instant> {
        let mut waiting_clients = self.shared.waiting.lock();
        let clients = waiting_clients.get_mut(self.queue.name())?;
        clients.waiters.retain(|_, waiter| !waiter.answer.is_closed());
        let earliest_end = clients.waiters.values().map(|waiter| waiter.until).min();
        if earliest_end.is_none() {
            waiting_clients.remove(self.queue.name());
        }
        earliest_end
    }

    /// Leases for one consumer after the other, as long as messages may be ready. In an exclusive queue only the consumer that
    /// has access can get messages.
    async fn serve(&self) -> Result<(), ()> {
        let mut clients_to_serve = Some(ClientsToServe::all());
        let mut result = Ok(());
        let mut newest_index = 0;
        while let Some(client) = clients_to_serve.take().and_then(|clients_to_serve| self.next_client(clients_to_serve))
        {
            newest_index = client.newest;
            let lease_result = match client.memory.take() {
                Some(max_bytes) => self.queue.lease_with_max_bytes(&client.request, max_bytes).await,
                None => Err(Error::Overloaded),
            };
            if lease_result.as_ref().map_or(true, |lease_result| lease_result.deliveries.is_empty()) {
                client.memory.free();
            }
            match lease_result {
                Ok(lease_result) => {
                    if let Some(pause) = lease_result.call_again_in {
                        self.notifier.wake_in(pause);
                    }
                    clients_to_serve = client.clients_to_serve_next(&lease_result);
                    if !lease_result.deliveries.is_empty() {
                        self.answer_with_deliveries(client.number, lease_result.deliveries);
                    }
                }
                // A queue that does not exist may be created while consumers wait, so they keep waiting.
                Err(Error::NoSuchQueue) => {}
                Err(error) => {
                    if error.is_unavailable() {
                        result = Err(());
                    } else {
                        clients_to_serve =
                            Some(ClientsToServe { first_number: client.number + 1, ..client.clients_to_serve });
                    }
                    self.answer_client(client.number, Err(error));
                }
            }
        }
        self.end_overdue_waits(newest_index);
        result
    }

    /// Returns the first waiting client that `clients_to_serve` includes.
    fn next_client(&self, clients_to_serve: ClientsToServe) -> Option<ServedClient> {
        let waiting_clients = self.shared.waiting.lock();
        let clients = waiting_clients.get(self.queue.name())?;
        let is_next_client = |waiter: &Waiter| {
            !waiter.answer.is_closed()
                && clients_to_serve.only_consumer.as_ref().is_none_or(|only| *only == waiter.request.consumer)
        };
        let (number, waiter) =
            clients.waiters.range(clients_to_serve.first_number..).find(|(_, waiter)| is_next_client(waiter))?;
        Some(ServedClient {
            number: *number,
            request: waiter.request.clone(),
            memory: Arc::clone(&waiter.memory),
            newest: clients.newest,
            clients_to_serve,
        })
    }

    fn answer_with_deliveries(&self, number: u64, deliveries: Vec<Delivery>) {
        let (queue, tasks) = (Arc::clone(&self.queue), self.shared.tasks.clone());
        self.answer_client(number, Ok(PendingDeliveries { deliveries, queue, tasks, runtime: Handle::current() }));
    }

    fn answer_client(&self, number: u64, answer: Result<PendingDeliveries>) {
        let waiter =
            self.shared.waiting.lock().get_mut(self.queue.name()).and_then(|clients| clients.waiters.remove(&number));
        if let Some(waiter) = waiter {
            // If the consumer has disconnected, its deliveries are dropped, which releases them.
            let _ = waiter.answer.send(answer);
        }
    }

    /// Ends, without deliveries, the waits whose time is over, up to the client with the number `newest`. Clients with a higher number
    /// arrived later, and no lease call was made for these clients yet.
    fn end_overdue_waits(&self, newest: u64) {
        let now = Instant::now();
        let overdue_clients: Vec<u64> = match self.shared.waiting.lock().get(self.queue.name()) {
            Some(clients) => {
                clients.waiters.range(..=newest).filter(|(_, waiter)| waiter.until <= now).map(|(n, _)| *n).collect()
            }
            None => return,
        };
        for number in overdue_clients {
            self.answer_with_deliveries(number, Vec::new());
        }
    }
}

/// The waiting clients that the next lease call may serve; the call serves the first of these clients.
struct ClientsToServe {
    /// The lowest number of a client that may be served; clients are numbered in the order of arrival.
    first_number: u64,
    /// The only consumer whose waiting requests may be served; `None` if the requests of all consumers may be served.
    only_consumer: Option<ConsumerId>,
}

impl ClientsToServe {
    fn all() -> Self {
        Self { first_number: 0, only_consumer: None }
    }
}

/// The waiting client for which a lease call is made.
struct ServedClient {
    number: u64,
    request: LeaseRequest,
    memory: Arc<dyn ResponseMemory>,
    /// The number of the client that had arrived last when the lease call for this client began.
    newest: u64,
    clients_to_serve: ClientsToServe,
}

impl ServedClient {
    /// Returns the waiting clients that the next lease call may serve after a lease call for this client had the result `leased`;
    /// `None` if no waiting client can get a message.
    fn clients_to_serve_next(&self, leased: &Leased) -> Option<ClientsToServe> {
        let next_number = self.number + 1;
        match &leased.access {
            Access::All => {
                leased.more_is_ready.then_some(ClientsToServe { first_number: next_number, only_consumer: None })
            }
            Access::OneConsumer(Some(owner)) if *owner == self.request.consumer => {
                // The owner of an exclusive queue may wait with several requests. If a lease call for one of the owner's requests
                // returned no message, the owner's other requests get no message either.
                (!leased.deliveries.is_empty())
                    .then(|| ClientsToServe { first_number: next_number, only_consumer: Some(owner.clone()) })
            }
            // The owner of an exclusive queue is served only once per wake-up. If an exclusive queue gets another owner between two
            // lease calls, another process has leased messages for the new owner.
            Access::OneConsumer(Some(owner)) if self.clients_to_serve.only_consumer.is_none() => {
                Some(ClientsToServe { first_number: 0, only_consumer: Some(owner.clone()) })
            }
            Access::OneConsumer(_) => None,
        }
    }
}

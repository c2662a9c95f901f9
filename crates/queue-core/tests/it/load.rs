//! A load on many queues while servers fail, and the account of every message afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use queue_core::{
    ConsumerId, Error, LeaseRequest, MessageRef, Queue, QueueName, Queues, Redis, Settlement, State,
    settings::DeclaredSettings,
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{done, number};

/// The time in which everything works again after a fail-over has ended, by promise 2 s; twice of it on a busy machine.
pub(crate) const RECOVERY: Duration = Duration::from_secs(4);

/// Producers and consumers of some queues, whose names have different slots.
pub(crate) struct Load {
    queues: Vec<Arc<Queue>>,
    producers: Tasks,
    consumers: Tasks,
    account: Arc<Mutex<Account>>,
}

#[derive(Default)]
struct Tasks {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Tasks {
    async fn end(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// Records what happened to each number.
#[derive(Default)]
struct Account {
    next: u64,
    /// Posts that were answered, with the queue and the id of each: their messages must not be lost.
    stored: BTreeMap<u64, (usize, MessageRef)>,
    /// Posts whose answers were errors: their messages may be stored or not.
    in_doubt: BTreeSet<u64>,
    /// How often each message was handed out.
    deliveries: BTreeMap<u64, u32>,
    /// The time of the last stored post of each queue.
    last_stored: BTreeMap<usize, Instant>,
}

impl Account {
    fn record_post(&mut self, queue: usize, n: u64, began: Instant, posted: Result<MessageRef, Error>) {
        match posted {
            Ok(id) => {
                self.stored.insert(n, (queue, id));
                self.last_stored.insert(queue, began);
            }
            Err(Error::Unavailable(_)) => {
                self.in_doubt.insert(n);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The result of an account.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) in_doubt: usize,
    /// Messages whose posts were answered, but that no consumer got, with their states.
    pub(crate) lost: Vec<(u64, Option<State>)>,
    /// Messages that were handed out more than once.
    pub(crate) repeated: usize,
}

impl Load {
    /// Names of so many queues.
    pub(crate) fn names(prefix: &str, count: usize) -> Vec<QueueName> {
        (0..count).map(|n| format!("{prefix}{n}").parse().unwrap()).collect()
    }

    /// Starts a producer and a consumer for each queue.
    pub(crate) fn start(redis: &Redis, names: &[QueueName]) -> Self {
        let queues = Queues::new(redis.clone(), DeclaredSettings::default());
        let queues: Vec<_> = names.iter().map(|name| queues.queue(name)).collect();
        let (producers, consumers) = (Tasks::default(), Tasks::default());
        let mut load = Self { queues, producers, consumers, account: Arc::default() };
        for (index, queue) in load.queues.iter().enumerate() {
            let (account, stop) = (Arc::clone(&load.account), load.producers.stop.clone());
            load.producers.tasks.spawn(produce(index, Arc::clone(queue), account, stop));
            let (account, stop) = (Arc::clone(&load.account), load.consumers.stop.clone());
            load.consumers.tasks.spawn(consume(Arc::clone(queue), account, stop));
        }
        load
    }

    /// Waits until every queue has stored a post that began later than `since`, and returns how long this took.
    pub(crate) async fn recovered(&self, since: Instant) -> Duration {
        let is_recovered = || {
            let account = self.account.lock();
            (0..self.queues.len()).all(|queue| account.last_stored.get(&queue).is_some_and(|at| *at > since))
        };
        while !is_recovered() {
            assert!(since.elapsed() < Duration::from_secs(30), "not all queues work again");
            sleep(Duration::from_millis(5)).await;
        }
        since.elapsed()
    }

    /// Waits until this many messages are stored.
    async fn reached(&self, stored: usize) {
        let start = Instant::now();
        while self.account.lock().stored.len() < stored {
            assert!(start.elapsed() < Duration::from_secs(30), "fewer than {stored} messages are stored");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the producers, waits until all messages are completed, audits the queues, and returns the account.
    pub(crate) async fn finish(mut self) -> Summary {
        self.reached(500).await;
        self.producers.end().await;
        self.consumers.end().await;
        for queue in &self.queues {
            let audit = queue.audit().await.unwrap();
            assert_eq!(audit.findings, [], "the audit of {} finds nothing", queue.name());
        }
        let account = std::mem::take(&mut *self.account.lock());
        let mut lost = Vec::new();
        for (n, (queue, id)) in &account.stored {
            if !account.deliveries.contains_key(n) {
                let message = self.queues[*queue].read(std::slice::from_ref(id)).await.unwrap().remove(0);
                lost.push((*n, message.map(|message| message.state)));
            }
        }
        let is_known = |n: &u64| account.stored.contains_key(n) || account.in_doubt.contains(n);
        assert!(account.deliveries.keys().all(is_known), "no message comes from nowhere");
        Summary {
            in_doubt: account.in_doubt.len(),
            lost,
            repeated: account.deliveries.values().filter(|count| **count > 1).count(),
        }
    }
}

async fn produce(index: usize, queue: Arc<Queue>, account: Arc<Mutex<Account>>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let n = {
            let mut account = account.lock();
            account.next += 1;
            account.next
        };
        let began = Instant::now();
        let posted = queue.post(number(n)).await;
        account.lock().record_post(index, n, began, posted.map(|posted| posted.id().clone()));
        sleep(Duration::from_millis(2)).await;
    }
}

/// Completes messages until the load stops and the queue is empty.
async fn consume(queue: Arc<Queue>, account: Arc<Mutex<Account>>, stop: CancellationToken) {
    let consumer = ConsumerId::issue();
    let mut unsettled: Vec<Settlement> = Vec::new();
    loop {
        if !unsettled.is_empty() && queue.settle(&unsettled).await.is_ok() {
            unsettled.clear();
        }
        match queue.lease(&LeaseRequest::new(consumer.clone(), 50)).await {
            Ok(leased) => {
                for delivery in leased.deliveries {
                    let n = delivery.message.data.get().parse().unwrap();
                    *account.lock().deliveries.entry(n).or_default() += 1;
                    unsettled.push(Settlement { lease: delivery.lease, action: done() });
                }
            }
            Err(Error::Unavailable(_) | Error::NoSuchQueue) => {}
            Err(error) => panic!("{error}"),
        }
        if unsettled.is_empty() {
            // In this order, because a producer may post its last message after the status was read.
            let is_stopped = stop.is_cancelled();
            let is_empty = match queue.status().await {
                Ok(Some(status)) => status.counts.waiting + status.counts.active + status.counts.delayed == 0,
                Ok(None) => true,
                Err(_) => false,
            };
            if is_stopped && is_empty {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

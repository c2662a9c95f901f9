//! A load on many queues while servers fail, and a record of every message.

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

use crate::{completion, numbered_message};

/// The time within which every queue works again after a fail-over has ended. Drover promises that queues work 2 s after a fail-over;
/// the tests under load, which may run on a busy machine, allow 4 s.
pub(crate) const RECOVERY_TIME: Duration = Duration::from_secs(4);

/// Producers and consumers of some queues, whose names have different slots.
pub(crate) struct Load {
    queues: Vec<Arc<Queue>>,
    producers: Tasks,
    consumers: Tasks,
    record: Arc<Mutex<LoadRecord>>,
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

/// A record of all messages, by their numbers: the answer to the post of each message, and its deliveries.
#[derive(Default)]
struct LoadRecord {
    next: u64,
    /// The posts that were answered, each with its queue and its id. The messages of answered posts must not be lost.
    stored: BTreeMap<u64, (usize, MessageRef)>,
    /// The posts whose answers were errors: the messages may be stored or not.
    in_doubt: BTreeSet<u64>,
    /// The number of times that each message was leased.
    deliveries: BTreeMap<u64, u32>,
    /// The time of the last stored post of each queue.
    last_stored: BTreeMap<usize, Instant>,
}

impl LoadRecord {
    fn record_post(&mut self, queue: usize, number: u64, began: Instant, posted: Result<MessageRef, Error>) {
        match posted {
            Ok(id) => {
                self.stored.insert(number, (queue, id));
                self.last_stored.insert(queue, began);
            }
            Err(Error::Unavailable(_)) => {
                self.in_doubt.insert(number);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The summary of the posts and deliveries that a [`LoadRecord`] contains.
#[derive(Debug)]
pub(crate) struct Summary {
    /// The number of posts whose answers were errors.
    pub(crate) in_doubt: usize,
    /// The messages whose posts were answered, but that no consumer got, each with its state.
    pub(crate) lost: Vec<(u64, Option<State>)>,
    /// The number of messages that were leased more than once.
    pub(crate) repeated: usize,
}

impl Load {
    /// Returns `count` names of queues.
    pub(crate) fn names(prefix: &str, count: usize) -> Vec<QueueName> {
        (0..count).map(|n| format!("{prefix}{n}").parse().unwrap()).collect()
    }

    /// Starts a producer and a consumer for each queue.
    pub(crate) fn start(redis: &Redis, names: &[QueueName]) -> Self {
        let queues = Queues::new(redis.clone(), DeclaredSettings::default());
        let queues: Vec<_> = names.iter().map(|name| queues.queue(name)).collect();
        let (producers, consumers) = (Tasks::default(), Tasks::default());
        let mut load = Self { queues, producers, consumers, record: Arc::default() };
        for (index, queue) in load.queues.iter().enumerate() {
            let (record, stop) = (Arc::clone(&load.record), load.producers.stop.clone());
            load.producers.tasks.spawn(produce_messages(index, Arc::clone(queue), record, stop));
            let (record, stop) = (Arc::clone(&load.record), load.consumers.stop.clone());
            load.consumers.tasks.spawn(consume_messages(Arc::clone(queue), record, stop));
        }
        load
    }

    /// Waits until every queue has stored a post that began later than `since`, and returns how long this took.
    pub(crate) async fn wait_until_recovered(&self, since: Instant) -> Duration {
        let is_recovered = || {
            let record = self.record.lock();
            (0..self.queues.len()).all(|queue| record.last_stored.get(&queue).is_some_and(|at| *at > since))
        };
        while !is_recovered() {
            assert!(since.elapsed() < Duration::from_secs(30), "not all queues work again");
            sleep(Duration::from_millis(5)).await;
        }
        since.elapsed()
    }

    /// Waits until this many messages are stored.
    async fn wait_until_stored(&self, stored: usize) {
        let start = Instant::now();
        while self.record.lock().stored.len() < stored {
            assert!(start.elapsed() < Duration::from_secs(30), "fewer than {stored} messages are stored");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the producers, waits until all messages are completed, audits the queues, and returns the summary.
    pub(crate) async fn finish(mut self) -> Summary {
        self.wait_until_stored(500).await;
        self.producers.end().await;
        self.consumers.end().await;
        for queue in &self.queues {
            let audit = queue.audit().await.unwrap();
            assert_eq!(audit.findings, [], "the audit of {} finds nothing", queue.name());
        }
        let record = std::mem::take(&mut *self.record.lock());
        let mut lost_messages = Vec::new();
        for (number, (queue, id)) in &record.stored {
            if !record.deliveries.contains_key(number) {
                let message = self.queues[*queue].read(std::slice::from_ref(id)).await.unwrap().remove(0);
                lost_messages.push((*number, message.map(|message| message.state)));
            }
        }
        let is_known = |number: &u64| record.stored.contains_key(number) || record.in_doubt.contains(number);
        assert!(record.deliveries.keys().all(is_known), "every delivered message was posted");
        Summary {
            in_doubt: record.in_doubt.len(),
            lost: lost_messages,
            repeated: record.deliveries.values().filter(|count| **count > 1).count(),
        }
    }
}

async fn produce_messages(index: usize, queue: Arc<Queue>, record: Arc<Mutex<LoadRecord>>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let number = {
            let mut record = record.lock();
            record.next += 1;
            record.next
        };
        let began_at = Instant::now();
        let post_result = queue.post(numbered_message(number)).await;
        record.lock().record_post(index, number, began_at, post_result.map(|post_result| post_result.id().clone()));
        sleep(Duration::from_millis(2)).await;
    }
}

/// Completes messages until the load stops and the queue is empty.
async fn consume_messages(queue: Arc<Queue>, record: Arc<Mutex<LoadRecord>>, stop: CancellationToken) {
    let consumer = ConsumerId::issue();
    let mut unsettled_leases: Vec<Settlement> = Vec::new();
    loop {
        if !unsettled_leases.is_empty() && queue.settle(&unsettled_leases).await.is_ok() {
            unsettled_leases.clear();
        }
        match queue.lease(&LeaseRequest::new(consumer.clone(), 50)).await {
            Ok(leased) => {
                for delivery in leased.deliveries {
                    let number = delivery.message.data.get().parse().unwrap();
                    *record.lock().deliveries.entry(number).or_default() += 1;
                    unsettled_leases.push(Settlement { lease: delivery.lease, action: completion() });
                }
            }
            Err(Error::Unavailable(_) | Error::NoSuchQueue) => {}
            Err(error) => panic!("{error}"),
        }
        if unsettled_leases.is_empty() {
            // The consumer reads whether the load was stopped before it reads the status of the queue, because a producer
            // may post its last message after the status was read.
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

//! The load of a fail-over test: three producers for each queue, and consumers over HTTP for the queues that the worker does
//! not serve.

use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use drover_tests::TIME_LIMIT;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use super::{account::Account, scene::SERVER_TIME_LIMIT};

/// The time for which a consumer has a message before it settles the lease.
pub(super) const HANDLING_TIME: Duration = Duration::from_millis(10);
/// The pause of a producer between two posts of messages.
const POST_PAUSE: Duration = Duration::from_millis(40);
/// The pause of a client after a refused request.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(20);
/// The time limit until a repeatedly posted message is stored, which covers an election and then the return of all replicas.
const MAX_TIME_UNTIL_STORED: Duration = Duration::from_secs(2 * SERVER_TIME_LIMIT.as_secs());
/// The maximum time until a POST is refused because its Redis server is away. Drover promises a refusal within 2 s; on a busy machine it
/// takes longer.
const MAX_REFUSAL_TIME: Duration = Duration::from_secs(4);
/// The maximum number of messages that an HTTP consumer leases at a time.
pub(super) const MAX_LEASED: usize = 5;

/// The base URLs of two API processes.
#[derive(Clone)]
pub(super) struct Apis {
    /// The API whose posts wait until all replicas have the message.
    pub(super) durable: String,
    /// The API whose posts wait for no replica.
    pub(super) plain: String,
}

/// Clients of the APIs: producers and consumers.
pub(super) struct Load {
    pub(super) queues: Vec<String>,
    pub(super) account: Arc<Mutex<Account>>,
    http: Client,
    apis: Apis,
    is_over: Arc<AtomicBool>,
    producers: JoinSet<()>,
    consumers: JoinSet<()>,
}

/// Returns whether the worker, and not an HTTP consumer, serves the queue at this index.
pub(super) fn is_served_by_worker(queue: usize) -> bool {
    queue.is_multiple_of(2)
}

impl Load {
    /// Creates the clients without starting them.
    pub(super) fn new(http: Client, apis: Apis, queues: Vec<String>, account: Arc<Mutex<Account>>) -> Self {
        let is_over = Arc::default();
        Self { queues, account, http, apis, is_over, producers: JoinSet::new(), consumers: JoinSet::new() }
    }

    /// Starts the clients.
    pub(super) fn start_clients(&mut self) {
        self.is_over.store(false, Ordering::Relaxed);
        for (index, name) in self.queues.iter().enumerate() {
            let client_of = |base: &str| QueueClient {
                http: self.http.clone(),
                path: format!("{base}/v1/queues/{name}"),
                index,
                account: Arc::clone(&self.account),
            };
            let (durable, plain) = (client_of(&self.apis.durable), client_of(&self.apis.plain));
            self.producers.spawn(durable.clone().post_once(Arc::clone(&self.is_over)));
            self.producers.spawn(durable.clone().post_until_stored(Arc::clone(&self.is_over)));
            self.producers.spawn(plain.post_unconfirmed(Arc::clone(&self.is_over)));
            if !is_served_by_worker(index) {
                self.consumers.spawn(durable.consume());
            }
        }
    }

    /// Waits until a condition is true for each of these queues, and returns the time from `since` until all are true.
    pub(super) async fn wait_until(
        &self,
        what: &str,
        since: Instant,
        queues: impl IntoIterator<Item = usize> + Clone,
        is_reached: impl Fn(&Account, usize) -> bool,
    ) -> Duration {
        loop {
            let missing_numbers: Vec<usize> = {
                let account = self.account.lock().unwrap();
                queues.clone().into_iter().filter(|queue| !is_reached(&account, *queue)).collect()
            };
            if missing_numbers.is_empty() {
                return since.elapsed();
            }
            assert!(since.elapsed() < TIME_LIMIT, "queues {missing_numbers:?}: {what}: not within {TIME_LIMIT:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until this many posts are confirmed and this many messages were delivered.
    pub(super) async fn wait_for_work(&self, count: usize) {
        let started_at = Instant::now();
        loop {
            {
                let account = self.account.lock().unwrap();
                if account.confirmed_count() >= count && account.deliveries() >= count {
                    return;
                }
            }
            assert!(started_at.elapsed() < TIME_LIMIT, "fewer than {count} messages are confirmed and delivered");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the producers, waits until all messages are completed, compares the account of posts and deliveries with what Redis has, and
    /// ends the consumers.
    pub(super) async fn finish(&mut self) -> Account {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.producers.join_next().await {
            ended.unwrap();
        }
        for index in 0..self.queues.len() {
            let completed_numbers = self.all_completed(index).await;
            self.account.lock().unwrap().assert_all_completed(index, &completed_numbers);
        }
        self.consumers.abort_all();
        while let Some(ended) = self.consumers.join_next().await {
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                resume_unwind(panic);
            }
        }
        std::mem::take(&mut *self.account.lock().unwrap())
    }

    /// Waits until a queue has only completed messages, and returns the numbers of these messages by id.
    async fn all_completed(&self, queue: usize) -> BTreeMap<String, usize> {
        let path = format!("{}/v1/queues/{}", self.apis.durable, self.queues[queue]);
        let started_at = Instant::now();
        let status = loop {
            let status = self.get_json(&path).await;
            let counts = &status["counts"];
            let unfinished_count: u64 =
                ["held", "delayed", "waiting", "active"].iter().filter_map(|state| counts[state].as_u64()).sum();
            if unfinished_count == 0 {
                break status;
            }
            assert!(started_at.elapsed() < TIME_LIMIT, "all messages should be completed: {status}");
            sleep(Duration::from_millis(50)).await;
        };
        let (mut completed, mut cursor) = (BTreeMap::new(), String::new());
        loop {
            let page = self.get_json(&format!("{path}/messages?state=completed&limit=1000{cursor}")).await;
            for message in page["messages"].as_array().unwrap() {
                completed.insert(string_of(&message["id"]), number_of(&message["data"]));
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let all = completed.len();
        assert_eq!((&status["counts"]["completed"], &status["counts"]["failed"]), (&json!(all), &json!(0)), "{status}");
        assert_eq!(
            (&status["totals"]["enqueued"], &status["totals"]["completed"]),
            (&json!(all), &json!(all)),
            "{status}"
        );
        completed
    }

    async fn get_json(&self, url: &str) -> Value {
        let answer = self.http.get(url).send().await.unwrap();
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{url}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

fn string_of(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn number_of(value: &Value) -> usize {
    value.as_u64().unwrap().try_into().unwrap()
}

/// A client of one queue. The APIs run all the time, so a connection that breaks is a failure of the test.
#[derive(Clone)]
struct QueueClient {
    http: Client,
    path: String,
    index: usize,
    account: Arc<Mutex<Account>>,
}

impl QueueClient {
    /// Posts messages until the load is over, each message once: after a 503 the client does not know whether the message is
    /// stored.
    async fn post_once(self, is_over: Arc<AtomicBool>) {
        while !is_over.load(Ordering::Relaxed) {
            let number = self.account.lock().unwrap().record_post(self.index);
            if let Some(id) = self.post(&json!({"data": number})).await {
                self.account.lock().unwrap().record_stored(number, id);
            }
            sleep(POST_PAUSE).await;
        }
    }

    /// Posts messages to the API that does not wait for replicas, each message once.
    async fn post_unconfirmed(self, is_over: Arc<AtomicBool>) {
        while !is_over.load(Ordering::Relaxed) {
            let number = self.account.lock().unwrap().record_post(self.index);
            if self.post(&json!({"data": number})).await.is_some() {
                self.account.lock().unwrap().record_accepted(number);
            }
            sleep(POST_PAUSE).await;
        }
    }

    /// Posts messages with own ids until the load is over. Each message is posted until it is stored.
    async fn post_until_stored(self, is_over: Arc<AtomicBool>) {
        while !is_over.load(Ordering::Relaxed) {
            let number = self.account.lock().unwrap().record_post(self.index);
            let (start, message) = (Instant::now(), json!({"id": format!("own-{number}"), "data": number}));
            let id = loop {
                if let Some(id) = self.post(&message).await {
                    break id;
                }
                assert!(start.elapsed() < MAX_TIME_UNTIL_STORED, "{number} is not stored");
                sleep(PAUSE_AFTER_REFUSAL).await;
                self.account.lock().unwrap().record_repeated_post(number);
            };
            self.account.lock().unwrap().record_stored(number, id);
            sleep(POST_PAUSE).await;
        }
    }

    /// Posts a message. Returns the message's id if the answer says that the message is stored.
    async fn post(&self, message: &Value) -> Option<String> {
        let started_at = Instant::now();
        let post_answer = self.send("messages", message).await;
        assert!(post_answer.is_some() || started_at.elapsed() < MAX_REFUSAL_TIME, "{:?}", started_at.elapsed());
        post_answer.map(|post_answer| string_of(&post_answer["id"]))
    }

    /// Leases and completes messages until the task is aborted.
    async fn consume(self) {
        loop {
            let lease_answer = self.send("leases", &json!({"max": MAX_LEASED, "wait": "20s"})).await;
            let Some(lease_answer) = lease_answer else {
                sleep(PAUSE_AFTER_REFUSAL).await;
                continue;
            };
            let mut settlements = Vec::new();
            for message in lease_answer["messages"].as_array().unwrap() {
                let (id, number) = (string_of(&message["id"]), number_of(&message["data"]));
                self.account.lock().unwrap().record_delivery(self.index, id, number);
                settlements.push(json!({"lease": message["lease"], "action": "complete", "result": null}));
            }
            if settlements.is_empty() {
                continue;
            }
            sleep(HANDLING_TIME).await;
            // A request that settles a lease is repeated until it succeeds, because settling is idempotent.
            while self.send("leases/settle", &json!({"settlements": settlements})).await.is_none() {
                sleep(PAUSE_AFTER_REFUSAL).await;
            }
        }
    }

    /// Sends a request; `None` if Redis is not available.
    async fn send(&self, path: &str, body: &Value) -> Option<Value> {
        let answer = self.http.post(format!("{}/{path}", self.path)).json(body).send().await.unwrap();
        match answer.status() {
            StatusCode::OK | StatusCode::CREATED => Some(answer.json().await.unwrap()),
            StatusCode::SERVICE_UNAVAILABLE => None,
            other => panic!("{other}: {:?}", answer.text().await),
        }
    }
}

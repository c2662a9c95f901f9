//! The clients of a test that replaces processes under load: producers of all kinds of messages, and a consumer over HTTP. Each client uses
//! both APIs in turn, as behind a load balancer. When the connection to one API fails, the client repeats the request at the other API.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use drover_tests::TIME_LIMIT;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::deployment::API_COUNT;

/// The queue whose messages the workers handle.
pub(crate) const QUEUE: &str = "load";
/// The queue whose messages the consumer over HTTP completes.
pub(crate) const HTTP_CONSUMER_QUEUE: &str = "pulled";

const PRODUCERS: usize = 3;
/// The pause of a client between two messages.
const PAUSE: Duration = Duration::from_millis(15);

/// A message of the queue of the workers, which an API has confirmed.
pub(crate) struct PostedMessage {
    pub(crate) id: String,
    /// The number of attempts that fail before the message is completed.
    pub(crate) fails: u32,
}

/// The messages that the clients have posted and completed.
#[derive(Default)]
pub(crate) struct Posts {
    pub(crate) posted: Vec<PostedMessage>,
    /// The ids of the messages that the consumer over HTTP completed, in the order of their completion.
    pub(crate) pulled: Vec<String>,
}

/// The running clients.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    confirmed: Arc<AtomicUsize>,
    clients: JoinSet<Posts>,
}

impl Load {
    pub(crate) fn start(http: &Client, urls: &[String; API_COUNT]) -> Self {
        let (is_over, confirmed) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut clients = JoinSet::new();
        for index in 0..=PRODUCERS {
            let mut client = LoadClient {
                http: http.clone(),
                urls: urls.clone(),
                index,
                next_api: index,
                is_over: Arc::clone(&is_over),
                confirmed: Arc::clone(&confirmed),
            };
            clients
                .spawn(async move { if index < PRODUCERS { client.produce().await } else { client.consume().await } });
        }
        Self { is_over, confirmed, clients }
    }

    /// Returns the number of confirmed messages so far.
    pub(crate) fn confirmed_count(&self) -> usize {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Stops the clients. Each client completes its last request before the client stops.
    pub(crate) async fn stop(self) -> Posts {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Posts::default();
        for posts in self.clients.join_all().await {
            all.posted.extend(posts.posted);
            all.pulled.extend(posts.pulled);
        }
        all
    }
}

struct LoadClient {
    http: Client,
    urls: [String; API_COUNT],
    index: usize,
    next_api: usize,
    is_over: Arc<AtomicBool>,
    confirmed: Arc<AtomicUsize>,
}

impl LoadClient {
    fn is_running(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Posts messages for the workers, and releases the messages that are held.
    async fn produce(&mut self) -> Posts {
        let mut posts = Posts::default();
        for number in 0.. {
            if !self.is_running() {
                break;
            }
            let fails = u32::from(number % 7 == 1);
            let id = format!("c{}-{number}", self.index);
            let mut message = json!({"id": id, "data": {"number": number, "fails": fails}});
            match number % 5 {
                0 => message["delay"] = json!(300),
                1 => message["group"] = json!(format!("g{}", self.index)),
                2 => message["hold"] = json!(id),
                3 => message["priority"] = json!(-1),
                _ => {}
            }
            self.post(&format!("/v1/queues/{QUEUE}/messages"), &message).await;
            if number % 5 == 2 {
                self.post(&format!("/v1/queues/{QUEUE}/signals/{id}"), &json!({"data": number})).await;
            }
            self.confirmed.fetch_add(1, Ordering::Relaxed);
            posts.posted.push(PostedMessage { id, fails });
            sleep(PAUSE).await;
        }
        posts
    }

    /// Posts messages to the consumer's queue, leases each message at one API, and settles the lease at the other API.
    async fn consume(&mut self) -> Posts {
        let path = format!("/v1/queues/{HTTP_CONSUMER_QUEUE}");
        let mut posts = Posts::default();
        for number in 0.. {
            if !self.is_running() {
                break;
            }
            let id = format!("p-{number}");
            self.post(&format!("{path}/messages"), &json!({"id": id, "data": number})).await;
            let leased = self.post(&format!("{path}/leases"), &json!({"wait": "10s"})).await;
            let message = &leased["messages"][0];
            assert_eq!(message["id"], json!(id), "{leased}");
            let settled = self.post(&format!("{path}/leases/complete"), &json!({"lease": message["lease"]})).await;
            assert_eq!(settled["outcome"], "completed", "{settled}");
            posts.pulled.push(id);
            sleep(PAUSE).await;
        }
        posts
    }

    /// Sends a POST to the next API, and to the other API if the connection fails, until an API answers. Returns the answer, which must be
    /// a success.
    async fn post(&mut self, path: &str, body: &Value) -> Value {
        let start = Instant::now();
        loop {
            self.next_api = (self.next_api + 1) % API_COUNT;
            let request = self.http.post(format!("{}{path}", self.urls[self.next_api])).json(body);
            match request.send().await {
                Ok(answer) => {
                    let status = answer.status();
                    assert!(matches!(status, StatusCode::OK | StatusCode::CREATED), "{path}: {status}");
                    return answer.json().await.unwrap();
                }
                Err(error) => assert!(start.elapsed() < TIME_LIMIT, "{path}: no API answers: {error}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

//! A complete Drover for one test: a private Redis, an API and any number of workers, and the requests that tests send to the
//! services.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use drover_tests::{Process, RedisServer, ReservedPort, TIME_LIMIT, free_port};
use queue_core::{Action, ConsumerId, Delivery, LeaseRequest, Queues, Redis, Settlement, settings::DeclaredSettings};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

/// The environment variable of a worker that polls once an hour: only wake-ups and timers start work.
pub(crate) const HOURLY_POLLS: (&str, &str) = ("DROVER__WORKER__POLL_INTERVAL", "1h");

/// A Redis and an API of one test, with the configuration file of the API and its workers.
pub(crate) struct System<R = RedisServer> {
    pub(crate) redis: R,
    /// The URL of Redis that the services use, or of a proxy in front of Redis.
    pub(crate) redis_url: String,
    pub(crate) api: Process,
    pub(crate) api_port: ReservedPort,
    pub(crate) base: String,
    pub(crate) config: tempfile::NamedTempFile,
    pub(crate) http: Client,
}

impl System {
    /// Starts Redis and the API with this configuration, and waits until the API is ready.
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_on(RedisServer::start(), config).await
    }

    pub(crate) async fn start_on(redis: RedisServer, config: &str) -> Self {
        let url = redis.url();
        let system = Self::launch(redis, url, config);
        system.wait_until_ready(&system.base).await;
        system
    }

    pub(crate) fn queues(&self) -> Queues {
        Queues::new(Redis::new(&self.redis.url(), Redis::DEFAULT_TIME_LIMIT).unwrap(), DeclaredSettings::default())
    }

    /// Leases messages as a new consumer.
    pub(crate) async fn lease(&self, queue: &str, max: usize) -> Vec<Delivery> {
        let consumer = ConsumerId::issue();
        let request = LeaseRequest::new(consumer, max);
        self.queues().queue(&queue.parse().unwrap()).lease(&request).await.unwrap().deliveries
    }

    /// Leases the ready messages, settles each message by `action`, and returns the number of these messages.
    pub(crate) async fn settle_all(&self, queue: &str, action: Action) -> usize {
        let deliveries = self.lease(queue, 1_000).await;
        let settle = |delivery: &Delivery| Settlement { lease: delivery.lease.clone(), action: action.clone() };
        let settlements: Vec<Settlement> = deliveries.iter().map(settle).collect();
        let settle_outcomes = self.queues().queue(&queue.parse().unwrap()).settle(&settlements).await.unwrap();
        assert!(settle_outcomes.iter().all(Option::is_some));
        settle_outcomes.len()
    }

    /// Asserts that the audit of each queue finds nothing.
    pub(crate) async fn assert_clean(&self) {
        for name in self.queues().names().await.unwrap() {
            let audit = self.queues().queue(&name).audit().await.unwrap();
            assert_eq!(audit.findings, [], "the audit must find nothing in {name}");
        }
    }
}

impl<R> System<R> {
    /// Starts the API, which finds Redis at `redis_url`, and does not wait until it is ready.
    pub(crate) fn launch(redis: R, redis_url: String, config: &str) -> Self {
        let config_file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(config_file.path(), config).unwrap();
        let api_port = ReservedPort::reserve();
        let api = start_api(&api_port, &redis_url, &config_file);
        let http = http_client();
        let base = format!("http://{}", api_port.address());
        Self { redis, redis_url, api, api_port, base, config: config_file, http }
    }

    /// Starts the API again on the same port.
    pub(crate) fn relaunch_api(&mut self) {
        self.api = start_api(&self.api_port, &self.redis_url, &self.config);
    }

    /// Starts a worker and waits until it is ready.
    pub(crate) async fn worker(&self) -> Process {
        self.worker_with(&[]).await
    }

    pub(crate) async fn worker_with(&self, variables: &[(&str, &str)]) -> Process {
        self.worker_and_url(variables).await.0
    }

    /// Starts a worker and waits until it is ready. Returns the worker, and the URL at which the worker serves its health and metrics.
    pub(crate) async fn worker_and_url(&self, variables: &[(&str, &str)]) -> (Process, String) {
        let bind = format!("127.0.0.1:{}", free_port());
        let mut env = vec![("DROVER__WORKER__BIND", bind.as_str())];
        env.extend(variables);
        let worker = self.launch_worker(&env);
        let url = format!("http://{bind}");
        self.wait_until_ready(&url).await;
        (worker, url)
    }

    /// Starts a worker and does not wait until it is ready.
    pub(crate) fn launch_worker(&self, variables: &[(&str, &str)]) -> Process {
        let mut env = vec![("DROVER__REDIS__URL", self.redis_url.as_str()), ("DROVER__WORKER__BIND", "127.0.0.1:0")];
        env.extend(variables);
        Process::start("consumer-worker", &config_args(&self.config), &env)
    }

    /// Starts the example `sleeper`, a worker whose handlers take the time that a message names. Each handler appends the id of its
    /// message to a file in `runs`.
    pub(crate) fn launch_sleeper(&self, runs: &Path, variables: &[(&str, &str)]) -> Process {
        let mut env = vec![
            ("DROVER__REDIS__URL", self.redis_url.as_str()),
            ("DROVER__WORKER__BIND", "127.0.0.1:0"),
            ("RUNS", runs.to_str().unwrap()),
        ];
        env.extend(variables);
        Process::start_example("sleeper", &config_args(&self.config), &env)
    }

    pub(crate) async fn wait_until_ready(&self, base: &str) {
        for _ in 0..1_000 {
            let answer = self.http.get(format!("{base}/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{base} is not ready");
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.http.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    /// Posts a message.
    pub(crate) async fn send(&self, queue: &str, message: &Value) -> Response {
        self.send_to(&format!("/v1/queues/{queue}/messages"), message).await
    }

    /// Sends a POST with a body of JSON.
    pub(crate) async fn send_to(&self, path: &str, body: &Value) -> Response {
        self.http.post(self.url(path)).json(body).send().await.unwrap()
    }

    /// Posts a message, asserts that it is stored as a new message, and returns its location.
    pub(crate) async fn post(&self, queue: &str, message: Value) -> String {
        let answer = self.send(queue, &message).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.headers()["location"].to_str().unwrap().to_owned()
    }

    /// Posts messages in one request, and asserts that they are stored.
    pub(crate) async fn post_batch(&self, queue: &str, messages: impl IntoIterator<Item = Value>) {
        let body = json!({"messages": messages.into_iter().collect::<Vec<_>>()});
        let (status, answer) =
            self.request(Method::POST, &format!("/v1/queues/{queue}/messages/batch"), Some(body)).await;
        assert_eq!(status, 201, "{answer}");
    }

    /// Sends a request, and asserts that it is refused with this status and code, and with a detail that contains `detail`.
    /// Returns the problem.
    pub(crate) async fn refused(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        (status, code, detail): (u16, &str, &str),
    ) -> Value {
        let (actual, problem) = self.request(method, path, body).await;
        assert_eq!((actual, &problem["code"]), (status, &json!(code)), "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{path}: {problem}");
        problem
    }

    /// Sends a request with a body of JSON or without one, and returns the status and the JSON of the answer.
    pub(crate) async fn request(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.request(method, self.url(path));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
    }

    /// Sends a POST without a body.
    pub(crate) async fn post_empty(&self, path: &str) -> (u16, Value) {
        self.request(Method::POST, path, None).await
    }

    pub(crate) async fn patch(&self, queue: &str, settings: Value) -> Value {
        let (status, answer) = self.request(Method::PATCH, &format!("/v1/queues/{queue}"), Some(settings)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Waits until a message has this state.
    pub(crate) async fn wait_for_state(&self, location: &str, state: &str) {
        let started_at = Instant::now();
        loop {
            let message = self.get(location).await;
            if message["state"] == state {
                return;
            }
            assert!(started_at.elapsed() < TIME_LIMIT, "the message is not {state}: {message}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a message has finished, and returns it.
    pub(crate) async fn finished(&self, location: &str) -> Value {
        let message = self.get(&format!("{location}?wait=60s")).await;
        assert!(message["finished_at"].is_string(), "not finished: {message}");
        message
    }

    /// Returns the text of the API's `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        self.http.get(self.url("/metrics")).send().await.unwrap().text().await.unwrap()
    }

    /// Returns the value of a series of the API's metrics; 0 if the series does not exist.
    pub(crate) async fn metric(&self, series: &str) -> u64 {
        metric_in(&self.metrics().await, series)
    }
}

/// Returns the value of a series in the text of `/metrics`; 0 if the series does not exist.
pub(crate) fn metric_in(metrics: &str, series: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Returns a client over plain HTTP. The workspace's reqwest is built with TLS, so even this client needs a provider of
/// cryptography.
pub(crate) fn http_client() -> Client {
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    Client::builder().timeout(Duration::from_secs(90)).build().unwrap()
}

pub(crate) fn start_api(port: &ReservedPort, redis_url: &str, config: &tempfile::NamedTempFile) -> Process {
    let bind = port.address().to_string();
    let env = [("DROVER__REDIS__URL", redis_url), ("DROVER__API__BIND", bind.as_str())];
    Process::start("producer-api", &config_args(config), &env)
}

fn config_args(file: &tempfile::NamedTempFile) -> [&str; 2] {
    ["--config", file.path().to_str().unwrap()]
}

/// Returns milliseconds since 1970 of an instant in the API's format.
pub(crate) fn millis(instant: &Value) -> u64 {
    serde_json::from_value::<queue_core::Timestamp>(instant.clone()).unwrap().as_millis()
}

pub(crate) fn completed() -> Action {
    Action::Complete(serde_json::value::to_raw_value("done").unwrap())
}

pub(crate) fn failed() -> Action {
    Action::FailForGood(queue_core::Failure::new("broken", "it broke"))
}

pub(crate) fn number(n: u64) -> Value {
    json!({"data": n})
}

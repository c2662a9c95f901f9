//! A whole Drover for one test: a Redis of its own, an API, and as many workers as the test wants, with what tests ask of them.

use std::time::Duration;

use drover_tests::{HeldPort, Process, RedisServer, free_port};
use queue_core::{Action, ConsumerId, DeclaredSettings, Delivery, LeaseRequest, Queues, Redis, Settlement};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

/// A Redis, an API, and as many workers as a test wants.
pub(crate) struct System {
    pub(crate) redis: RedisServer,
    /// Where the services find it.
    pub(crate) redis_url: String,
    pub(crate) api: Process,
    pub(crate) api_port: HeldPort,
    pub(crate) base: String,
    pub(crate) config: tempfile::NamedTempFile,
    pub(crate) http: Client,
}

impl System {
    /// With this configuration file for both services.
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_on(RedisServer::start(), config).await
    }

    pub(crate) async fn start_on(redis: RedisServer, config: &str) -> Self {
        let url = redis.url();
        let system = Self::launch(redis, url, config);
        system.until_ready(&system.base).await;
        system
    }

    /// With the services told that Redis is at `redis_url`. The API is started, but may not be ready yet.
    pub(crate) fn launch(redis: RedisServer, redis_url: String, config: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let api_port = HeldPort::take();
        let api = start_api(&api_port, &redis_url, &file);
        let http = http_client();
        let base = format!("http://{}", api_port.address());
        Self { redis, redis_url, api, api_port, base, config: file, http }
    }

    /// Starts the API again, where it was.
    pub(crate) fn relaunch_api(&mut self) {
        self.api = start_api(&self.api_port, &self.redis_url, &self.config);
    }

    /// A worker, ready to work.
    pub(crate) async fn worker(&self) -> Process {
        self.worker_with(&[]).await
    }

    pub(crate) async fn worker_with(&self, extra: &[(&str, &str)]) -> Process {
        let bind = format!("127.0.0.1:{}", free_port());
        let mut env = vec![("DROVER__WORKER__BIND", bind.as_str())];
        env.extend(extra);
        let worker = self.launch_worker(&env);
        self.until_ready(&format!("http://{bind}")).await;
        worker
    }

    /// A worker that may not be ready yet.
    pub(crate) fn launch_worker(&self, extra: &[(&str, &str)]) -> Process {
        let mut env = vec![("DROVER__REDIS__URL", self.redis_url.as_str()), ("DROVER__WORKER__BIND", "127.0.0.1:0")];
        env.extend(extra);
        Process::start("consumer-worker", &config_args(&self.config), &env)
    }

    pub(crate) async fn until_ready(&self, base: &str) {
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

    pub(crate) async fn send(&self, queue: &str, message: &Value) -> Response {
        let body = serde_json::to_vec(message).unwrap();
        let path = self.url(&format!("/v1/queues/{queue}/messages"));
        self.http.post(path).header("content-type", "application/json").body(body).send().await.unwrap()
    }

    /// Posts a message that must be taken, and answers its location.
    pub(crate) async fn post(&self, queue: &str, message: Value) -> String {
        let answer = self.send(queue, &message).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.headers()["location"].to_str().unwrap().to_owned()
    }

    /// Asks for something, with a body of JSON or none at all, and answers the status and the JSON.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.request(method, self.url(path));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
    }

    /// `POST` without a body.
    pub(crate) async fn act(&self, path: &str) -> (u16, Value) {
        self.ask(Method::POST, path, None).await
    }

    pub(crate) async fn patch(&self, queue: &str, settings: Value) -> Value {
        let (status, answer) = self.ask(Method::PATCH, &format!("/v1/queues/{queue}"), Some(settings)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Leases as a consumer does.
    pub(crate) async fn lease(&self, queue: &str, max: usize) -> Vec<Delivery> {
        let consumer = ConsumerId::issue();
        let request = LeaseRequest::new(consumer, max);
        self.queues().queue(&queue.parse().unwrap()).lease(&request).await.unwrap().deliveries
    }

    /// Leases what is ready and settles it all alike; answers how many.
    pub(crate) async fn settle_all(&self, queue: &str, action: Action) -> usize {
        let deliveries = self.lease(queue, 1_000).await;
        let settle = |delivery: &Delivery| Settlement { lease: delivery.lease.clone(), action: action.clone() };
        let settlements: Vec<Settlement> = deliveries.iter().map(settle).collect();
        let settled = self.queues().queue(&queue.parse().unwrap()).settle(&settlements).await.unwrap();
        assert!(settled.iter().all(Option::is_some));
        settled.len()
    }

    pub(crate) async fn finished(&self, location: &str) -> Value {
        let message = self.get(&format!("{location}?wait=60s")).await;
        assert!(message["finished_at"].is_string(), "not finished: {message}");
        message
    }

    pub(crate) fn queues(&self) -> Queues {
        Queues::new(Redis::new(&self.redis.url(), Redis::DEFAULT_TIME_LIMIT).unwrap(), DeclaredSettings::default())
    }

    pub(crate) async fn assert_clean(&self) {
        for name in self.queues().names().await.unwrap() {
            let audit = self.queues().queue(&name).audit().await.unwrap();
            assert_eq!(audit.findings, [], "the audit finds nothing in {name}");
        }
    }
}

/// A client over plain HTTP. The workspace's reqwest is built with TLS all the same, and wants to be told how.
pub(crate) fn http_client() -> Client {
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    Client::builder().timeout(Duration::from_secs(90)).build().unwrap()
}

pub(crate) fn start_api(port: &HeldPort, redis_url: &str, config: &tempfile::NamedTempFile) -> Process {
    let bind = port.address().to_string();
    let env = [("DROVER__REDIS__URL", redis_url), ("DROVER__API__BIND", bind.as_str())];
    Process::start("producer-api", &config_args(config), &env)
}

fn config_args(file: &tempfile::NamedTempFile) -> [&str; 2] {
    ["--config", file.path().to_str().unwrap()]
}

/// Milliseconds since 1970 of an instant as the API writes it.
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

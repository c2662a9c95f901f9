//! A Redis with two APIs and any number of workers for tests of upgrades. Each process runs one of two versions of Drover, and can be
//! replaced by a process of the other version.

use std::time::Duration;

use drover_tests::{Process, RedisServer, ReservedPort, TIME_LIMIT, free_port};
use queue_core::{Queues, Redis, settings::DeclaredSettings};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use crate::versions::Version;

/// The number of APIs.
pub(crate) const API_COUNT: usize = 2;

/// The processes of a test, and an HTTP client for the APIs.
pub(crate) struct Deployment {
    redis: RedisServer,
    config: NamedTempFile,
    ports: [ReservedPort; API_COUNT],
    apis: Vec<Process>,
    workers: Vec<Process>,
    http: Client,
}

impl Deployment {
    /// Starts two APIs and these workers, all of one version, and waits until they are ready.
    pub(crate) async fn start(version: Version, config: &str, worker_count: usize) -> Self {
        let config_file = NamedTempFile::new().unwrap();
        std::fs::write(config_file.path(), config).unwrap();
        let mut deployment = Self {
            redis: RedisServer::start_durable(),
            config: config_file,
            ports: [ReservedPort::reserve(), ReservedPort::reserve()],
            apis: Vec::new(),
            workers: Vec::new(),
            http: http_client(),
        };
        for index in 0..API_COUNT {
            let api = deployment.start_api(index, version).await;
            deployment.apis.push(api);
        }
        for _ in 0..worker_count {
            let worker = deployment.start_worker(version).await;
            deployment.workers.push(worker);
        }
        deployment
    }

    /// Replaces an API by an API of the version `version` at the same address. As with systemd, the old process stops before the new
    /// process starts.
    pub(crate) async fn replace_api(&mut self, index: usize, version: Version) {
        stop(self.apis.remove(index));
        let api = self.start_api(index, version).await;
        self.apis.insert(index, api);
    }

    /// Replaces a worker by a worker of this version. As in Kubernetes, the new process starts before the old process stops.
    pub(crate) async fn replace_worker(&mut self, index: usize, version: Version) {
        let worker = self.start_worker(version).await;
        stop(std::mem::replace(&mut self.workers[index], worker));
    }

    /// Returns the base URLs of the APIs.
    pub(crate) fn urls(&self) -> [String; API_COUNT] {
        self.ports.each_ref().map(|port| format!("http://{}", port.address()))
    }

    pub(crate) fn http(&self) -> Client {
        self.http.clone()
    }

    /// Sends a request to the first API process of the deployment, and returns the status and the JSON of the answer.
    pub(crate) async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.urls()[0]));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.unwrap();
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.request(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Sends a POST, asserts that the status of the answer is a success, and returns the answer.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.request(Method::POST, path, Some(body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// Sends a POST without a body, and asserts that the status of the answer is a success.
    pub(crate) async fn post_empty(&self, path: &str) {
        let (status, answer) = self.request(Method::POST, path, None).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
    }

    /// Waits until all messages of a queue have finished, and returns the status of the queue.
    pub(crate) async fn finished(&self, queue: &str) -> Value {
        let start = Instant::now();
        loop {
            let status = self.get(&format!("/v1/queues/{queue}")).await;
            if ["held", "delayed", "waiting", "active"].iter().all(|state| status["counts"][state] == 0) {
                return status;
            }
            assert!(start.elapsed() < TIME_LIMIT, "{queue} still has messages: {status}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asserts that the audit of each queue finds nothing.
    pub(crate) async fn assert_clean(&self) {
        let redis = Redis::new(&self.redis.url(), Redis::DEFAULT_TIME_LIMIT).unwrap();
        let queues = Queues::new(redis, DeclaredSettings::default());
        for name in queues.names().await.unwrap() {
            let audit = queues.queue(&name).audit().await.unwrap();
            assert_eq!(audit.findings, [], "the audit must find nothing in {name}");
        }
    }

    async fn start_api(&self, index: usize, version: Version) -> Process {
        let bind = self.ports[index].address().to_string();
        self.start_process("producer-api", version, &bind, "DROVER__API__BIND").await
    }

    async fn start_worker(&self, version: Version) -> Process {
        let bind = format!("127.0.0.1:{}", free_port());
        self.start_process("consumer-worker", version, &bind, "DROVER__WORKER__BIND").await
    }

    /// Starts a process and waits until it is ready.
    async fn start_process(&self, name: &str, version: Version, bind: &str, bind_variable: &str) -> Process {
        let args = ["--config", self.config.path().to_str().unwrap()];
        let env = [("DROVER__REDIS__URL", self.redis.url()), (bind_variable, bind.to_owned())];
        let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
        let process =
            Process::start_file(&version.binary(name), &format!("{name} of the version {version:?}"), &args, &env);
        let start = Instant::now();
        loop {
            let answer = self.http.get(format!("http://{bind}/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return process;
            }
            assert!(start.elapsed() < TIME_LIMIT, "{name} of the version {version:?} is not ready");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Stops a process as systemd does, and asserts that it ends gracefully and logged no error.
fn stop(mut process: Process) {
    let status = block_in_place(|| process.terminate());
    assert!(status.success(), "{status}: {:?}", process.log());
    let errors: Vec<String> = process.log().into_iter().filter(|line| line.contains("ERROR")).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Returns a client over plain HTTP. The workspace's reqwest is built with TLS, so even a client that uses only plain HTTP needs a provider
/// of cryptography.
fn http_client() -> Client {
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    Client::builder().timeout(TIME_LIMIT).build().unwrap()
}

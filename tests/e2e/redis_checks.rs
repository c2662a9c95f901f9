//! Tests of the checks of Redis: the API and the worker check the Redis server and its data, at their start and after each outage.

use std::{
    io::{Read, Write, copy},
    net::{TcpListener, TcpStream},
    thread,
};

use drover_tests::{Process, RedisServer, eventually, free_port};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{System, http_client, number};

const NO_PERSISTENCE: &str = "Redis keeps nothing on disk";
const EVICTION_WARNING: &str = "maxmemory-policy is allkeys-lru";
const REPLICA_PROBLEM: &str = "the server is a replica";

/// An API and a worker that use the same Redis, and the URL at which the worker serves `/readyz`.
struct ServicePair {
    system: System,
    worker: Process,
    worker_url: String,
}

impl ServicePair {
    async fn start_on(redis: RedisServer) -> Self {
        let system = System::start_on(redis, "").await;
        let (worker, worker_url) = system.worker_and_url(&[]).await;
        Self { system, worker, worker_url }
    }

    async fn wait_until_ready(&self) {
        for base in [&self.system.base, &self.worker_url] {
            self.system.wait_until_ready(base).await;
        }
    }

    fn logs(&self) -> [Vec<String>; 2] {
        [self.system.api.log(), self.worker.log()]
    }

    /// Returns the answers of the API and the worker to `/readyz`.
    async fn readiness_answers(&self) -> [(StatusCode, Value); 2] {
        let mut answers = Vec::new();
        for base in [&self.system.base, &self.worker_url] {
            let answer = self.system.http.get(format!("{base}/readyz")).send().await.unwrap();
            answers.push((answer.status(), answer.json().await.unwrap()));
        }
        answers.try_into().unwrap()
    }

    /// Waits until each service has logged a line of `level` with `text`, after the line that the previous call found.
    fn wait_for_both_logs(&self, level: &str, text: &str) {
        for process in [&self.system.api, &self.worker] {
            let line = process.wait_for_log(text);
            assert!(line.contains(level), "{line}");
        }
    }

    /// Ends the subscriptions of the services, as a fail-over does. After each new subscription, the services check the role, the version
    /// and the settings of the Redis server.
    fn end_subscriptions(&self) {
        self.system.redis.command("CLIENT KILL TYPE pubsub");
    }

    async fn assert_ready(&self, warnings: &[&str]) {
        for (status, answer) in self.readiness_answers().await {
            assert_eq!((status, &answer["status"]), (StatusCode::OK, &json!("ready")), "{answer}");
            let reported_warnings = answer["warnings"].as_array().map_or(&[][..], Vec::as_slice);
            assert_eq!(reported_warnings.len(), warnings.len(), "{answer}");
            for (reported_warnings, expected) in reported_warnings.iter().zip(warnings) {
                assert!(reported_warnings.as_str().unwrap().contains(expected), "{answer}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_redis_gives_no_warning() {
    let service_pair = ServicePair::start_on(RedisServer::start_durable()).await;
    for answer in service_pair.readiness_answers().await {
        assert_eq!(answer, (StatusCode::OK, json!({"status": "ready", "redis": "server"})));
    }
    for log in service_pair.logs() {
        assert!(!log.iter().any(|line| line.contains("WARN") || line.contains("ERROR")), "{log:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_without_persistence_is_reported_once_by_both_services() {
    let service_pair = ServicePair::start_on(RedisServer::start()).await;
    service_pair.assert_ready(&[NO_PERSISTENCE]).await;
    service_pair.wait_for_both_logs("WARN", NO_PERSISTENCE);
    service_pair.system.redis.command("CONFIG SET maxmemory-policy allkeys-lru");
    service_pair.end_subscriptions();
    service_pair.wait_for_both_logs("WARN", EVICTION_WARNING);
    service_pair.assert_ready(&[EVICTION_WARNING, NO_PERSISTENCE]).await;
    for log in service_pair.logs() {
        let report_count = log.iter().filter(|line| line.contains(NO_PERSISTENCE)).count();
        assert_eq!(report_count, 1, "a known problem is not logged again: {log:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn eviction_policy_that_loses_messages_is_reported_and_its_correction_too() {
    let redis = RedisServer::start_durable();
    redis.command("CONFIG SET maxmemory-policy allkeys-lru");
    let service_pair = ServicePair::start_on(redis).await;
    service_pair.assert_ready(&[EVICTION_WARNING]).await;
    service_pair.wait_for_both_logs("WARN", EVICTION_WARNING);
    service_pair.system.redis.command("CONFIG SET maxmemory-policy noeviction");
    service_pair.end_subscriptions();
    service_pair.wait_for_both_logs("INFO", EVICTION_WARNING);
    service_pair.assert_ready(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_not_ready_while_their_redis_is_a_replica() {
    let service_pair = ServicePair::start_on(RedisServer::start_durable()).await;
    // No server listens on the port of the primary, so the replica has lost its primary.
    service_pair.system.redis.command(&format!("REPLICAOF 127.0.0.1 {}", free_port()));
    service_pair.end_subscriptions();
    service_pair.wait_for_both_logs("ERROR", REPLICA_PROBLEM);
    for (status, problem) in service_pair.readiness_answers().await {
        assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("not_ready")));
        assert!(problem["detail"].as_str().unwrap().contains(REPLICA_PROBLEM), "{problem}");
    }
    // When the replica becomes a primary, the services notice it without a new subscription: a service that is not ready checks the server
    // every second.
    service_pair.system.redis.command("REPLICAOF NO ONE");
    service_pair.wait_for_both_logs("INFO", REPLICA_PROBLEM);
    service_pair.assert_ready(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_checked_again_after_an_outage() {
    let redis = RedisServer::start_durable();
    redis.command("CONFIG SET maxmemory-policy allkeys-lru");
    let mut service_pair = ServicePair::start_on(redis).await;
    service_pair.wait_for_both_logs("WARN", EVICTION_WARNING);
    service_pair.system.redis.kill();
    service_pair.system.redis.restart();
    service_pair.wait_for_both_logs("INFO", EVICTION_WARNING);
    // After Redis has restarted, the first calls of the services may use connections to the killed server and fail.
    service_pair.wait_until_ready().await;
    service_pair.assert_ready(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_on_a_too_old_redis_are_not_ready_and_report_why() {
    const TOO_OLD_LOG_TEXT: &str = "is too old: Drover needs Redis 7.0 or newer";
    let redis = RedisServer::start_durable();
    let url = url_as_redis_6(redis.port());
    for (name, bind_key) in [("producer-api", "DROVER__API__BIND"), ("consumer-worker", "DROVER__WORKER__BIND")] {
        let bind_address = format!("127.0.0.1:{}", free_port());
        let process = Process::start(name, &[], &[("DROVER__REDIS__URL", &url), (bind_key, &bind_address)]);
        let line = process.wait_for_log(TOO_OLD_LOG_TEXT);
        assert!(line.contains("ERROR") && line.contains("Redis 6."), "{line}");
        let answer = crate::http_client().get(format!("http://{bind_address}/readyz")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "not_ready");
        assert!(problem["detail"].as_str().unwrap().contains(TOO_OLD_LOG_TEXT), "{problem}");
        assert_eq!(
            crate::http_client().get(format!("http://{bind_address}/livez")).send().await.unwrap().status(),
            StatusCode::OK
        );
    }
}

/// Returns the URL of a proxy that changes the version in the answers of the server at `port` to Redis 6.
fn url_as_redis_6(port: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let (mut requests, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || copy(&mut requests, &mut to_server));
            thread::spawn(move || pass_answers_as_redis_6(server, client));
        }
    });
    url
}

fn pass_answers_as_redis_6(mut server: TcpStream, mut client: TcpStream) -> std::io::Result<()> {
    const VERSION_FIELD: &[u8] = b"redis_version:";
    let mut buffer = [0; 16 * 1_024];
    loop {
        let read_length = server.read(&mut buffer)?;
        if read_length == 0 {
            return Ok(());
        }
        let answer = &mut buffer[..read_length];
        // The version is in the first bytes of the answer to INFO, so one read contains it.
        if let Some(start) = answer.windows(VERSION_FIELD.len()).position(|bytes| bytes == VERSION_FIELD) {
            answer[start + VERSION_FIELD.len()] = b'6';
        }
        client.write_all(answer)?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_or_wrong_redis_password_is_reported_in_plain_words() {
    let redis = RedisServer::start();
    redis.command("CONFIG SET requirepass right");
    let wrong_url = redis.url().replace("redis://", "redis://:wrong@");
    for (url, expected) in [(redis.url(), "wants a password"), (wrong_url, "refused the user or the password")] {
        let bind_address = format!("127.0.0.1:{}", free_port());
        let api = Process::start(
            "producer-api",
            &[],
            &[("DROVER__REDIS__URL", url.as_str()), ("DROVER__API__BIND", bind_address.as_str())],
        );
        // The line that says that the service listens may be before or after the error about the password.
        let wait_for_log = |text: &str| eventually(text, || api.log().into_iter().find(|line| line.contains(text)));
        wait_for_log("listening");
        let answer =
            http_client().get(format!("http://{bind_address}/readyz")).send().await.unwrap().text().await.unwrap();
        let line = wait_for_log("the subscription to Redis broke");
        assert!(line.contains(expected) && line.contains("redis.url"), "{line}");
        assert!(answer.contains(expected) && !answer.contains("NOAUTH"), "{answer}");
    }
}

#[tokio::test]
async fn worker_stops_with_a_reason_at_a_queue_of_a_newer_layout() {
    let system = System::start("").await;
    system.post("my-queue", number(1)).await;
    system.redis.command("HSET drover:{my-queue}:meta layout 99");
    let url = system.redis.url();
    let env = [("DROVER__REDIS__URL", url.as_str()), ("DROVER__WORKER__BIND", "127.0.0.1:0")];
    let mut worker = Process::start("consumer-worker", &[], &env);
    assert!(!worker.wait().success());
    worker.wait_for_log(
        "queue my-queue has data layout 99; this version of Drover reads layout 3: run the version that wrote it",
    );
}

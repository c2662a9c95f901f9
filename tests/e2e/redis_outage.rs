//! Tests of outages of Redis, which is killed, hangs, comes back empty or closes connections. Posts are refused in time, and producer-api
//! and consumer-worker work again without a restart.

use std::time::{Duration, Instant};

use drover_tests::RedisServer;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{System, number, system::HOURLY_POLLS};

/// The maximum time until a refusal. A call to Redis ends after 1.5 s, and Drover promises a refusal within 2 s. On a busy machine, a
/// refusal takes longer than the promised 2 s, but less time than two calls to Redis one after the other.
pub(crate) const MAX_REFUSAL_TIME: Duration = Duration::from_millis(2_900);
/// The maximum time until everything works again. Drover promises 2 s from the return of Redis until everything works; a busy machine takes
/// longer. A service that waited for a long back-off or a poll (5 s) would take longer than `MAX_RECOVERY_TIME`.
pub(crate) const MAX_RECOVERY_TIME: Duration = Duration::from_millis(4_500);

/// Posts until a message is stored, and waits until the message is completed. Returns the time from the first post until the message is
/// completed.
pub(crate) async fn recovery_time(system: &System) -> Duration {
    let started_at = Instant::now();
    loop {
        let answer = system.send("my-queue", &number(1)).await;
        if answer.status() == StatusCode::CREATED {
            let location = answer.headers()["location"].to_str().unwrap().to_owned();
            assert_eq!(system.finished(&location).await["state"], "completed");
            return started_at.elapsed();
        }
        assert!(started_at.elapsed() < Duration::from_secs(20), "no POST succeeds after the outage");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asserts that a POST is refused in time, with a response that lets the client repeat the POST.
pub(crate) async fn assert_post_refused(system: &System) {
    let started_at = Instant::now();
    let answer = system.send("my-queue", &number(1)).await;
    assert!(started_at.elapsed() < MAX_REFUSAL_TIME, "{:?}", started_at.elapsed());
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "unavailable");
}

/// Asserts that a POST is refused in time, and that the API is alive but not ready.
pub(crate) async fn assert_refused_and_not_ready(system: &System) {
    assert_post_refused(system).await;
    let readiness = system.http.get(system.url("/readyz")).send().await.unwrap();
    assert_eq!(readiness.status(), StatusCode::SERVICE_UNAVAILABLE);
    let liveness = system.http.get(system.url("/livez")).send().await.unwrap();
    assert_eq!(liveness.status(), StatusCode::OK, "an outage of Redis is no reason to restart the API");
}

#[tokio::test]
async fn both_services_work_again_by_themselves_after_redis_was_killed() {
    let mut system = System::start_on(RedisServer::start_durable(), "").await;
    let worker = system.worker_with(&[HOURLY_POLLS]).await;
    let later_location = system.post("my-queue", json!({"data": 1, "delay": "3s"})).await;
    system.redis.kill();
    for _ in 0..3 {
        assert_refused_and_not_ready(&system).await;
    }
    for _ in 0..100 {
        system.send("my-queue", &number(1)).await;
    }
    let report_count = system.api.log().iter().filter(|line| line.contains("requests are refused")).count();
    assert!(
        (1..=2).contains(&report_count),
        "the outage is logged at intervals and not with each request: {report_count} times"
    );
    system.redis.restart();
    let recovery_duration = recovery_time(&system).await;
    assert!(recovery_duration < MAX_RECOVERY_TIME, "{recovery_duration:?}");
    assert_eq!(system.finished(&later_location).await["state"], "completed", "the message from before the outage");
    let errors = worker.log().iter().filter(|line| line.contains("WARN")).count();
    assert!(errors <= 4, "the outage is logged once and not with each try: {:?}", worker.log());
    system.assert_clean().await;
}

#[tokio::test]
async fn both_services_work_again_after_redis_came_back_empty_and_forgot_the_scripts() {
    let mut system = System::start("[queues.my-queue]\nmax_attempts = 7\n").await;
    let _worker = system.worker_with(&[HOURLY_POLLS]).await;
    system.finished(&system.post("my-queue", number(1)).await).await;
    for command in ["SCRIPT FLUSH", "FLUSHALL"] {
        system.redis.command(command);
        assert!(recovery_time(&system).await < MAX_RECOVERY_TIME, "after {command}");
    }
    system.redis.kill();
    system.redis.restart();
    assert!(recovery_time(&system).await < MAX_RECOVERY_TIME, "after an empty restart");
    let status = system.get("/v1/queues/my-queue").await;
    assert_eq!(status["settings"]["max_attempts"], 7, "the declared settings are back: {status}");
    assert_eq!(status["totals"]["enqueued"], 1);
    system.assert_clean().await;
}

#[tokio::test]
async fn no_request_fails_after_redis_closed_idle_connections() {
    let system = System::start("").await;
    for n in 0..6 {
        system.post("q", number(n)).await;
    }
    system.redis.command("CLIENT KILL TYPE normal");
    for n in 6..12 {
        assert_eq!(system.send("q", &number(n)).await.status(), StatusCode::CREATED);
    }
    system.redis.command("CLIENT KILL TYPE normal");
    for _ in 0..2 {
        assert_eq!(system.get("/v1/queues/q").await["totals"]["enqueued"], 12, "no message is stored twice");
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn both_services_work_again_after_redis_hung() {
    let system = System::start("").await;
    let _worker = system.worker_with(&[HOURLY_POLLS]).await;
    system.finished(&system.post("my-queue", number(1)).await).await;
    system.redis.suspend();
    assert_refused_and_not_ready(&system).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    system.redis.resume();
    assert!(recovery_time(&system).await < MAX_RECOVERY_TIME);
    system.assert_clean().await;
}

#[tokio::test]
async fn api_that_started_before_redis_works_when_redis_is_up() {
    let mut redis = RedisServer::start();
    redis.kill();
    let url = redis.url();
    let mut system = System::launch(redis, url, "");
    system.api.wait_for_log("listening");
    system.redis.restart();
    let started_at = Instant::now();
    while system.send("q", &number(1)).await.status() != StatusCode::CREATED {
        assert!(started_at.elapsed() < MAX_RECOVERY_TIME, "no POST succeeds");
    }
}

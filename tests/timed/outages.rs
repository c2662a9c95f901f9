//! Tests of the time until a producer is refused while Redis is down, does not answer or is a replica, and of the time until
//! everything works again.

use std::time::Duration;

use drover_tests::RedisServer;
use reqwest::StatusCode;

use crate::{
    stall_monitor::{StallMonitor, now_millis},
    system::{HOURLY_POLLS, System, number},
};

/// Asserts that a POST is refused within 2 s.
async fn assert_refused(system: &System, monitor: &StallMonitor, why: &str) {
    let requested_at = now_millis();
    let answer = system.send("my-queue", &number(1)).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{why}");
    assert_eq!(answer.headers()["retry-after"], "1");
    monitor.assert_duration_within(Duration::from_secs(2), requested_at, now_millis(), why);
}

/// Asserts that a message is stored and completed within 2 s.
pub(crate) async fn assert_recovers<R>(system: &System<R>, queue: &str, monitor: &StallMonitor, why: &str) {
    let restored_at = now_millis();
    loop {
        let answer = system.send(queue, &number(1)).await;
        if answer.status() == StatusCode::CREATED {
            let location = answer.headers()["location"].to_str().unwrap().to_owned();
            assert_eq!(system.finished(&location).await["state"], "completed");
            break;
        }
        assert!(now_millis() < restored_at + 20_000, "{why}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    monitor.assert_duration_within(Duration::from_secs(2), restored_at, now_millis(), why);
}

#[tokio::test(flavor = "multi_thread")]
async fn post_during_an_outage_of_redis_is_refused_within_two_seconds_and_services_work_again_within_two_seconds() {
    let monitor = StallMonitor::start().await;
    let mut system = System::start_on(RedisServer::start_durable(), "").await;
    let _worker = system.worker_with(&[HOURLY_POLLS]).await;
    for round in 0..3 {
        system.redis.kill();
        assert_refused(&system, &monitor, &format!("Redis is down, round {round}")).await;
        // In the last round Redis stays away so long that the back-off of each client reaches its maximum.
        tokio::time::sleep(Duration::from_secs(round * 2)).await;
        system.redis.restart();
        assert_recovers(&system, "my-queue", &monitor, &format!("Redis is back, round {round}")).await;
    }
    system.redis.suspend();
    for _ in 0..2 {
        assert_refused(&system, &monitor, "Redis does not answer").await;
    }
    system.redis.resume();
    assert_recovers(&system, "my-queue", &monitor, "Redis answers again").await;
    for command in ["SCRIPT FLUSH", "CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub", "FLUSHALL"] {
        system.redis.command(command);
        assert_recovers(&system, "my-queue", &monitor, command).await;
    }
    let primary = RedisServer::start();
    system.redis.command(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
    assert_refused(&system, &monitor, "Redis is a replica").await;
    system.redis.command("REPLICAOF NO ONE");
    assert_recovers(&system, "my-queue", &monitor, "Redis was promoted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn post_that_no_replica_confirms_is_refused_within_two_seconds() {
    let monitor = StallMonitor::start().await;
    let primary = RedisServer::start();
    let replica = RedisServer::start_replica_of(&primary);
    let system = System::start_on(primary, "[durability]\nreplicas = 1").await;
    replica.suspend();
    assert_refused(&system, &monitor, "no replica answers").await;
}

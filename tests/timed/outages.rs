//! Redis that is gone, does not answer, or refuses: how long a producer waits, and how soon all works again.

use std::time::Duration;

use drover_tests::RedisServer;
use reqwest::StatusCode;

use crate::{
    stall_monitor::{StallMonitor, now},
    system::{System, number},
};

/// That a POST is refused within 2 s.
async fn assert_refused(system: &System, machine: &StallMonitor, why: &str) {
    let asked = now();
    let answer = system.send("my-queue", &number(1)).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{why}");
    assert_eq!(answer.headers()["retry-after"], "1");
    machine.assert_within(Duration::from_secs(2), asked, now(), why);
}

/// That a message is taken and completed within 2 s.
async fn assert_works_again(system: &System, machine: &StallMonitor, why: &str) {
    let back = now();
    loop {
        let answer = system.send("my-queue", &number(1)).await;
        if answer.status() == StatusCode::CREATED {
            let location = answer.headers()["location"].to_str().unwrap().to_owned();
            assert_eq!(system.finished(&location).await["state"], "completed");
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    machine.assert_within(Duration::from_secs(2), back, now(), why);
}

#[tokio::test(flavor = "multi_thread")]
async fn post_is_refused_within_two_seconds_and_all_works_again_within_two_seconds() {
    let machine = StallMonitor::watched().await;
    let mut system = System::start_on(RedisServer::start_durable(), "").await;
    let _worker = system.worker_with(&[("DROVER__WORKER__POLL_INTERVAL", "1h")]).await;
    for round in 0..3 {
        system.redis.kill();
        assert_refused(&system, &machine, &format!("Redis is gone, round {round}")).await;
        // Long enough that every pause between tries has grown as far as it does.
        tokio::time::sleep(Duration::from_secs(round * 2)).await;
        system.redis.restart();
        assert_works_again(&system, &machine, &format!("Redis is back, round {round}")).await;
    }
    system.redis.freeze();
    for _ in 0..2 {
        assert_refused(&system, &machine, "Redis does not answer").await;
    }
    system.redis.thaw();
    assert_works_again(&system, &machine, "Redis answers again").await;
    for wreck in ["SCRIPT FLUSH", "CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub", "FLUSHALL"] {
        system.redis.command(wreck);
        assert_works_again(&system, &machine, wreck).await;
    }
    let primary = RedisServer::start();
    system.redis.command(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
    assert_refused(&system, &machine, "Redis is a replica").await;
    system.redis.command("REPLICAOF NO ONE");
    assert_works_again(&system, &machine, "Redis was promoted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn post_that_no_replica_confirms_is_refused_within_two_seconds() {
    let machine = StallMonitor::watched().await;
    let primary = RedisServer::start();
    let replica = RedisServer::start_replica_of(&primary);
    let system = System::start_on(primary, "[durability]\nreplicas = 1").await;
    replica.freeze();
    assert_refused(&system, &machine, "no replica answers").await;
}

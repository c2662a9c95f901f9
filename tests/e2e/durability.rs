use std::time::{Duration, Instant};

use drover_tests::{RedisServer, eventually};
use serde_json::Value;

use crate::{System, number, outage::REFUSED_WITHIN};

/// A system whose messages count as stored when a replica has them, and that replica.
async fn with_replica() -> (System, RedisServer) {
    let primary = RedisServer::start();
    let replica = RedisServer::start_replica_of(&primary);
    primary.command("SET probe 1");
    // Until its first word of how far it is, a new replica does not count.
    let has_told = |line: &str| line.starts_with("slave0:") && !line.contains("offset=0,");
    eventually("the replica is in step", || primary.command("INFO replication").lines().any(has_told).then_some(()));
    (System::start_on(primary, "[durability]\nreplicas = 1").await, replica)
}

#[tokio::test]
async fn a_message_is_answered_2xx_only_when_the_replicas_have_it() {
    let (system, replica) = with_replica().await;
    for n in 1..=20 {
        system.post("q", number(n)).await;
        assert_eq!(replica.command("HLEN drover:{q}:messages"), format!(":{n}"), "it was there before the answer");
    }
    replica.freeze();
    let start = Instant::now();
    let unconfirmed = system.send("q", &number(21)).await;
    assert_eq!(unconfirmed.status(), 503);
    assert_eq!(unconfirmed.headers()["retry-after"], "1");
    assert_eq!(unconfirmed.json::<Value>().await.unwrap()["code"], "unavailable");
    assert!(start.elapsed() < REFUSED_WITHIN);
    // Reading and draining wait for no replica.
    let start = Instant::now();
    let waiting = number(22);
    let (_, queue) = tokio::join!(system.send("q", &waiting), system.get("/v1/queues/q"));
    assert!(queue["counts"]["waiting"].as_u64() >= Some(21), "{queue}");
    let _worker = system.worker().await;
    assert!(start.elapsed() < Duration::from_secs(10));
    replica.thaw();
    system.post("q", number(23)).await;
    system.assert_clean().await;
}

#[tokio::test]
async fn no_post_fails_after_redis_closed_the_idle_connection_that_waits_for_replicas() {
    let (system, replica) = with_replica().await;
    for n in 1..=10 {
        system.post("q", number(n)).await;
        assert_eq!(replica.command("HLEN drover:{q}:messages"), format!(":{n}"), "stored once, and confirmed");
        system.redis.command("CLIENT KILL TYPE normal");
    }
    system.assert_clean().await;
}

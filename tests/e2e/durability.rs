//! Messages that count as stored when replicas have them.

use std::time::{Duration, Instant};

use drover_tests::{PATIENCE, RedisServer, eventually};
use serde_json::Value;
use tokio::time::sleep;

use crate::{System, number, redis_outage::REFUSED_WITHIN};

/// A system whose messages count as stored when a replica has them, and that replica.
async fn with_replica() -> (System, RedisServer) {
    let primary = RedisServer::start();
    let replica = RedisServer::start_replica_of(&primary);
    primary.command("SET probe 1");
    // Until its first word of how far it is, a new replica does not count.
    let has_told = |line: &str| line.starts_with("slave0:") && !line.contains("offset=0,");
    eventually("the replica is in step", || primary.command("INFO replication").lines().any(has_told).then_some(()));
    let route = "[[worker.routes]]\nqueue = \"q\"\nhandler = { type = \"log\" }\n";
    (System::start_on(primary, &format!("[durability]\nreplicas = 1\n{route}")).await, replica)
}

#[tokio::test]
async fn a_message_is_answered_2xx_only_when_the_replicas_have_it() {
    let (system, replica) = with_replica().await;
    let first = system.post("q", number(1)).await;
    for n in 2..=20 {
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
    // Reading and draining wait for no replica: what is asked while a post waits is answered before that wait is over.
    let waiting = number(22);
    let is_waiting = || system.redis.command("CLIENT LIST").contains(" cmd=wait ");
    let start = Instant::now();
    loop {
        let (_, read_meanwhile) = tokio::join!(system.send("q", &waiting), async {
            while !is_waiting() {
                assert!(start.elapsed() < PATIENCE, "no post waits for the replica");
                sleep(Duration::from_millis(1)).await;
            }
            let queue = system.get("/v1/queues/q").await;
            assert!(queue["counts"]["waiting"].as_u64() >= Some(21), "{queue}");
            is_waiting()
        });
        // On a busy machine the wait, 750 ms, may be over by chance.
        if read_meanwhile {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "each read waited for the replica");
    }
    let _worker = system.worker().await;
    assert_eq!(system.finished(&first).await["state"], "completed", "no replica has its end");
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

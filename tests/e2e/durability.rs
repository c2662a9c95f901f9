//! Tests of `durability.replicas`: a message counts as stored when the replicas have the message.

use std::time::{Duration, Instant};

use drover_tests::{RedisServer, TIME_LIMIT, eventually};
use serde_json::Value;
use tokio::time::sleep;

use crate::{System, number, redis_outage::MAX_REFUSAL_TIME};

/// Starts a system with `durability.replicas = 1`, and its replica.
async fn start_with_replica() -> (System, RedisServer) {
    let primary = RedisServer::start();
    let replica = RedisServer::start_replica_of(&primary);
    primary.command("SET probe 1");
    eventually("the replica confirms writes", || (primary.confirming_replicas() == 1).then_some(()));
    let route = "[[worker.routes]]\nqueue = \"q\"\nhandler = { type = \"log\" }\n";
    (System::start_on(primary, &format!("[durability]\nreplicas = 1\n{route}")).await, replica)
}

#[tokio::test]
async fn a_post_is_answered_2xx_only_when_the_replicas_have_its_message() {
    let (system, replica) = start_with_replica().await;
    let first_location = system.post("q", number(1)).await;
    for n in 2..=20 {
        system.post("q", number(n)).await;
        assert_eq!(
            replica.command("HLEN drover:{q}:messages"),
            format!(":{n}"),
            "the replica has the message before the answer"
        );
    }
    replica.suspend();
    let started_at = Instant::now();
    let unconfirmed_answer = system.send("q", &number(21)).await;
    assert_eq!(unconfirmed_answer.status(), 503);
    assert_eq!(unconfirmed_answer.headers()["retry-after"], "1");
    assert_eq!(unconfirmed_answer.json::<Value>().await.unwrap()["code"], "unavailable");
    assert!(started_at.elapsed() < MAX_REFUSAL_TIME);
    // Reads and leases do not wait for a replica: a read is answered while a POST waits for the replica.
    let waiting_message = number(22);
    let is_waiting = || system.redis.command("CLIENT LIST").contains(" cmd=wait ");
    let started_at = Instant::now();
    loop {
        let (_, read_meanwhile) = tokio::join!(system.send("q", &waiting_message), async {
            while !is_waiting() {
                assert!(started_at.elapsed() < TIME_LIMIT, "no POST waits for the replica");
                sleep(Duration::from_millis(1)).await;
            }
            let queue = system.get("/v1/queues/q").await;
            assert!(queue["counts"]["waiting"].as_u64() >= Some(21), "{queue}");
            is_waiting()
        });
        // The POST waits for the replica for 750 ms (half of `redis.timeout`); on a busy machine this wait may be over already.
        if read_meanwhile {
            break;
        }
        assert!(started_at.elapsed() < TIME_LIMIT, "each read waited for the replica");
    }
    let _worker = system.worker().await;
    assert_eq!(
        system.finished(&first_location).await["state"],
        "completed",
        "the completion does not wait for a replica"
    );
    replica.resume();
    system.post("q", number(23)).await;
    system.assert_clean().await;
}

#[tokio::test]
async fn no_post_fails_after_redis_closed_the_idle_connection_that_waits_for_replicas() {
    let (system, replica) = start_with_replica().await;
    for n in 1..=10 {
        system.post("q", number(n)).await;
        assert_eq!(
            replica.command("HLEN drover:{q}:messages"),
            format!(":{n}"),
            "the message is stored once and confirmed"
        );
        system.redis.command("CLIENT KILL TYPE normal");
    }
    system.assert_clean().await;
}

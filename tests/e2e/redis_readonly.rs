//! Tests of a Redis that answers but refuses writes, because Redis is full or a replica.

use drover_tests::RedisServer;
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    System, number,
    redis_outage::{MAX_RECOVERY_TIME, assert_post_refused, recovery_time},
    system::HOURLY_POLLS,
};

fn used_memory(redis: &RedisServer) -> u64 {
    let memory_info = redis.command("INFO memory");
    memory_info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
}

async fn assert_refused_for_lack_of_memory(answer: reqwest::Response) {
    assert_eq!(answer.status(), StatusCode::INSUFFICIENT_STORAGE);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "out_of_memory");
}

#[tokio::test]
async fn full_redis_refuses_whole_messages_and_is_drained_by_a_new_worker() {
    let system = System::start("").await;
    let large_text = "x".repeat(60_000);
    system.post("my-queue", json!({"id": "first", "data": large_text})).await;
    system.redis.command("CONFIG SET maxmemory-policy noeviction");
    let memory_limit = used_memory(&system.redis) + 6_000_000;
    system.redis.command(&format!("CONFIG SET maxmemory {memory_limit}"));

    // Four clients post until each was refused five times. Around the memory limit, some messages are stored and some messages
    // are refused.
    let (system, large_text) = (&system, &large_text);
    let posting_clients = (0..4).map(async |client| {
        let (mut stored_ids, mut refused_ids) = (Vec::new(), Vec::new());
        while refused_ids.len() < 5 {
            let id = format!("c{client}-{}", stored_ids.len() + refused_ids.len());
            let answer = system.send("my-queue", &json!({"id": id, "data": large_text, "delay": 50})).await;
            if answer.status() == StatusCode::CREATED {
                stored_ids.push(id);
            } else {
                assert_refused_for_lack_of_memory(answer).await;
                refused_ids.push(id);
            }
        }
        (stored_ids, refused_ids)
    });
    let (stored_ids, refused_ids): (Vec<_>, Vec<_>) = join_all(posting_clients).await.into_iter().unzip();
    let stored_ids: Vec<String> = stored_ids.into_iter().flatten().chain(["first".into()]).collect();
    assert!(stored_ids.len() > 20, "there was room for {} messages", stored_ids.len());
    // With `maxmemory 1`, Redis may use less memory than it already uses, so Redis refuses every write.
    system.redis.command("CONFIG SET maxmemory 1");
    // A batch and the first message of a queue need more than one write.
    let batch: Vec<Value> = (0..10).map(|n| json!({"id": format!("b-{n}"), "data": n})).collect();
    let answer = system.send_to("/v1/queues/my-queue/messages/batch", &json!({"messages": batch})).await;
    assert_refused_for_lack_of_memory(answer).await;
    assert_refused_for_lack_of_memory(system.send("other", &number(1)).await).await;

    let refused_ids = refused_ids.into_iter().flatten().chain((0..10).map(|n| format!("b-{n}")));
    for id in refused_ids {
        let found_message = system.get(&format!("/v1/queues/my-queue/messages/{id}")).await;
        assert_eq!(found_message["code"], "message_not_found", "{id} was refused and is not stored: {found_message}");
    }
    assert_eq!(system.get("/v1/queues/other").await["code"], "queue_not_found");
    assert_eq!(system.get("/v1/queues").await["queues"].as_array().unwrap().len(), 1);
    let queue_status = system.get("/v1/queues/my-queue").await;
    assert_eq!(queue_status["totals"]["enqueued"], stored_ids.len(), "each message that was answered 201 is counted");
    system.assert_clean().await;

    let _worker = system.worker_with(&[HOURLY_POLLS]).await;
    for id in &stored_ids {
        let message = system.finished(&format!("/v1/queues/my-queue/messages/{id}")).await;
        assert_eq!((&message["state"], &message["deliveries"]), (&json!("completed"), &json!(1)));
    }
    assert_refused_for_lack_of_memory(system.send("my-queue", &number(1)).await).await;
    let queue_status = system.get("/v1/queues/my-queue").await;
    assert_eq!(
        queue_status["totals"]["completed"],
        stored_ids.len(),
        "the worker drains the queue while Redis is full"
    );
    system.assert_clean().await;

    system.redis.command("CONFIG SET maxmemory 0");
    assert!(recovery_time(system).await < MAX_RECOVERY_TIME);
    system.assert_clean().await;
}

#[tokio::test]
async fn services_on_a_replica_refuse_posts_and_work_again_after_its_promotion() {
    let primary = RedisServer::start();
    let replica = RedisServer::start_replica_of(&primary);
    let url = replica.url();
    let system = System::launch(replica, url, "[queues.my-queue]\nmax_attempts = 7\n");
    let _worker = system.launch_worker(&[HOURLY_POLLS]);
    system.api.wait_for_log("listening");
    for _ in 0..3 {
        assert_post_refused(&system).await;
    }
    system.redis.command("REPLICAOF NO ONE");
    let recovery_duration = recovery_time(&system).await;
    assert!(recovery_duration < MAX_RECOVERY_TIME, "{recovery_duration:?} after the promotion");

    // The server becomes a replica of an empty primary while the services work, and loses its data; afterwards the test
    // promotes the server again.
    system.redis.command(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
    for _ in 0..3 {
        assert_post_refused(&system).await;
    }
    system.redis.command("REPLICAOF NO ONE");
    let recovery_duration = recovery_time(&system).await;
    assert!(recovery_duration < MAX_RECOVERY_TIME, "{recovery_duration:?} after the second promotion");
    assert_eq!(
        system.get("/v1/queues/my-queue").await["settings"]["max_attempts"],
        7,
        "the declared settings are back"
    );
    system.assert_clean().await;
}

#[tokio::test]
async fn api_on_a_replica_is_alive_but_not_ready() {
    let primary = RedisServer::start();
    let system = System::start("").await;
    let _worker = system.worker_with(&[HOURLY_POLLS]).await;
    system.redis.command(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
    assert_post_refused(&system).await;
    let readiness = system.http.get(system.url("/readyz")).send().await.unwrap();
    assert_eq!(readiness.status(), StatusCode::SERVICE_UNAVAILABLE, "a replica does no work");
    let liveness = system.http.get(system.url("/livez")).send().await.unwrap();
    assert_eq!(liveness.status(), StatusCode::OK, "an outage is no reason to restart the API");
    system.redis.command("REPLICAOF NO ONE");
    system.wait_until_ready(&system.base).await;
    assert!(recovery_time(&system).await < MAX_RECOVERY_TIME);
    system.assert_clean().await;
}

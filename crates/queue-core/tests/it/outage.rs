//! Tests of outages: Redis is down, has forgotten the scripts, or was emptied.

use std::time::{Duration, Instant};

use drover_tests::RedisServer;
use queue_core::Error;

use crate::{TIME_LIMIT, TestQueue, completion, connect, numbered_message, numbers};

#[tokio::test]
async fn scripts_that_redis_forgot_are_sent_again() {
    let fixture = TestQueue::new();
    for round in 0..3 {
        fixture.post(numbered_message(round)).await;
        fixture.redis.command("SCRIPT FLUSH");
        let delivery = fixture.lease_one().await;
        fixture.redis.command("SCRIPT FLUSH");
        fixture.settle(&delivery, completion()).await;
        fixture.redis.command("SCRIPT FLUSH");
    }
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.completed, 3);
}

#[tokio::test]
async fn emptied_redis_gets_the_declared_settings_again() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":"5s","max_attempts":7}"#);
    fixture.post(numbered_message(1)).await;
    fixture.redis.command("FLUSHALL");
    let lease_reply = fixture.queue.lease(&fixture.request(1)).await;
    assert!(matches!(lease_reply, Err(Error::NoSuchQueue)), "a consumer creates no queue: {lease_reply:?}");
    fixture.post(numbered_message(2)).await;
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert_eq!((status.settings.visibility_timeout.get(), *status.settings.max_attempts), (5_000, 7));
    assert_eq!(fixture.queues.names().await.unwrap().len(), 1, "the index names the queue again");
    assert_eq!(numbers(&fixture.lease(10).await), [2]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn calls_fail_in_time_while_redis_is_down_and_work_after_its_restart() {
    let mut fixture = TestQueue::with_redis_server(RedisServer::start_durable(), "{}");
    fixture.post_numbers(0..3).await;
    let lease_reply = fixture.lease(1).await;
    fixture.redis.kill();
    let start = Instant::now();
    assert!(matches!(fixture.queue.enqueue(vec![numbered_message(9)]).await, Err(Error::Unavailable(_))));
    assert!(matches!(fixture.queue.lease(&fixture.request(1)).await, Err(Error::Unavailable(_))));
    assert!(start.elapsed() < Duration::from_secs(2));
    fixture.redis.restart();
    fixture.complete(&lease_reply.deliveries[0]).await;
    assert_eq!(numbers(&fixture.lease(10).await), [1, 2]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn calls_fail_in_time_while_redis_does_not_answer() {
    let fixture = TestQueue::new();
    fixture.post_numbers(0..3).await;
    fixture.redis.suspend();
    // The calls begin one after the other, so that some begin while others time out or connect.
    let calls = (0..60).map(async |n| {
        tokio::time::sleep(Duration::from_millis(n * 50)).await;
        let start = Instant::now();
        (fixture.queue.enqueue(vec![numbered_message(9)]).await, start.elapsed())
    });
    for (answer, took) in futures_util::future::join_all(calls).await {
        assert!(matches!(answer, Err(Error::Unavailable(_))));
        // During the outage, a post fails after the time limit of one call, not after twice this limit.
        assert!(took < TIME_LIMIT * 2, "{took:?}");
    }
    fixture.redis.resume();
    assert!(fixture.queue.status().await.unwrap().is_some());
    fixture.assert_clean().await;
}

#[tokio::test]
async fn leases_whose_reply_was_lost_are_undone() {
    let fixture = TestQueue::new();
    // Many other leases are live, so that the search for the lost leases takes more than one step.
    for _ in 0..3 {
        fixture.post_numbers(100..1_000).await;
        assert_eq!(fixture.lease(1_000).await.deliveries.len(), 900);
    }
    fixture.post_numbers(0..5).await;
    fixture.queue.status().await.unwrap();
    // Redis executes the lease call after a pause of 300 ms. The test abandons the lease call after 100 ms, so the
    // reply is lost.
    fixture.redis.command("CLIENT PAUSE 300 WRITE");
    let abandoned_call =
        tokio::time::timeout(Duration::from_millis(100), fixture.queue.lease(&fixture.request(3))).await;
    assert!(abandoned_call.is_err());
    tokio::time::sleep(Duration::from_millis(400)).await;
    let second_lease_reply = fixture.lease(5).await;
    assert_eq!(numbers(&second_lease_reply), [0, 1, 2, 3, 4]);
    assert_eq!(second_lease_reply.deliveries[0].message.lapses, 0);
    assert_eq!(
        second_lease_reply.deliveries[0].message.deliveries, 1,
        "a message that no consumer received does not count as delivered"
    );
    fixture.assert_clean().await;
}

#[tokio::test]
async fn queue_with_a_newer_data_layout_is_refused_with_a_clear_error() {
    let fixture = TestQueue::new();
    fixture.post(numbered_message(1)).await;
    fixture.redis.command("HSET drover:{q}:meta layout 99");
    let new_process = connect(&fixture.redis, "{}");
    let error = new_process.queue(&crate::queue_name()).enqueue(vec![numbered_message(2)]).await.unwrap_err();
    assert!(matches!(&error, Error::OtherLayout { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn queue_of_a_new_data_layout_is_not_changed_by_processes_that_know_only_the_old_layout() {
    let fixture = TestQueue::new();
    let posted_message = fixture.post(numbered_message(1)).await;
    let delivery = fixture.lease_one().await;
    fixture.redis.command("HSET drover:{q}:meta layout 99");
    let meta_before = fixture.redis.command("HGETALL drover:{q}:meta");
    let queue = &fixture.queue;
    let settlement = queue_core::Settlement { lease: delivery.lease.clone(), action: crate::completion() };
    for refused in [
        queue.enqueue(vec![numbered_message(2)]).await.err(),
        queue.lease(&fixture.request(1)).await.err(),
        queue.settle(&[settlement]).await.err(),
        queue.extend(std::slice::from_ref(&delivery.lease), None).await.err(),
        queue.maintain().await.err(),
        queue.cancel(&posted_message.id).await.err(),
        queue.purge(queue_core::State::Waiting).await.err(),
        queue.retry_failed().await.err(),
        queue.delete().await.err(),
    ] {
        assert!(matches!(refused, None | Some(Error::OtherLayout { found: 99, .. })), "{refused:?}");
    }
    assert_eq!(fixture.redis.command("HGETALL drover:{q}:meta"), meta_before);
    assert_eq!(fixture.redis.command("ZCARD drover:{q}:leased"), ":1");
}

//! Tests of connections that Redis closes while they are idle, and of answers that are lost.

use std::time::Duration;

use drover_tests::{Proxy, eventually};
use queue_core::{Enqueued, Error, Queues, Redis, State, settings::DeclaredSettings};

use crate::{TestQueue, completion, numbered_message, numbers, queue_name, wait_millis};

/// Asserts that no call fails after `close` has closed the idle connections. A process uses its two shared connections in turn,
/// so two calls after each closing use both connections.
pub(crate) async fn no_call_fails(fixture: &TestQueue, close: impl AsyncFn()) {
    for round in 0..5 {
        for half in 0..2 {
            let first_number = 4 * round + 2 * half;
            close().await;
            for number in [first_number, first_number + 1] {
                let enqueue_outcomes = if half == 0 {
                    fixture.queue.post(numbered_message(number)).await
                } else {
                    fixture.queue.enqueue(vec![numbered_message(number)]).await.map(|mut all| all.remove(0))
                };
                let Ok(Enqueued::Created(message)) = enqueue_outcomes else {
                    panic!("message {number}: {enqueue_outcomes:?}")
                };
                assert_eq!(message.data.get(), number.to_string());
            }
        }
        close().await;
        let (first, second) = (fixture.lease(2).await, fixture.lease(2).await);
        assert_eq!([numbers(&first), numbers(&second)].concat(), (4 * round..4 * round + 4).collect::<Vec<_>>());
        let leases: Vec<_> = first.deliveries.into_iter().chain(second.deliveries).collect();
        close().await;
        for delivery in &leases[..2] {
            assert_eq!(fixture.read(&delivery.message.id).await.state, State::Active);
        }
        close().await;
        for delivery in &leases[..2] {
            fixture.queue.extend(std::slice::from_ref(&delivery.lease), None).await.unwrap();
        }
        close().await;
        for delivery in &leases {
            assert_eq!(fixture.settle(delivery, completion()).await, Some(State::Completed));
        }
        close().await;
        for _ in 0..2 {
            fixture.queues.redis().ping().await.unwrap();
        }
    }
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert_eq!((status.totals.enqueued, status.counts.completed), (20, 20), "no message is stored twice");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn no_call_fails_after_redis_closed_idle_connections_and_the_runtime_has_not_seen_it() {
    let fixture = TestQueue::new();
    // `RedisServer::command` blocks the only thread of the runtime. The runtime therefore does not notice that Redis closed
    // the connections before the next call is sent.
    let close_connections = async || {
        fixture.redis.command("CLIENT KILL TYPE normal");
    };
    no_call_fails(&fixture, close_connections).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_after_redis_closed_idle_connections_and_the_runtime_has_seen_it() {
    let fixture = TestQueue::new();
    let close_connections = async || {
        fixture.redis.command("CLIENT KILL TYPE normal");
        wait_millis(2).await;
    };
    no_call_fails(&fixture, close_connections).await;
}

#[tokio::test]
async fn no_call_fails_after_redis_closed_connections_for_their_idleness() {
    let fixture = TestQueue::new();
    fixture.post_numbers(0..2).await;
    fixture.redis.command("CONFIG SET timeout 1");
    for n in 2..4 {
        eventually("all connections are closed", || {
            let clients = fixture.redis.command("CLIENT LIST TYPE normal");
            (clients.lines().filter(|line| line.starts_with("id=")).count() == 1).then_some(())
        });
        fixture.post_numbers([n]).await;
        fixture.post(numbered_message(n + 2)).await;
    }
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().totals.enqueued, 6);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn a_new_connection_sends_no_command_that_needs_another_right() {
    let fixture = TestQueue::new();
    fixture.redis.command("CONFIG RESETSTAT");
    Redis::new(&fixture.redis.url(), Duration::from_secs(10)).unwrap().ping().await.unwrap();
    let (commands, errors) = (fixture.redis.command("INFO commandstats"), fixture.redis.command("INFO errorstats"));
    assert!(!commands.contains("cmdstat_client"), "the server knows the name of the client library: {commands}");
    assert!(!errors.contains("errorstat_ERR"), "the server knows no such command: {errors}");
}

#[tokio::test]
async fn many_calls_that_meet_a_closed_connection_at_once_are_all_sent_over_a_new_connection() {
    let fixture = TestQueue::new();
    for round in 0..20 {
        fixture.redis.command("CLIENT KILL TYPE normal");
        let calls = (0..100).map(|n| fixture.queue.enqueue(vec![numbered_message(100 * round + n)]));
        for answer in futures_util::future::join_all(calls).await {
            assert!(answer.is_ok(), "{answer:?}");
        }
    }
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().totals.enqueued, 2_000);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn sent_call_is_not_repeated_when_its_reply_is_lost() {
    let fixture = TestQueue::new();
    let proxy = Proxy::start(fixture.redis.port());
    let redis = Redis::new(&proxy.url(), Duration::from_secs(10)).unwrap();
    let queue = Queues::new(redis, DeclaredSettings::default()).queue(&queue_name());
    for round in 0..10 {
        // Two calls of `status` open the two connections of this process to Redis, and `enqueue` declares the queue.
        for _ in 0..2 {
            queue.status().await.unwrap();
        }
        queue.enqueue(vec![numbered_message(2 * round)]).await.unwrap();
        proxy.lose_answer_to("EVALSHA");
        let lost_post = queue.enqueue(vec![numbered_message(2 * round + 1)]).await;
        assert!(matches!(lost_post, Err(Error::Unavailable(_))), "{lost_post:?}");
    }
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert_eq!(status.totals.enqueued, 20, "each message is stored once, also if its answer was lost");
    fixture.assert_clean().await;
}

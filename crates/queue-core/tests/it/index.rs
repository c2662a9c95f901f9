//! Tests of the creation and deletion of queues, and of the index of their names, which is in another cluster slot.

use std::{sync::Arc, time::Duration};

use drover_tests::{Proxy, RedisServer};
use queue_core::{
    ConsumerId, Error, LeaseRequest, LongPoll, Maintenance, Millis, Queue, QueueName, Queues, Redis, Signal,
    settings::{DeclaredSettings, QueuePattern},
    wakeup::Subscriber,
};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{TestQueue, connect, numbered_message, queue_name, wait_millis};

/// Another process, whose requests to Redis and their answers are delayed.
struct SlowProcess {
    queues: Queues,
    _proxy: Proxy,
}

fn slow_process(redis: &RedisServer, latency: Duration) -> SlowProcess {
    let proxy = Proxy::start(redis.port());
    proxy.slow(latency);
    let queues = Queues::new(Redis::new(&proxy.url(), Duration::from_secs(5)).unwrap(), DeclaredSettings::default());
    SlowProcess { queues, _proxy: proxy }
}

fn start_subscriber(queues: &Queues) -> Subscriber {
    let subscriber = Subscriber::for_all_queues(queues.redis().clone());
    let running_subscriber = subscriber.clone();
    tokio::spawn(async move { running_subscriber.run(CancellationToken::new()).await });
    subscriber
}

fn run_maintenance(queues: &Queues) {
    let pause_between_calls = Duration::from_millis(100);
    let mut maintenance = Maintenance::new(queues.clone(), start_subscriber(queues)).unwrap();
    (maintenance.check_all_every, maintenance.keep_name_without_queue_for) = (pause_between_calls, pause_between_calls);
    maintenance.scan_for_unlisted_every = pause_between_calls;
    tokio::spawn(maintenance.run(CancellationToken::new()));
}

fn request() -> LeaseRequest {
    LeaseRequest::new(ConsumerId::issue(), 1)
}

async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if holds().await {
            return;
        }
        wait_millis(10).await;
    }
    panic!("{what}: not within 20 s");
}

async fn is_listed(queues: &Queues, queue: &QueueName) -> bool {
    queues.names().await.unwrap().contains(queue)
}

#[tokio::test]
async fn only_posts_settings_and_sticky_signals_create_a_queue() {
    let fixture = TestQueue::new();
    let long_poll = LongPoll::new(start_subscriber(&fixture.queues), CancellationToken::new());
    let queue = &fixture.queue;
    let key = "k".parse().unwrap();
    assert!(matches!(queue.lease(&request()).await, Err(Error::NoSuchQueue)));
    assert!(matches!(queue.maintain().await, Err(Error::NoSuchQueue)));
    assert!(matches!(queue.pause().await, Err(Error::NoSuchQueue)));
    assert!(matches!(queue.resume().await, Err(Error::NoSuchQueue)));
    assert!(matches!(queue.configure(&json!({})).await, Err(Error::NoSuchQueue)));
    assert!(queue.configure(&json!({"max_attempts": 0})).await.is_err(), "an invalid patch creates no queue");
    assert_eq!(queue.signal(&key, &Signal::default()).await.unwrap().released, 0);
    assert!(queue.listen().await.unwrap().is_none());
    assert!(long_poll.receive(queue, request(), Millis::new(50)).await.unwrap().is_empty());
    assert!(!queue.delete().await.unwrap());
    assert_eq!(fixture.redis.command("DBSIZE"), ":0");

    let sticky_signal = Signal { sticky_for: Some(Millis::from_secs(1).try_into().unwrap()), ..Signal::default() };
    assert_eq!(queue.signal(&key, &sticky_signal).await.unwrap().released, 0);
    assert!(is_listed(&fixture.queues, &queue_name()).await);
    assert!(queue.delete().await.unwrap());
    queue.configure(&json!({"max_attempts": 9})).await.unwrap();
    assert!(is_listed(&fixture.queues, &queue_name()).await);
    assert!(queue.delete().await.unwrap());
    assert_eq!(fixture.redis.command("DBSIZE"), ":0");
}

#[tokio::test]
async fn a_process_learns_with_one_call_that_a_queue_exists() {
    let fixture = TestQueue::new();
    fixture.post(numbered_message(1)).await;
    let other_queue = connect(&fixture.redis, "{}").queue(&queue_name());
    fixture.redis.command("CONFIG RESETSTAT");
    other_queue.enqueue(vec![numbered_message(2)]).await.unwrap();
    let stats = fixture.redis.command("INFO commandstats");
    assert!(stats.contains("cmdstat_evalsha:calls=2,"), "declare and enqueue: {stats}");
    assert!(!stats.contains("cmdstat_zscore"), "the index is not read: {stats}");
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.waiting, 2);
}

#[tokio::test]
async fn long_poll_waits_until_its_queue_is_created() {
    let fixture = TestQueue::new();
    let long_poll = LongPoll::new(start_subscriber(&fixture.queues), CancellationToken::new());
    let long_poll_answer = long_poll.receive(&fixture.queue, request(), Millis::from_secs(20));
    let (received, posted) = tokio::join!(long_poll_answer, async {
        wait_millis(50).await;
        fixture.post(numbered_message(7)).await
    });
    assert_eq!(received.unwrap()[0].message.id, posted.id);
}

#[tokio::test]
async fn a_deleted_queue_stays_deleted_though_consumers_wait_at_it() {
    let fixture = TestQueue::new();
    let long_poll = LongPoll::new(start_subscriber(&fixture.queues), CancellationToken::new());
    for n in 0..100 {
        fixture.post(numbered_message(n)).await;
        let polls = (0..3).map(|_| {
            let (long_poll, queue) = (long_poll.clone(), Arc::clone(&fixture.queue));
            tokio::spawn(async move { long_poll.receive(&queue, request(), Millis::new(60)).await })
        });
        let polls: Vec<_> = polls.collect();
        wait_millis(n % 7).await;
        assert!(fixture.queue.delete().await.unwrap());
        for poll in polls {
            poll.await.unwrap().unwrap();
        }
        assert_eq!(fixture.redis.command("DBSIZE"), ":0", "round {n}");
    }
}

#[tokio::test]
async fn a_queue_with_messages_is_listed_whatever_races_with_its_deletion() {
    let fixture = TestQueue::new();
    // One process is slow, so that the other process acts between its steps.
    let slow_process = slow_process(&fixture.redis, Duration::from_millis(3));
    for round in 0..120_u64 {
        let name: QueueName = format!("c{round}").parse().unwrap();
        let (here, there) = (fixture.queues.queue(&name), slow_process.queues.queue(&name));
        let (remover, poster) = if round % 2 == 0 { (&there, &here) } else { (&here, &there) };
        here.enqueue(vec![numbered_message(0)]).await.unwrap();
        let post_task = async {
            wait_millis(round % 40).await;
            poster.enqueue(vec![numbered_message(1)]).await.unwrap();
        };
        let (deleted, ()) = tokio::join!(remover.delete(), post_task);
        deleted.unwrap();
        let exists = here.status().await.unwrap().is_some();
        assert!(
            !exists || is_listed(&fixture.queues, &name).await,
            "round {round}: the queue exists and is not listed"
        );
    }
}

#[tokio::test]
async fn posts_that_race_with_deletions_are_stored() {
    let fixture = TestQueue::new();
    let other_queue = connect(&fixture.redis, "{}");
    let queue = other_queue.queue(&queue_name());
    let delete_task = async {
        for _ in 0..400 {
            queue.delete().await.unwrap();
        }
    };
    let post_task = async {
        for n in 0..600 {
            fixture.post(numbered_message(n)).await;
        }
    };
    tokio::join!(delete_task, post_task);
}

#[tokio::test]
async fn deletion_of_a_queue_does_not_affect_a_queue_that_is_created_afterwards() {
    let fixture = TestQueue::new();
    let slow_process = slow_process(&fixture.redis, Duration::from_millis(300));
    fixture.post(numbered_message(1)).await;
    let deleted_queue = slow_process.queues.queue(&queue_name());
    for _ in 0..2 {
        deleted_queue.status().await.unwrap(); // The slow process opens its connections.
    }
    let existence_checks = || {
        let stats = fixture.redis.command("INFO commandstats");
        stats.lines().find_map(|line| line.strip_prefix("cmdstat_hget:")?.split(',').next()).map(str::to_owned)
    };
    let calls_before = existence_checks();
    let (deleted, ()) = tokio::join!(deleted_queue.delete(), async {
        // The slow process deletes the name 600 ms after it checked the queue.
        while existence_checks() == calls_before {
            wait_millis(5).await;
        }
        fixture.queue.delete().await.unwrap();
        fixture.post(numbered_message(2)).await;
    });
    assert!(deleted.unwrap());
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.waiting, 1);
    assert!(is_listed(&fixture.queues, &queue_name()).await);
}

#[tokio::test]
async fn maintenance_adds_the_missing_name_of_a_queue_to_the_index() {
    let fixture = TestQueue::new();
    let old_queue = connect(&fixture.redis, "{}").queue(&"old".parse().unwrap());
    old_queue.enqueue(vec![numbered_message(1)]).await.unwrap();
    fixture.post(numbered_message(1)).await;
    // The command leaves the index as a deletion does that is interrupted between its steps.
    fixture.redis.command("DEL drover:queues");
    run_maintenance(&fixture.queues);
    for queue in [queue_name(), "old".parse().unwrap()] {
        wait_until("the queue is listed again", async || is_listed(&fixture.queues, &queue).await).await;
    }
}

#[tokio::test]
async fn maintenance_removes_a_name_without_a_queue() {
    let fixture = TestQueue::new();
    fixture.post(numbered_message(1)).await;
    for n in 0..1_200 {
        fixture.redis.command(&format!("ZADD drover:queues 0 gone{n}"));
    }
    run_maintenance(&fixture.queues);
    wait_until("only the queue is listed", async || fixture.queues.names().await.unwrap() == [queue_name()]).await;
}

#[tokio::test]
async fn queue_names_are_read_by_prefix_and_in_pages() {
    let fixture = TestQueue::new();
    let mut expected_names = Vec::new();
    for n in 0..2_300 {
        fixture.redis.command(&format!("ZADD drover:queues 0 b{n:05}"));
        expected_names.push(format!("b{n:05}"));
    }
    for other in ["a", "b", "c", "B00001", "b-x"] {
        fixture.redis.command(&format!("ZADD drover:queues 0 {other}"));
    }
    let found_names = async |start| -> Vec<String> {
        fixture.queues.names_with_prefix(start).await.unwrap().iter().map(ToString::to_string).collect()
    };
    assert_eq!(found_names("b0").await, expected_names);
    assert_eq!(found_names("c").await, ["c"]);
    assert_eq!(found_names("d").await, <[String; 0]>::default());
    assert_eq!(found_names("").await.len(), 2_305);
}

#[tokio::test]
async fn queues_of_a_page_are_read_at_the_same_time() {
    let fixture = TestQueue::new();
    for n in 0..200 {
        let queue = fixture.queues.queue(&format!("b{n:03}").parse().unwrap());
        queue.configure(&json!({"max_attempts": 5})).await.unwrap();
    }
    // 150 reads of 100 ms one after the other would take 15 s.
    let slow_process = slow_process(&fixture.redis, Duration::from_millis(50));
    let all_patterns = [QueuePattern::all()];
    let name_before_page = "b009".parse().unwrap();
    let listing = slow_process.queues.list(&all_patterns, "b", Some(&name_before_page), 150);
    let (listed, next) = timeout(Duration::from_secs(10), listing).await.unwrap().unwrap();
    let names: Vec<String> = listed.iter().map(|status| status.queue.to_string()).collect();
    assert_eq!(names, (10..160).map(|n| format!("b{n:03}")).collect::<Vec<_>>());
    assert_eq!(next.unwrap().as_str(), "b159");
    let (last_queues, next_name) =
        fixture.queues.list(&all_patterns, "b", Some(&"b159".parse().unwrap()), 40).await.unwrap();
    assert_eq!((last_queues.len(), next_name), (40, None), "no queue follows the last queue");
    let page_before = fixture.queues.list(&all_patterns, "b", Some(&"a".parse().unwrap()), 1).await.unwrap();
    assert_eq!(page_before.0[0].queue.as_str(), "b000");
}

#[tokio::test]
async fn wait_for_a_result_ends_when_the_queue_is_deleted() {
    let fixture = TestQueue::new();
    let subscriber = start_subscriber(&fixture.queues);
    let posted_message = fixture.post(numbered_message(1)).await;
    let wait_for_result = fixture.queue.read_when_finished(&posted_message.id, Millis::from_secs(60), &subscriber);
    let delete_when_awaited = async {
        while fixture.redis.command("EXISTS drover:{q}:awaited") != ":1" {
            wait_millis(5).await;
        }
        fixture.queue.delete().await.unwrap();
    };
    let (found, ()) =
        timeout(Duration::from_secs(20), async { tokio::join!(wait_for_result, delete_when_awaited) }).await.unwrap();
    assert!(found.unwrap().is_none());
}

#[tokio::test]
async fn queues_that_were_deleted_leave_nothing_behind() {
    let fixture = TestQueue::new();
    run_maintenance(&fixture.queues);
    let use_and_delete = async |queue: &Arc<Queue>| {
        queue.enqueue(vec![numbered_message(1), numbered_message(2)]).await.unwrap();
        let lease_reply = queue.lease(&request()).await.unwrap();
        assert_eq!(lease_reply.deliveries.len(), 1);
        queue.delete().await.unwrap();
    };
    for n in 0..1_000 {
        use_and_delete(&fixture.queues.queue(&format!("c{n}").parse().unwrap())).await;
    }
    wait_until("no key is left", async || fixture.redis.command("KEYS drover:{*") == "*0").await;
    wait_until("no name is left", async || fixture.queues.names().await.unwrap().is_empty()).await;
}

#[tokio::test]
async fn index_of_another_layout_is_refused_with_instructions() {
    let fixture = TestQueue::new();
    fixture.redis.command("SADD drover:queues q");
    let refusal = fixture.queue.enqueue(vec![numbered_message(1)]).await.unwrap_err().to_string();
    assert!(refusal.contains("drover:queues has data layout 1") && refusal.contains("run the version"), "{refusal}");
}

//! Tests of messages from POST to completion: delays, order, batches, idle workers, and killed workers.

use std::time::Duration;

use futures_util::future::join_all;
use queue_core::{Action, ConsumerId, LeaseRequest, Settlement};
use reqwest::Method;
use serde_json::{json, value::to_raw_value};

use crate::{System, millis, number, system::HOURLY_POLLS};

#[tokio::test]
async fn delayed_message_is_posted_to_the_api_and_completed_by_a_worker() {
    let system = System::start("").await;
    let _worker = system.worker().await;
    let answer = system.send("my-queue", &json!({"data": {"hello": 1}, "delay": 1500})).await;
    assert_eq!(answer.status(), 201);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let posted_message: serde_json::Value = answer.json().await.unwrap();
    assert_eq!((&posted_message["state"], &posted_message["delay"]), (&json!("delayed"), &json!(1500)));
    assert_eq!(millis(&posted_message["due_at"]), millis(&posted_message["created_at"]) + 1_500);
    assert_eq!(location, format!("/v1/queues/my-queue/messages/{}", posted_message["id"].as_str().unwrap()));

    let finished_message = system.get(&format!("{location}?wait=10s")).await;
    assert_eq!(
        (&finished_message["state"], &finished_message["result"]),
        (&json!("completed"), &json!("processed ✅"))
    );
    assert_eq!(finished_message["data"], json!({"hello": 1}));
    let start_delay = millis(&finished_message["started_at"])
        .checked_sub(millis(&finished_message["due_at"]))
        .expect("the message started early");
    // Drover promises that a due message starts within 50 ms; a busy machine takes longer. Without the timers of the worker and
    // of maintenance, a poll would find the message after 5 s.
    assert!(start_delay <= 1_000, "the message started {start_delay} ms late");
    system.assert_clean().await;
}

#[tokio::test]
async fn ten_thousand_delayed_messages_are_each_completed_once_by_three_workers() {
    let settings = "[queues.my-queue]\nretention.completed = { count = 20000 }\n[log]\nfilter = \"warn\"\n";
    let system = System::start(settings).await;
    let _workers = [system.worker().await, system.worker().await, system.worker().await];
    let posting_clients = (0..50_u64).map(|client| {
        let system = &system;
        async move {
            let mut locations = Vec::new();
            for n in 0..200 {
                let delay = (client * 200 + n) * 7_919 % 3_001;
                locations.push(system.post("my-queue", json!({"data": n, "delay": delay})).await);
            }
            locations
        }
    });
    let locations: Vec<String> = join_all(posting_clients).await.into_iter().flatten().collect();
    for chunk in locations.chunks(100) {
        for message in join_all(chunk.iter().map(|location| system.finished(location))).await {
            assert_eq!(message["state"], "completed");
            assert_eq!((&message["deliveries"], &message["attempts_made"]), (&json!(1), &json!(1)), "{message}");
            assert!(
                message["started_at"].as_str() >= message["due_at"].as_str(),
                "the message started early: {message}"
            );
        }
    }
    let queue_status = system.get("/v1/queues/my-queue").await;
    let totals = json!({"enqueued": 10_000, "completed": 10_000, "failed": 0, "retried": 0, "lapsed": 0, "expired": 0, "cancelled": 0, "scheduled": 0});
    assert_eq!((&queue_status["totals"], &queue_status["counts"]["completed"]), (&totals, &json!(10_000)));
    system.assert_clean().await;
}

#[tokio::test]
async fn one_worker_at_concurrency_one_keeps_the_order_of_equal_due_times_and_of_priorities() {
    let system = System::start("").await;
    let first_message =
        system.send("my-queue", &json!({"data": 0, "delay": 700})).await.json::<serde_json::Value>().await;
    let due = first_message.unwrap()["due_at"].clone();
    let mut expected_ids = Vec::new();
    for n in 0..30 {
        expected_ids.push(system.post("my-queue", json!({"data": n, "deliver_at": due})).await);
    }
    let later_due = millis(&due) + 300;
    let later_due = serde_json::to_value(queue_core::Timestamp::from_millis(later_due)).unwrap();
    let mut prioritized = Vec::new();
    for (n, priority) in [5, 0, -1, 1, 0, -100, 1].into_iter().enumerate() {
        let body = json!({"data": n, "deliver_at": later_due, "priority": priority});
        prioritized.push((priority, n, system.post("my-queue", body).await));
    }
    prioritized.sort();
    expected_ids.extend(prioritized.into_iter().map(|(_, _, location)| location));
    let worker = system.worker_with(&[("DROVER__WORKER__CONCURRENCY", "1")]).await;
    for location in &expected_ids {
        system.finished(location).await;
    }
    let started_ids: Vec<String> = worker
        .log()
        .iter()
        .filter(|line| line.contains("handlers::log"))
        .filter_map(|line| Some(line.split_once(" id=\"")?.1.split('"').next()?.to_owned()))
        .skip(1)
        .collect();
    let expected_ids: Vec<&str> = expected_ids.iter().map(|location| location.rsplit('/').next().unwrap()).collect();
    assert_eq!(started_ids, expected_ids);
    system.assert_clean().await;
}

#[tokio::test]
async fn message_that_is_due_in_a_leap_second_becomes_due_in_the_next_second() {
    let system = System::start("").await;
    for (deliver_at, due_at) in
        [("2030-12-31T23:59:60Z", "2031-01-01T00:00:00.000Z"), ("2030-12-31T23:59:60.5Z", "2031-01-01T00:00:00.500Z")]
    {
        let location = system.post("q", json!({"data": 1, "deliver_at": deliver_at})).await;
        assert_eq!(system.get(&location).await["due_at"], due_at, "{deliver_at}");
    }
    let too_late_answer = system.send("q", &json!({"data": 1, "deliver_at": "2199-12-31T23:59:60Z"})).await;
    assert_eq!(too_late_answer.status(), 422, "this instant is in the year 2200");
}

#[tokio::test]
async fn an_idle_worker_whose_poll_is_an_hour_starts_messages_at_once() {
    let system = System::start("").await;
    let _worker = system.worker_with(&[HOURLY_POLLS]).await;
    // All instants that this test compares are by the clock of Redis. A busy machine delays some messages, but not all. If only polls found
    // due messages, all messages would start late. If only the API's maintenance found due messages, which runs 200 ms or more after a due
    // time, all messages with a delay would start late.
    for delay in [0, 50] {
        let mut lateness = Vec::new();
        for _ in 0..20 {
            let finished_message =
                system.finished(&system.post("my-queue", json!({"data": 1, "delay": delay})).await).await;
            lateness.push(
                millis(&finished_message["started_at"])
                    .checked_sub(millis(&finished_message["due_at"]))
                    .expect("the message started early"),
            );
        }
        lateness.sort_unstable();
        assert!(
            lateness[10] <= 100 && lateness[19] <= 2_000,
            "ms after they were due, with a delay of {delay}: {lateness:?}"
        );
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn workers_killed_under_load_lose_no_message() {
    let settings =
        "[queues.my-queue]\nvisibility_timeout = \"1s\"\nmax_lapses = 100\nretention.completed = { count = 20000 }\n";
    let system = System::start(settings).await;
    let mut worker = system.worker().await;
    for _ in 0..6 {
        for _ in 0..2 {
            system.post_batch("my-queue", (0..500).map(number)).await;
        }
        worker.kill();
        worker = system.worker().await;
    }
    let started_at = std::time::Instant::now();
    let queue_status = loop {
        let queue_status = system.get("/v1/queues/my-queue").await;
        if queue_status["counts"]["completed"] == 6_000 {
            break queue_status;
        }
        assert!(started_at.elapsed() < drover_tests::TIME_LIMIT, "not all messages are completed: {queue_status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(queue_status["totals"]["lapsed"].as_u64() > Some(0), "no busy worker was killed: {queue_status}");
    // A message of a killed worker may run twice, but is completed once.
    assert_eq!(
        (&queue_status["totals"]["enqueued"], &queue_status["totals"]["completed"]),
        (&json!(6_000), &json!(6_000))
    );
    system.assert_clean().await;
}

/// The queue has twenty harmless messages, a message that kills its worker, and then a thousand more harmless messages.
#[tokio::test]
async fn a_message_that_kills_its_worker_again_and_again_fails_alone() {
    let config = r#"
[[worker.routes]]
queue = "q"
handler = { type = "exec", command = ["sh", "-c", "[ $(cat) = true ] && kill -KILL $PPID; echo 1"] }
[queues.q]
visibility_timeout = "1s"
"#;
    let system = System::start(config).await;
    system.post_batch("q", (0..21).map(|n| json!({"data": n == 20}))).await;
    system.post_batch("q", (0..1_000).map(|_| json!({"data": false}))).await;
    let mut death_count = 0;
    for _ in 0..10 {
        let mut worker = system.launch_worker(&[]);
        let is_dead = drover_tests::eventually("the worker dies, or all are finished", || {
            let counts = system.redis.command("HMGET drover:{q}:meta total:completed total:failed");
            let finished: u64 = counts.lines().filter_map(|count| count.parse::<u64>().ok()).sum();
            if worker.has_ended() { Some(true) } else { (finished == 1_021).then_some(false) }
        });
        if !is_dead {
            break;
        }
        death_count += 1;
    }
    let queue_status = system.get("/v1/queues/q").await;
    assert_eq!(
        (&queue_status["counts"]["failed"], &queue_status["counts"]["completed"]),
        (&json!(1), &json!(1_020)),
        "{queue_status}"
    );
    assert_eq!(death_count, 3, "the message has `max_lapses` lapses");
    let failed_page = system.get("/v1/queues/q/messages?state=failed").await;
    assert_eq!((&failed_page["messages"][0]["data"], &failed_page["messages"][0]["lapses"]), (&json!(true), &json!(3)));
    system.assert_clean().await;
}

#[tokio::test]
async fn messages_of_a_killed_worker_are_started_again_within_a_second_of_their_deadlines() {
    let settings = "[queues.my-queue]\nvisibility_timeout = \"2s\"\n";
    let system = System::start(settings).await;
    let _idle_worker = system.worker_with(&[HOURLY_POLLS]).await;
    // The consumer acts like a killed consumer, which sends no further request. The consumer's lease calls are sent together with the
    // enqueues, so that the consumer gets messages although the enqueues also wake the idle worker.
    let queue = system.queues().queue(&"my-queue".parse().unwrap());
    let request = LeaseRequest::new(ConsumerId::issue(), 100);
    let mut deliveries = Vec::new();
    for n in 0..50 {
        let message = queue_core::NewMessage::new(to_raw_value(&n).unwrap());
        let (_, leased) = tokio::join!(queue.enqueue(vec![message]), queue.lease(&request));
        deliveries.extend(leased.unwrap().deliveries);
    }
    assert!(!deliveries.is_empty(), "the killed consumer got some messages");
    for delivery in &deliveries {
        let location = format!("/v1/queues/my-queue/messages/{}", delivery.message.id);
        let finished_message = system.finished(&location).await;
        assert_eq!((&finished_message["state"], &finished_message["lapses"]), (&json!("completed"), &json!(1)));
        let start_delay = millis(&finished_message["started_at"]).checked_sub(delivery.lease_expires_at.as_millis());
        assert!(
            start_delay.expect("the message starts after the deadline") <= 2_500,
            "the message started {start_delay:?} ms after the deadline"
        );
        let settlement =
            Settlement { lease: delivery.lease.clone(), action: Action::Complete(to_raw_value("late").unwrap()) };
        assert_eq!(queue.settle(&[settlement]).await.unwrap(), [None], "a late settlement is refused");
    }
    let queue_status = system.get("/v1/queues/my-queue").await;
    assert_eq!(queue_status["totals"]["completed"], 50);
    system.assert_clean().await;
}

#[tokio::test]
async fn batch_is_stored_completely_and_a_message_with_an_own_id_is_stored_once() {
    let system = System::start("").await;
    let body = json!({"messages": [
        {"data": 1}, {"data": 2, "delay": "1h"}, {"data": 3, "id": "order-42"}, {"data": 4, "id": "order-42"},
    ]});
    let (queue_status, batch) = system.request(Method::POST, "/v1/queues/q/messages/batch", Some(body)).await;
    assert_eq!(queue_status, 201);
    let values_of = |field: &str| -> Vec<serde_json::Value> {
        batch["messages"].as_array().unwrap().iter().map(|message| message[field].clone()).collect()
    };
    assert_eq!(values_of("state"), ["waiting", "delayed", "waiting", "waiting"]);
    assert_eq!(values_of("duplicate"), [false, false, false, true]);
    assert_eq!(values_of("id")[2..], ["order-42", "order-42"]);

    let second_answer = system.send("q", &json!({"data": 5, "id": "order-42"})).await;
    assert_eq!(second_answer.status(), 200);
    let second_message: serde_json::Value = second_answer.json().await.unwrap();
    assert_eq!(
        (&second_message["duplicate"], &second_message["data"], &second_message["id"]),
        (&json!(true), &json!(3), &json!("order-42"))
    );
    assert_eq!(system.get("/v1/queues/q/messages/order-42").await["data"], 3);
    let queue_status = system.get("/v1/queues/q").await;
    assert_eq!((&queue_status["counts"]["waiting"], &queue_status["counts"]["delayed"]), (&json!(2), &json!(1)));
    let list_of_queues = system.get("/v1/queues").await;
    assert_eq!(
        (&list_of_queues["queues"][0]["queue"], &list_of_queues["queues"][0]["counts"]),
        (&json!("q"), &queue_status["counts"])
    );
    assert_eq!(list_of_queues["queues"].as_array().unwrap().len(), 1);
    system.assert_clean().await;
}

#[tokio::test]
async fn a_post_may_wait_for_the_result() {
    let system = System::start("").await;
    let _worker = system.worker().await;
    let path = "/v1/queues/my-queue/messages?wait=10s";
    let (status, message) = system.request(Method::POST, path, Some(number(1))).await;
    assert_eq!(status, 201);
    assert_eq!((&message["state"], &message["result"]), (&json!("completed"), &json!("processed ✅")));
}

//! Tests of groups over HTTP and in worker processes: the order of a group's messages while workers are killed, and fair turns
//! of groups.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use drover_tests::Process;
use queue_core::{State, feed::EventId};
use rand::{RngExt, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{System, completed, number, seed::Seed};

const GROUP_COUNT: usize = 200;
const MESSAGES_OF_A_GROUP: usize = 200;

/// Starts the log of a queue's events, and returns the event id after which the log begins.
async fn start_event_log(system: &System, queue: &str) -> EventId {
    let queue = system.queues().queue(&queue.parse().unwrap());
    queue.declare().await.unwrap();
    queue.listen().await.unwrap().expect("the queue exists")
}

/// Returns all events of the queue after the event id `begin`, in the order in which Redis wrote the events.
async fn events_after(system: &System, queue: &str, begin: EventId) -> Vec<(String, Value)> {
    let queue = system.queues().queue(&queue.parse().unwrap());
    let events = queue.all_events_after(begin).await.unwrap().expect("the log has all events");
    events.iter().map(|event| (event.kind.as_str().to_owned(), serde_json::from_str(event.json()).unwrap())).collect()
}

/// Returns a random message of a group. The handlers of most messages take up to 3 ms; the handlers of some messages fail at
/// first, and some do not end before the messages' timeout.
fn random_message(random: &mut StdRng, group: usize) -> Value {
    let failure_count = if random.random_ratio(1, 20) { random.random_range(1..3) } else { 0 };
    let is_hanging = random.random_ratio(1, 100);
    let mut message = json!({
        "data": {"ms": random.random_range(0..4), "fails": failure_count, "hangs": u32::from(is_hanging)},
        "group": format!("group {group}"),
    });
    if is_hanging {
        message["timeout"] = "100ms".into();
    }
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_group_are_leased_in_order_while_handlers_fail_and_workers_are_killed() {
    let config = r#"
        [queues.my-queue]
        visibility_timeout = "500ms"
        max_attempts = 1000
        max_lapses = 1000
        backoff = { type = "fixed", delay = "20ms" }
        retention.completed = { count = 100000 }
        [worker]
        concurrency = 100
    "#;
    let (_seed, mut random) = Seed::choose();
    let system = System::start(config).await;
    let mut posted_groups: HashMap<String, Vec<String>> = HashMap::new();
    for _ in 0..MESSAGES_OF_A_GROUP / 5 {
        let messages: Vec<Value> = (0..5 * GROUP_COUNT).map(|n| random_message(&mut random, n % GROUP_COUNT)).collect();
        let groups: Vec<String> =
            messages.iter().map(|message| message["group"].as_str().unwrap().to_owned()).collect();
        let batch = json!({"messages": messages});
        let (_, answer) = system.request(Method::POST, "/v1/queues/my-queue/messages/batch", Some(batch)).await;
        for (group, entry) in groups.into_iter().zip(answer["messages"].as_array().unwrap()) {
            posted_groups.entry(group).or_default().push(entry["id"].as_str().unwrap().to_owned());
        }
    }
    let listen_start = start_event_log(&system, "my-queue").await;
    let runs = tempfile::tempdir().unwrap();
    let mut workers: Vec<Process> = (0..3).map(|_| system.launch_sleeper(runs.path(), &[])).collect();
    let started_at = Instant::now();
    let mut killed_count = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let counts = &system.get("/v1/queues/my-queue").await["counts"];
        if counts["completed"] == GROUP_COUNT * MESSAGES_OF_A_GROUP {
            break;
        }
        assert!(started_at.elapsed() < Duration::from_secs(180), "not all messages are completed: {counts}");
        let mut worker = workers.remove(0);
        worker.kill();
        killed_count += 1;
        workers.push(system.launch_sleeper(runs.path(), &[]));
    }
    drop(workers);

    // A message may start only after all earlier messages of its group have finished.
    let mut next_positions: HashMap<&str, usize> = posted_groups.keys().map(|group| (group.as_str(), 0)).collect();
    let (mut retried, mut lapsed) = (0, 0);
    for (kind, event) in events_after(&system, "my-queue", listen_start).await {
        let (id, group) = (event["id"].as_str().unwrap(), event["group"].as_str().unwrap());
        let next_position = next_positions.get_mut(group).expect("it was posted");
        match kind.as_str() {
            "started" => {
                assert_eq!(id, posted_groups[group][*next_position], "an earlier message of {group} has not finished");
            }
            "completed" => {
                assert_eq!(id, posted_groups[group][*next_position]);
                *next_position += 1;
            }
            "retried" => retried += 1,
            "lapsed" => lapsed += 1,
            _ => {}
        }
    }
    assert!(
        next_positions.values().all(|next_positions| *next_positions == MESSAGES_OF_A_GROUP),
        "each message is completed once"
    );
    assert!(
        killed_count >= 2 && retried > 1_000 && lapsed > 0,
        "{killed_count} killed, {retried} retried, {lapsed} lapsed"
    );
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenant_with_many_messages_does_not_delay_other_tenants_with_one_worker_or_with_several() {
    let config = "[worker]\nconcurrency = 10\n";
    let system = System::start(config).await;
    let queue = "my-queue";
    for workers in [1, 3] {
        system.patch(queue, json!({"groups": {"concurrency": null}})).await;
        system.post_empty(&format!("/v1/queues/{queue}/pause")).await;
        let of = |tenant: &str| json!({"data": 1, "group": tenant});
        for _ in 0..100 {
            system.post_batch(queue, (0..1_000).map(|_| of("large"))).await;
        }
        for tenant in 1..10 {
            system.post_batch(queue, (0..10).map(|_| of(&format!("tenant {tenant}")))).await;
        }
        let listen_start = start_event_log(&system, queue).await;
        let started_workers: Vec<Process> = futures_util::future::join_all((0..workers).map(|_| system.worker())).await;
        system.post_empty(&format!("/v1/queues/{queue}/resume")).await;
        let started_at = Instant::now();
        while system.get(&format!("/v1/queues/{queue}")).await["counts"]["completed"].as_u64() < Some(200) {
            assert!(started_at.elapsed() < Duration::from_secs(30), "the workers complete messages");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(started_workers);
        // Groups are served in turn, whichever worker leases: of every ten leases, each of the ten groups gets one.
        let events = events_after(&system, queue, listen_start).await;
        let starts =
            events.iter().filter(|(kind, _)| kind == "started").map(|(_, event)| event["group"].as_str().unwrap());
        let last_start = starts.enumerate().filter(|(_, group)| *group != "large").map(|(nth, _)| nth).max().unwrap();
        assert!(last_start < 11 * 10, "with {workers} workers the last of the nine starts as number {last_start}");
        system.http.delete(system.url(&format!("/v1/queues/{queue}?confirm={queue}"))).send().await.unwrap();
    }
}

#[tokio::test]
async fn group_is_shown_in_responses_and_lists_and_an_exclusive_queue_refuses_groups() {
    let system = System::start("").await;
    let path = "/v1/queues/q/messages";
    let posted_message: Value = system.send("q", &json!({"data": 1, "group": "room 7"})).await.json().await.unwrap();
    assert_eq!(posted_message["group"], "room 7");
    system.post("q", json!({"data": 2, "group": "room 7", "priority": -1})).await;
    system.post("q", number(3)).await;
    let batch = json!({"messages": [{"data": 4, "group": "room 8"}]});
    system.request(Method::POST, &format!("{path}/batch"), Some(batch)).await;
    let message = format!("{path}/{}", posted_message["id"].as_str().unwrap());
    let (_, patched) = system.request(Method::PATCH, &message, Some(json!({"priority": -2}))).await;
    assert_eq!(patched["group"], "room 7");
    let data_of = |list: &Value| -> Vec<u64> {
        list["messages"].as_array().unwrap().iter().map(|message| message["data"].as_u64().unwrap()).collect()
    };
    assert_eq!(data_of(&system.get(&format!("{path}?group=room%207&state=waiting")).await), [1, 2]);
    assert_eq!(data_of(&system.get(&format!("{path}?group=room%207")).await), [1, 2]);
    let lease_answer = system.send_to("/v1/queues/q/leases", &json!({"max": 5})).await;
    let lease_answer: Value = lease_answer.json().await.unwrap();
    let groups: Vec<&Value> =
        lease_answer["messages"].as_array().unwrap().iter().map(|message| &message["group"]).collect();
    assert_eq!(groups, [&json!("room 7"), &Value::Null, &json!("room 8")]);
    assert_eq!(data_of(&system.get(&format!("{path}?group=room%207&state=active")).await), [1]);
    assert_eq!(
        system.get("/v1/queues/q").await["counts"],
        json!({"held": 0, "delayed": 0, "waiting": 1, "active": 3, "completed": 0, "failed": 0})
    );

    let refusal = (409, "settings_conflict", "an exclusive queue has no groups");
    system.refused(Method::PATCH, "/v1/queues/q", Some(json!({"exclusive": true})), refusal).await;
    system.patch("alone", json!({"exclusive": true})).await;
    let grouped_message = json!({"data": 1, "group": "a"});
    let refusal = (409, "queue_exclusive", "omit group");
    system.refused(Method::POST, "/v1/queues/alone/messages", Some(grouped_message.clone()), refusal).await;
    let batch = json!({"messages": [grouped_message]});
    system.refused(Method::POST, "/v1/queues/alone/messages/batch", Some(batch), refusal).await;
    for invalid_group in [json!(""), json!("a/b"), json!("x".repeat(257)), json!(7)] {
        let message = json!({"data": 1, "group": invalid_group});
        system.refused(Method::POST, path, Some(message), (422, "invalid_message", "/group")).await;
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn settings_of_groups_are_returned_as_written_and_null_means_no_limit() {
    let system = System::start("[queues.q]\ngroups.concurrency = 3\n").await;
    let concurrency = |answer: &Value| answer["settings"]["groups"]["concurrency"].clone();
    assert_eq!(concurrency(&system.patch("q", json!({"max_attempts": 2})).await), 3);
    assert_eq!(concurrency(&system.patch("q", json!({"groups": {"concurrency": null}})).await), Value::Null);
    assert_eq!(concurrency(&system.get("/v1/queues/q").await), Value::Null);
    assert_eq!(concurrency(&system.patch("q", json!({"groups": null})).await), 1);
    let invalid_settings = json!({"groups": {"concurrency": 1_001}});
    system
        .refused(
            Method::PATCH,
            "/v1/queues/q",
            Some(invalid_settings),
            (422, "invalid_settings", "/groups/concurrency"),
        )
        .await;
}

#[tokio::test]
async fn messages_of_a_group_may_have_every_other_option_at_once() {
    let system = System::start("").await;
    system
        .patch(
            "q",
            json!({"rate_limit": {"max": 1000, "duration": "1s"}, "max_length": 100, "groups": {"concurrency": 2}}),
        )
        .await;
    let message = |n: u64| {
        json!({"data": n, "name": "mail", "group": "g", "id": format!("m{n}"), "delay": 1 + n % 2, "priority": n % 3, "max_attempts": 2,
               "backoff": {"type": "fixed", "delay": 5}, "timeout": "1m", "ttl": "1h", "hold": "k", "headers": {"a": "b"}})
    };
    system.post_batch("q", (0..60).map(message)).await;
    system.post_empty("/v1/queues/q/signals/k").await;
    let mut delivery_counts: BTreeMap<String, usize> = BTreeMap::new();
    let started_at = Instant::now();
    while system.get("/v1/queues/q").await["counts"]["completed"].as_u64() < Some(60) {
        assert!(started_at.elapsed() < Duration::from_secs(30), "{delivery_counts:?}");
        let deliveries = system.lease("q", 10).await;
        assert!(deliveries.len() <= 2);
        let queue = system.queues().queue(&"q".parse().unwrap());
        for delivery in deliveries {
            let delivery_count = delivery_counts.entry(delivery.message.id.to_string()).or_default();
            *delivery_count += 1;
            let is_first_delivery = *delivery_count == 1;
            let action = if is_first_delivery {
                queue_core::Action::Fail(queue_core::Failure::new("x", "y"))
            } else {
                completed()
            };
            let settle_outcomes =
                queue.settle(&[queue_core::Settlement { lease: delivery.lease, action }]).await.unwrap();
            assert_eq!(settle_outcomes, [Some(if is_first_delivery { State::Delayed } else { State::Completed })]);
        }
    }
    assert!(delivery_counts.values().all(|delivery_count| *delivery_count == 2), "{delivery_counts:?}");
    system.assert_clean().await;
}

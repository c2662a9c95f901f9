//! Schedules: ticks are posted once and on time, by any number of processes; definitions, pauses, limits and costs.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use queue_core::{
    DefinedBy, Error, Message, PutSchedule, Queues, Redis, ScheduleName, State,
    schedule::{NewSchedule, Schedule, Scheduler},
    settings::DeclaredSettings,
    wakeup::Subscriber,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{TIME_LIMIT, TestQueue, calls_of, numbered_message, queue_name, wait_millis};

/// The maximum lateness (ms) of a tick, on a busy machine. Without its timer a tick would be up to a minute late.
const MAX_LATENESS_MS: u64 = 1_000;

fn schedule_from_json(json: Value) -> NewSchedule {
    serde_json::from_value(json).unwrap()
}

fn schedule_name(name: &str) -> ScheduleName {
    name.parse().unwrap()
}

fn json_of(schedule: &Schedule) -> Value {
    serde_json::from_str(&serde_json::to_string(schedule).unwrap()).unwrap()
}

impl TestQueue {
    async fn put(&self, name: &str, json: Value) -> Value {
        match self.queue.put_schedule(&schedule_name(name), schedule_from_json(json), DefinedBy::Client).await.unwrap()
        {
            PutSchedule::Created(schedule) | PutSchedule::Existed(schedule) => json_of(&schedule),
        }
    }

    async fn schedule(&self, name: &str) -> Value {
        json_of(&self.queue.schedule(&schedule_name(name)).await.unwrap().unwrap())
    }

    /// All messages of the queue that are ready, in the order posted.
    async fn ready(&self) -> Vec<Message> {
        let mut ready_messages = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.queue.list(State::Waiting, 1_000, cursor.as_deref()).await.unwrap();
            ready_messages.extend(page.messages);
            cursor = page.next;
            if cursor.is_none() {
                return ready_messages;
            }
        }
    }

    /// Waits until this number of messages is ready.
    async fn wait_for(&self, count: usize) -> Vec<Message> {
        let start = Instant::now();
        loop {
            let ready_messages = self.ready().await;
            if ready_messages.len() >= count {
                return ready_messages;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{} of {count} messages", ready_messages.len());
            wait_millis(20).await;
        }
    }
}

/// A process that posts ticks; dropping it ends its tasks.
struct RunningScheduler {
    queues: Queues,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for RunningScheduler {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Starts a scheduler as a process of its own would, and waits until it is subscribed.
async fn start_scheduler(fixture: &TestQueue) -> RunningScheduler {
    let queues = Queues::new(Redis::new(&fixture.redis.url(), TIME_LIMIT).unwrap(), DeclaredSettings::default());
    let subscriber = Subscriber::for_all_queues(queues.redis().clone());
    let scheduler = Scheduler::new(queues.clone(), subscriber.clone()).unwrap();
    let running_subscriber = subscriber.clone();
    let tasks = vec![
        tokio::spawn(async move { running_subscriber.run(CancellationToken::new()).await }),
        tokio::spawn(scheduler.run(CancellationToken::new())),
    ];
    while !subscriber.is_connected() {
        wait_millis(5).await;
    }
    RunningScheduler { queues, tasks }
}

/// Asserts that each message was posted for a tick of its own, never early, and returns the latenesses (ms) in order.
fn latenesses(messages: &[Message]) -> Vec<u64> {
    let mut ticks = BTreeMap::new();
    let mut latenesses: Vec<u64> = Vec::new();
    for message in messages {
        let scheduled = message.scheduled_at.unwrap();
        let key = (message.schedule.clone(), scheduled);
        assert!(ticks.insert(key, &message.id).is_none(), "{scheduled} was posted twice");
        assert!(message.created_at >= scheduled, "{} is early for {scheduled}", message.created_at);
        latenesses.push(message.created_at.since(scheduled).get());
    }
    latenesses.sort_unstable();
    latenesses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tick_is_posted_once_and_on_time_by_several_processes() {
    let fixture = TestQueue::new();
    let _processes =
        [start_scheduler(&fixture).await, start_scheduler(&fixture).await, start_scheduler(&fixture).await];
    let created_schedule =
        fixture.put("s", json!({"every": "1s", "message": {"data": {"n": 1}, "name": "job", "priority": 0}})).await;
    assert_eq!(
        (
            &created_schedule["runs"],
            &created_schedule["last_at"],
            created_schedule["next_at"].as_array().unwrap().len()
        ),
        (&json!(0), &json!(null), 5)
    );
    let messages = fixture.wait_for(4).await;
    let tick_latenesses = latenesses(&messages);
    assert!(tick_latenesses.iter().all(|tick_latenesses| *tick_latenesses <= MAX_LATENESS_MS), "{tick_latenesses:?}");
    let tick_seconds: Vec<u64> =
        messages.iter().map(|message| message.scheduled_at.unwrap().as_millis() / 1_000).collect();
    assert!(tick_seconds.windows(2).all(|pair| pair[1] == pair[0] + 1), "no tick is missing: {tick_seconds:?}");
    let last_message = messages.last().unwrap();
    assert_eq!((last_message.schedule.as_ref().unwrap().as_str(), last_message.data.get()), ("s", r#"{"n":1}"#));
    let schedule = fixture.schedule("s").await;
    assert!(schedule["runs"].as_u64().unwrap() >= 4 && schedule["last_message"].is_string(), "{schedule}");
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert_eq!(status.schedules, 1);
    assert!(status.totals.scheduled >= 4);
    fixture.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_ticks_in_one_instant_of_a_thousand_schedules_are_posted_on_time() {
    let fixture = TestQueue::new();
    let process = start_scheduler(&fixture).await;
    let put_schedule = |n: usize, json: Value| {
        let queue = Arc::clone(&fixture.queue);
        async move {
            queue
                .put_schedule(&schedule_name(&format!("s{n}")), schedule_from_json(json), DefinedBy::Client)
                .await
                .unwrap()
        }
    };
    for n in 0..500 {
        put_schedule(n, json!({"every": "1d", "message": {"data": n}})).await;
    }
    let now = fixture.post(numbered_message(0)).await.created_at;
    let common_tick = queue_core::Timestamp::from_millis((now.as_millis() / 1_000 + 10) * 1_000);
    for n in 500..1_000 {
        put_schedule(n, json!({"every": "1s", "start_at": common_tick, "max_runs": 1, "message": {"data": n}})).await;
    }
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().schedules, 1_000);
    let (more, one_more) = (schedule_name("more"), schedule_from_json(json!({"every": "1d", "message": {"data": 1}})));
    let put_result = fixture.queue.put_schedule(&more, one_more, DefinedBy::Client).await;
    assert!(matches!(put_result, Err(Error::TooManySchedules)));
    assert!(
        fixture.put("s0", json!({"every": "2d", "message": {"data": 1}})).await["every"] == 172_800_000,
        "a schedule that exists may be replaced"
    );
    let messages: Vec<Message> =
        fixture.wait_for(501).await.into_iter().filter(|message| message.schedule.is_some()).collect();
    let tick_latenesses = latenesses(&messages);
    assert_eq!(messages.iter().filter(|message| message.scheduled_at == Some(common_tick)).count(), 500);
    assert!(tick_latenesses.iter().all(|tick_latenesses| *tick_latenesses <= MAX_LATENESS_MS), "{tick_latenesses:?}");
    let (page, has_more) = fixture.queue.schedules(None, 600).await.unwrap().unwrap();
    assert!(has_more && page.len() == 600 && page.is_sorted_by_key(|schedule| schedule.name.clone()));
    let (last_page, has_more) =
        fixture.queue.schedules(page.last().map(|last| &last.name), 600).await.unwrap().unwrap();
    assert!(!has_more && last_page.len() == 400);
    drop(process);
    fixture.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_scheduler_learns_of_earlier_ticks_pauses_and_deletions() {
    let fixture = TestQueue::new();
    let _process = start_scheduler(&fixture).await;
    fixture.put("s", json!({"every": "1h", "message": {"data": "hourly"}})).await;
    wait_millis(300).await;
    // The definition is replaced by a definition with an earlier tick.
    fixture.put("s", json!({"every": "1s", "message": {"data": "often"}})).await;
    let posted_messages = fixture.wait_for(2).await;
    assert!(posted_messages.iter().all(|message| message.data.get() == "\"often\""));
    assert!(latenesses(&posted_messages).iter().all(|late| *late <= MAX_LATENESS_MS));

    assert!(fixture.queue.pause_schedule(&schedule_name("s")).await.unwrap());
    let paused_schedule = fixture.schedule("s").await;
    assert_eq!((&paused_schedule["paused"], &paused_schedule["next_at"]), (&json!(true), &json!([])));
    let ready_count = fixture.ready().await.len();
    wait_millis(2_200).await;
    assert_eq!(fixture.ready().await.len(), ready_count, "a paused schedule has no ticks");
    assert!(fixture.queue.resume_schedule(&schedule_name("s")).await.unwrap());
    let messages_after_resume = fixture.wait_for(ready_count + 1).await;
    let gap = messages_after_resume[ready_count]
        .scheduled_at
        .unwrap()
        .since(messages_after_resume[ready_count - 1].scheduled_at.unwrap())
        .get();
    assert!(gap >= 2_000, "the ticks of the pause are not posted: {gap}");

    assert!(fixture.queue.delete_schedule(&schedule_name("s")).await.unwrap());
    assert!(!fixture.queue.delete_schedule(&schedule_name("s")).await.unwrap());
    let ready_count = fixture.ready().await.len();
    wait_millis(1_500).await;
    assert_eq!(fixture.ready().await.len(), ready_count, "a deleted schedule has no ticks");
    assert!(fixture.queue.schedule(&schedule_name("s")).await.unwrap().is_none());
    for unknown in [
        fixture.queue.pause_schedule(&schedule_name("s")).await,
        fixture.queue.resume_schedule(&schedule_name("s")).await,
    ] {
        assert!(!unknown.unwrap());
    }
    fixture.assert_clean().await;
}

#[tokio::test]
async fn equal_definition_of_a_schedule_changes_nothing_and_a_different_definition_replaces_it() {
    let fixture = TestQueue::new();
    let definition = json!({"cron": "@hourly", "timezone": "Asia/Kathmandu", "message": {"data": {"a": 1}, "ttl": "1m",
                            "hold": "k", "group": "g", "headers": {"h": "1"}, "backoff": {"delay": 5}, "max_attempts": 7, "timeout": "3s"}});
    let first_definition = fixture.put("s", definition.clone()).await;
    assert_eq!(first_definition["message"]["ttl"], 60_000, "{first_definition}");
    assert_eq!(
        first_definition["message"],
        json!({"data": {"a": 1}, "max_attempts": 7, "timeout": 3_000, "ttl": 60_000, "hold": "k", "group": "g",
        "backoff": {"type": "exponential", "delay": 5, "max": 3_600_000, "jitter": 0.2}, "headers": {"h": "1"}})
    );
    let revision = || fixture.redis.command("HGET drover:{q}:schedules s");
    let revision_before = revision();
    assert_eq!(fixture.put("s", definition.clone()).await, first_definition);
    assert_eq!(revision(), revision_before, "nothing was written");
    fixture.queue.pause_schedule(&schedule_name("s")).await.unwrap();
    let mut other_definition = definition;
    other_definition["message"]["data"] = json!(2);
    let replaced_schedule = fixture.put("s", other_definition).await;
    assert_eq!(
        (&replaced_schedule["paused"], &replaced_schedule["message"]["data"]),
        (&json!(true), &json!(2)),
        "the schedule stays paused"
    );
    assert_ne!(revision(), revision_before);
    for (json, field) in [
        (json!({"every": "1s", "message": {"data": 1}, "end_at": "2001-01-01T00:00:00Z"}), "end_at"),
        (json!({"cron": "0 0 29 2 *", "message": {"data": 1}, "start_at": "2199-03-01T00:00:00Z"}), "start_at"),
        (json!({"every": "1s", "message": {"data": 1, "id": "a"}}), "message/id"),
    ] {
        let refusal =
            fixture.queue.put_schedule(&schedule_name("t"), schedule_from_json(json), DefinedBy::Client).await;
        assert!(matches!(refusal, Err(Error::InvalidSchedule { field: found, .. }) if found == field), "{refusal:?}");
    }
    assert!(fixture.queue.schedule(&schedule_name("t")).await.unwrap().is_none());
}

#[tokio::test]
async fn definition_in_another_form_of_json_changes_nothing_and_another_definition_is_kept_byte_for_byte() {
    let fixture = TestQueue::new();
    let put_json = async |json: &str| {
        let definition = serde_json::from_str(json).unwrap();
        match fixture.queue.put_schedule(&schedule_name("s"), definition, DefinedBy::Client).await.unwrap() {
            PutSchedule::Created(schedule) | PutSchedule::Existed(schedule) => schedule,
        }
    };
    let stored_texts =
        || ["schedules", "schedule_messages"].map(|key| fixture.redis.command(&format!("HGET drover:{{q}}:{key} s")));
    let first_json = r#"{"every":"1s","message":{"data":{"a":1,"b":[1,2]}}}"#;
    put_json(first_json).await;
    let texts_before = stored_texts();
    for json in [
        r#"{"every":"1s","message":{"data":{ "a": 1, "b": [1, 2] }}}"#,
        r#"{"message":{"data":{"b":[1,2],"\u0061":1}},"every":1000}"#,
        r#"{"every":"1s","message":{"data":{"a":1,"b":[1,2]},"priority":0,"headers":{},"ttl":null,"backoff":null}}"#,
        r#"{"every":"1s","offset":0,"missed":"one","overlap":"allow","start_at":null,"end_at":null,"max_runs":null,
            "cron":null,"timezone":null,"message":{"data":{"a":1,"b":[1,2]},"headers":null,"priority":null}}"#,
    ] {
        put_json(json).await;
        assert_eq!(stored_texts(), texts_before, "{json}");
    }
    for data in [r#"{ "a": 1.0, "b": [1, 2] }"#, r#"{"a":1,"b":[2,1]}"#, r#"{"a":1,"b":[1,2],"a":2}"#] {
        put_json(first_json).await;
        let texts_before = stored_texts();
        let replaced_schedule = put_json(&format!(r#"{{"every":"1s","message":{{"data":{data}}}}}"#)).await;
        assert_eq!(replaced_schedule.message.data.get(), data);
        assert_ne!(stored_texts()[0], texts_before[0], "{data}");
    }
}

#[tokio::test]
async fn damaged_schedule_does_not_stop_other_schedules() {
    let fixture = TestQueue::new();
    for name in ["a", "b"] {
        fixture.put(name, json!({"every": "1s", "message": {"data": name}})).await;
    }
    fixture.redis.command("HSET drover:{q}:schedules a x");
    let _process = start_scheduler(&fixture).await;
    let posted_messages = fixture.wait_for(1).await;
    assert!(posted_messages.iter().all(|message| message.schedule.as_ref().unwrap().as_str() == "b"));
    assert!(fixture.queue.delete_schedule(&schedule_name("a")).await.unwrap());
    fixture.put("a", json!({"every": "1s", "message": {"data": "a"}})).await;
}

#[tokio::test]
async fn schedule_that_a_client_runs_keeps_its_ticks_and_its_number_of_runs() {
    let fixture = TestQueue::new();
    fixture.put("s", json!({"every": "1d", "message": {"data": 5, "priority": -3}})).await;
    fixture.queue.pause_schedule(&schedule_name("s")).await.unwrap();
    let posted_message = fixture.queue.run_schedule(&schedule_name("s")).await.unwrap().unwrap();
    assert_eq!(
        (posted_message.schedule.as_ref().unwrap().as_str(), *posted_message.priority, posted_message.state),
        ("s", -3, State::Waiting)
    );
    let read_message = fixture.read(&posted_message.id).await;
    assert_eq!(
        (read_message.schedule, read_message.scheduled_at),
        (posted_message.schedule, posted_message.scheduled_at)
    );
    let schedule = fixture.schedule("s").await;
    assert_eq!(
        (&schedule["runs"], &schedule["last_message"], &schedule["last_at"]),
        (&json!(0), &json!(null), &json!(null))
    );
    assert!(fixture.queue.run_schedule(&schedule_name("unknown")).await.unwrap().is_none());
    // A patch keeps the name of the schedule in the message.
    let patch = serde_json::from_value(json!({"priority": 2})).unwrap();
    fixture.queue.patch(&posted_message.id, &patch).await.unwrap().unwrap();
    assert_eq!(fixture.read(&posted_message.id).await.schedule.unwrap().as_str(), "s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_ends_after_its_runs_and_leaves_out_ticks_while_a_message_is_unfinished() {
    let fixture = TestQueue::new();
    let _process = start_scheduler(&fixture).await;
    fixture.put("ends", json!({"every": "1s", "max_runs": 2, "message": {"data": 1}})).await;
    fixture.put("skips", json!({"every": "1s", "overlap": "skip", "message": {"data": 2}})).await;
    fixture.wait_for(3).await;
    wait_millis(2_500).await;
    let count_ready =
        async |data: &str| fixture.ready().await.iter().filter(|message| message.data.get() == data).count();
    assert_eq!((count_ready("1").await, count_ready("2").await), (2, 1));
    let ended_schedule = fixture.schedule("ends").await;
    assert_eq!((&ended_schedule["runs"], &ended_schedule["next_at"]), (&json!(2), &json!([])));
    let skipping_schedule = fixture.schedule("skips").await;
    assert!(
        skipping_schedule["runs"] == 1 && skipping_schedule["next_at"].as_array().unwrap().len() == 5,
        "{skipping_schedule}"
    );
    // When the message of the earlier tick has finished, the next tick is posted.
    let lease_reply = fixture.lease(10).await;
    for delivery in &lease_reply.deliveries {
        fixture.complete(delivery).await;
    }
    let next_messages = fixture.wait_for(1).await;
    assert_eq!(next_messages[0].data.get(), "2");
    fixture.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tick_that_a_full_queue_refused_is_posted_when_there_is_room() {
    let fixture = TestQueue::with_settings(r#"{"max_length": 3}"#);
    let process = start_scheduler(&fixture).await;
    fixture.post_numbers([1, 2, 3]).await;
    fixture.put("s", json!({"every": "1s", "missed": "all", "message": {"data": "tick"}})).await;
    wait_millis(2_500).await;
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.waiting, 3, "max_length is obeyed");
    let refused_schedule = fixture.schedule("s").await;
    assert_eq!(refused_schedule["runs"], 0);
    let tick_calls = calls_of(&process.queues, "tick");
    assert!(tick_calls <= 6, "a refused tick is tried once a second, not {tick_calls} times in 2.5 s");
    for delivery in &fixture.lease(3).await.deliveries {
        fixture.complete(delivery).await;
    }
    let posted_messages = fixture.wait_for(3).await;
    let ticks: Vec<u64> =
        posted_messages.iter().map(|message| message.scheduled_at.unwrap().as_millis() / 1_000).collect();
    assert_eq!(ticks, (ticks[0]..ticks[0] + 3).collect::<Vec<_>>(), "the refused ticks come first, in their order");
    latenesses(&posted_messages);
    fixture.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tick_waits_while_the_memory_of_redis_is_full() {
    let fixture = TestQueue::new();
    let _process = start_scheduler(&fixture).await;
    fixture.put("s", json!({"every": "1s", "missed": "one", "message": {"data": "tick"}})).await;
    fixture.wait_for(1).await;
    fixture.redis.command("CONFIG SET maxmemory 1");
    wait_millis(1_500).await;
    let ready_count_before = fixture.ready().await.len();
    wait_millis(2_500).await;
    assert_eq!(fixture.ready().await.len(), ready_count_before);
    fixture.redis.command("CONFIG SET maxmemory 0");
    let posted_messages = fixture.wait_for(ready_count_before + 1).await;
    latenesses(&posted_messages);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missed_ticks_of_an_outage_of_all_processes_are_posted_as_the_schedule_says() {
    let fixture = TestQueue::new();
    for missed in ["skip", "one", "all"] {
        fixture.put(missed, json!({"every": "1s", "missed": missed, "message": {"data": missed}})).await;
    }
    wait_millis(3_500).await;
    let process = start_scheduler(&fixture).await;
    fixture.wait_for(6).await;
    drop(process);
    let posted_messages = fixture.ready().await;
    latenesses(&posted_messages);
    let ticks = |missed: &str| -> Vec<u64> {
        let ticks_of_schedule =
            posted_messages.iter().filter(|message| message.schedule.as_ref().unwrap().as_str() == missed);
        ticks_of_schedule.map(|message| message.scheduled_at.unwrap().as_millis() / 1_000).collect()
    };
    let (skip, one, all) = (ticks("skip"), ticks("one"), ticks("all"));
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1) && all.len() >= 3, "{all:?}");
    assert!(skip[0] > all[0], "the missed ticks are dropped: {skip:?}");
    assert_eq!(one[0] + 1, skip[0], "one message for all missed ticks, then the current tick: {one:?}");
    fixture.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_queue_deletes_its_schedules() {
    let fixture = TestQueue::new();
    let _process = start_scheduler(&fixture).await;
    fixture.put("s", json!({"every": "1s", "message": {"data": 1}})).await;
    fixture.wait_for(1).await;
    assert!(fixture.queue.delete().await.unwrap());
    wait_millis(1_500).await;
    assert_eq!(fixture.redis.command("KEYS *"), "*0", "no key is left, not even a name in an index");
    assert!(fixture.queue.schedules(None, 10).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_idle_schedules_costs_one_call_a_second() {
    let fixture = TestQueue::new();
    for n in 0..200 {
        fixture.put(&format!("s{n}"), json!({"cron": "0 0 1 1 *", "message": {"data": n}})).await;
    }
    let process = start_scheduler(&fixture).await;
    wait_millis(500).await;
    let calls = || ["schedules", "tick", "command"].map(|script| calls_of(&process.queues, script)).iter().sum::<u64>();
    let calls_before = calls();
    wait_millis(3_000).await;
    let calls_made = calls() - calls_before;
    assert!((2..=5).contains(&calls_made), "{calls_made} calls in 3 s");
    let bytes_in_redis: u64 = ["schedules", "schedule_messages", "ticks"]
        .iter()
        .map(|key| {
            let usage_reply = fixture.redis.command(&format!("MEMORY USAGE drover:{{q}}:{key} SAMPLES 0"));
            usage_reply.trim_start_matches(':').parse::<u64>().unwrap()
        })
        .sum();
    assert!(bytes_in_redis / 200 <= 700, "{} bytes for each schedule", bytes_in_redis / 200);
}

#[tokio::test]
async fn lost_names_of_queues_with_schedules_are_found_by_the_scan_of_all_keys() {
    let fixture = TestQueue::new();
    fixture.put("s", json!({"every": "1d", "message": {"data": 1}})).await;
    fixture.redis.command("DEL drover:schedules");
    fixture.queues.restore_all_names().await.unwrap();
    assert!(fixture.redis.command("ZRANGE drover:schedules 0 -1").contains('q'));
}

#[tokio::test]
async fn declared_schedules_are_created_and_win_over_those_of_clients() {
    let fixture = TestQueue::new();
    let declared_settings = |data: u64| -> DeclaredSettings {
        let schedule = json!({"every": "1d", "message": {"data": data}});
        serde_json::from_value(json!({"q": {"max_attempts": 2, "schedules": {"s": schedule}}})).unwrap()
    };
    let start_process = async |data: u64| {
        let new_settings = declared_settings(data);
        new_settings.validate().unwrap();
        let queues = Queues::new(Redis::new(&fixture.redis.url(), TIME_LIMIT).unwrap(), new_settings);
        queues.declare().await.unwrap();
        queues
    };
    start_process(1).await;
    let first_schedule = fixture.schedule("s").await;
    assert_eq!((&first_schedule["declared"], &first_schedule["message"]["data"]), (&json!(true), &json!(1)));
    fixture.put("s", json!({"every": "1d", "message": {"data": 9}})).await;
    let client_schedule = fixture.schedule("s").await;
    assert_eq!((&client_schedule["declared"], &client_schedule["message"]["data"]), (&json!(false), &json!(9)));
    let queues = start_process(2).await;
    assert_eq!(fixture.schedule("s").await["message"]["data"], 2);
    // A queue that is deleted and created again has the declared schedules again.
    let queue = queues.queue(&queue_name());
    queue.delete().await.unwrap();
    queue.enqueue(vec![numbered_message(1)]).await.unwrap();
    assert_eq!(fixture.schedule("s").await["message"]["data"], 2);
    for (wrong, setting) in [
        (json!({"q": {"schedules": {"s": {"every": 5, "message": {"data": 1}}}}}), "schedules.s.every"),
        (
            json!({"q": {"schedules": {"s": {"every": "5m", "message": {"data": 1, "id": "a"}}}}}),
            "schedules.s.message.id",
        ),
        (json!({"q": {"schedules": {"a b": {"every": "5m", "message": {"data": 1}}}}}), "schedules.a b"),
        (json!({"q-*": {"schedules": {"s": {"every": "5m", "message": {"data": 1}}}}}), "schedules.s"),
    ] {
        let declared_settings: DeclaredSettings = serde_json::from_value(wrong).unwrap();
        assert_eq!(declared_settings.validate().unwrap_err().1.setting, setting);
    }
}

fn with_group(data: u64) -> Value {
    json!({"every": "1d", "message": {"data": data, "group": "a"}})
}

#[tokio::test]
async fn schedule_with_a_group_and_an_exclusive_queue_exclude_each_other() {
    let fixture = TestQueue::new();
    let make_exclusive = async || fixture.queue.configure(&json!({"exclusive": true, "max_attempts": 9})).await;
    fixture.put("plain", json!({"every": "1d", "message": {"data": 1}})).await;
    fixture.put("grouped", with_group(1)).await;
    for _ in 0..2 {
        let setting_refusal = make_exclusive().await.unwrap_err();
        let Error::InvalidSetting(invalid) = &setting_refusal else { panic!("{setting_refusal}") };
        assert!(invalid.is_conflict && invalid.setting == "exclusive", "{invalid:?}");
        assert!(invalid.problem.contains("the schedule grouped,"), "{invalid}");
        let settings = json!(fixture.queue.status().await.unwrap().unwrap().settings);
        assert_eq!(
            (&settings["exclusive"], &settings["max_attempts"]),
            (&json!(false), &json!(3)),
            "no setting has changed"
        );
        fixture.queue.pause_schedule(&schedule_name("grouped")).await.unwrap();
    }
    fixture.put("grouped", json!({"every": "1d", "message": {"data": 2}})).await;
    make_exclusive().await.unwrap();

    for name in ["grouped", "new"] {
        let schedule_refusal = fixture
            .queue
            .put_schedule(&schedule_name(name), schedule_from_json(with_group(3)), DefinedBy::Client)
            .await;
        assert!(matches!(schedule_refusal, Err(Error::ExclusiveQueue)), "{schedule_refusal:?}");
    }
    assert_eq!(fixture.schedule("grouped").await["message"], json!({"data": 2}), "the schedule has not changed");
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().schedules, 2);
    fixture.queue.configure(&json!({"exclusive": {"parallel": 2}})).await.unwrap();
    fixture.queue.configure(&json!({"exclusive": null})).await.unwrap();
    fixture.put("new", with_group(4)).await;
    fixture.queue.delete_schedule(&schedule_name("new")).await.unwrap();
    make_exclusive().await.unwrap();
    fixture.assert_clean().await;
}

#[tokio::test]
async fn declared_setting_or_schedule_that_contradicts_the_queue_is_left_out_and_the_rest_is_applied() {
    let fixture = TestQueue::new();
    let start_process = |declared_settings: Value| {
        let declared_settings: DeclaredSettings = serde_json::from_value(declared_settings).unwrap();
        declared_settings.validate().unwrap();
        Queues::new(Redis::new(&fixture.redis.url(), TIME_LIMIT).unwrap(), declared_settings)
    };
    let settings = async || json!(fixture.queue.status().await.unwrap().unwrap().settings);
    fixture.put("s", with_group(1)).await;
    let queues = start_process(json!({"q": {"exclusive": true, "max_attempts": 2}, "r": {"max_attempts": 4}}));
    let conflict = queues.declare().await.unwrap_err();
    assert!(matches!(&conflict, Error::InvalidSetting(invalid) if invalid.setting == "q.exclusive"), "{conflict}");
    assert_eq!((&settings().await["exclusive"], &settings().await["max_attempts"]), (&json!(false), &json!(2)));
    assert!(queues.queue(&"r".parse().unwrap()).status().await.unwrap().is_some(), "the other queues are declared");
    // A process that has not declared the queue yet, and declares the same contradicting setting, can use the queue.
    let queue = start_process(json!({"q": {"exclusive": true}})).queue(&queue_name());
    queue.enqueue(vec![numbered_message(1)]).await.unwrap();
    assert_eq!(fixture.lease(5).await.deliveries.len(), 1);
    fixture.queue.delete_schedule(&schedule_name("s")).await.unwrap();
    queues.declare().await.unwrap();
    assert_eq!(settings().await["exclusive"], true);

    let schedules = json!({"grouped": with_group(1), "plain": {"every": "1d", "message": {"data": 1}}});
    start_process(json!({"q": {"max_attempts": 5, "schedules": schedules}})).declare().await.unwrap();
    assert_eq!(
        (fixture.schedule("plain").await["declared"].clone(), settings().await["max_attempts"].clone()),
        (json!(true), json!(5))
    );
    assert!(fixture.queue.schedule(&schedule_name("grouped")).await.unwrap().is_none());

    for contradiction in [
        json!({"q": {"exclusive": true, "schedules": {"s": with_group(1)}}}),
        json!({"*": {"exclusive": {"parallel": 2}}, "q": {"schedules": {"s": with_group(1)}}}),
    ] {
        let declared_settings: DeclaredSettings = serde_json::from_value(contradiction).unwrap();
        assert_eq!(declared_settings.validate().unwrap_err().1.setting, "schedules.s.message.group");
    }
}

#[tokio::test]
async fn audit_finds_damaged_schedules() {
    for breakage in [
        "HDEL drover:{q}:schedules s",
        "HDEL drover:{q}:schedule_messages s",
        "ZREM drover:{q}:ticks s",
        "ZADD drover:{q}:ticks 1 paused",
        "ZADD drover:{q}:ticks 1 unknown",
        "HSET drover:{q}:schedules s x",
    ] {
        let fixture = TestQueue::new();
        for name in ["s", "paused"] {
            fixture.put(name, json!({"every": "1d", "message": {"data": 1}})).await;
        }
        fixture.queue.pause_schedule(&schedule_name("paused")).await.unwrap();
        fixture.assert_clean().await;
        fixture.redis.command(breakage);
        let audit = fixture.queue.audit().await.unwrap();
        assert_eq!(audit.findings.len(), 1, "{breakage}: {:?}", audit.findings);
    }
}

//! Ticks of schedules are posted once and on time, by any number of processes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use queue_core::{
    DefinedBy, Error, Message, Queues, Redis, State, schedule::Scheduler, settings::DeclaredSettings,
    wakeup::Subscriber,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    TIME_LIMIT, TestQueue, calls_of, numbered_message,
    schedules::{schedule_from_json, schedule_name},
    wait_millis,
};

/// The maximum lateness (ms) of a tick, on a busy machine. Without its timer a tick would be up to a minute late.
const MAX_LATENESS_MS: u64 = 1_000;

impl TestQueue {
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
    // The hourly definition of the schedule is replaced by a definition that has a tick each second.
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
    // When the message of an earlier tick of the schedule `skips` has finished, the next tick of the schedule posts a
    // message.
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

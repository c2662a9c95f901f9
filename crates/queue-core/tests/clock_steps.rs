//! Tests of schedules while Redis's clock steps. The tests set the clock that the scripts read.

#![allow(clippy::unwrap_used)] // A failed unwrap is a failure of the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use drover_tests::RedisServer;
use queue_core::{
    DefinedBy, Message, PutSchedule, Queue, Queues, Redis, State,
    schedule::{NewSchedule, Schedule, Scheduler},
    settings::DeclaredSettings,
    wakeup::Subscriber,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// 2027-01-15, in seconds since 1970.
const START_SECONDS: u64 = 1_800_000_000;

struct Fixture {
    redis: RedisServer,
    queue: Arc<Queue>,
}

impl Fixture {
    fn set_clock(&self, millis: u64) {
        assert_eq!(self.redis.command(&format!("SET drover:{{q}}:clock {millis}000")), "+OK");
    }

    async fn put(&self, missed: &str, data: u64) -> Schedule {
        let json = json!({"every": "1s", "missed": missed, "message": {"data": data}});
        let definition: NewSchedule = serde_json::from_value(json).unwrap();
        let put_result =
            self.queue.put_schedule(&missed.parse().unwrap(), definition, DefinedBy::Client).await.unwrap();
        match put_result {
            PutSchedule::Created(schedule) | PutSchedule::Existed(schedule) => schedule,
        }
    }

    /// Returns the ticks that were posted, by schedule, in seconds after `START_SECONDS`. Asserts that each tick was posted once and not
    /// early.
    async fn ticks(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let mut messages: Vec<Message> = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.queue.list(State::Waiting, 1_000, cursor.as_deref()).await.unwrap();
            messages.extend(page.messages);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let mut ticks: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for message in messages {
            let tick = message.scheduled_at.unwrap();
            assert!(message.created_at >= tick, "{tick} is early");
            let ticks_of_schedule = ticks.entry(message.schedule.unwrap().to_string()).or_default();
            assert!(ticks_of_schedule.insert(tick.as_millis() / 1_000 - START_SECONDS), "{tick} was posted twice");
        }
        ticks
    }

    /// Waits until these ticks are posted, in seconds after `START_SECONDS`.
    async fn wait_for(&self, expected: &Value) {
        let start = Instant::now();
        loop {
            let ticks = json!(self.ticks().await);
            if ticks == *expected {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "the ticks are {ticks}, not {expected}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_rests_after_a_step_back_of_the_clock_and_catches_up_after_a_step_forward() {
    Redis::inject_clock();
    let redis = RedisServer::start();
    let queues = Queues::new(Redis::new(&redis.url(), Duration::from_secs(5)).unwrap(), DeclaredSettings::default());
    let fixture = Fixture { queue: queues.queue(&"q".parse().unwrap()), redis };
    fixture.set_clock(START_SECONDS * 1_000 + 500);
    for missed in ["all", "one", "skip"] {
        fixture.put(missed, 1).await;
    }
    let subscriber = Subscriber::for_all_queues(queues.redis().clone());
    let scheduler = Scheduler::new(queues.clone(), subscriber.clone()).unwrap();
    let tasks = [
        tokio::spawn(async move { subscriber.run(CancellationToken::new()).await }),
        tokio::spawn(scheduler.run(CancellationToken::new())),
    ];
    let second = |second: u64| (START_SECONDS + second) * 1_000 + 100;

    fixture.set_clock(second(1));
    fixture.wait_for(&json!({"all": [1], "one": [1], "skip": [1]})).await;
    // The clock steps back by an hour: the tick that was posted comes again, and is not posted again.
    for back in [second(1) - 3_600_000, (START_SECONDS + 1) * 1_000 - 1, second(1)] {
        fixture.set_clock(back);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let replaced_schedule = fixture.put("all", back).await;
        assert!(
            replaced_schedule.next_at[0].as_millis() > (START_SECONDS + 1) * 1_000,
            "a tick that was posted is not posted again, not even for another definition"
        );
        fixture.queue.pause_schedule(&"one".parse().unwrap()).await.unwrap();
        fixture.queue.resume_schedule(&"one".parse().unwrap()).await.unwrap();
    }
    fixture.wait_for(&json!({"all": [1], "one": [1], "skip": [1]})).await;
    fixture.set_clock(second(2));
    fixture.wait_for(&json!({"all": [1, 2], "one": [1, 2], "skip": [1, 2]})).await;
    // The clock steps forward by a minute, and then by an hour.
    fixture.set_clock(second(62));
    let minute_ticks: Vec<u64> = (1..=62).collect();
    fixture.wait_for(&json!({"all": minute_ticks, "one": [1, 2, 61, 62], "skip": [1, 2, 62]})).await;
    fixture.set_clock(second(3_662));
    let last_thousand: Vec<u64> = (1..=62).chain(2_663..=3_662).collect();
    fixture
        .wait_for(&json!({"all": last_thousand, "one": [1, 2, 61, 62, 3_661, 3_662], "skip": [1, 2, 62, 3_662]}))
        .await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!(fixture.queue.audit().await.unwrap().findings, []);
}

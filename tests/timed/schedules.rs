//! Tests of the promised times of schedules: ticks are posted soon after their instants.

use std::{collections::BTreeMap, time::Duration};

use jiff::{Zoned, tz::TimeZone};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    stall_monitor::StallMonitor,
    system::{System, millis},
};

/// Returns the definition of a schedule that has a tick at the instant `at` (ms): an interval, patterns with fixed hours in zones with clock
/// changes, and rare patterns, whose ticks are years apart.
fn schedule_with_tick(at: u64, n: usize) -> Value {
    let zone = ["Africa/Cairo", "America/New_York", "Australia/Lord_Howe"][n / 5 % 3];
    let at = jiff::Timestamp::from_millisecond(at.try_into().unwrap()).unwrap();
    let local_time = Zoned::new(at, TimeZone::get(zone).unwrap());
    let (month, day, weekday) = (local_time.month(), local_time.day(), local_time.weekday().to_sunday_zero_offset());
    let (hour, minute, second) = (local_time.hour(), local_time.minute(), local_time.second());
    let time_fields = format!("{second} {minute} {hour}");
    let pattern = match n % 5 {
        0 => return json!({"every": "1s"}),
        1 => format!("{time_fields} * * *"),
        2 => format!("{second} {minute} 0-23/1 {day} {month} +{weekday}"),
        3 => format!("{time_fields} {day} {month} +{weekday}"),
        _ => format!("{second} {minute} * * {month} {weekday}#{}", (day - 1) / 7 + 1),
    };
    json!({"cron": pattern, "timezone": zone})
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_of_schedules_are_posted_within_50_ms_of_their_instants() {
    let monitor = StallMonitor::start().await;
    let system = System::start("").await;
    let put = async |name: String, body| {
        let (status, answer) = system.request(Method::PUT, &format!("/v1/queues/q/schedules/{name}"), Some(body)).await;
        assert_eq!(status, 201, "{answer}");
        millis(&answer["next_at"][0])
    };
    // The schedules have 500 ticks in one instant, and one tick a second. The API has run for more than 2 s before the first
    // tick.
    let first_schedule = put("often".into(), json!({"every": "1s", "max_runs": 20, "message": {"data": 1}})).await;
    let at = queue_core::Timestamp::from_millis(first_schedule + 9_000);
    for n in 0..500 {
        let mut schedule = schedule_with_tick(at.as_millis(), n);
        let schedule_fields = schedule.as_object_mut().unwrap();
        schedule_fields.extend(
            [("start_at", json!(at)), ("max_runs", json!(1)), ("message", json!({"data": n}))]
                .map(|(name, value)| (name.to_owned(), value)),
        );
        assert_eq!(put(format!("s{n}"), schedule.clone()).await, at.as_millis(), "{schedule}");
    }
    let queue = system.queues().queue(&"q".parse().unwrap());
    while queue.status().await.unwrap().unwrap().counts.waiting < 520 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut messages = system.get("/v1/queues/q/messages?limit=1000").await["messages"].as_array().unwrap().clone();
    messages.retain(|message| millis(&message["scheduled_at"]) >= first_schedule + 2_000);
    assert!(messages.len() >= 517, "{}", messages.len());
    let mut latest_posts: BTreeMap<u64, u64> = BTreeMap::new();
    for message in &messages {
        let (tick, posted) = (millis(&message["scheduled_at"]), millis(&message["created_at"]));
        assert!(posted >= tick, "the tick was posted early: {message}");
        let latest_post = latest_posts.entry(tick).or_default();
        *latest_post = posted.max(*latest_post);
    }
    for (tick, posted) in latest_posts {
        monitor.assert_duration_within(Duration::from_millis(50), tick, posted, "the last post of a tick");
    }
}

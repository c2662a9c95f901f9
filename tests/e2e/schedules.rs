//! Tests of schedules over HTTP and in the configuration. Each tick is posted once while processes and Redis are killed, and
//! while schedules are replaced, paused and deleted.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use drover_tests::{Process, RedisServer, ReservedPort};
use rand::{RngExt, seq::IndexedRandom, seq::SliceRandom};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    System, millis, number,
    seed::{Seed, from_env},
    start_api,
};

/// The age (ms) from which a due tick counts as missed.
const MISSED_AFTER_MILLIS: u64 = 10_000;
/// The maximum lateness (ms) of a tick, on a busy machine, while a process that posts ticks runs. The tests in `tests/timed` check the
/// promised maximum lateness of 50 ms.
const MAX_LATENESS_MILLIS: u64 = 2_000;

impl System {
    async fn put_schedule(&self, path: &str, body: Value) -> (u16, Value) {
        self.request(Method::PUT, path, Some(body)).await
    }

    /// Returns all messages of a queue that schedules posted: the messages of each schedule, in the order of their ticks.
    async fn scheduled_messages(&self, queue: &str) -> BTreeMap<String, Vec<Value>> {
        let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/v1/queues/{queue}/messages?limit=1000{cursor}")).await;
            for message in page["messages"].as_array().unwrap() {
                let schedule = message["schedule"].as_str().unwrap().to_owned();
                all.entry(schedule).or_default().push(message.clone());
            }
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        for messages in all.values_mut() {
            messages.sort_by_key(|message| millis(&message["scheduled_at"]));
        }
        all
    }

    /// Returns the time by Redis's clock, in ms since 1970.
    fn redis_millis(&self) -> u64 {
        let time_reply = self.redis.command("TIME");
        let parts: Vec<u64> = time_reply.lines().filter_map(|line| line.trim().parse().ok()).collect();
        parts[0] * 1_000 + parts[1] / 1_000
    }
}

/// Asserts that each tick was posted once and not early. Returns the instants of the ticks, in seconds since 1970.
fn assert_each_tick_once(messages: &[Value]) -> Vec<u64> {
    let ticks: Vec<u64> = messages.iter().map(|message| millis(&message["scheduled_at"])).collect();
    for (two, messages) in ticks.windows(2).zip(messages.windows(2)) {
        assert!(two[0] < two[1], "a tick was posted twice: {messages:?}");
    }
    for message in messages {
        assert!(
            millis(&message["created_at"]) >= millis(&message["scheduled_at"]),
            "the tick was posted early: {message}"
        );
    }
    ticks.iter().map(|tick| tick / 1_000).collect()
}

fn lateness(message: &Value) -> u64 {
    millis(&message["created_at"]) - millis(&message["scheduled_at"])
}

#[tokio::test]
async fn schedule_is_created_replaced_read_listed_paused_run_and_deleted() {
    let system = System::start("").await;
    let path = "/v1/queues/reports/schedules/daily";
    let definition = json!({"cron": "30 9 * * mon-fri", "timezone": "Europe/Berlin", "message": {"data": {"kind": "report"}, "name": "report"},
        "start_at": "2027-03-25T00:00:00Z", "end_at": null, "max_runs": null, "missed": "one", "overlap": "allow"});
    let (status, created) = system.put_schedule(path, definition.clone()).await;
    assert_eq!(status, 201, "{created}");
    let expected = json!({
        "name": "daily", "queue": "reports", "cron": "30 9 * * mon-fri", "timezone": "Europe/Berlin", "every": null, "offset": null,
        "message": {"data": {"kind": "report"}, "name": "report"}, "start_at": "2027-03-25T00:00:00.000Z", "end_at": null,
        "max_runs": null, "missed": "one", "overlap": "allow", "paused": false, "declared": false,
        "next_at": ["2027-03-25T08:30:00.000Z", "2027-03-26T08:30:00.000Z", "2027-03-29T07:30:00.000Z",
                    "2027-03-30T07:30:00.000Z", "2027-03-31T07:30:00.000Z"],
        "last_at": null, "last_message": null, "runs": 0,
    });
    assert_eq!(created, expected, "five ticks from start_at; summer time begins on 28 March");
    assert_eq!(
        system.put_schedule(path, definition).await,
        (200, expected.clone()),
        "an equal definition changes nothing"
    );
    assert_eq!(system.get(path).await, expected);
    assert_eq!(system.get("/v1/queues/reports").await["schedules"], 1);

    let (status, replaced) =
        system.put_schedule(path, json!({"every": "5m", "offset": "10s", "message": {"data": 2}})).await;
    assert_eq!((status, &replaced["every"], &replaced["offset"]), (200, &json!(300_000), &json!(10_000)));
    assert_eq!(millis(&replaced["next_at"][0]) % 300_000, 10_000);
    let (status, paused) = system.post_empty(&format!("{path}/pause")).await;
    assert_eq!((status, &paused["paused"], &paused["next_at"]), (200, &json!(true), &json!([])));
    let (status, run) = system.post_empty(&format!("{path}/run")).await;
    assert_eq!((status, &run["data"], &run["schedule"]), (201, &json!(2), &json!("daily")), "{run}");
    let read_message = system.get(&format!("/v1/queues/reports/messages/{}", run["id"].as_str().unwrap())).await;
    assert_eq!((&read_message["schedule"], &read_message["scheduled_at"]), (&run["schedule"], &run["scheduled_at"]));
    let (status, resumed) = system.post_empty(&format!("{path}/resume")).await;
    assert_eq!((status, &resumed["paused"], &resumed["runs"]), (200, &json!(false), &json!(0)));

    for name in ["a", "b", "c"] {
        system
            .put_schedule(
                &format!("/v1/queues/reports/schedules/{name}"),
                json!({"every": "1d", "message": {"data": 1}}),
            )
            .await;
    }
    let names_on_page = |page: &Value| -> Vec<String> {
        page["schedules"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let first_page = system.get("/v1/queues/reports/schedules?limit=3").await;
    assert_eq!(
        (names_on_page(&first_page), &first_page["next_cursor"]),
        (vec!["a".into(), "b".into(), "c".into()], &json!("c"))
    );
    let rest_page = system.get("/v1/queues/reports/schedules?cursor=c").await;
    assert_eq!((names_on_page(&rest_page), rest_page.get("next_cursor")), (vec!["daily".into()], None));

    assert_eq!(system.request(Method::DELETE, path, None).await.0, 204);
    for (method, path) in [
        (Method::GET, path.to_owned()),
        (Method::DELETE, path.to_owned()),
        (Method::POST, format!("{path}/pause")),
        (Method::POST, format!("{path}/resume")),
        (Method::POST, format!("{path}/run")),
    ] {
        system.refused(method, &path, None, (404, "schedule_not_found", "has no schedule daily")).await;
    }
    let unknown_queue_path = "/v1/queues/unknown/schedules";
    system.refused(Method::GET, unknown_queue_path, None, (404, "queue_not_found", "there is no queue")).await;
    let bad_name = "/v1/queues/reports/schedules/a%20b";
    let body = Some(json!({"every": "1d", "message": {"data": 1}}));
    system.refused(Method::PUT, bad_name, body, (422, "invalid_schedule_name", "1 to 128 characters")).await;
    system.assert_clean().await;
}

#[tokio::test]
async fn invalid_schedule_is_refused_with_its_field_and_creates_nothing() {
    let system = System::start("").await;
    let message = json!({"data": 1});
    for (body, pointer, detail) in [
        (json!({"cron": "0 9 * *", "message": message}), "/cron", "must have five fields"),
        (json!({"cron": "61 * * * *", "message": message}), "/cron", "its minute is \"61\", and must be *, 0 to 59"),
        (json!({"cron": "0 0 30 2 *", "message": message}), "/cron", "never matches"),
        (json!({"cron": "@daily", "timezone": "Mars/Olympus", "message": message}), "/timezone", "IANA"),
        (json!({"cron": "@daily", "every": "5m", "message": message}), "/every", "not both"),
        (json!({"message": message}), "/cron", "give cron or every"),
        (json!({"every": "999ms", "message": message}), "/every", "must be 1s to 3650d"),
        (json!({"every": "5m"}), "/message", "required"),
        (json!({"every": "5m", "message": {"name": "n"}}), "/message/data", "required"),
        (json!({"every": "5m", "message": {"data": 1, "id": "a"}}), "/message/id", "remove it"),
        (json!({"every": "5m", "message": {"data": 1, "delay": "1s"}}), "/message/delay", "remove it"),
        (
            json!({"every": "5m", "message": {"data": 1, "deliver_at": "2030-01-01T00:00:00Z"}}),
            "/message/deliver_at",
            "remove it",
        ),
        (json!({"every": "5m", "message": message, "end_at": "2020-01-01T00:00:00Z"}), "/end_at", "there is no tick"),
        (
            json!({"cron": "@yearly", "message": message, "start_at": "2030-02-01T00:00:00Z", "end_at": "2030-03-01T00:00:00Z"}),
            "/end_at",
            "there is no tick",
        ),
    ] {
        let problem = system
            .refused(Method::PUT, "/v1/queues/q/schedules/s", Some(body), (422, "invalid_schedule", detail))
            .await;
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    system.refused(Method::GET, "/v1/queues/q", None, (404, "queue_not_found", "")).await;
}

#[tokio::test]
async fn schedule_with_a_group_is_refused_by_an_exclusive_queue_and_keeps_its_queue_from_becoming_exclusive() {
    let system = System::start("").await;
    let (path, body) = ("/v1/queues/q/schedules/s", json!({"every": "1d", "message": {"data": 1, "group": "a"}}));
    let (status, answer) = system.put_schedule(path, body.clone()).await;
    assert_eq!(status, 201, "{answer}");
    let refusal = (409, "settings_conflict", "delete the schedule s, whose message has a group");
    let problem = system.refused(Method::PATCH, "/v1/queues/q", Some(json!({"exclusive": true})), refusal).await;
    assert_eq!(problem["errors"][0]["pointer"], "/exclusive");
    system.request(Method::DELETE, path, None).await;
    system.patch("q", json!({"exclusive": true})).await;
    system.refused(Method::PUT, path, Some(body), (409, "queue_exclusive", "omit group")).await;
    system.refused(Method::GET, path, None, (404, "schedule_not_found", "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_gets_the_schedule_of_a_message_and_metrics_count_ticks() {
    let system = System::start("").await;
    system.put_schedule("/v1/queues/q/schedules/often", json!({"every": "1s", "message": {"data": 1}})).await;
    let mut events = system.http.get(system.url("/v1/queues/q/events")).send().await.unwrap();
    let mut stream_text = String::new();
    while !stream_text.contains("event: enqueued") || !stream_text.contains("\n\n") {
        let chunk = tokio::time::timeout(Duration::from_secs(20), events.chunk()).await.expect("a tick is an event");
        stream_text += std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap();
    }
    assert!(stream_text.contains("\"schedule\":\"often\""), "{stream_text}");
    let metrics = system.metrics().await;
    let metric_value = |series: &str| crate::system::metric_in(&metrics, series);
    assert!(metric_value("drover_schedule_ticks_total{outcome=\"posted\"}") >= 1, "{metrics}");
    assert!(metric_value("drover_schedule_lateness_seconds_count") >= 1);
    assert!(metric_value("drover_queue_scheduled_total{queue=\"q\"}") >= 1);
    assert_eq!(metric_value("drover_queue_schedules{queue=\"q\"}"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_schedule_is_created_at_the_start_and_stays_when_it_is_removed_from_the_file() {
    let config = r#"
        [queues.q.schedules.report]
        cron = "30 9 * * mon-fri"
        timezone = "Europe/Berlin"
        message = { data = { kind = "report" }, priority = 5 }
        [queues.q]
        max_attempts = 2
    "#;
    let mut system = System::start(config).await;
    let path = "/v1/queues/q/schedules/report";
    let started_at = Instant::now();
    let schedule = loop {
        let schedule = system.get(path).await;
        if schedule["name"] == "report" {
            break schedule;
        }
        assert!(started_at.elapsed() < Duration::from_secs(30), "{schedule}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(schedule["declared"], true);
    assert_eq!(schedule["message"], json!({"data": {"kind": "report"}, "priority": 5}));
    assert_eq!(system.get("/v1/queues/q").await["settings"]["max_attempts"], 2);

    system.api.terminate();
    std::fs::write(system.config.path(), "[queues.q]\nmax_attempts = 2\n").unwrap();
    system.relaunch_api();
    system.api.wait_for_log("no longer declares a schedule");
    system.wait_until_ready(&system.base).await;
    assert_eq!(system.get(path).await["name"], "report");
}

/// A system for the test of crashes, which kills and starts Redis, the APIs and the workers of the system.
struct CrashingSystem {
    system: System,
    ports: Vec<ReservedPort>,
    apis: Vec<Option<Process>>,
    workers: Vec<Option<Process>>,
    is_redis_down: bool,
    /// The intervals in which ticks must be posted in time, by Redis's clock: Redis answered, and an API had run for 2 s.
    promised: Vec<(u64, u64)>,
    /// The instant at which Redis, an API or a worker was last killed or started; `None` while Redis or all APIs are down.
    up_since: Option<Instant>,
}

const CONFIG: &str = r#"
    [[worker.routes]]
    queue = "ticks"
    handler = { type = "log" }
    [queues.ticks]
    retention.completed = { age = "24h", count = 1000000 }
"#;

impl CrashingSystem {
    async fn start() -> Self {
        let system = System::start_on(RedisServer::start_durable(), CONFIG).await;
        let ports: Vec<ReservedPort> = (0..3).map(|_| ReservedPort::reserve()).collect();
        let apis = ports.iter().map(|port| Some(start_api(port, &system.redis_url, &system.config))).collect();
        let workers = (0..4).map(|_| Some(system.launch_worker(&[]))).collect();
        Self {
            system,
            ports,
            apis,
            workers,
            is_redis_down: false,
            promised: Vec::new(),
            up_since: Some(Instant::now()),
        }
    }

    /// Ends an interval in which ticks must be posted in time. Such an interval begins 4 s after the last kill or start of a process,
    /// because a process needs time to start, and then must run for 2 s.
    fn record_change(&mut self) {
        if let Some(since) = self.up_since.take()
            && since.elapsed() > Duration::from_secs(4)
        {
            let now = self.system.redis_millis();
            let begin_millis = now - u64::try_from(since.elapsed().as_millis()).unwrap() + 4_000;
            self.promised.push((begin_millis, now));
        }
    }

    fn kill_or_start(&mut self, part: usize) {
        self.record_change();
        match part {
            0 if self.is_redis_down => {
                self.system.redis.restart();
                self.is_redis_down = false;
            }
            0 => {
                self.system.redis.kill();
                self.is_redis_down = true;
            }
            1..=3 => {
                let api = &mut self.apis[part - 1];
                if let Some(mut running) = api.take() {
                    running.kill();
                } else {
                    *api = Some(start_api(&self.ports[part - 1], &self.system.redis_url, &self.system.config));
                }
            }
            4 if self.system.api.has_ended() => self.system.relaunch_api(),
            4 => self.system.api.kill(),
            _ => {
                let worker = &mut self.workers[part - 5];
                if let Some(mut running) = worker.take() {
                    running.kill();
                } else {
                    *worker = Some(self.system.launch_worker(&[]));
                }
            }
        }
        let has_api = self.apis.iter().any(Option::is_some) || !self.system.api.has_ended();
        self.up_since = (has_api && !self.is_redis_down).then(Instant::now);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tick_of_a_schedule_is_posted_once_while_processes_and_redis_are_killed_in_random_order() {
    let (_seed, mut random) = Seed::choose();
    let duration = Duration::from_secs(from_env("DROVER_FAULTS_SECS").unwrap_or(25));
    let mut crashing_system = CrashingSystem::start().await;
    for missed in ["skip", "one", "all"] {
        let body = json!({"every": "1s", "missed": missed, "message": {"data": missed}});
        let (status, answer) =
            crashing_system.system.put_schedule(&format!("/v1/queues/ticks/schedules/{missed}"), body).await;
        assert_eq!(status, 201, "{answer}");
    }
    let started_at = Instant::now();
    while started_at.elapsed() < duration {
        let mut parts_in_order: Vec<usize> = (0..9).flat_map(|part| [part, part]).collect();
        parts_in_order.shuffle(&mut random);
        for part in parts_in_order {
            crashing_system.kill_or_start(part);
            let pause_millis = if random.random_range(0..10) == 0 { 6_000 } else { random.random_range(0..600) };
            tokio::time::sleep(Duration::from_millis(pause_millis)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    crashing_system.record_change();
    let CrashingSystem { system, promised, .. } = &crashing_system;
    system.wait_until_ready(&system.base).await;
    for missed in ["skip", "one", "all"] {
        system.post_empty(&format!("/v1/queues/ticks/schedules/{missed}/pause")).await;
    }
    let all = system.scheduled_messages("ticks").await;
    for (schedule, messages) in &all {
        let tick_seconds = assert_each_tick_once(messages);
        match schedule.as_str() {
            "all" => {
                let expected: Vec<u64> = (tick_seconds[0]..=*tick_seconds.last().unwrap()).collect();
                assert_eq!(tick_seconds, expected, "every tick is posted");
            }
            "skip" => {
                assert!(
                    messages.iter().all(|message| lateness(message) < MISSED_AFTER_MILLIS),
                    "missed ticks are dropped"
                );
            }
            _ => {
                // One message represents all missed ticks, so a tick that is posted late is the last tick before a tick that is
                // not missed.
                let missed_count = messages.iter().filter(|message| lateness(message) >= MISSED_AFTER_MILLIS).count();
                assert!(
                    missed_count <= messages.len() / 2 + 1,
                    "{missed_count} of {} messages are late",
                    messages.len()
                );
            }
        }
        let posted_in_time = messages.iter().filter(|message| {
            let tick = millis(&message["scheduled_at"]);
            promised.iter().any(|(begin, end)| (*begin..*end).contains(&tick))
        });
        for message in posted_in_time {
            assert!(lateness(message) <= MAX_LATENESS_MILLIS, "{} ms late: {message}", lateness(message));
        }
    }
    assert_eq!(all.len(), 3);
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tick_of_a_schedule_is_posted_once_while_schedules_are_replaced_paused_and_deleted() {
    let (_seed, mut random) = Seed::choose();
    let system = System::start("").await;
    let ports: Vec<ReservedPort> = (0..3).map(|_| ReservedPort::reserve()).collect();
    let _apis: Vec<Process> = ports.iter().map(|port| start_api(port, &system.redis_url, &system.config)).collect();
    // The times by Redis's clock between which a schedule was paused or deleted.
    let mut pauses: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    let mut paused_since: BTreeMap<String, u64> = BTreeMap::new();
    let schedule_names = ["s0", "s1", "s2"];
    let started_at = Instant::now();
    let mut definition = 0;
    while started_at.elapsed() < Duration::from_secs(15) {
        let name = (*schedule_names.choose(&mut random).unwrap()).to_owned();
        let path = format!("/v1/queues/q/schedules/{name}");
        let millis_before = system.redis_millis();
        match random.random_range(0..4) {
            0 => {
                definition += 1;
                let (status, schedule) =
                    system.put_schedule(&path, json!({"every": "1s", "message": number(definition)})).await;
                assert!(status == 200 || status == 201, "{schedule}");
                if schedule["paused"] == false
                    && let Some(since) = paused_since.remove(&name)
                {
                    pauses.entry(name).or_default().push((since, millis_before));
                }
            }
            1 => {
                let (status, _) = system.post_empty(&format!("{path}/resume")).await;
                if status == 200
                    && let Some(since) = paused_since.remove(&name)
                {
                    pauses.entry(name).or_default().push((since, millis_before));
                }
            }
            change => {
                let (method, path) =
                    if change == 2 { (Method::POST, format!("{path}/pause")) } else { (Method::DELETE, path) };
                system.request(method, &path, None).await;
                paused_since.entry(name).or_insert_with(|| system.redis_millis());
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..700))).await;
    }
    let end_millis = system.redis_millis();
    for (name, since) in paused_since {
        pauses.entry(name).or_default().push((since, end_millis));
    }
    let all = system.scheduled_messages("q").await;
    assert!(all.values().map(Vec::len).sum::<usize>() > 5, "{all:?}");
    for (name, messages) in &all {
        assert_each_tick_once(messages);
        for message in messages {
            let posted_at = millis(&message["created_at"]);
            let pauses_of_schedule =
                pauses.get(name).into_iter().flatten().find(|(since, until)| *since < posted_at && posted_at < *until);
            assert!(pauses_of_schedule.is_none(), "{message} was posted during the pause {pauses_of_schedule:?}");
            assert!(lateness(message) <= MAX_LATENESS_MILLIS, "{} ms late: {message}", lateness(message));
        }
    }
    system.assert_clean().await;
}

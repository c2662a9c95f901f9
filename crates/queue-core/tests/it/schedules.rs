//! Schedules: definitions, pauses, deletions, and the schedules that the configuration declares.

use queue_core::{
    DefinedBy, Error, PutSchedule, Queues, Redis, ScheduleName, State,
    schedule::{NewSchedule, Schedule},
    settings::DeclaredSettings,
};
use serde_json::{Value, json};

use crate::{TIME_LIMIT, TestQueue, numbered_message, queue_name};

pub(crate) fn schedule_from_json(json: Value) -> NewSchedule {
    serde_json::from_value(json).unwrap()
}

pub(crate) fn schedule_name(name: &str) -> ScheduleName {
    name.parse().unwrap()
}

pub(crate) fn json_of(schedule: &Schedule) -> Value {
    serde_json::from_str(&serde_json::to_string(schedule).unwrap()).unwrap()
}

impl TestQueue {
    pub(crate) async fn put(&self, name: &str, json: Value) -> Value {
        match self.queue.put_schedule(&schedule_name(name), schedule_from_json(json), DefinedBy::Client).await.unwrap()
        {
            PutSchedule::Created(schedule) | PutSchedule::Existed(schedule) => json_of(&schedule),
        }
    }

    pub(crate) async fn schedule(&self, name: &str) -> Value {
        json_of(&self.queue.schedule(&schedule_name(name)).await.unwrap().unwrap())
    }
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
    // A process can use the queue although it declares `exclusive`, which contradicts the schedule of the queue.
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

//! Tests of changes of a message by its producer: cancel, retry, promote, patch and erase.

use queue_core::{Action, Extended, Failure, Settlement, State};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{System, completed, failed, millis};

/// Returns a queue with a message in each state, whose id is the state.
async fn one_message_per_state() -> System {
    let system = System::start("").await;
    system.post("q", json!({"data": 1, "id": "completed"})).await;
    system.settle_all("q", completed()).await;
    system.post("q", json!({"data": 1, "id": "failed"})).await;
    system.settle_all("q", failed()).await;
    system.post("q", json!({"data": 1, "id": "active"})).await;
    assert_eq!(system.lease("q", 1).await.len(), 1);
    system.post("q", json!({"data": 1, "id": "held", "hold": "k"})).await;
    system.post("q", json!({"data": 1, "id": "delayed", "delay": "1h"})).await;
    system.post("q", json!({"data": 1, "id": "waiting"})).await;
    system
}

fn message_path(id: &str) -> String {
    format!("/v1/queues/q/messages/{id}")
}

async fn patch(system: &System, id: &str, patch: Value) -> (u16, Value) {
    system.request(Method::PATCH, &message_path(id), Some(patch)).await
}

async fn patch_message(system: &System, id: &str, changes: Value) -> Value {
    let (status, message) = patch(system, id, changes).await;
    assert_eq!(status, 200, "{message}");
    assert_eq!(message, system.get(&message_path(id)).await, "the answer is the message");
    message
}

fn detail_of(problem: &Value) -> &str {
    problem["detail"].as_str().unwrap()
}

#[tokio::test]
async fn operation_that_the_state_of_a_message_forbids_is_refused_with_the_state_and_with_advice() {
    let system = one_message_per_state().await;
    for (id, operation, alternative) in [
        ("completed", "cancel", "its result stays"),
        ("failed", "cancel", "DELETE /v1/queues/q/messages/failed"),
        ("held", "retry", "/v1/queues/q/signals/"),
        ("delayed", "retry", "POST /v1/queues/q/messages/delayed/promote"),
        ("waiting", "retry", "handed out without that"),
        ("active", "retry", "GET /v1/queues/q/messages/active?wait=20s"),
        ("completed", "retry", "erase this one, DELETE /v1/queues/q/messages/completed, and post it again"),
        ("held", "promote", "/v1/queues/q/signals/"),
        ("waiting", "promote", "handed out without that"),
        ("active", "promote", "GET /v1/queues/q/messages/active?wait=20s"),
        ("completed", "promote", "post it as a new message with another id"),
        ("failed", "promote", "POST /v1/queues/q/messages/failed/retry"),
        ("active", "patch", "POST /v1/queues/q/messages/active/cancel, and post another one"),
        ("completed", "patch", "post it as a new message with another id"),
        ("failed", "patch", "post it as a new message with another id"),
    ] {
        let (status, problem) = match operation {
            "patch" => patch(&system, id, json!({"data": 2})).await,
            _ => system.post_empty(&format!("{}/{operation}", message_path(id))).await,
        };
        assert_eq!((status, &problem["code"]), (409, &json!(format!("message_{id}"))), "{operation}: {problem}");
        assert!(detail_of(&problem).contains(&format!("message {id} is {id}, and only")), "{problem}");
        assert!(detail_of(&problem).contains(alternative), "{problem}");
        assert_eq!(system.get(&message_path(id)).await["state"], id, "nothing was changed");
    }
    let (status, problem) = system.request(Method::DELETE, &message_path("active"), None).await;
    assert_eq!((status, &problem["code"]), (409, &json!("message_active")));
    assert!(detail_of(&problem).contains("POST /v1/queues/q/messages/active/cancel"), "{problem}");
    for id in ["unknown", "21718923400017"] {
        for (method, end) in
            [(Method::POST, "/cancel"), (Method::POST, "/retry"), (Method::POST, "/promote"), (Method::DELETE, "")]
        {
            let (status, problem) = system.request(method, &format!("{}{end}", message_path(id)), None).await;
            assert_eq!((status, &problem["code"]), (404, &json!("message_not_found")), "{end}");
        }
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn advice_in_the_refused_retry_of_a_completed_message_runs_its_work_again() {
    let system = System::start("").await;
    for id in [Some("own"), None] {
        let message = json!({"data": 1, "id": id});
        let location = system.post("q", message.clone()).await;
        assert_eq!(system.settle_all("q", completed()).await, 1);
        let (status, problem) = system.post_empty(&format!("{location}/retry")).await;
        assert_eq!(status, 409);
        if detail_of(&problem).contains("another id, or erase this one") {
            assert_eq!(system.send("q", &message).await.status(), 200, "the same message again is a duplicate");
            system.post("q", json!({"data": 1, "id": "another"})).await;
            assert_eq!(system.settle_all("q", completed()).await, 1);
            assert_eq!(system.request(Method::DELETE, &location, None).await.0, 204);
        } else {
            assert!(id.is_none() && detail_of(&problem).contains("post its data as a new message"), "{problem}");
        }
        system.post("q", message).await;
        assert_eq!(system.settle_all("q", completed()).await, 1, "{problem}");
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn message_is_erased_with_all_its_data() {
    let system = one_message_per_state().await;
    for id in ["held", "delayed", "waiting", "completed", "failed"] {
        assert_eq!(system.request(Method::DELETE, &message_path(id), None).await, (204, Value::Null), "{id}");
        assert_eq!(system.request(Method::GET, &message_path(id), None).await.0, 404);
        assert_eq!(
            system.request(Method::DELETE, &message_path(id), None).await.0,
            404,
            "a message is erased only once"
        );
        system.post("q", json!({"data": 2, "id": id})).await;
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn a_message_that_has_not_started_is_cancelled_at_once() {
    let system = one_message_per_state().await;
    for id in ["held", "delayed", "waiting"] {
        for _ in 0..2 {
            let (status, message) = system.post_empty(&format!("{}/cancel", message_path(id))).await;
            assert_eq!((status, &message["state"]), (200, &json!("failed")), "{id}: cancelled, or cancelled already");
            assert_eq!(message["error"]["code"], "cancelled");
        }
    }
    assert_eq!(system.lease("q", 10).await.len(), 0);
    assert_eq!(system.get("/v1/queues/q").await["totals"]["cancelled"], 3);
    system.patch("q", json!({"retention": {"failed": {"count": 0}}})).await;
    system.post("q", json!({"data": 1, "id": "not-kept"})).await;
    let (status, answer) = system.post_empty(&format!("{}/cancel", message_path("not-kept"))).await;
    assert_eq!((status, answer), (200, json!({"id": "not-kept", "queue": "q", "state": null})));
    system.assert_clean().await;
}

#[tokio::test]
async fn consumer_of_a_cancelled_message_is_notified_when_it_extends_its_lease() {
    let system = System::start("").await;
    let location = system.post("q", json!({"data": 1})).await;
    let delivery = system.lease("q", 1).await.remove(0);
    for _ in 0..2 {
        let (status, message) = system.post_empty(&format!("{location}/cancel")).await;
        assert_eq!((status, &message["state"]), (202, &json!("active")));
    }
    let queue = system.queues().queue(&"q".parse().unwrap());
    let extend_outcomes = queue.extend(std::slice::from_ref(&delivery.lease), None).await.unwrap();
    assert!(matches!(extend_outcomes[0], Extended::ToBeCancelled(_)));
    let action = Action::Fail(Failure::new("stopped", "the worker stopped it"));
    queue.settle(&[Settlement { lease: delivery.lease, action }]).await.unwrap();
    let message = system.get(&location).await;
    assert_eq!((&message["state"], &message["error"]["code"]), (&json!("failed"), &json!("cancelled")));
    system.assert_clean().await;
}

#[tokio::test]
async fn failed_message_is_retried_and_delayed_message_is_promoted() {
    let system = one_message_per_state().await;
    let (status, message) = system.post_empty(&format!("{}/retry", message_path("failed"))).await;
    assert_eq!((status, &message["state"]), (200, &json!("waiting")));
    assert_eq!((&message["attempts_made"], &message["error"]["code"]), (&json!(0), &json!("broken")));
    let (status, message) = system.post_empty(&format!("{}/promote", message_path("delayed"))).await;
    assert_eq!((status, &message["state"]), (200, &json!("waiting")));
    assert_eq!(system.settle_all("q", completed()).await, 3);
    assert_eq!(system.get(&message_path("failed")).await["state"], "completed");
    system.assert_clean().await;
}

#[tokio::test]
async fn merge_patch_changes_a_message_that_has_not_started() {
    let system = System::start("").await;
    let headers = json!({"a": "1", "b": "2"});
    for (id, options) in [("held", json!({"hold": "k"})), ("delayed", json!({"delay": "1h"})), ("waiting", json!({}))] {
        let mut message = json!({"data": {"x": 1, "y": 2}, "id": id, "name": "n", "priority": 3, "headers": headers});
        message.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        system.post("q", message).await;
        let message_before = system.get(&message_path(id)).await;
        assert_eq!(patch_message(&system, id, json!({})).await, message_before, "an empty patch changes nothing");
        let odd = r#"{ "big": 12345678901234567890, "a": [] }"#;
        let request =
            system.http.patch(system.url(&message_path(id))).header("content-type", "application/merge-patch+json");
        let answer = request.body(format!(r#"{{"data":{odd},"name":"other"}}"#)).send().await.unwrap();
        assert!(answer.text().await.unwrap().contains(odd), "data is stored byte for byte and not merged");
        let message = patch_message(&system, id, json!({"headers": {"b": null, "c": "3"}, "priority": -2})).await;
        assert_eq!((&message["name"], &message["priority"]), (&json!("other"), &json!(-2)));
        assert_eq!((&message["headers"], &message["state"]), (&json!({"a": "1", "c": "3"}), &json!(id)));
        let message =
            patch_message(&system, id, json!({"headers": null, "name": null, "priority": null, "data": false})).await;
        assert_eq!((&message["headers"], &message["name"]), (&json!({}), &Value::Null));
        assert_eq!((&message["priority"], &message["data"]), (&json!(0), &json!(false)));
        assert_eq!(message["due_at"], message_before["due_at"]);
        for (delay, min, max) in [(json!("2h"), 7_200_000, 7_260_000), (Value::Null, 0, 60_000)] {
            let message = patch_message(&system, id, json!({ "delay": delay })).await;
            let expected = match (id, delay.is_null()) {
                ("held", _) => "held",
                (_, false) => "delayed",
                (_, true) => "waiting",
            };
            assert_eq!(message["state"], expected, "{id}");
            let delay_millis = millis(&message["due_at"]) - millis(&message["created_at"]);
            assert!((min..=max).contains(&delay_millis) && message["delay"] == delay_millis, "{message}");
        }
        system.assert_clean().await;
    }
    assert_eq!(system.post_empty("/v1/queues/q/signals/k").await.1["released"], 1);
    let counts = system.get("/v1/queues/q").await["counts"].clone();
    assert_eq!((&counts["waiting"], &counts["held"], &counts["delayed"]), (&json!(3), &json!(0), &json!(0)));
    assert_eq!(system.settle_all("q", completed()).await, 3);
    system.assert_clean().await;
}

#[tokio::test]
async fn invalid_patch_is_refused_and_changes_nothing() {
    let system = System::start("").await;
    system.post("q", json!({"data": 1, "id": "a", "headers": {"h": "x".repeat(3_000)}})).await;
    let message_before = system.get(&message_path("a")).await;
    for (body, pointer, expected) in [
        (json!({"data": null}), "/data", "a message keeps its data"),
        (json!({"name": ""}), "/name", "1 to 128 characters"),
        (json!({"name": "b", "delay": -1}), "/delay", "must not be negative"),
        (json!({"delay": "3651d"}), "/delay", "0s to 3650d"),
        (json!({"priority": 1.5}), "/priority", "a whole number"),
        (json!({"headers": {"a": 1}}), "/headers/a", "must be a text"),
        (json!({"headers": {"a": "x".repeat(1_100)}}), "/headers", "together at most 4096 bytes"),
        (json!({"hold": "k"}), "/hold", "unknown"),
        (json!({"prioriti": 1}), "/prioriti", "did you mean \"priority\"?"),
    ] {
        let (status, problem) = patch(&system, "a", body).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_message")), "{problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
        assert!(problem["errors"][0]["detail"].as_str().unwrap().contains(expected), "{problem}");
    }
    for (body, kind, status, code) in [
        ("[]", "application/json", 400, "invalid_json"),
        (r#"{"data":1,"data":2}"#, "application/json", 400, "invalid_json"),
        ("{}", "text/plain", 415, "unsupported_media_type"),
    ] {
        let request = system.http.patch(system.url(&message_path("a"))).header("content-type", kind).body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{body}");
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], code);
    }
    assert_eq!(patch(&system, "unknown", json!({})).await.1["code"], "message_not_found");
    assert_eq!(patch(&system, "42", json!({})).await.1["code"], "invalid_id");
    assert_eq!(patch(&system, "a?x=1", json!({})).await.1["code"], "invalid_query");

    // While Redis is full, a patch is refused like a POST, and stored messages can be leased.
    system.redis.command("CONFIG SET maxmemory 1");
    let (status, problem) = patch(&system, "a", json!({"data": "larger"})).await;
    assert_eq!((status, &problem["code"]), (507, &json!("out_of_memory")));
    assert_eq!(system.get(&message_path("a")).await, message_before);
    system.settle_all("q", Action::Release(None)).await;
    system.redis.command("CONFIG SET maxmemory 0");
    let (status, problem) = patch(&system, "a", json!({"data": 2})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("message_waiting")), "a released message has started");
    assert!(detail_of(&problem).contains("only a message that was never handed out can be changed"), "{problem}");
    let late_release = Action::Release(Some(queue_core::Millis::from_hours(1)));
    system.settle_all("q", late_release).await;
    assert_eq!(patch(&system, "a", json!({"delay": null})).await.1["code"], "message_delayed");
    system.assert_clean().await;
}

#[tokio::test]
async fn patched_message_moves_to_its_new_position_in_the_order() {
    let system = System::start("").await;
    let queue = system.queues().queue(&"q".parse().unwrap());
    for id in ["a", "b", "c", "d", "e"] {
        system.post("q", json!({"data": 1, "id": id})).await;
    }
    let assert_order = async |expected: &[&str]| {
        let found_messages = queue.list(State::Waiting, 10, None).await.unwrap().messages;
        assert_eq!(found_messages.iter().map(|message| message.id.as_str()).collect::<Vec<_>>(), expected);
        let counts = &system.get("/v1/queues/q").await["counts"];
        assert_eq!(counts["waiting"], expected.len());
        system.assert_clean().await;
    };
    patch_message(&system, "d", json!({"priority": -1})).await;
    patch_message(&system, "b", json!({"priority": 1})).await;
    assert_order(&["d", "a", "c", "e", "b"]).await;
    patch_message(&system, "c", json!({"delay": "1h"})).await;
    assert_order(&["d", "a", "e", "b"]).await;
    patch_message(&system, "c", json!({"delay": null})).await;
    patch_message(&system, "b", json!({"priority": null})).await;
    // A patch of a waiting message moves the message within the waiting list: `b` and `c` were waiting before their patches,
    // and are now in the list exactly once.
    assert_order(&["d", "a", "b", "c", "e"]).await;
    patch_message(&system, "a", json!({"delay": "1h", "priority": 5})).await;
    patch_message(&system, "a", json!({"delay": null})).await;
    assert_order(&["d", "b", "c", "e", "a"]).await;
    // A message that was cancelled and retried is in the list once, by its new priority.
    for id in ["a", "c"] {
        system.post_empty(&format!("{}/cancel", message_path(id))).await;
        system.post_empty(&format!("{}/retry", message_path(id))).await;
    }
    assert_order(&["d", "b", "c", "e", "a"]).await;
    assert_eq!(patch_message(&system, "a", json!({"data": 2})).await["deliveries"], 0, "the message never started");
    let lease_reply = system.lease("q", 10).await;
    assert_eq!(
        lease_reply.iter().map(|delivery| delivery.message.id.as_str()).collect::<Vec<_>>(),
        ["d", "b", "c", "e", "a"]
    );
    assert!(system.lease("q", 10).await.is_empty(), "each message is handed out once");
    system.assert_clean().await;
}

/// Returns the number of lease calls that the API has made.
async fn lease_calls(system: &System) -> u64 {
    system.metric("drover_redis_call_duration_seconds_count{script=\"lease\"}").await
}

#[tokio::test]
async fn idle_consumer_is_woken_when_a_patch_makes_a_message_ready() {
    let system = System::start("").await;
    for (id, delay) in [("a", Value::Null), ("b", json!("300ms"))] {
        system.post("q", json!({"data": 1, "id": id, "delay": "1h"})).await;
        let waiting_lease_call = system.request(Method::POST, "/v1/queues/q/leases", Some(json!({"wait": "60s"})));
        let calls_before = lease_calls(&system).await;
        let started_at = std::time::Instant::now();
        let patch_message_later = async {
            // The first lease call finds no message, and then the client waits.
            while lease_calls(&system).await == calls_before {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            patch(&system, id, json!({"delay": delay, "name": "now"})).await
        };
        let ((status, answer), (patched, _)) = tokio::join!(waiting_lease_call, patch_message_later);
        assert_eq!((status, patched, &answer["messages"][0]["name"]), (200, 200, &json!("now")), "{answer}");
        assert!(started_at.elapsed().as_secs() < 5, "the client was woken");
    }
    system.post("q", json!({"data": 1, "id": "c"})).await;
    system.queues().queue(&"q".parse().unwrap()).listen().await.unwrap();
    patch_message(&system, "c", json!({"delay": "2h"})).await;
    let log = system.redis.command("XRANGE drover:{q}:events - +");
    assert!(log.contains("enqueued") && log.contains("	ic	d"), "the event has the state and the due time: {log}");
    system.assert_clean().await;
}

#[tokio::test]
async fn concurrent_patches_are_each_applied_or_refused() {
    let system = System::start("").await;
    for round in 0..30 {
        let id = format!("m{round}");
        system.post("q", json!({"data": 0, "id": id})).await;
        let header = |n: usize| patch(&system, &id, json!({"headers": {format!("h{n}"): "x"}}));
        let answers = futures_util::future::join_all((0..4).map(header)).await;
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
        let message = system.get(&message_path(&id)).await;
        assert_eq!(message["headers"].as_object().unwrap().len(), 4, "each patch is applied");
        // A patch that is sent together with a lease and a cancel is applied before the lease and the cancel, or is refused.
        let cancel = format!("{}/cancel", message_path(&id));
        let (leased, (status, problem), _) = tokio::join!(
            system.lease("q", 10),
            patch(&system, &id, json!({"data": 1, "delay": null, "priority": round % 3})),
            async { if round % 2 == 0 { system.post_empty(&cancel).await } else { (0, Value::Null) } }
        );
        assert!([200, 409].contains(&status), "{problem}");
        let message = system.get(&message_path(&id)).await;
        assert_eq!(message["data"], i32::from(status == 200), "{message}");
        if let Some(delivery) = leased.iter().find(|delivery| delivery.message.id.as_str() == id) {
            assert_eq!(delivery.message.data.get(), message["data"].to_string(), "the leased message does not change");
        }
        system.assert_clean().await;
    }
}

//! Tests of consumers over HTTP: leasing with and without a wait, settling, and disconnected clients.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{System, millis, number};

const SHORT_LEASES: &str =
    "[queues.q]\nvisibility_timeout = \"300ms\"\nmax_attempts = 2\nbackoff = { type = \"fixed\", delay = 0 }";

async fn lease(system: &System, body: Value) -> Value {
    let (status, answer) = system.request(Method::POST, "/v1/queues/q/leases", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn settle(system: &System, verb: &str, body: Value) -> (u16, Value) {
    system.request(Method::POST, &format!("/v1/queues/q/leases/{verb}"), Some(body)).await
}

#[tokio::test]
async fn a_consumer_leases_messages_and_ends_its_leases_in_each_way() {
    let system = System::start(SHORT_LEASES).await;
    for n in 0..4 {
        system.post("q", number(n)).await;
    }
    let lease_answer = lease(&system, json!({"max": 10, "visibility_timeout": "5s"})).await;
    let consumer = lease_answer["consumer"].as_str().unwrap();
    let messages = lease_answer["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 4);
    for (n, message) in messages.iter().enumerate() {
        assert_eq!((&message["data"], &message["state"]), (&json!(n), &json!("active")));
        assert_eq!(message["consumer"], consumer, "the server issued the consumer's id");
        let lease_millis = millis(&message["lease_expires_at"]) - millis(&message["started_at"]);
        assert_eq!(lease_millis, 5_000);
    }
    let token = |n: usize| messages[n]["lease"].clone();
    let path_of = |n: usize| format!("/v1/queues/q/messages/{}", messages[n]["id"].as_str().unwrap());

    let (status, completed_outcome) =
        settle(&system, "complete", json!({"lease": token(0), "result": {"ok": []}})).await;
    assert_eq!((status, &completed_outcome["outcome"]), (200, &json!("completed")));
    assert_eq!(system.get(&path_of(0)).await["result"], json!({"ok": []}));
    let (status, again) = settle(&system, "complete", json!({"lease": token(0), "result": 2})).await;
    assert_eq!((status, &again["outcome"]), (200, &json!("completed")), "the repeated settle has the same answer");
    assert_eq!(system.get(&path_of(0)).await["result"], json!({"ok": []}), "a result is never overwritten");

    let consumer_error = json!({"code": "odd", "message": "it went wrong"});
    let (_, failed) =
        settle(&system, "fail", json!({"lease": token(1), "error": consumer_error, "retry_after": "1h"})).await;
    assert_eq!(failed["outcome"], "delayed");
    assert_eq!(system.get(&path_of(1)).await["error"]["code"], "odd");
    let (_, failed_outcome) = settle(&system, "fail", json!({"lease": token(2), "retry": false})).await;
    assert_eq!(failed_outcome["outcome"], "failed");
    let (_, extended) = settle(&system, "extend", json!({"lease": token(3), "progress": 40})).await;
    assert_eq!(extended["outcome"], "extended");
    assert!(millis(&extended["lease_expires_at"]) > 0);
    assert_eq!(system.get(&path_of(3)).await["progress"], 40);
    let (_, released) = settle(&system, "release", json!({"lease": token(3)})).await;
    assert_eq!(released["outcome"], "waiting");
    let message = system.get(&path_of(3)).await;
    assert_eq!((&message["attempts_made"], &message["state"]), (&json!(0), &json!("waiting")));

    for verb in ["complete", "fail", "extend"] {
        let (status, problem) = settle(&system, verb, json!({"lease": token(3)})).await;
        assert_eq!((status, &problem["code"]), (410, &json!("lease_gone")), "{verb}");
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn leases_settled_in_one_request_are_each_answered() {
    let system = System::start(SHORT_LEASES).await;
    for n in 0..3 {
        system.post("q", number(n)).await;
    }
    let lease_answer = lease(&system, json!({"max": 3, "consumer": "me"})).await;
    assert_eq!(lease_answer["consumer"], "me");
    let token = |n: usize| lease_answer["messages"][n]["lease"].clone();
    let settlements = json!({"settlements": [
        {"lease": token(0), "action": "complete", "result": 1},
        {"lease": token(1), "action": "extend"},
        {"lease": token(2), "action": "fail"},
        {"lease": "21718923400017-AAAAAAAAAAAAAAAAAAAAAA", "action": "complete"},
    ]});
    let (status, answer) = settle(&system, "settle", settlements).await;
    assert_eq!(status, 200);
    let outcomes: Vec<&str> =
        answer["settlements"].as_array().unwrap().iter().map(|end| end["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["completed", "extended", "waiting", "gone"]);
    system.assert_clean().await;
}

#[tokio::test]
async fn long_poll_is_answered_when_a_message_is_ready_and_empty_when_its_wait_ends() {
    let system = System::start(SHORT_LEASES).await;
    let started_at = Instant::now();
    let empty_answer = lease(&system, json!({"wait": "300ms"})).await;
    assert_eq!(empty_answer["messages"], json!([]));
    assert!((300..15_000).contains(&started_at.elapsed().as_millis()), "{:?}", started_at.elapsed());
    let (leased, post_time) = tokio::join!(lease(&system, json!({"wait": "20s"})), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        system.post("q", number(1)).await;
        Instant::now()
    });
    assert_eq!(leased["messages"][0]["data"], 1);
    // A poll would find the message only after 5 s.
    assert!(post_time.elapsed() < Duration::from_secs(4));
    // The lease lapses, and the next client that waits receives the message without a poll.
    let started_at = Instant::now();
    let second_lease_answer = lease(&system, json!({"wait": "20s"})).await;
    assert_eq!(second_lease_answer["messages"][0]["lapses"], 1);
    assert!(started_at.elapsed() < Duration::from_secs(4), "{:?}", started_at.elapsed());
    system.assert_clean().await;
}

#[tokio::test]
async fn waiting_clients_receive_one_message_each() {
    let system = System::start("").await;
    let waiting_clients = (0..50).map(|_| lease(&system, json!({"wait": "20s"})));
    let (leased, ()) = tokio::join!(futures_util::future::join_all(waiting_clients), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        for n in 0..50 {
            system.post("q", number(n)).await;
        }
    });
    let mut received_data: Vec<u64> =
        leased.iter().map(|leased| leased["messages"][0]["data"].as_u64().unwrap()).collect();
    received_data.sort_unstable();
    assert_eq!(received_data, (0..50).collect::<Vec<_>>());
    system.assert_clean().await;
}

#[tokio::test]
async fn message_leased_for_a_disconnected_client_is_released_without_an_attempt() {
    let system = System::start("[queues.q]\nvisibility_timeout = \"1h\"").await;
    for _ in 0..20 {
        let unfinished_wait =
            tokio::time::timeout(Duration::from_millis(30), lease(&system, json!({"wait": "20s"}))).await;
        assert!(unfinished_wait.is_err());
    }
    system.post("q", number(1)).await;
    let lease_answer = lease(&system, json!({"wait": "20s"})).await;
    let message = &lease_answer["messages"][0];
    assert_eq!((&message["data"], &message["attempts_made"], &message["lapses"]), (&json!(1), &json!(0), &json!(0)));
    system.assert_clean().await;
}

#[tokio::test]
async fn run_longer_than_its_timeout_fails_for_http_consumers() {
    let system = System::start(SHORT_LEASES).await;
    let location = system.post("q", json!({"data": 1, "timeout": "100ms", "max_attempts": 1})).await;
    let lease_answer = lease(&system, json!({"visibility_timeout": "1h"})).await;
    assert_eq!(lease_answer["messages"][0]["timeout"], 100);
    let message = system.finished(&location).await;
    assert_eq!((&message["state"], &message["error"]["code"]), (&json!("failed"), &json!("timed_out")));
    let (status, _) = settle(&system, "complete", json!({"lease": lease_answer["messages"][0]["lease"]})).await;
    assert_eq!(status, 410);
}

#[tokio::test]
async fn invalid_lease_request_is_refused_with_its_pointer() {
    let system = System::start("").await;
    for (path, body, pointer) in [
        ("", json!({"max": 0}), "/max"),
        ("", json!({"wait": "2h"}), "/wait"),
        ("", json!({"visibility_timeout": 1}), "/visibility_timeout"),
        ("", json!({"consumer": "a b"}), "/consumer"),
        ("", json!({"maxx": 1}), "/maxx"),
        ("/complete", json!({}), "/lease"),
        ("/complete", json!({"lease": "x"}), "/lease"),
        ("/settle", json!({"settlements": [{}]}), "/settlements/0/action"),
    ] {
        let (status, problem) =
            system.request(Method::POST, &format!("/v1/queues/q/leases{path}"), Some(body.clone())).await;
        assert_eq!(status, 422, "{body}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    let (status, _) = settle(&system, "settle", json!({"settlements": []})).await;
    assert_eq!(status, 422);
}

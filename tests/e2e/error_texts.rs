//! Tests of error texts: the API refuses a bad request without words of its libraries or of Rust, and a refused request changes
//! nothing. Requests with unusual but valid input succeed.

use std::time::Duration;

use drover_tests::RedisServer;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{
    System,
    bad_requests::{Case, FIELD_CASES, QUEUE_PATH, all_cases, case, non_object_bodies, post, send_case, with_header},
};

/// Words of libraries and of Rust that must not occur in error texts. The requests of these tests contain no word of `INTERNAL_WORDS`.
const INTERNAL_WORDS: [&str; 32] = [
    "deserializ",
    "serde",
    "axum",
    "hyper",
    "tower",
    "invalid type",
    "invalid value",
    "invalid length",
    "expected value",
    "expected ident",
    "expected `",
    "EOF",
    "trailing char",
    "hex escape",
    "surrogate",
    "recursion",
    "unit variant",
    "newtype",
    "unknown variant",
    "unknown field",
    "missing field",
    "duplicate field",
    "sequence",
    "floating point",
    "struct",
    "enum",
    "usize",
    "u64",
    "i64",
    "u32",
    "f64",
    "`",
];

fn assert_no_internal_words(text: &str, request: &str) {
    for word in INTERNAL_WORDS {
        assert!(!text.contains(word), "{request} is answered with the word {word:?}: {text}");
    }
}

/// Returns the state of the queue without the values that depend on the clock, and the number of queues.
async fn state_snapshot(system: &System) -> Value {
    let mut queue = system.get(QUEUE_PATH).await;
    queue["oldest_waiting_age"].take();
    json!([queue, system.get("/v1/queues").await["queues"].as_array().unwrap().len()])
}

#[tokio::test]
async fn bad_request_is_refused_without_words_of_libraries_and_changes_nothing() {
    let system = System::start_on(RedisServer::start_durable(), "").await;
    system.post("q", json!({"data": 1, "hold": "k", "id": "held"})).await;
    let snapshot_before = state_snapshot(&system).await;
    // Each request uses a new connection: the server closes a connection when it did not read a body.
    let http = Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(60)).build().unwrap();
    let cases = all_cases();
    assert!(cases.len() > 200, "{}", cases.len());
    for case in &cases {
        let request =
            format!("{} {} {:?} {}", case.method, case.path, case.header, String::from_utf8_lossy(&case.body));
        let answer = send_case(&http, &system, case).await;
        let status = answer.status();
        assert!(status.is_client_error(), "{status} to {request}: {}", answer.text().await.unwrap());
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{request}");
        let mut problem: Value = answer.json().await.unwrap();
        // The test removes the random request id, because it may contain one of the forbidden words.
        problem["request_id"].take();
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{request}: {problem}");
        assert_no_internal_words(&problem.to_string(), &request);
    }
    assert_eq!(state_snapshot(&system).await, snapshot_before, "nothing was changed");
    let log = system.api.log();
    assert!(!log.iter().any(|line| line.contains("WARN") || line.contains("ERROR")), "{log:?}");
    system.assert_clean().await;
}

#[tokio::test]
async fn invalid_lines_of_ndjson_are_refused_without_words_of_libraries() {
    let system = System::start("").await;
    let mut lines = Vec::new();
    let mut line_count = 0;
    for body in non_object_bodies().into_iter().filter(|body| !body.contains(&b'\n') && !body.contains(&0)) {
        lines.extend([body, b"\n".to_vec()].concat());
        line_count += 1;
    }
    for (field, values) in FIELD_CASES {
        for value in values {
            lines.extend(format!("{{\"data\":1,\"{field}\":{value}}}\n").into_bytes());
            line_count += 1;
        }
    }
    let lines = Case { content_type: "application/x-ndjson", ..post("/messages/batch", lines) };
    let summary: Value = send_case(&system.http, &system, &lines).await.json().await.unwrap();
    assert_eq!((&summary["enqueued"], &summary["refused_count"]), (&json!(0), &json!(line_count)), "{summary}");
    assert_no_internal_words(&summary.to_string(), "NDJSON");
}

#[tokio::test]
async fn unusual_but_valid_input_is_accepted() {
    let system = System::start("").await;
    let assert_status = |case: Case, status: u16| {
        let system = &system;
        async move {
            let answered = send_case(&system.http, system, &case).await;
            let (actual, error_message) = (answered.status().as_u16(), answered.text().await.unwrap());
            assert_eq!(actual, status, "{} {}: {error_message}", case.path, String::from_utf8_lossy(&case.body));
            error_message
        }
    };
    // The API accepts a byte order mark, null for optional fields, and the encoding `identity`.
    assert_status(
        post("/messages", "\u{feff}{\"data\":1,\"name\":null,\"delay\":null,\"backoff\":{\"max\":null}}"),
        201,
    )
    .await;
    assert_status(
        post("/messages/batch", "\u{feff}{\"messages\":[{\"data\":1,\"priority\":null,\"headers\":null}]}"),
        201,
    )
    .await;
    let lines = "\u{feff}{\"data\":1,\"ttl\":null}\n{\"data\":2,\"hold\":null}\n";
    let lines = Case { content_type: "application/x-ndjson", ..post("/messages/batch", lines) };
    assert!(assert_status(lines, 200).await.contains("\"enqueued\":2"));
    assert_status(with_header("content-encoding", b"identity", post("/messages", "{\"data\":1}")), 201).await;
    assert_status(
        case(Method::PATCH, QUEUE_PATH, "\u{feff}{\"max_attempts\":null,\"idempotency_window\":\"1w 2d\"}"),
        200,
    )
    .await;
    assert_status(post("/signals/k", "{\"data\":null,\"sticky_for\":null}"), 200).await;
    let lease_answer =
        assert_status(post("/leases", "{\"max\":5,\"wait\":null,\"visibility_timeout\":null,\"consumer\":null}"), 200)
            .await;
    let lease_answer: Value = serde_json::from_str(&lease_answer).unwrap();
    let lease_token = |n: usize| lease_answer["messages"][n]["lease"].as_str().unwrap();
    assert_status(
        post(
            "/leases/extend",
            format!("{{\"lease\":\"{}\",\"visibility_timeout\":null,\"progress\":\"\\ud83d\"}}", lease_token(0)),
        ),
        200,
    )
    .await;
    assert_status(post("/leases/complete", format!("{{\"lease\":\"{}\",\"result\":null}}", lease_token(0))), 200).await;
    assert_status(post("/leases/release", format!("{{\"lease\":\"{}\",\"delay\":null}}", lease_token(1))), 200).await;
    // A consumer that fails a lease may send any JSON as the error.
    let long_text = "x".repeat(100_000);
    for (n, error, code, message) in [
        (2, "{\"code\":\"x\",\"message\":\"bad \\ud83d\"}", "x", "bad \u{fffd}"),
        (3, "\"boom\"", "failed", "boom"),
        (4, &*format!("{{\"message\":\"{long_text}\"}}"), "failed", "xxx"),
    ] {
        let failure_body = format!("{{\"lease\":\"{}\",\"retry\":false,\"error\":{error}}}", lease_token(n));
        assert_status(post("/leases/fail", failure_body), 200).await;
        let id = lease_answer["messages"][n]["id"].as_str().unwrap();
        let stored_error = &system.get(&format!("{QUEUE_PATH}/messages/{id}")).await["error"];
        assert_eq!(stored_error["code"], code);
        let error_message = stored_error["message"].as_str().unwrap();
        assert!(error_message.starts_with(message) && error_message.len() < 10_000, "{error_message:.100}");
    }
    system.assert_clean().await;
}

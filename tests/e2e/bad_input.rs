//! Tests of bad requests: the status, code and detail of the error responses, the close of the connection after an unread body,
//! and the allowed methods of each path.

use std::collections::BTreeSet;

use drover_tests::RedisServer;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use crate::System;

const JSON_TYPE: &str = "application/json";

struct Case {
    method: Method,
    path: &'static str,
    content_type: &'static str,
    body: String,
    status: u16,
    code: &'static str,
    detail: &'static str,
}

fn post_case(body: &str, status: u16, code: &'static str, detail: &'static str) -> Case {
    let path = "/v1/queues/q/messages";
    Case { method: Method::POST, path, content_type: JSON_TYPE, body: body.into(), status, code, detail }
}

/// Returns a `POST` without a body and content type.
fn post_without_body(status: u16, code: &'static str, detail: &'static str) -> Case {
    Case { content_type: "", ..post_case("", status, code, detail) }
}

fn get_case(path: &'static str, status: u16, code: &'static str, detail: &'static str) -> Case {
    Case { method: Method::GET, path, content_type: "", body: String::new(), status, code, detail }
}

/// Returns bad requests that post messages.
fn post_cases() -> Vec<Case> {
    vec![
        post_case("", 400, "invalid_json", "JSON"),
        post_case("not json", 400, "invalid_json", "at line 1, column"),
        post_case("[1]", 400, "invalid_json", "an object"),
        post_case(r#"{"data":1,"data":2}"#, 400, "invalid_json", "twice"),
        post_case("{}", 422, "invalid_message", "/data: required"),
        post_case(r#"{"data":1,"delay":-1}"#, 422, "invalid_message", "must not be negative"),
        post_case(r#"{"data":1,"delay":"soon"}"#, 422, "invalid_message", "1h 30m"),
        post_case(r#"{"data":1,"dealy":1}"#, 422, "invalid_message", "did you mean \"delay\"?"),
        post_case(r#"{"data":1,"priority":"high"}"#, 422, "invalid_message", "/priority"),
        post_case(r#"{"data":1,"max_attempts":0}"#, 422, "invalid_message", "from 1 to 1000"),
        post_case(r#"{"data":1,"id":"42"}"#, 422, "invalid_message", "put a letter in it"),
        post_case(r#"{"data":1,"delay":1,"deliver_at":"2030-01-01T00:00:00Z"}"#, 422, "invalid_message", "not both"),
        post_case(&format!("\"{}\"", "x".repeat(1 << 20)), 413, "body_too_large", "1048576 bytes"),
        Case { content_type: "text/plain", ..post_case("{}", 415, "unsupported_media_type", "application/json") },
        Case { content_type: "", ..post_case("{}", 415, "unsupported_media_type", "application/json") },
        Case { path: "/v1/queues/-q/messages", ..post_case("{}", 422, "invalid_queue_name", "starts with a letter") },
        Case { path: "/v1/queues/a%20b/messages", ..post_case("{}", 422, "invalid_queue_name", "A-Z a-z") },
        Case { path: "/v1/queues/%ff/messages", ..post_case("{}", 422, "invalid_queue_name", "A-Z a-z") },
        Case { path: "/v1/queues/q/messages?x=1", ..post_case("{}", 400, "invalid_query", "wait") },
        Case { path: "/v1/queues/q/messages/batch", ..post_case("{}", 422, "invalid_message", "/messages: required") },
        Case {
            path: "/v1/queues/q/messages/batch",
            ..post_case(r#"{"messages":[]}"#, 422, "too_many_messages", "1 to 1000")
        },
        Case {
            path: "/v1/queues/q/messages/batch",
            ..post_case(
                r#"{"messages":[{"data":1},{"data":1,"delay":-1}]}"#,
                422,
                "invalid_message",
                "/messages/1/delay",
            )
        },
        Case { method: Method::DELETE, ..post_case("", 405, "method_not_allowed", "Allow") },
        Case { method: Method::PUT, path: "/v1/queues", ..post_case("", 405, "method_not_allowed", "Allow") },
        post_case(r#"{"data":1,"timeout":0}"#, 422, "invalid_message", "1ms to 7d"),
        post_case(r#"{"data":1,"ttl":"3651d"}"#, 422, "invalid_message", "1ms to 3650d"),
        post_case(r#"{"data":1,"hold":"a/b"}"#, 422, "invalid_message", "/hold: a key is 1 to 256 characters"),
        post_case(r#"{"data":1,"id":"batch"}"#, 422, "invalid_message", "/id: an id must not be \"batch\""),
        post_case(r#"{"data":1,"id":".."}"#, 422, "invalid_message", "/id: an id is 1 to 256 characters"),
        Case {
            path: "/v1/queues/q/messages/batch",
            content_type: "text/plain",
            ..post_case("{}", 415, "unsupported_media_type", "application/x-ndjson")
        },
    ]
}

/// Returns requests with names of fields of Bull and `BullMQ`.
fn foreign_name_cases() -> Vec<Case> {
    let settings = |body, detail| Case {
        method: Method::PATCH,
        path: "/v1/queues/q",
        ..post_case(body, 422, "invalid_settings", detail)
    };
    let schedule = |body, detail| Case {
        method: Method::PUT,
        path: "/v1/queues/q/schedules/s",
        ..post_case(body, 422, "invalid_schedule", detail)
    };
    vec![
        post_case(
            r#"{"data":1,"attempts":5}"#,
            422,
            "invalid_message",
            "/attempts: unknown: did you mean \"max_attempts\"?",
        ),
        post_case(r#"{"data":1,"jobId":"a"}"#, 422, "invalid_message", "/jobId: unknown: did you mean \"id\"?"),
        post_case(r#"{"payload":1}"#, 422, "invalid_message", "/payload: unknown: did you mean \"data\"?"),
        post_case(
            r#"{"data":1,"repeat":{"every":1000}}"#,
            422,
            "invalid_message",
            "/repeat: unknown: a schedule posts",
        ),
        post_case(r#"{"data":1,"removeOnComplete":true}"#, 422, "invalid_message", "the queue's setting \"retention\""),
        post_case(
            r#"{"data":1,"opts":{"delay":5}}"#,
            422,
            "invalid_message",
            "/opts: unknown: give the options themselves",
        ),
        Case {
            path: "/v1/queues/q/messages/batch",
            ..post_case(r#"{"messages":[{"data":1,"lifo":true}]}"#, 422, "invalid_message", "a lower \"priority\"")
        },
        settings(r#"{"limiter":{"max":1,"duration":1000}}"#, "/limiter: unknown: did you mean \"rate_limit\"?"),
        settings(r#"{"concurrency":5}"#, "/concurrency: unknown: the key \"worker.concurrency\""),
        settings(r#"{"removeOnFail":100}"#, "\"retention\": {\"failed\": …}"),
        schedule(r#"{"pattern":"@daily","message":{"data":1}}"#, "/pattern: unknown: did you mean \"cron\"?"),
        schedule(r#"{"tz":"Europe/Oslo"}"#, "/tz: unknown: did you mean \"timezone\"?"),
        schedule(r#"{"every":1000,"limit":5}"#, "/limit: unknown: did you mean \"max_runs\"?"),
        schedule(r#"{"endDate":1}"#, "/endDate: unknown: did you mean \"end_at\"?"),
        schedule(
            r#"{"every":1000,"message":{"data":1,"attempts":5}}"#,
            "/message/attempts: unknown: did you mean \"max_attempts\"?",
        ),
    ]
}

/// Returns bad requests that do not post messages.
fn cases_without_a_post() -> Vec<Case> {
    vec![
        Case { path: "/v1/queues/q/messages/a/cancel", ..post_case(r#"{"x":1}"#, 400, "unexpected_body", "no body") },
        Case { path: "/v1/queues/q/messages/a/cancel", ..post_without_body(404, "message_not_found", "message a") },
        Case {
            path: "/v1/queues/q/messages/a/retry?x=1",
            ..post_without_body(400, "invalid_query", "no query parameters")
        },
        Case { path: "/v1/queues/q/messages/42/promote", ..post_without_body(422, "invalid_id", "digits") },
        Case { path: "/v1/queues/q/messages/%ff/cancel", ..post_without_body(422, "invalid_id", "UTF-8") },
        Case { path: "/v1/queues/-/pause", ..post_without_body(422, "invalid_queue_name", "A-Z a-z") },
        Case { path: "/v1/queues/q/resume?x", ..post_without_body(400, "invalid_query", "no query parameters") },
        Case {
            path: "/v1/queues/q/purge",
            ..post_without_body(400, "invalid_query", "held, delayed, waiting, completed or failed")
        },
        Case { path: "/v1/queues/q/purge?state=all", ..post_without_body(400, "invalid_query", "state is required") },
        Case {
            path: "/v1/queues/q/purge?state=active",
            ..post_without_body(400, "invalid_query", "cancel them one by one")
        },
        Case {
            path: "/v1/queues/q/purge?status=failed",
            ..post_without_body(400, "invalid_query", "did you mean \"state\"?")
        },
        Case {
            path: "/v1/queues/q/retry_failed?x=1",
            ..post_without_body(400, "invalid_query", "no query parameters")
        },
        Case { path: "/v1/queues/q/signals/k", ..post_case("[]", 400, "invalid_json", "an object") },
        Case {
            path: "/v1/queues/q/signals/k",
            ..post_case(r#"{"date":1}"#, 422, "invalid_signal", "did you mean \"data\"?")
        },
        Case {
            path: "/v1/queues/q/signals/k",
            content_type: "",
            ..post_case("{\"data\":1}", 415, "unsupported_media_type", "application/json")
        },
        Case {
            method: Method::PATCH,
            path: "/v1/queues/q",
            ..post_case(r#"{"x":1}"#, 422, "invalid_settings", "/x: unknown")
        },
        Case {
            method: Method::PATCH,
            path: "/v1/queues/q",
            ..post_case("{", 400, "invalid_json", "at line 1, column")
        },
        Case { method: Method::PATCH, path: "/v1/queues/q?x=1", ..post_case("{}", 400, "invalid_query", "no query") },
        Case {
            method: Method::PATCH,
            path: "/v1/queues/q",
            content_type: "",
            ..post_case("{}", 415, "unsupported_media_type", "application/json")
        },
        Case {
            method: Method::DELETE,
            path: "/v1/queues/q",
            ..post_without_body(400, "invalid_query", "confirm is required")
        },
        Case {
            method: Method::DELETE,
            path: "/v1/queues/q?confirm=q",
            ..post_without_body(404, "queue_not_found", "PATCH")
        },
        Case {
            method: Method::DELETE,
            path: "/v1/queues/q?confirmed=q",
            ..post_without_body(400, "invalid_query", "confirm")
        },
        Case {
            method: Method::DELETE,
            path: "/v1/queues/q/messages/a",
            ..post_without_body(404, "message_not_found", "never had")
        },
        get_case("/v1/queues/q/messages?limit=0", 400, "invalid_query", "from 1 to 1000"),
        get_case("/v1/queues/q/messages?state=dead", 400, "invalid_query", "completed or failed"),
        get_case("/v1/queues/q/messages?cursor=AAAA", 404, "cursor_not_found", "next_cursor"),
        get_case("/v1/queues/q/messages", 404, "queue_not_found", "first settings"),
        get_case("/nowhere", 404, "not_found", "/v1/queues"),
        get_case("/v1/queues/q", 404, "queue_not_found", "POST /v1/queues/q/messages"),
        get_case("/v1/queues/q/messages/21718923400017", 404, "message_not_found", "21718923400017"),
        get_case("/v1/queues/q/messages/42", 422, "invalid_id", "digits"),
        get_case("/v1/queues/q/messages/a?wait=never", 400, "invalid_query", "1h 30m"),
        Case {
            path: "/v1/queues/q/leases",
            ..post_case(r#"{"wait":"2m"}"#, 422, "invalid_receive", "/wait: must be at most 1m (api.max_wait)")
        },
        get_case("/v1/queues/q/messages/a?wait=2m", 400, "invalid_query", "at most 1m (api.max_wait)"),
    ]
}

async fn assert_problem(case: &Case, answer: Response) {
    let request = format!("{} {} {:.80}", case.method, case.path, case.body);
    assert_eq!(answer.status(), StatusCode::from_u16(case.status).unwrap(), "{request}");
    assert_eq!(answer.headers()["content-type"], "application/problem+json", "{request}");
    let request_id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["status"], case.status, "{request}");
    assert_eq!(problem["code"], case.code, "{request}: {problem}");
    assert_eq!(problem["request_id"], request_id, "{request}");
    assert!(problem["type"].is_string() && problem["title"].is_string(), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(case.detail), "{request}: {problem}");
}

#[tokio::test]
async fn bad_request_is_refused_with_an_instruction_and_changes_nothing() {
    // The API logs no warning about a durable Redis, so any warning in its log would come from the input.
    let system = System::start_on(RedisServer::start_durable(), "").await;
    for case in post_cases().into_iter().chain(foreign_name_cases()).chain(cases_without_a_post()) {
        let mut request = system.http.request(case.method.clone(), system.url(case.path)).body(case.body.clone());
        if !case.content_type.is_empty() {
            request = request.header("content-type", case.content_type);
        }
        assert_problem(&case, request.send().await.unwrap()).await;
    }
    assert_eq!(system.get("/v1/queues").await["queues"].as_array().unwrap().len(), 0, "nothing was stored");
    let log = system.api.log();
    assert!(!log.iter().any(|line| line.contains("WARN") || line.contains("ERROR")), "{log:?}");
    // The answer has the request id that the client has sent.
    let answer = system.http.get(system.url("/nowhere")).header("x-request-id", "mine-1").send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["request_id"], "mine-1");
    // The API replaces a request id that a log line can't contain.
    for bad_id in [&b""[..], b"a b", b"a\tb", b"\xff\xfe", &[b'x'; 129]] {
        let answer = system.http.get(system.url("/nowhere")).header("x-request-id", bad_id).send().await.unwrap();
        let generated_id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert!(
            generated_id.len() == 16 && generated_id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{generated_id}"
        );
        assert_eq!(answer.json::<Value>().await.unwrap()["request_id"], generated_id);
    }
}

#[tokio::test]
async fn response_announces_the_close_of_the_connection_exactly_if_a_body_was_not_read() {
    let system = System::start("[api]\nbody_limit = 1000\n").await;
    for (path, content_type, status) in [
        ("/v1/queues/q/messages", JSON_TYPE, 413),
        ("/v1/queues/q/messages", "text/plain", 415),
        ("/nowhere", JSON_TYPE, 404),
        ("/livez", JSON_TYPE, 405),
    ] {
        let mut client = system.connect().await;
        // The request is refused before its body arrives.
        let request_head =
            format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\ncontent-length: 2000000");
        let answer = client.request(&format!("{request_head}\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.head.contains("connection: close\r\n"), "{path}: {}", answer.head);
        assert!(client.read_until_closed().await.is_empty(), "{path}");
    }
    // A connection stays open if the body of the request was read, or if the request had no body.
    let mut client = system.connect().await;
    for (path, body, status) in [("/v1/queues/q/messages", "{}", 422), ("/nowhere", "", 404)] {
        let request_head =
            format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {JSON_TYPE}\r\ncontent-length: {}", body.len());
        let answer = client.request(&format!("{request_head}\r\n\r\n{body}")).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(!answer.head.contains("connection: close"), "{path}: {}", answer.head);
    }
    // The response 413 tells the client that the server closes the connection, so a client that reuses connections sends its next request
    // over another connection.
    let large_text = " ".repeat(1 << 20);
    for _ in 0..50 {
        let request = system.http.post(system.url("/v1/queues/q/messages")).header("content-type", JSON_TYPE);
        assert_eq!(request.body(large_text.clone()).send().await.unwrap().status(), 413);
        assert_eq!(system.http.get(system.url("/livez")).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn unknown_method_of_a_path_is_answered_with_the_allowed_methods() {
    let system = System::start("").await;
    let description = system.get("/openapi.json").await;
    for (template, item) in description["paths"].as_object().unwrap() {
        let path = template.replace("{queue}", "q").replace("{id}", "a").replace("{key}", "k");
        let described_methods = item.as_object().unwrap().keys().map(|method| method.to_uppercase());
        let described_methods: BTreeSet<String> = described_methods
            .flat_map(|method| if method == "GET" { vec![method, "HEAD".into()] } else { vec![method] })
            .collect();
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            if described_methods.contains(method) {
                continue;
            }
            let request = system.http.request(Method::from_bytes(method.as_bytes()).unwrap(), system.url(&path));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            let allowed_methods: BTreeSet<String> =
                answer.headers()["allow"].to_str().unwrap().split(',').map(str::to_owned).collect();
            assert_eq!(allowed_methods, described_methods, "{method} {path}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
    }
}

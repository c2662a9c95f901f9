//! Some two hundred requests that can't be taken: each is answered with a problem in words that its sender knows, not in those
//! of the parser or of Rust, and changes nothing.

use std::time::Duration;

use drover_tests::RedisServer;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::System;

const QUEUE: &str = "/v1/queues/q";
const JSON: &str = "application/json";
const LEASE: &str = "21718923400017-AAAAAAAAAAAAAAAAAAAAAA";

/// Words of the libraries and of Rust, none of which stands in what is sent.
const FOREIGN: [&str; 32] = [
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

struct Case {
    method: Method,
    path: String,
    content_type: &'static str,
    header: Option<(&'static str, &'static [u8])>,
    body: Vec<u8>,
}

fn case(method: Method, path: impl Into<String>, body: impl Into<Vec<u8>>) -> Case {
    Case { method, path: path.into(), content_type: JSON, header: None, body: body.into() }
}

fn post(path: &str, body: impl Into<Vec<u8>>) -> Case {
    case(Method::POST, format!("{QUEUE}{path}"), body)
}

fn get(path: &str) -> Case {
    Case { content_type: "", ..case(Method::GET, format!("{QUEUE}{path}"), "") }
}

fn with(header: &'static str, value: &'static [u8], case: Case) -> Case {
    Case { header: Some((header, value)), ..case }
}

/// Texts that are no object of JSON in any body.
fn no_objects() -> Vec<Vec<u8>> {
    let deep = format!("{{\"delay\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let texts = [
        "{",
        "}",
        "{\"",
        "{\"data",
        "{\"data\"",
        "{\"data\":",
        "{\"data\":1",
        "{\"data\":1,",
        "{\"data\":1,}",
        "{data:1}",
        "{'data':1}",
        "{\"data\":1}}",
        "{\"data\":1} {}",
        "[]",
        "[{\"data\":1}]",
        "1",
        "1.5",
        "\"text\"",
        "true",
        "nul",
        "null",
        "not json",
        "{\"data\":01}",
        "{\"data\":+1}",
        "{\"data\":.5}",
        "{\"data\":1e}",
        "{\"data\":NaN}",
        "{\"data\":tru}",
        "{\"data\" 1}",
        "{\"data\":1 \"id\":2}",
        "{\"data\":\"\n\"}",
        "{\"data\":\"\\x\"}",
        "{\"data\":\"\\u12\"}",
        "{\"data\":1,\"data\":2}",
        "{1:2}",
        "{\"data\":[1}",
        "{\"data\":[1,]}",
        "{\"data\":{\"a\"}}",
        "\u{feff}",
        "\u{feff}[1]",
        "{\"\\ud83d\":1}",
        "<xml/>",
        "data=1",
    ];
    let mut bodies: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    bodies.extend([
        b"{\"data\":\"\xff\"}".to_vec(),
        b"\xff\xfe{\0}\0".to_vec(),
        b"\x1f\x8b\x08\0".to_vec(),
        deep.into_bytes(),
    ]);
    bodies
}

/// A field of a message and what it can't be.
const FIELDS: [(&str, &[&str]); 11] = [
    ("name", &["5", "\"\"", "[\"a\"]", "{}", "true", "\"\\u0001\"", "\"\\ud83d\""]),
    ("id", &["5", "\"42\"", "\"batch\"", "\"a/b\"", "\"..\"", "\"\\udc00\""]),
    (
        "delay",
        &[
            "-1",
            "1.5",
            "\"1M\"",
            "\"1y\"",
            "\"5 parsecs\"",
            "\"\"",
            "\"-1s\"",
            "true",
            "{}",
            "[1]",
            "1e99",
            "\"99999w\"",
        ],
    ),
    ("deliver_at", &["5", "\"soon\"", "\"2030-13-01T00:00:00Z\"", "\"2300-01-01T00:00:00Z\"", "[]"]),
    ("priority", &["\"high\"", "1.5", "99999999", "-99999999999999999999", "{}"]),
    ("max_attempts", &["0", "1001", "\"3\"", "-1", "2.5"]),
    (
        "backoff",
        &[
            "5",
            "[]",
            "\"fixed\"",
            "{\"type\":\"linear\"}",
            "{\"type\":5}",
            "{\"type\":{\"fixed\":1}}",
            "{\"delya\":5}",
            "{\"jitter\":\"x\"}",
            "{\"jitter\":2}",
            "{\"delay\":\"1M\"}",
            "{\"delay\":1,\"delay\":2}",
        ],
    ),
    ("timeout", &["0", "\"8d\"", "false"]),
    ("ttl", &["0", "\"4000d\"", "[]"]),
    ("hold", &["5", "\"\"", "\"a/b\"", "\".\""]),
    ("headers", &["5", "[]", "{\"a\":5}", "{\"a\":null}", "\"a: b\""]),
];

fn messages() -> Vec<Case> {
    let mut cases = Vec::new();
    for body in no_objects() {
        cases.push(post("/messages", body));
    }
    for (field, values) in FIELDS {
        for value in values {
            cases.push(post("/messages", format!("{{\"data\":1,\"{field}\":{value}}}")));
        }
    }
    for body in [
        "{}",
        "{\"dta\":1}",
        "{\"data\":1,\"dealy\":null}",
        "{\"data\":1,\"delay\":1,\"deliver_at\":\"2030-01-01T00:00:00Z\"}",
    ] {
        cases.push(post("/messages", body));
    }
    for body in [
        "{}",
        "{\"messages\":null}",
        "{\"messages\":5}",
        "{\"messages\":{}}",
        "{\"messages\":[]}",
        "{\"messages\":[5]}",
        "{\"messages\":[{}]}",
        "{\"messages\":[null]}",
        "{\"messges\":[]}",
        "{\"messages\":[{\"data\":1,\"delay\":\"1M\"}]}",
        "[",
        "5",
    ] {
        cases.push(post("/messages/batch", body));
    }
    cases
}

fn signals_and_leases() -> Vec<Case> {
    let mut cases = Vec::new();
    for body in [
        "{\"data\":\"",
        "[]",
        "5",
        "{\"sticky_for\":\"1M\"}",
        "{\"sticky_for\":true}",
        "{\"sticky\":1}",
        "{\"sticky_for\":0}",
    ] {
        cases.push(post("/signals/k", body));
    }
    for body in [
        "{",
        "[]",
        "{\"max\":\"x\"}",
        "{\"max\":0}",
        "{\"max\":1.5}",
        "{\"wait\":\"1y\"}",
        "{\"wait\":\"9h\"}",
        "{\"consumer\":5}",
        "{\"consumer\":\"\"}",
        "{\"visibility_timeout\":1}",
        "{\"visibility_timeout\":{}}",
        "{\"mx\":1}",
    ] {
        cases.push(post("/leases", body));
    }
    for verb in ["complete", "fail", "release", "extend"] {
        for body in ["{", "5", "{}", "{\"lease\":null}", "{\"lease\":5}", "{\"lease\":\"x\"}"] {
            cases.push(post(&format!("/leases/{verb}"), body));
        }
    }
    for (verb, fields) in [
        ("complete", "\"reslt\":1"),
        ("fail", "\"error\":5"),
        ("fail", "\"error\":[\"a\"]"),
        ("fail", "\"error\":{\"code\":5}"),
        ("fail", "\"error\":{\"mesage\":\"m\"}"),
        ("fail", "\"retry\":\"no\""),
        ("fail", "\"retry_after\":\"1M\""),
        ("fail", "\"retry\":false,\"retry_after\":1"),
        ("release", "\"delay\":\"soon\""),
        ("extend", "\"visibility_timeout\":\"1y\""),
    ] {
        cases.push(post(&format!("/leases/{verb}"), format!("{{\"lease\":\"{LEASE}\",{fields}}}")));
    }
    for body in [
        "{}",
        "[]",
        "{\"settlements\":null}",
        "{\"settlements\":5}",
        "{\"settlements\":[]}",
        "{\"settlements\":[5]}",
        "{\"settlements\":[{}]}",
        "{\"settlements\":[{\"action\":\"eat\"}]}",
        "{\"settlements\":[{\"action\":5}]}",
        "{\"settlements\":[{\"action\":{\"fail\":1}}]}",
        "{\"setlements\":[]}",
    ] {
        cases.push(post("/leases/settle", body));
    }
    cases
}

fn settings() -> Vec<Case> {
    let mut cases = Vec::new();
    for body in [
        "{",
        "[]",
        "5",
        "{\"max_atempts\":1}",
        "{\"max_attempts\":99999999999999999999999999}",
        "{\"max_attempts\":\"x\"}",
        "{\"max_attempts\":0}",
        "{\"max_attempts\":1.5}",
        "{\"visibility_timeout\":\"1M\"}",
        "{\"visibility_timeout\":true}",
        "{\"backoff\":5}",
        "{\"backoff\":[]}",
        "{\"backoff\":{\"type\":\"linear\"}}",
        "{\"backoff\":{\"type\":5}}",
        "{\"backoff\":{\"jitter\":\"x\"}}",
        "{\"rate_limit\":5}",
        "{\"rate_limit\":{\"max\":1}}",
        "{\"rate_limit\":{\"max\":\"x\",\"duration\":1}}",
        "{\"exclusive\":5}",
        "{\"exclusive\":\"true\"}",
        "{\"exclusive\":{}}",
        "{\"exclusive\":{\"parallel\":\"x\"}}",
        "{\"exclusive\":{\"paralel\":1}}",
        "{\"max_length\":\"x\"}",
        "{\"max_length\":-1}",
        "{\"retention\":5}",
        "{\"retention\":{\"done\":{}}}",
        "{\"retention\":{\"completed\":{\"age\":\"1y\"}}}",
        "{\"retention\":{\"completed\":{\"count\":-1}}}",
        "{\"timeout\":{}}",
        "{\"timeout\":\"\\ud83d\"}",
    ] {
        cases.push(case(Method::PATCH, QUEUE, body));
    }
    cases
}

fn paths_and_queries() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in [
        "/messages?limt=5",
        "/messages?limit=",
        "/messages?limit=-1",
        "/messages?limit=1.5",
        "/messages?limit=%2B5",
        "/messages?state=",
        "/messages?state=dead",
        "/messages?limit=1&limit=2",
        "/messages?cursor=x",
        "/messages?%ff=1",
        "/messages?state=%ff",
        "/messages/a?wait=",
        "/messages/a?wait=1M",
        "/messages/a?wait=never",
        "/messages/a?wait=9h",
        "/messages/a?wiat=1s",
        "/messages/a?wait=1s&wait=2s",
        "/messages/42",
        "/messages/%ff",
        "/messages/%01",
        "/messages/unknown",
        "?x=1",
        "/nowhere",
        "/events?mesage=a",
        "/events?message=42",
    ] {
        cases.push(get(path));
    }
    for path in [
        "/v1/queues/-q",
        "/v1/queues/%ff",
        "/v1/queues/a%20b",
        "/v1/queues/other",
        "/v1/queues?x=1",
        "/v2",
        "/%2e%2e/x",
    ] {
        cases.push(Case { content_type: "", ..case(Method::GET, path, "") });
    }
    for path in
        ["/purge", "/purge?state=", "/purge?state=active", "/purge?sate=failed", "/pause?x=1", "/messages/42/retry"]
    {
        cases.push(Case { content_type: "", ..post(path, "") });
    }
    cases.push(post("/pause", "{\"x\":1}"));
    cases.push(case(Method::DELETE, format!("{QUEUE}?confirm=x"), ""));
    cases.push(case(Method::DELETE, format!("{QUEUE}?confrim=q"), ""));
    cases.push(case(Method::PUT, QUEUE, "{}"));
    cases
}

fn headers() -> Vec<Case> {
    let mut cases = Vec::new();
    let good = "{\"data\":1}";
    for content_type in ["", "text/plain", "application/x-www-form-urlencoded", "json", "application/"] {
        cases.push(Case { content_type, ..post("/messages", good) });
    }
    for encoding in [&b"gzip"[..], b"br", b"deflate, gzip", b"x"] {
        cases.push(with("content-encoding", encoding, post("/messages", good)));
    }
    cases.push(with("content-encoding", b"gzip", post("/messages/batch", "{\"messages\":[{\"data\":1}]}")));
    let lines = Case { content_type: "application/x-ndjson", ..post("/messages/batch", good) };
    cases.push(with("content-encoding", b"gzip", lines));
    cases.push(with("content-encoding", b"gzip", post("/signals/k", "{\"data\":1}")));
    for key in [&b""[..], b"a b", b"\"a", b"\xff"] {
        cases.push(with("idempotency-key", key, post("/messages", good)));
    }
    cases.push(with("last-event-id", b"x", get("/events")));
    cases.push(with("last-event-id", b"1-2", get("/events")));
    cases
}

fn cases() -> Vec<Case> {
    [messages(), signals_and_leases(), settings(), paths_and_queries(), headers()].into_iter().flatten().collect()
}

fn assert_is_plain(text: &str, told: &str) {
    for word in FOREIGN {
        assert!(!text.contains(word), "{told} is answered with the word {word:?}: {text}");
    }
}

async fn answer(http: &Client, system: &System, case: &Case) -> Response {
    let mut request = http.request(case.method.clone(), system.url(&case.path)).body(case.body.clone());
    if !case.content_type.is_empty() {
        request = request.header("content-type", case.content_type);
    }
    if let Some((name, value)) = case.header {
        request = request.header(name, value);
    }
    request.send().await.unwrap()
}

/// How the queue stands, but for what is read from a clock.
async fn standing(system: &System) -> Value {
    let mut queue = system.get(QUEUE).await;
    queue["oldest_waiting_age"].take();
    json!([queue, system.get("/v1/queues").await["queues"].as_array().unwrap().len()])
}

#[tokio::test]
async fn bad_input_is_told_in_words_of_its_sender_and_changes_nothing() {
    let system = System::start_on(RedisServer::start_durable(), "").await;
    system.post("q", json!({"data": 1, "hold": "k", "id": "held"})).await;
    let before = standing(&system).await;
    // Each on a connection of its own: one is closed behind a body that was not read.
    let http = Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(60)).build().unwrap();
    let cases = cases();
    assert!(cases.len() > 200, "{}", cases.len());
    for case in &cases {
        let told = format!("{} {} {:?} {}", case.method, case.path, case.header, String::from_utf8_lossy(&case.body));
        let answer = answer(&http, &system, case).await;
        let status = answer.status();
        assert!(status.is_client_error(), "{status} to {told}: {}", answer.text().await.unwrap());
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{told}");
        let mut problem: Value = answer.json().await.unwrap();
        // It is drawn, and may look like anything.
        problem["request_id"].take();
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{told}: {problem}");
        assert_is_plain(&problem.to_string(), &told);
    }
    assert_eq!(standing(&system).await, before, "nothing was changed");
    let log = system.api.log();
    assert!(!log.iter().any(|line| line.contains("WARN") || line.contains("ERROR")), "{log:?}");
    system.assert_clean().await;
}

#[tokio::test]
async fn bad_lines_are_told_in_words_of_their_sender() {
    let system = System::start("").await;
    let mut lines = Vec::new();
    let mut count = 0;
    for body in no_objects().into_iter().filter(|body| !body.contains(&b'\n') && !body.contains(&0)) {
        lines.extend([body, b"\n".to_vec()].concat());
        count += 1;
    }
    for (field, values) in FIELDS {
        for value in values {
            lines.extend(format!("{{\"data\":1,\"{field}\":{value}}}\n").into_bytes());
            count += 1;
        }
    }
    let lines = Case { content_type: "application/x-ndjson", ..post("/messages/batch", lines) };
    let summary: Value = answer(&system.http, &system, &lines).await.json().await.unwrap();
    assert_eq!((&summary["enqueued"], &summary["refused_count"]), (&json!(0), &json!(count)), "{summary}");
    assert_is_plain(&summary.to_string(), "NDJSON");
}

#[tokio::test]
async fn what_can_be_understood_is_taken() {
    let system = System::start("").await;
    let taken = |case: Case, status: u16| {
        let system = &system;
        async move {
            let answered = answer(&system.http, system, &case).await;
            let (found, text) = (answered.status().as_u16(), answered.text().await.unwrap());
            assert_eq!(found, status, "{} {}: {text}", case.path, String::from_utf8_lossy(&case.body));
            text
        }
    };
    // A mark before the text, null for what is optional, and an encoding that is none.
    taken(post("/messages", "\u{feff}{\"data\":1,\"name\":null,\"delay\":null,\"backoff\":{\"max\":null}}"), 201).await;
    taken(post("/messages/batch", "\u{feff}{\"messages\":[{\"data\":1,\"priority\":null,\"headers\":null}]}"), 201)
        .await;
    let lines = "\u{feff}{\"data\":1,\"ttl\":null}\n{\"data\":2,\"hold\":null}\n";
    let lines = Case { content_type: "application/x-ndjson", ..post("/messages/batch", lines) };
    assert!(taken(lines, 200).await.contains("\"enqueued\":2"));
    taken(with("content-encoding", b"identity", post("/messages", "{\"data\":1}")), 201).await;
    taken(case(Method::PATCH, QUEUE, "\u{feff}{\"max_attempts\":null,\"idempotency_window\":\"1w 2d\"}"), 200).await;
    taken(post("/signals/k", "{\"data\":null,\"sticky_for\":null}"), 200).await;
    let leased =
        taken(post("/leases", "{\"max\":5,\"wait\":null,\"visibility_timeout\":null,\"consumer\":null}"), 200).await;
    let leased: Value = serde_json::from_str(&leased).unwrap();
    let lease = |n: usize| leased["messages"][n]["lease"].as_str().unwrap();
    taken(
        post(
            "/leases/extend",
            format!("{{\"lease\":\"{}\",\"visibility_timeout\":null,\"progress\":\"\\ud83d\"}}", lease(0)),
        ),
        200,
    )
    .await;
    taken(post("/leases/complete", format!("{{\"lease\":\"{}\",\"result\":null}}", lease(0))), 200).await;
    taken(post("/leases/release", format!("{{\"lease\":\"{}\",\"delay\":null}}", lease(1))), 200).await;
    // An error can always be told.
    let long = "x".repeat(100_000);
    for (n, error, code, message) in [
        (2, "{\"code\":\"x\",\"message\":\"bad \\ud83d\"}", "x", "bad \u{fffd}"),
        (3, "\"boom\"", "failed", "boom"),
        (4, &*format!("{{\"message\":\"{long}\"}}"), "failed", "xxx"),
    ] {
        let body = format!("{{\"lease\":\"{}\",\"retry\":false,\"error\":{error}}}", lease(n));
        taken(post("/leases/fail", body), 200).await;
        let id = leased["messages"][n]["id"].as_str().unwrap();
        let told = &system.get(&format!("{QUEUE}/messages/{id}")).await["error"];
        assert_eq!(told["code"], code);
        let text = told["message"].as_str().unwrap();
        assert!(text.starts_with(message) && text.len() < 10_000, "{text:.100}");
    }
    system.assert_clean().await;
}

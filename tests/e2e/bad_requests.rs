//! About two hundred requests that the API must refuse, grouped by the part of the API that gets the request.

use reqwest::{Client, Method, Response};

use crate::System;

pub(crate) const QUEUE_PATH: &str = "/v1/queues/q";
const JSON_TYPE: &str = "application/json";
const UNKNOWN_LEASE: &str = "21718923400017-AAAAAAAAAAAAAAAAAAAAAA";

/// A request to the API.
pub(crate) struct Case {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) header: Option<(&'static str, &'static [u8])>,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn case(method: Method, path: impl Into<String>, body: impl Into<Vec<u8>>) -> Case {
    Case { method, path: path.into(), content_type: JSON_TYPE, header: None, body: body.into() }
}

pub(crate) fn post(path: &str, body: impl Into<Vec<u8>>) -> Case {
    case(Method::POST, format!("{QUEUE_PATH}{path}"), body)
}

fn get(path: &str) -> Case {
    Case { content_type: "", ..case(Method::GET, format!("{QUEUE_PATH}{path}"), "") }
}

pub(crate) fn with_header(header: &'static str, value: &'static [u8], case: Case) -> Case {
    Case { header: Some((header, value)), ..case }
}

/// Returns bodies that are not a JSON object.
pub(crate) fn non_object_bodies() -> Vec<Vec<u8>> {
    let nested_json = format!("{{\"delay\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let invalid_bodies = [
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
    let mut bodies: Vec<Vec<u8>> = invalid_bodies.iter().map(|text| text.as_bytes().to_vec()).collect();
    bodies.extend([
        b"{\"data\":\"\xff\"}".to_vec(),
        b"\xff\xfe{\0}\0".to_vec(),
        b"\x1f\x8b\x08\0".to_vec(),
        nested_json.into_bytes(),
    ]);
    bodies
}

/// Fields of a message, each with values that the API refuses.
pub(crate) const FIELD_CASES: [(&str, &[&str]); 11] = [
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

fn message_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for body in non_object_bodies() {
        cases.push(post("/messages", body));
    }
    for (field, values) in FIELD_CASES {
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

fn signal_and_lease_cases() -> Vec<Case> {
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
        cases.push(post(&format!("/leases/{verb}"), format!("{{\"lease\":\"{UNKNOWN_LEASE}\",{fields}}}")));
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

fn settings_cases() -> Vec<Case> {
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
        cases.push(case(Method::PATCH, QUEUE_PATH, body));
    }
    cases
}

fn path_and_query_cases() -> Vec<Case> {
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
    cases.push(case(Method::DELETE, format!("{QUEUE_PATH}?confirm=x"), ""));
    cases.push(case(Method::DELETE, format!("{QUEUE_PATH}?confrim=q"), ""));
    cases.push(case(Method::PUT, QUEUE_PATH, "{}"));
    cases
}

fn header_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let valid_body = "{\"data\":1}";
    for content_type in ["", "text/plain", "application/x-www-form-urlencoded", "json", "application/"] {
        cases.push(Case { content_type, ..post("/messages", valid_body) });
    }
    for encoding in [&b"gzip"[..], b"br", b"deflate, gzip", b"x"] {
        cases.push(with_header("content-encoding", encoding, post("/messages", valid_body)));
    }
    cases.push(with_header("content-encoding", b"gzip", post("/messages/batch", "{\"messages\":[{\"data\":1}]}")));
    let ndjson_case = Case { content_type: "application/x-ndjson", ..post("/messages/batch", valid_body) };
    cases.push(with_header("content-encoding", b"gzip", ndjson_case));
    cases.push(with_header("content-encoding", b"gzip", post("/signals/k", "{\"data\":1}")));
    for key in [&b""[..], b"a b", b"\"a", b"\xff"] {
        cases.push(with_header("idempotency-key", key, post("/messages", valid_body)));
    }
    cases.push(with_header("last-event-id", b"x", get("/events")));
    cases.push(with_header("last-event-id", b"1-2", get("/events")));
    cases
}

/// Returns all bad requests.
pub(crate) fn all_cases() -> Vec<Case> {
    [message_cases(), signal_and_lease_cases(), settings_cases(), path_and_query_cases(), header_cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// Sends the request of a case, and returns the answer.
pub(crate) async fn send_case(http: &Client, system: &System, case: &Case) -> Response {
    let mut request = http.request(case.method.clone(), system.url(&case.path)).body(case.body.clone());
    if !case.content_type.is_empty() {
        request = request.header("content-type", case.content_type);
    }
    if let Some((name, value)) = case.header {
        request = request.header(name, value);
    }
    request.send().await.unwrap()
}

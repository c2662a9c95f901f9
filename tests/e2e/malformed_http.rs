//! Tests of bytes that are not valid HTTP, pipelined requests, and deeply nested JSON.

use serde_json::Value;

use crate::{
    System, number,
    raw_client::{Answer, LIVEZ_REQUEST},
    slow_clients::CONFIG,
};

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let system = System::start("").await;
    let mut client = system.connect().await;
    client.send(format!("{LIVEZ_REQUEST}GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n{LIVEZ_REQUEST}")).await;
    let statuses = [client.answer().await.status, client.answer().await.status, client.answer().await.status];
    assert_eq!(statuses, [200, 404, 200]);
}

/// Sends a request that must be refused, and then another request, which must not be answered. Returns the answer, or `None` if a
/// reset destroyed it: the server may close the connection before it has read everything.
async fn refusal_of(system: &System, request: &str, statuses: &[u16]) -> Option<Answer> {
    let mut client = system.connect().await;
    client.send(format!("{request}{LIVEZ_REQUEST}")).await;
    let mut answers = client.read_until_closed().await;
    let shown_request = request.escape_debug().to_string();
    assert!(answers.len() <= 1, "{shown_request:.60}: {answers:?}");
    let answer = answers.pop();
    assert!(answer.iter().all(|answer| statuses.contains(&answer.status)), "{shown_request:.60}: {answer:?}");
    answer
}

#[tokio::test]
async fn malformed_or_too_large_request_is_refused_and_closes_the_connection() {
    let system = System::start(CONFIG).await;
    let headers = |count: usize| "x: 1\r\n".repeat(count);
    let get = |headers: &str| format!("GET /livez HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
    for (request, statuses) in [
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03".to_owned(), &[400][..]),
        ("\0\0\0\0\r\n\r\n".to_owned(), &[400]),
        ("hello\r\n\r\n".to_owned(), &[400]),
        ("PRI * HTTP/2.0\r\n\r\n".to_owned(), &[400]),
        // A client with prior knowledge of HTTP/2 begins with the preface, followed by settings.
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_owned(), &[505]),
        (get("content-length: x\r\n"), &[400]),
        (get("content-length: 1\r\ncontent-length: 2\r\n"), &[400]),
        (get("transfer-encoding: identity\r\n"), &[400]),
        (get("transfer-encoding: chunked, identity\r\n"), &[400]),
        (get("transfer-encoding : chunked\r\n"), &[400]),
        (get("x: a\r\n folded\r\n"), &[400]),
        (get(&headers(120)), &[431]),
        (get(&format!("x: {}\r\n", "x".repeat(40_000))), &[431]),
        // The status of the refusal depends on how many bytes arrive at once.
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(40_000)), &[414, 431]),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)), &[414, 431]),
    ] {
        if let Some(answer) = refusal_of(&system, &request, statuses).await {
            assert_eq!(answer.body, "", "the HTTP library refuses the request without a body");
        }
    }
    for request in [
        get("transfer-encoding: gzip, chunked\r\n"),
        get("transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n"),
        "GET /livez HTTP/1.1\r\n\r\n".to_owned(),
        get("host: a\r\n"),
    ] {
        if let Some(answer) = refusal_of(&system, &request, &[400]).await {
            let problem: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!((&problem["code"], &problem["status"]), (&"malformed_request".into(), &400.into()), "{problem}");
            assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
            assert!(answer.head.contains(&format!("x-request-id: {}", problem["request_id"].as_str().unwrap())));
        }
    }
    // A request that was read in full is always answered.
    let http2_preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (request, status) in [(http2_preface, 505), ("GET /livez HTTP/1.1\r\n\r\n", 400)] {
        let mut client = system.connect().await;
        let answer = client.request(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.head.contains("connection: close"), "{answer:?}");
        assert!(client.read_until_closed().await.is_empty());
    }
    assert_eq!(system.connect().await.request(&get(&headers(90))).await.status, 200);
    assert_eq!(system.connect().await.request(&get(&format!("x: {}\r\n", "x".repeat(30_000)))).await.status, 200);
    assert!(!system.api.log().iter().any(|line| line.contains("panicked")));
}

#[tokio::test]
async fn no_request_can_be_smuggled_after_a_request_with_two_lengths() {
    let system = System::start("").await;
    let post_request = |headers: &str, body: &str| {
        format!(
            "POST /v1/queues/q/messages HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{headers}\r\n{body}"
        )
    };
    let chunked = "a\r\n{\"data\":1}\r\n0\r\n\r\n";
    for headers in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 25\r\n",
        "transfer-encoding: chunked\r\n",
    ] {
        let mut client = system.connect().await;
        client
            .send(post_request(
                headers,
                &format!("{chunked}{}", post_request("content-length: 10\r\n", "{\"data\":2}")),
            ))
            .await;
        let answers = client.read_until_closed().await;
        assert_eq!(answers.len(), 1, "the bytes after the body are not a request: {answers:?}");
        assert!(answers[0].head.contains("connection: close"), "{answers:?}");
    }
    let queue = system.get("/v1/queues/q").await;
    assert_eq!(queue["counts"]["waiting"], 3, "the chunked body is stored");
}

#[tokio::test]
async fn deeply_nested_json_is_stored_or_refused_and_services_keep_working() {
    let system = System::start("").await;
    let _worker = system.worker().await;
    for (open, close, refused_as) in [("[", "]", 400), (r#"{"a":"#, "}", 422)] {
        let depth = 100_000;
        let nested_data = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let bodies =
            [format!("{{\"data\":{nested_data}}}"), format!("{{\"data\":1,\"delay\":{nested_data}}}"), nested_data];
        for (body, status) in bodies.into_iter().zip([201, 422, refused_as]) {
            let common_headers = "content-type: application/json\r\nhost: a";
            let body_length = body.len();
            let post_request = format!(
                "POST /v1/queues/my-queue/messages?wait=20s HTTP/1.1\r\n{common_headers}\r\ncontent-length: {body_length}\r\n\r\n{body}"
            );
            let answer = system.connect().await.request(&post_request).await;
            assert_eq!(answer.status, status, "{:.200}", answer.body);
        }
    }
    let message = system.finished(&system.post("my-queue", number(1)).await).await;
    assert_eq!(message["state"], "completed");
}

//! Tests of the handler `http`: its requests, the URLs that it may call, and the outcome of each response.

use std::{net::TcpListener, sync::atomic::Ordering, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use consumer_worker::{Outcome, Routes, TestJob};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;

use crate::{
    completed_result, failure_for_good, failure_with_retry,
    hook_server::{HookServer, ReceivedRequest, answer},
    routes,
};

const SECRETS: [&str; 2] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXo="];

#[tokio::test]
async fn request_describes_its_message_and_has_a_signature_by_each_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secrets");
    std::fs::write(&file, format!("{}\n", SECRETS[1])).unwrap();
    let hook_server = HookServer::with_answer(answer("200 OK", "", r#"{"ok": true}"#));
    let routes = hook_server.routes(&json!({"secret": SECRETS[0], "secret_file": file}));
    let job = TestJob::new("q", &json!({"to": "a@b.c"})).name("welcome").id("order-1").attempt(2);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let job = job.header("traceparent", trace).header("tenant", "7");
    assert_eq!(completed_result(routes.handle(job.job()).await), r#"{"ok": true}"#);

    let ReceivedRequest { line, headers, body } = hook_server.requests.recv().unwrap();
    assert_eq!(line, "POST /hook?a=1 HTTP/1.1");
    assert_eq!(body, r#"{"to":"a@b.c"}"#);
    let expected = [
        ("content-type", "application/json"),
        ("user-agent", concat!("drover/", env!("CARGO_PKG_VERSION"))),
        ("drover-message-id", "order-1"),
        ("drover-queue", "q"),
        ("drover-name", "welcome"),
        ("drover-attempt", "2"),
        ("drover-headers", r#"{"tenant":"7","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#),
        ("traceparent", trace),
        ("webhook-id", "q:order-1"),
    ];
    for (name, value) in expected {
        assert_eq!(headers[name], value, "{name}");
    }
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now - 60..=now).contains(&headers["webhook-timestamp"].parse().unwrap()));
    let signed_text = format!("q:order-1.{}.{body}", headers["webhook-timestamp"]);
    let signatures = SECRETS.map(|secret| {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&STANDARD.decode(&secret[6..]).unwrap()).unwrap();
        mac.update(signed_text.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    });
    assert_eq!(headers["webhook-signature"], signatures.join(" "));
}

#[tokio::test]
async fn status_of_the_http_response_decides_the_outcome_of_a_message() {
    for status in ["200 OK", "201 Created", "202 Accepted", "204 No Content", "299 Fine"] {
        assert_eq!(completed_result(HookServer::with_answer(answer(status, "", "")).post().await), "null", "{status}");
    }
    for (status, code) in
        [("400 Bad Request", "http_400"), ("401 No", "http_401"), ("410 Gone", "http_410"), ("422 No", "http_422")]
    {
        let failure = failure_for_good(HookServer::with_answer(answer(status, "", "no such user")).post().await);
        assert_eq!((failure.code.as_str(), failure.message.contains("no such user")), (code, true), "{failure:?}");
    }
    for (status, code) in [
        ("500 Internal Server Error", "http_500"),
        ("502 Bad Gateway", "http_502"),
        ("503 Service Unavailable", "http_503"),
        ("429 Too Many Requests", "http_429"),
        ("408 Request Timeout", "http_408"),
        ("425 Too Early", "http_425"),
    ] {
        assert_eq!(failure_with_retry(HookServer::with_answer(answer(status, "", "")).post().await).code, code);
    }
}

#[tokio::test]
async fn header_retry_after_decides_the_pause_before_the_next_attempt() {
    for (status, asked, pause) in [("429 Slow", "7", 7), ("503 Busy", "7", 7), ("429 Slow", "9999999", 86_400)] {
        let outcome = HookServer::with_answer(answer(status, &format!("retry-after: {asked}\r\n"), "")).post().await;
        let Outcome::RetryAfter(_, after) = outcome else { panic!("{outcome:?}") };
        assert_eq!(after, Duration::from_secs(pause));
    }
    // The handler ignores `Retry-After` if its value is zero or invalid, or if the status is not 429 or 503.
    for (status, asked) in [("429 Slow", "0"), ("429 Slow", "soon"), ("500 Broken", "7")] {
        failure_with_retry(
            HookServer::with_answer(answer(status, &format!("retry-after: {asked}\r\n"), "")).post().await,
        );
    }
}

#[tokio::test]
async fn http_response_that_is_no_json_is_a_result_too() {
    assert_eq!(
        completed_result(
            HookServer::with_answer(answer("200 OK", "content-type: text/plain\r\n", "OK\n")).post().await
        ),
        "\"OK\""
    );
    let truncated_json_answer = answer("200 OK", "content-type: application/json\r\n", "{\"a\":");
    assert_eq!(completed_result(HookServer::with_answer(truncated_json_answer).post().await), r#""{\"a\":""#);
}

#[tokio::test]
async fn redirect_by_a_receiver_is_not_followed() {
    let other_server = HookServer::with_answer(answer("200 OK", "", ""));
    for status in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("location: http://{}/\r\n", other_server.address);
        let failure = failure_with_retry(HookServer::with_answer(answer(status, &location, "")).post().await);
        assert_eq!(failure.code, format!("http_{}", &status[..3]));
    }
    assert_eq!(other_server.connection_count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn user_and_password_of_a_url_are_sent_as_a_header_and_no_secret_of_the_url_is_in_a_failure() {
    let hook_server = HookServer::with_answer(answer("200 OK", "", "1"));
    let url = format!("http://me:pa%20ss@{}/hook?key=hunter2", hook_server.address);
    assert_eq!(completed_result(hook_server.post_with_keys(&json!({"url": url})).await), "1");
    let ReceivedRequest { line, headers, .. } = hook_server.requests.recv().unwrap();
    assert_eq!(
        (line.as_str(), headers["authorization"].as_str()),
        ("POST /hook?key=hunter2 HTTP/1.1", "Basic bWU6cGEgc3M=")
    );
    // The listener is dropped at once, so no program listens on its port.
    let closed_address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable_handler =
        json!({"type": "http", "url": format!("http://me:hunter2@{closed_address}/?key=hunter2")});
    let failure = failure_with_retry(routes(&unreachable_handler).handle(TestJob::new("q", &1).job()).await);
    assert_eq!(failure.code, "not_connected");
    assert!(!failure.message.contains("hunter2"), "{failure:?}");
}

#[tokio::test]
async fn message_can_choose_only_allowed_hosts_and_no_private_address() {
    let hook_server = HookServer::with_answer(answer("200 OK", "", "1"));
    let port = hook_server.address.port();
    let allowed_handler =
        json!([format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::ffff:127.0.0.1]:{port}")]);
    let handler = json!({"type": "http", "url_header": "to", "allowed_hosts": allowed_handler});
    let post_to = |routes: &Routes, url: &str| {
        let (routes, job) = (routes.clone(), TestJob::new("q", &1).header("to", url).job());
        async move { routes.handle(job).await }
    };
    let strict_routes = routes(&handler);
    // Each URL names the own machine: by the name `localhost`, which is resolved, or by an IP address in one of several
    // notations.
    for host in ["localhost", "127.0.0.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"] {
        let failure = failure_for_good(post_to(&strict_routes, &format!("http://{host}:{port}/")).await);
        assert_eq!(failure.code, "address_refused", "{host}");
        assert!(failure.message.contains("allowed_networks"), "{failure:?}");
    }
    for url in [
        "http://example.org/",
        "http://localhost/",
        "not a url",
        "file:///etc/passwd",
        &format!("ftp://localhost:{port}/"),
        &format!("http://me@localhost:{port}/"),
        &format!("http://localhost:{port}@example.org/"),
    ] {
        assert_eq!(failure_for_good(post_to(&strict_routes, url).await).code, "url_refused", "{url}");
    }
    assert_eq!(failure_for_good(strict_routes.handle(TestJob::new("q", &1).job()).await).code, "url_refused");
    assert_eq!(hook_server.connection_count.load(Ordering::SeqCst), 0, "no connection was made");

    let mut handler = handler;
    handler["allowed_networks"] = json!(["127.0.0.0/8"]);
    let lenient_routes = routes(&handler);
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(completed_result(post_to(&lenient_routes, &format!("http://{host}:{port}/a")).await), "1");
    }
    assert_eq!(hook_server.requests.recv().unwrap().line, "POST /a HTTP/1.1");
}

//! Tests of clients that send or read slowly or not at all: the API disconnects the clients when a time limit is over.
//! slowhttptest, a tool that attacks servers with slow clients, keeps no connection open and does not delay other clients.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use drover_tests::TIME_LIMIT;
use reqwest::Client;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};

use crate::{
    System,
    raw_client::{LIVEZ_REQUEST, RawClient},
};

/// A configuration with short time limits, and with a log that says why a connection was closed.
pub(crate) const CONFIG: &str = r#"
    [api]
    header_timeout = "500ms"
    idle_timeout = "1500ms"
    write_timeout = "500ms"
    [log]
    filter = "info,service=debug"
"#;

/// The maximum time by which a timer of the API may end before its time limit.
pub(crate) const TIMER_TOLERANCE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn client_that_sends_nothing_or_headers_byte_by_byte_is_disconnected() {
    let system = System::start(CONFIG).await;
    for head in ["", "G", "GET /livez HTTP/1.1\r\nx: "] {
        let mut slow_client = system.connect().await;
        let started_at = Instant::now();
        slow_client.send(head).await;
        let (mut reader, mut writer) = slow_client.stream.into_split();
        let send_slowly = async {
            // After the server has closed the connection, the client's first write is answered by a reset, and the second write fails.
            while head.is_empty() || writer.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let wait_for_close = async { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await };
        let answered = tokio::select! {
            () = send_slowly => 0,
            bytes = wait_for_close => bytes.unwrap_or(0),
            () = sleep(TIME_LIMIT) => panic!("the client that sends {head:?} is not disconnected"),
        };
        assert_eq!(answered, 0, "{head:?}");
        assert!(
            started_at.elapsed() + TIMER_TOLERANCE >= Duration::from_millis(500),
            "{head:?}: {:?}",
            started_at.elapsed()
        );
        system.api.wait_for_log("headers of the request were not complete in time");
    }
}

/// Returns a client that has received two answers, and the instant of its second request. The pause between the client's two requests is
/// longer than the API's time limit for headers.
async fn client_with_two_answers(system: &System) -> (RawClient, Instant) {
    let mut client = system.connect().await;
    assert_eq!(client.request(LIVEZ_REQUEST).await.status, 200);
    sleep(Duration::from_millis(700)).await;
    let requested_at = Instant::now();
    assert_eq!(client.request(LIVEZ_REQUEST).await.status, 200);
    (client, requested_at)
}

#[tokio::test]
async fn idle_connection_and_slow_second_request_are_closed_after_their_timeouts() {
    let system = System::start(CONFIG).await;
    let (mut slow, _) = client_with_two_answers(&system).await;
    let requested_at = Instant::now();
    slow.send("GET /livez").await;
    assert!(slow.read_until_closed().await.is_empty());
    assert!(requested_at.elapsed() + TIMER_TOLERANCE >= Duration::from_millis(500), "{:?}", requested_at.elapsed());
    system.api.wait_for_log("headers of the request were not complete in time");
    let (mut idle, last) = client_with_two_answers(&system).await;
    assert!(idle.read_until_closed().await.is_empty());
    assert!(last.elapsed() + TIMER_TOLERANCE >= Duration::from_millis(1_500), "{:?}", last.elapsed());
    system.api.wait_for_log("the connection was idle");
}

#[tokio::test]
async fn client_that_writes_its_whole_body_before_reading_receives_the_refusal() {
    let system = System::start("").await;
    // The body has more bytes than the kernel buffers.
    let body_length = 20_000_000;
    let body = vec![b' '; body_length];
    for (path, content_type, status) in [
        ("/v1/queues/q/messages", "application/json", 413),
        ("/v1/queues/q/messages", "text/plain", 415),
        ("/v1/queues/q/messages?x=1", "application/json", 400),
        ("/nowhere", "application/json", 404),
    ] {
        let request_head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\n");
        let mut client = system.connect().await;
        client.send(format!("{request_head}content-length: {body_length}\r\n\r\n")).await;
        timeout(TIME_LIMIT, client.stream.write_all(&body)).await.unwrap().expect("the API reads the whole body");
        assert_eq!(client.answer().await.status, status, "{path} {content_type}");
        assert!(client.read_until_closed().await.is_empty(), "{path} {content_type}");
        // A client that expects `100 Continue` receives the refusal of its request at once.
        let mut client = system.connect().await;
        let request_head = format!("{request_head}expect: 100-continue\r\n");
        assert_eq!(
            client.request(&format!("{request_head}content-length: {body_length}\r\n\r\n")).await.status,
            status,
            "{path}"
        );
    }
}

#[tokio::test]
async fn client_that_keeps_sending_after_a_refusal_is_disconnected() {
    let system = System::start(CONFIG).await;
    let mut client = system.connect().await;
    let started_at = Instant::now();
    client.send("POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 404);
    let disconnected = async {
        // After the server has closed the connection, the client's first write is answered by a reset, and the second write fails.
        while client.stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(TIME_LIMIT, disconnected).await.expect("the client is disconnected");
    assert!(started_at.elapsed() + TIMER_TOLERANCE >= Duration::from_millis(500), "{:?}", started_at.elapsed());
}

#[tokio::test]
async fn client_that_does_not_read_its_answer_is_disconnected() {
    let system = System::start(CONFIG).await;
    let answer_size = 900_000;
    let location = system.post("my-queue", json!({"data": "x".repeat(answer_size)})).await;
    let mut client = system.connect_from(1).await;
    let requests = 40;
    client.send(format!("GET {location} HTTP/1.1\r\nhost: a\r\n\r\n").repeat(requests)).await;
    system.api.wait_for_log("the client did not read its answer in time");
    let received_bytes = client.read_until_closed().await.len() * answer_size + client.unparsed_bytes();
    assert!(received_bytes < requests * answer_size, "{received_bytes}");
}

/// The number of connections that slowhttptest opens.
const CONNECTION_COUNT: &str = "400";

#[tokio::test]
async fn slowhttptest_keeps_no_connection_open_and_does_not_delay_posts() {
    // The time limits of slow clients are longer than the maximum time of a POST in this test, so that a POST that waits for
    // the end of a slow client fails the test.
    let limits = "header_timeout = \"6s\"\nrequest_timeout = \"6s\"\nwrite_timeout = \"6s\"\nidle_timeout = \"6s\"\n";
    let mut system = System::start(&format!("[api]\n{limits}")).await;
    // Each POST uses a new connection.
    system.http = Client::builder().pool_max_idle_per_host(0).build().unwrap();
    for (attack, path) in [
        ("-H -i 1 -t GET", "/livez"),
        ("-B -i 1 -s 100000 -t POST -f application/json", "/v1/queues/q/messages"),
        ("-X -w 16 -y 32 -n 1 -z 8 -k 1 -t GET", "/openapi.json"),
    ] {
        let mut slowhttptest = Command::new("slowhttptest")
            .args(attack.split(' '))
            .args(["-c", CONNECTION_COUNT, "-r", "200", "-p", "5", "-l", "30", "-u", &system.url(path)])
            .stdout(Stdio::piped())
            .spawn()
            .expect("`make e2e` installs slowhttptest");
        let begin_time = Instant::now();
        let (mut max_files, mut slowest) = (0, Duration::ZERO);
        // slowhttptest ends when all its connections are closed. slowhttptest counts a connection that it reads slowly as open while the
        // kernel still has bytes for the connection. For this reason, the test also counts the open files of the API.
        while slowhttptest.try_wait().unwrap().is_none() && (max_files < 100 || open_file_count(&system) > 50) {
            let started_at = Instant::now();
            system.post("q", json!({"data": 1})).await;
            slowest = slowest.max(started_at.elapsed());
            max_files = max_files.max(open_file_count(&system));
            assert!(begin_time.elapsed() < TIME_LIMIT, "{attack}: {} files are open", open_file_count(&system));
            sleep(Duration::from_millis(20)).await;
        }
        let _ = slowhttptest.kill();
        let output = slowhttptest.wait_with_output().unwrap().stdout;
        let output = String::from_utf8_lossy(&output);
        assert!(max_files > 100, "{attack}: only {max_files} files were open: {output}");
        assert!(!output.contains("NO\u{1b}"), "{attack}: the service was not available: {output}");
        assert!(slowest < Duration::from_secs(3), "{attack}: a POST took {slowest:?}");
    }
}

fn open_file_count(system: &System) -> usize {
    fs::read_dir(format!("/proc/{}/fd", system.api.id())).unwrap().count()
}

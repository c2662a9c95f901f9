//! Tests of NDJSON batches: a stream of lines, of which each line is stored or refused, and the response when the stream ends
//! early.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use drover_tests::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use crate::System;

const BATCH_PATH: &str = "/v1/queues/q/messages/batch";

async fn send(system: &System, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let request = system.http.post(system.url(BATCH_PATH)).header("content-type", "application/x-ndjson");
    let answer = request.body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn numbered_lines(range: std::ops::Range<u64>) -> String {
    range.map(|n| format!("{{\"data\":{n}}}\n")).collect::<Vec<_>>().concat()
}

/// A client that sends its body in pieces.
struct SlowClient {
    socket: TcpStream,
}

impl SlowClient {
    fn begin_request(system: &System) -> Self {
        let host = system.base.strip_prefix("http://").unwrap();
        let mut socket = TcpStream::connect(host).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let request_head = format!(
            "POST {BATCH_PATH} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        socket.write_all(request_head.as_bytes()).unwrap();
        Self { socket }
    }

    fn send(&mut self, piece: &str) {
        self.try_send(piece).unwrap();
    }

    fn try_send(&mut self, piece: &str) -> std::io::Result<()> {
        self.socket.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())
    }

    fn end_request(self) -> (u16, Value) {
        let Self { mut socket } = self;
        socket.write_all(b"0\r\n\r\n").unwrap();
        Self { socket }.answer()
    }

    fn answer(mut self) -> (u16, Value) {
        let mut answer = String::new();
        self.socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
    }
}

fn waiting_count(system: &System) -> u64 {
    let length_reply = system.redis.command("LLEN drover:{q}:waiting");
    length_reply.trim_start_matches(':').trim().parse().unwrap()
}

#[tokio::test]
async fn ndjson_body_stores_any_number_of_messages_line_by_line() {
    let system = System::start("").await;
    let (status, summary) = send(&system, numbered_lines(0..2_500)).await;
    let expected = json!({"enqueued": 2_500, "duplicates": 0, "refused": [], "refused_count": 0, "done": true});
    assert_eq!((status, summary), (200, expected));
    let deliveries = system.lease("q", 1_000).await;
    let order: Vec<u64> = deliveries.iter().map(|delivery| delivery.message.data.get().parse().unwrap()).collect();
    assert_eq!(order, (0..1_000).collect::<Vec<_>>());
    for (body, enqueued) in [("", 0), ("\n\r\n \n", 0), ("{\"data\":1}", 1), ("\n{\"data\":1}\r\n\n", 1)] {
        let (status, summary) = send(&system, body).await;
        assert_eq!((status, &summary["enqueued"], &summary["done"]), (200, &json!(enqueued), &json!(true)), "{body:?}");
        assert_eq!(summary["refused_count"], 0, "empty lines are ignored: {body:?}");
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn invalid_line_of_ndjson_is_refused_with_its_number_and_other_lines_are_stored() {
    let system = System::start("[queues.q]\nmax_attempts = 2\n").await;
    let long_text = format!("{{\"data\":\"{}\"}}", "x".repeat(1 << 20));
    let body = [
        r#"{"data":1,"id":"a"}"#,
        "not json",
        r#"{"data":2,"dealy":1,"priority":"x"}"#,
        "",
        long_text.as_str(),
        r#"{"data":3,"id":"a"}"#,
        r#"{"data":4,"id":"b"}"#,
        "[1]",
        "{\"data\":5",
    ];
    let (status, summary) = send(&system, body.join("\n")).await;
    assert_eq!((status, &summary["enqueued"], &summary["duplicates"]), (200, &json!(2), &json!(1)), "{summary}");
    assert_eq!((&summary["refused_count"], &summary["done"]), (&json!(5), &json!(true)));
    let refused_lines: Vec<_> = summary["refused"].as_array().unwrap().iter().collect();
    let refusals: Vec<_> = refused_lines
        .iter()
        .map(|refusal| (refusal["line"].as_u64().unwrap(), refusal["code"].as_str().unwrap()))
        .collect();
    let expected =
        [(2, "invalid_json"), (3, "invalid_message"), (5, "body_too_large"), (8, "invalid_json"), (9, "invalid_json")];
    assert_eq!(refusals, expected);
    assert!(refused_lines[0]["detail"].as_str().unwrap().contains("at column 2"), "{summary}");
    assert_eq!(refused_lines[1]["errors"][0]["pointer"], "/dealy");
    system.assert_clean().await;
}

#[tokio::test]
async fn list_of_refused_lines_of_ndjson_is_bounded() {
    let system = System::start("").await;
    let (_, summary) = send(&system, "x\n".repeat(100_000)).await;
    assert_eq!((&summary["refused_count"], &summary["enqueued"]), (&json!(100_000), &json!(0)));
    assert_eq!(summary["refused"].as_array().unwrap().len(), 100);
    assert_eq!(system.get("/v1/queues").await["queues"], json!([]), "nothing was stored");
}

#[tokio::test]
async fn stream_of_lines_may_be_larger_than_the_body_limit() {
    let system = System::start("").await;
    let line = format!("{{\"data\":\"{}\"}}\n", "x".repeat(300_000));
    let (status, summary) = send(&system, line.repeat(20)).await;
    assert_eq!((status, &summary["enqueued"], &summary["done"]), (200, &json!(20), &json!(true)));
    system.assert_clean().await;
}

#[tokio::test]
async fn complete_lines_of_ndjson_are_stored_before_the_stream_ends() {
    let system = System::start("").await;
    let mut client = SlowClient::begin_request(&system);
    client.send("{\"data\":1}\n{\"da");
    eventually("the first line is stored", || (waiting_count(&system) == 1).then_some(()));
    client.send("ta\":2}\n");
    eventually("the second line is stored", || (waiting_count(&system) == 2).then_some(()));
    client.send("{\"data\":3}");
    let (status, summary) = client.end_request();
    assert_eq!((status, &summary["enqueued"]), (200, &json!(3)));
    system.assert_clean().await;
}

#[tokio::test]
async fn stream_of_lines_may_last_longer_than_any_other_request() {
    let system = System::start("[api]\nrequest_timeout = \"1s\"\nmax_wait = 0\n").await;
    let mut client = SlowClient::begin_request(&system);
    for n in 0..15 {
        client.send(&numbered_lines(n..n + 1));
        std::thread::sleep(Duration::from_millis(100));
    }
    let (status, summary) = client.end_request();
    assert_eq!((status, &summary["enqueued"]), (200, &json!(15)), "{summary}");
}

#[tokio::test]
async fn stream_of_lines_without_a_message_ends_after_the_request_timeout() {
    let system = System::start("[api]\nrequest_timeout = \"1s\"\n").await;
    for line in ["\n", " \r\n\n", "no message\n"] {
        let mut client = SlowClient::begin_request(&system);
        client.send("{\"data\":1}\n");
        let started_at = Instant::now();
        let mut slow_client = SlowClient { socket: client.socket.try_clone().unwrap() };
        let writer_thread = std::thread::spawn(move || {
            while slow_client.try_send(line).is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let (status, problem) = client.answer();
        assert_eq!((status, &problem["code"]), (408, &json!("request_timeout")), "{problem}");
        assert_eq!((&problem["enqueued"], &problem["done"]), (&json!(1), &json!(false)), "{problem}");
        assert!(started_at.elapsed() > Duration::from_millis(900), "{:?}", started_at.elapsed());
        writer_thread.join().unwrap();
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn stored_lines_of_ndjson_stay_when_the_client_disconnects() {
    let system = System::start("").await;
    let mut client = SlowClient::begin_request(&system);
    client.send(&numbered_lines(0..10));
    client.send("{\"data\":");
    eventually("the lines are stored", || (waiting_count(&system) == 10).then_some(()));
    drop(client);
    assert_eq!(system.request(Method::GET, "/v1/queues/q", None).await.1["counts"]["waiting"], 10);
    system.assert_clean().await;
}

#[tokio::test]
async fn client_that_stops_sending_is_answered_with_the_last_stored_line() {
    let system = System::start("[api]\nrequest_timeout = \"1s\"\n").await;
    let mut client = SlowClient::begin_request(&system);
    client.send("{\"data\":1}\nbad\n{\"data\":");
    let (status, problem) = client.answer();
    assert_eq!((status, &problem["code"]), (408, &json!("request_timeout")), "{problem}");
    assert_eq!((&problem["enqueued"], &problem["done"]), (&json!(1), &json!(false)));
    assert_eq!((&problem["stored_through"], &problem["refused"][0]["line"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn answer_names_the_stored_lines_when_the_api_stops() {
    let mut system = System::start("").await;
    let mut client = SlowClient::begin_request(&system);
    client.send(&numbered_lines(0..7));
    eventually("the lines are stored", || (waiting_count(&system) == 7).then_some(()));
    let address = system.base.strip_prefix("http://").unwrap().to_owned();
    let answer = std::thread::spawn(move || {
        eventually("the API accepts no new connections", || TcpStream::connect(&address).is_err().then_some(()));
        client.end_request()
    });
    assert!(system.api.terminate().success());
    let (status, problem) = answer.join().unwrap();
    assert_eq!((status, &problem["code"]), (503, &json!("stopping")), "{problem}");
    assert_eq!((&problem["stored_through"], &problem["done"]), (&json!(7), &json!(false)), "{problem}");
}

#[tokio::test]
async fn answer_names_the_stored_lines_when_redis_fails() {
    let mut system = System::start("").await;
    let mut client = SlowClient::begin_request(&system);
    client.send(&numbered_lines(0..5));
    eventually("the lines are stored", || (waiting_count(&system) == 5).then_some(()));
    system.redis.kill();
    // A client that writes its whole body before it reads sends much more than the buffers of its socket hold.
    for n in 1..200 {
        client.send(&numbered_lines(n * 1_000..n * 1_000 + 1_000));
    }
    let (status, problem) = client.end_request();
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")), "{problem}");
    assert_eq!((&problem["enqueued"], &problem["stored_through"]), (&json!(5), &json!(5)), "{problem}");
    assert_eq!((&problem["in_doubt"]["from"], &problem["done"]), (&json!(6), &json!(false)), "{problem}");
    assert!(problem["in_doubt"]["to"].as_u64().unwrap() <= 1_005, "{problem}");
}

#[tokio::test]
async fn answer_names_the_stored_lines_when_the_queue_is_full() {
    let system = System::start("").await;
    system.patch("q", json!({"max_length": 1_500})).await;
    let (status, problem) = send(&system, numbered_lines(0..5_000)).await;
    assert_eq!((status, &problem["code"]), (429, &json!("queue_full")), "{problem}");
    assert_eq!((problem.get("in_doubt"), &problem["done"]), (None, &json!(false)));
    let stored_through = problem["stored_through"].as_u64().unwrap();
    assert_eq!(problem["enqueued"], stored_through);
    assert_eq!(waiting_count(&system), stored_through, "the answer agrees with Redis");
    assert!(stored_through >= 1_000, "{problem}");
    system.assert_clean().await;
}

#[tokio::test]
async fn idempotency_key_is_refused_for_ndjson() {
    let system = System::start("").await;
    let request =
        system.http.post(system.url(BATCH_PATH)).header("content-type", "application/x-ndjson; charset=utf-8");
    let answer = request.header("idempotency-key", "k").body(numbered_lines(0..3)).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "invalid_idempotency_key");
    assert!(problem["detail"].as_str().unwrap().contains("an id of its own"), "{problem}");
    assert_eq!(system.get("/v1/queues").await["queues"], json!([]));
}

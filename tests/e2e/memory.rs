//! Tests of the memory that clients can make the API use, with slow bodies, unterminated lines, and responses and event streams
//! that are not read. The memory stays within the bounds in docs/API.md, and other clients are not delayed.

use std::{
    fs,
    time::{Duration, Instant},
};

use drover_tests::TIME_LIMIT;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    System,
    auth::{config, issue},
    number,
    raw_client::{Answer, RawClient},
};

impl System {
    /// Returns the resident memory of the API in KiB.
    pub(crate) fn api_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.api.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// The memory in KiB that a connection may use in addition to its request body.
const KIB_PER_CONNECTION: u64 = 128;
/// The memory in KiB that the API may use for buffers of Redis, threads and the allocator while thousands of clients connect.
const KIB_FOR_OTHER_USES: u64 = 40 * 1_024;

/// Returns the head of a POST whose body has this many bytes.
fn post_request_head(length: usize, authorization: &str) -> String {
    format!(
        "POST /v1/queues/q/messages HTTP/1.1\r\nhost: a\r\n{authorization}content-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    )
}

/// Returns a message of this many bytes.
fn message_of_length(length: usize) -> String {
    format!("{{\"data\":\"{}\"}}", "x".repeat(length - r#"{"data":""}"#.len()))
}

async fn post_body(client: &mut RawClient, length: usize, authorization: &str) -> Answer {
    client.request(&(post_request_head(length, authorization) + &message_of_length(length))).await
}

/// Asserts that a body was refused for lack of memory.
fn assert_overloaded(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(
        answer.head.contains("content-type: application/problem+json") && answer.head.contains("retry-after: 1\r\n")
    );
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["code"], "overloaded", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("api.max_body_memory"), "{problem}");
}

/// The maximum time of a POST while slow clients are connected. `MAX_POST_TIME` allows for a busy machine, and is shorter than each time
/// limit of a slow client (10 s and more).
const MAX_POST_TIME: Duration = Duration::from_secs(8);
/// A long time limit for calls to Redis, because the processes are busy with slow clients. The tests measure the time of a POST.
const LONG_REDIS_TIMEOUT: &str = "[redis]\ntimeout = \"30s\"\n";

/// Posts pairs of a small and a large message for two seconds. Returns the longest time that the two POSTs of a pair took.
async fn slowest_post(system: &System) -> Duration {
    let started_at = Instant::now();
    let mut longest_post_time = Duration::ZERO;
    let mut client = system.connect_from(9).await;
    while started_at.elapsed() < Duration::from_secs(2) {
        let sent_at = Instant::now();
        timeout(TIME_LIMIT, system.post("q", number(1))).await.unwrap();
        assert_eq!(timeout(TIME_LIMIT, post_body(&mut client, 100_000, "")).await.unwrap().status, 201);
        longest_post_time = longest_post_time.max(sent_at.elapsed());
    }
    longest_post_time
}

#[tokio::test(flavor = "multi_thread")]
async fn six_hundred_slow_bodies_stay_within_the_memory_limit_and_do_not_delay_posts() {
    const BODY_LENGTH: usize = 1_024 * 1_024;
    let system =
        System::start(&format!("{LONG_REDIS_TIMEOUT}[api]\nmax_body_memory = 67108864\nrequest_timeout = \"60s\"\n"))
            .await;
    slowest_post(&system).await;
    let memory_before = system.api_memory();
    let nearly_whole_body = vec![b' '; BODY_LENGTH - 1_000];
    let slow_posts = join_all((0..600_u16).map(async |n| {
        let mut client = system.connect_from(2 + u8::try_from(n % 3).unwrap()).await;
        client.send(post_request_head(BODY_LENGTH, "")).await;
        client.send(&nearly_whole_body).await;
        // The API refuses at once, but a busy machine may take seconds to deliver the refusal. The API waits for the rest of an
        // accepted body.
        let answer = client.wait_for_answer_within(Duration::from_secs(15)).await;
        (client, answer)
    }))
    .await;
    let refused_posts: Vec<&Answer> = slow_posts.iter().filter_map(|(_, answer)| answer.as_ref()).collect();
    for answer in &refused_posts {
        assert_overloaded(answer);
    }
    assert_eq!(slow_posts.len() - refused_posts.len(), 3 * 16, "each address may use a quarter of the memory");
    let longest_post_time = slowest_post(&system).await;
    assert!(longest_post_time < MAX_POST_TIME, "{longest_post_time:?}");
    let memory_growth = system.api_memory().saturating_sub(memory_before);
    assert!(
        memory_growth < 3 * 16 * 1_024 + 600 * KIB_PER_CONNECTION + KIB_FOR_OTHER_USES,
        "the API grew by {memory_growth} KiB"
    );
    drop(slow_posts);
    // The API frees the memory of a connection as soon as the API notices that the connection has ended. Each POST needs memory
    // for its body and its answer.
    let connect_seven_clients = || join_all((0..7).map(|_| system.connect_from(2)));
    let mut clients = connect_seven_clients().await;
    let started_at = Instant::now();
    loop {
        let answers = join_all(clients.iter_mut().map(|client| post_body(client, BODY_LENGTH, ""))).await;
        if answers.iter().all(|answer| answer.status == 201) {
            break;
        }
        assert!(started_at.elapsed() < TIME_LIMIT, "{:.300}", format!("{answers:?}"));
        clients = connect_seven_clients().await;
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn body_that_arrives_in_tiny_pieces_takes_no_more_memory_than_a_body_in_one_piece() {
    let system = System::start(&format!("{LONG_REDIS_TIMEOUT}[api]\nrequest_timeout = \"60s\"\n")).await;
    let memory_before = system.api_memory();
    let mut sending_clients = Vec::new();
    for _ in 0..20 {
        let mut client = system.connect_from(2).await;
        client.stream.set_nodelay(true).unwrap();
        client.send(post_request_head(500_000, "")).await;
        sending_clients.push(client);
    }
    for _ in 0..500 {
        join_all(sending_clients.iter_mut().map(|client| client.send(b" "))).await;
        // The pause between two bytes makes each byte arrive as a separate piece of the body.
        sleep(Duration::from_millis(1)).await;
    }
    let memory_growth = system.api_memory().saturating_sub(memory_before);
    assert!(memory_growth < 20 * (500 + KIB_PER_CONNECTION) + 10 * 1_024, "the API grew by {memory_growth} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn unterminated_lines_of_ndjson_stay_within_the_memory_limit() {
    let system =
        System::start(&format!("{LONG_REDIS_TIMEOUT}[api]\nmax_body_memory = 67108864\nrequest_timeout = \"30s\"\n"))
            .await;
    slowest_post(&system).await;
    let memory_before = system.api_memory();
    let piece = "x".repeat(32 * 1_024);
    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
    let request_head = "POST /v1/queues/q/messages/batch HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-ndjson\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let mut slow_posts = join_all((0..200).map(async |_| {
        let mut client = system.connect_from(2).await;
        client.send(request_head).await;
        client.send(chunk.repeat(30)).await;
        client
    }))
    .await;
    let longest_post_time = slowest_post(&system).await;
    assert!(longest_post_time < MAX_POST_TIME, "{longest_post_time:?}");
    let memory_growth = system.api_memory().saturating_sub(memory_before);
    assert!(
        memory_growth < 16 * 1_024 + 200 * KIB_PER_CONNECTION + KIB_FOR_OTHER_USES,
        "the API grew by {memory_growth} KiB"
    );
    // At its end, each stream of NDJSON gets an answer: its only line is no message, or there was no memory for this line.
    let last_answers = join_all(slow_posts.iter_mut().map(async |client| client.request("0\r\n\r\n").await)).await;
    let refused_answers: Vec<_> = last_answers.iter().filter(|answer| answer.status != 200).collect();
    assert!((100..200).contains(&refused_answers.len()), "{}", refused_answers.len());
    for answer in refused_answers {
        assert_overloaded(answer);
        assert!(answer.body.contains("\"stored_through\":0"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_hundred_listeners_that_do_not_read_take_bounded_memory_and_do_not_delay_posts() {
    const LISTENER_COUNT: u32 = 1_200;
    let system = System::start(LONG_REDIS_TIMEOUT).await;
    system.patch("q", json!({"max_attempts": 3})).await;
    slowest_post(&system).await;
    let memory_before = system.api_memory();
    let mut unread_clients = Vec::new();
    for _ in 0..LISTENER_COUNT {
        let mut client = system.connect_from(2).await;
        client.send("GET /v1/queues/q/events HTTP/1.1\r\nhost: a\r\n\r\n").await;
        unread_clients.push(client);
    }
    let started_at = Instant::now();
    while system.metric("drover_event_listeners").await != u64::from(LISTENER_COUNT) {
        assert!(started_at.elapsed() < TIME_LIMIT, "not all listeners are connected");
        sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..15 {
        system.post_batch("q", (0..1_000).map(number)).await;
    }
    let longest_post_time = slowest_post(&system).await;
    assert!(longest_post_time < MAX_POST_TIME, "{longest_post_time:?}");
    let memory_growth = system.api_memory().saturating_sub(memory_before);
    assert!(
        memory_growth < u64::from(LISTENER_COUNT) * KIB_PER_CONNECTION + KIB_FOR_OTHER_USES,
        "the API grew by {memory_growth} KiB"
    );
    let connected_listeners = system.metric("drover_event_listeners").await;
    assert_eq!(connected_listeners, u64::from(LISTENER_COUNT), "no listener is disconnected yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_clients_that_do_not_read_their_pages_take_bounded_memory_and_do_not_delay_posts() {
    const PAGE_REQUEST: &str = "GET /v1/queues/large/messages?limit=1000 HTTP/1.1\r\nhost: a\r\n\r\n";
    const MESSAGE_COUNT: usize = 60;
    let system = System::start(&format!("{LONG_REDIS_TIMEOUT}[api]\nwrite_timeout = \"10m\"\n")).await;
    for n in 0..MESSAGE_COUNT {
        system.post("large", json!({"data": {"n": n, "rest": "x".repeat(150_000)}})).await;
    }
    slowest_post(&system).await;
    let mut reader = system.connect_from(9).await;
    let whole_page = reader.request(PAGE_REQUEST).await;
    assert!(whole_page.body.len() > 3_900_000, "{} bytes", whole_page.body.len());
    let memory_before = system.api_memory();
    let mut unread_clients = Vec::new();
    let mut refused_count = 0;
    for _ in 0..30 {
        // Ten clients send requests at once. All ten clients have one address, which may use only a part of the memory.
        let unread_page_clients = join_all((0..10).map(async |_| {
            let mut client = system.connect_from(2).await;
            client.send(PAGE_REQUEST).await;
            timeout(TIME_LIMIT, client.stream.readable()).await.unwrap().unwrap();
            let mut status_line = [0; 12];
            assert_eq!(timeout(TIME_LIMIT, client.stream.peek(&mut status_line)).await.unwrap().unwrap(), 12);
            (client, String::from_utf8(status_line.to_vec()).unwrap())
        }))
        .await;
        for (mut client, status_line) in unread_page_clients {
            if status_line == "HTTP/1.1 503" {
                assert_overloaded(&client.answer().await);
                refused_count += 1;
            } else {
                assert_eq!(status_line, "HTTP/1.1 200");
            }
            unread_clients.push(client);
        }
    }
    assert!((100..300).contains(&refused_count), "{refused_count} requests were refused");
    let longest_post_time = slowest_post(&system).await;
    assert!(longest_post_time < MAX_POST_TIME, "{longest_post_time:?}");
    let memory_growth = system.api_memory().saturating_sub(memory_before);
    assert!(
        memory_growth < 32 * 1_024 + 300 * KIB_PER_CONNECTION + KIB_FOR_OTHER_USES,
        "the API grew by {memory_growth} KiB"
    );
    // The address 127.0.0.2 of the clients that read nothing may still send bodies and receive small answers, and other addresses may
    // receive large answers. A refused lease call leases no message.
    let mut neighbour_client = system.connect_from(2).await;
    assert_eq!(post_body(&mut neighbour_client, 100_000, "").await.status, 201);
    assert_eq!(neighbour_client.request("GET /v1/queues/large HTTP/1.1\r\nhost: a\r\n\r\n").await.status, 200);
    let lease_request = "POST /v1/queues/large/leases HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    assert_overloaded(&neighbour_client.request(lease_request).await);
    assert_eq!(system.get("/v1/queues/large").await["counts"]["active"], 0);
    assert_eq!(reader.request(PAGE_REQUEST).await.status, 200);
    drop(unread_clients);
    // The API frees the memory of connections as soon as the API notices that they have ended.
    let started_at = Instant::now();
    let mut path = String::from("/v1/queues/large/messages?limit=1000");
    let mut listed_count = 0;
    while started_at.elapsed() < TIME_LIMIT && !path.is_empty() {
        let answer = neighbour_client.request(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        if answer.status == 200 {
            let page: Value = serde_json::from_str(&answer.body).unwrap();
            listed_count += page["messages"].as_array().unwrap().len();
            let next_cursor = page["next_cursor"]
                .as_str()
                .map(|next_cursor| format!("/v1/queues/large/messages?limit=1000&cursor={next_cursor}"));
            path = next_cursor.unwrap_or_default();
        }
    }
    assert_eq!(listed_count, MESSAGE_COUNT);
    let lease_answer: Value = serde_json::from_str(&neighbour_client.request(lease_request).await.body).unwrap();
    assert_eq!(lease_answer["messages"][0]["data"]["n"], 0, "the refused call did not lease the first message");
    assert_eq!(lease_answer["messages"][0]["deliveries"], 1);
}

#[tokio::test]
async fn one_api_key_has_a_quarter_of_the_memory_for_bodies_and_small_bodies_are_always_accepted() {
    let (ours, theirs) =
        (issue("--id ours --scopes enqueue --queues q"), issue("--id theirs --scopes enqueue --queues q"));
    let keys = config(&[&ours, &theirs]);
    let system = System::start(&format!(
        "{LONG_REDIS_TIMEOUT}[api]\nmax_body_memory = 4194304\nrequest_timeout = \"60s\"\n{keys}"
    ))
    .await;
    let [ours, theirs] = [ours, theirs].map(|issued| format!("authorization: Bearer {}\r\n", issued.key));
    let mut slow_client = system.connect().await;
    // The API asks for the body when it has reserved memory for it.
    slow_client.send(post_request_head(1_000_000, &format!("{ours}expect: 100-continue\r\n"))).await;
    slow_client.wait_for_continue().await;
    let refusal = post_body(&mut system.connect().await, 100_000, &ours).await;
    assert_overloaded(&refusal);
    assert!(refusal.body.contains("from the key ours"), "{refusal:?}");
    // A client that expects `100 Continue` receives the refusal before it sends its body.
    let head_with_expect = post_request_head(100_000, &format!("{ours}expect: 100-continue\r\n"));
    assert_overloaded(&system.connect().await.request(&head_with_expect).await);
    assert_eq!(post_body(&mut system.connect().await, 100, &ours).await.status, 201, "a small body is always accepted");
    assert_eq!(
        post_body(&mut system.connect().await, 100_000, &theirs).await.status,
        201,
        "another key has its own quarter"
    );
    slow_client.send(message_of_length(1_000_000)).await;
    assert_eq!(slow_client.answer().await.status, 201);
    assert_eq!(post_body(&mut slow_client, 1_000_000, &ours).await.status, 201, "the whole quarter is free again");
}

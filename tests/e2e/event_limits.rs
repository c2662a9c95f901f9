//! Tests of the limits of event streams: the number of listeners, the memory for slow listeners, and the time for which a
//! stream without events stays open.

use std::time::{Duration, Instant};

use drover_tests::TIME_LIMIT;
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    System,
    auth::{config, issue},
    event_listener::{Event, ids},
    number,
};

#[tokio::test]
async fn event_stream_whose_client_does_not_read_is_closed_while_others_continue_and_memory_stays_bounded() {
    let config = "[api]\nwrite_timeout = \"500ms\"\n[log]\nfilter = \"info,service=debug,producer_api=debug\"";
    let system = System::start(config).await;
    system.create_queue("q").await;
    let mut client = system.listen(None).await;
    let mut silent_clients = Vec::new();
    for _ in 0..20 {
        let mut silent_client = system.connect_from(1).await;
        silent_client.send("GET /v1/queues/q/events HTTP/1.1\r\nhost: a\r\n\r\n").await;
        silent_clients.push(silent_client);
    }
    for _ in 0..200 {
        if system.metric("drover_event_listeners").await == 21 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let memory_before = system.api_memory();
    let started_at = Instant::now();
    let mut posted_count = 0;
    // The posts continue until the last listener that does not read is disconnected, independently of how much the sockets
    // buffer.
    loop {
        let batch = ids(posted_count, 1_000);
        system.post_ids(&batch).await;
        posted_count += 1;
        for id in &batch {
            assert_eq!(client.event().await.message(), id);
        }
        if system.metric("drover_event_listeners").await == 1 {
            break;
        }
        assert!(
            started_at.elapsed() < TIME_LIMIT,
            "the silent listeners are not disconnected after {posted_count} batches"
        );
    }
    let memory_growth = system.api_memory().saturating_sub(memory_before);
    assert!(memory_growth < 64 * 1_024, "the API grew by {memory_growth} KiB");
    let log = system.api.log().join("\n");
    assert!(log.contains("did not read its answer in time") || log.contains("fell too far behind"), "{log}");
}

#[tokio::test]
async fn two_thousand_clients_receive_the_same_events_over_one_connection_to_redis() {
    let system = System::start("").await;
    system.create_queue("q").await;
    let connections = || {
        let clients_info = system.redis.command("INFO clients");
        let line = clients_info.lines().find(|line| line.starts_with("connected_clients:")).unwrap().to_owned();
        line["connected_clients:".len()..].trim().parse::<u64>().unwrap()
    };
    let connections_before = connections();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.extend(join_all((0..100).map(|_| system.listen(None))).await);
    }
    // The number of connections to Redis does not depend on the number of listeners.
    assert!(
        connections() <= connections_before + 2,
        "{} connections to Redis, {connections_before} before",
        connections()
    );
    assert!(system.redis.command("PUBSUB NUMPAT").contains(":2"));
    for n in 0..3 {
        system.post("q", json!({"data": n, "id": format!("m{n}")})).await;
    }
    let received_events = join_all(clients.iter_mut().map(async |client| {
        let mut events = Vec::new();
        for _ in 0..3 {
            events.push(client.event().await);
        }
        events
    }))
    .await;
    assert_eq!(received_events.len(), 2_000);
    let messages: Vec<&str> = received_events[0].iter().map(Event::message).collect();
    assert_eq!(messages, ["m0", "m1", "m2"]);
    assert!(received_events.iter().all(|events| *events == received_events[0]));
}

#[tokio::test]
async fn event_stream_without_events_outlives_every_time_limit_and_ends_when_the_server_stops() {
    let short_limits = "request_timeout = \"1s\"\nmax_wait = \"1s\"\nidle_timeout = \"1s\"\nwrite_timeout = \"1s\"";
    let mut system = System::start(&format!("[api]\n{short_limits}\nheader_timeout = \"1s\"")).await;
    system.create_queue("q").await;
    let mut client = system.listen_to("/v1/queues/q/events?message=mine", None).await;
    let first_event_id = client.last_event_id.clone();
    system.post("q", number(1)).await;
    let started_at = Instant::now();
    assert_eq!(client.read_event_block().await, Ok(None), "the stream sends a heartbeat");
    assert!(started_at.elapsed() > Duration::from_secs(10), "{:?}", started_at.elapsed());
    assert_ne!(
        client.last_event_id, first_event_id,
        "the heartbeat has the current event id, even for a listener to one message"
    );
    system.post("q", json!({"data": 1, "id": "mine"})).await;
    assert_eq!(client.event().await.kind, "enqueued");
    let started_at = Instant::now();
    assert!(system.api.terminate().success());
    assert_eq!(client.next().await, None);
    assert!(started_at.elapsed() < Duration::from_secs(5), "{:?}", started_at.elapsed());
}

#[tokio::test]
async fn number_of_event_streams_is_limited_per_api_and_per_key() {
    let (ours, theirs) = (issue("--id ours --scopes read --queues q"), issue("--id theirs --scopes read --queues q"));
    let admin = issue("--id admin --scopes manage,enqueue --queues *");
    let keys = config(&[&ours, &theirs, &admin]);
    let system = System::start(&format!("[api]\nmax_listeners = 3\nmax_listeners_per_key = 2\n{keys}")).await;
    let open_stream = |key: &str, method: Method| {
        let request = system.http.request(method, system.url("/v1/queues/q/events"));
        request.header("authorization", format!("Bearer {key}")).send()
    };
    assert_eq!(open_stream(&admin.key, Method::GET).await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(open_stream(&ours.key, Method::GET).await.unwrap().status(), StatusCode::NOT_FOUND);
    let patch = system.http.patch(system.url("/v1/queues/q")).bearer_auth(&admin.key).json(&json!({"max_attempts": 3}));
    let patch_answer = patch.send().await.unwrap();
    assert_eq!(patch_answer.status(), StatusCode::OK);
    let first_stream = open_stream(&ours.key, Method::GET).await.unwrap();
    let second_stream = open_stream(&ours.key, Method::GET).await.unwrap();
    assert_eq!((first_stream.status(), second_stream.status()), (StatusCode::OK, StatusCode::OK));
    let refusal = open_stream(&ours.key, Method::GET).await.unwrap();
    assert_eq!(
        (refusal.status(), refusal.headers()["retry-after"].to_str().unwrap()),
        (StatusCode::TOO_MANY_REQUESTS, "10")
    );
    assert_eq!(refusal.json::<Value>().await.unwrap()["code"], "too_many_listeners");
    let third_stream = open_stream(&theirs.key, Method::GET).await.unwrap();
    assert_eq!(third_stream.status(), StatusCode::OK);
    let refusal = open_stream(&theirs.key, Method::GET).await.unwrap();
    assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refusal.json::<Value>().await.unwrap()["code"], "too_many_listeners");
    // A listener that disconnects no longer counts towards the limit.
    drop((first_stream, second_stream));
    for _ in 0..500 {
        let answer = open_stream(&ours.key, Method::HEAD).await.unwrap();
        if answer.status() == StatusCode::OK {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the quota is not freed");
}

//! Tests of many clients at once: thousands of clients that idle, send slowly or wait for a result, and hundreds of clients
//! that post at the same time.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use drover_tests::TIME_LIMIT;
use futures_util::future::join_all;
use reqwest::{Client, StatusCode};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    System, completed, number,
    raw_client::{LIVEZ_REQUEST, RawClient},
};

/// Returns the number of clients: 5,000, or fewer if this process may not open so many files.
fn client_count() -> usize {
    let file_limit = getrlimit(Resource::Nofile).current.unwrap_or(10_000);
    usize::try_from(file_limit.saturating_sub(300)).unwrap().min(5_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_connections_and_slow_headers_do_not_delay_posts() {
    let mut system = System::start("[redis]\ntimeout = \"4s\"\n[api]\nheader_timeout = \"6s\"\n").await;
    // Each POST uses a new connection.
    system.http = Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let address = system.api_port.address();
    let mut idle_clients = Vec::new();
    for _ in 0..client_count() - 200 {
        let mut client = RawClient::connect(address).await;
        client.send(LIVEZ_REQUEST).await;
        idle_clients.push(client);
    }
    let mut slow_clients = JoinSet::new();
    for _ in 0..200 {
        slow_clients.spawn(async move {
            // A disconnected client connects again.
            loop {
                let mut client = RawClient::connect(address).await;
                client.send("GET /livez HTTP/1.1\r\n").await;
                while client.stream.write_all(b"x: 1\r\n").await.is_ok() {
                    sleep(Duration::from_millis(200)).await;
                }
            }
        });
    }
    let started_at = Instant::now();
    let mut longest_post_time = Duration::ZERO;
    let mut post_count = 0;
    // The posts last so long that each slow client is disconnected once.
    while post_count < 300 || started_at.elapsed() < Duration::from_secs(7) {
        let sent_at = Instant::now();
        timeout(TIME_LIMIT, system.post("my-queue", number(post_count))).await.unwrap();
        longest_post_time = longest_post_time.max(sent_at.elapsed());
        post_count += 1;
    }
    // No POST waited for the end of a slow client, which takes 6 s.
    assert!(longest_post_time < Duration::from_secs(4), "{longest_post_time:?}");
    slow_clients.shutdown().await;
    for client in &mut idle_clients {
        assert_eq!(client.answer().await.status, 200, "an idle client is not disconnected");
        client.send(LIVEZ_REQUEST).await;
    }
    for client in &mut idle_clients {
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_waiting_clients_need_one_subscription_and_no_polling() {
    let system = System::start("[redis]\ntimeout = \"30s\"\n").await;
    let address = system.api_port.address();
    system.post_batch("q", (0..1_000).map(|n| json!({"data": n, "id": format!("m-{n}")}))).await;
    // Even on a busy machine, all clients must wait before the wait of the first client ends after 60 s.
    let waiting_client_count = client_count().min(2_000);
    let mut waiting_clients = Vec::with_capacity(waiting_client_count);
    for n in 0..waiting_client_count {
        let mut client = RawClient::connect(address).await;
        let path = format!("/v1/queues/q/messages/m-{}?wait=60s", n % 1_000);
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        waiting_clients.push(client);
    }
    // When Redis has received almost no calls for a second, all clients have sent their requests and wait for the answers.
    let call_count = || {
        let stats = system.redis.command("INFO commandstats");
        let calls_of =
            |name: &str| stats.lines().find_map(|line| line.strip_prefix(name)?.split(',').next()?.parse().ok());
        calls_of("cmdstat_evalsha:calls=").unwrap_or(0_u64)
    };
    timeout(TIME_LIMIT, async {
        loop {
            let call_count_before = call_count();
            sleep(Duration::from_secs(1)).await;
            if call_count() - call_count_before < 20 {
                return;
            }
        }
    })
    .await
    .expect("waiting clients cause no calls to Redis");
    let subscriber_list = system.redis.command("CLIENT LIST TYPE pubsub");
    assert_eq!(subscriber_list.lines().filter(|line| line.contains(" cmd=")).count(), 1, "{subscriber_list}");
    assert_eq!(system.settle_all("q", completed()).await, 1_000);
    for client in &mut waiting_clients {
        let answer = client.answer().await;
        assert!(answer.status == 200 && answer.body.contains("\"state\":\"completed\""), "{answer:?}");
    }
}

/// Returns the number of enqueue calls that the API has made.
async fn enqueue_calls(system: &System) -> u64 {
    system.metric("drover_redis_call_duration_seconds_count{script=\"enqueue\"}").await
}

#[tokio::test]
async fn concurrent_posts_are_each_answered_for_their_own_message() {
    let system = System::start("").await;
    let messages: Vec<Value> = (0..320)
        .map(|n| match n % 40 {
            0 => json!({"data": n, "id": "same"}),
            1 => json!({"data": n, "delay": "1h"}),
            2 => json!({"data": n, "delay": -1}),
            _ => number(n),
        })
        .collect();
    let answers = join_all(messages.iter().map(async |message| {
        let answer = system.send("q", message).await;
        (answer.status(), answer.json::<Value>().await.unwrap())
    }))
    .await;
    let mut ids = BTreeSet::new();
    for (n, (status, answer)) in answers.iter().enumerate() {
        match n % 40 {
            2 => assert_eq!(*status, StatusCode::UNPROCESSABLE_ENTITY),
            0 => assert_eq!((answer["id"].as_str(), answer["queue"].as_str()), (Some("same"), Some("q"))),
            kind => {
                assert_eq!((*status, &answer["data"]), (StatusCode::CREATED, &json!(n)), "{answer}");
                assert_eq!(answer["state"], if kind == 1 { "delayed" } else { "waiting" });
                ids.insert(answer["id"].as_str().unwrap().to_owned());
            }
        }
    }
    let created_count = answers.iter().filter(|(status, _)| *status == StatusCode::CREATED).count();
    assert_eq!(
        (created_count, ids.len()),
        (305, 304),
        "one message of the common id and all other valid ones are created"
    );
    assert!(enqueue_calls(&system).await < 200, "several messages share a call");
    system.assert_clean().await;
}

#[tokio::test]
async fn message_posted_while_the_api_stops_is_stored_exactly_if_it_is_answered() {
    let mut system = System::start("").await;
    let (http, base) = (system.http.clone(), system.base.clone());
    let post_task = tokio::spawn(join_all((0..200_u64).map(move |n| {
        let (http, url) = (http.clone(), format!("{base}/v1/queues/q/messages"));
        async move {
            let mut stored_messages = Vec::new();
            // The client posts until the API closes the connection.
            loop {
                let Ok(answer) = http.post(&url).json(&number(n)).send().await else { return stored_messages };
                assert_eq!(answer.status(), StatusCode::CREATED);
                stored_messages.push(answer.headers()["location"].to_str().unwrap().to_owned());
            }
        }
    })));
    while enqueue_calls(&system).await < 20 {}
    assert!(system.api.terminate().success());
    let stored_messages: Vec<String> = post_task.await.unwrap().into_iter().flatten().collect();
    system.relaunch_api();
    system.wait_until_ready(&system.base).await;
    let status = system.get("/v1/queues/q").await;
    assert_eq!(
        status["counts"]["waiting"],
        json!(stored_messages.len()),
        "exactly the messages whose POST was answered are stored"
    );
    system.assert_clean().await;
}

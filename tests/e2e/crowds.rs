//! Thousands of clients at once: those that idle, those that are slow, and those that wait for a result.

use std::time::{Duration, Instant};

use drover_tests::PATIENCE;
use reqwest::Client;
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    System, completed, number,
    raw::{LIVEZ, Raw},
};

/// As many as the limit of this process allows, up to 5,000.
fn a_crowd() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(10_000);
    usize::try_from(limit.saturating_sub(300)).unwrap().min(5_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_by_the_thousand_and_a_slowloris_do_not_hurt_those_who_post() {
    let mut system = System::start("[redis]\ntimeout = \"4s\"\n[api]\nheader_timeout = \"6s\"\n").await;
    // Each post needs a connection of its own.
    system.http = Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let address = system.api_port.address();
    let mut idle = Vec::new();
    for _ in 0..a_crowd() - 200 {
        let mut client = Raw::connect(address).await;
        client.send(LIVEZ).await;
        idle.push(client);
    }
    let mut loris = JoinSet::new();
    for _ in 0..200 {
        loris.spawn(async move {
            // One that is cut off comes again.
            loop {
                let mut client = Raw::connect(address).await;
                client.send("GET /livez HTTP/1.1\r\n").await;
                while client.stream.write_all(b"x: 1\r\n").await.is_ok() {
                    sleep(Duration::from_millis(200)).await;
                }
            }
        });
    }
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut posts = 0;
    // Long enough for each of the slow to be cut off once.
    while posts < 300 || start.elapsed() < Duration::from_secs(7) {
        let begun = Instant::now();
        timeout(PATIENCE, system.post("my-queue", number(posts))).await.unwrap();
        slowest = slowest.max(begun.elapsed());
        posts += 1;
    }
    // Less than what a slow client is waited for.
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    loris.shutdown().await;
    for client in &mut idle {
        assert_eq!(client.answer().await.status, 200, "who is only idle is not cut off");
        client.send(LIVEZ).await;
    }
    for client in &mut idle {
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_by_the_thousand_that_wait_cost_one_subscription_and_no_polling() {
    let system = System::start("").await;
    let address = system.api_port.address();
    let messages: Vec<Value> = (0..1_000).map(|n| json!({"data": n, "id": format!("m-{n}")})).collect();
    let (status, _) =
        system.ask(reqwest::Method::POST, "/v1/queues/q/messages/batch", Some(json!({ "messages": messages }))).await;
    assert_eq!(status, 201);
    let mut waiting = Vec::new();
    for n in 0..a_crowd() {
        let mut client = Raw::connect(address).await;
        let path = format!("/v1/queues/q/messages/m-{}?wait=60s", n % 1_000);
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        waiting.push(client);
    }
    // They wait when Redis is asked nothing more: not even once by each of them within a second.
    let calls = || {
        let figures = system.redis.command("INFO commandstats");
        let of = |name: &str| figures.lines().find_map(|line| line.strip_prefix(name)?.split(',').next()?.parse().ok());
        of("cmdstat_evalsha:calls=").unwrap_or(0_u64)
    };
    timeout(PATIENCE, async {
        loop {
            let before = calls();
            sleep(Duration::from_secs(1)).await;
            if calls() - before < 20 {
                return;
            }
        }
    })
    .await
    .expect("those who wait ask Redis for nothing");
    let subscribed = system.redis.command("CLIENT LIST TYPE pubsub");
    assert_eq!(subscribed.lines().filter(|line| line.contains(" cmd=")).count(), 1, "{subscribed}");
    assert_eq!(system.settle_all("q", completed()).await, 1_000);
    for client in &mut waiting {
        let answer = client.answer().await;
        assert!(answer.status == 200 && answer.body.contains("\"state\":\"completed\""), "{answer:?}");
    }
}

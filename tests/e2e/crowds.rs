//! Thousands of clients at once: those that idle, and those that are slow.

use std::time::{Duration, Instant};

use drover_tests::PATIENCE;
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::AsyncWriteExt,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    System, number,
    raw::{LIVEZ, Raw},
};

/// As many as the limit of this process allows, up to 5,000.
fn a_crowd() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(10_000);
    usize::try_from(limit.saturating_sub(300)).unwrap().min(5_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_by_the_thousand_and_a_slowloris_do_not_hurt_those_who_post() {
    let system = System::start("[api]\nheader_timeout = \"2s\"\n").await;
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
    while posts < 300 || start.elapsed() < Duration::from_secs(3) {
        let begun = Instant::now();
        timeout(PATIENCE, system.post("my-queue", number(posts))).await.unwrap();
        slowest = slowest.max(begun.elapsed());
        posts += 1;
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    loris.shutdown().await;
    for client in &mut idle {
        assert_eq!(client.answer().await.status, 200, "who is only idle is not cut off");
        client.send(LIVEZ).await;
    }
    for client in &mut idle {
        assert_eq!(client.answer().await.status, 200);
    }
}

//! Tests of the limit of connections: if `api.max_connections` connections are open, a new client waits, or an unauthenticated
//! connection is closed. The API keeps working when file descriptors run out, and notices half-closed connections.

use std::time::{Duration, Instant};

use drover_tests::TIME_LIMIT;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::{io::AsyncWriteExt, task::JoinSet, time::sleep};

use crate::{
    System,
    auth::{config, issue},
    number,
    raw_client::{LIVEZ_REQUEST, RawClient},
    slow_clients::TIMER_TOLERANCE,
};

/// A request that makes its connection count as authenticated if no keys are configured.
const QUEUES_REQUEST: &str = "GET /v1/queues HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn new_client_waits_while_authenticated_clients_have_all_connections() {
    let system = System::start("[api]\nmax_connections = 8\n").await;
    let mut served_clients = Vec::new();
    let mut waiting_client = loop {
        let mut client = system.connect().await;
        client.send(QUEUES_REQUEST).await;
        match client.wait_for_answer_within(Duration::from_millis(500)).await {
            Some(answer) => assert_eq!(answer.status, 200),
            None => break client,
        }
        served_clients.push(client);
        assert!(served_clients.len() <= 8, "more connections than api.max_connections");
    };
    system.api.wait_for_log("the maximum number of connections is open");
    assert_eq!(served_clients[1].request(LIVEZ_REQUEST).await.status, 200, "a served client stays connected");
    drop(served_clients.swap_remove(0));
    assert_eq!(waiting_client.answer().await.status, 200);
}

/// Starts clients that request `/livez` repeatedly, and connect again when they are disconnected.
fn poll_livez(system: &System, clients: usize) -> JoinSet<()> {
    let address = system.api_port.address();
    let mut polling_tasks = JoinSet::new();
    for _ in 0..clients {
        polling_tasks.spawn(async move {
            loop {
                let mut client = RawClient::connect(address).await;
                client.send(LIVEZ_REQUEST).await;
                while client.wait_for_answer_within(TIME_LIMIT).await.is_some() {
                    sleep(Duration::from_secs(1)).await;
                    client.send(LIVEZ_REQUEST).await;
                }
            }
        });
    }
    polling_tasks
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connection_replaces_the_oldest_unauthenticated_connection_and_no_authenticated_connection() {
    let ops = issue("--id ops --scopes read --queues *");
    let config_with_keys = format!("[api]\nmax_connections = 50\n{}", config(&[&ops]));
    for (config, authorization) in [
        (config_with_keys.as_str(), format!("authorization: Bearer {}\r\n", ops.key)),
        ("[api]\nmax_connections = 50\n", String::new()),
    ] {
        let system = System::start(config).await;
        let list_queues = format!("GET /v1/queues HTTP/1.1\r\nhost: a\r\n{authorization}\r\n");
        let mut kept_client = system.connect().await;
        assert_eq!(kept_client.request(&list_queues).await.status, 200);
        let _polling_tasks = poll_livez(&system, 60);
        system.api.wait_for_log("the maximum number of connections is open");
        for _ in 0..20 {
            let started_at = Instant::now();
            assert_eq!(system.connect().await.request(&list_queues).await.status, 200);
            assert!(started_at.elapsed() < Duration::from_secs(8), "{:?}", started_at.elapsed());
        }
        assert_eq!(kept_client.request(&list_queues).await.status, 200, "only unauthenticated connections are closed");
    }
}

#[tokio::test]
async fn connection_that_a_newer_connection_replaces_completes_its_answer_or_is_closed_after_a_second() {
    let config = "[api]\nmax_connections = 2\n[log]\nfilter = \"info,service=debug\"";
    let system = System::start(config).await;
    let mut idle_client = system.connect().await;
    assert_eq!(idle_client.request(LIVEZ_REQUEST).await.status, 200);
    let mut stuck_client = system.connect_from(1).await;
    stuck_client.send("GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(40)).await;
    let started_at = Instant::now();
    let mut other_clients = [system.connect().await, system.connect().await];
    for other in &mut other_clients {
        assert_eq!(other.request(LIVEZ_REQUEST).await.status, 200);
    }
    assert!(started_at.elapsed() < Duration::from_secs(8), "{:?}", started_at.elapsed());
    assert!(idle_client.read_until_closed().await.is_empty());
    system.api.wait_for_log("closed before its answer was complete");
    // Only the newer connections end the connection of the client that does not read its answer: alone, the client would be disconnected
    // after 30 s.
    assert!(started_at.elapsed() < Duration::from_secs(8), "{:?}", started_at.elapsed());
    assert!(started_at.elapsed() + TIMER_TOLERANCE >= Duration::from_secs(1), "{:?}", started_at.elapsed());
}

#[tokio::test]
async fn api_without_free_file_descriptors_serves_open_connections_and_accepts_new_connections_later() {
    let system = System::start("").await;
    let mut first_client = system.connect().await;
    assert_eq!(first_client.request(LIVEZ_REQUEST).await.status, 200);
    let pid = Pid::from_raw(system.api.id().try_into().unwrap());
    let previous_file_limit =
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(3), ..getrlimit(Resource::Nofile) }).unwrap();
    let mut second_client = system.connect().await;
    second_client.send(LIVEZ_REQUEST).await;
    system.api.wait_for_log("connections can't be accepted");
    assert!(second_client.wait_for_answer_within(Duration::from_millis(300)).await.is_none());
    assert_eq!(first_client.request(LIVEZ_REQUEST).await.status, 200);
    prlimit(pid, Resource::Nofile, previous_file_limit).unwrap();
    assert_eq!(second_client.answer().await.status, 200);
    system.api.wait_for_log("connections are accepted again");
    let report_count = system.api.log().iter().filter(|line| line.contains("can't be accepted")).count();
    assert_eq!(report_count, 1, "the API logs the lack of file descriptors once and not after each pause");
}

#[tokio::test]
async fn waiting_request_on_a_half_closed_connection_ends_at_once() {
    let system = System::start("").await;
    let location = system.post("my-queue", number(1)).await;
    let mut half_closed = system.connect().await;
    half_closed.send(format!("GET {location}?wait=60s HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    half_closed.stream.shutdown().await.unwrap();
    let started_at = Instant::now();
    assert!(half_closed.read_until_closed().await.is_empty());
    assert!(started_at.elapsed() < Duration::from_secs(10), "the wait of one minute must end at once");
}

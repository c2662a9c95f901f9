//! Tests of faults of the network and of administrative commands (such as FLUSHALL) at Redis, while a load runs.

use std::time::{Duration, Instant};

use drover_tests::{Proxy, RedisServer};
use rand::{RngExt, seq::IndexedRandom};
use serde_json::json;

use crate::{
    System,
    load::{CONFIG, Load, LoadReport, read_messages, wait_until_all_completed},
    redis_outage::{MAX_RECOVERY_TIME, assert_refused_and_not_ready, recovery_time},
    seed::Seed,
};

/// A fault of the network: its description, and the method of the proxy that causes it.
struct Fault(&'static str, fn(&Proxy));

const NETWORK_FAULTS: [Fault; 4] = [
    Fault("a stall", Proxy::stall),
    Fault("a cut", Proxy::cut),
    Fault("resets", Proxy::reset),
    Fault("a half close", Proxy::half_close),
];

async fn start_behind_proxy() -> (System, Proxy) {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.port());
    let system = System::launch(redis, proxy.url(), CONFIG);
    system.wait_until_ready(&system.base).await;
    (system, proxy)
}

/// Asserts that all messages of the load are completed with one delivery. No process ends in the tests of faults, so no lease lapses: the
/// worker undoes a lease whose answer was lost.
async fn assert_all_completed_with_one_delivery(system: &System, load: Load) {
    let report = LoadReport::verify(system, &load.stop().await).await;
    assert_eq!((report.repeated, report.lapses), (0, 0), "of {} messages", report.messages);
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn network_that_stalls_cuts_resets_or_half_closes_loses_no_message_and_repeats_no_delivery() {
    let (system, proxy) = start_behind_proxy().await;
    let _workers = [system.worker().await, system.worker().await];
    let load = Load::start(&system);
    for Fault(fault, cause) in NETWORK_FAULTS {
        load.wait_for_more_messages(200).await;
        cause(&proxy);
        for _ in 0..2 {
            assert_refused_and_not_ready(&system).await;
        }
        proxy.pass();
        let recovery_duration = recovery_time(&system).await;
        assert!(recovery_duration < MAX_RECOVERY_TIME, "{recovery_duration:?} after {fault}");
    }
    assert_all_completed_with_one_delivery(&system, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn network_that_fails_repeatedly_loses_no_message_and_repeats_no_delivery() {
    let (_seed, mut random) = Seed::choose();
    let (system, proxy) = start_behind_proxy().await;
    let _workers = [system.worker().await, system.worker().await];
    let load = Load::start(&system);
    let started_at = Instant::now();
    while started_at.elapsed() < Duration::from_secs(4) {
        let Fault(_, cause) = NETWORK_FAULTS.choose(&mut random).unwrap();
        for set_mode in [*cause, Proxy::pass] {
            set_mode(&proxy);
            tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
        }
    }
    let recovery_duration = recovery_time(&system).await;
    assert!(recovery_duration < MAX_RECOVERY_TIME, "{recovery_duration:?} after the last fault");
    assert_all_completed_with_one_delivery(&system, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_scripts_and_killed_connections_lose_no_message_and_repeat_no_delivery() {
    let system = System::start(CONFIG).await;
    let _workers = [system.worker().await, system.worker().await];
    let load = Load::start(&system);
    for command in ["SCRIPT FLUSH", "CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub"].repeat(4) {
        load.wait_for_more_messages(100).await;
        let answer = system.redis.command(command);
        assert!(!answer.starts_with('-'), "{command}: {answer}");
        let recovery_duration = recovery_time(&system).await;
        assert!(recovery_duration < MAX_RECOVERY_TIME, "{recovery_duration:?} after {command}");
    }
    // `SCRIPT FLUSH` is sent so often that Redis forgets some scripts between their loading and their call.
    let started_at = Instant::now();
    while started_at.elapsed() < Duration::from_secs(1) {
        system.redis.command("SCRIPT FLUSH");
    }
    assert_all_completed_with_one_delivery(&system, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_posted_after_redis_was_emptied_under_load_are_completed() {
    let system = System::start(CONFIG).await;
    let _workers = [system.worker().await, system.worker().await];
    let load = Load::start(&system);
    let mut emptied_at = Instant::now();
    for _ in 0..5 {
        load.wait_for_more_messages(100).await;
        assert_eq!(system.redis.command("FLUSHALL"), "+OK");
        emptied_at = Instant::now();
        assert!(recovery_time(&system).await < MAX_RECOVERY_TIME, "after FLUSHALL");
    }
    load.wait_for_more_messages(200).await;
    let posted_messages = load.stop().await;
    let (after, before): (Vec<_>, Vec<_>) =
        posted_messages.into_iter().partition(|posted_messages| posted_messages.first_sent_at > emptied_at);
    // A message whose POST was in progress during the last FLUSHALL was stored either before or after the FLUSHALL.
    let kept_count = read_messages(&system, &before).await.iter().filter(|message| message["id"].is_string()).count();
    let completed_count = (after.len() + kept_count) as u64;
    let status = wait_until_all_completed(&system, completed_count).await;
    assert_eq!(
        status["totals"],
        json!({"enqueued": completed_count, "completed": completed_count, "failed": 0, "retried": 0, "lapsed": 0, "expired": 0, "cancelled": 0, "scheduled": 0})
    );
    for message in read_messages(&system, &after).await {
        assert_eq!((&message["state"], &message["deliveries"]), (&json!("completed"), &json!(1)), "{message}");
    }
    system.assert_clean().await;
}

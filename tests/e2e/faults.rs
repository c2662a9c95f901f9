//! What the network, and a hand at Redis, can do to a system under load.

use std::time::{Duration, Instant};

use drover_tests::{Proxy, RedisServer};
use rand::{RngExt, seq::IndexedRandom};
use serde_json::json;

use crate::{
    System,
    load::{Account, CONFIG, Load, all_completed, read_all},
    redis_outage::{BACK_WITHIN, is_refused_in_time, works_again},
    seed::Seed,
};

/// What a network does, in the words that tell of it.
struct Fault(&'static str, fn(&Proxy));

const FAULTS: [Fault; 4] = [
    Fault("stalled", Proxy::stall),
    Fault("was cut", Proxy::cut),
    Fault("reset connections", Proxy::reset),
    Fault("closed one direction", Proxy::half_close),
];

async fn behind_a_proxy() -> (System, Proxy) {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.port());
    let system = System::launch(redis, proxy.url(), CONFIG);
    system.until_ready(&system.base).await;
    (system, proxy)
}

/// Nobody dies in these tests, so no lease has to lapse: those whose answers were lost are given back.
async fn assert_all_completed_with_one_delivery(system: &System, load: Load) {
    let account = Account::of(system, &load.stop().await).await;
    assert_eq!((account.repeated, account.lapses), (0, 0), "of {} messages", account.messages);
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn network_that_stalls_cuts_resets_or_half_closes_loses_no_message_and_repeats_no_delivery() {
    let (system, proxy) = behind_a_proxy().await;
    let _workers = [system.worker().await, system.worker().await];
    let load = Load::start(&system);
    for Fault(what, strike) in FAULTS {
        load.goes_on(200).await;
        strike(&proxy);
        for _ in 0..2 {
            is_refused_in_time(&system).await;
        }
        proxy.pass();
        let took = works_again(&system).await;
        assert!(took < BACK_WITHIN, "{took:?} after the network {what}");
    }
    assert_all_completed_with_one_delivery(&system, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn network_that_fails_repeatedly_loses_no_message_and_repeats_no_delivery() {
    let (_seed, mut random) = Seed::draw();
    let (system, proxy) = behind_a_proxy().await;
    let _workers = [system.worker().await, system.worker().await];
    let load = Load::start(&system);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        let Fault(_, strike) = FAULTS.choose(&mut random).unwrap();
        for strike in [*strike, Proxy::pass] {
            strike(&proxy);
            tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
        }
    }
    let took = works_again(&system).await;
    assert!(took < BACK_WITHIN, "{took:?} after the last fault");
    assert_all_completed_with_one_delivery(&system, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_scripts_and_killed_connections_lose_no_message_and_repeat_no_delivery() {
    let system = System::start(CONFIG).await;
    let _workers = [system.worker().await, system.worker().await];
    let load = Load::start(&system);
    for wreck in ["SCRIPT FLUSH", "CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub"].repeat(4) {
        load.goes_on(100).await;
        let answer = system.redis.command(wreck);
        assert!(!answer.starts_with('-'), "{wreck}: {answer}");
        let took = works_again(&system).await;
        assert!(took < BACK_WITHIN, "{took:?} after {wreck}");
    }
    // So often that some are forgotten again between their loading and their call.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        system.redis.command("SCRIPT FLUSH");
    }
    assert_all_completed_with_one_delivery(&system, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_posted_after_redis_was_emptied_under_load_are_completed() {
    let system = System::start(CONFIG).await;
    let _workers = [system.worker().await, system.worker().await];
    let load = Load::start(&system);
    let mut emptied = Instant::now();
    for _ in 0..5 {
        load.goes_on(100).await;
        assert_eq!(system.redis.command("FLUSHALL"), "+OK");
        emptied = Instant::now();
        assert!(works_again(&system).await < BACK_WITHIN, "after FLUSHALL");
    }
    load.goes_on(200).await;
    let posted = load.stop().await;
    let (after, before): (Vec<_>, Vec<_>) = posted.into_iter().partition(|posted| posted.begun > emptied);
    // Those that were under way at that moment were stored before it or after it.
    let kept = read_all(&system, &before).await.iter().filter(|message| message["id"].is_string()).count();
    let count = (after.len() + kept) as u64;
    let status = all_completed(&system, count).await;
    assert_eq!(
        status["totals"],
        json!({"enqueued": count, "completed": count, "failed": 0, "retried": 0, "lapsed": 0, "expired": 0, "cancelled": 0})
    );
    for message in read_all(&system, &after).await {
        assert_eq!((&message["state"], &message["deliveries"]), (&json!("completed"), &json!(1)), "{message}");
    }
    system.assert_clean().await;
}

//! Tests with Sentinels: calls go to the primary that the Sentinels name, also after a fail-over.

use std::time::{Duration, Instant};

use drover_tests::{RedisSentinels, RedisServer};
use queue_core::{Error, Redis};

use crate::{
    load::{Load, RECOVERY_TIME},
    wait_millis,
};

const REPLICAS: u32 = 2;
/// Sentinels that were not run for 2 s, on a busy machine, do nothing for the next 30 s (TILT).
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// Waits until a condition is true.
async fn wait_for(what: &str, is_true: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < TIME_LIMIT, "{what}: not within {TIME_LIMIT:?}");
        wait_millis(10).await;
    }
}

/// Replaces the first server as the primary under load, and lets that server come back later. After the fail-over, posts that need no
/// confirmation of a replica must work at once. Posts that all replicas confirm must work as soon as these replicas are back, and none
/// of these posts may be lost.
///
/// The test needs the confirmations of all replicas: until a Sentinel tells them, a former primary and the replica that was not
/// promoted know nothing of the fail-over, and confirm posts that the fail-over loses.
async fn calls_go_to_the_new_primary(end: impl Fn(&mut RedisSentinels), rejoin: impl Fn(&mut RedisServer)) {
    let mut group = RedisSentinels::start(REPLICAS as usize, 3);
    let redis = || Redis::new(&group.url(), Redis::DEFAULT_TIME_LIMIT).unwrap();
    let plain_load = Load::start(&redis(), &Load::names("plain", 2));
    let confirmed_load = Load::start(&redis().require_replicas(REPLICAS), &Load::names("confirmed", 2));
    plain_load.wait_until_recovered(Instant::now()).await;
    confirmed_load.wait_until_recovered(Instant::now()).await;

    end(&mut group);
    wait_for("another primary", || group.primary().is_some_and(|primary| primary != 0)).await;
    let recovery_time = plain_load.wait_until_recovered(Instant::now()).await;
    assert!(recovery_time < RECOVERY_TIME, "{recovery_time:?}");

    rejoin(&mut group.servers[0]);
    let have_all_confirmed = |primary: usize| group.servers[primary].confirming_replicas() == REPLICAS as usize;
    wait_for("all replicas", || group.primary().is_some_and(have_all_confirmed)).await;
    let recovery_time = confirmed_load.wait_until_recovered(Instant::now()).await;
    assert!(recovery_time < RECOVERY_TIME, "{recovery_time:?}");

    let summary = confirmed_load.finish().await;
    assert_eq!(summary.lost, [], "{summary:?}");
    plain_load.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_to_the_new_primary_after_the_old_primary_was_killed() {
    calls_go_to_the_new_primary(|group| group.servers[0].kill(), RedisServer::restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_to_the_new_primary_after_the_old_primary_hung_and_came_back() {
    calls_go_to_the_new_primary(|group| group.servers[0].suspend(), |server| server.resume()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_to_the_new_primary_after_a_planned_fail_over() {
    calls_go_to_the_new_primary(|group| assert_eq!(group.command("SENTINEL FAILOVER main"), "+OK"), |_| {}).await;
}

#[tokio::test]
async fn unknown_primary_is_reported_with_its_name() {
    let group = RedisSentinels::start(0, 1);
    let url = group.url().replace("/main", "/other");
    let redis = Redis::new(&url, Redis::DEFAULT_TIME_LIMIT).unwrap();
    let Err(Error::Unavailable(text)) = redis.ping().await else { panic!("there is no such primary") };
    assert!(text.contains("knows no primary \"other\""), "{text}");
}

//! Sentinels: calls go to the primary that they name, also after a fail-over.

use std::time::{Duration, Instant};

use drover_tests::RedisSentinels;
use queue_core::{Error, Redis};

use crate::{
    load::{Load, RECOVERY},
    pass,
};

const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Waits until another server than this one is the primary.
async fn replaced(group: &RedisSentinels, index: usize) {
    let start = Instant::now();
    while group.primary().is_none_or(|primary| primary == index) {
        assert!(start.elapsed() < TIME_LIMIT, "nobody replaces the primary");
        pass(10).await;
    }
}

async fn no_confirmed_message_is_lost(end_primary: impl AsyncFn(&mut RedisSentinels, usize)) {
    let mut group = RedisSentinels::start(2, 3);
    let redis = Redis::new(&group.url(), Redis::DEFAULT_TIME_LIMIT).unwrap().require_replicas(1);
    let load = Load::start(&redis, 4);
    load.recovered(Instant::now()).await;
    end_primary(&mut group, 0).await;
    let took = load.recovered(Instant::now()).await;
    assert!(took < RECOVERY, "{took:?}");
    let summary = load.finish().await;
    assert_eq!(summary.lost, [] as [u64; 0], "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_to_the_new_primary_after_the_old_one_was_killed() {
    no_confirmed_message_is_lost(async |group, index| {
        group.servers[index].kill();
        replaced(group, index).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_to_the_new_primary_after_the_old_one_hung_and_came_back() {
    no_confirmed_message_is_lost(async |group, index| {
        group.servers[index].suspend();
        replaced(group, index).await;
        group.servers[index].resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_to_the_new_primary_after_a_planned_fail_over() {
    no_confirmed_message_is_lost(async |group, index| {
        assert_eq!(group.command("SENTINEL FAILOVER main"), "+OK");
        replaced(group, index).await;
    })
    .await;
}

#[tokio::test]
async fn unknown_primary_is_reported_with_its_name() {
    let group = RedisSentinels::start(0, 1);
    let url = group.url().replace("/main", "/other");
    let redis = Redis::new(&url, Redis::DEFAULT_TIME_LIMIT).unwrap();
    let Err(Error::Unavailable(text)) = redis.ping().await else { panic!("there is no such primary") };
    assert!(text.contains("knows no primary \"other\""), "{text}");
}

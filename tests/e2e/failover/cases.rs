//! One test for each kind of fault on each Redis topology: services and clients lose no message.

use drover_tests::{RedisCluster, RedisSentinels};

use super::{
    cluster::Change,
    scene::{FailOverTest, Fault, Servers},
};

/// Causes a fault of the first server, which is a primary, and asserts that services and clients lose no message.
async fn assert_nothing_lost<S: Servers>(servers: S, fault: Fault<S::Change>) {
    let mut test = FailOverTest::start(servers).await;
    test.inject_fault(fault, 0).await;
    test.assert_nothing_lost().await;
}

fn cluster() -> RedisCluster {
    Servers::start_direct()
}

fn sentinels() -> RedisSentinels {
    Servers::start_direct()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_a_primary_of_a_cluster_is_killed() {
    assert_nothing_lost(cluster(), Fault::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_a_primary_of_a_cluster_hangs_and_comes_back() {
    assert_nothing_lost(cluster(), Fault::Hang).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_a_primary_of_a_cluster_is_cut_off_for_a_while() {
    assert_nothing_lost(<RedisCluster as Servers>::start_proxied(), Fault::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_in_a_planned_fail_over_of_a_cluster() {
    assert_nothing_lost(cluster(), Fault::FailOver).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_in_a_rolling_restart_of_a_cluster() {
    assert_nothing_lost(cluster(), Fault::RollingRestart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_while_slots_move_to_another_server_of_a_cluster_and_back() {
    assert_nothing_lost(cluster(), Fault::Change(Change::Move)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_while_servers_join_a_cluster_get_slots_and_leave() {
    assert_nothing_lost(cluster(), Fault::Change(Change::Join)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_the_primary_of_sentinels_is_killed() {
    assert_nothing_lost(sentinels(), Fault::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_the_primary_of_sentinels_hangs_and_comes_back() {
    assert_nothing_lost(sentinels(), Fault::Hang).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_the_primary_of_sentinels_is_cut_off_and_comes_back() {
    assert_nothing_lost(<RedisSentinels as Servers>::start_proxied(), Fault::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_in_a_planned_fail_over_of_sentinels() {
    assert_nothing_lost(sentinels(), Fault::FailOver).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_in_a_rolling_restart_of_servers_and_sentinels() {
    assert_nothing_lost(sentinels(), Fault::RollingRestart).await;
}

//! One test for each kind of fault, on each topology.

use drover_tests::{RedisCluster, RedisSentinels};

use super::{
    cluster::Change,
    scene::{Fault, Scene, Servers},
};

/// Asserts that services and clients survive a fault of the first server, which is a primary.
async fn lose_nothing<S: Servers>(servers: S, fault: Fault<S::Change>) {
    let mut scene = Scene::start(servers).await;
    scene.inject(fault, 0).await;
    scene.check().await;
}

fn cluster() -> RedisCluster {
    Servers::direct()
}

fn sentinels() -> RedisSentinels {
    Servers::direct()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_a_primary_of_a_cluster_is_killed() {
    lose_nothing(cluster(), Fault::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_a_primary_of_a_cluster_hangs_and_comes_back() {
    lose_nothing(cluster(), Fault::Hang).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_a_primary_of_a_cluster_is_cut_off_for_a_while() {
    lose_nothing(<RedisCluster as Servers>::proxied(), Fault::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_in_a_planned_fail_over_of_a_cluster() {
    lose_nothing(cluster(), Fault::FailOver).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_in_a_rolling_restart_of_a_cluster() {
    lose_nothing(cluster(), Fault::RollingRestart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_while_slots_move_to_another_server_of_a_cluster_and_back() {
    lose_nothing(cluster(), Fault::Change(Change::Move)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_while_servers_join_a_cluster_get_slots_and_leave() {
    lose_nothing(cluster(), Fault::Change(Change::Join)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_the_primary_of_sentinels_is_killed() {
    lose_nothing(sentinels(), Fault::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_the_primary_of_sentinels_hangs_and_comes_back() {
    lose_nothing(sentinels(), Fault::Hang).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_the_primary_of_sentinels_is_cut_off_and_comes_back() {
    lose_nothing(<RedisSentinels as Servers>::proxied(), Fault::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_in_a_planned_fail_over_of_sentinels() {
    lose_nothing(sentinels(), Fault::FailOver).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_in_a_rolling_restart_of_servers_and_sentinels() {
    lose_nothing(sentinels(), Fault::RollingRestart).await;
}

//! Fail-overs of a cluster of three primaries, each with a replica, and slots that move.

use std::time::{Duration, Instant};

use drover_tests::{RedisCluster, RedisServer, eventually};

use super::scene::{Scene, Servers};

const PRIMARIES: usize = 3;
const REPLICAS: usize = 1;
const SLOTS: usize = 16_384;
/// The time after which a planned fail-over has succeeded or was given up by the servers.
const PLANNED_FAIL_OVER: Duration = Duration::from_secs(6);
/// How many of the first slots of each primary move to another server.
const MOVED_SLOTS: usize = 200;

impl Servers for RedisCluster {
    fn url(&self) -> String {
        self.url()
    }

    fn all(&self) -> &[RedisServer] {
        &self.servers
    }

    fn server(&mut self, index: usize) -> &mut RedisServer {
        &mut self.servers[index]
    }

    fn fail_over(&self, primary: usize) {
        let replica = &self.servers[*self.replicas_of(primary).first().expect("the primary has a replica")];
        let mut ordered_at: Option<Instant> = None;
        eventually("the replica replaces its primary", || {
            // The other servers refuse it if they voted about this primary moments ago.
            if ordered_at.is_none_or(|at| at.elapsed() > PLANNED_FAIL_OVER) {
                assert_eq!(replica.command("CLUSTER FAILOVER"), "+OK");
                ordered_at = Some(Instant::now());
            }
            replica.command("ROLE").contains("master").then_some(())
        });
    }

    fn follow(&self, _: usize, _: usize) {}

    fn wait_until_settled(&self) {
        self.wait_until_complete();
    }

    /// The former primary does nothing more before its successor has all that it has done.
    fn repeated_by_plan(&self, _: usize) -> usize {
        0
    }
}

/// For each primary two names of queues: the slot of the first one is among those that move.
fn queues(cluster: &RedisCluster) -> Vec<String> {
    let (mut queues, mut names) = (Vec::new(), 0..);
    for primary in 0..PRIMARIES {
        let (first, after) = (primary * SLOTS / PRIMARIES, (primary + 1) * SLOTS / PRIMARIES);
        for slots in [first..first + MOVED_SLOTS, first + MOVED_SLOTS..after] {
            let has_slot = |name: &String| slots.contains(&usize::from(cluster.slot_of(&format!("{{{name}}}"))));
            queues.push(names.by_ref().map(|n| format!("q{n}")).find(has_slot).unwrap());
        }
    }
    queues
}

async fn start(servers: RedisCluster) -> Scene<RedisCluster> {
    let queues = queues(&servers);
    Scene::start(servers, REPLICAS, queues).await
}

async fn start_direct() -> Scene<RedisCluster> {
    start(RedisCluster::start(PRIMARIES, REPLICAS)).await
}

/// Cuts the network between a primary and its clients and replica. The servers of the cluster still see each other, so the
/// primary is not replaced.
async fn cut_off_for_a_while(scene: &mut Scene<RedisCluster>, primary: usize) {
    scene.allow_repeated();
    let affected = scene.queues_of(primary);
    scene.servers.servers[primary].proxy().cut();
    let cut = Instant::now();
    let others: Vec<usize> = (0..scene.load.queues.len()).filter(|queue| !affected.contains(queue)).collect();
    let stores = |account: &super::account::Account, queue| account.has_stored(queue, cut);
    scene.load.wait_until("queues of other servers store posts", cut, others, stores).await;
    scene.servers.servers[primary].proxy().pass();
    scene.deliver_again(None).await;
    scene.recover().await;
}

/// Restarts every server, as an operator does: the replicas first, and each primary after its replica has replaced it.
async fn restart_all(scene: &mut Scene<RedisCluster>) {
    let is_primary = |index: &usize| scene.servers.servers[*index].command("ROLE").contains("master");
    let (primaries, replicas): (Vec<usize>, Vec<usize>) = (0..scene.servers.servers.len()).partition(is_primary);
    for replica in replicas {
        scene.restart(replica);
        scene.servers.servers[replica].wait_for_copy();
    }
    scene.recover().await;
    for primary in primaries {
        scene.fail_over(primary).await;
        scene.restart(primary);
        scene.servers.servers[primary].wait_for_copy();
    }
    scene.servers.wait_until_complete();
    scene.deliver_again(None).await;
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_a_primary_of_a_cluster_is_killed() {
    let mut scene = start_direct().await;
    scene.kill(0).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_a_primary_of_a_cluster_hangs_and_comes_back() {
    let mut scene = start_direct().await;
    scene.hang(0).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_a_primary_of_a_cluster_is_cut_off_for_a_while() {
    let mut scene = start(RedisCluster::start_behind_proxies(PRIMARIES, REPLICAS)).await;
    cut_off_for_a_while(&mut scene, 0).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_in_a_planned_fail_over_of_a_cluster() {
    let mut scene = start_direct().await;
    scene.fail_over(0).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_in_a_rolling_restart_of_a_cluster() {
    let mut scene = start_direct().await;
    restart_all(&mut scene).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_while_slots_move_to_servers_that_join_a_cluster() {
    let mut scene = start_direct().await;
    let cluster = &mut scene.servers;
    let (primary, replica) = (cluster.servers.len(), cluster.servers.len() + 1);
    for _ in [primary, replica] {
        cluster.add_server();
    }
    for server in &cluster.servers[primary..] {
        cluster.meet(server);
    }
    cluster.wait_until_met();
    cluster.replicate(&cluster.servers[replica], &cluster.servers[primary]);
    cluster.servers[replica].wait_for_copy();
    cluster.wait_until_complete();
    cluster.move_slots("all", &RedisCluster::id_of(&cluster.servers[primary]), PRIMARIES * MOVED_SLOTS);
    assert_eq!(scene.queues_of(primary).len(), PRIMARIES, "one queue of each server has moved");
    scene.deliver_again(None).await;
    scene.recover().await;
    scene.finish().await;
}

//! Fail-overs of a primary with two replicas that three Sentinels watch.

use drover_tests::{RedisSentinels, RedisServer, eventually};

use super::scene::{Scene, Servers};

const REPLICAS: usize = 2;

impl Servers for RedisSentinels {
    fn url(&self) -> String {
        self.url()
    }

    fn all(&self) -> &[RedisServer] {
        &self.servers
    }

    fn server(&mut self, index: usize) -> &mut RedisServer {
        &mut self.servers[index]
    }

    fn fail_over(&self, _: usize) {
        // Sentinels refuse while they still do something about an earlier fail-over.
        eventually("the Sentinel begins a fail-over", || {
            (self.command("SENTINEL FAILOVER main") == "+OK").then_some(())
        });
    }

    /// Sentinels would do it 8 s later.
    fn follow(&self, former: usize, successor: usize) {
        self.servers[former].follow(&self.servers[successor]);
    }

    fn wait_until_settled(&self) {
        self.wait_until_settled();
    }

    /// The former primary works on until a Sentinel announces its successor, up to a second after the promotion.
    fn repeated_by_plan(&self, deliveries: usize) -> usize {
        deliveries
    }
}

async fn start(servers: RedisSentinels) -> Scene<RedisSentinels> {
    let queues = (0..6).map(|n| format!("q{n}")).collect();
    Scene::start(servers, REPLICAS, queues).await
}

async fn start_direct() -> Scene<RedisSentinels> {
    start(RedisSentinels::start(REPLICAS, 3)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_the_primary_of_sentinels_is_killed() {
    let mut scene = start_direct().await;
    scene.kill(0).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_the_primary_of_sentinels_hangs_and_comes_back() {
    let mut scene = start_direct().await;
    scene.hang(0).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_when_the_primary_of_sentinels_is_cut_off_and_comes_back() {
    let mut scene = start(RedisSentinels::start_behind_proxies(REPLICAS, 3)).await;
    scene.cut_off(0).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_nothing_in_a_planned_fail_over_of_sentinels() {
    let mut scene = start_direct().await;
    scene.fail_over(0).await;
    scene.finish().await;
}

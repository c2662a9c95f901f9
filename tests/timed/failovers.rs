//! Tests of the time from the election of another primary until everything works again without a restart of the services.

use std::time::Duration;

use drover_tests::{RedisCluster, RedisSentinels, RedisServer, within};

use crate::{
    outages::assert_recovers,
    stall_monitor::StallMonitor,
    system::{HOURLY_POLLS, System},
};

/// The time limit of an election. A Sentinel that did not run for 2 s, as on a busy machine, does nothing for the next 30 s
/// (TILT mode).
const ELECTION_TIME_LIMIT: Duration = Duration::from_secs(180);

/// The servers of a topology. The first server is the primary of the queue.
trait Servers {
    fn url(&self) -> String;
    fn servers(&mut self) -> &mut [RedisServer];
    /// Returns whether the election of another primary has ended.
    fn has_elected(&self, queue: &str) -> bool;
}

impl Servers for RedisCluster {
    fn url(&self) -> String {
        self.url()
    }

    fn servers(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }

    fn has_elected(&self, queue: &str) -> bool {
        let write_command = format!("SET {{{queue}}}probe 1");
        self.servers[1..].iter().any(|server| server.try_command(&write_command).as_deref() == Some("+OK"))
    }
}

impl Servers for RedisSentinels {
    fn url(&self) -> String {
        self.url()
    }

    fn servers(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }

    fn has_elected(&self, _: &str) -> bool {
        self.primary().is_some_and(|primary| primary != 0)
    }
}

/// Ends the primary, waits until another primary is elected, and asserts that everything works again in time.
async fn assert_recovers_after(topology: impl Servers, queue: &str, end_primary: impl Fn(&mut RedisServer), why: &str) {
    let monitor = StallMonitor::start().await;
    let url = topology.url();
    let mut system = System::launch(
        topology,
        url,
        &format!("[[worker.routes]]\nqueue = \"{queue}\"\nhandler = {{ type = \"log\" }}\n"),
    );
    system.wait_until_ready(&system.base).await;
    let _worker = system.worker_with(&[HOURLY_POLLS]).await;
    assert_recovers(&system, queue, &monitor, "before the election").await;
    end_primary(&mut system.redis.servers()[0]);
    within(ELECTION_TIME_LIMIT, "another primary is elected", || system.redis.has_elected(queue).then_some(()));
    assert_recovers(&system, queue, &monitor, why).await;
}

fn cluster() -> (RedisCluster, String) {
    let cluster = RedisCluster::start(3, 1);
    let is_on_first_server = |queue: &String| cluster.owner_of(cluster.slot_of(&format!("{{{queue}}}")), 0) == Some(0);
    let queue = (0..1_000).map(|n| format!("q{n}")).find(is_on_first_server).unwrap();
    (cluster, queue)
}

#[tokio::test(flavor = "multi_thread")]
async fn services_work_again_within_two_seconds_of_an_election_in_a_cluster() {
    let (servers, queue) = cluster();
    assert_recovers_after(servers, &queue, RedisServer::kill, "a primary of a cluster is killed").await;
    let (servers, queue) = cluster();
    assert_recovers_after(servers, &queue, |primary| primary.suspend(), "a primary of a cluster hangs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_work_again_within_two_seconds_of_an_election_by_sentinels() {
    let servers = || RedisSentinels::start(2, 3);
    assert_recovers_after(servers(), "q", RedisServer::kill, "the primary of Sentinels is killed").await;
    assert_recovers_after(servers(), "q", |primary| primary.suspend(), "the primary of Sentinels hangs").await;
}

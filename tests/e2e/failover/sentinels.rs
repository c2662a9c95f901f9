//! A primary with two replicas that three Sentinels watch.

use std::convert::Infallible;

use drover_tests::{RedisSentinels, RedisServer};

use super::scene::{CutOff, Servers, wait_for_servers};

const SENTINEL_COUNT: usize = 3;

impl Servers for RedisSentinels {
    type Change = Infallible;
    const TOPOLOGY_NAME: &'static str = "sentinel";
    const REPLICAS_PER_PRIMARY: usize = 2;
    const CUT_OFF: CutOff = CutOff::Replaced;

    fn start_direct() -> Self {
        Self::start(Self::REPLICAS_PER_PRIMARY, SENTINEL_COUNT)
    }

    fn start_proxied() -> Self {
        Self::start_behind_proxies(Self::REPLICAS_PER_PRIMARY, SENTINEL_COUNT)
    }

    fn url(&self) -> String {
        self.url()
    }

    fn queues(&self) -> Vec<String> {
        (0..6).map(|n| format!("q{n}")).collect()
    }

    fn all_servers(&self) -> &[RedisServer] {
        &self.servers
    }

    fn server(&mut self, index: usize) -> &mut RedisServer {
        &mut self.servers[index]
    }

    /// The former primary accepts writes until a Sentinel announces its successor, up to a second after the promotion.
    fn fail_over(&self, primary: usize) -> Option<u64> {
        let mut completed_count = 0;
        // Sentinels refuse a fail-over while they still work on an earlier fail-over.
        wait_for_servers("the Sentinel begins a fail-over", || {
            completed_count = self.completed_count_at(primary);
            (self.command("SENTINEL FAILOVER main") == "+OK").then_some(())
        });
        let is_promoted = |(index, server): (usize, &RedisServer)| {
            index != primary && server.try_command("ROLE").is_some_and(|role| role.contains("master"))
        };
        wait_for_servers("a replica is promoted", || {
            let completed_now = self.completed_count_at(primary);
            if self.servers.iter().enumerate().any(is_promoted) {
                return Some(());
            }
            completed_count = completed_now;
            None
        });
        Some(completed_count)
    }

    fn restart_others(&mut self) {
        self.restart_sentinels();
    }

    fn make_change(&mut self, change: Infallible) {
        match change {}
    }

    fn undo_change(&mut self, change: Infallible) {
        match change {}
    }

    fn wait_until_settled(&self) {
        self.wait_until_settled();
    }
}

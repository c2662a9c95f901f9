//! SIGKILL for workers, API and Redis in random order, under load.

use std::time::{Duration, Instant};

use drover_tests::{Process, RedisServer, TIME_LIMIT};
use rand::{RngExt, seq::SliceRandom};

use crate::{
    System,
    load::{CONFIG, Load, LoadReport},
    redis_outage::{RECOVERED_WITHIN, recovery_time},
    seed::{Seed, from_env},
};

/// `worker.concurrency` of the load's configuration.
const CONCURRENCY: u64 = 20;
const WORKERS: u64 = 2;

#[derive(Clone, Copy)]
enum Part {
    Redis,
    Api,
    Worker(usize),
}

/// A system whose parts are up or down.
struct CrashingSystem {
    system: System,
    workers: Vec<Process>,
    is_down: [bool; 4],
    /// The largest number of leases that the killed parts may have had.
    in_flight: u64,
}

impl CrashingSystem {
    const PARTS: [Part; 4] = [Part::Redis, Part::Api, Part::Worker(0), Part::Worker(1)];

    async fn start() -> Self {
        let config = format!("{CONFIG}visibility_timeout = \"3s\"\n");
        let system = System::start_on(RedisServer::start_durable(), &config).await;
        let workers = vec![system.worker().await, system.worker().await];
        Self { system, workers, is_down: Default::default(), in_flight: 0 }
    }

    /// Waits shortly for a lease, because most kills would hit idle workers otherwise.
    fn wait_for_leases(&self) {
        let start = Instant::now();
        while !self.is_down[0] && start.elapsed() < Duration::from_millis(200) {
            if self.system.redis.command("ZCARD drover:{load}:leased") != ":0" {
                return;
            }
        }
    }

    /// Whether a lease of a killed worker has lapsed. Redis must be up.
    fn has_killed_a_busy_worker(&self) -> bool {
        self.system.redis.command("HEXISTS drover:{load}:meta total:lapsed") == ":1"
    }

    /// Kills a part that is up, starts one that is down.
    fn switch(&mut self, index: usize) {
        let part = Self::PARTS[index];
        let was_down = self.is_down[index];
        self.is_down[index] = !was_down;
        match (part, was_down) {
            (Part::Redis, false) => {
                self.system.redis.kill();
                // All leases may lapse while Redis is down for long.
                self.in_flight += WORKERS * CONCURRENCY;
            }
            (Part::Redis, true) => self.system.redis.restart(),
            (Part::Api, false) => self.system.api.kill(),
            (Part::Api, true) => self.system.relaunch_api(),
            (Part::Worker(n), false) => {
                self.wait_for_leases();
                self.workers[n].kill();
                self.in_flight += CONCURRENCY;
            }
            (Part::Worker(n), true) => self.workers[n] = self.system.launch_worker(&[]),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_api_and_redis_killed_in_random_order_under_load_lose_nothing() {
    let (_seed, mut random) = Seed::draw();
    let how_long = Duration::from_secs(from_env("DROVER_FAULTS_SECS").unwrap_or(15));
    let mut crashing = CrashingSystem::start().await;
    let load = Load::start(&crashing.system);

    let start = Instant::now();
    while start.elapsed() < how_long || !crashing.has_killed_a_busy_worker() {
        assert!(start.elapsed() < how_long + TIME_LIMIT, "no kill hits a busy worker");
        // Each round kills and starts every part once. At times all parts are down together.
        let mut steps: Vec<usize> = (0..CrashingSystem::PARTS.len()).flat_map(|part| [part, part]).collect();
        steps.shuffle(&mut random);
        for part in steps {
            crashing.switch(part);
            tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        }
    }

    let CrashingSystem { system, in_flight, workers: _workers, .. } = crashing;
    system.wait_until_ready(&system.base).await;
    let posted = load.stop().await;
    let report = LoadReport::of(&system, &posted).await;
    assert!(report.lapses <= in_flight, "{} leases lapsed, at most {in_flight} were in flight", report.lapses);
    assert!(recovery_time(&system).await < RECOVERED_WITHIN);
    system.assert_clean().await;
}

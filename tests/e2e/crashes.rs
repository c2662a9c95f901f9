//! Test of crashes: workers, the API and Redis are killed in random order, under load.

use std::time::{Duration, Instant};

use drover_tests::{Process, RedisServer, TIME_LIMIT};
use rand::{RngExt, seq::SliceRandom};

use crate::{
    System,
    load::{CONFIG, Load, LoadReport},
    redis_outage::{MAX_RECOVERY_TIME, recovery_time},
    seed::{Seed, from_env},
};

/// `worker.concurrency` of the load's configuration.
const CONCURRENCY: u64 = 20;
const WORKER_COUNT: u64 = 2;

#[derive(Clone, Copy)]
enum Part {
    Redis,
    Api,
    Worker(usize),
}

/// A Drover of a test whose parts (workers, API and Redis) are killed and started, so that each part is up or down.
struct CrashingSystem {
    system: System,
    workers: Vec<Process>,
    is_down: [bool; 4],
    /// The maximum number of leases that may have lapsed because of kills.
    max_lapses: u64,
}

impl CrashingSystem {
    const SYSTEM_PARTS: [Part; 4] = [Part::Redis, Part::Api, Part::Worker(0), Part::Worker(1)];

    async fn start() -> Self {
        let config = format!("{CONFIG}visibility_timeout = \"3s\"\n");
        let system = System::start_on(RedisServer::start_durable(), &config).await;
        let workers = vec![system.worker().await, system.worker().await];
        Self { system, workers, is_down: Default::default(), max_lapses: 0 }
    }

    /// Waits for a short time until a worker has leased a message. Without this wait for a leased message, most kills would hit idle
    /// workers.
    fn wait_for_leases(&self) {
        let started_at = Instant::now();
        while !self.is_down[0] && started_at.elapsed() < Duration::from_millis(200) {
            if self.system.redis.command("ZCARD drover:{load}:leased") != ":0" {
                return;
            }
        }
    }

    /// Returns whether a lease of a killed worker has lapsed. Redis must be up.
    fn has_killed_a_busy_worker(&self) -> bool {
        self.system.redis.command("HEXISTS drover:{load}:meta total:lapsed") == ":1"
    }

    /// Kills a part of the system that is up, or starts a part that is down.
    fn kill_or_start(&mut self, index: usize) {
        let part = Self::SYSTEM_PARTS[index];
        let was_down = self.is_down[index];
        self.is_down[index] = !was_down;
        match (part, was_down) {
            (Part::Redis, false) => {
                self.system.redis.kill();
                // While Redis is down, no lease can be extended, so a long outage may let all leases lapse.
                self.max_lapses += WORKER_COUNT * CONCURRENCY;
            }
            (Part::Redis, true) => self.system.redis.restart(),
            (Part::Api, false) => self.system.api.kill(),
            (Part::Api, true) => self.system.relaunch_api(),
            (Part::Worker(n), false) => {
                self.wait_for_leases();
                self.workers[n].kill();
                self.max_lapses += CONCURRENCY;
            }
            (Part::Worker(n), true) => self.workers[n] = self.system.launch_worker(&[]),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_api_and_redis_killed_in_random_order_under_load_lose_no_message() {
    let (_seed, mut random) = Seed::choose();
    let duration = Duration::from_secs(from_env("DROVER_FAULTS_SECS").unwrap_or(15));
    let mut crashing_system = CrashingSystem::start().await;
    let load = Load::start(&crashing_system.system);

    let started_at = Instant::now();
    while started_at.elapsed() < duration || !crashing_system.has_killed_a_busy_worker() {
        assert!(started_at.elapsed() < duration + TIME_LIMIT, "no kill has hit a busy worker");
        // Each round kills and starts every part once. Sometimes Redis, the API and both workers are down at the same time.
        let mut parts_in_order: Vec<usize> =
            (0..CrashingSystem::SYSTEM_PARTS.len()).flat_map(|part| [part, part]).collect();
        parts_in_order.shuffle(&mut random);
        for part in parts_in_order {
            crashing_system.kill_or_start(part);
            tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        }
    }

    let CrashingSystem { system, max_lapses, workers: _workers, .. } = crashing_system;
    system.wait_until_ready(&system.base).await;
    let posted_messages = load.stop().await;
    let report = LoadReport::verify(&system, &posted_messages).await;
    assert!(report.lapses <= max_lapses, "{} leases lapsed, at most {max_lapses} may lapse", report.lapses);
    assert!(recovery_time(&system).await < MAX_RECOVERY_TIME);
    system.assert_clean().await;
}

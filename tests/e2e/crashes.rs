//! `kill -9` of everything, in random order, under load.

use std::time::{Duration, Instant};

use drover_tests::{PATIENCE, Process, RedisServer};
use rand::{RngExt, seq::SliceRandom};

use crate::{
    System,
    load::{Account, CONFIG, Load},
    redis_outage::{BACK_WITHIN, works_again},
    seed::{Seed, from_env},
};

/// As in the configuration of the load.
const CONCURRENCY: u64 = 20;
const WORKERS: u64 = 2;

#[derive(Clone, Copy)]
enum Part {
    Redis,
    Api,
    Worker(usize),
}

/// A system whose parts are up or down.
struct Fragile {
    system: System,
    workers: Vec<Process>,
    is_down: [bool; 4],
    /// How many leases may have been in flight at the kills.
    in_flight: u64,
}

impl Fragile {
    const PARTS: [Part; 4] = [Part::Redis, Part::Api, Part::Worker(0), Part::Worker(1)];

    async fn start() -> Self {
        let config = format!("{CONFIG}visibility_timeout = \"3s\"\n");
        let system = System::start_on(RedisServer::start_durable(), &config).await;
        let workers = vec![system.worker().await, system.worker().await];
        Self { system, workers, is_down: Default::default(), in_flight: 0 }
    }

    /// Waits a moment for a worker to be at work, so that not nearly all kills hit idle ones.
    fn wait_for_leases(&self) {
        let start = Instant::now();
        while !self.is_down[0] && start.elapsed() < Duration::from_millis(200) {
            if self.system.redis.command("ZCARD drover:{load}:leased") != ":0" {
                return;
            }
        }
    }

    /// Whether a lease was found whose worker had died. Redis must be up.
    fn has_hit_a_worker_at_work(&self) -> bool {
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
                // If it is away for long, what all workers hold may lapse.
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
    let mut fragile = Fragile::start().await;
    let load = Load::start(&fragile.system);

    let start = Instant::now();
    while start.elapsed() < how_long || !fragile.has_hit_a_worker_at_work() {
        assert!(start.elapsed() < how_long + PATIENCE, "no kill hits a worker at work");
        // In each round every part is killed once and started again, all of them down together now and then.
        let mut steps: Vec<usize> = (0..Fragile::PARTS.len()).flat_map(|part| [part, part]).collect();
        steps.shuffle(&mut random);
        for part in steps {
            fragile.switch(part);
            tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        }
    }

    let Fragile { system, in_flight, workers: _workers, .. } = fragile;
    system.until_ready(&system.base).await;
    let posted = load.stop().await;
    let account = Account::of(&system, &posted).await;
    assert!(account.lapses <= in_flight, "{} leases lapsed, at most {in_flight} were in flight", account.lapses);
    assert!(works_again(&system).await < BACK_WITHIN);
    system.assert_clean().await;
}

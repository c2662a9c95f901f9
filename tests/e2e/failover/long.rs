//! The program of `make test-long`: it injects faults of servers in random order, for minutes, on each topology. Clients reach
//! the servers directly for half of the time, and through proxies for the other half. The tests in `cases` inject each fault
//! only once. The arguments of the program are the seconds for each topology, and the seed of the random order.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // A panic fails the test, and people read the printed progress.

mod account;
mod cluster;
mod load;
mod receiver;
mod scene;
mod sentinels;
#[path = "../system.rs"]
#[expect(dead_code, reason = "the end-to-end tests use its other functions")]
mod system;

use std::{
    env,
    time::{Duration, Instant},
};

use cluster::Change;
use drover_tests::{RedisCluster, RedisSentinels};
use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use scene::{FailOverTest, Fault, Servers};
use system::http_client;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let mut arguments = env::args().skip(1).map(|argument| argument.parse().unwrap());
    let time_per_fault = Duration::from_secs(arguments.next().unwrap());
    let seed: u64 = arguments.next().unwrap_or_else(rand::random);
    println!("each topology for {time_per_fault:?}, with the seed {seed}");
    let (mut rng, half) = (StdRng::seed_from_u64(seed), time_per_fault / 2);
    let changes = || vec![Fault::Change(Change::Move), Fault::Change(Change::Join)];
    run(RedisSentinels::start_direct(), "sentinels", faults_of_all_topologies(), &mut rng, half).await;
    run(
        RedisSentinels::start_proxied(),
        "sentinels, proxies",
        [faults_of_all_topologies(), vec![Fault::Cut]].concat(),
        &mut rng,
        half,
    )
    .await;
    run(RedisCluster::start_direct(), "cluster", [faults_of_all_topologies(), changes()].concat(), &mut rng, half)
        .await;
    let all = [faults_of_all_topologies(), changes(), vec![Fault::Cut]].concat();
    run(RedisCluster::start_proxied(), "cluster, proxies", all, &mut rng, half).await;
}

/// Returns the faults of all topologies.
fn faults_of_all_topologies<C>() -> Vec<Fault<C>> {
    vec![Fault::Kill, Fault::Hang, Fault::FailOver, Fault::RollingRestart]
}

/// Injects all faults in random order, again and again, and ends after the round in which the time is over.
async fn run<S: Servers>(servers: S, name: &str, mut faults: Vec<Fault<S::Change>>, rng: &mut StdRng, time: Duration) {
    let mut test = FailOverTest::start(servers).await;
    let started_at = Instant::now();
    while started_at.elapsed() < time {
        faults.shuffle(rng);
        for fault in &faults {
            let (primaries, replicas) = test.servers.primaries_and_replicas();
            let (kind, servers) = match fault {
                Fault::Kill | Fault::Hang | Fault::Cut if rng.random_ratio(1, 4) => ("replica", replicas),
                _ => ("primary", primaries),
            };
            let server = *servers.choose(rng).expect("each topology has primaries and replicas");
            println!("{name}: {fault:?}, {kind} {server}");
            let recovery_duration = test.inject_fault(*fault, server).await;
            test.assert_nothing_lost().await;
            println!("{name}: {fault:?}, {kind} {server}: all queues worked {recovery_duration:?} after the election");
            test.start_load().await;
        }
    }
}

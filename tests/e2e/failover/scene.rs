//! The parts of a fail-over test: the Redis servers, two APIs, a worker and their clients. The module also injects the faults.
//! After each fault, everything must work again, in time and without a restart of the services.

use std::{
    fmt::Debug,
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use drover_tests::{Process, RedisServer, ReservedPort, TIME_LIMIT, eventually, within};
use queue_core::{Queues, Redis, settings::DeclaredSettings};
use reqwest::{Client, StatusCode};
use tempfile::NamedTempFile;
use tokio::time::sleep;

use super::{
    account::Account,
    load::{Apis, Load, MAX_LEASED, is_served_by_worker},
    receiver::Receiver,
};
use crate::http_client;

/// The maximum time from the end of an election until everything works again. Drover promises 2 s from the end of the election until
/// messages are delivered; a busy machine takes longer.
const MAX_RECOVERY_TIME: Duration = Duration::from_secs(4);
/// The minimum number of messages that must be posted and delivered before the first fault, and again after the last fault.
const MESSAGES_PER_PHASE: usize = 200;
/// The maximum number of leases of the worker.
const MAX_LEASES: usize = 20;

/// The time limit for changes that the servers make by themselves: an election, which they may repeat, and the return of a
/// former primary, which Sentinels make a replica after 8 s.
pub(super) const SERVER_TIME_LIMIT: Duration = Duration::from_secs(60);

/// A fault of one server, or of all servers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault<C> {
    /// A server is killed. A killed primary comes back after it was replaced.
    Kill,
    /// A server is suspended. A suspended primary is resumed after it was replaced.
    Hang,
    /// The proxy of a server is cut off from its clients and replicas for a while.
    Cut,
    /// A healthy primary is replaced by a planned fail-over.
    FailOver,
    /// All servers restart, one after the other.
    RollingRestart,
    /// The set of servers or the owners of slots change, and the change is undone later.
    Change(C),
}

/// The reaction of the other servers to a primary whose proxy is cut off.
pub(super) enum CutOff {
    /// The other servers do not notice that the primary is cut off.
    Kept,
    /// The other servers replace the primary.
    Replaced,
}

/// The Redis servers of a topology (a cluster, or a primary with Sentinels). When a test begins, the first server is a primary.
pub(super) trait Servers: Sized {
    /// The changes of the servers that are possible only in this topology.
    type Change: Copy + Debug;
    /// The name of the topology in logs, metrics and `/readyz`.
    const TOPOLOGY_NAME: &'static str;
    /// The number of replicas of each primary.
    const REPLICAS_PER_PRIMARY: usize;
    /// The reaction of the other servers to a primary whose proxy is cut off.
    const CUT_OFF: CutOff;

    /// Starts servers that clients reach directly.
    fn start_direct() -> Self;
    /// Starts servers behind proxies.
    fn start_proxied() -> Self;
    /// Returns the Redis URL that the services and tests use.
    fn url(&self) -> String;
    /// Returns the names of the queues.
    fn queues(&self) -> Vec<String>;
    /// Returns all servers.
    fn all_servers(&self) -> &[RedisServer];
    /// Returns one server, so that the caller can stop or start it.
    fn server(&mut self, index: usize) -> &mut RedisServer;
    /// Replaces a healthy primary by one of its replicas, in a planned fail-over. Returns how many messages the former primary had
    /// completed when its successor was promoted, if the former primary works on afterwards.
    fn fail_over(&self, primary: usize) -> Option<u64>;
    /// Restarts all processes that store nothing, one after the other.
    fn restart_others(&mut self);
    /// Makes a change that is possible only in the topology that `Self` implements.
    fn make_change(&mut self, change: Self::Change);
    /// Undoes a change that [`make_change`](Self::make_change) made.
    fn undo_change(&mut self, change: Self::Change);
    /// Waits until the servers have recovered from the last fault.
    fn wait_until_settled(&self);
    /// Returns how many messages a server has completed.
    fn completed_count_at(&self, server: usize) -> u64 {
        let completed_total = |queue: &String| queue_total_at(&self.all_servers()[server], queue, "completed");
        self.queues().iter().map(completed_total).sum()
    }

    /// Returns the server that accepts writes for a queue, apart from the server at the index `except`.
    fn primary_of(&self, queue: &str, except: Option<usize>) -> Option<usize> {
        let accepts_writes = |(index, server): &(usize, &RedisServer)| {
            Some(*index) != except && server.try_command(&format!("SET {{{queue}}}probe 1")).as_deref() == Some("+OK")
        };
        self.all_servers().iter().enumerate().find(accepts_writes).map(|(index, _)| index)
    }

    /// Returns the indices of all primaries, and of all replicas.
    fn primaries_and_replicas(&self) -> (Vec<usize>, Vec<usize>) {
        let is_primary = |index: &usize| self.all_servers()[*index].command("ROLE").contains("master");
        (0..self.all_servers().len()).partition(is_primary)
    }
}

/// Waits until the servers have reached, by themselves, the state that `probe` finds.
pub(super) fn wait_for_servers<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(SERVER_TIME_LIMIT, what, probe)
}

/// Returns one of the queue's totals that a server has, or 0 if the server does not have the queue.
fn queue_total_at(server: &RedisServer, queue: &str, total: &str) -> u64 {
    let answer = server.command(&format!("HGET drover:{{{queue}}}:meta total:{total}"));
    let total = answer.lines().nth(1).map_or_else(|| (answer == "$-1").then_some(0), |total| total.parse().ok());
    total.unwrap_or_else(|| panic!("{answer}"))
}

/// The servers, services and clients of a fail-over test.
pub(super) struct FailOverTest<S: Servers> {
    pub(super) servers: S,
    load: Load,
    services: Services,
    http: Client,
    _receiver: Receiver,
    _config: NamedTempFile,
    /// The maximum number of repeated deliveries that the faults since the last check may have caused.
    max_repeated: usize,
}

/// The services of a fail-over test: two API processes and a worker.
struct Services {
    processes: [Process; 3],
    /// The base URL of each process, at which it serves `/readyz`.
    bases: [String; 3],
    _ports: [ReservedPort; 3],
}

impl Services {
    /// Starts the services, and waits until they are ready.
    async fn start(http: &Client, redis_url: &str, config: &NamedTempFile, replicas: usize) -> Self {
        let ports: [ReservedPort; 3] = std::array::from_fn(|_| ReservedPort::reserve());
        let addresses = ports.each_ref().map(|port| port.address().to_string());
        let replicas = replicas.to_string();
        let start = |binary: &str, env: &[(&str, &str)]| {
            let env = [&[("DROVER__REDIS__URL", redis_url)], env].concat();
            Process::start(binary, &["--config", config.path().to_str().unwrap()], &env)
        };
        let durable = [("DROVER__API__BIND", addresses[0].as_str()), ("DROVER__DURABILITY__REPLICAS", &replicas)];
        let processes = [
            start("producer-api", &durable),
            start("producer-api", &[("DROVER__API__BIND", &addresses[1])]),
            start("consumer-worker", &[("DROVER__WORKER__BIND", &addresses[2])]),
        ];
        let services = Self { processes, bases: addresses.map(|address| format!("http://{address}")), _ports: ports };
        services.wait_until_ready(http, Instant::now()).await;
        services
    }

    /// Waits until all services are ready, and returns the time from `since` until the last service is ready.
    async fn wait_until_ready(&self, http: &Client, since: Instant) -> Duration {
        for base in &self.bases {
            loop {
                let answer = http.get(format!("{base}/readyz")).send().await;
                if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                    break;
                }
                assert!(since.elapsed() < TIME_LIMIT, "{base} is not ready");
                sleep(Duration::from_millis(10)).await;
            }
        }
        since.elapsed()
    }
}

fn services_config(queues: &[String], receiver: SocketAddr) -> String {
    let mut config = format!(
        "[log]\nfilter = \"info,consumer_worker::runtime::settler=warn\"\n[queues.\"*\"]\nvisibility_timeout = \"3s\"\n\
         max_lapses = 1000\nretention.completed = {{ count = 100000000 }}\n\
         [worker]\nconcurrency = 5\nmax_leases = {MAX_LEASES}\npoll_interval = \"1h\"\n"
    );
    for (_, queue) in queues.iter().enumerate().filter(|(index, _)| is_served_by_worker(*index)) {
        let route = format!(
            "[[worker.routes]]\nqueue = \"{queue}\"\nhandler = {{ type = \"http\", url = \"http://{receiver}/\" }}\n"
        );
        config.push_str(&route);
    }
    config
}

impl<S: Servers> FailOverTest<S> {
    /// Starts the services and the load.
    pub(super) async fn start(servers: S) -> Self {
        let (queues, account) = (servers.queues(), Arc::default());
        let receiver = Receiver::start(queues.clone(), Arc::clone(&account)).await;
        let config_file = NamedTempFile::new().unwrap();
        std::fs::write(config_file.path(), services_config(&queues, receiver.address)).unwrap();
        let http = http_client();
        let services = Services::start(&http, &servers.url(), &config_file, S::REPLICAS_PER_PRIMARY).await;
        let apis = Apis { durable: services.bases[0].clone(), plain: services.bases[1].clone() };
        let load = Load::new(http.clone(), apis, queues, account);
        let mut test =
            Self { servers, load, services, http, _receiver: receiver, _config: config_file, max_repeated: 0 };
        test.start_load().await;
        test
    }

    /// Starts the load, and waits until messages are stored and delivered in all queues.
    pub(super) async fn start_load(&mut self) {
        self.load.start_clients();
        self.assert_recovers().await;
        self.load.wait_for_work(MESSAGES_PER_PHASE).await;
    }

    /// Injects a fault at a server. For a planned fail-over, the server must be a primary. Asserts that everything works again, in time and
    /// without a restart of the services. Returns the longest time from the end of an election until messages were stored and delivered.
    pub(super) async fn inject_fault(&mut self, fault: Fault<S::Change>, server: usize) -> Duration {
        let kills_a_primary = matches!(fault, Fault::Kill) && self.servers.primaries_and_replicas().0.contains(&server);
        let recovery_duration = match fault {
            Fault::Kill => {
                self.allow_repeated_deliveries();
                self.servers.server(server).kill();
                let recovery_duration = self.wait_until_delivering_again(Some(server)).await;
                // A POST is answered 2xx only when all replicas have the message.
                self.servers.server(server).restart();
                recovery_duration
            }
            Fault::Hang => {
                self.allow_repeated_deliveries();
                self.servers.all_servers()[server].suspend();
                let recovery_duration = self.wait_until_delivering_again(Some(server)).await;
                self.servers.all_servers()[server].resume();
                recovery_duration
            }
            Fault::Cut => self.cut_off(server).await,
            Fault::FailOver => self.fail_over(server).await,
            Fault::RollingRestart => self.restart_all().await,
            Fault::Change(change) => {
                self.servers.make_change(change);
                let recovery_duration = self.wait_until_delivering_again(None).await;
                self.assert_recovers().await;
                self.servers.undo_change(change);
                recovery_duration.max(self.wait_until_delivering_again(None).await)
            }
        };
        self.assert_recovers().await;
        if kills_a_primary {
            self.assert_replacement_is_reported(server).await;
        }
        recovery_duration
    }

    async fn cut_off(&mut self, server: usize) -> Duration {
        self.allow_repeated_deliveries();
        let is_elsewhere = |queue: &usize| self.servers.primary_of(&self.load.queues[*queue], None) != Some(server);
        let other_queues: Vec<usize> = self.queues().filter(is_elsewhere).collect();
        let proxy = self.servers.all_servers()[server].proxy();
        proxy.cut();
        let cut_time = Instant::now();
        let stores = |account: &Account, queue| account.has_stored(queue, cut_time);
        self.load.wait_until("queues of other servers store posts", cut_time, other_queues, stores).await;
        match S::CUT_OFF {
            CutOff::Kept => {
                proxy.pass();
                self.wait_until_delivering_again(None).await
            }
            CutOff::Replaced => {
                let recovery_duration = self.wait_until_delivering_again(Some(server)).await;
                proxy.pass();
                recovery_duration
            }
        }
    }

    async fn fail_over(&mut self, primary: usize) -> Duration {
        self.allow_repeated_deliveries();
        let completed_before = self.servers.fail_over(primary);
        let recovery_duration = self.wait_until_delivering_again(Some(primary)).await;
        // The former primary still completed messages after the promotion, until all services had left it; the successor does
        // not know these completions.
        if let Some(completed_before) = completed_before {
            let forgotten_count = self.servers.completed_count_at(primary).saturating_sub(completed_before);
            self.max_repeated += usize::try_from(forgotten_count).unwrap();
        }
        recovery_duration
    }

    /// Restarts every server, as an operator does: the replicas first, and each primary after a replica has replaced it.
    async fn restart_all(&mut self) -> Duration {
        let (primaries, replicas) = self.servers.primaries_and_replicas();
        for replica in replicas {
            self.restart_server(replica);
        }
        let mut longest_recovery = Duration::ZERO;
        for primary in primaries {
            self.assert_recovers().await;
            longest_recovery = longest_recovery.max(self.fail_over(primary).await);
            self.assert_recovers().await;
            self.restart_server(primary);
        }
        self.servers.restart_others();
        longest_recovery.max(self.wait_until_delivering_again(None).await)
    }

    /// Restarts a replica.
    fn restart_server(&mut self, replica: usize) {
        let server = self.servers.server(replica);
        server.stop();
        server.restart();
        server.wait_until_replica_has_copy();
    }

    fn queues(&self) -> Range<usize> {
        0..self.load.queues.len()
    }

    /// Records a fault: the messages of all current leases may be delivered again.
    fn allow_repeated_deliveries(&mut self) {
        let http_consumers = self.queues().filter(|queue| !is_served_by_worker(*queue)).count();
        self.max_repeated += MAX_LEASES + http_consumers * MAX_LEASED;
    }

    /// Waits for the end of an election: each queue has a primary that accepts writes, apart from the server at the index
    /// `except`. After the election, posts must reach the new primary, and messages must be stored and delivered in time, in
    /// each queue. These messages need no confirmation by a replica, because the new primary may have no replica. Returns the time from the
    /// end of the election until messages are stored and delivered in each queue.
    async fn wait_until_delivering_again(&self, except: Option<usize>) -> Duration {
        let mut primaries = Vec::new();
        for queue in &self.load.queues {
            let primary = wait_for_servers("a primary accepts writes", || self.servers.primary_of(queue, except));
            primaries.push((queue, primary, queue_total_at(&self.servers.all_servers()[primary], queue, "enqueued")));
        }
        let fault_end = Instant::now();
        // A former primary may still accept posts, which are lost.
        for (queue, primary, posts) in primaries {
            eventually("posts reach the new primary", || {
                (queue_total_at(&self.servers.all_servers()[primary], queue, "enqueued") > posts).then_some(())
            });
        }
        let servers_reached_at = Instant::now();
        let works_since = |account: &Account, queue| {
            account.has_accepted(queue, servers_reached_at) && account.has_delivered(queue, servers_reached_at)
        };
        self.load.wait_until("messages are stored and delivered", servers_reached_at, self.queues(), works_since).await;
        let recovery_duration = fault_end.elapsed();
        assert!(
            recovery_duration < MAX_RECOVERY_TIME,
            "messages are delivered {recovery_duration:?} after the election"
        );
        recovery_duration
    }

    /// Waits until all replicas are back. When all replicas are back, messages must be stored and delivered in time in each queue, and the
    /// API and the worker must soon be ready.
    async fn assert_recovers(&self) {
        for queue in &self.load.queues {
            wait_for_servers("the replicas are back", || {
                let primary = self.servers.primary_of(queue, None)?;
                (self.servers.all_servers()[primary].confirming_replicas() >= S::REPLICAS_PER_PRIMARY).then_some(())
            });
        }
        self.servers.wait_until_settled();
        let return_time = Instant::now();
        let stores = |account: &Account, queue| account.has_stored(queue, return_time);
        let recovery_duration = self.load.wait_until("posts are stored", return_time, self.queues(), stores).await;
        assert!(
            recovery_duration < MAX_RECOVERY_TIME,
            "posts are stored {recovery_duration:?} after the replicas are back"
        );
        let is_delivered = |account: &Account, queue| account.has_delivered(queue, return_time);
        let recovery_duration =
            self.load.wait_until("messages are delivered", return_time, self.queues(), is_delivered).await;
        assert!(
            recovery_duration < MAX_RECOVERY_TIME,
            "messages are delivered {recovery_duration:?} after the replicas are back"
        );
        let recovery_duration = self.services.wait_until_ready(&self.http, return_time).await;
        assert!(
            recovery_duration < MAX_RECOVERY_TIME,
            "all services are ready {recovery_duration:?} after the replicas are back"
        );
    }

    /// Asserts that each service names the replaced primary and the topology in its log, and the topology in `/readyz`. The metrics of the
    /// service must soon have only the other servers.
    async fn assert_replacement_is_reported(&self, replaced: usize) {
        let address = format!("127.0.0.1:{}", self.servers.all_servers()[replaced].announced_port());
        for (process, base) in self.services.processes.iter().zip(&self.services.bases) {
            let end_record = format!("its calls are ended topology=\"{}\" server={address}", S::TOPOLOGY_NAME);
            eventually(&end_record, || process.log().iter().any(|line| line.contains(&end_record)).then_some(()));
            let get =
                async |path: &str| self.http.get(format!("{base}{path}")).send().await.unwrap().text().await.unwrap();
            assert!(get("/readyz").await.contains(&format!("\"redis\":\"{}\"", S::TOPOLOGY_NAME)), "{base}");
            let started_at = Instant::now();
            loop {
                let metrics = get("/metrics").await;
                let is_server_metric = |line: &&str| line.starts_with("drover_redis_server_up{");
                let servers: Vec<&str> = metrics.lines().filter(is_server_metric).collect();
                let metric_prefix = format!("drover_redis_server_up{{topology=\"{}\",server=\"", S::TOPOLOGY_NAME);
                let is_up = |line: &&str| {
                    line.starts_with(&metric_prefix)
                        && line.ends_with("\"} 1")
                        && !line.contains(&format!("\"{address}\""))
                };
                if !servers.is_empty() && servers.iter().all(is_up) {
                    break;
                }
                // The part of the worker that runs handlers has its own connections to Redis, and may learn of the new primary later than
                // the rest of the worker.
                assert!(started_at.elapsed() < TIME_LIMIT, "{base}: {servers:?}");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Ends the load, checks the account of posts and deliveries, checks every queue, and deletes the queues.
    pub(super) async fn assert_nothing_lost(&mut self) {
        self.load.wait_for_work(2 * MESSAGES_PER_PHASE).await;
        assert!(!self.services.processes.iter_mut().any(Process::has_ended), "no service has ended");
        let account = self.load.finish().await;
        let (repeated, max) = (account.repeated_delivery_count(), std::mem::take(&mut self.max_repeated));
        assert!(repeated <= max, "{repeated} deliveries are repeated, at most {max} may be");
        let redis_client = Redis::new(&self.servers.url(), Redis::DEFAULT_TIME_LIMIT).unwrap();
        let all = Queues::new(redis_client, DeclaredSettings::default());
        for name in &self.load.queues {
            let queue = all.queue(&name.parse().unwrap());
            assert_eq!(queue.audit().await.unwrap().findings, [], "the audit of {name} finds nothing");
            assert!(queue.delete().await.unwrap(), "{name} exists");
        }
    }
}

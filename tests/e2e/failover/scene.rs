//! The scene of a test: the servers of Redis, an API, a worker and their clients; and the faults that every topology knows. After
//! each fault everything must work again, in time and without a restart of the services.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use drover_tests::{Process, RedisServer, ReservedPort, TIME_LIMIT, eventually};
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

/// The maximum time from the end of an election until everything works again. Drover promises 2 s; a busy machine takes longer.
const RECOVERED_WITHIN: Duration = Duration::from_secs(4);
/// How many messages are posted and delivered at least before the first fault, and as many afterwards.
const WORK: usize = 200;
/// The maximum number of leases of the worker.
const MAX_LEASES: usize = 20;

/// The servers of a topology.
pub(super) trait Servers {
    /// The URL for the services.
    fn url(&self) -> String;
    /// All servers.
    fn all(&self) -> &[RedisServer];
    /// One server, to stop or to start it.
    fn server(&mut self, index: usize) -> &mut RedisServer;
    /// Replaces a healthy primary by one of its replicas, as planned.
    fn fail_over(&self, primary: usize);
    /// Makes a former primary a replica of its successor, unless it becomes one by itself at once.
    fn follow(&self, former: usize, successor: usize);
    /// Waits until the servers have finished with the last fault.
    fn wait_until_settled(&self);
    /// How many of the deliveries during a planned fail-over may be repeated, beyond the leases that were in flight.
    fn repeated_by_plan(&self, deliveries: usize) -> usize;

    /// The server that accepts writes for a queue, apart from the server at the index `except`.
    fn primary_of(&self, queue: &str, except: Option<usize>) -> Option<usize> {
        let accepts = |(index, server): &(usize, &RedisServer)| {
            Some(*index) != except && server.try_command(&format!("SET {{{queue}}}probe 1")).as_deref() == Some("+OK")
        };
        self.all().iter().enumerate().find(accepts).map(|(index, _)| index)
    }

    /// The replicas of a primary that is up.
    fn replicas_of(&self, primary: usize) -> Vec<usize> {
        let port = format!("master_port:{}", self.all()[primary].announced_port());
        let is_replica = |server: &RedisServer| {
            server.try_command("INFO replication").is_some_and(|info| info.lines().any(|line| line == port))
        };
        (0..self.all().len()).filter(|index| is_replica(&self.all()[*index])).collect()
    }
}

/// Servers, services and clients.
pub(super) struct Scene<S: Servers> {
    pub(super) servers: S,
    pub(super) load: Load,
    /// The number of replicas of each primary.
    replicas: usize,
    services: Services,
    http: Client,
    _receiver: Receiver,
    _config: NamedTempFile,
    /// The maximum number of deliveries that the faults so far may have repeated.
    max_repeated: usize,
}

/// Two API processes and a worker.
struct Services {
    processes: [Process; 3],
    /// Where each of them answers whether it is ready.
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

    /// Waits until all services are ready, and returns how long it took since `since`.
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

fn config(queues: &[String], receiver: SocketAddr) -> String {
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

impl<S: Servers> Scene<S> {
    /// Starts the services and the load on these queues, and waits until all queues work.
    pub(super) async fn start(servers: S, replicas: usize, queues: Vec<String>) -> Self {
        let account: Arc<Mutex<Account>> = Arc::default();
        let receiver = Receiver::start(queues.clone(), Arc::clone(&account)).await;
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config(&queues, receiver.address)).unwrap();
        let http = http_client();
        let services = Services::start(&http, &servers.url(), &file, replicas).await;
        let apis = Apis { durable: services.bases[0].clone(), plain: services.bases[1].clone() };
        let load = Load::start(http.clone(), apis, queues, account);
        let mut scene =
            Self { servers, load, replicas, services, http, _receiver: receiver, _config: file, max_repeated: 0 };
        scene.recover().await;
        scene.load.wait_for_work(WORK).await;
        scene
    }

    fn queues(&self) -> std::ops::Range<usize> {
        0..self.load.queues.len()
    }

    /// The queues that this server has as their primary.
    pub(super) fn queues_of(&self, primary: usize) -> Vec<usize> {
        let is_owner = |queue: &usize| self.servers.primary_of(&self.load.queues[*queue], None) == Some(primary);
        self.queues().filter(is_owner).collect()
    }

    /// Notes a fault, which may repeat the deliveries of all leases that are in flight.
    pub(super) fn allow_repeated(&mut self) {
        let http_consumers = self.queues().filter(|queue| !is_served_by_worker(*queue)).count();
        self.max_repeated += MAX_LEASES + http_consumers * MAX_LEASED;
    }

    /// Waits for the end of an election: each queue has a primary that accepts writes, apart from the server at the index
    /// `except`. Then messages must be stored and delivered in time, in each queue. No replica need have them, because the new
    /// primary may have none.
    pub(super) async fn deliver_again(&self, except: Option<usize>) {
        for queue in &self.load.queues {
            eventually("a primary accepts writes", || self.servers.primary_of(queue, except));
        }
        let ended = Instant::now();
        let works =
            |account: &Account, queue| account.has_accepted(queue, ended) && account.has_delivered(queue, ended);
        let took = self.load.wait_until("messages are stored and delivered", ended, self.queues(), works).await;
        assert!(took < RECOVERED_WITHIN, "messages are delivered {took:?} after the election");
    }

    /// Waits until all replicas are back. Then posts must be stored in time, in each queue, and both services must be ready.
    pub(super) async fn recover(&mut self) {
        for queue in &self.load.queues {
            eventually("the replicas are back", || {
                let primary = self.servers.primary_of(queue, None)?;
                (self.servers.all()[primary].confirming_replicas() >= self.replicas).then_some(())
            });
        }
        self.servers.wait_until_settled();
        let back = Instant::now();
        let stores = |account: &Account, queue| account.has_stored(queue, back);
        let took = self.load.wait_until("posts are stored", back, self.queues(), stores).await;
        assert!(took < RECOVERED_WITHIN, "posts are stored {took:?} after the replicas are back");
        let delivers = |account: &Account, queue| account.has_delivered(queue, back);
        let took = self.load.wait_until("messages are delivered", back, self.queues(), delivers).await;
        assert!(took < RECOVERED_WITHIN, "messages are delivered {took:?} after the replicas are back");
        let took = self.services.wait_until_ready(&self.http, back).await;
        assert!(took < RECOVERED_WITHIN, "all services are ready {took:?} after the replicas are back");
    }

    /// Kills a primary. It comes back after it was replaced, because posts are confirmed only by all replicas.
    pub(super) async fn kill(&mut self, primary: usize) {
        self.allow_repeated();
        let queue = self.queue_of(primary);
        self.servers.server(primary).kill();
        self.deliver_again(Some(primary)).await;
        self.servers.server(primary).restart();
        self.rejoin(primary, &queue).await;
    }

    /// Suspends a primary until it was replaced, and resumes it.
    pub(super) async fn hang(&mut self, primary: usize) {
        self.allow_repeated();
        let queue = self.queue_of(primary);
        self.servers.all()[primary].suspend();
        self.deliver_again(Some(primary)).await;
        self.servers.all()[primary].resume();
        self.rejoin(primary, &queue).await;
    }

    /// Replaces a healthy primary.
    pub(super) async fn fail_over(&mut self, primary: usize) {
        self.allow_repeated();
        let queue = self.queue_of(primary);
        let before = self.load.account.lock().unwrap().deliveries();
        self.servers.fail_over(primary);
        self.deliver_again(Some(primary)).await;
        let deliveries = self.load.account.lock().unwrap().deliveries() - before;
        self.max_repeated += self.servers.repeated_by_plan(deliveries);
        self.rejoin(primary, &queue).await;
    }

    /// Lets a former primary of this queue follow its successor, and waits until everything works.
    async fn rejoin(&mut self, former: usize, queue: &str) {
        let successor = eventually("a primary accepts writes", || self.servers.primary_of(queue, Some(former)));
        self.servers.follow(former, successor);
        self.recover().await;
    }

    fn queue_of(&self, primary: usize) -> String {
        let queues = self.queues_of(primary);
        self.load.queues[*queues.first().expect("the primary has a queue")].clone()
    }

    /// Stops a server, and starts it again.
    pub(super) fn restart(&mut self, index: usize) {
        let server = self.servers.server(index);
        server.stop();
        server.restart();
    }

    /// Ends the load, and checks the account and every queue.
    pub(super) async fn finish(self) {
        let Self { servers, load, mut services, max_repeated, .. } = self;
        load.wait_for_work(2 * WORK).await;
        assert!(!services.processes.iter_mut().any(Process::has_ended), "no service has ended");
        let queues = load.queues.clone();
        let account = load.finish().await;
        let repeated = account.repeated();
        assert!(repeated <= max_repeated, "{repeated} deliveries are repeated, at most {max_repeated} may be");
        let redis = Redis::new(&servers.url(), Redis::DEFAULT_TIME_LIMIT).unwrap();
        let all = Queues::new(redis, DeclaredSettings::default());
        for name in &queues {
            let audit = all.queue(&name.parse().unwrap()).audit().await.unwrap();
            assert_eq!(audit.findings, [], "the audit of {name} finds nothing");
        }
    }
}

//! The servers that calls go to: one server, the primary that Sentinels name, or the primaries of a cluster.
//!
//! While a call fails or hangs, a watcher asks for the topology every 250 ms, and ends the calls to a server that is no longer a
//! primary. Otherwise it asks every 5 s, and when a Sentinel announces a fail-over.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::{
    error::{Error, Result},
    redis::{
        call_error::CallError,
        calls::Calls,
        cluster::{self, Cluster, ClusterView},
        endpoint::{Address, Endpoint},
        keys::Slot,
        node::Node,
        send_error::Redirect,
        sentinel::Sentinels,
    },
};

/// The pause between two checks whether calls fail or hang, and between two questions while they do.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The pause between two questions while calls succeed, but a part of the slots has no server.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(1);
/// The pause between two questions while calls succeed.
const QUIET_INTERVAL: Duration = Duration::from_secs(5);

/// Where the servers are, as `redis.url` says.
#[derive(Clone)]
pub(crate) enum Source {
    /// One server.
    Server(Endpoint),
    /// The primary that Sentinels name.
    Sentinels(Sentinels),
    /// The primaries of a cluster.
    Cluster(Cluster),
}

impl Source {
    /// The name of the kind, for logs and metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Server(_) => "server",
            Self::Sentinels(_) => "sentinel",
            Self::Cluster(_) => "cluster",
        }
    }
}

/// The servers that calls go to now.
pub(crate) struct Topology {
    shared: Arc<TopologyState>,
    /// The task that keeps the topology current. It starts with the first call, on the runtime of that call.
    watcher: OnceLock<AbortOnDropHandle<()>>,
}

struct TopologyState {
    source: Source,
    calls: Arc<Calls>,
    map: RwLock<Arc<Map>>,
    /// The servers to which calls were redirected and that the map does not have yet, so that many calls share their connections.
    redirects: Mutex<Vec<Arc<Node>>>,
    /// Held while the topology is asked for; has the time of the last answer.
    asking: AsyncMutex<Option<Instant>>,
    /// Notified when a call has failed, or when a Sentinel has announced a fail-over.
    ask_now: Notify,
    /// Why the topology is unknown, or a part of it; logged when it changes.
    trouble: Mutex<Option<String>>,
}

/// Which server has which slot.
#[derive(Default)]
pub(crate) struct Map {
    nodes: Vec<Arc<Node>>,
    /// For each slot the index of its server in `nodes`; empty if one server has all slots.
    owners: Vec<Option<u16>>,
    /// Servers of a cluster that do not pass on all notifications.
    cut_off: Vec<Address>,
    /// The config epoch of the primary that Sentinels name.
    config_epoch: u64,
}

impl Map {
    /// A map in which one server has all slots.
    pub(crate) fn of_one(node: Arc<Node>, config_epoch: u64) -> Self {
        Self { nodes: vec![node], config_epoch, ..Self::default() }
    }

    /// A map of a cluster.
    fn of_cluster(view: ClusterView, node_at: impl Fn(Address) -> Arc<Node>) -> Self {
        let ClusterView { slots, cut_off } = view;
        let mut map = Self { cut_off, ..Self::default() };
        let mut indices: HashMap<&Address, u16> = HashMap::new();
        for address in &slots {
            let index = address.as_ref().map(|address| {
                *indices.entry(address).or_insert_with(|| {
                    map.nodes.push(node_at(address.clone()));
                    u16::try_from(map.nodes.len() - 1)
                        .expect("a cluster has at most 16,384 slots, each with one server")
                })
            });
            map.owners.push(index);
        }
        map
    }

    fn owner(&self, slot: Slot) -> Option<&Arc<Node>> {
        match self.owners.get(slot.index()) {
            Some(owner) => self.nodes.get(usize::from((*owner)?)),
            None => self.nodes.first(),
        }
    }

    fn passes_on_notifications(&self, node: &Node) -> bool {
        !self.cut_off.contains(&node.endpoint().address)
    }

    fn has_better_subscription_node(&self, node: &Node) -> bool {
        !self.passes_on_notifications(node) && self.nodes.iter().any(|other| self.passes_on_notifications(other))
    }

    /// The servers of this map that are not in another one.
    fn absent_from<'m>(&'m self, other: &'m Self) -> impl Iterator<Item = &'m Arc<Node>> {
        self.nodes.iter().filter(|node| !other.nodes.iter().any(|other| Arc::ptr_eq(node, other)))
    }

    /// The fault of a cluster whose slots are not all served; `None` if all are.
    fn trouble(&self) -> Option<String> {
        let missing = self.owners.iter().filter(|owner| owner.is_none()).count();
        (missing > 0).then(|| format!("{missing} of the {} slots of the cluster have no server", Slot::COUNT))
    }
}

impl Topology {
    pub(crate) fn new(source: Source, calls: Arc<Calls>) -> Self {
        let map = match &source {
            Source::Server(endpoint) => {
                let is_up = calls.server(source.name(), &endpoint.address);
                Map::of_one(Node::new(endpoint.clone(), is_up), 0)
            }
            Source::Sentinels(_) | Source::Cluster(_) => Map::default(),
        };
        let shared = TopologyState {
            source,
            calls,
            map: RwLock::new(Arc::new(map)),
            redirects: Mutex::default(),
            asking: AsyncMutex::default(),
            ask_now: Notify::new(),
            trouble: Mutex::default(),
        };
        Self { shared: Arc::new(shared), watcher: OnceLock::new() }
    }

    /// The source of another topology with its own connections.
    pub(crate) fn source(&self) -> &Source {
        &self.shared.source
    }

    /// Whether another server may take over the work of one that fails.
    pub(crate) fn may_change(&self) -> bool {
        !matches!(self.shared.source, Source::Server(_))
    }

    /// The server that has this slot, if it is known.
    pub(crate) fn known_owner(&self, slot: Slot) -> Option<Arc<Node>> {
        self.shared.map.read().owner(slot).cloned()
    }

    /// Asks for the server that has this slot.
    pub(crate) async fn find_owner(&self, slot: Slot) -> Result<Arc<Node>> {
        self.discover().await?;
        self.known_owner(slot).ok_or_else(|| Error::Unavailable(self.shared.why_unknown(slot)))
    }

    /// All servers: the one, or all primaries.
    pub(crate) async fn nodes(&self) -> Result<Vec<Arc<Node>>> {
        if self.map().nodes.is_empty() {
            self.discover().await?;
        }
        let nodes = self.map().nodes.clone();
        if nodes.is_empty() { Err(Error::Unavailable(self.shared.why_unknown(Slot::FIRST))) } else { Ok(nodes) }
    }

    /// A server for subscriptions. Each server of a cluster passes on the notifications of all others.
    pub(crate) async fn subscription_node(&self) -> Result<Arc<Node>> {
        let nodes = self.nodes().await?;
        let map = self.map();
        let fit: Vec<_> = nodes.iter().filter(|node| map.passes_on_notifications(node)).collect();
        let candidates = if fit.is_empty() { nodes.iter().collect() } else { fit };
        Ok(Arc::clone(candidates[rand::random_range(..candidates.len())]))
    }

    /// Whether another server passes on the notifications of all others, as far as is known, and this one does not.
    pub(crate) fn has_better_subscription_node(&self, node: &Node) -> bool {
        self.map().has_better_subscription_node(node)
    }

    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.shared.map.read())
    }

    async fn discover(&self) -> Result<()> {
        self.watch();
        self.shared.ask(CHECK_INTERVAL).await
    }

    /// The server to which a call was redirected. The watcher learns the rest of the change.
    pub(crate) fn redirected(&self, from: &Node, redirect: &Redirect) -> Option<Arc<Node>> {
        self.shared.ask_now.notify_one();
        let Source::Cluster(cluster) = &self.shared.source else { return None };
        let address = cluster::redirect_address(redirect, &from.endpoint().address)?;
        Some(self.shared.node_at(&self.map(), cluster.endpoint(address)))
    }

    /// Adds the address of the server to an error, if there may be several servers.
    pub(crate) fn name_server(&self, node: &Node, error: CallError) -> CallError {
        let named = |text| format!("{}: {text}", node.endpoint().address);
        match error {
            CallError::Failed(Error::Unavailable(text)) if self.may_change() => {
                CallError::Failed(Error::Unavailable(named(text)))
            }
            CallError::Failed(Error::NotPermitted(text)) if self.may_change() => {
                CallError::Failed(Error::NotPermitted(named(text)))
            }
            other => other,
        }
    }

    /// Notes that a call has failed: the topology may have changed.
    pub(crate) fn note_failure(&self) {
        self.watch();
        self.shared.ask_now.notify_one();
    }

    fn watch(&self) {
        if self.may_change() {
            self.watcher.get_or_init(|| AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self.shared).keep_current())));
        }
    }
}

impl TopologyState {
    /// Keeps the topology current, for as long as the task lives.
    async fn keep_current(self: Arc<Self>) {
        match &self.source {
            // A former primary may accept writes for a while, which are lost. So no call fails, but a Sentinel announces it.
            Source::Sentinels(sentinels) => {
                tokio::join!(self.ask_repeatedly(), sentinels.listen(|| self.ask_now.notify_one()));
            }
            Source::Server(_) | Source::Cluster(_) => self.ask_repeatedly().await,
        }
    }

    async fn ask_repeatedly(&self) {
        let mut asked_at = Instant::now();
        let mut progress: Vec<(u64, u64)> = Vec::new();
        let mut away = HashSet::new();
        loop {
            let is_urgent = timeout(CHECK_INTERVAL, self.ask_now.notified()).await.is_ok();
            let nodes = self.map.read().nodes.clone();
            self.log_away(&nodes, &mut away);
            let before = std::mem::replace(&mut progress, nodes.iter().map(|node| node.progress()).collect());
            // A server hangs if none of its calls has ended since the last check, though some are open.
            let hangs = progress
                .iter()
                .zip(&before)
                .any(|((begun, ended), (_, ended_before))| begun > ended && ended == ended_before);
            let interval = if self.trouble.lock().is_some() { TROUBLE_INTERVAL } else { QUIET_INTERVAL };
            if is_urgent || hangs || asked_at.elapsed() >= interval {
                // The error is in `trouble`.
                let _ = self.ask(Duration::ZERO).await;
                asked_at = Instant::now();
                if is_urgent {
                    sleep(CHECK_INTERVAL).await;
                }
            }
        }
    }

    /// Logs the servers that went away or came back since the last check.
    fn log_away(&self, nodes: &[Arc<Node>], away: &mut HashSet<Address>) {
        let topology = self.source.name();
        away.retain(|address| nodes.iter().any(|node| node.endpoint().address == *address));
        for node in nodes {
            let address = &node.endpoint().address;
            if node.is_away() {
                if away.insert(address.clone()) {
                    warn!(topology, server = %address, "this server of Redis does not answer");
                }
            } else if away.remove(address) {
                info!(topology, server = %address, "this server of Redis answers again");
            }
        }
    }

    /// Asks for the topology, unless it was asked for within `max_age`.
    async fn ask(&self, max_age: Duration) -> Result<()> {
        let mut asked_at = self.asking.lock().await;
        if asked_at.is_some_and(|asked_at| asked_at.elapsed() < max_age) {
            return Ok(());
        }
        let known = Arc::clone(&self.map.read());
        let found = match &self.source {
            Source::Server(_) => return Ok(()),
            Source::Sentinels(sentinels) => {
                let primary = sentinels.primary(known.config_epoch).await;
                primary.map(|(primary, config_epoch)| Map::of_one(self.node_at(&known, primary), config_epoch))
            }
            Source::Cluster(cluster) => cluster
                .view(known.nodes.iter().map(|node| node.endpoint()))
                .await
                .map(|view| Map::of_cluster(view, |address| self.node_at(&known, cluster.endpoint(address)))),
        };
        *asked_at = Some(Instant::now());
        let trouble = match found {
            Ok(map) => {
                let map = Arc::new(map);
                let old = std::mem::replace(&mut *self.map.write(), Arc::clone(&map));
                self.change(&old, &map);
                self.redirects.lock().clear();
                map.trouble()
            }
            Err(error) => Some(error),
        };
        self.note_trouble(trouble.clone());
        // A part of the slots may be served although others are not.
        match trouble {
            Some(trouble) if self.map.read().nodes.is_empty() => Err(Error::Unavailable(trouble)),
            _ => Ok(()),
        }
    }

    /// Why no server is known for a slot.
    fn why_unknown(&self, slot: Slot) -> String {
        let trouble = self.trouble.lock().clone();
        trouble.unwrap_or_else(|| format!("no server of the cluster has slot {}", slot.index()))
    }

    /// The server at this endpoint, with the connections that this process has already.
    fn node_at(&self, map: &Map, endpoint: Endpoint) -> Arc<Node> {
        let mut redirects = self.redirects.lock();
        let is_there = |node: &&Arc<Node>| node.endpoint().address == endpoint.address;
        if let Some(known) = map.nodes.iter().find(is_there).or_else(|| redirects.iter().find(is_there)) {
            return Arc::clone(known);
        }
        let is_up = self.calls.server(self.source.name(), &endpoint.address);
        let node = Node::new(endpoint, is_up);
        redirects.push(Arc::clone(&node));
        node
    }

    /// Ends the calls to servers that are no longer primaries.
    fn change(&self, old: &Map, new: &Map) {
        let topology = self.source.name();
        for node in new.absent_from(old) {
            info!(topology, server = %node.endpoint().address, "calls go to this server of Redis now");
        }
        for node in old.absent_from(new) {
            let address = &node.endpoint().address;
            warn!(topology, server = %address, "this server of Redis is no longer a primary: its calls are ended");
            node.retire();
        }
    }

    fn note_trouble(&self, trouble: Option<String>) {
        let before = std::mem::replace(&mut *self.trouble.lock(), trouble.clone());
        match (before, trouble) {
            (None, Some(trouble)) => {
                warn!(topology = self.source.name(), trouble, "the servers of Redis are not all known, asking again");
            }
            (Some(_), None) => info!(topology = self.source.name(), "the servers of Redis are all known again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use deadpool_redis::redis::{self, RedisConnectionInfo};
    use drover_tests::{RedisCluster, RedisServer, TIME_LIMIT};
    use prometheus_client::{encoding::prometheus_text, registry::Registry};
    use tokio::task::JoinSet;

    use super::*;
    use crate::redis::{node::Sending, shared_connection::Asking};

    fn node(port: u16) -> Arc<Node> {
        let address = Address::Tcp("127.0.0.1".into(), port);
        let endpoint = Endpoint { address, login: RedisConnectionInfo::default().set_skip_set_lib_name(), tls: None };
        let is_up = Calls::default().server("cluster", &endpoint.address);
        Node::new(endpoint, is_up)
    }

    #[tokio::test]
    async fn metric_of_a_server_that_only_a_redirection_named_goes_when_no_call_needs_it() {
        let cluster = RedisCluster::start(1, 0);
        let seed = node(cluster.servers[0].port()).endpoint().clone();
        let calls = Arc::<Calls>::default();
        let topology = Topology::new(Source::Cluster(Cluster { seeds: vec![seed] }), Arc::clone(&calls));
        let known = topology.nodes().await.unwrap();
        let redirect = Redirect("127.0.0.1:1".into());
        let redirected = topology.redirected(&known[0], &redirect).unwrap();
        assert!(!is_answered(&redirected).await);
        let page = || {
            let (mut registry, mut text) = (Registry::default(), String::new());
            calls.register(&mut registry);
            prometheus_text::encode(&mut text, &registry).unwrap();
            text
        };
        let away = "drover_redis_server_up{topology=\"cluster\",server=\"127.0.0.1:1\"} 0";
        assert!(page().contains(away), "{}", page());
        drop(redirected);
        timeout(TIME_LIMIT, async {
            while page().contains(away) {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the watcher asks for the topology after a redirection");
        let there = format!("server=\"127.0.0.1:{}\"", cluster.servers[0].port());
        assert!(page().contains(&there), "{}", page());
    }

    #[test]
    fn subscription_leaves_a_server_only_for_a_better_one() {
        let nodes = [1, 2].map(node);
        let map = |cut_off: &[u16]| Map {
            nodes: nodes.to_vec(),
            cut_off: cut_off.iter().map(|port| Address::Tcp("127.0.0.1".into(), *port)).collect(),
            ..Map::default()
        };
        assert!(map(&[1]).has_better_subscription_node(&nodes[0]));
        assert!(!map(&[2]).has_better_subscription_node(&nodes[0]));
        assert!(!map(&[1, 2]).has_better_subscription_node(&nodes[0]), "the whole cluster is away");
    }

    async fn is_answered(node: &Node) -> bool {
        let (command, limit) = (redis::cmd("PING"), Duration::from_secs(20));
        let sending = Sending { command: &command, script: None, wait: None, asking: Asking::No };
        node.send(sending, Instant::now() + limit, limit).await.is_ok()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn server_that_is_no_longer_a_primary_gets_no_call() {
        let server = RedisServer::start();
        for round in 0..100 {
            let node = node(server.port());
            let mut calls = JoinSet::new();
            for _ in 0..8 {
                let node = Arc::clone(&node);
                calls.spawn(async move { is_answered(&node).await });
            }
            // Some of the connections are open by then.
            sleep(Duration::from_micros(20 * round)).await;
            node.retire();
            calls.join_all().await;
            for _ in 0..3 {
                assert!(!is_answered(&node).await, "round {round}");
            }
        }
    }
}

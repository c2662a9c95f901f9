//! The servers that calls go to: one server, the primary that Sentinels name, or the primaries of a cluster.
//!
//! While a call fails or hangs, a watcher asks for the topology every 250 ms, and ends the calls to a server that is no longer a
//! primary. While calls succeed, the watcher asks every 5 s, and when a Sentinel announces a fail-over.

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

/// The interval at which the watcher checks whether calls fail or hang, and asks for the topology while calls fail or hang.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The interval at which the watcher asks for the topology while calls succeed, but the topology or a part of it is unknown.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which the watcher asks for the topology while calls succeed.
const QUIET_INTERVAL: Duration = Duration::from_secs(5);

/// Where the servers are, as `redis.url` says.
#[derive(Clone)]
pub(crate) enum TopologySource {
    /// One server.
    Server(Endpoint),
    /// The primary that Sentinels name.
    Sentinels(Sentinels),
    /// The primaries of a cluster.
    Cluster(Cluster),
}

impl TopologySource {
    /// Returns the name of this kind of topology, for logs and metrics.
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
    /// The task that keeps the topology current. The task starts when the topology is first asked for or a call first fails.
    watcher: OnceLock<AbortOnDropHandle<()>>,
}

struct TopologyState {
    source: TopologySource,
    calls: Arc<Calls>,
    map: RwLock<Arc<SlotMap>>,
    /// The servers to which calls were redirected and that the map does not have yet, so that many calls share their connections.
    redirects: Mutex<Vec<Arc<Node>>>,
    /// The time of the last answer. The lock is held while the topology is asked for.
    asked_at: AsyncMutex<Option<Instant>>,
    /// Notified when a call has failed, or when a Sentinel has announced a fail-over.
    ask_now: Notify,
    /// The reason why the topology or a part of it is unknown, if it is. A change between known and unknown is logged.
    trouble: Mutex<Option<String>>,
}

/// Which server has which slot.
#[derive(Default)]
pub(crate) struct SlotMap {
    nodes: Vec<Arc<Node>>,
    /// For each slot the index of its server in `nodes`; the list is empty if one server has all slots.
    owners: Vec<Option<u16>>,
    /// The servers of a cluster that do not pass on all notifications.
    cut_off: Vec<Address>,
    /// The config epoch of the primary that Sentinels name.
    config_epoch: u64,
}

impl SlotMap {
    /// Returns a map in which one server has all slots.
    pub(crate) fn from_one_server(node: Arc<Node>, config_epoch: u64) -> Self {
        Self { nodes: vec![node], config_epoch, ..Self::default() }
    }

    /// Returns the map of a cluster.
    fn from_view(view: ClusterView, node_at: impl Fn(Address) -> Arc<Node>) -> Self {
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

    /// Returns the servers of this map that are not in the map `other`.
    fn nodes_absent_from<'m>(&'m self, other: &'m Self) -> impl Iterator<Item = &'m Arc<Node>> {
        self.nodes.iter().filter(|node| !other.nodes.iter().any(|other| Arc::ptr_eq(node, other)))
    }

    /// Returns how many slots of a cluster have no server, as a text; `None` if every slot has a server.
    fn trouble(&self) -> Option<String> {
        let missing_slots = self.owners.iter().filter(|owner| owner.is_none()).count();
        (missing_slots > 0)
            .then(|| format!("{missing_slots} of the {} slots of the cluster have no server", Slot::COUNT))
    }
}

impl Topology {
    pub(crate) fn new(source: TopologySource, calls: Arc<Calls>) -> Self {
        let map = match &source {
            TopologySource::Server(endpoint) => {
                let up_gauge = calls.server_gauge(source.name(), &endpoint.address);
                SlotMap::from_one_server(Node::new(endpoint.clone(), up_gauge), 0)
            }
            TopologySource::Sentinels(_) | TopologySource::Cluster(_) => SlotMap::default(),
        };
        let initial_state = TopologyState {
            source,
            calls,
            map: RwLock::new(Arc::new(map)),
            redirects: Mutex::default(),
            asked_at: AsyncMutex::default(),
            ask_now: Notify::new(),
            trouble: Mutex::default(),
        };
        Self { shared: Arc::new(initial_state), watcher: OnceLock::new() }
    }

    /// Returns where the servers are, so that another topology can be made with its own connections.
    pub(crate) fn source(&self) -> &TopologySource {
        &self.shared.source
    }

    /// Whether another server may take over the work of a server that fails.
    pub(crate) fn may_change(&self) -> bool {
        !matches!(self.shared.source, TopologySource::Server(_))
    }

    /// Returns the server that has this slot, if the server is known.
    pub(crate) fn known_owner(&self, slot: Slot) -> Option<Arc<Node>> {
        self.shared.map.read().owner(slot).cloned()
    }

    /// Asks for the topology, and returns the server that has this slot.
    pub(crate) async fn find_owner(&self, slot: Slot) -> Result<Arc<Node>> {
        self.discover().await?;
        self.known_owner(slot).ok_or_else(|| Error::Unavailable(self.shared.reason_of_unknown_owner(slot)))
    }

    /// Returns all servers that calls go to: one server, or all primaries of a cluster.
    pub(crate) async fn nodes(&self) -> Result<Vec<Arc<Node>>> {
        if self.map().nodes.is_empty() {
            self.discover().await?;
        }
        let nodes = self.map().nodes.clone();
        if nodes.is_empty() {
            Err(Error::Unavailable(self.shared.reason_of_unknown_owner(Slot::FIRST)))
        } else {
            Ok(nodes)
        }
    }

    /// Returns a server for subscriptions. Each server of a cluster passes on the notifications of all other servers.
    pub(crate) async fn subscription_node(&self) -> Result<Arc<Node>> {
        let nodes = self.nodes().await?;
        let map = self.map();
        let connected_nodes: Vec<_> = nodes.iter().filter(|node| map.passes_on_notifications(node)).collect();
        let candidates = if connected_nodes.is_empty() { nodes.iter().collect() } else { connected_nodes };
        Ok(Arc::clone(candidates[rand::random_range(..candidates.len())]))
    }

    /// Whether this server does not pass on all notifications, and another server does, as far as is known.
    pub(crate) fn has_better_subscription_node(&self, node: &Node) -> bool {
        self.map().has_better_subscription_node(node)
    }

    fn map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.shared.map.read())
    }

    async fn discover(&self) -> Result<()> {
        self.watch();
        self.shared.refresh(CHECK_INTERVAL).await
    }

    /// Returns the server to which a call was redirected, and makes the watcher ask for the topology.
    pub(crate) fn node_of_redirect(&self, from: &Node, redirect: &Redirect) -> Option<Arc<Node>> {
        self.shared.ask_now.notify_one();
        let TopologySource::Cluster(cluster) = &self.shared.source else { return None };
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

    /// Makes the watcher ask for the topology, because a call has failed and the topology may have changed.
    pub(crate) fn note_failure(&self) {
        self.watch();
        self.shared.ask_now.notify_one();
    }

    fn watch(&self) {
        if self.may_change() {
            self.watcher
                .get_or_init(|| AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self.shared).keep_topology_current())));
        }
    }
}

impl TopologyState {
    /// Keeps the topology current, for as long as the task lives.
    async fn keep_topology_current(self: Arc<Self>) {
        match &self.source {
            // A former primary may accept writes for a while, and these writes are lost. As no call fails, only the announcement of a
            // Sentinel tells that the primary is another server.
            TopologySource::Sentinels(sentinels) => {
                tokio::join!(self.refresh_repeatedly(), sentinels.listen(|| self.ask_now.notify_one()));
            }
            TopologySource::Server(_) | TopologySource::Cluster(_) => self.refresh_repeatedly().await,
        }
    }

    async fn refresh_repeatedly(&self) {
        let mut last_ask_time = Instant::now();
        let mut call_counts: Vec<(u64, u64)> = Vec::new();
        let mut away_servers = HashSet::new();
        loop {
            let is_urgent = timeout(CHECK_INTERVAL, self.ask_now.notified()).await.is_ok();
            let nodes = self.map.read().nodes.clone();
            self.log_away_nodes(&nodes, &mut away_servers);
            let earlier_counts =
                std::mem::replace(&mut call_counts, nodes.iter().map(|node| node.call_counts()).collect());
            // A server hangs if calls to it are open, and none of them has ended since the last check.
            let has_hanging_calls = call_counts
                .iter()
                .zip(&earlier_counts)
                .any(|((begun, ended), (_, ended_before))| begun > ended && ended == ended_before);
            let interval = if self.trouble.lock().is_some() { TROUBLE_INTERVAL } else { QUIET_INTERVAL };
            if is_urgent || has_hanging_calls || last_ask_time.elapsed() >= interval {
                // The error needs no handling here, because `refresh` has stored it in `trouble`.
                let _ = self.refresh(Duration::ZERO).await;
                last_ask_time = Instant::now();
                if is_urgent {
                    sleep(CHECK_INTERVAL).await;
                }
            }
        }
    }

    /// Logs the servers that went away or came back since the last check.
    fn log_away_nodes(&self, nodes: &[Arc<Node>], away: &mut HashSet<Address>) {
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

    /// Asks for the topology, unless the last answer is younger than `max_age`.
    async fn refresh(&self, max_age: Duration) -> Result<()> {
        let mut asked_at = self.asked_at.lock().await;
        if asked_at.is_some_and(|asked_at| asked_at.elapsed() < max_age) {
            return Ok(());
        }
        let known_map = Arc::clone(&self.map.read());
        let discovery = match &self.source {
            TopologySource::Server(_) => return Ok(()),
            TopologySource::Sentinels(sentinels) => {
                let primary = sentinels.primary(known_map.config_epoch).await;
                primary.map(|(primary, config_epoch)| {
                    SlotMap::from_one_server(self.node_at(&known_map, primary), config_epoch)
                })
            }
            TopologySource::Cluster(cluster) => cluster
                .view(known_map.nodes.iter().map(|node| node.endpoint()))
                .await
                .map(|view| SlotMap::from_view(view, |address| self.node_at(&known_map, cluster.endpoint(address)))),
        };
        *asked_at = Some(Instant::now());
        let new_trouble = match discovery {
            Ok(map) => {
                let map = Arc::new(map);
                let old = std::mem::replace(&mut *self.map.write(), Arc::clone(&map));
                self.retire_former_primaries(&old, &map);
                self.redirects.lock().clear();
                map.trouble()
            }
            Err(error) => Some(error),
        };
        self.note_trouble(new_trouble.clone());
        // While some slots have a server, calls to these slots go on, so the trouble of other slots is no error here.
        match new_trouble {
            Some(new_trouble) if self.map.read().nodes.is_empty() => Err(Error::Unavailable(new_trouble)),
            _ => Ok(()),
        }
    }

    /// Returns the reason why no server is known for a slot.
    fn reason_of_unknown_owner(&self, slot: Slot) -> String {
        let last_trouble = self.trouble.lock().clone();
        last_trouble.unwrap_or_else(|| format!("no server of the cluster has slot {}", slot.index()))
    }

    /// Returns the server at this endpoint, with the connections of this process to that server, if there are any.
    fn node_at(&self, map: &SlotMap, endpoint: Endpoint) -> Arc<Node> {
        let mut redirects = self.redirects.lock();
        let is_same_address = |node: &&Arc<Node>| node.endpoint().address == endpoint.address;
        if let Some(known) = map.nodes.iter().find(is_same_address).or_else(|| redirects.iter().find(is_same_address)) {
            return Arc::clone(known);
        }
        let up_gauge = self.calls.server_gauge(self.source.name(), &endpoint.address);
        let node = Node::new(endpoint, up_gauge);
        redirects.push(Arc::clone(&node));
        node
    }

    /// Ends the calls to servers that are no longer primaries, and logs which servers are new and which are no longer primaries.
    fn retire_former_primaries(&self, old: &SlotMap, new: &SlotMap) {
        let topology = self.source.name();
        for node in new.nodes_absent_from(old) {
            info!(topology, server = %node.endpoint().address, "calls go to this server of Redis now");
        }
        for node in old.nodes_absent_from(new) {
            let address = &node.endpoint().address;
            warn!(topology, server = %address, "this server of Redis is no longer a primary: its calls are ended");
            node.retire();
        }
    }

    fn note_trouble(&self, trouble: Option<String>) {
        let earlier_trouble = std::mem::replace(&mut *self.trouble.lock(), trouble.clone());
        match (earlier_trouble, trouble) {
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
    use crate::redis::{node::CallCommands, shared_connection::SendsAsking};

    fn node(port: u16) -> Arc<Node> {
        let address = Address::Tcp("127.0.0.1".into(), port);
        let endpoint = Endpoint { address, login: RedisConnectionInfo::default().set_skip_set_lib_name(), tls: None };
        let up_gauge = Calls::default().server_gauge("cluster", &endpoint.address);
        Node::new(endpoint, up_gauge)
    }

    #[tokio::test]
    async fn metric_of_a_server_known_only_from_a_redirection_ends_when_no_call_uses_the_server() {
        let cluster = RedisCluster::start(1, 0);
        let seed = node(cluster.servers[0].port()).endpoint().clone();
        let calls = Arc::<Calls>::default();
        let topology = Topology::new(TopologySource::Cluster(Cluster { seeds: vec![seed] }), Arc::clone(&calls));
        let known_nodes = topology.nodes().await.unwrap();
        let redirect = Redirect("127.0.0.1:1".into());
        let redirected_node = topology.node_of_redirect(&known_nodes[0], &redirect).unwrap();
        assert!(!is_answered(&redirected_node).await);
        let page = || {
            let (mut registry, mut text) = (Registry::default(), String::new());
            calls.register(&mut registry);
            prometheus_text::encode(&mut text, &registry).unwrap();
            text
        };
        let away_series = "drover_redis_server_up{topology=\"cluster\",server=\"127.0.0.1:1\"} 0";
        assert!(page().contains(away_series), "{}", page());
        drop(redirected_node);
        timeout(TIME_LIMIT, async {
            while page().contains(away_series) {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the watcher asks for the topology after a redirection");
        let server_label = format!("server=\"127.0.0.1:{}\"", cluster.servers[0].port());
        assert!(page().contains(&server_label), "{}", page());
    }

    #[test]
    fn subscription_leaves_a_server_only_for_a_better_one() {
        let nodes = [1, 2].map(node);
        let map = |cut_off: &[u16]| SlotMap {
            nodes: nodes.to_vec(),
            cut_off: cut_off.iter().map(|port| Address::Tcp("127.0.0.1".into(), *port)).collect(),
            ..SlotMap::default()
        };
        assert!(map(&[1]).has_better_subscription_node(&nodes[0]));
        assert!(!map(&[2]).has_better_subscription_node(&nodes[0]));
        assert!(!map(&[1, 2]).has_better_subscription_node(&nodes[0]), "the whole cluster is away");
    }

    async fn is_answered(node: &Node) -> bool {
        let (command, limit) = (redis::cmd("PING"), Duration::from_secs(20));
        let commands = CallCommands { command: &command, script: None, wait: None, asking: SendsAsking::No };
        node.send(commands, Instant::now() + limit, limit).await.is_ok()
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
            // After the pause, some of the connections are open.
            sleep(Duration::from_micros(20 * round)).await;
            node.retire();
            calls.join_all().await;
            for _ in 0..3 {
                assert!(!is_answered(&node).await, "round {round}");
            }
        }
    }
}

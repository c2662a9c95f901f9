//! The servers of Redis that are known now, and the watcher that keeps this knowledge current.
//!
//! While a call fails or hangs, the watcher asks for the topology every 250 ms, and ends the calls to a server that is no longer a
//! primary. While calls succeed, the watcher asks every 5 s, and when a Sentinel announces a fail-over.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::{slot_map::SlotMap, source::TopologySource};
use crate::{
    error::{Error, Result},
    redis::{
        calls::Calls,
        endpoint::{Address, Endpoint},
        keys::Slot,
        node::Node,
    },
};

/// The interval at which the watcher checks whether calls fail or hang, and asks for the topology while calls fail or hang.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The interval at which the watcher asks for the topology while calls succeed, but the topology or a part of it is unknown.
const ASK_INTERVAL_WHILE_UNKNOWN: Duration = Duration::from_secs(1);
/// The interval at which the watcher asks for the topology while calls succeed.
const ASK_INTERVAL: Duration = Duration::from_secs(5);

/// The servers of Redis to which calls go now, and the source (the server, Sentinels or cluster) that is asked for these servers.
pub(super) struct TopologyState {
    pub(super) source: TopologySource,
    calls: Arc<Calls>,
    pub(super) map: RwLock<Arc<SlotMap>>,
    /// The servers to which calls were redirected and that `map` does not have yet. Many calls to such a server share its
    /// connections, because the server is kept here.
    redirects: Mutex<Vec<Arc<Node>>>,
    /// The time at which the last request for the topology ended. The lock of `asked_at` is held during a request for the topology.
    asked_at: AsyncMutex<Option<Instant>>,
    /// Notified when a call has failed, or when a Sentinel has announced a fail-over.
    pub(super) ask_now: Notify,
    /// The reason why the topology or a part of it is unknown, if it is. The watcher logs when the topology becomes unknown or
    /// known.
    trouble: Mutex<Option<String>>,
}

impl TopologyState {
    pub(super) fn new(source: TopologySource, calls: Arc<Calls>) -> Self {
        let initial_map = match &source {
            TopologySource::Server(endpoint) => {
                let up_gauge = calls.server_gauge(source.name(), &endpoint.address);
                SlotMap::from_one_server(Node::new(endpoint.clone(), up_gauge), 0)
            }
            TopologySource::Sentinels(_) | TopologySource::Cluster(_) => SlotMap::default(),
        };
        Self {
            source,
            calls,
            map: RwLock::new(Arc::new(initial_map)),
            redirects: Mutex::default(),
            asked_at: AsyncMutex::default(),
            ask_now: Notify::new(),
            trouble: Mutex::default(),
        }
    }

    /// Keeps the topology current, for as long as the task lives.
    pub(super) async fn keep_topology_current(self: Arc<Self>) {
        match &self.source {
            // A former primary may accept writes for a while, and these writes are lost. As no call to a former primary fails, only
            // the announcement of a Sentinel tells that another server is the primary.
            TopologySource::Sentinels(sentinels) => {
                tokio::join!(self.refresh_repeatedly(), sentinels.listen(|| self.ask_now.notify_one()));
            }
            TopologySource::Server(_) | TopologySource::Cluster(_) => self.refresh_repeatedly().await,
        }
    }

    async fn refresh_repeatedly(&self) {
        let mut last_ask_time = Instant::now();
        let mut call_counts: Vec<(u64, u64)> = Vec::new();
        let mut servers_without_answer = HashSet::new();
        loop {
            let is_urgent = timeout(CHECK_INTERVAL, self.ask_now.notified()).await.is_ok();
            let nodes = self.map.read().nodes.clone();
            self.log_nodes_without_answer(&nodes, &mut servers_without_answer);
            let earlier_counts =
                std::mem::replace(&mut call_counts, nodes.iter().map(|node| node.call_counts()).collect());
            // A server hangs if calls to it are open, and none of them has ended since the last check.
            let has_hanging_calls = call_counts
                .iter()
                .zip(&earlier_counts)
                .any(|((begun, ended), (_, ended_before))| begun > ended && ended == ended_before);
            let interval = if self.trouble.lock().is_some() { ASK_INTERVAL_WHILE_UNKNOWN } else { ASK_INTERVAL };
            if is_urgent || has_hanging_calls || last_ask_time.elapsed() >= interval {
                // An error of `refresh` needs no handling here, because `refresh` has stored the error in `trouble`.
                let _ = self.refresh(Duration::ZERO).await;
                last_ask_time = Instant::now();
                if is_urgent {
                    sleep(CHECK_INTERVAL).await;
                }
            }
        }
    }

    /// Logs the servers that went away or came back since the last check.
    fn log_nodes_without_answer(&self, nodes: &[Arc<Node>], away: &mut HashSet<Address>) {
        let topology = self.source.name();
        away.retain(|address| nodes.iter().any(|node| node.endpoint().address == *address));
        for node in nodes {
            let address = &node.endpoint().address;
            if node.is_not_answering() {
                if away.insert(address.clone()) {
                    warn!(topology, server = %address, "this server of Redis does not answer");
                }
            } else if away.remove(address) {
                info!(topology, server = %address, "this server of Redis answers again");
            }
        }
    }

    /// Asks for the topology, unless the last answer is younger than `max_age`.
    pub(super) async fn refresh(&self, max_age: Duration) -> Result<()> {
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
            Ok(new_map) => {
                let new_map = Arc::new(new_map);
                let old_map = std::mem::replace(&mut *self.map.write(), Arc::clone(&new_map));
                self.retire_former_primaries(&old_map, &new_map);
                self.redirects.lock().clear();
                new_map.trouble()
            }
            Err(error) => Some(error),
        };
        self.note_topology_trouble(new_trouble.clone());
        // While some slots have a server, calls to these slots go on, so the trouble of other slots is no error here.
        match new_trouble {
            Some(new_trouble) if self.map.read().nodes.is_empty() => Err(Error::Unavailable(new_trouble)),
            _ => Ok(()),
        }
    }

    /// Returns the reason why no server is known for a slot.
    pub(super) fn reason_of_unknown_owner(&self, slot: Slot) -> String {
        let last_trouble = self.trouble.lock().clone();
        last_trouble.unwrap_or_else(|| format!("no server of the cluster has slot {}", slot.index()))
    }

    /// Returns the server at this endpoint, with the connections of this process to that server, if there are any.
    pub(super) fn node_at(&self, map: &SlotMap, endpoint: Endpoint) -> Arc<Node> {
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
    fn retire_former_primaries(&self, old_map: &SlotMap, new_map: &SlotMap) {
        let topology = self.source.name();
        for node in new_map.nodes_absent_from(old_map) {
            info!(topology, server = %node.endpoint().address, "calls go to this server of Redis now");
        }
        for node in old_map.nodes_absent_from(new_map) {
            let address = &node.endpoint().address;
            warn!(topology, server = %address, "this server of Redis is no longer a primary: its calls are ended");
            node.retire();
        }
    }

    fn note_topology_trouble(&self, trouble: Option<String>) {
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

//! The servers that calls go to: one server, the primary that Sentinels name, or the primaries of a cluster.

use std::sync::{Arc, OnceLock};

use tokio_util::task::AbortOnDropHandle;

use self::{
    slot_map::SlotMap,
    watcher::{CHECK_INTERVAL, TopologyState},
};
use crate::{
    error::{Error, Result},
    redis::{call_error::CallError, calls::Calls, cluster, keys::Slot, node::Node, send_error::Redirect},
};

mod slot_map;
mod source;
mod watcher;

pub(crate) use source::TopologySource;

/// The servers that calls go to now.
pub(crate) struct Topology {
    shared: Arc<TopologyState>,
    /// The watcher, the task that keeps the topology current. The watcher starts when the topology is first asked for or a call
    /// first fails.
    watcher: OnceLock<AbortOnDropHandle<()>>,
}

impl Topology {
    pub(crate) fn new(source: TopologySource, calls: Arc<Calls>) -> Self {
        Self { shared: Arc::new(TopologyState::new(source, calls)), watcher: OnceLock::new() }
    }

    /// Returns where the servers are, so that another topology can be made with its own connections.
    pub(crate) fn source(&self) -> &TopologySource {
        &self.shared.source
    }

    /// Whether another server may take over the work of a server that fails.
    pub(crate) fn servers_may_change(&self) -> bool {
        !matches!(self.shared.source, TopologySource::Server(_))
    }

    /// Returns the server that has this slot, if the server is known.
    pub(crate) fn known_owner(&self, slot: Slot) -> Option<Arc<Node>> {
        self.shared.map.read().owner(slot).cloned()
    }

    /// Asks for the topology, and returns the server that has this slot.
    pub(crate) async fn find_owner(&self, slot: Slot) -> Result<Arc<Node>> {
        self.ask_for_topology().await?;
        self.known_owner(slot).ok_or_else(|| Error::Unavailable(self.shared.reason_of_unknown_owner(slot)))
    }

    /// Returns all servers that calls go to: one server, or all primaries of a cluster.
    pub(crate) async fn nodes(&self) -> Result<Vec<Arc<Node>>> {
        if self.current_map().nodes.is_empty() {
            self.ask_for_topology().await?;
        }
        let nodes = self.current_map().nodes.clone();
        if nodes.is_empty() {
            Err(Error::Unavailable(self.shared.reason_of_unknown_owner(Slot::FIRST)))
        } else {
            Ok(nodes)
        }
    }

    /// Returns a server for subscriptions. Each server of a cluster passes on the notifications of all other servers.
    pub(crate) async fn subscription_node(&self) -> Result<Arc<Node>> {
        let nodes = self.nodes().await?;
        let current_map = self.current_map();
        let connected_nodes: Vec<_> = nodes.iter().filter(|node| current_map.passes_on_notifications(node)).collect();
        let candidates = if connected_nodes.is_empty() { nodes.iter().collect() } else { connected_nodes };
        Ok(Arc::clone(candidates[rand::random_range(..candidates.len())]))
    }

    /// Whether, as far as is known, this server of a cluster does not pass on the notifications of all servers, and another server
    /// does.
    pub(crate) fn has_better_subscription_node(&self, node: &Node) -> bool {
        self.current_map().has_better_subscription_node(node)
    }

    fn current_map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.shared.map.read())
    }

    async fn ask_for_topology(&self) -> Result<()> {
        self.start_watcher();
        self.shared.refresh(CHECK_INTERVAL).await
    }

    /// Returns the server to which a call was redirected, and makes the watcher ask for the topology.
    pub(crate) fn node_of_redirect(&self, from: &Node, redirect: &Redirect) -> Option<Arc<Node>> {
        self.shared.ask_now.notify_one();
        let TopologySource::Cluster(cluster) = &self.shared.source else { return None };
        let address = cluster::redirect_address(redirect, &from.endpoint().address)?;
        Some(self.shared.node_at(&self.current_map(), cluster.endpoint(address)))
    }

    /// Adds the address of the server to an error, if there may be several servers.
    pub(crate) fn add_server_address(&self, node: &Node, error: CallError) -> CallError {
        let with_address = |text| format!("{}: {text}", node.endpoint().address);
        match error {
            CallError::Failed(Error::Unavailable(text)) if self.servers_may_change() => {
                CallError::Failed(Error::Unavailable(with_address(text)))
            }
            CallError::Failed(Error::NotPermitted(text)) if self.servers_may_change() => {
                CallError::Failed(Error::NotPermitted(with_address(text)))
            }
            other => other,
        }
    }

    /// Makes the watcher ask for the topology, because a call has failed and the topology may have changed.
    pub(crate) fn note_failure(&self) {
        self.start_watcher();
        self.shared.ask_now.notify_one();
    }

    fn start_watcher(&self) {
        if self.servers_may_change() {
            self.watcher
                .get_or_init(|| AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self.shared).keep_topology_current())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use deadpool_redis::redis::{self, RedisConnectionInfo};
    use drover_tests::{RedisCluster, RedisServer, TIME_LIMIT};
    use prometheus_client::{encoding::prometheus_text, registry::Registry};
    use tokio::{
        task::JoinSet,
        time::{Instant, sleep, timeout},
    };

    use super::*;
    use crate::redis::{
        cluster::Cluster,
        endpoint::{Address, Endpoint},
        node::CallCommands,
        shared_connection::SendsAsking,
    };

    pub(super) fn node(port: u16) -> Arc<Node> {
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
        let metrics_page = || {
            let (mut registry, mut text) = (Registry::default(), String::new());
            calls.register(&mut registry);
            prometheus_text::encode(&mut text, &registry).unwrap();
            text
        };
        let away_series = "drover_redis_server_up{topology=\"cluster\",server=\"127.0.0.1:1\"} 0";
        assert!(metrics_page().contains(away_series), "{}", metrics_page());
        drop(redirected_node);
        timeout(TIME_LIMIT, async {
            while metrics_page().contains(away_series) {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the watcher asks for the topology after a redirection");
        let server_label = format!("server=\"127.0.0.1:{}\"", cluster.servers[0].port());
        assert!(metrics_page().contains(&server_label), "{}", metrics_page());
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
            // After the pause before `node.retire()`, some of the eight concurrent calls have opened their connections and others
            // have not.
            sleep(Duration::from_micros(20 * round)).await;
            node.retire();
            calls.join_all().await;
            for _ in 0..3 {
                assert!(!is_answered(&node).await, "round {round}");
            }
        }
    }
}

//! Which server has which slot of a cluster, or which one server has all slots.

use std::{collections::HashMap, sync::Arc};

use crate::redis::{cluster::ClusterView, endpoint::Address, keys::Slot, node::Node};

/// Which server has which slot.
#[derive(Default)]
pub(super) struct SlotMap {
    pub(super) nodes: Vec<Arc<Node>>,
    /// For each slot the index of its server in `nodes`; the list is empty if one server has all slots.
    owners: Vec<Option<u16>>,
    /// The servers that do not reach most other servers of the cluster, and so do not pass on the notifications of all servers.
    cut_off: Vec<Address>,
    /// The config epoch of the primary that Sentinels name.
    pub(super) config_epoch: u64,
}

impl SlotMap {
    /// Returns a map in which one server has all slots.
    pub(super) fn from_one_server(node: Arc<Node>, config_epoch: u64) -> Self {
        Self { nodes: vec![node], config_epoch, ..Self::default() }
    }

    /// Returns the map of a cluster.
    pub(super) fn from_view(view: ClusterView, node_at: impl Fn(Address) -> Arc<Node>) -> Self {
        let ClusterView { slots, cut_off } = view;
        let mut slot_map = Self { cut_off, ..Self::default() };
        let mut indices: HashMap<&Address, u16> = HashMap::new();
        for address in &slots {
            let index = address.as_ref().map(|address| {
                *indices.entry(address).or_insert_with(|| {
                    slot_map.nodes.push(node_at(address.clone()));
                    u16::try_from(slot_map.nodes.len() - 1)
                        .expect("a cluster has at most 16,384 slots, each with one server")
                })
            });
            slot_map.owners.push(index);
        }
        slot_map
    }

    pub(super) fn owner(&self, slot: Slot) -> Option<&Arc<Node>> {
        match self.owners.get(slot.index()) {
            Some(owner) => self.nodes.get(usize::from((*owner)?)),
            None => self.nodes.first(),
        }
    }

    pub(super) fn passes_on_notifications(&self, node: &Node) -> bool {
        !self.cut_off.contains(&node.endpoint().address)
    }

    pub(super) fn has_better_subscription_node(&self, node: &Node) -> bool {
        !self.passes_on_notifications(node) && self.nodes.iter().any(|other| self.passes_on_notifications(other))
    }

    /// Returns the servers of this map that are not in the map `other`.
    pub(super) fn nodes_absent_from<'m>(&'m self, other: &'m Self) -> impl Iterator<Item = &'m Arc<Node>> {
        self.nodes.iter().filter(|node| !other.nodes.iter().any(|other| Arc::ptr_eq(node, other)))
    }

    /// Returns how many slots of a cluster have no server, as a text; `None` if every slot has a server.
    pub(super) fn trouble(&self) -> Option<String> {
        let missing_slots = self.owners.iter().filter(|owner| owner.is_none()).count();
        (missing_slots > 0)
            .then(|| format!("{missing_slots} of the {} slots of the cluster have no server", Slot::COUNT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::topology::tests::node;

    #[test]
    fn subscription_leaves_a_server_only_for_a_better_server() {
        let nodes = [1, 2].map(node);
        let map_without = |cut_off: &[u16]| SlotMap {
            nodes: nodes.to_vec(),
            cut_off: cut_off.iter().map(|port| Address::Tcp("127.0.0.1".into(), *port)).collect(),
            ..SlotMap::default()
        };
        assert!(map_without(&[1]).has_better_subscription_node(&nodes[0]));
        assert!(!map_without(&[2]).has_better_subscription_node(&nodes[0]));
        assert!(!map_without(&[1, 2]).has_better_subscription_node(&nodes[0]), "the whole cluster is away");
    }
}

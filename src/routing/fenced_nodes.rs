//! Nodes that the hosts' own cluster has fenced since they left.

use std::collections::BTreeSet;

use crate::wire::cluster::NodeId;

/// Nodes that were fenced, until they are back.
#[derive(Debug, Default)]
pub(super) struct FencedNodes {
    fenced: BTreeSet<NodeId>,
    /// Nodes that left the cluster, by what the group says, since the quorum service's last report.
    departing: BTreeSet<NodeId>,
}

impl FencedNodes {
    /// Notes that the group has lost a node.
    pub(super) fn depart(&mut self, node: NodeId) {
        self.departing.insert(node);
    }

    /// Notes that a process on a node has joined the group.
    pub(super) fn is_back(&mut self, node: NodeId) {
        self.departing.remove(&node);
        self.fenced.remove(&node);
    }

    /// Applies a report of the quorum service.
    pub(super) fn votes(&mut self, voters: &BTreeSet<NodeId>) {
        self.departing.clear();
        self.fenced.retain(|node| !voters.contains(node));
    }

    /// Notes that a node was fenced, unless it is up by the quorum service's last report and has not been
    /// lost since; returns true if that is a change.
    pub(super) fn add(&mut self, node: NodeId, voters: &BTreeSet<NodeId>) -> bool {
        let is_lost = !voters.contains(&node) || self.departing.contains(&node);
        is_lost && self.fenced.insert(node)
    }

    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.fenced.contains(&node)
    }
}

//! Corosync as the cpg thread uses it: traits, so that faults can be tested.

use std::os::fd::BorrowedFd;

use fence_virt::routing::Peer;
use fence_virt::sys::corosync::{ClusterEvent, CorosyncError, GroupHandle, Libraries};
use fence_virt::wire::cluster::{GROUP, NodeId};

/// Access to the group.
pub(crate) trait GroupConnector: Send + 'static {
    type Member: GroupMember;

    /// Joins the group.
    fn join(&self) -> Result<Self::Member, CorosyncError>;
}

/// Membership in the group; it ends when dropped.
pub(crate) trait GroupMember {
    /// This process as a member.
    fn peer(&self) -> Peer;
    /// Descriptors to poll for input.
    fn fds(&self) -> [BorrowedFd<'_>; 2];
    /// Appends at most `limit` events; true if no more are there.
    fn dispatch(&mut self, limit: usize, heard: &mut Vec<ClusterEvent>) -> Result<bool, CorosyncError>;
    /// Sends a message to all members.
    fn send(&mut self, message: &[u8]) -> Result<(), CorosyncError>;
    /// Returns once corosync has answered a query.
    fn await_answer(&mut self) -> Result<(), CorosyncError>;
    /// Returns the nodes that corosync's nodelist names; none if that is not known.
    fn configured_nodes(&mut self) -> Result<Option<Vec<NodeId>>, CorosyncError>;
    /// Leaves the group, so that the other members are notified at once.
    fn leave(self);
}

impl GroupConnector for Libraries {
    type Member = GroupHandle;

    fn join(&self) -> Result<GroupHandle, CorosyncError> {
        GroupHandle::join(self, GROUP)
    }
}

impl GroupMember for GroupHandle {
    fn peer(&self) -> Peer {
        Peer { node: NodeId(self.node()), pid: self.pid() }
    }

    fn fds(&self) -> [BorrowedFd<'_>; 2] {
        GroupHandle::fds(self)
    }

    fn dispatch(&mut self, limit: usize, heard: &mut Vec<ClusterEvent>) -> Result<bool, CorosyncError> {
        GroupHandle::dispatch(self, limit, heard)
    }

    fn send(&mut self, message: &[u8]) -> Result<(), CorosyncError> {
        GroupHandle::send(self, message)
    }

    fn await_answer(&mut self) -> Result<(), CorosyncError> {
        self.local_id().map(|_| ())
    }

    fn configured_nodes(&mut self) -> Result<Option<Vec<NodeId>>, CorosyncError> {
        let nodes = GroupHandle::configured_nodes(self)?;
        Ok(nodes.map(|nodes| nodes.into_iter().map(NodeId).collect()))
    }

    fn leave(self) {
        GroupHandle::leave(self, GROUP);
    }
}

//! What the thread needs of corosync.

use std::os::fd::BorrowedFd;

use fence_virt::routing::Peer;
use fence_virt::sys::corosync::{ClusterEvent, CorosyncError, GroupHandle, Libraries};
use fence_virt::wire::cluster::GROUP;

/// Where the group can be joined.
pub(crate) trait Engine: Send + 'static {
    /// A place in the group.
    type Seat: Seat;

    /// Joins it.
    fn join(&self) -> Result<Self::Seat, CorosyncError>;
}

/// A place in the group, held until it is dropped.
pub(crate) trait Seat {
    /// Whose.
    fn peer(&self) -> Peer;
    /// What to poll for input.
    fn fds(&self) -> [BorrowedFd<'_>; 2];
    /// Hears at most so many things; whether that was all.
    fn dispatch(&mut self, limit: usize, heard: &mut Vec<ClusterEvent>) -> Result<bool, CorosyncError>;
    /// Sends to all.
    fn send(&mut self, message: &[u8]) -> Result<(), CorosyncError>;
    /// Returns when corosync has answered something.
    fn await_answer(&mut self) -> Result<(), CorosyncError>;
    /// Leaves, for the others to know it at once.
    fn leave(self);
}

impl Engine for Libraries {
    type Seat = GroupHandle;

    fn join(&self) -> Result<GroupHandle, CorosyncError> {
        GroupHandle::join(self, GROUP)
    }
}

impl Seat for GroupHandle {
    fn peer(&self) -> Peer {
        Peer { node: self.node(), pid: self.pid() }
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

    fn leave(self) {
        GroupHandle::leave(self, GROUP);
    }
}

//! Corosync as the cpg thread uses it: traits, so that faults can be tested.

use std::os::fd::BorrowedFd;

use fence_virt::routing::Peer;
use fence_virt::sys::corosync::{Error, Heard, Libraries, Member};
use fence_virt::wire::cluster::GROUP;

/// Access to the group.
pub(crate) trait GroupConnector: Send + 'static {
    type Member: GroupMember;

    /// Joins the group.
    fn join(&self) -> Result<Self::Member, Error>;
}

/// Membership in the group; it ends when dropped.
pub(crate) trait GroupMember {
    /// This process as a member.
    fn peer(&self) -> Peer;
    /// Descriptors to poll for input.
    fn fds(&self) -> [BorrowedFd<'_>; 2];
    /// Appends at most `limit` events; true if no more are there.
    fn dispatch(&mut self, limit: usize, heard: &mut Vec<Heard>) -> Result<bool, Error>;
    /// Sends a message to all members.
    fn send(&mut self, message: &[u8]) -> Result<(), Error>;
    /// Returns once corosync has answered a query.
    fn await_answer(&mut self) -> Result<(), Error>;
    /// Leaves the group, so that the other members are notified at once.
    fn leave(self);
}

impl GroupConnector for Libraries {
    type Member = Member;

    fn join(&self) -> Result<Member, Error> {
        Member::join(self, GROUP)
    }
}

impl GroupMember for Member {
    fn peer(&self) -> Peer {
        Peer { node: self.node(), pid: self.pid() }
    }

    fn fds(&self) -> [BorrowedFd<'_>; 2] {
        Member::fds(self)
    }

    fn dispatch(&mut self, limit: usize, heard: &mut Vec<Heard>) -> Result<bool, Error> {
        Member::dispatch(self, limit, heard)
    }

    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        Member::send(self, message)
    }

    fn await_answer(&mut self) -> Result<(), Error> {
        self.local_id().map(|_| ())
    }

    fn leave(self) {
        Member::leave(self, GROUP);
    }
}

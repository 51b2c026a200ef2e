//! What the thread needs of corosync.

use std::os::fd::BorrowedFd;

use fence_virt::routing::Peer;
use fence_virt::sys::corosync::{Error, Heard, Libraries, Member};
use fence_virt::wire::cluster::{GROUP, NodeId};

/// Where the group can be joined.
pub(crate) trait Engine: Send + 'static {
    /// A place in the group.
    type Seat: Seat;

    /// Joins it.
    fn join(&self) -> Result<Self::Seat, Error>;
}

/// A place in the group, held until it is dropped.
pub(crate) trait Seat {
    /// Whose.
    fn peer(&self) -> Peer;
    /// What to poll for input.
    fn fds(&self) -> [BorrowedFd<'_>; 2];
    /// Hears at most so many things; whether that was all.
    fn dispatch(&mut self, limit: usize, heard: &mut Vec<Heard>) -> Result<bool, Error>;
    /// Sends to all.
    fn send(&mut self, message: &[u8]) -> Result<(), Error>;
    /// Returns when corosync has answered something.
    fn await_answer(&mut self) -> Result<(), Error>;
    /// Leaves, for the others to know it at once.
    fn leave(self);
}

impl Engine for Libraries {
    type Seat = Member;

    fn join(&self) -> Result<Member, Error> {
        Member::join(self, GROUP)
    }
}

impl Seat for Member {
    fn peer(&self) -> Peer {
        Peer { node: NodeId(self.node()), pid: self.pid() }
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

//! Corosync's closed process groups, quorum and nodelist, through libcpg, libquorum and libcmap:
//! cpg_overview(3), quorum_overview(3), cmap_overview(3).
//!
//! The libraries are opened at run time, so that neither build nor installation needs corosync. All calls on
//! a [`GroupHandle`] must come from the thread that made it. They block while corosync is frozen. Dispatching
//! needs more than 1 MiB of stack (a buffer of libcpg): give that thread [`STACK_SIZE`].

mod callbacks;
mod cmap;
mod error;
mod event;
mod group_handle;
mod libraries;

pub use error::CorosyncError;
pub use event::{ClusterEvent, LeaveReason, LeftMember, MESSAGE_KEPT_MAX, MembershipChange};
pub use group_handle::{GroupHandle, STACK_SIZE};
pub use libraries::Libraries;

//! Corosync's closed process groups and its quorum, by libcpg and libquorum:
//! cpg_overview(3), quorum_overview(3).
//!
//! The libraries are opened when they are asked for, so that nobody needs
//! corosync to build or to install. All calls on a [`GroupHandle`] are made by the
//! thread that joined. They may block as long as corosync is frozen, and
//! dispatching takes a stack of more than 1 MiB (libcpg has a buffer of that
//! size on it): give that thread [`STACK_SIZE`].

mod callbacks;
mod error;
mod event;
mod group_handle;
mod libraries;

pub use error::CorosyncError;
pub use event::{ClusterEvent, LeaveReason, LeftMember, MESSAGE_KEPT_MAX, MembershipChange};
pub use group_handle::{GroupHandle, STACK_SIZE};
pub use libraries::Libraries;

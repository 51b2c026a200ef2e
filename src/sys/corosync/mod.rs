//! Corosync's closed process groups and its quorum, by libcpg and libquorum:
//! cpg_overview(3), quorum_overview(3).
//!
//! The libraries are opened when they are asked for, so that nobody needs
//! corosync to build or to install. All calls on a [`Member`] are made by the
//! thread that joined. They may block as long as corosync is frozen, and
//! dispatching takes a stack of more than 1 MiB (libcpg has a buffer of that
//! size on it): give that thread [`STACK`].

mod callbacks;
mod error;
mod event;
mod group_handle;
mod libraries;

pub use error::Error;
pub use event::{Change, Departure, Heard, KEPT};
pub use group_handle::{Member, STACK};
pub use libraries::Libraries;

//! The cpg backend: the VMs of all hosts of a corosync cluster.
//!
//! The libvirt backend carries out what concerns this host, a thread speaks
//! with corosync, watchers tell which VMs are here, and [`fence_virt::routing`]
//! decides. What stands here brings them together, in the worker's thread; it
//! never waits for another host.

mod backend;
#[cfg(test)]
pub(crate) mod fake;
mod link;
mod membership;
mod start;
mod thread;

pub(crate) use link::{GroupLink, GroupThread, Tidings};
pub(crate) use start::{check, start, warn_of_delay};

//! The cpg backend: the VMs of all hosts of a corosync cluster.
//!
//! | part | does |
//! | --- | --- |
//! | [`backend`] | joins clients' requests, group events and the libvirt backend, in the worker's thread |
//! | [`requests`], [`group_events`], [`actions`] | its parts: what clients ask, what the group says, what the router decides |
//! | [`local_calls`] | the calls that the router makes on this host |
//! | [`thread`] | the only caller of libcpg: joins, reads, sends; decides nothing |
//! | [`link`] | the worker's end of that thread |
//! | [`nodelist`] | the nodes that corosync's configuration names |
//! | [`group_member`] | corosync behind a trait |
//! | [`shared`] | what thread and worker exchange |
//! | [`host_fencing`] | which lost hosts pacemaker's fencer has fenced |
//! | [`mod@start`] | the start |
//!
//! [`fence_virt::routing`] decides which host carries a request out and when it has succeeded.
#![forbid(unsafe_code)]

mod actions;
mod backend;
#[cfg(test)]
mod fake;
mod group_events;
mod group_member;
mod host_fencing;
mod link;
mod local_calls;
mod nodelist;
mod requests;
#[cfg(test)]
mod scripted;
mod served_log;
mod shared;
mod start;
mod thread;

pub(crate) use start::{CpgThreads, check, settings, start, warn_of_delay};

//! `fence_virtd --doctor`: checks this host against its configuration, and
//! reports problems with their remedies. It changes nothing.
//!
//! 1. [`settings`] judges the file and its keys, [`process`] the running daemon,
//!    and [`multicast`], [`tcp`], [`vsock`], [`serial`] each listener's part of
//!    the host ([`network`] and [`sockets`] read it).
//! 2. [`ask`] queries libvirt, corosync, pacemaker and fence agents in parallel, with time limits.
//! 3. [`libvirt`], `agents`, [`cluster`], [`fencer`], [`serial`], [`groups`] and [`vm_keys`] judge the replies.
//!
//! Inspecting and judging are separate, so that tests can judge hosts that do not exist.

#[cfg(feature = "agent-backend")]
mod agents;
mod ask;
mod cluster;
mod fencer;
mod firewall;
mod groups;
mod holds;
mod libvirt;
mod multicast;
mod network;
mod process;
mod report;
mod run;
mod serial;
mod settings;
mod sockets;
mod tcp;
mod vm_keys;
mod vsock;

pub(crate) use run::run;

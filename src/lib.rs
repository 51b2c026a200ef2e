//! Fencing for clusters of virtual machines: library of the host daemon
//! `fence_virtd` and the agents `fence_xvm` and `fence_virt`. The daemon's own
//! modules, `src/bin/fence_virtd`, and libvirt are in its program only.
//!
//! A module imports only from its own layer and from lower ones;
//! `tests/floors.rs` checks it. ARCHITECTURE.md has the map.
//!
//! | layer | modules |
//! | --- | --- |
//! | 0 | [`time`], [`fence`], [`wire`], [`auth`]: vocabulary, codecs, keys and digests |
//! | 1 | [`session`], [`history`], [`groups`], [`origins`], [`quota`], `backlog`, `arbiter`, `routing`, `domain_xml`, `fence_agent`, `power_log`, `restraints`: state machines without sockets, files or clocks |
//! | 2 | `config`, [`key_file`], [`sys`] |
//! | 3 | [`client`]; the daemon |
#![deny(unsafe_code)]

pub mod auth;
pub mod client;
pub mod fence;
pub mod groups;
pub mod history;
pub mod key_file;
pub mod origins;
pub mod quota;
pub mod session;
pub mod sys;
pub mod time;
pub mod wire;

#[cfg(feature = "daemon")]
pub mod arbiter;
#[cfg(feature = "daemon")]
pub mod backlog;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod domain_xml;
#[cfg(feature = "daemon")]
pub mod fence_agent;
#[cfg(feature = "daemon")]
pub mod power_log;
#[cfg(feature = "daemon")]
pub mod restraints;
#[cfg(feature = "daemon")]
pub mod routing;

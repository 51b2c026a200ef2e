//! Fencing for clusters of virtual machines: the parts that the host daemon
//! `fence_virtd` is made of.
//!
//! The modules stand on floors, and a module imports only from its own floor
//! or from below; `tests/floors.rs` keeps it so. ARCHITECTURE.md has the map.
//!
//! | floor | modules |
//! | --- | --- |
//! | 0 | [`fence`], [`wire`], [`auth`]: vocabulary, codecs, keys and digests |
//! | 1 | [`session`], [`history`], [`groups`], [`quota`]: machines without sockets, files or clocks |
//! | 2 | [`config`], [`sys`] |
//! | 3 | [`daemon`] |
#![deny(unsafe_code)]

pub mod auth;
pub mod fence;
pub mod groups;
pub mod history;
pub mod quota;
pub mod session;
pub mod wire;

#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod sys;

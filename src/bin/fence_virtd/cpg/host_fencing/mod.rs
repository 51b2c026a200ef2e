//! Host fencing: which lost hosts pacemaker's fencer, on this host, has fenced.
//!
//! | part | does |
//! | --- | --- |
//! | [`thread`] | the only caller of libstonithd: connects, waits for events, asks for records |
//! | [`session`] | connections to the fencer, and what has happened since the last question |
//! | [`ledger`] | the records of each host: which of them are fences made since the host was last up |
//! | [`stays`] | stays of the hosts in the cluster; fences of hosts that are not lost yet |
//! | [`link`], [`mod@spawn`] | the worker's end of the thread; its start and end |
//! | [`shared`] | what thread and worker exchange |
//! | [`fencer`] | the fencer behind a trait |
//!
//! A fence counts for a host if its record was absent from an answer of the fencer to a question that was
//! asked while the host was up, or after it was lost, and has come since by the fencer's own observation. No
//! times of the fencer are compared. Records that the fencer takes over from other nodes, which may be of
//! any age, do not count, nor do "on" (unfencing) and confirmations by hand.

#[cfg(test)]
mod fake;
mod fencer;
mod ledger;
mod link;
mod session;
mod shared;
mod spawn;
mod stays;
mod thread;

#[cfg(test)]
pub(super) use fake::FakeFencer;
pub(super) use fencer::Pacemaker;
pub(super) use link::FencingLink;
pub(super) use spawn::{FencerThreadHandle, SpawnedFencer, spawn};

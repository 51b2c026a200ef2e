//! Data that the worker and the fencer's thread exchange.

use std::collections::BTreeMap;

use super::stays::StayNumber;
use fence_virt::wire::cluster::NodeId;

/// A command to the fencer's thread.
#[derive(Debug)]
pub(super) enum FencerCommand {
    /// There are hosts to take from [`SharedHosts`].
    HostsChanged,
    /// The fencer is to be asked, or not any more.
    Ask(bool),
    Stop,
}

/// Hosts as the worker knows them, for the thread.
#[derive(Debug, Default)]
pub(super) struct SharedHosts {
    stays: BTreeMap<NodeId, StayNumber>,
    /// The thread was told of a change, and has not taken it.
    is_announced: bool,
}

impl SharedHosts {
    /// Replaces the hosts; returns true if the thread has to be told. One that hangs is told once.
    pub(super) fn put(&mut self, stays: BTreeMap<NodeId, StayNumber>) -> bool {
        let is_change = self.stays != stays;
        self.stays = stays;
        is_change && !std::mem::replace(&mut self.is_announced, true)
    }

    pub(super) fn take(&mut self) -> BTreeMap<NodeId, StayNumber> {
        self.is_announced = false;
        self.stays.clone()
    }
}

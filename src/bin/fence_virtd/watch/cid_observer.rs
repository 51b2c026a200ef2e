//! Keeps the table of vsock CIDs up to date for one URI.

use std::time::Instant;

use super::Follower;
use crate::access::CidTable;
use crate::libvirt::DomainRun;
use fence_virt::domain_xml::Devices;
use fence_virt::fence::Uuid;

pub(super) struct CidObserver {
    pub(super) table: CidTable,
    /// Index of the URI.
    pub(super) uri: usize,
}

impl Follower for CidObserver {
    fn name(&self) -> &'static str {
        "vsock"
    }

    fn runs(&mut self, vm: &DomainRun, devices: Devices, _now: Instant) {
        self.table.insert(self.uri, vm.clone(), devices.cids);
    }

    fn gone(&mut self, uuid: Uuid) {
        self.table.remove(self.uri, uuid);
    }

    fn synced(&mut self, _uri: &str) {
        self.table.set_complete(self.uri, true);
    }

    fn lost(&mut self) {
        self.table.set_complete(self.uri, false);
    }
}

use std::time::Instant;

use super::domain_observer::DomainObserver;
use crate::access::CidTable;
use crate::libvirt::DomainRun;
use fence_virt::domain_xml::Devices;
use fence_virt::fence::{UriIndex, Uuid};

/// Observer that keeps the table of vsock CIDs up to date for one URI.
pub(super) struct CidObserver {
    pub(super) table: CidTable,
    pub(super) uri: UriIndex,
}

impl DomainObserver for CidObserver {
    fn running(&mut self, vm: &DomainRun, devices: Devices, _now: Instant) {
        self.table.insert(self.uri, vm.clone(), devices.cids);
    }

    fn stopped(&mut self, uuid: Uuid) {
        self.table.remove(self.uri, uuid);
    }

    fn synced(&mut self) {
        self.table.set_complete(self.uri, true);
    }

    fn lost(&mut self) {
        self.table.set_complete(self.uri, false);
    }
}

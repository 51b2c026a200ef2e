//! VMs by their vsock CIDs, as libvirt reports them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::libvirt::DomainRun;
use fence_virt::fence::{UriIndex, Uuid};
use fence_virt::sys::mutex::lock;

/// Reason given until every URI has listed its VMs.
const NOT_LISTED: &str = "libvirt has not listed its VMs yet, so the VM with this CID is unknown";

/// Holder of a CID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CidHolder {
    /// The run of a VM that had the CID when libvirt was last asked: ask whether it still runs.
    Vm { uri: UriIndex, vm: DomainRun },
    /// No VM has it.
    Nobody,
    /// The holder is unknown, with the reason.
    Unknown(&'static str),
}

/// CIDs of the VMs that run at each URI. The watchers write it, the worker reads it.
#[derive(Debug, Clone)]
pub(crate) struct CidTable(Arc<Mutex<Vec<UriCids>>>);

/// VMs with CIDs at one URI.
#[derive(Debug, Default)]
struct UriCids {
    /// True once all VMs that run were listed.
    is_complete: bool,
    vms: BTreeMap<Uuid, VmCids>,
}

#[derive(Debug)]
struct VmCids {
    vm: DomainRun,
    cids: Vec<u32>,
}

impl CidTable {
    /// Creates a table for this number of URIs.
    pub(crate) fn new(uris: usize) -> CidTable {
        CidTable(Arc::new(Mutex::new((0..uris).map(|_| UriCids::default()).collect())))
    }

    fn with(&self, uri: UriIndex, change: impl FnOnce(&mut UriCids)) {
        if let Some(known) = lock(&self.0).get_mut(uri.0) {
            change(known);
        }
    }

    /// Records the CIDs of a VM that runs.
    pub(crate) fn insert(&self, uri: UriIndex, vm: DomainRun, cids: Vec<u32>) {
        self.with(uri, |known| drop(known.vms.insert(vm.domain.uuid, VmCids { vm, cids })));
    }

    /// Forgets a VM that has stopped.
    pub(crate) fn remove(&self, uri: UriIndex, uuid: Uuid) {
        self.with(uri, |known| drop(known.vms.remove(&uuid)));
    }

    /// Records whether all VMs that run at a URI are known.
    pub(crate) fn set_complete(&self, uri: UriIndex, is_complete: bool) {
        self.with(uri, |known| known.is_complete = is_complete);
    }

    /// Holder of a CID. CIDs are unique on a host: if two VMs seem to have it, the holder is unknown.
    pub(crate) fn holder(&self, cid: u32) -> CidHolder {
        let known = lock(&self.0);
        let mut holders = known.iter().enumerate().flat_map(|(at, known)| {
            let has = known.vms.values().filter(|vm| vm.cids.contains(&cid));
            has.map(move |vm| {
                let holder = CidHolder::Vm { uri: UriIndex(at), vm: vm.vm.clone() };
                if known.is_complete { holder } else { CidHolder::Unknown(NOT_LISTED) }
            })
        });
        match (holders.next(), holders.next()) {
            (Some(_), Some(_)) => CidHolder::Unknown("two VMs have this CID"),
            (Some(holder), None) => holder,
            (None, _) if known.iter().all(|known| known.is_complete) => CidHolder::Nobody,
            (None, _) => CidHolder::Unknown(NOT_LISTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::fence::Domain;

    const FIRST: UriIndex = UriIndex(0);
    const SECOND: UriIndex = UriIndex(1);

    fn run(number: u8, id: u32) -> DomainRun {
        let uuid = Uuid::from_bytes([number; 16]);
        DomainRun { domain: Arc::new(Domain { name: format!("vm{number}"), uuid }), id }
    }

    #[test]
    fn a_cid_is_known_nobodys_or_not_listed_yet() {
        let table = CidTable::new(2);
        assert!(matches!(table.holder(3), CidHolder::Unknown(_)));
        table.insert(SECOND, run(1, 7), vec![3]);
        assert!(matches!(table.holder(3), CidHolder::Unknown(_)), "more may come");
        table.set_complete(SECOND, true);
        assert_eq!(table.holder(3), CidHolder::Vm { uri: SECOND, vm: run(1, 7) });
        assert!(matches!(table.holder(4), CidHolder::Unknown(_)), "the other URI has not listed");
        table.set_complete(FIRST, true);
        assert_eq!(table.holder(4), CidHolder::Nobody);
        table.insert(FIRST, run(2, 1), vec![3, 4]);
        assert!(matches!(table.holder(3), CidHolder::Unknown(_)), "two have it");
        table.remove(SECOND, run(1, 7).domain.uuid);
        assert_eq!(table.holder(3), CidHolder::Vm { uri: FIRST, vm: run(2, 1) });
        table.insert(FIRST, run(2, 2), vec![]);
        assert_eq!(table.holder(3), CidHolder::Nobody);
        table.insert(FIRST, run(2, 3), vec![3]);
        table.set_complete(FIRST, false);
        assert!(matches!(table.holder(3), CidHolder::Unknown(_)), "another VM may have it by now");
    }
}

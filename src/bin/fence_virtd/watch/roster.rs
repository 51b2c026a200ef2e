//! Which VM has which vsock CID, by what libvirt says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Follower, Running};
use fence_virt::domain_xml::Devices;
use fence_virt::fence::Uuid;

/// What is said while a URI is not heard.
const UNTOLD: &str = "libvirt has not told yet which VM has this CID";

/// Who has a CID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// This run of a VM had it when libvirt was last heard: ask whether it is
    /// still there. The place is that of its URI.
    Vm { uri: usize, vm: Running },
    /// No VM has it.
    Nobody,
    /// It cannot be told.
    Unknown(&'static str),
}

/// What is known, of each URI. The watchers write it, the worker reads it.
#[derive(Debug, Clone)]
pub(crate) struct Roster(Arc<Mutex<Vec<Known>>>);

/// What is known of one URI.
#[derive(Debug, Default)]
struct Known {
    is_synced: bool,
    vms: BTreeMap<Uuid, (Running, Vec<u32>)>,
}

impl Roster {
    pub(super) fn new(uris: usize) -> Roster {
        Roster(Arc::new(Mutex::new((0..uris).map(|_| Known::default()).collect())))
    }

    // Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of a single URI, with all VMs told: a run of a VM has this CID.
    #[cfg(test)]
    pub(crate) fn of(cid: u32, vm: &Running) -> Roster {
        let roster = Roster::new(1);
        let mut follower = roster.follower(0);
        follower.runs(vm, Devices { cids: vec![cid], ..Devices::default() }, Instant::now());
        follower.synced("test");
        roster
    }

    /// The one who keeps it up to date for the URI at this place.
    pub(super) fn follower(&self, place: usize) -> Cids {
        Cids { roster: self.clone(), place }
    }

    /// Who has this CID. CIDs are unique on a host: of two VMs that both seem
    /// to have it, neither counts.
    pub(crate) fn holder(&self, cid: u32) -> Holder {
        let known = self.lock();
        let mut holders = known.iter().enumerate().flat_map(|(uri, known)| {
            let has = known.vms.values().filter(|(_, cids)| cids.contains(&cid));
            has.map(move |(vm, _)| match known.is_synced {
                true => Holder::Vm { uri, vm: vm.clone() },
                false => Holder::Unknown(UNTOLD),
            })
        });
        match (holders.next(), holders.next()) {
            (Some(_), Some(_)) => Holder::Unknown("two VMs have this CID"),
            (Some(holder), None) => holder,
            (None, _) if known.iter().all(|known| known.is_synced) => Holder::Nobody,
            (None, _) => Holder::Unknown(UNTOLD),
        }
    }
}

/// Keeps the roster of one URI.
pub(super) struct Cids {
    roster: Roster,
    place: usize,
}

impl Cids {
    fn with(&self, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.roster.lock().get_mut(self.place) {
            change(known);
        }
    }
}

impl Follower for Cids {
    fn name(&self) -> &'static str {
        "vsock"
    }

    fn runs(&mut self, vm: &Running, devices: Devices, _now: Instant) {
        self.with(|known| drop(known.vms.insert(vm.domain.uuid, (vm.clone(), devices.cids))));
    }

    fn gone(&mut self, uuid: Uuid) {
        self.with(|known| drop(known.vms.remove(&uuid)));
    }

    fn synced(&mut self, _uri: &str) {
        self.with(|known| known.is_synced = true);
    }

    fn lost(&mut self) {
        self.with(|known| known.is_synced = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::fence::Domain;

    fn running(number: u8, run: u32) -> Running {
        let uuid = Uuid::from_bytes([number; 16]);
        Running { domain: Arc::new(Domain { name: format!("vm{number}"), uuid }), run }
    }

    fn cids(cids: &[u32]) -> Devices {
        Devices { cids: cids.to_vec(), ..Devices::default() }
    }

    #[test]
    fn a_cid_is_known_nobodys_or_not_told_yet() {
        let now = Instant::now();
        let roster = Roster::new(2);
        let (mut first, mut second) = (roster.follower(0), roster.follower(1));
        assert!(matches!(roster.holder(3), Holder::Unknown(_)));
        second.runs(&running(1, 7), cids(&[3]), now);
        assert!(matches!(roster.holder(3), Holder::Unknown(_)), "more may come");
        second.synced("second");
        assert_eq!(roster.holder(3), Holder::Vm { uri: 1, vm: running(1, 7) });
        assert!(matches!(roster.holder(4), Holder::Unknown(_)), "the other URI has not told");
        first.synced("first");
        assert_eq!(roster.holder(4), Holder::Nobody);
        first.runs(&running(2, 1), cids(&[3, 4]), now);
        assert!(matches!(roster.holder(3), Holder::Unknown(_)), "two have it");
        second.gone(running(1, 7).domain.uuid);
        assert_eq!(roster.holder(3), Holder::Vm { uri: 0, vm: running(2, 1) });
        first.runs(&running(2, 2), cids(&[]), now);
        assert_eq!(roster.holder(3), Holder::Nobody);
        first.runs(&running(2, 3), cids(&[3]), now);
        first.lost();
        assert!(matches!(roster.holder(3), Holder::Unknown(_)), "it may be another's by now");
    }
}

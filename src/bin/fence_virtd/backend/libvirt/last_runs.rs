//! URIs on which VMs ran last: a VM that has migrated from one URI to another of this daemon,
//! and is off there, is off.

use std::collections::{HashMap, HashSet};

use crate::inbox::DomainChange;
use fence_virt::fence::{UriIndex, Uuid};

/// The URI of each VM that was seen to run while the watchers followed all URIs. One entry at most
/// for each VM that its URI has.
pub(super) struct LastRuns {
    runs: HashMap<Uuid, UriIndex>,
    /// True for each URI whose watcher follows all its VMs.
    is_followed: Vec<bool>,
}

impl LastRuns {
    /// Makes the record for this number of URIs.
    pub(super) fn new(uris: usize) -> LastRuns {
        LastRuns { runs: HashMap::new(), is_followed: vec![false; uris] }
    }

    /// Takes over a change in the domains of a URI.
    pub(super) fn apply(&mut self, uri: UriIndex, change: &DomainChange) {
        match change {
            DomainChange::All(all) => {
                self.is_followed[uri.0] = true;
                let known: HashSet<Uuid> = all.iter().map(|vm| vm.uuid).collect();
                self.runs.retain(|uuid, at| *at != uri || known.contains(uuid));
                all.iter().filter(|vm| vm.is_active).for_each(|vm| self.saw_run(vm.uuid, uri));
            }
            DomainChange::One(vm) if vm.is_active => self.saw_run(vm.uuid, uri),
            DomainChange::One(_) => {}
            DomainChange::Gone(uuid) => {
                if self.runs.get(uuid) == Some(&uri) {
                    self.runs.remove(uuid);
                }
            }
            DomainChange::Lost => {
                self.is_followed[uri.0] = false;
                // The other VMs may run here unseen.
                self.runs.retain(|_, at| *at == uri);
            }
        }
    }

    /// Records that a VM runs on a URI, neither paused nor in transition.
    pub(super) fn saw_run(&mut self, vm: Uuid, uri: UriIndex) {
        if self.is_followed.iter().all(|is_followed| *is_followed) {
            self.runs.insert(vm, uri);
        }
    }

    /// URI on which a VM ran last; none if it may have run elsewhere since.
    pub(super) fn of(&self, vm: &str) -> Option<UriIndex> {
        self.runs.get(&Uuid::parse(vm)?).copied()
    }
}

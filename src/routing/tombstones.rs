//! VMs that this node advertised and no longer has. C daemons may still take them for this node's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::fence::Uuid;
use crate::wire::cluster::cut;

/// Maximum number of tombstones; then the oldest is dropped.
const TOMBSTONES_MAX: usize = 16_384;

/// Removed VMs with their names.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    names: BTreeMap<Uuid, String>,
    /// By name as advertised, in lower case.
    by_name: BTreeSet<(String, Uuid)>,
    /// By age, oldest first.
    by_age: VecDeque<Uuid>,
}

impl Tombstones {
    pub(super) fn insert(&mut self, uuid: Uuid, name: &str) {
        self.remove(uuid);
        while self.by_age.len() >= TOMBSTONES_MAX {
            let oldest = self.by_age.pop_front();
            oldest.into_iter().for_each(|uuid| self.forget(uuid));
        }
        let name = cut(name).to_lowercase();
        self.by_name.insert((name.clone(), uuid));
        self.names.insert(uuid, name);
        self.by_age.push_back(uuid);
    }

    /// Removes a VM that is here again, or elsewhere.
    pub(super) fn remove(&mut self, uuid: Uuid) {
        if self.names.contains_key(&uuid) {
            self.forget(uuid);
            self.by_age.retain(|&other| other != uuid);
        }
    }

    fn forget(&mut self, uuid: Uuid) {
        if let Some(name) = self.names.remove(&uuid) {
            self.by_name.remove(&(name, uuid));
        }
    }

    /// Returns true if a name or UUID refers to a removed VM.
    pub(super) fn contains(&self, text: &str) -> bool {
        let name = text.to_lowercase();
        let is_named = self.by_name.range((name.clone(), Uuid::from_bytes([0; 16]))..).next();
        is_named.is_some_and(|(found, _)| *found == name)
            || Uuid::parse(text).is_some_and(|uuid| self.names.contains_key(&uuid))
    }
}

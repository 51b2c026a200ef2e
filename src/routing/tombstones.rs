//! VMs that this node advertised and no longer has. C daemons may still take them for this node's, and no
//! other of ours answers for them: this node does, with failure, so that C daemons need not wait until
//! their requests are overdue, nor hear from a C daemon that a VM which has moved is unknown, thus off.
//! They block no name: VMs that any member has come first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::limits::GONE_LIMIT;
use crate::fence::Uuid;
use crate::time::Instant;
use crate::wire::cluster::cut;

/// Maximum number of tombstones; then the oldest is dropped.
const TOMBSTONES_MAX: usize = 16_384;

/// Removed VMs with their names.
#[derive(Debug, Clone, Default)]
pub(super) struct Tombstones {
    names: BTreeMap<Uuid, String>,
    /// By name as advertised, in lower case.
    by_name: BTreeSet<(String, Uuid)>,
    /// By age, oldest first, with the time of the removal.
    by_age: VecDeque<(Instant, Uuid)>,
}

impl Tombstones {
    pub(super) fn insert(&mut self, uuid: Uuid, name: &str, now: Instant) {
        self.remove(uuid);
        while self.by_age.len() >= TOMBSTONES_MAX {
            let oldest = self.by_age.pop_front();
            oldest.into_iter().for_each(|(_, uuid)| self.forget(uuid));
        }
        let name = cut(name).to_lowercase();
        self.by_name.insert((name.clone(), uuid));
        self.names.insert(uuid, name);
        self.by_age.push_back((now, uuid));
    }

    /// Removes a VM that is here again, or elsewhere.
    pub(super) fn remove(&mut self, uuid: Uuid) {
        if self.names.contains_key(&uuid) {
            self.forget(uuid);
            self.by_age.retain(|&(_, other)| other != uuid);
        }
    }

    /// Removes those that are older than [`GONE_LIMIT`].
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(_, uuid)) = self.by_age.front().filter(|(at, _)| now >= *at + GONE_LIMIT) {
            self.by_age.pop_front();
            self.forget(uuid);
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

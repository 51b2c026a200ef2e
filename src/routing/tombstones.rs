use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::fence::Uuid;
use crate::wire::cluster::cut;

/// How many VMs that are gone are remembered; then the oldest is forgotten.
const GONE_MAX: usize = 16_384;

/// VMs that were told and are gone, with their names: C daemons may still take
/// them for this node's.
#[derive(Debug, Default)]
pub(super) struct Gone {
    names: BTreeMap<Uuid, String>,
    /// By name as it is told, in lower case.
    by_name: BTreeSet<(String, Uuid)>,
    /// By when they went.
    order: VecDeque<Uuid>,
}

impl Gone {
    pub(super) fn insert(&mut self, uuid: Uuid, name: &str) {
        self.remove(uuid);
        while self.order.len() >= GONE_MAX {
            let oldest = self.order.pop_front();
            oldest.into_iter().for_each(|uuid| self.forget(uuid));
        }
        let name = cut(name).to_lowercase();
        self.by_name.insert((name.clone(), uuid));
        self.names.insert(uuid, name);
        self.order.push_back(uuid);
    }

    /// It is here again, or elsewhere.
    pub(super) fn remove(&mut self, uuid: Uuid) {
        if self.names.contains_key(&uuid) {
            self.forget(uuid);
            self.order.retain(|&other| other != uuid);
        }
    }

    fn forget(&mut self, uuid: Uuid) {
        if let Some(name) = self.names.remove(&uuid) {
            self.by_name.remove(&(name, uuid));
        }
    }

    /// Whether a name or UUID means one of them.
    pub(super) fn has(&self, text: &str) -> bool {
        let name = text.to_lowercase();
        let is_named = self.by_name.range((name.clone(), Uuid::from_bytes([0; 16]))..).next();
        is_named.is_some_and(|(found, _)| *found == name)
            || Uuid::parse(text).is_some_and(|uuid| self.names.contains_key(&uuid))
    }
}

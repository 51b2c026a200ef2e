use std::collections::HashMap;
use std::sync::Arc;

use super::{KeyId, MacKeys};
use crate::fence::KeyHolder;

/// Keys of VMs, each of which has its own, by their ids. One lookup a request, however many there are.
#[derive(Debug, Default)]
pub struct KeyRing(HashMap<KeyId, VmKey>);

/// Key of one VM.
#[derive(Debug, Clone)]
pub struct VmKey {
    /// VM that has it.
    pub holder: Arc<KeyHolder>,
    /// Keys that are derived from it.
    pub mac_keys: Arc<MacKeys>,
}

impl KeyRing {
    /// Adds a key. Returns the holder of a key with the same bytes, if there is one, which then stays.
    pub fn insert(&mut self, key: VmKey) -> Option<&Arc<KeyHolder>> {
        use std::collections::hash_map::Entry;
        match self.0.entry(key.mac_keys.id()) {
            Entry::Occupied(entry) => Some(&entry.into_mut().holder),
            Entry::Vacant(entry) => {
                entry.insert(key);
                None
            }
        }
    }

    /// Key with this id.
    pub fn get(&self, id: KeyId) -> Option<&VmKey> {
        self.0.get(&id)
    }

    /// All keys, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &VmKey> {
        self.0.values()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if no VM has a key of its own.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

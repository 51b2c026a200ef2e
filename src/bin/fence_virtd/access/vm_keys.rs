//! Keys that VMs have of their own, in a ring that all listeners share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use log::warn;

use super::key_file::{LoadedVmKey, examine_vm_key};
use super::key_reader::KeyReader;
use super::vm_key_files::{self, VmKeyFiles};
use crate::problem::Problem;
use fence_virt::auth::{Key, KeyRing, VmKey};
use fence_virt::config::VmKeysConfig;
use fence_virt::fence::{KeyHolder, KeyId, Uuid, counted, listed};

/// Maximum number of warnings about keys that are logged; the others are counted.
const WARNINGS_MAX: usize = 10;

/// Keys of VMs, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct VmKeys {
    pub(crate) ring: KeyRing,
    /// VMs that have a previous key, too.
    pub(crate) with_old: Vec<String>,
    /// Reasons why the keys cannot be used.
    pub(crate) errors: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

impl VmKeys {
    /// VMs whose UUID is not stated, sorted.
    pub(crate) fn without_uuid(&self) -> Vec<&str> {
        let holders = self.ring.iter().map(|key| &key.holder);
        let names: BTreeSet<&str> =
            holders.filter(|holder| holder.uuid.is_none()).map(|holder| holder.name.as_str()).collect();
        names.into_iter().collect()
    }
}

/// Reads all keys as this user would. No key is left out: with an error none of them is used.
pub(crate) fn read(config: &VmKeysConfig, reader: &KeyReader) -> VmKeys {
    let VmKeyFiles { files, errors } = vm_key_files::list(config, reader);
    let mut keys = VmKeys { errors, ..VmKeys::default() };
    for file in files {
        let name = &file.name;
        let LoadedVmKey { mac_keys, warnings } = match examine_vm_key(&file.path, reader) {
            Ok(loaded) => loaded,
            Err(problem) => {
                keys.errors.push(named(name, problem));
                continue;
            }
        };
        keys.warnings.extend(warnings.into_iter().map(|problem| named(name, problem)));
        keys.with_old.extend(file.is_old.then(|| name.clone()));
        let holder = KeyHolder { name: name.clone(), uuid: file.uuid, key: mac_keys.id() };
        let key = VmKey { holder: Arc::new(holder), mac_keys: Arc::new(mac_keys) };
        if let Some(other) = keys.ring.insert(key) {
            let what = match other.name == *name {
                true => format!("{} holds the same key as the other file of {name:?}", file.path.display()),
                false => {
                    format!("{} holds the same key as the file of {:?}", file.path.display(), other.name)
                }
            };
            keys.errors.push(named(name, Problem::new(what, "give each VM a key of its own")));
        }
    }
    if keys.ring.is_empty() && keys.errors.is_empty() && !config.is_shared {
        keys.warnings.push(Problem::new(
            "no VM has a key, and shared is no: every request is refused",
            "make keys with `fence_virtd --add-key NAME`",
        ));
    }
    keys
}

fn named(name: &str, Problem { what, remedy }: Problem) -> Problem {
    Problem::new(format!("key {name:?}: {what}"), remedy)
}

/// Reads the keys for the daemon; warnings go to the log.
/// Errors: a sentence about the first key that cannot be used.
pub(crate) fn load(config: &VmKeysConfig) -> Result<KeyRing, String> {
    let VmKeys { ring, errors, warnings, .. } = read(config, &KeyReader::this_process());
    if let [first, others @ ..] = errors.as_slice() {
        let more = match others.len() {
            0 => String::new(),
            more => {
                let more = counted(more, "further error");
                format!(" (and {more} of keys, which `fence_virtd --check` shows)")
            }
        };
        return Err(format!("keys: {first}{more}"));
    }
    for warning in warnings.iter().take(WARNINGS_MAX) {
        warn!("keys: {warning}");
    }
    if let Some(more @ 1..) = warnings.len().checked_sub(WARNINGS_MAX) {
        warn!("keys: and {more} more warnings, which `fence_virtd --check` shows");
    }
    Ok(ring)
}

/// Reason why a shared key cannot be used: a VM has it.
pub(crate) fn conflict(ring: &KeyRing, key: &Key, path: &Path) -> Option<Problem> {
    let holder = &ring.get(key.id())?.holder;
    let what = format!("the shared key {} is also the key of the VM {:?}", path.display(), holder.name);
    Some(Problem::new(what, "give the VM a key of its own (`fence_virtd --add-key`)"))
}

/// Says what a reload has changed, in words of bounded length; none without keys.
pub(crate) fn changes(old: &KeyRing, new: &KeyRing) -> Option<String> {
    let count = new.len();
    let (old, new) = (by_name(old), by_name(new));
    let lacking = |one: &ByName<'_>, other: &ByName<'_>| -> Vec<String> {
        one.keys().filter(|name| !other.contains_key(*name)).map(|name| format!("{name:?}")).collect()
    };
    let changed = old.iter().filter(|(name, keys)| new.get(*name).is_some_and(|now| now != *keys));
    let parts = [
        ("added", lacking(&new, &old)),
        ("removed", lacking(&old, &new)),
        ("changed", changed.map(|(name, _)| format!("{name:?}")).collect()),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(verb, names)| format!("{verb} {}", listed(names)))
        .collect();
    match parts.is_empty() {
        true => (count > 0).then(|| format!("{} of VMs read again", counted(count, "key"))),
        false => Some(format!("keys of VMs: {}", parts.join("; "))),
    }
}

/// Ids and UUIDs of the keys of each VM.
type ByName<'a> = BTreeMap<&'a str, BTreeSet<([u8; 16], Option<String>)>>;

fn by_name(ring: &KeyRing) -> ByName<'_> {
    let mut names = ByName::new();
    for VmKey { holder, .. } in ring.iter() {
        let entry = names.entry(holder.name.as_str()).or_default();
        entry.insert((KeyId::to_bytes(holder.key), holder.uuid.as_ref().map(Uuid::to_string)));
    }
    names
}

#[cfg(test)]
#[path = "vm_keys_tests.rs"]
mod tests;

//! Keys and groups of a configuration, as the threads use them. A reload builds them again.

use std::path::Path;
use std::sync::Arc;

use log::warn;

use crate::access::{key_file, vm_keys};
use fence_virt::auth::{Key, KeyRing};
use fence_virt::config::{AuthConfig, Config, GroupConfig, NamedListener};
use fence_virt::fence::ListenerName;
use fence_virt::groups::{Group, Groups};
use fence_virt::restraints::RestrainedGroup;
use fence_virt::session::Policy;

/// Maximum length of the name of a group in a message, in characters.
const LABEL_MAX: usize = 40;

/// Policies of the listeners, and the keys of VMs that they share.
#[derive(Debug)]
pub(crate) struct Policies {
    /// Listeners in the order of the configuration, with their policies; none for serial lines, which have no
    /// authentication.
    pub(crate) listeners: Vec<(ListenerName, Option<Arc<Policy>>)>,
    pub(crate) vm_keys: Arc<KeyRing>,
}

/// Reads the keys of VMs, and those of the listeners that run.
/// Errors: a sentence about a key that cannot be used, with its listener's name or its VM's.
pub(crate) fn load(config: &Config, runs: impl Fn(&ListenerName) -> bool) -> Result<Policies, String> {
    let vm_keys = Arc::new(vm_keys::load(&config.keys)?);
    let policy = |listener: &NamedListener| Ok((listener.name.clone(), policy(listener, &vm_keys)?));
    let listeners = config
        .listeners
        .iter()
        .filter(|listener| runs(&listener.name))
        .map(policy)
        .collect::<Result<_, String>>()?;
    Ok(Policies { listeners, vm_keys })
}

fn policy(listener: &NamedListener, vm_keys: &Arc<KeyRing>) -> Result<Option<Arc<Policy>>, String> {
    let Some(auth) = listener.config.auth() else { return Ok(None) };
    let load = |path: &Path| load_shared(&listener.name, path, vm_keys);
    let (key, old_key) = if auth.needs_key() {
        (load(&auth.key_file)?, auth.old_key_file.as_deref().map(load).transpose()?)
    } else {
        (Key::new(Vec::new()), None)
    };
    let AuthConfig { hash, auth, .. } = *auth;
    let policy = Policy::new(hash, auth, key, listener.config.endpoint());
    Ok(Some(Arc::new(Policy { old_key, vm_keys: vm_keys.clone(), ..policy })))
}

fn load_shared(name: &ListenerName, path: &Path, vm_keys: &KeyRing) -> Result<Key, String> {
    let loaded = key_file::load(path).map_err(|reason| format!("{name}: {reason}"))?;
    if let Some(problem) = vm_keys::conflict(vm_keys, &loaded.key, path) {
        return Err(format!("{name}: {problem}"));
    }
    for warning in &loaded.warnings {
        warn!("{name}: {warning}");
    }
    Ok(loaded.key)
}

/// Returns the key files of a listener.
pub(crate) fn key_files(auth: &AuthConfig) -> impl Iterator<Item = &Path> {
    let files = std::iter::once(&auth.key_file).chain(&auth.old_key_file);
    files.filter(|_| auth.needs_key()).map(|path| path.as_path())
}

/// Returns the groups of a configuration.
pub(crate) fn groups(config: &Config) -> Groups {
    let group = |(at, group): (usize, &GroupConfig)| {
        Group::new(&group.ips, &group.uuids)
            .with_sources(&group.sources)
            .with_targets(&group.targets)
            .allowing(group.rights)
            .only(group.listeners.clone())
            .labelled(label(at, group))
    };
    Groups::new(config.groups.iter().enumerate().map(group).collect())
}

/// Returns the groups of a configuration, as holds and caps go by them.
pub(crate) fn restrained_groups(config: &Config) -> Vec<RestrainedGroup> {
    let group = |(at, group): (usize, &GroupConfig)| {
        let vms = group.uuids.iter().chain(&group.targets).map(String::as_str);
        RestrainedGroup::new(group.name.as_deref(), label(at, group), vms, group.max_power_off)
    };
    config.groups.iter().enumerate().map(group).collect()
}

/// Name of a group in messages, from its position in the configuration if it has none: `"web"`, or `#2`.
pub(crate) fn label(at: usize, group: &GroupConfig) -> String {
    match &group.name {
        Some(name) if name.chars().count() > LABEL_MAX => {
            format!("{:?}...", name.chars().take(LABEL_MAX).collect::<String>())
        }
        Some(name) => format!("{name:?}"),
        None => format!("#{}", at + 1),
    }
}

//! Section `keys`: the keys that VMs have of their own.

use std::collections::HashMap;

use super::diagnostic_sink::{DiagnosticSink, quoted};
use super::fields::SectionFields;
use super::key_placement::{self, KEYS_SECTION};
use super::model::{ListenerConfig, NamedListener};
use super::tree::Section;
use super::values;
use super::vm_key_config::{VmKeyConfig, VmKeysConfig, vm_key_name};
use crate::fence::{SignatureKind, Uuid};

/// Reads the section. Reports what no listener can use.
pub(super) fn read(root: &Section, section: Option<&Section>, sink: &mut DiagnosticSink) -> VmKeysConfig {
    key_placement::check(root, sink);
    let Some(section) = section else { return VmKeysConfig::default() };
    let fields = SectionFields::of(Some(section), KEYS_SECTION, sink);
    let mut keys: Vec<VmKeyConfig> = Vec::new();
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut uuids: HashMap<Uuid, String> = HashMap::new();
    for inner in fields.sections("key") {
        let Some(key) = read_key(inner, sink) else { continue };
        if let Some(before) = names.insert(key.name.clone(), inner.at()) {
            let message = format!(
                "the key of {} is already on line {}; a VM has one key, and its previous one as old_file",
                quoted(&key.name),
                sink.line(before)
            );
            sink.error(inner.at(), message);
        }
        if let Some(uuid) = key.uuid {
            if let Some(other) = uuids.insert(uuid, key.name.clone()).filter(|other| *other != key.name) {
                let message = format!("the key of {} has this UUID already: {uuid}", quoted(&other));
                sink.error(inner.at(), message);
            }
        }
        keys.push(key);
    }
    let config = VmKeysConfig {
        is_shared: fields.read("shared", sink, values::boolean).unwrap_or(true),
        folder: fields.read("folder", sink, values::folder),
        keys,
    };
    if config.is_empty() && !sink.has_errors() {
        let message = match config.is_shared {
            true => "keys has no key and no folder: no VM has a key of its own",
            false => "keys has no key and no folder, and shared is no: every request is refused",
        };
        sink.warning(section.at(), message);
    }
    config
}

fn read_key(section: &Section, sink: &mut DiagnosticSink) -> Option<VmKeyConfig> {
    let fields = SectionFields::of(Some(section), "keys/key", sink);
    let Some(label) = section.label else {
        let message = "this key has no name; write key = \"NAME-OF-THE-VM\" { file = \"...\"; }";
        sink.error(section.at(), message);
        return None;
    };
    let name = vm_key_name(label.text).map_err(|message| sink.error(label.at, message)).ok();
    let of_name = Uuid::parse(label.text);
    let uuid = fields.read("uuid", sink, |text| match Uuid::parse(text.trim()) {
        None => Err(format!("expected the UUID of the VM, not {}", quoted(text))),
        Some(uuid) if of_name.is_some_and(|of_name| of_name != uuid) => {
            Err(format!("the name of this key reads as another UUID than {uuid}"))
        }
        Some(uuid) => Ok(uuid),
    });
    let old_file = fields.read("old_file", sink, values::file);
    if fields.value("file").is_none() {
        sink.error(section.at(), "this key has no file; add file = \"/path/of/the/key\";");
    }
    let file = fields.read("file", sink, values::file)?;
    Some(VmKeyConfig { name: name?, uuid: uuid.or(of_name), file, old_file })
}

/// Reports listeners that the section does not go with.
pub(super) fn check_listeners(
    config: &VmKeysConfig,
    section: Option<&Section>,
    listeners: &[NamedListener],
    sink: &mut DiagnosticSink,
) {
    let Some(at) = section.map(Section::at) else { return };
    let with_auth: Vec<(&NamedListener, SignatureKind)> =
        listeners.iter().filter_map(|listener| Some((listener, listener.config.auth()?.hash))).collect();
    if with_auth.is_empty() && (!config.is_empty() || !config.is_shared) && !listeners.is_empty() {
        let kinds: Vec<&str> = listeners.iter().map(|listener| listener.config.kind()).collect();
        let message = format!("no listener takes keys ({} has none): remove this section", kinds.join(", "));
        sink.error(at, message);
    }
    if config.is_shared {
        return;
    }
    for (listener, hash) in with_auth.iter().filter(|(_, hash)| *hash < SignatureKind::HmacSha256) {
        let name = &listener.name;
        let message = format!(
            "shared = \"no\" needs hash = \"hmac-sha256\" at listener {name}, which has {hash}: older requests are \
             signed with the shared key"
        );
        sink.error(at, message);
    }
}

/// Tells the listeners whether their shared keys count.
pub(super) fn set_shared(listeners: &mut [NamedListener], is_shared: bool) {
    for listener in listeners {
        let auth = match &mut listener.config {
            ListenerConfig::Tcp(tcp) => &mut tcp.auth,
            ListenerConfig::Multicast(multicast) => &mut multicast.auth,
            ListenerConfig::Vsock(vsock) => &mut vsock.auth,
            ListenerConfig::Serial(_) => continue,
        };
        auth.is_shared = is_shared;
    }
}

#[cfg(test)]
#[path = "vm_keys_tests.rs"]
mod tests;

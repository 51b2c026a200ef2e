//! `fence_virtd --add-key`: makes the key of one VM, and says what to do with it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::keys::create;
use crate::access::vm_key_files::ENDING;
use crate::access::{KeyReader, policies};
use crate::config_file;
use crate::console::{complain, print, warn_on_stderr};
use crate::pid_file;
use fence_virt::auth::{KEY_MAX, KeyId};
use fence_virt::config::{Config, VmKeyConfig, VmKeysConfig, vm_key_name};
use fence_virt::fence::Uuid;
use fence_virt::sys::error_text;

/// Directory of new keys without a folder in the configuration: that of the shared key.
const DEFAULT_FOLDER: &str = "/etc/cluster";

/// Path of the key in the VM.
const PATH_IN_VM: &str = "/etc/cluster/fence_xvm.key";

/// Key to make.
#[derive(Debug, PartialEq, Eq)]
struct NewKey {
    name: String,
    uuid: Option<Uuid>,
    path: PathBuf,
    place: KeyPlace,
}

/// Reason why the daemon will read a key.
#[derive(Debug, PartialEq, Eq)]
enum KeyPlace {
    /// It is in the folder of the configuration.
    Folder,
    /// The configuration names its file already, with or without the UUID.
    Named { lacks_uuid: bool },
    /// None: the configuration needs a line.
    Elsewhere,
}

/// Makes the key of a VM with the configuration at `path`, and prints what to do with it. Exit code 1: it was not made.
pub(crate) fn add_key(path: &Path, pid_file: &Path, vm: &str, uuid: Option<&str>) -> ExitCode {
    let made = read(path).and_then(|config| {
        let key = NewKey::plan(config.as_ref(), vm, uuid)?;
        let id = key.make()?;
        let reader = pid_file::running(pid_file).and_then(pid_file::user_of).map(KeyReader::of_user);
        Ok(key.report(path, config.as_ref(), id, reader.as_ref()))
    });
    match made {
        Ok(text) => print(&text),
        Err(reason) => complain(&format!("fence_virtd: {reason}\n")),
    }
}

/// Configuration, if there is one.
fn read(path: &Path) -> Result<Option<Config>, String> {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    config_file::load(path, false, &warn_on_stderr).map(Some)
}

impl NewKey {
    /// Decides where the key goes. Errors: a sentence about a wrong name or UUID, or another key of this VM.
    fn plan(config: Option<&Config>, vm: &str, uuid: Option<&str>) -> Result<NewKey, String> {
        let name = vm_key_name(vm)?;
        // No value of the configuration can hold a quotation mark, no name of a file a slash.
        if name.contains(['/', '"']) || name.starts_with('.') {
            return Err(format!(
                "no file can have the name {name:?}: write a section key yourself (fence_virt.conf(5)), with the UUID \
                 of the VM as its name"
            ));
        }
        let of_name = Uuid::parse(&name);
        let uuid = uuid
            .map(|text| Uuid::parse(text).ok_or_else(|| format!("{text:?} is not a UUID")))
            .transpose()?;
        if uuid.is_some() && of_name.is_some() && uuid != of_name {
            return Err(format!("the name {name:?} reads as another UUID"));
        }
        let uuid = uuid.or(of_name);
        let none = VmKeysConfig::default();
        let keys = config.map_or(&none, |config| &config.keys);
        let of_other = |key: &&VmKeyConfig| key.uuid.is_some() && key.uuid == uuid && key.name != name;
        if let Some(other) = keys.keys.iter().find(of_other) {
            return Err(format!("the key of {:?} has this UUID already", other.name));
        }
        if let Some(key) = keys.keys.iter().find(|key| key.name == name) {
            if uuid.is_some_and(|uuid| key.uuid.is_some_and(|known| known != uuid)) {
                return Err(format!("the configuration has another UUID for the key of {name:?}"));
            }
            let place = KeyPlace::Named { lacks_uuid: key.uuid.is_none() && uuid.is_some() };
            return Ok(NewKey { name, uuid: key.uuid.or(uuid), path: key.file.clone(), place });
        }
        let (folder, place) = match &keys.folder {
            Some(folder) => (folder.as_path(), KeyPlace::Folder),
            None => (Path::new(DEFAULT_FOLDER), KeyPlace::Elsewhere),
        };
        let path = folder.join(format!("{name}{ENDING}"));
        let listeners = config.map_or(&[][..], |config| &config.listeners);
        let mut shared =
            listeners.iter().filter_map(|listener| listener.config.auth()).flat_map(policies::key_files);
        if shared.any(|shared| shared == path) || path == Path::new(PATH_IN_VM) {
            return Err(format!(
                "{} is the file of a shared key: set `folder` in the section keys to a directory for keys of VMs",
                path.display()
            ));
        }
        Ok(NewKey { name, uuid, path, place })
    }

    /// Errors: a sentence; a file that exists is left unchanged.
    fn make(&self) -> Result<KeyId, String> {
        create(&self.path).map_err(|error| {
            let shown = self.path.display();
            match error.kind() {
                ErrorKind::AlreadyExists => format!(
                    "{shown} exists, and was left unchanged; to replace the key, rename that file and let it count as \
                     old_file until the VM has the new one (fence_virt.conf(5))"
                ),
                _ => format!("cannot create the key file {shown}: {}", error_text(&error)),
            }
        })
    }

    /// Section of the configuration for this key.
    fn line(&self) -> String {
        let uuid = self.uuid.map_or_else(String::new, |uuid| format!(" uuid = \"{uuid}\";"));
        format!("key = \"{}\" {{ file = \"{}\";{uuid} }}", self.name, self.path.display())
    }

    fn report(
        &self,
        config_path: &Path,
        config: Option<&Config>,
        id: KeyId,
        reader: Option<&KeyReader>,
    ) -> String {
        let NewKey { name, path, place, .. } = self;
        let (shown, config_shown) = (path.display(), config_path.display());
        let mut text =
            format!("made the key of {name:?}: {shown}, {KEY_MAX} random bytes, fingerprint {id}\n");
        let stated = self.uuid.filter(|_| Uuid::parse(name).is_none());
        text += &match (place, stated) {
            (KeyPlace::Named { lacks_uuid: true }, Some(uuid)) => format!(
                "\n{config_shown} names that file already. Add to its section, to state the UUID:\n  uuid = \"{uuid}\";\n"
            ),
            (KeyPlace::Named { .. }, _) => format!("\n{config_shown} names that file already.\n"),
            (KeyPlace::Folder, None) => {
                "\nThe daemon reads this folder: the configuration needs no line.\n".to_owned()
            }
            (KeyPlace::Folder, Some(_)) => format!(
                "\nThe daemon reads this folder. To state the UUID, add to the section keys {{ }} of {config_shown}:\n  {}\n",
                self.line()
            ),
            (KeyPlace::Elsewhere, _) => {
                format!("\nAdd to the section keys {{ }} of {config_shown}:\n  {}\n", self.line())
            }
        };
        if let Some(reader) = reader.filter(|reader| !reader.is_root()) {
            let folder = path.parent().unwrap_or(path).display();
            let (group, commands) = (reader.group(), reader.commands(path));
            text += &format!(
                "\nLet the user of the running daemon read it: `chgrp {group} {folder}; chmod 0750 {folder}`, {commands}\n"
            );
        }
        text += &format!(
            "\nCopy it to the VM alone, over a secure connection, and to the other hosts that may run the VM:\n  \
             scp -p {shown} root@VM:{PATH_IN_VM}\nIn the VM, `fence_virt --key-fingerprint` prints the fingerprint; it \
             asks with -c hmac-sha256.\n"
        );
        if config.is_none_or(|config| !config.groups.is_empty()) {
            let listed = self.uuid.map_or_else(|| name.clone(), |uuid| uuid.to_string());
            text += &format!(
                "\nTo let it fence the members of a group, add to that group:\n  uuid = \"{listed}\";\n"
            );
        }
        text + "\n`fence_virtd --reload` puts the key into force.\n"
    }
}

#[cfg(test)]
#[path = "add_key_tests.rs"]
mod tests;

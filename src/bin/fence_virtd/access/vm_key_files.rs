//! Files of the keys that VMs have of their own: those of the configuration, and those of the folder.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use log::debug;

use super::key_reader::KeyReader;
use crate::problem::Problem;
use fence_virt::config::{VmKeysConfig, vm_key_name};
use fence_virt::fence::{Uuid, listed};
use fence_virt::sys::error_text;

/// End of the name of a key's file in the folder.
pub(crate) const ENDING: &str = ".key";
/// End of the name of a previous key's file there.
pub(crate) const OLD_ENDING: &str = ".old-key";

/// File of a VM's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VmKeyFile {
    /// Name of the VM.
    pub(crate) name: String,
    pub(crate) uuid: Option<Uuid>,
    pub(crate) path: PathBuf,
    /// True for the previous key.
    pub(crate) is_old: bool,
}

/// Files of the keys of VMs, and reasons why they cannot be used.
#[derive(Debug, Default)]
pub(crate) struct VmKeyFiles {
    pub(crate) files: Vec<VmKeyFile>,
    pub(crate) errors: Vec<Problem>,
}

/// Lists the files; none of them is opened.
pub(crate) fn list(config: &VmKeysConfig, reader: &KeyReader) -> VmKeyFiles {
    let mut found = VmKeyFiles::default();
    for key in &config.keys {
        let file = |path: &PathBuf, is_old| VmKeyFile {
            name: key.name.clone(),
            uuid: key.uuid,
            path: path.clone(),
            is_old,
        };
        found.files.push(file(&key.file, false));
        found.files.extend(key.old_file.as_ref().map(|path| file(path, true)));
    }
    if let Some(folder) = &config.folder {
        found.add_folder(folder, reader);
    }
    found.check_names(config);
    found
}

impl VmKeyFiles {
    fn error(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.errors.push(Problem::new(what, remedy));
    }

    /// Adds the keys of the folder, but those that the configuration names itself.
    fn add_folder(&mut self, folder: &Path, reader: &KeyReader) {
        let names = match names_in(folder, reader) {
            Ok(names) => names,
            Err(problem) => return self.errors.push(problem),
        };
        let named: Vec<PathBuf> = self.files.iter().map(|file| file.path.clone()).collect();
        let named: std::collections::HashSet<&Path> = named.iter().map(PathBuf::as_path).collect();
        let mut ignored = Vec::new();
        let mut keys: BTreeMap<String, [Option<PathBuf>; 2]> = BTreeMap::new();
        for file_name in names {
            let path = folder.join(&file_name);
            let text = file_name.to_string_lossy();
            let stem = match (text.strip_suffix(ENDING), text.strip_suffix(OLD_ENDING)) {
                _ if text.starts_with('.') || named.contains(path.as_path()) => None,
                (Some(stem), _) => Some((stem, false)),
                (None, Some(stem)) => Some((stem, true)),
                (None, None) => None,
            };
            let Some((stem, is_old)) = stem else {
                ignored.extend((!named.contains(path.as_path())).then(|| text.into_owned()));
                continue;
            };
            match vm_key_name(stem) {
                Ok(name) if file_name.to_str().is_some() => {
                    keys.entry(name).or_default()[usize::from(is_old)] = Some(path);
                }
                _ => self.error(
                    format!("the name of {} is not the name of a VM", path.display()),
                    format!("rename it to NAME-OF-THE-VM{ENDING}, or move it away"),
                ),
            }
        }
        if !ignored.is_empty() {
            debug!("keys: {} has more than keys, which are ignored: {}", folder.display(), listed(ignored));
        }
        for (name, [current, old]) in keys {
            let uuid = Uuid::parse(&name);
            if let (None, Some(old)) = (&current, &old) {
                self.error(
                    format!("there is no {name}{ENDING} beside {}", old.display()),
                    "a previous key counts beside the current one only: rename it, or move it away",
                );
            }
            let file = |path, is_old| VmKeyFile { name: name.clone(), uuid, path, is_old };
            self.files.extend(current.map(|path| file(path, false)));
            self.files.extend(old.map(|path| file(path, true)));
        }
    }

    /// Reports names and UUIDs that are both in the configuration and in the folder.
    fn check_names(&mut self, config: &VmKeysConfig) {
        let current = || self.files.iter().filter(|file| !file.is_old);
        let of_sections: HashMap<&str, &Path> =
            config.keys.iter().map(|key| (key.name.as_str(), key.file.as_path())).collect();
        let mut uuids: HashMap<Uuid, &str> = HashMap::new();
        let mut errors = Vec::new();
        for file in current() {
            let section = of_sections.get(file.name.as_str()).filter(|path| **path != file.path);
            if let Some(section) = section {
                errors.push(Problem::new(
                    format!(
                        "the VM {:?} has two keys: {} in the section keys, and {}",
                        file.name,
                        section.display(),
                        file.path.display()
                    ),
                    "remove one of them; a previous key is old_file beside file",
                ));
            } else if let Some((other, uuid)) =
                file.uuid.and_then(|uuid| Some((uuids.insert(uuid, &file.name)?, uuid)))
            {
                errors.push(Problem::new(
                    format!("the keys of {other:?} and {:?} have the same UUID {uuid}", file.name),
                    "remove one of them",
                ));
            }
        }
        self.errors.extend(errors);
    }
}

/// Names in the folder, sorted.
/// Errors: it cannot be read, or others than root and the daemon can put keys into it.
fn names_in(folder: &Path, reader: &KeyReader) -> Result<Vec<std::ffi::OsString>, Problem> {
    let shown = folder.display();
    let unreadable = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => format!(
                "create it with `install -d -m 0700 {shown}`, or with its first key (`fence_virtd --add-key NAME`)"
            ),
            _ => "let the daemon read it".to_owned(),
        };
        Problem::new(format!("cannot read the folder of keys {shown}: {}", error_text(&error)), remedy)
    };
    let metadata = fs::metadata(folder).map_err(unreadable)?;
    let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if uid != 0 && uid != reader.uid {
        return Err(Problem::new(
            format!(
                "the folder of keys {shown} is owned by user id {uid}: it must be root or fence_virtd's user"
            ),
            format!("run `chown root {shown}`"),
        ));
    }
    if mode & 0o022 != 0 {
        return Err(Problem::new(
            format!(
                "the folder of keys {shown} has mode {mode:04o}: others than its owner can put keys into it"
            ),
            format!("run `chmod 0700 {shown}`, and look at each key in it"),
        ));
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name());
    }
    names.sort();
    Ok(names)
}

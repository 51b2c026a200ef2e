//! Loading of key files, and checks of their mode and owner. Nothing on disk is changed.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::access::credentials;
use crate::access::key_reader::KeyReader;
use crate::problem::Problem;
use fence_virt::auth::{self, Key, KeyWeakness, MacKeys};
use fence_virt::fence::counted;
use fence_virt::key_file::{self, make_key};
use fence_virt::sys::error_text;

/// Keys shorter than this many bytes cause a warning.
const SHORT: usize = 64;

/// VM keys with fewer bytes than this are refused: the length of what is derived from them.
const VM_KEY_MIN: usize = 32;

/// A key, and warnings about it.
#[derive(Debug)]
pub(crate) struct LoadedKey {
    pub(crate) key: Key,
    pub(crate) warnings: Vec<Problem>,
}

/// Keys that are derived from the key of one VM, and warnings about it.
#[derive(Debug)]
pub(crate) struct LoadedVmKey {
    pub(crate) mac_keys: MacKeys,
    pub(crate) warnings: Vec<Problem>,
}

/// Content of a key file whose mode and owner are in order.
struct Content<K> {
    key: K,
    /// Bytes of the file that count.
    length: usize,
    weakness: Option<KeyWeakness>,
    /// Warning about its mode.
    warning: Option<Problem>,
}

/// Reads the first 4096 bytes of a key file.
/// Errors: the file is missing, empty, accessible by everyone, or owned by neither root nor
/// our user. Files in `$CREDENTIALS_DIRECTORY` may have any owner and mode, but the
/// directory must not be accessible by everyone.
pub(crate) fn load(path: &Path) -> Result<LoadedKey, Problem> {
    load_as(path, &KeyReader::this_process(), credentials::directory().as_deref())
}

/// Loads a key file as the daemon with this user id (default: ours) would.
/// Files below `/run/credentials` are taken for credentials of that daemon.
/// Errors: those of [`load`].
pub(crate) fn examine(path: &Path, daemon: Option<u32>) -> Result<LoadedKey, Problem> {
    let reader = daemon.map_or_else(KeyReader::this_process, KeyReader::of_user);
    load_as(path, &reader, credentials::unit_directory(path).or_else(credentials::directory).as_deref())
}

/// Returns true for a unit's credential that cannot be read here: only the daemon can judge it.
pub(crate) fn is_out_of_reach(path: &Path) -> bool {
    credentials::unit_directory(path).is_some() && key_file::read(path).is_err()
}

/// Reads the key of one VM as [`examine`] does.
/// Errors: those of [`load`]; it has fewer than 32 bytes.
pub(crate) fn examine_vm_key(path: &Path, reader: &KeyReader) -> Result<LoadedVmKey, Problem> {
    let read = content(path, reader, None, MacKeys::of_content);
    let Content { key: mac_keys, length, weakness, warning } = read.map_err(|failure| match failure {
        Failure::Read(error) => unreadable_vm_key(path, reader, &error),
        Failure::Judged(problem) => problem,
    })?;
    if length < VM_KEY_MIN {
        let what = format!(
            "key file {} holds {}: the key of a VM has to have {VM_KEY_MIN} at least",
            path.display(),
            counted(length, "byte")
        );
        return Err(Problem::new(what, "move it away and make a new one with `fence_virtd --add-key`"));
    }
    Ok(LoadedVmKey { mac_keys, warnings: pattern(path, weakness).into_iter().chain(warning).collect() })
}

/// Reason why a key file cannot be used.
enum Failure {
    Read(io::Error),
    Judged(Problem),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure::Judged(problem)
    }
}

fn load_as(path: &Path, reader: &KeyReader, credentials: Option<&Path>) -> Result<LoadedKey, Problem> {
    let read = content(path, reader, credentials, Key::new);
    let Content { key, weakness, warning, .. } = read.map_err(|failure| match failure {
        Failure::Read(error) => unreadable(path, reader, &error),
        Failure::Judged(problem) => problem,
    })?;
    if key.is_empty() {
        let remedy = format!("create a key with {}", make_key(path));
        return Err(Problem::new(format!("key file {} is empty", path.display()), remedy));
    }
    let warnings = weaknesses(path, &key, weakness).into_iter().chain(warning).collect();
    Ok(LoadedKey { warnings, key })
}

fn content<K>(
    path: &Path,
    reader: &KeyReader,
    credentials: Option<&Path>,
    make: fn(Vec<u8>) -> K,
) -> Result<Content<K>, Failure> {
    let read = key_file::read_as(path, |bytes| (auth::examine(&bytes), bytes.len(), make(bytes)));
    let ((weakness, length, key), metadata) = read.map_err(Failure::Read)?;
    let is_credential = credentials.map(|directory| credentials::holds(directory, path)).transpose()?;
    let mut warning = None;
    if is_credential != Some(true) {
        judge(path, &metadata, reader)?;
        warning = group_access(path, &metadata, reader);
    }
    Ok(Content { key, length, weakness, warning })
}

fn unreadable_vm_key(path: &Path, reader: &KeyReader, error: &io::Error) -> Problem {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => {
            "copy it from another host, make it with `fence_virtd --add-key`, or remove it from the section keys".to_owned()
        }
        io::ErrorKind::PermissionDenied => return unreadable(path, reader, error),
        _ => "keep files with keys alone there".to_owned(),
    };
    Problem { remedy, ..unreadable(path, reader, error) }
}

fn unreadable(path: &Path, reader: &KeyReader, error: &io::Error) -> Problem {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound if credentials::unit_directory(path).is_some() => {
            "add it to the unit (LoadCredential=) and start the unit: the directory exists only while it runs"
                .to_owned()
        }
        io::ErrorKind::NotFound => {
            let make_key = make_key(path);
            format!("copy it from another host or guest of the cluster, or create one with {make_key}")
        }
        io::ErrorKind::PermissionDenied if reader.is_root() => {
            "let root read it and the directories above it".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("run this as root, or let this user read it: {}", reader.commands(path))
        }
        _ => "set `key_file` to the path of a key".to_owned(),
    };
    Problem::new(format!("cannot read the key file {}: {}", path.display(), error_text(error)), remedy)
}

fn judge(path: &Path, metadata: &Metadata, reader: &KeyReader) -> Result<(), Problem> {
    let shown = path.display();
    let mode = metadata.mode() & 0o7777;
    if metadata.uid() != 0 && metadata.uid() != reader.uid {
        let uid = metadata.uid();
        return Err(Problem::new(
            format!(
                "key file {shown} (mode {mode:04o}) is owned by user id {uid}: it must be root or fence_virtd's user"
            ),
            match reader.is_root() {
                true => format!("run `chown root {shown}`"),
                false => format!("run `chown root:{} {shown}; chmod 0640 {shown}`", reader.group()),
            },
        ));
    }
    if mode & 0o007 != 0 {
        return Err(Problem::new(
            format!("key file {shown} has mode {mode:04o}: everyone on this host can access it"),
            format!("run {}, and create a new key if others may have read it", reader.commands(path)),
        ));
    }
    Ok(())
}

fn group_access(path: &Path, metadata: &Metadata, reader: &KeyReader) -> Option<Problem> {
    let shown = path.display();
    let mode = metadata.mode() & 0o7777;
    let is_needed = metadata.uid() != reader.uid && reader.reads_as_group(metadata.gid(), mode);
    (mode & 0o070 != 0 && !is_needed).then(|| {
        Problem::new(
            format!("key file {shown} has mode {mode:04o}: its group can access it"),
            format!("run `chmod 0600 {shown}` unless this is intended"),
        )
    })
}

fn weaknesses(path: &Path, key: &Key, weakness: Option<KeyWeakness>) -> Vec<Problem> {
    let shown = path.display();
    let length = key.len();
    let mut warnings = Vec::new();
    if length < SHORT {
        warnings.push(Problem::new(
            format!("key file {shown} holds only {}", counted(length, "byte")),
            format!("create a key of 4096 bytes with {}", make_key(path)),
        ));
    }
    warnings.extend(pattern(path, weakness));
    if key.allows_extension() {
        warnings.push(Problem::new(
            format!(
                "key file {shown} holds {length} bytes: with a key of this length, other daemons can be tricked into signing requests"
            ),
            format!("create a key of 4096 bytes with {}", make_key(path)),
        ));
    }
    warnings
}

fn pattern(path: &Path, weakness: Option<KeyWeakness>) -> Option<Problem> {
    let pattern = match weakness? {
        KeyWeakness::Repetition(1) => "consists of equal bytes".to_owned(),
        KeyWeakness::Repetition(count) => {
            format!("holds {} that it repeats or fills up", counted(count, "byte"))
        }
        KeyWeakness::Words => "holds text that reads as words".to_owned(),
    };
    Some(Problem::new(
        format!("key file {} {pattern}: an attacker who records one request may guess it", path.display()),
        format!("create a key of 4096 random bytes with {}", make_key(path)),
    ))
}

#[cfg(test)]
#[path = "key_file_tests.rs"]
mod tests;

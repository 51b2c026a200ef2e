//! Creation of missing key files.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::dialog::Dialog;
use super::target_file::SignalGuard;
use crate::access::key_file;
use crate::directory::{directory_of, sync_directory};
use crate::problem::Problem;
use fence_virt::auth::{KEY_MAX, KeyId, MacKeys};
use fence_virt::config::Config;
use fence_virt::sys::error_text;

const HELP: &str = "\
All hosts and guests of a cluster share one key. If one of them has it already, copy
that file here and answer n. Otherwise answer y, and copy the new one to all of them.
A file that exists is never overwritten.";

/// Checks the key files in use, and asks which of the missing ones to create.
pub(super) fn ask(config: Option<&Config>, dialog: &mut Dialog<'_>) -> Result<Vec<PathBuf>, String> {
    let listeners = config.map_or(&[][..], |config| &config.listeners);
    let used = listeners.iter().filter_map(|listener| listener.config.auth()).filter(|auth| auth.needs_key());
    let mut seen: Vec<&Path> = Vec::new();
    let mut to_create = Vec::new();
    for auth in used {
        // A missing old key cannot be created again.
        for (path, is_old) in [(Some(&auth.key_file), false), (auth.old_key_file.as_ref(), true)] {
            let Some(path) = path.filter(|path| !seen.contains(&path.as_path())) else { continue };
            seen.push(path);
            if is_missing(path) && !is_old {
                let prompt = format!(
                    "\nThe key file {} does not exist. Create it, with {KEY_MAX} random bytes? [y/N] ",
                    path.display()
                );
                if dialog.confirm(&prompt, HELP)? {
                    to_create.push(path.clone());
                }
                continue;
            }
            for warning in judge(path) {
                dialog.say(&format!("\nwarning: {warning}\n"))?;
            }
        }
    }
    Ok(to_create)
}

fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Returns the warnings or the error that the daemon would log about a key file.
fn judge(path: &Path) -> Vec<String> {
    match key_file::load(path) {
        Ok(loaded) => loaded.warnings.iter().map(Problem::to_string).collect(),
        Err(problem) => vec![problem.to_string()],
    }
}

/// Creates key files.
/// Errors: a sentence about the first that could not be created; the configuration is not written then.
pub(super) fn create_all(paths: &[PathBuf], dialog: &mut Dialog<'_>) -> Result<(), String> {
    for path in paths {
        let shown = path.display();
        create(path).map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::AlreadyExists => {
                    "someone else created one in the meantime; it was left unchanged".to_string()
                }
                _ => error_text(&error),
            };
            format!("cannot create the key file {shown}: {reason}; the configuration was not written")
        })?;
        dialog.say(&format!(
            "Created the key file {shown}. Copy it to all hosts and guests of the cluster over a\nsecure \
             connection, with mode 0600: anyone who has it can fence.\n"
        ))?;
    }
    Ok(())
}

/// Creates a key file; never overwrites one. Returns the key's id.
pub(super) fn create(path: &Path) -> io::Result<KeyId> {
    let _guard = SignalGuard::begin()?;
    let mut key = vec![0; KEY_MAX];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let directory = directory_of(path);
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written =
        file.write_all(&key).and_then(|()| file.sync_all()).and_then(|()| sync_directory(&directory));
    let id = MacKeys::of_content(key).id();
    written.map(|()| id).inspect_err(|_| {
        // A partial key is useless. The first error counts.
        let _ = fs::remove_file(path);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_key_is_created_once() {
        let directory = std::env::temp_dir().join(format!("fence-virtd-{}-keys", std::process::id()));
        let path = directory.join("inner").join("fence.key");
        create(&path).unwrap();
        let key = fs::read(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((key.len(), mode(&path), mode(&directory.join("inner"))), (KEY_MAX, 0o600, 0o700));
        assert!(key.iter().filter(|byte| **byte == key[0]).count() < 100, "random");
        assert!(judge(&path).is_empty());
        assert_eq!(create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), key);
        fs::remove_dir_all(directory).unwrap();
    }
}

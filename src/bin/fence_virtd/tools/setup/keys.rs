//! Key files that are not there yet.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::dialog::Dialog;
use super::files::{Uninterrupted, folder_of, sync_folder};
use crate::access::key_file;
use crate::problem::Flaw;
use fence_virt::auth::KEY_MAX;
use fence_virt::config::Config;

const HELP: &str = "\
All hosts and guests of a cluster share one key. If one of them has it already, copy
that file here and answer n. Otherwise answer y, and copy the new one to all of them.
A file that exists is never overwritten.";

/// Looks at the key files that would be used, and asks which of those that are
/// missing to make.
pub(super) fn ask(
    config: Option<&Config>,
    dialog: &mut Dialog<impl BufRead, impl Write>,
) -> Result<Vec<PathBuf>, String> {
    let listeners = config.map_or(&[][..], |config| &config.listeners);
    let used = listeners.iter().filter_map(|listener| listener.config.auth()).filter(|auth| auth.needs_key());
    let mut seen: Vec<&Path> = Vec::new();
    let mut to_make = Vec::new();
    for auth in used {
        // An old key that is missing cannot be made anew.
        for (path, is_old) in [(Some(&auth.key_file), false), (auth.old_key_file.as_ref(), true)] {
            let Some(path) = path.filter(|path| !seen.contains(&path.as_path())) else { continue };
            seen.push(path);
            if is_missing(path) && !is_old {
                let prompt = format!(
                    "\nThe key file {} does not exist. Make it, with {KEY_MAX} random bytes? [y/N] ",
                    path.display()
                );
                if dialog.confirm(&prompt, HELP)? {
                    to_make.push(path.clone());
                }
                continue;
            }
            for warning in judge(path) {
                dialog.say(&format!("\nwarning: {warning}\n"))?;
            }
        }
    }
    Ok(to_make)
}

fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// What the daemon would say about a key file.
fn judge(path: &Path) -> Vec<String> {
    match key_file::load(path) {
        Ok(loaded) => loaded.warnings.iter().map(Flaw::to_string).collect(),
        Err(flaw) => vec![flaw.to_string()],
    }
}

/// Makes these key files.
///
/// # Errors
///
/// A sentence about the first that could not be made; the configuration is not written then.
pub(super) fn make(paths: &[PathBuf], dialog: &mut Dialog<impl BufRead, impl Write>) -> Result<(), String> {
    for path in paths {
        let shown = path.display();
        create(path).map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::AlreadyExists => {
                    "somebody else made one meanwhile; it is left as it is".to_string()
                }
                _ => error.to_string(),
            };
            format!("cannot make the key file {shown}: {reason}; the configuration was not written")
        })?;
        dialog.say(&format!(
            "The key file {shown} is made. Copy it to all hosts and guests of the cluster, over a way that\nnobody \
             can listen to, with mode 0600: whoever has it can fence.\n"
        ))?;
    }
    Ok(())
}

/// Never overwrites: the file is new, or this fails.
fn create(path: &Path) -> io::Result<()> {
    let _uninterrupted = Uninterrupted::begin()?;
    let mut key = [0; KEY_MAX];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let folder = folder_of(path);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(&key).and_then(|()| file.sync_all()).and_then(|()| sync_folder(&folder));
    written.inspect_err(|_| {
        // A part of a key is none; it is the first error that counts.
        let _ = fs::remove_file(path);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let folder = std::env::temp_dir().join(format!("fence-virtd-{}-keys", std::process::id()));
        let path = folder.join("inner").join("fence.key");
        create(&path).unwrap();
        let key = fs::read(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((key.len(), mode(&path), mode(&folder.join("inner"))), (KEY_MAX, 0o600, 0o700));
        assert!(key.iter().filter(|byte| **byte == key[0]).count() < 100, "random");
        assert!(judge(&path).is_empty());
        assert_eq!(create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), key);
        fs::remove_dir_all(folder).unwrap();
    }
}

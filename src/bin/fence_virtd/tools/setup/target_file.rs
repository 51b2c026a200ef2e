//! The configuration file: read as a whole, and replaced atomically.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::{AccessFlags, access};

use crate::directory::{directory_of, sync_directory};
use fence_virt::config::FILE_MAX;
use fence_virt::sys::error_text;

/// Maximum number of symbolic links, as in the kernel.
const LINKS_MAX: usize = 40;

/// Mode of a new file: it names who may fence whom.
const NEW_MODE: u32 = 0o600;

/// File to write, after resolving symbolic links.
#[derive(Debug)]
pub(super) struct TargetFile {
    target: PathBuf,
    directory: PathBuf,
}

impl TargetFile {
    /// Follows links to the file, which need not exist.
    /// Errors: a sentence if the file could not be written, before any question is asked.
    pub(super) fn find(path: &Path) -> Result<TargetFile, String> {
        let shown = path.display();
        let mut target = path.to_path_buf();
        let mut links = 0;
        while let Ok(next) = fs::read_link(&target) {
            links += 1;
            if links > LINKS_MAX {
                return Err(format!("cannot set up {shown}: too many symbolic links"));
            }
            target = directory_of(&target).join(next);
        }
        if target.file_name().is_none() {
            return Err(format!("cannot set up {shown}: not a file name"));
        }
        let directory = directory_of(&target);
        let test = AccessFlags::W_OK | AccessFlags::X_OK;
        access(&directory, test).map_err(|error| {
            let remedy = match io::Error::from(error).kind() {
                ErrorKind::NotFound => "create the directory first",
                ErrorKind::PermissionDenied => "run it as root",
                _ => "make it writable, or use another file (-f)",
            };
            format!(
                "cannot set up {shown}: the directory {} is not writable: {}; {remedy}",
                directory.display(),
                error.desc()
            )
        })?;
        Ok(TargetFile { target, directory })
    }

    /// Returns the contents of the file; none if it does not exist.
    /// Errors: a sentence: the file cannot be read, is not a regular file, or is too large for a configuration.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, String> {
        let shown = self.target.display();
        let failed = |error: io::Error| format!("cannot read {shown}: {}", error_text(&error));
        let metadata = match fs::metadata(&self.target) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(failed)?,
        };
        if !metadata.is_file() {
            return Err(format!("cannot set up {shown}: not a regular file"));
        }
        if metadata.len() > FILE_MAX as u64 {
            let size = metadata.len();
            return Err(format!("cannot set up {shown}: {size} bytes exceed the maximum of {FILE_MAX}"));
        }
        fs::read(&self.target).map(Some).map_err(failed)
    }

    /// Returns the name of the next backup: the first of FILE.old, FILE.old.1 and so on that does not exist.
    pub(super) fn backup_name(&self) -> PathBuf {
        let names = (0_u32..).map(|number| match number {
            0 => self.beside(".old"),
            _ => self.beside(&format!(".old.{number}")),
        });
        let mut free = names.filter(|name| fs::symlink_metadata(name).is_err());
        free.next().unwrap_or_else(|| self.beside(".old"))
    }

    /// Copies the file to a backup, which never overwrites another file.
    /// Errors: a sentence; nothing was written then.
    pub(super) fn back_up(&self) -> Result<PathBuf, String> {
        let failed = |error: io::Error| {
            format!("cannot back up {}: {}; nothing was written", self.target.display(), error_text(&error))
        };
        let _guard = SignalGuard::begin().map_err(failed)?;
        let old = fs::metadata(&self.target).map_err(failed)?;
        let bytes = fs::read(&self.target).map_err(failed)?;
        let backup = self.backup_name();
        create(&backup, &bytes, Some(&old)).map_err(failed)?;
        Ok(backup)
    }

    /// Replaces `before` by `after` atomically; mode and owner stay.
    /// Errors: a sentence: the file is no longer `before`, or cannot be written. It is unchanged then.
    pub(super) fn write(&self, before: Option<&[u8]>, after: &[u8]) -> Result<(), String> {
        let shown = self.target.display();
        let failed =
            |error: io::Error| format!("cannot write {shown}: {}; it is unchanged", error_text(&error));
        let _guard = SignalGuard::begin().map_err(failed)?;
        if self.read()?.as_deref() != before {
            return Err(format!("{shown} was changed by someone else in the meantime; nothing was written"));
        }
        let old = before.map(|_| fs::metadata(&self.target)).transpose().map_err(failed)?;
        let number = getrandom::u32().map_err(|error| failed(io::Error::other(error.to_string())))?;
        let new = self.beside(&format!(".{number:08x}.new"));
        create(&new, after, old.as_ref()).map_err(failed)?;
        if let Err(error) = fs::rename(&new, &self.target) {
            return Err(failed(fs::remove_file(&new).err().unwrap_or(error)));
        }
        sync_directory(&self.directory).map_err(|error| {
            format!("{shown} was written, but a crash may still undo that: {}", error_text(&error))
        })
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.target.clone().into_os_string();
        name.push(OsString::from(suffix));
        name.into()
    }
}

/// Creates a new file with mode and owner of another one. The file is on disk when this
/// returns, or removed after an error.
fn create(path: &Path, bytes: &[u8], like: Option<&Metadata>) -> io::Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    fill(file, bytes, like).inspect_err(|_| {
        // The first error counts.
        let _ = fs::remove_file(path);
    })
}

fn fill(mut file: File, bytes: &[u8], like: Option<&Metadata>) -> io::Result<()> {
    file.write_all(bytes)?;
    if let Some(like) = like {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
    }
    let mode = like.map_or(NEW_MODE, |like| like.mode() & 0o7777);
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Guard that blocks Ctrl-C and similar signals, so that no partial file remains.
#[derive(Debug)]
pub(super) struct SignalGuard {
    before: SigSet,
}

impl SignalGuard {
    pub(super) fn begin() -> io::Result<SignalGuard> {
        let signals: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect();
        Ok(SignalGuard { before: signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)? })
    }
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        // pthread_sigmask(3) cannot fail with a mask that it returned itself.
        let _ = self.before.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path = std::env::temp_dir().join(format!("fence-virtd-{}-files-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Dir(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_replaced_only_if_it_is_unchanged() {
        let dir = Dir::new("replace");
        let path = dir.0.join("f");
        let place = TargetFile::find(&path).unwrap();
        assert_eq!(place.read(), Ok(None));
        place.write(None, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, NEW_MODE);
        for before in [None, Some(&b"other"[..])] {
            let refusal = place.write(before, b"two").unwrap_err();
            assert!(refusal.contains("someone else"), "{refusal}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        place.write(Some(b"one"), b"two").unwrap();
        assert_eq!((place.read().unwrap().unwrap(), dir.names()), (b"two".to_vec(), vec!["f".to_string()]));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    }

    #[test]
    fn signals_are_blocked_while_a_file_is_written() {
        let blocks = || SigSet::thread_get_mask().unwrap().contains(Signal::SIGINT);
        let guard = SignalGuard::begin().unwrap();
        assert!(blocks());
        drop(guard);
        assert!(!blocks());
    }

    #[test]
    fn backups_are_numbered() {
        let dir = Dir::new("backup");
        let path = dir.0.join("f");
        fs::write(&path, "old").unwrap();
        let place = TargetFile::find(&path).unwrap();
        for name in ["f.old", "f.old.1", "f.old.2"] {
            assert_eq!(place.back_up().unwrap(), dir.0.join(name));
            fs::write(&path, name).unwrap();
        }
        assert_eq!(fs::read_to_string(dir.0.join("f.old")).unwrap(), "old");
        assert_eq!(fs::read_to_string(dir.0.join("f.old.2")).unwrap(), "f.old.1");
    }

    #[test]
    fn links_are_followed_to_their_end() {
        let dir = Dir::new("links");
        fs::create_dir(dir.0.join("real")).unwrap();
        std::os::unix::fs::symlink("two", dir.0.join("one")).unwrap();
        std::os::unix::fs::symlink("real/f", dir.0.join("two")).unwrap();
        let place = TargetFile::find(&dir.0.join("one")).unwrap();
        place.write(None, b"x").unwrap();
        assert_eq!(fs::read(dir.0.join("real/f")).unwrap(), b"x");
        assert!(fs::symlink_metadata(dir.0.join("one")).unwrap().is_symlink());
        std::os::unix::fs::symlink("loop", dir.0.join("loop")).unwrap();
        assert!(TargetFile::find(&dir.0.join("loop")).is_err_and(|refusal| refusal.contains("links")));
    }

    #[test]
    fn files_that_cannot_be_a_configuration_are_refused() {
        let refusal = |path: &Path| match TargetFile::find(path) {
            Err(refusal) => refusal,
            Ok(place) => place.read().unwrap_err(),
        };
        assert!(refusal(Path::new("/nonexistent/f")).contains("create the directory first"));
        assert!(refusal(Path::new("/dev/null")).contains("not a regular file"));
        assert!(refusal(Path::new("/")).contains("not a file name"));
        let dir = Dir::new("large");
        assert!(refusal(&dir.0).contains("not a regular file"));
        fs::write(dir.0.join("f"), vec![b' '; FILE_MAX + 1]).unwrap();
        assert!(refusal(&dir.0.join("f")).contains("the maximum"));
    }
}

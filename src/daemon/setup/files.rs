//! The file that is set up: read whole, and replaced in one step.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::{AccessFlags, access};

use crate::config::FILE_MAX;

/// As many links are followed as by the kernel.
const LINKS_MAX: usize = 40;

/// The mode of a file that is new: there is no secret in it.
const NEW_MODE: u32 = 0o644;

/// Where the file is, behind all links.
#[derive(Debug)]
pub(super) struct Place {
    target: PathBuf,
    folder: PathBuf,
}

impl Place {
    /// Follows links to the file, which need not exist.
    ///
    /// # Errors
    ///
    /// A sentence: the file could not be written there, so that nobody answers for nothing.
    pub(super) fn find(path: &Path) -> Result<Place, String> {
        let mut target = path.to_path_buf();
        for _ in 0..LINKS_MAX {
            let Ok(next) = fs::read_link(&target) else { break };
            target = folder_of(&target).join(next);
        }
        let shown = path.display();
        if target.file_name().is_none() {
            return Err(format!("cannot set {shown} up: this is no name of a file"));
        }
        let folder = folder_of(&target);
        let test = AccessFlags::W_OK | AccessFlags::X_OK;
        access(&folder, test).map_err(|error| {
            let remedy = match io::Error::from(error).kind() {
                ErrorKind::NotFound => "make the directory first",
                ErrorKind::PermissionDenied => "run it as root",
                _ => "have it made writable, or name another file with -f",
            };
            format!(
                "cannot set {shown} up: the directory {} cannot be written to: {}; {remedy}",
                folder.display(),
                error.desc()
            )
        })?;
        Ok(Place { target, folder })
    }

    /// All bytes of the file; none if it is not there.
    ///
    /// # Errors
    ///
    /// A sentence: it cannot be read, is no regular file, or is larger than any configuration.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, String> {
        let shown = self.target.display();
        let failed = |error: io::Error| format!("cannot read {shown}: {error}");
        let metadata = match fs::metadata(&self.target) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(failed)?,
        };
        if !metadata.is_file() {
            return Err(format!("cannot set {shown} up: it is no regular file"));
        }
        if metadata.len() > FILE_MAX as u64 {
            let size = metadata.len();
            return Err(format!(
                "cannot set {shown} up: it has {size} bytes, and at most {FILE_MAX} are read"
            ));
        }
        fs::read(&self.target).map(Some).map_err(failed)
    }

    /// What the next backup would be called: the first of FILE.old, FILE.old.1 and so on that is not there.
    pub(super) fn backup_name(&self) -> PathBuf {
        let names = (0_u32..).map(|number| match number {
            0 => self.beside(".old"),
            _ => self.beside(&format!(".old.{number}")),
        });
        let mut free = names.filter(|name| fs::symlink_metadata(name).is_err());
        free.next().unwrap_or_else(|| self.beside(".old"))
    }

    /// Copies the file as it is beside itself, never over another one.
    ///
    /// # Errors
    ///
    /// A sentence, also that nothing was written.
    pub(super) fn back_up(&self) -> Result<PathBuf, String> {
        let failed = |error: io::Error| {
            format!("cannot keep a copy of {}: {error}; nothing was written", self.target.display())
        };
        let _uninterrupted = Uninterrupted::begin().map_err(failed)?;
        let old = fs::metadata(&self.target).map_err(failed)?;
        let bytes = fs::read(&self.target).map_err(failed)?;
        let backup = self.backup_name();
        create(&backup, &bytes, Some(&old)).map_err(failed)?;
        Ok(backup)
    }

    /// Puts `after` in the place of `before` in one step; the mode and the owner stay.
    ///
    /// # Errors
    ///
    /// A sentence: the file is not `before` any more, or cannot be written. Then it is as it was.
    pub(super) fn write(&self, before: Option<&[u8]>, after: &[u8]) -> Result<(), String> {
        let shown = self.target.display();
        let failed = |error: io::Error| format!("cannot write {shown}: {error}; it is as it was");
        let _uninterrupted = Uninterrupted::begin().map_err(failed)?;
        if self.read()?.as_deref() != before {
            return Err(format!("{shown} was changed by somebody else meanwhile; nothing was written"));
        }
        let old = before.map(|_| fs::metadata(&self.target)).transpose().map_err(failed)?;
        let number = getrandom::u32().map_err(|error| failed(io::Error::other(error.to_string())))?;
        let new = self.beside(&format!(".{number:08x}.new"));
        create(&new, after, old.as_ref()).map_err(failed)?;
        if let Err(error) = fs::rename(&new, &self.target) {
            return Err(failed(fs::remove_file(&new).err().unwrap_or(error)));
        }
        sync_folder(&self.folder)
            .map_err(|error| format!("{shown} is written, but after a crash may be as it was: {error}"))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.target.clone().into_os_string();
        name.push(OsString::from(suffix));
        name.into()
    }
}

/// The directory that a file is in.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_path_buf()
}

/// Makes a file that is not there yet, with mode and owner of another one; it
/// is on the disk when this returns, or gone.
fn create(path: &Path, bytes: &[u8], like: Option<&Metadata>) -> io::Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    fill(file, bytes, like).inspect_err(|_| {
        // It is the first error that counts.
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

/// Has the names in the directory of a file written to the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// While it lives, Ctrl-C and the like wait: no half of a file is left behind.
#[derive(Debug)]
pub(super) struct Uninterrupted {
    before: SigSet,
}

impl Uninterrupted {
    pub(super) fn begin() -> io::Result<Uninterrupted> {
        let signals: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect();
        Ok(Uninterrupted { before: signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)? })
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        // sigprocmask(2) knows no error for a mask that it gave itself.
        let _ = self.before.thread_set_mask();
    }
}

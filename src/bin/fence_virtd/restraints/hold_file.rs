//! The file of holds. It is in the directory of the status socket, so a boot of the host ends all holds.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use crate::directory::{directory_of, replace_private, sync_directory};
use crate::problem::Problem;
use fence_virt::restraints::{HOLDS_BYTES_MAX, HoldTable, decode_holds, encode_holds};
use fence_virt::sys::error_text;

/// File of holds; there is none while there are no holds.
#[derive(Debug)]
pub(super) struct HoldFile(PathBuf);

impl HoldFile {
    /// File of a daemon with this status socket: `status.sock.holds`.
    pub(super) fn beside(status_socket: &Path) -> HoldFile {
        let mut name = OsString::from(status_socket);
        name.push(".holds");
        HoldFile(name.into())
    }

    /// Reads the holds, also those that have ended.
    /// Errors: the file cannot be read, or any of its lines is malformed. Skipping a line could lose a hold.
    pub(super) fn load(&self) -> Result<HoldTable, Problem> {
        match self.read() {
            Ok(bytes) => decode_holds(&bytes).map_err(|error| self.unreadable(&error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HoldTable::default()),
            Err(error) => Err(self.unreadable(&error_text(&error))),
        }
    }

    /// Reads the holds for a program that perhaps may not: then there are none.
    pub(super) fn examine(&self) -> Result<HoldTable, Problem> {
        match self.read() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(HoldTable::default()),
            _ => self.load(),
        }
    }

    fn unreadable(&self, problem: &str) -> Problem {
        let what = format!("cannot read the holds in {}: {problem}", self.0.display());
        Problem::new(what, "repair the file, or remove it, which ends all holds")
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        // Links are not followed, since the directory may be another user's.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.0)?;
        let metadata = file.metadata()?;
        let invalid = |problem: &str| Err(io::Error::new(io::ErrorKind::InvalidData, problem.to_owned()));
        if !metadata.is_file() {
            return invalid("it is not a regular file");
        }
        if ![0, geteuid().as_raw()].contains(&metadata.uid()) || metadata.mode() & 0o022 != 0 {
            return invalid("others than root and the daemon's user may have written it");
        }
        let mut bytes = Vec::new();
        file.take(HOLDS_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > HOLDS_BYTES_MAX { invalid("it is too long") } else { Ok(bytes) }
    }

    /// Replaces the holds.
    /// Errors: a sentence.
    pub(super) fn store(&self, holds: &HoldTable) -> Result<(), String> {
        let stored = match holds.is_empty() {
            true => self.remove(),
            false => replace_private(&self.0, &[&encode_holds(holds)]),
        };
        stored.map_err(|error| {
            format!("cannot write the holds to {}: {}", self.0.display(), error_text(&error))
        })
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_directory(&directory_of(&self.0)),
        }
    }
}

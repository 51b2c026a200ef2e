//! The history file: its reading, its growth, its replacement.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::directory::{PRIVATE_MODE, replace_private};
use fence_virt::power_log::{FILE_BYTES_MAX, HEADER, KeptHistory, decode};

/// A history file, private to its owner, since it lists requesters and the VMs they fence. It is opened for each
/// access, so that one which was moved or removed is made anew.
#[derive(Debug)]
pub(super) struct JournalFile(pub(super) PathBuf);

impl JournalFile {
    /// Reads the file; a missing one has no records.
    /// Errors: it cannot be read, or it is not a history file and must not be overwritten.
    pub(super) fn load(&self) -> io::Result<KeptHistory> {
        let file = match open(&self.0, OpenOptions::new().read(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(KeptHistory::default()),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        let kept = decode(&bytes).filter(|_| bytes.len() <= FILE_BYTES_MAX);
        kept.ok_or_else(|| {
            let reason = "it is not a history of fence_virtd; move it away, or choose another history_file";
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })
    }

    /// Appends lines; if they are to be durable, waits until they are on the disk.
    /// Errors: also if the file is missing; a part of the lines may have been written.
    pub(super) fn append(&self, lines: &str, is_durable: bool) -> io::Result<()> {
        let mut file = open(&self.0, OpenOptions::new().append(true))?;
        file.write_all(lines.as_bytes())?;
        if is_durable { file.sync_data() } else { Ok(()) }
    }

    /// Replaces the file by one with these lines.
    /// Errors: the old file stays, or the new one is there, but a crash may still undo that.
    pub(super) fn replace(&self, lines: &str) -> io::Result<()> {
        replace_private(&self.0, &[HEADER, lines])
    }
}

/// Opens a regular file. Links are not followed, since the directory may be another user's.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if metadata.permissions().mode() & 0o7777 != PRIVATE_MODE {
        file.set_permissions(fs::Permissions::from_mode(PRIVATE_MODE))?;
    }
    Ok(file)
}

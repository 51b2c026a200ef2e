//! The history file: its reading, its growth, its replacement.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::directory::{directory_of, sync_directory};
use fence_virt::power_log::{FILE_BYTES_MAX, HEADER, KeptHistory, decode};

/// Mode of the file: private to its owner, since it lists requesters and the VMs they fence.
const MODE: u32 = 0o600;

/// A history file. It is opened for each access, so that one which was moved or removed is made anew.
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
        if let Some(directory) = self.0.parent().filter(|directory| !directory.exists()) {
            DirBuilder::new().mode(0o700).create(directory)?;
        }
        let new = self.replacement();
        // What a crash has left.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = write_new(&new, lines).and_then(|()| fs::rename(&new, &self.0));
        if written.is_err() {
            // Of both failures the first one counts.
            let _ = fs::remove_file(&new);
        }
        written?;
        sync_directory(&directory_of(&self.0))
    }

    fn replacement(&self) -> PathBuf {
        let mut name = self.0.clone().into_os_string();
        name.push(".new");
        name.into()
    }
}

fn write_new(path: &Path, lines: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(HEADER.as_bytes())?;
    file.write_all(lines.as_bytes())?;
    file.sync_all()
}

/// Opens a regular file. Links are not followed, since the directory may be another user's.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if metadata.permissions().mode() & 0o7777 != MODE {
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
    }
    Ok(file)
}

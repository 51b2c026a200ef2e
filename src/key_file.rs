//! Reading of key files. The daemon and the agents check mode and owner, each
//! in its own way. Nothing on disk is changed.
#![forbid(unsafe_code)]

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::auth::{KEY_MAX, Key};

/// Reads the first 4096 bytes of a key file; an empty one gives an empty key.
///
/// # Errors
///
/// Errors of open(2) and read(2); `InvalidInput` if it is not a regular file.
pub fn read(path: &Path) -> io::Result<(Key, Metadata)> {
    read_as(path, Key::new)
}

/// Reads the first 4096 bytes of a key file, and makes something of them, which has to wipe them.
///
/// # Errors
///
/// Those of [`read`].
pub fn read_as<T>(path: &Path, make: impl FnOnce(Vec<u8>) -> T) -> io::Result<(T, Metadata)> {
    // O_NONBLOCK: a FIFO must not block the open.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::with_capacity(KEY_MAX);
    file.take(KEY_MAX as u64).read_to_end(&mut bytes)?;
    Ok((make(bytes), metadata))
}

/// Returns the shell command that makes a good key there.
pub fn make_key(path: &Path) -> String {
    let folder = path.parent().unwrap_or(path).display();
    format!("`(umask 077; mkdir -p {folder}; head -c 4096 /dev/urandom > {})`", path.display())
}

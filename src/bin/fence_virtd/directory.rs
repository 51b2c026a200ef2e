//! Files that must survive a crash of the host, and their directories.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Mode of private files.
pub(crate) const PRIVATE_MODE: u32 = 0o600;

/// Returns the directory of a file.
pub(crate) fn directory_of(path: &Path) -> PathBuf {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.unwrap_or(Path::new(".")).to_path_buf()
}

/// Writes the entries of a directory to disk: without that, a crash may undo a rename or a new file (fsync(2)).
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Replaces a file by one that is private to its owner, with these texts. Makes its directory, if that is missing.
/// Errors: the old file stays, or the new one is there, but a crash may still undo that.
pub(crate) fn replace_private(path: &Path, texts: &[&str]) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        DirBuilder::new().mode(0o700).create(directory)?;
    }
    let mut new = path.to_path_buf().into_os_string();
    new.push(".new");
    let new = PathBuf::from(new);
    // What a crash has left.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(&new, texts).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // Of both failures the first one counts.
        let _ = fs::remove_file(&new);
    }
    written?;
    sync_directory(&directory_of(path))
}

fn write_new(path: &Path, texts: &[&str]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_MODE).open(path)?;
    texts.iter().try_for_each(|text| file.write_all(text.as_bytes()))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_in_the_working_directory() {
        for (path, directory) in [("f", "."), ("a/f", "a"), ("/f", "/")] {
            assert_eq!(directory_of(Path::new(path)), Path::new(directory));
        }
    }

    #[test]
    fn only_a_directory_that_exists_is_synced() {
        sync_directory(&std::env::temp_dir()).unwrap();
        let missing = sync_directory(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}

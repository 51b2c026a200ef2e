//! Directories of files that must survive a crash of the host.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Returns the directory of a file.
pub(crate) fn directory_of(path: &Path) -> PathBuf {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.unwrap_or(Path::new(".")).to_path_buf()
}

/// Writes the entries of a directory to disk: without that, a crash may undo a rename or a new file (fsync(2)).
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
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

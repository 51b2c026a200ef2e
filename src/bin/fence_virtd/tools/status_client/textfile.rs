//! File for a textfile collector, replaced atomically: the collector never reads a part of it.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::directory::directory_of;

/// Mode of the file: the collector has a user of its own.
const MODE: u32 = 0o644;

/// Replaces the file by one with this text.
/// Errors: the file is as it was before.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not the name of a file"));
    };
    // The collector reads *.prom only.
    let mut new = OsString::from(".");
    new.push(name);
    new.push(format!(".{}.new", std::process::id()));
    let new = directory_of(path).join(new);
    // What a process with this id has left when it was killed.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(&new, text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // Of both failures the first one counts.
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(MODE).open(path)?;
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(text.as_bytes())?;
    // A crash of the host must not leave an empty file behind the rename.
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_as_a_whole_or_not_at_all() {
        let dir = std::env::temp_dir().join(format!("fence-virtd-{}-textfile", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("a.prom");
        for text in ["one\n", "two\n"] {
            let before = File::open(&path).ok();
            replace(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            let of_before = before.map(|file| io::read_to_string(file).unwrap());
            assert_eq!(
                of_before.as_deref(),
                (text == "two\n").then_some("one\n"),
                "readers keep what they opened"
            );
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing else is left");
        // A directory cannot be replaced.
        let taken = dir.join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(replace(&taken, "x").is_err());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing else is left");
        assert!(replace(&dir.join("no/a.prom"), "x").is_err() && replace(Path::new("/"), "x").is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}

//! The folder into which a service manager puts what the unit has in
//! `LoadCredential=`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::flaw::Flaw;

/// The folder of this process, if a service manager made one for it.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// Whether this file is in that folder. Whose it is there, and with what
/// mode, is the service manager's business.
///
/// # Errors
///
/// It is, but everyone can get into the folder; or nobody can look at it.
pub(crate) fn holds(folder: &Path, path: &Path) -> Result<bool, Flaw> {
    // A link out of the folder is no credential; a folder that is not there holds none.
    let (Ok(real), Ok(folder)) = (path.canonicalize(), folder.canonicalize()) else { return Ok(false) };
    if !real.starts_with(&folder) {
        return Ok(false);
    }
    let shown = folder.display();
    let remedy =
        || format!("have the service manager make it (LoadCredential=), or run `chmod 0700 {shown}`");
    let metadata = folder.metadata().map_err(|error| {
        Flaw::new(format!("cannot look at the folder {shown} (CREDENTIALS_DIRECTORY): {error}"), remedy())
    })?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(Flaw::new(
            format!(
                "the folder {shown} (CREDENTIALS_DIRECTORY) has mode {mode:04o}: everyone on this host can get at the key in it"
            ),
            remedy(),
        ));
    }
    Ok(true)
}

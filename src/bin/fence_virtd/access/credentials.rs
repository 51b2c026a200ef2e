//! The folder into which a service manager puts what the unit has in
//! `LoadCredential=`.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::problem::Flaw;

/// The folder of this process, if a service manager made one for it.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// Below this, systemd makes a folder for each unit that has credentials.
const UNITS: &str = "/run/credentials";

/// Whether the file is, by its path, some unit's credential.
pub(crate) fn is_of_unit(path: &Path) -> bool {
    unit_folder(path).is_some()
}

/// The folder of the unit whose credential this file is: for those who look
/// from outside. The unit alone has it in its environment.
pub(crate) fn unit_folder(path: &Path) -> Option<PathBuf> {
    unit_folder_below(Path::new(UNITS), path)
}

fn unit_folder_below(units: &Path, path: &Path) -> Option<PathBuf> {
    // A link to a credential is followed; of what is not there, the path is all there is.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match real.strip_prefix(units).ok()?.components().next()? {
        Component::Normal(unit) => Some(units.join(unit)),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_unit_is_told_from_the_path() {
        let folder = |path: &str| unit_folder_below(Path::new("/nonexistent/units"), Path::new(path));
        assert_eq!(folder("/nonexistent/units/a.service/key"), Some("/nonexistent/units/a.service".into()));
        for path in
            ["/nonexistent/units", "/nonexistent/units/../key", "/nonexistent/unitsx/a/key", "/etc/passwd"]
        {
            assert_eq!(folder(path), None, "{path}");
        }
        let (temp, name) = (std::env::temp_dir().canonicalize().unwrap(), std::process::id().to_string());
        let units = temp.join(format!("fence-virtd-{name}-units"));
        std::fs::create_dir_all(units.join("a.service")).unwrap();
        let key = units.join("a.service/key");
        std::fs::write(&key, "k").unwrap();
        std::os::unix::fs::symlink(&key, units.join("link")).unwrap();
        assert_eq!(unit_folder_below(&units, &units.join("link")), Some(units.join("a.service")));
        std::fs::remove_dir_all(units).unwrap();
    }
}

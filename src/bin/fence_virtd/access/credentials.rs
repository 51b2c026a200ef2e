//! Credentials of systemd units (`LoadCredential=`).

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::problem::Problem;
use fence_virt::sys::error_text;

/// Returns the credentials directory of this process, if it has one.
pub(crate) fn directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// Parent of the credentials directories that systemd creates, one a unit.
const UNITS: &str = "/run/credentials";

/// Returns the credentials directory of the unit that a file belongs to, if it is a credential.
/// For other processes: only the unit itself has it in its environment.
pub(crate) fn unit_directory(path: &Path) -> Option<PathBuf> {
    unit_directory_below(Path::new(UNITS), path)
}

fn unit_directory_below(units: &Path, path: &Path) -> Option<PathBuf> {
    // Links to a credential are followed; of a missing file only the path is known.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match real.strip_prefix(units).ok()?.components().next()? {
        Component::Normal(unit) => Some(units.join(unit)),
        _ => None,
    }
}

/// Returns true if the file is in that directory. Owner and mode of a credential are up to the service manager.
/// Errors: the directory is accessible by everyone, or cannot be examined.
pub(crate) fn holds(directory: &Path, path: &Path) -> Result<bool, Problem> {
    // A link out of the directory is not a credential; a missing directory has none.
    let (Ok(real), Ok(directory)) = (path.canonicalize(), directory.canonicalize()) else { return Ok(false) };
    if !real.starts_with(&directory) {
        return Ok(false);
    }
    let shown = directory.display();
    let remedy =
        || format!("let the service manager create it (LoadCredential=), or run `chmod 0700 {shown}`");
    let metadata = directory.metadata().map_err(|error| {
        Problem::new(
            format!("cannot examine the directory {shown} (CREDENTIALS_DIRECTORY): {}", error_text(&error)),
            remedy(),
        )
    })?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(Problem::new(
            format!(
                "the directory {shown} (CREDENTIALS_DIRECTORY) has mode {mode:04o}: everyone on this host can access the key in it"
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
    fn the_directory_of_a_unit_follows_from_the_path() {
        let directory = |path: &str| unit_directory_below(Path::new("/nonexistent/units"), Path::new(path));
        let found = directory("/nonexistent/units/a.service/key");
        assert_eq!(found, Some("/nonexistent/units/a.service".into()));
        for path in
            ["/nonexistent/units", "/nonexistent/units/../key", "/nonexistent/unitsx/a/key", "/etc/passwd"]
        {
            assert_eq!(directory(path), None, "{path}");
        }
        let temp = std::env::temp_dir().canonicalize().unwrap();
        let name = std::process::id().to_string();
        let units = temp.join(format!("fence-virtd-{name}-units"));
        std::fs::create_dir_all(units.join("a.service")).unwrap();
        let key = units.join("a.service/key");
        std::fs::write(&key, "k").unwrap();
        std::os::unix::fs::symlink(&key, units.join("link")).unwrap();
        assert_eq!(unit_directory_below(&units, &units.join("link")), Some(units.join("a.service")));
        std::fs::remove_dir_all(units).unwrap();
    }
}

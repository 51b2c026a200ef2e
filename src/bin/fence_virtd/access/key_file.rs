//! Reads a key file and judges how well it is kept. Nothing on disk is changed.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;

use crate::access::credentials;
use crate::problem::Flaw;
use fence_virt::auth::Key;
use fence_virt::key_file::{self, make_key};

/// A key shorter than this many bytes is warned of.
const SHORT: usize = 64;

/// A key, and what is to be said about it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) key: Key,
    pub(crate) warnings: Vec<Flaw>,
}

/// Reads the first 4096 bytes of a key file.
///
/// # Errors
///
/// The file, what is wrong, and the command that helps: it
/// is missing, empty, readable or writable by everyone, or belongs to
/// neither root nor us. What is in `$CREDENTIALS_DIRECTORY` may belong to
/// anybody, and have any mode, as the service manager has made it; that
/// folder must then be closed to everyone else.
pub(crate) fn load(path: &Path) -> Result<Loaded, Flaw> {
    load_as(path, geteuid().as_raw(), credentials::folder().as_deref())
}

/// The same from outside, as the daemon that runs with this user id (or else
/// one of ours) would have it. What is below `/run/credentials` is taken for a
/// credential of that daemon.
///
/// # Errors
///
/// Those of [`load`].
pub(crate) fn examine(path: &Path, daemon: Option<u32>) -> Result<Loaded, Flaw> {
    let uid = daemon.unwrap_or_else(|| geteuid().as_raw());
    load_as(path, uid, credentials::unit_folder(path).or_else(credentials::folder).as_deref())
}

/// Whether it is a credential of a unit that cannot be read from here, so that
/// only the daemon can say what it is worth.
pub(crate) fn is_out_of_reach(path: &Path) -> bool {
    credentials::is_of_unit(path) && key_file::read(path).is_err()
}

fn load_as(path: &Path, uid: u32, credentials: Option<&Path>) -> Result<Loaded, Flaw> {
    let shown = path.display();
    let (key, metadata) = key_file::read(path).map_err(|error| unreadable(path, &error))?;
    let is_credential = match credentials {
        Some(folder) => credentials::holds(folder, path)?,
        None => false,
    };
    let mut warnings = weaknesses(path, &key);
    if !is_credential {
        judge(path, &metadata, uid)?;
        warnings.extend(group_access(path, &metadata));
    }
    if key.is_empty() {
        let remedy = format!("make a key with {}", make_key(path));
        return Err(Flaw::new(format!("the key file {shown} is empty"), remedy));
    }
    Ok(Loaded { warnings, key })
}

fn unreadable(path: &Path, error: &io::Error) -> Flaw {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound if credentials::is_of_unit(path) => {
            "name it in the unit (LoadCredential=) and start that: the folder is there only while it runs"
                .to_owned()
        }
        io::ErrorKind::NotFound => {
            format!("copy it from a host or guest of the cluster, or make one with {}", make_key(path))
        }
        io::ErrorKind::PermissionDenied => "run this as root".to_owned(),
        _ => "give the path of a key in `key_file`".to_owned(),
    };
    Flaw::new(format!("cannot read the key file {}: {error}", path.display()), remedy)
}

fn judge(path: &Path, metadata: &Metadata, daemon: u32) -> Result<(), Flaw> {
    let (shown, mode) = (path.display(), metadata.mode() & 0o7777);
    if metadata.uid() != 0 && metadata.uid() != daemon {
        let uid = metadata.uid();
        return Err(Flaw::new(
            format!(
                "the key file {shown} (mode {mode:04o}) belongs to the user id {uid}: it must be root's or that of fence_virtd"
            ),
            format!("run `chown root {shown}`"),
        ));
    }
    if mode & 0o007 != 0 {
        return Err(Flaw::new(
            format!("the key file {shown} has mode {mode:04o}: everyone on this host can get at the key"),
            format!("run `chmod 0600 {shown}`, and make a new key if others may have read it"),
        ));
    }
    Ok(())
}

fn group_access(path: &Path, metadata: &Metadata) -> Option<Flaw> {
    let (shown, mode) = (path.display(), metadata.mode() & 0o7777);
    (mode & 0o070 != 0).then(|| {
        Flaw::new(
            format!("the key file {shown} has mode {mode:04o}: its group can get at the key"),
            format!("if that is not meant, run `chmod 0600 {shown}`"),
        )
    })
}

fn weaknesses(path: &Path, key: &Key) -> Vec<Flaw> {
    let (shown, length) = (path.display(), key.len());
    let mut warnings = Vec::new();
    if length < SHORT {
        warnings.push(Flaw::new(
            format!("the key in {shown} has only {length} bytes"),
            format!("make one of 4096 with {}", make_key(path)),
        ));
    }
    if key.allows_extension() {
        warnings.push(Flaw::new(
            format!(
                "the key in {shown} has {length} bytes, a length at which other daemons with this key can be made to sign requests"
            ),
            format!("make one of 4096 with {}", make_key(path)),
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::auth::KEY_MAX;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    fn load_beside(path: &Path, credentials: Option<&Path>) -> Result<Loaded, Flaw> {
        load_as(path, geteuid().as_raw(), credentials)
    }

    fn key_file(name: &str, mode: u32, bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fence-virtd-{}-{name}.key", std::process::id()));
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_good_key_is_taken_without_a_word() {
        let path = key_file("good", 0o600, &[1; 5000]);
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.key.len(), KEY_MAX);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_others_can_reach_is_refused_and_left_as_it_is() {
        for mode in [0o604, 0o602, 0o644, 0o666, 0o601] {
            let path = key_file(&format!("open{mode:o}"), mode, &[1; 4096]);
            let refusal = load(&path).unwrap_err().to_string();
            assert!(refusal.contains(&format!("{mode:04o}")) && refusal.contains("chmod 0600"), "{refusal}");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn missing_empty_and_foreign_keys_are_refused() {
        let missing = load(Path::new("/nonexistent/fence.key")).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/fence.key") && missing.contains("urandom"), "{missing}");
        let path = key_file("empty", 0o600, &[]);
        assert!(load(&path).unwrap_err().what.contains("is empty"));
        let metadata = fs::metadata(&path).unwrap();
        assert!(judge(&path, &metadata, metadata.uid()).is_ok());
        fs::remove_file(path).unwrap();
        assert!(load(Path::new("/dev/null")).unwrap_err().what.contains("regular file"));
    }

    #[test]
    fn a_key_may_belong_to_the_user_of_the_daemon_that_runs() {
        let path = key_file("own-user", 0o600, &[1; 4096]);
        let owner = fs::metadata(&path).unwrap().uid();
        assert!(examine(&path, Some(owner)).is_ok() && examine(&path, None).is_ok());
        if geteuid().is_root() {
            chown(&path, Some(12345), None).unwrap();
            assert!(examine(&path, Some(12345)).is_ok());
            for other in [None, Some(0), Some(12346)] {
                assert!(examine(&path, other).unwrap_err().what.contains("12345"), "{other:?}");
            }
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_credential_that_is_not_there_is_not_to_be_made_by_hand() {
        let path = Path::new("/run/credentials/fence-nonexistent.service/key");
        assert!(is_out_of_reach(path) && !is_out_of_reach(Path::new("/nonexistent/key")));
        let refusal = examine(path, None).unwrap_err();
        assert!(
            refusal.remedy.contains("LoadCredential=") && !refusal.remedy.contains("urandom"),
            "{refusal}"
        );
    }

    #[test]
    fn group_access_short_keys_and_extension_are_warned_of() {
        let path = key_file("weak", 0o640, &[1; 20]);
        let warnings = format!("{:?}", load(&path).unwrap().warnings);
        for word in ["0640", "only 20 bytes", "sign requests"] {
            assert!(warnings.contains(word), "{warnings}");
        }
        fs::remove_file(path).unwrap();
    }

    /// A folder of this mode, as a service manager makes it.
    fn folder(name: &str, mode: u32) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fence-virtd-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn credentials_are_taken_as_the_service_manager_has_made_them() {
        let (credentials, plain) = (folder("credentials", 0o750), key_file("plain", 0o444, &[1; 4096]));
        let path = credentials.join("key");
        fs::write(&path, [1; 4096]).unwrap();
        if geteuid().is_root() {
            chown(&path, Some(12345), Some(12345)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        let loaded = load_beside(&path, Some(&credentials)).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert!(load_beside(&path, None).is_err(), "without the manager's folder it is any file");
        assert!(load_beside(&path, Some(Path::new("/nonexistent"))).is_err());

        let link = credentials.join("link");
        symlink(&plain, &link).unwrap();
        for outside in [&plain, &link, &credentials.join("..").join(plain.file_name().unwrap())] {
            let refusal = load_beside(outside, Some(&credentials)).unwrap_err().to_string();
            assert!(refusal.contains("0444"), "{refusal}");
        }
        fs::remove_dir_all(credentials).unwrap();
        fs::remove_file(plain).unwrap();
    }

    #[test]
    fn credentials_that_everyone_can_reach_are_refused() {
        let credentials = folder("open-credentials", 0o755);
        let path = credentials.join("key");
        fs::write(&path, [1; 4096]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let refusal = load_beside(&path, Some(&credentials)).unwrap_err().to_string();
        assert!(refusal.contains("0755") && refusal.contains("LoadCredential"), "{refusal}");
        fs::remove_dir_all(credentials).unwrap();
    }
}

//! Loading of key files, and checks of their mode and owner. Nothing on disk is changed.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::access::credentials;
use crate::access::key_reader::KeyReader;
use crate::problem::Problem;
use fence_virt::auth::{self, Key, KeyWeakness};
use fence_virt::fence::counted;
use fence_virt::key_file::{self, make_key};
use fence_virt::sys::error_text;

/// Keys shorter than this many bytes cause a warning.
const SHORT: usize = 64;

/// A key, and warnings about it.
#[derive(Debug)]
pub(crate) struct LoadedKey {
    pub(crate) key: Key,
    pub(crate) warnings: Vec<Problem>,
}

/// Reads the first 4096 bytes of a key file.
/// Errors: the file is missing, empty, accessible by everyone, or owned by neither root nor
/// our user. Files in `$CREDENTIALS_DIRECTORY` may have any owner and mode, but the
/// directory must not be accessible by everyone.
pub(crate) fn load(path: &Path) -> Result<LoadedKey, Problem> {
    load_as(path, &KeyReader::this_process(), credentials::directory().as_deref())
}

/// Loads a key file as the daemon with this user id (default: ours) would.
/// Files below `/run/credentials` are taken for credentials of that daemon.
/// Errors: those of [`load`].
pub(crate) fn examine(path: &Path, daemon: Option<u32>) -> Result<LoadedKey, Problem> {
    let reader = daemon.map_or_else(KeyReader::this_process, KeyReader::of_user);
    load_as(path, &reader, credentials::unit_directory(path).or_else(credentials::directory).as_deref())
}

/// Returns true for a unit's credential that cannot be read here: only the daemon can judge it.
pub(crate) fn is_out_of_reach(path: &Path) -> bool {
    credentials::unit_directory(path).is_some() && key_file::read(path).is_err()
}

fn load_as(path: &Path, reader: &KeyReader, credentials: Option<&Path>) -> Result<LoadedKey, Problem> {
    let shown = path.display();
    let read = key_file::read_as(path, |bytes| (auth::examine(&bytes), Key::new(bytes)));
    let ((weakness, key), metadata) = read.map_err(|error| unreadable(path, reader, &error))?;
    let mut warnings = weaknesses(path, &key, weakness);
    let is_credential = credentials.map(|directory| credentials::holds(directory, path)).transpose()?;
    if is_credential != Some(true) {
        judge(path, &metadata, reader)?;
        warnings.extend(group_access(path, &metadata, reader));
    }
    if key.is_empty() {
        let remedy = format!("create a key with {}", make_key(path));
        return Err(Problem::new(format!("key file {shown} is empty"), remedy));
    }
    Ok(LoadedKey { warnings, key })
}

fn unreadable(path: &Path, reader: &KeyReader, error: &io::Error) -> Problem {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound if credentials::unit_directory(path).is_some() => {
            "add it to the unit (LoadCredential=) and start the unit: the directory exists only while it runs"
                .to_owned()
        }
        io::ErrorKind::NotFound => {
            let make_key = make_key(path);
            format!("copy it from another host or guest of the cluster, or create one with {make_key}")
        }
        io::ErrorKind::PermissionDenied if reader.is_root() => {
            "let root read it and the directories above it".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("run this as root, or let this user read it: {}", reader.commands(path))
        }
        _ => "set `key_file` to the path of a key".to_owned(),
    };
    Problem::new(format!("cannot read the key file {}: {}", path.display(), error_text(error)), remedy)
}

fn judge(path: &Path, metadata: &Metadata, reader: &KeyReader) -> Result<(), Problem> {
    let shown = path.display();
    let mode = metadata.mode() & 0o7777;
    if metadata.uid() != 0 && metadata.uid() != reader.uid {
        let uid = metadata.uid();
        return Err(Problem::new(
            format!(
                "key file {shown} (mode {mode:04o}) is owned by user id {uid}: it must be root or fence_virtd's user"
            ),
            match reader.is_root() {
                true => format!("run `chown root {shown}`"),
                false => format!("run `chown root:{} {shown}; chmod 0640 {shown}`", reader.group()),
            },
        ));
    }
    if mode & 0o007 != 0 {
        return Err(Problem::new(
            format!("key file {shown} has mode {mode:04o}: everyone on this host can access it"),
            format!("run {}, and create a new key if others may have read it", reader.commands(path)),
        ));
    }
    Ok(())
}

fn group_access(path: &Path, metadata: &Metadata, reader: &KeyReader) -> Option<Problem> {
    let shown = path.display();
    let mode = metadata.mode() & 0o7777;
    let is_needed = metadata.uid() != reader.uid && reader.reads_as_group(metadata.gid(), mode);
    (mode & 0o070 != 0 && !is_needed).then(|| {
        Problem::new(
            format!("key file {shown} has mode {mode:04o}: its group can access it"),
            format!("run `chmod 0600 {shown}` unless this is intended"),
        )
    })
}

fn weaknesses(path: &Path, key: &Key, weakness: Option<KeyWeakness>) -> Vec<Problem> {
    let shown = path.display();
    let length = key.len();
    let mut warnings = Vec::new();
    if length < SHORT {
        warnings.push(Problem::new(
            format!("key file {shown} holds only {}", counted(length, "byte")),
            format!("create a key of 4096 bytes with {}", make_key(path)),
        ));
    }
    let pattern = weakness.map(|weakness| match weakness {
        KeyWeakness::Repetition(1) => "consists of equal bytes".to_owned(),
        KeyWeakness::Repetition(count) => {
            format!("holds {} that it repeats or fills up", counted(count, "byte"))
        }
        KeyWeakness::Words => "holds text that reads as words".to_owned(),
    });
    warnings.extend(pattern.map(|pattern| {
        Problem::new(
            format!("key file {shown} {pattern}: an attacker who records one request may guess it"),
            format!("create a key of 4096 random bytes with {}", make_key(path)),
        )
    }));
    if key.allows_extension() {
        warnings.push(Problem::new(
            format!(
                "key file {shown} holds {length} bytes: with a key of this length, other daemons can be tricked into signing requests"
            ),
            format!("create a key of 4096 bytes with {}", make_key(path)),
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use fence_virt::auth::KEY_MAX;
    use nix::unistd::geteuid;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    fn load_beside(path: &Path, credentials: Option<&Path>) -> Result<LoadedKey, Problem> {
        load_as(path, &KeyReader::this_process(), credentials)
    }

    fn key_file(name: &str, mode: u32, bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fence-virtd-{}-{name}.key", std::process::id()));
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Bytes without a pattern.
    fn mixed(length: u32) -> Vec<u8> {
        (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    #[test]
    fn a_good_key_causes_no_warning() {
        let path = key_file("good", 0o600, &mixed(5000));
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.key.len(), KEY_MAX);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_key_that_others_can_access_is_refused_and_left_unchanged() {
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
        assert!(judge(&path, &metadata, &KeyReader::of_user(metadata.uid())).is_ok());
        fs::remove_file(path).unwrap();
        assert!(load(Path::new("/dev/null")).unwrap_err().what.contains("regular file"));
    }

    #[test]
    fn a_key_may_belong_to_the_user_of_the_running_daemon() {
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
    fn a_daemon_that_is_not_root_reads_its_key_as_a_member_of_a_group() {
        if !geteuid().is_root() {
            return;
        }
        // User and group `daemon` have the number 1 on every system.
        let path = key_file("group", 0o644, &mixed(4096));
        let advice = format!("chgrp daemon {0}; chmod 0640 {0}", path.display());
        let refusal = examine(&path, Some(1)).unwrap_err().remedy;
        assert!(refusal.contains(&advice) && !refusal.contains("0600"), "{refusal}");
        assert!(examine(&path, Some(0)).unwrap_err().remedy.contains("chmod 0600"));
        // What is advised has no warning, and nothing else is silent.
        for (mode, gid, warnings) in [(0o640, 1, 0), (0o660, 1, 1), (0o640, 2, 1), (0o600, 1, 0)] {
            chown(&path, Some(0), Some(gid)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(examine(&path, Some(1)).unwrap().warnings.len(), warnings, "{mode:o} {gid}");
        }
        chown(&path, Some(2), Some(1)).unwrap();
        let refusal = examine(&path, Some(1)).unwrap_err().remedy;
        assert!(refusal.contains("chown root:daemon"), "{refusal}");
        let denied = io::ErrorKind::PermissionDenied.into();
        let remedy = unreadable(&path, &KeyReader::of_user(1), &denied).remedy;
        assert!(remedy.contains("run this as root") && remedy.contains(&advice), "{remedy}");
        assert!(!unreadable(&path, &KeyReader::of_user(0), &denied).remedy.contains("as root"));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_remedy_for_a_missing_credential_is_the_unit() {
        let path = Path::new("/run/credentials/fence-nonexistent.service/key");
        assert!(is_out_of_reach(path) && !is_out_of_reach(Path::new("/nonexistent/key")));
        let remedy = examine(path, None).unwrap_err().remedy;
        assert!(remedy.contains("LoadCredential=") && !remedy.contains("urandom"), "{remedy}");
    }

    #[test]
    fn group_access_short_keys_and_extension_cause_warnings() {
        let path = key_file("weak", 0o640, &[1; 20]);
        let warnings = format!("{:?}", load(&path).unwrap().warnings);
        for word in ["0640", "only 20 bytes", "signing requests"] {
            assert!(warnings.contains(word), "{warnings}");
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn keys_that_can_be_guessed_cause_warnings() {
        for (name, bytes, words) in [
            ("equal", vec![0; 4096], "consists of equal bytes"),
            ("repeated", b"\x01\x02\x03".repeat(1000), "holds 3 bytes that it repeats"),
            ("word", b"password\n".to_vec(), "reads as words"),
        ] {
            let path = key_file(name, 0o600, &bytes);
            let warnings = load(&path).unwrap().warnings;
            let found = warnings.iter().filter(|warning| warning.what.contains(words));
            assert_eq!(found.count(), 1, "{warnings:?}");
            assert!(warnings.iter().all(|warning| warning.remedy.contains("/dev/urandom")), "{warnings:?}");
            fs::remove_file(path).unwrap();
        }
    }

    /// Creates a directory with this mode, as a service manager does.
    fn directory(name: &str, mode: u32) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fence-virtd-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn credentials_may_have_any_owner_and_mode() {
        let credentials = directory("credentials", 0o750);
        let plain = key_file("plain", 0o444, &[1; 4096]);
        let path = credentials.join("key");
        fs::write(&path, mixed(4096)).unwrap();
        if geteuid().is_root() {
            chown(&path, Some(12345), Some(12345)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        let loaded = load_beside(&path, Some(&credentials)).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert!(load_beside(&path, None).is_err(), "elsewhere it is an ordinary file");
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
    fn credentials_that_everyone_can_access_are_refused() {
        let credentials = directory("open-credentials", 0o755);
        let path = credentials.join("key");
        fs::write(&path, [1; 4096]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let refusal = load_beside(&path, Some(&credentials)).unwrap_err().to_string();
        assert!(refusal.contains("0755") && refusal.contains("LoadCredential"), "{refusal}");
        fs::remove_dir_all(credentials).unwrap();
    }
}

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

#[test]
fn the_key_of_a_vm_has_32_bytes_at_least_and_is_judged_as_others_are() {
    let reader = KeyReader::this_process();
    let path = key_file("vm", 0o600, &mixed(31));
    let refusal = examine_vm_key(&path, &reader).unwrap_err().to_string();
    assert!(refusal.contains("holds 31 bytes") && refusal.contains("--add-key"), "{refusal}");
    fs::write(&path, mixed(32)).unwrap();
    let loaded = examine_vm_key(&path, &reader).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.mac_keys.id(), Key::new(mixed(32)).id());
    fs::write(&path, mixed(5000)).unwrap();
    let id = examine_vm_key(&path, &reader).unwrap().mac_keys.id();
    assert_eq!(id, Key::new(mixed(KEY_MAX as u32)).id(), "the rest of a longer file does not count");
    fs::write(&path, [7; 64]).unwrap();
    assert!(examine_vm_key(&path, &reader).unwrap().warnings[0].what.contains("equal bytes"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    assert!(examine_vm_key(&path, &reader).unwrap_err().what.contains("0604"));
    fs::remove_file(&path).unwrap();
    let missing = examine_vm_key(&path, &reader).unwrap_err().to_string();
    assert!(missing.contains("--add-key") && !missing.contains("urandom"), "{missing}");
}

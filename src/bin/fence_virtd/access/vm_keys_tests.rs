use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::*;
use fence_virt::auth::KEY_MAX;
use fence_virt::config::VmKeyConfig;

const UUID: &str = "44179d3f-6c63-474f-a212-20c8b4b25b16";

/// Directory of keys, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("fence-virtd-{}-keys-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Folder(path)
    }

    /// Writes a key of 64 bytes, which this number makes.
    fn key(&self, file: &str, number: u32) -> PathBuf {
        let mixed = (4..64).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8);
        let bytes: Vec<u8> = number.to_le_bytes().into_iter().chain(mixed).collect();
        self.write(file, &bytes)
    }

    fn write(&self, file: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(file);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn config(&self, keys: Vec<VmKeyConfig>) -> VmKeysConfig {
        VmKeysConfig { folder: Some(self.0.clone()), keys, ..VmKeysConfig::default() }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn section(name: &str, file: &Path, old_file: Option<&Path>) -> VmKeyConfig {
    let uuid = Uuid::parse(name);
    VmKeyConfig { name: name.to_owned(), uuid, file: file.to_owned(), old_file: old_file.map(Path::to_owned) }
}

fn read_here(config: &VmKeysConfig) -> VmKeys {
    read(config, &KeyReader::this_process())
}

/// Names and UUIDs of the keys, and their errors.
fn found(config: &VmKeysConfig) -> (Vec<(String, Option<Uuid>)>, Vec<String>) {
    let keys = read_here(config);
    let holder = |key: &VmKey| (key.holder.name.clone(), key.holder.uuid);
    let mut holders: Vec<_> = keys.ring.iter().map(holder).collect();
    holders.sort();
    (holders, keys.errors.iter().map(Problem::to_string).collect())
}

#[test]
fn the_folder_gives_each_key_the_name_of_its_file() {
    let folder = Folder::new("names");
    for (at, file) in ["node1.key", "node1.old-key", "a.b.key", &format!("{UUID}.key")].iter().enumerate() {
        folder.key(file, at as u32);
    }
    for ignored in [".hidden.key", "node2.key~", "node3.key.old", "README", ".old-key", ".key"] {
        folder.write(ignored, b"no key");
    }
    let uuid = Uuid::parse(UUID);
    let expected = [(UUID, uuid), ("a.b", None), ("node1", None), ("node1", None)]
        .map(|(name, of)| (name.to_owned(), of));
    assert_eq!(found(&folder.config(vec![])), (expected.to_vec(), Vec::new()));
    let keys = read_here(&folder.config(vec![]));
    assert_eq!(
        (keys.with_old.as_slice(), keys.without_uuid()),
        (&["node1".to_owned()][..], vec!["a.b", "node1"])
    );
}

#[test]
fn a_section_may_state_the_uuid_of_a_key_in_the_folder() {
    let folder = Folder::new("stated");
    let path = folder.key("node1.key", 1);
    let key = VmKeyConfig { uuid: Uuid::parse(UUID), ..section("node1", &path, None) };
    assert_eq!(found(&folder.config(vec![key])), (vec![("node1".to_owned(), Uuid::parse(UUID))], Vec::new()));
    // A key outside, for the same VM.
    let outside = Folder::new("outside");
    let errors = found(&folder.config(vec![section("node1", &outside.key("x", 2), None)])).1;
    assert!(errors.len() == 1 && errors[0].contains("\"node1\" has two keys"), "{errors:?}");
    let uuid = section(UUID, &outside.key("y", 3), None);
    folder.key(&format!("{}.key", UUID.to_uppercase()), 4);
    let errors = found(&folder.config(vec![uuid])).1;
    assert!(errors.len() == 1 && errors[0].contains("have the same UUID"), "{errors:?}");
}

#[test]
fn keys_with_the_same_bytes_are_errors() {
    let folder = Folder::new("same");
    let (one, same) = (folder.key("a.key", 1), folder.key("b.key", 1));
    let errors = found(&folder.config(vec![])).1;
    assert!(
        errors.len() == 1 && errors[0].contains("key \"b\": ") && errors[0].contains("the file of \"a\""),
        "{errors:?}"
    );
    fs::remove_file(&same).unwrap();
    folder.key("a.old-key", 1);
    let errors = found(&folder.config(vec![])).1;
    assert!(errors.len() == 1 && errors[0].contains("the other file of \"a\""), "{errors:?}");
    fs::remove_file(folder.0.join("a.old-key")).unwrap();
    let ring = read_here(&folder.config(vec![])).ring;
    let shared = Key::new(fs::read(&one).unwrap());
    let conflict = conflict(&ring, &shared, Path::new("/shared")).unwrap().to_string();
    assert!(conflict.contains("/shared") && conflict.contains("\"a\""), "{conflict}");
    assert_eq!(super::conflict(&ring, &Key::new(vec![1; KEY_MAX]), Path::new("/k")), None);
}

#[test]
fn one_key_that_cannot_be_used_refuses_all_and_is_named() {
    let folder = Folder::new("unusable");
    folder.key("good.key", 1);
    let config = folder.config(vec![]);
    assert_eq!(load(&config).unwrap().len(), 1);
    for (file, bytes, mode, words) in [
        ("short.key", &[1; 31][..], 0o600, "holds 31 bytes"),
        ("open.key", &[2; 64], 0o604, "mode 0604"),
        ("bad\nname.key", &[3; 64], 0o600, "is not the name of a VM"),
        ("left.old-key", &[4; 64], 0o600, "there is no left.key"),
    ] {
        let path = folder.write(file, bytes);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refusal = load(&config).unwrap_err();
        assert!(refusal.starts_with("keys: ") && refusal.contains(words), "{refusal}");
        fs::remove_file(path).unwrap();
    }
    folder.write("a.key", &[1; 3]);
    folder.write("b.key", &[1; 3]);
    let refusal = load(&config).unwrap_err();
    assert!(
        refusal.contains("key \"a\": ")
            && refusal.ends_with("(and 1 further error of keys, which `fence_virtd --check` shows)"),
        "{refusal}"
    );
    let gone =
        VmKeysConfig { folder: None, keys: vec![section("x", Path::new("/nonexistent"), None)], ..config };
    assert!(load(&gone).unwrap_err().contains("key \"x\": cannot read the key file /nonexistent"));
    assert_eq!(found(&gone).1.len(), 1);
}

#[test]
fn a_folder_of_others_is_refused() {
    let folder = Folder::new("others");
    let config = folder.config(vec![]);
    let refusal = || load(&config).unwrap_err();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(refusal().contains("mode 0777"), "{}", refusal());
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(load(&config).is_ok());
    if geteuid().is_root() {
        chown(&folder.0, Some(12345), None).unwrap();
        assert!(refusal().contains("user id 12345"), "{}", refusal());
        assert!(read(&config, &KeyReader::of_user(12345)).errors.is_empty());
    }
    let gone = VmKeysConfig { folder: Some("/nonexistent/keys.d".into()), ..VmKeysConfig::default() };
    assert!(load(&gone).unwrap_err().contains("install -d -m 0700 /nonexistent/keys.d"));
}

#[test]
fn a_link_in_the_folder_leads_to_a_key() {
    let folder = Folder::new("links");
    let outside = Folder::new("targets");
    symlink(outside.key("k", 1), folder.0.join("node1.key")).unwrap();
    assert_eq!(found(&folder.config(vec![])), (vec![("node1".to_owned(), None)], Vec::new()));
    symlink("/nonexistent", folder.0.join("node2.key")).unwrap();
    let errors = found(&folder.config(vec![])).1;
    assert!(errors.len() == 1 && errors[0].contains("key \"node2\""), "{errors:?}");
}

#[test]
fn without_any_key_a_warning_says_that_nobody_may_ask() {
    let folder = Folder::new("empty");
    let config = VmKeysConfig { is_shared: false, ..folder.config(vec![]) };
    assert!(read_here(&config).warnings[0].what.contains("every request is refused"));
    assert!(read_here(&VmKeysConfig { is_shared: true, ..config }).warnings.is_empty());
}

fn ring(keys: &[(&str, Option<&str>, u8)]) -> KeyRing {
    let mut ring = KeyRing::default();
    for (name, uuid, content) in keys {
        let mac_keys = Arc::new(fence_virt::auth::MacKeys::derive(&[*content]));
        let uuid = uuid.and_then(Uuid::parse);
        let holder = Arc::new(KeyHolder { name: (*name).to_owned(), uuid, key: mac_keys.id() });
        ring.insert(VmKey { holder, mac_keys });
    }
    ring
}

#[test]
fn a_reload_says_which_keys_it_changes() {
    let old = ring(&[("a", None, 1), ("b", None, 2), ("c", None, 3), ("d", None, 4)]);
    let new = ring(&[("a", None, 1), ("b", None, 20), ("c", Some(UUID), 3), ("e", None, 5)]);
    let expected = "keys of VMs: added \"e\"; removed \"d\"; changed \"b\", \"c\"";
    assert_eq!(changes(&old, &new).as_deref(), Some(expected));
    assert_eq!(changes(&old, &old).as_deref(), Some("4 keys of VMs read again"));
    assert_eq!(changes(&ring(&[]), &ring(&[])), None);
    // A second key of the same VM.
    let both = ring(&[("a", None, 1), ("a", None, 9)]);
    assert_eq!(changes(&ring(&[("a", None, 1)]), &both).as_deref(), Some("keys of VMs: changed \"a\""));
    let names: Vec<String> = (0..200).map(|at| format!("{at:063}")).collect();
    let many: Vec<_> = names.iter().enumerate().map(|(at, name)| (name.as_str(), None, at as u8)).collect();
    let line = changes(&ring(&[]), &ring(&many)).unwrap();
    assert!(line.ends_with("and 190 more") && line.len() < 800, "{line}");
}

/// Reading is linear, and a request is one lookup: [`KeyRing::get`] is that of a hash table.
#[test]
fn ten_thousand_keys_are_read_and_found() {
    let folder = Folder::new("many");
    for at in 0..10_000 {
        folder.key(&format!("vm{at}.key"), at + 1);
    }
    let ring = load(&folder.config(vec![])).unwrap();
    assert_eq!(ring.len(), 10_000);
    let key = Key::new(fs::read(folder.0.join("vm9999.key")).unwrap());
    assert_eq!(ring.get(key.id()).unwrap().holder.name, "vm9999");
}

use std::os::unix::fs::MetadataExt;

use super::*;
use fence_virt::config;

const UUID: &str = "44179d3f-6c63-474f-a212-20c8b4b25b16";

fn parsed(keys: &str) -> Config {
    let text = format!("fence_virtd {{ listener = \"tcp\"; backend = \"libvirt\"; }} {keys}");
    let outcome = config::parse(Path::new("f"), text.as_bytes());
    outcome.config.unwrap_or_else(|| panic!("{}", outcome.diagnostics.render(false)))
}

fn planned(keys: &str, vm: &str, uuid: Option<&str>) -> Result<NewKey, String> {
    NewKey::plan(Some(&parsed(keys)), vm, uuid)
}

#[test]
fn a_key_goes_into_the_folder_to_its_named_file_or_beside_the_shared_key() {
    let folder = "keys { folder = \"/k.d\"; }";
    let key = planned(folder, "node1", None).unwrap();
    assert_eq!((key.path.as_path(), &key.place), (Path::new("/k.d/node1.key"), &KeyPlace::Folder));
    let key = planned("keys { key = \"node1\" { file = \"/x/n1\"; } }", "node1", Some(UUID)).unwrap();
    assert_eq!(
        (key.path.as_path(), &key.place, key.uuid),
        (Path::new("/x/n1"), &KeyPlace::Named { lacks_uuid: true }, Uuid::parse(UUID))
    );
    for config in [Some(parsed("")), None] {
        let key = NewKey::plan(config.as_ref(), "node1", None).unwrap();
        assert_eq!(
            (key.path.as_path(), key.place),
            (Path::new("/etc/cluster/node1.key"), KeyPlace::Elsewhere)
        );
    }
    assert_eq!(planned(folder, UUID, None).unwrap().uuid, Uuid::parse(UUID));
}

#[test]
fn names_and_uuids_that_cannot_be_are_refused() {
    let keys = format!("keys {{ key = \"a\" {{ file = \"/a\"; uuid = \"{UUID}\"; }} }}");
    for (vm, uuid, words) in [
        ("", None, "1 to 63 bytes"),
        ("a/b", None, "no file can have the name"),
        (".hidden", None, "no file can have the name"),
        ("a\"b", None, "no file can have the name"),
        ("b", Some("x"), "\"x\" is not a UUID"),
        ("b", Some(UUID), "the key of \"a\" has this UUID"),
        ("a", Some("44179d3f-6c63-474f-a212-20c8b4b25b17"), "another UUID for the key"),
        ("44179d3f-6c63-474f-a212-20c8b4b25b17", Some(UUID), "reads as another UUID"),
        ("fence_xvm", None, "is the file of a shared key"),
    ] {
        let refusal = planned(&keys, vm, uuid).unwrap_err();
        assert!(refusal.contains(words), "{vm:?}: {refusal}");
    }
}

#[test]
fn a_key_is_made_once_and_the_line_for_it_is_taken() {
    let directory = std::env::temp_dir().join(format!("fence-virtd-{}-add-key", std::process::id()));
    let path = directory.join("node1.key");
    let (named, unnamed) = (KeyPlace::Named { lacks_uuid: false }, KeyPlace::Named { lacks_uuid: true });
    let places = [(KeyPlace::Elsewhere, true), (KeyPlace::Folder, true), (named, false), (unnamed, false)];
    for (place, needs_line) in places {
        let lacks_uuid = place == KeyPlace::Named { lacks_uuid: true };
        let uuid = Uuid::parse(UUID);
        let key = NewKey { name: "node1".to_owned(), uuid, path: path.clone(), place };
        let id = key.make().unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0o600, KEY_MAX as u64));
        let bytes = fs::read(&path).unwrap();
        let refusal = key.make().unwrap_err();
        assert!(refusal.contains("exists, and was left unchanged"), "{refusal}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let text = key.report(Path::new("/f.conf"), None, id, Some(&KeyReader::of_user(1)));
        assert!(text.contains(&format!("fingerprint {id}\n")) && text.contains("chgrp daemon"), "{text}");
        assert!(text.contains(&format!("uuid = \"{UUID}\";\n")), "the line of a group: {text}");
        assert_eq!(text.contains("Add to its section, to state the UUID"), lacks_uuid, "{text}");
        let line = text.lines().find(|line| line.trim().starts_with("key ="));
        assert_eq!(line.is_some(), needs_line, "{text}");
        if let Some(line) = line {
            let keys = parsed(&format!("keys {{ {line} }}")).keys.keys;
            assert_eq!((keys[0].name.as_str(), keys[0].uuid, &keys[0].file), ("node1", uuid, &path));
        }
        fs::remove_file(&path).unwrap();
    }
    let plain = NewKey { name: "node1".to_owned(), uuid: None, path, place: KeyPlace::Folder };
    let text = plain.report(Path::new("/f.conf"), Some(&parsed("")), KeyId::from_bytes([0; 16]), None);
    assert!(text.contains("The daemon reads this folder") && !text.contains("uuid"), "{text}");
    fs::remove_dir_all(directory).unwrap();
}

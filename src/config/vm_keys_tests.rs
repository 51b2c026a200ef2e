use std::path::{Path, PathBuf};

use super::super::parse::parse;
use super::*;
use crate::config::{Config, Severity};

const UUID: &str = "44179d3f-6c63-474f-a212-20c8b4b25b16";

/// Configuration of a tcp listener with these settings and this section, and the messages about it.
fn parsed(listener: &str, keys: &str) -> (Option<Config>, Vec<(Severity, String)>) {
    let text = format!(
        "fence_virtd {{ listener = \"tcp\"; backend = \"libvirt\"; }} listeners {{ tcp {{ {listener} }} }}\n{keys}"
    );
    let outcome = parse(Path::new("f"), text.as_bytes());
    let found = outcome.diagnostics.iter().map(|found| (found.severity, found.message.clone()));
    (outcome.config, found.collect())
}

/// The errors about a section.
fn errors(listener: &str, keys: &str) -> Vec<String> {
    let (config, found) = parsed(listener, keys);
    let errors: Vec<String> = found
        .into_iter()
        .filter(|(severity, _)| *severity == Severity::Error)
        .map(|(_, text)| text)
        .collect();
    assert_eq!(config.is_none(), !errors.is_empty(), "{errors:?}");
    errors
}

#[test]
fn keys_have_names_files_and_uuids() {
    let text = format!(
        "keys {{ folder = \"/k.d\"; key = \"node1\" {{ file = \"/k1\"; uuid = \"{UUID}\"; }}\n\
         key = \"{}\" {{ file = \"/k2\"; old_file = \"/k2.old\"; }} key = \"Node1\" {{ file = \"/k3\"; }} }}",
        "44179D3F6C63474FA21220C8B4B25B17"
    );
    let (config, found) = parsed("", &text);
    assert_eq!(found, []);
    let keys = config.unwrap().keys;
    assert_eq!((keys.is_shared, keys.folder), (true, Some(PathBuf::from("/k.d"))));
    let of = |at: usize| keys.keys[at].clone();
    assert_eq!((of(0).name.as_str(), of(0).uuid), ("node1", Uuid::parse(UUID)));
    assert_eq!((of(0).file, of(0).old_file), (PathBuf::from("/k1"), None));
    assert_eq!(of(1).uuid, Uuid::parse("44179d3f-6c63-474f-a212-20c8b4b25b17"), "a name that reads as one");
    assert_eq!(of(1).old_file, Some(PathBuf::from("/k2.old")));
    assert_eq!((of(2).name.as_str(), of(2).uuid), ("Node1", None), "names are told apart exactly");
}

#[test]
fn without_the_section_the_shared_key_counts_alone() {
    let (config, found) = parsed("", "");
    let config = config.unwrap();
    assert_eq!((found, &config.keys), (Vec::new(), &VmKeysConfig::default()));
    assert!(
        config.keys.is_shared
            && config.keys.is_empty()
            && config.listeners[0].config.auth().unwrap().needs_key()
    );
    let (config, found) = parsed("", "keys { }");
    assert!(
        config.is_some() && found[0].0 == Severity::Warning && found[0].1.contains("no key and no folder")
    );
}

#[test]
fn wrong_keys_are_errors() {
    let file = "file = \"/k\";";
    for (keys, expected) in [
        (
            format!("key = \"a\" {{ {file} }} key = \"a\" {{ {file} }}"),
            "the key of \"a\" is already on line 2",
        ),
        (
            format!(
                "key = \"a\" {{ {file} uuid = \"{UUID}\"; }} key = \"b\" {{ {file} uuid = \"{UUID}\"; }}"
            ),
            "the key of \"a\" has this UUID already",
        ),
        ("key = \"a\" { }".to_owned(), "this key has no file"),
        ("key = \"a\" { file = \"k\"; }".to_owned(), "expected an absolute file path"),
        (format!("key = \"a\" {{ {file} uuid = \"x\"; }}"), "expected the UUID of the VM, not \"x\""),
        (
            format!("key = \"44179d3f-6c63-474f-a212-20c8b4b25b17\" {{ {file} uuid = \"{UUID}\"; }}"),
            "reads as another UUID",
        ),
        (format!("key {{ {file} }}"), "this key has no name"),
        (format!("key = \"\" {{ {file} }}"), "1 to 63 bytes"),
        (format!("key = \"{}\" {{ {file} }}", "x".repeat(64)), "1 to 63 bytes"),
        (format!("key = \"a\nb\" {{ {file} }}"), "1 to 63 bytes"),
        (format!("key = \"a\u{202e}\" {{ {file} }}"), "1 to 63 bytes"),
        (format!("key = \"a\" {{ {file} uid = \"{UUID}\"; }}"), "did you mean \"uuid\"?"),
        ("share = \"no\";".to_owned(), "did you mean \"shared\"?"),
        ("shared = \"maybe\";".to_owned(), "invalid switch"),
        ("folder = \"k.d\";".to_owned(), "absolute directory path"),
        (format!("kye = \"a\" {{ {file} }}"), "did you mean \"key\"?"),
    ] {
        let found = errors("", &format!("keys {{ {keys} }}"));
        assert!(found.len() == 1 && found[0].contains(expected), "{keys}: {found:?}");
    }
}

#[test]
fn a_section_that_would_not_be_read_is_an_error() {
    let keys = "key = \"a\" { file = \"/k\"; }";
    for (text, expected) in [
        (format!("keys {{ {keys} }} Keys {{ {keys} }}"), "put all keys into one section"),
        (format!("kyes {{ {keys} }}"), "did you mean \"keys\"?"),
        (keys.to_owned(), "did you mean \"keys\"?"),
        (format!("backends {{ keys {{ {keys} }} }}"), "move it outside all sections"),
        (format!("x {{ y {{ keys {{ {keys} }} }} }}"), "move it outside all sections"),
    ] {
        let found = errors("", &text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:?}");
    }
}

#[test]
fn without_the_shared_key_every_listener_needs_version_2() {
    let keys = "keys { shared = \"no\"; folder = \"/k.d\"; }";
    for hash in ["", "hash = \"sha512\";", "hash = \"none\"; auth = \"none\";"] {
        let found = errors(hash, keys);
        assert!(
            found.len() == 1 && found[0].contains("needs hash = \"hmac-sha256\" at listener tcp"),
            "{found:?}"
        );
    }
    let (config, found) = parsed("hash = \"hmac-sha256\";", keys);
    let config = config.unwrap();
    assert_eq!(found, []);
    let auth = config.listeners[0].config.auth().unwrap();
    assert!(!auth.is_shared && !auth.needs_key());
    assert!(auth.to_string().ends_with("no shared key"), "{auth}");
    assert_eq!(config.keys.to_string(), "folder /k.d; shared keys do not count");
    let (_, found) = parsed("hash = \"hmac-sha256\";", "keys { shared = \"no\"; }");
    assert!(found[0].1.contains("every request is refused"), "{found:?}");
}

#[test]
fn keys_that_no_listener_takes_are_an_error() {
    let text = "fence_virtd { listener = \"serial\"; backend = \"libvirt\"; } listeners { serial { path = \"/s\"; } }
        keys { folder = \"/k.d\"; }";
    let found: Vec<String> = parse(Path::new("f"), text.as_bytes())
        .diagnostics
        .iter()
        .map(|found| found.message.clone())
        .collect();
    assert!(found.len() == 1 && found[0].contains("no listener takes keys (serial has none)"), "{found:?}");
}

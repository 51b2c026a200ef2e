//! Keeps the floors of ARCHITECTURE.md: imports go down only, and unsafe code
//! stays in `src/sys`.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate and the floor each stands on.
const FLOORS: [(&str, u32); 14] = [
    ("fence", 0),
    ("wire", 0),
    ("auth", 0),
    ("session", 1),
    ("history", 1),
    ("groups", 1),
    ("quota", 1),
    ("backlog", 1),
    ("routing", 1),
    ("domain_xml", 1),
    ("config", 2),
    ("key_file", 2),
    ("client", 3),
    ("daemon", 3),
];

fn sources(under: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Every source file with the module of the crate that it belongs to.
fn files() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    assert!(paths.len() > 30, "the sources are where they are looked for");
    let with_module = |path: PathBuf| {
        let inner = path.strip_prefix(&root).unwrap().to_owned();
        let first = inner.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).unwrap();
        (first, path, text)
    };
    paths.into_iter().map(with_module).collect()
}

#[test]
fn imports_go_down_only() {
    let floor = |module: &str| FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor);
    for (module, path, text) in files() {
        let own = match module.as_str() {
            "lib" | "bin" => continue,
            // It may import nothing of ours.
            "sys" => 0,
            name => floor(name).unwrap_or_else(|| panic!("{name} stands on no floor: add it to FLOORS")),
        };
        for (at, line) in text.lines().enumerate() {
            for (_, rest) in line.match_indices("crate::").map(|(at, word)| (at, &line[at + word.len()..])) {
                let imported = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
                let place = format!("{}:{}", path.display(), at + 1);
                if module == "sys" {
                    assert_eq!(imported, "sys", "{place}: sys imports nothing of ours");
                } else if imported == "sys" || ["libvirt_errors", "libvirt_events"].contains(&imported) {
                    assert!(own >= 2, "{place}: {module} is below sys");
                } else if let Some(floor) = floor(imported) {
                    assert!(
                        floor <= own,
                        "{place}: {module} (floor {own}) imports {imported} (floor {floor})"
                    );
                } else {
                    panic!("{place}: {imported} stands on no floor");
                }
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_sys_only() {
    for (module, path, text) in files() {
        let is_head =
            path.ends_with("mod.rs") || !path.parent().is_some_and(|dir| dir.join("mod.rs").exists());
        let is_root = path.parent().is_some_and(|dir| dir.ends_with("src"));
        let is_module_head =
            is_head && (is_root || path.parent().unwrap().parent().unwrap().ends_with("src"));
        // The daemon's root has src/sys/libvirt_errors.rs, which has to be unsafe.
        if module == "sys" || module == "lib" || module == "bin" || !is_module_head {
            continue;
        }
        assert!(text.contains("#![forbid(unsafe_code)]"), "{} forbids unsafe code", path.display());
    }
}

#[test]
fn the_lower_floors_never_ask_the_clock_the_disk_or_the_network() {
    for (module, path, text) in files() {
        if !matches!(FLOORS.iter().find(|(name, _)| *name == module), Some((_, 0 | 1))) {
            continue;
        }
        // `backlog` is a module of ours.
        let code = text.split("#[cfg(test)]").next().unwrap_or("").replace("backlog::", "");
        let is_test = path.to_str().unwrap().ends_with("_tests.rs");
        for word in ["Instant::now", "SystemTime", "std::fs", "std::io", "Tcp", "Udp", "log::", "getrandom"] {
            assert!(is_test || !code.contains(word), "{} uses {word}", path.display());
        }
    }
}

//! Keeps the layers of ARCHITECTURE.md: no circles of imports, imports to the
//! same layer or down only, unsafe code in few places, one meaning for each
//! type's name, and doc comments that open with a noun or a verb.
//!
//! `FENCE_SOURCE` names another source tree to check.
#![allow(clippy::panic, clippy::unwrap_used, clippy::print_stderr)]

#[path = "floors/checks.rs"]
mod checks;
#[path = "floors/circles.rs"]
mod circles;
#[path = "floors/graph.rs"]
mod graph;
#[path = "floors/items.rs"]
mod items;
#[path = "floors/reader.rs"]
mod reader;
#[path = "floors/resolve.rs"]
mod resolve;
#[path = "floors/scanner.rs"]
mod scanner;
#[path = "floors/seen_to_fail.rs"]
mod seen_to_fail;
#[path = "floors/test_code.rs"]
mod test_code;
#[path = "floors/tree.rs"]
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use checks::{Checker, Layers, OPENINGS};
use tree::Sources;

/// Layers of src, the lowest first. A room imports from its own layer and
/// lower ones, and rooms form no circle either.
const LAYERS: Layers = Layers {
    rooms: &[
        // The library.
        ("time", 0),
        ("fence", 0),
        ("wire", 0),
        ("auth", 0),
        ("session", 1),
        ("history", 1),
        ("groups", 1),
        ("origins", 1),
        ("quota", 1),
        ("backlog", 1),
        ("arbiter", 1),
        ("routing", 1),
        ("domain_xml", 1),
        ("fence_agent", 1),
        ("power_log", 1),
        ("restraints", 1),
        ("sys", 2),
        ("config", 2),
        ("key_file", 2),
        ("client", 3),
        ("lib", 4),
        // The agents.
        ("fence_virt::main", 4),
        // The daemon.
        ("fence_virtd::problem", 10),
        ("fence_virtd::heartbeat", 10),
        ("fence_virtd::pauses", 10),
        ("fence_virtd::threads", 10),
        ("fence_virtd::pid_file", 10),
        ("fence_virtd::port_owner", 10),
        ("fence_virtd::console", 10),
        ("fence_virtd::directory", 10),
        ("fence_virtd::host_checks", 10),
        ("fence_virtd::json", 10),
        ("fence_virtd::backoff", 10),
        ("fence_virtd::logging", 10),
        ("fence_virtd::power_journal", 10),
        ("fence_virtd::restraints", 10),
        ("fence_virtd::caller", 10),
        ("fence_virtd::job", 10),
        ("fence_virtd::children", 11),
        ("fence_virtd::libvirt", 11),
        ("fence_virtd::access", 11),
        ("fence_virtd::config_file", 11),
        ("fence_virtd::status::counts", 11),
        ("fence_virtd::status::place", 11),
        ("fence_virtd::status::reception", 11),
        ("fence_virtd::status::snapshot", 11),
        ("fence_virtd::serial_event", 11),
        ("fence_virtd::inbox", 12),
        ("fence_virtd::startup", 12),
        ("fence_virtd::backend", 13),
        ("fence_virtd::watch", 13),
        ("fence_virtd::listener", 13),
        ("fence_virtd::cpg", 13),
        ("fence_virtd::systemd", 13),
        ("fence_virtd::status", 13),
        ("fence_virtd::backends", 14),
        ("fence_virtd::worker", 14),
        ("fence_virtd::supervise", 15),
        ("fence_virtd::hold_options", 15),
        ("fence_virtd::usage", 15),
        ("fence_virtd::hold_orders", 15),
        ("fence_virtd::reload", 15),
        ("fence_virtd::start", 15),
        ("fence_virtd::args", 15),
        ("fence_virtd::tools", 16),
        ("fence_virtd::tools::self_test", 16),
        ("fence_virtd::main", 17),
    ],
    forbidden: &[
        ("fence_virtd::listener", "fence_virtd::watch"),
        ("fence_virtd::watch", "fence_virtd::listener"),
        ("fence_virtd", "client"),
    ],
    permitted: &[("fence_virtd::tools::self_test", "client")],
    pure_layer: 1,
    unsafe_places: &["src/sys/", "src/bin/fence_virtd/libvirt/callbacks.rs"],
};

/// Most doc comments that may open with one of [`OPENINGS`], in percent.
const OPENINGS_MAX: usize = 3;

fn root() -> PathBuf {
    std::env::var_os("FENCE_SOURCE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).to_owned(), PathBuf::from)
}

fn read_sources(root: &Path, under: &Path, into: &mut Sources) {
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(root, &path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            into.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

/// The source tree, read once.
static CHECKER: LazyLock<Checker> = LazyLock::new(|| {
    let root = root();
    let mut sources = Sources::new();
    read_sources(&root, &root.join("src"), &mut sources);
    assert!(sources.len() > 30, "only {} source files in {}", sources.len(), root.display());
    sources.insert("Cargo.toml".to_owned(), fs::read_to_string(root.join("Cargo.toml")).unwrap());
    Checker::new(&sources)
});

#[track_caller]
fn assert_none(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}: {}\n{}\n", findings.len(), findings.join("\n"));
}

#[test]
fn every_path_leads_to_a_file() {
    assert_none("unresolved", &CHECKER.unresolved());
}

#[test]
fn no_two_files_import_each_other_in_a_circle() {
    assert_none("circles", &CHECKER.circles());
}

#[test]
fn imports_go_down_only() {
    assert_none("imports against the layers", &CHECKER.layers(LAYERS));
}

#[test]
fn unsafe_code_is_in_few_files() {
    assert_none("unsafe code", &CHECKER.unsafe_code(LAYERS));
}

#[test]
fn the_lower_layers_never_ask_the_clock_the_disk_or_the_network() {
    assert_none("clocks, files, sockets and log in the lower layers", &CHECKER.impure(LAYERS));
}

#[test]
fn no_two_types_have_one_name() {
    assert_none("duplicate type names", &CHECKER.duplicate_types());
}

#[test]
fn few_doc_comments_open_with_a_question_word() {
    let (all, by_word) = CHECKER.docs(&OPENINGS);
    let found: Vec<String> = by_word.iter().flat_map(|(_, places)| places.clone()).collect();
    let counts: Vec<String> =
        by_word.iter().map(|(word, places)| format!("{word} {}", places.len())).collect();
    let summary = format!("{} of {all} doc comments ({})", found.len(), counts.join(", "));
    eprintln!("{summary}");
    assert!(found.len() * 100 <= all * OPENINGS_MAX, "{summary}\n{}\n", found.join("\n"));
}

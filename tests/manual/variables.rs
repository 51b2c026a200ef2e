//! CONTRIBUTING.md compared with the environment variables that tests and scripts read.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Variables of the system, and internal ones of a script.
const OTHERS: [&str; 6] = ["FIRST", "HOME", "MAKE", "OTHER", "TMPDIR", "XDG_CACHE_HOME"];

/// Contents of all files with this extension under a directory.
fn texts(directory: &Path, extension: &str) -> Vec<String> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    paths
        .flat_map(|path| match path.is_dir() {
            true => texts(&path, extension),
            false => {
                path.extension().filter(|end| *end == extension).map(|_| read(&path)).into_iter().collect()
            }
        })
        .collect()
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Literals of a test that are a name `"FENCE_.."`.
fn in_test(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').filter(|word| is_name(word) && word.starts_with("FENCE_") && *word != "FENCE_")
}

/// Names that a script expands with a default, as in `${LIMIT:-60}`.
fn in_script(text: &str) -> impl Iterator<Item = &str> {
    let expanded = text.split("${").skip(1).filter_map(|rest| rest.split_once(":-"));
    expanded.map(|(name, _)| name).filter(|name| is_name(name) && !name.ends_with("_INNER"))
}

#[test]
fn contributing_lists_every_variable_of_tests_and_scripts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_directories =
        |extension| ["tests", "benches"].map(|name| texts(&root.join(name), extension)).concat();
    let (tests, scripts) = (in_directories("rs"), in_directories("sh"));
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    let in_makefile = makefile.lines().filter_map(|line| line.split_once(" ?= ")).map(|(name, _)| name);
    let read: BTreeSet<&str> = tests.iter().flat_map(|text| in_test(text)).chain(in_makefile).collect();
    let expanded = scripts.iter().flat_map(|text| in_script(text)).filter(|name| !OTHERS.contains(name));
    let read: BTreeSet<&str> = read.into_iter().chain(expanded).collect();
    assert!(read.contains("FENCE_SKIP") && read.contains("KINDS"), "{read:?}");
    let text = fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let listed: BTreeSet<&str> = rows.map(|(name, _)| name).collect();
    assert_eq!(listed, read);
}

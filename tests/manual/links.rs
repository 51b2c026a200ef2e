//! Links of the documents, in the source tree and as `make install` places them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Dir, program_installed, require};

/// Documents of the source tree.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(&root.join("docs"), &mut found);
    let top = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    found.extend(top.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    found
}

/// Adds the documents under a directory.
fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            into.push(path);
        }
    }
}

/// True if a link leads to a file, or to a heading of it.
fn is_alive(document: &Path, target: &str) -> bool {
    let (file, heading) =
        target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
    let Ok(text) = fs::read_to_string(document.parent().unwrap().join(file)) else { return false };
    heading.is_none_or(|heading| {
        let headings = text.lines().filter(|line| line.starts_with('#'));
        { headings }
            .any(|line| line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-") == heading)
    })
}

/// Returns the links to files or headings that do not exist, and the number of all links to files.
fn dead_links(documents: &[PathBuf]) -> (Vec<String>, usize) {
    let mut dead = Vec::new();
    let mut links = 0;
    for document in documents {
        let text = fs::read_to_string(document).unwrap();
        for target in
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
        {
            links += 1;
            if !is_alive(document, target) {
                dead.push(format!("{}: {target}", document.display()));
            }
        }
    }
    (dead, links)
}

#[test]
fn links_lead_to_files() {
    let (dead, links) = dead_links(&documents());
    assert!(dead.is_empty() && links > 50, "{links} links, dead: {dead:#?}");
}

#[test]
fn links_of_installed_documents_lead_to_installed_files() {
    require!(program_installed("make"));
    let dir = Dir::new();
    for program in ["fence_virt", "fence_virtd"] {
        let path = dir.path(&format!("built/{program}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy("/bin/true", path).unwrap();
    }
    let installed = dir.path("root");
    let output = Command::new("make")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["-s", "install", "DOCDIR=/doc"])
        .arg(format!("BINARIES={}", dir.path("built").display()))
        .arg(format!("DESTDIR={}", installed.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    for package in ["fence-virt", "fence-virtd"] {
        let mut documents = Vec::new();
        collect(&installed.join("doc").join(package), &mut documents);
        let (dead, links) = dead_links(&documents);
        assert!(dead.is_empty() && links > 5, "{package}: {links} links, dead: {dead:#?}");
    }
}

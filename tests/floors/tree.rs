//! Module tree of each crate in `src`, built from `mod` lines.

use std::collections::{BTreeMap, BTreeSet};

use crate::items::{Content, Submodule};
use crate::reader::read;
use crate::scanner::{Token, scan};
use crate::test_code::{closing, needs_test, part};

/// Source files by path, such as `src/lib.rs`; `Cargo.toml` names the other crates.
pub(crate) type Sources = BTreeMap<String, String>;

/// Index of a module in [`Tree::modules`].
pub(crate) type Id = usize;

/// Name of the library's tree.
pub(crate) const LIBRARY: &str = "lib";
/// Name of the library in `use` lines of the programs.
pub(crate) const LIBRARY_CRATE: &str = "fence_virt";

#[derive(Debug)]
pub(crate) struct Module {
    /// Path from the crate's root: empty for the root.
    pub(crate) path: Vec<String>,
    pub(crate) parent: Option<Id>,
    /// Root module of its crate.
    pub(crate) root: Id,
    /// Name of its crate: [`LIBRARY`] or the program's.
    pub(crate) krate: String,
    pub(crate) file: String,
    /// Directory of its out-of-line submodules.
    directory: String,
    pub(crate) children: BTreeMap<String, Id>,
    pub(crate) content: Content,
}

/// All crates of a source tree.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) modules: Vec<Module>,
    /// Crates of others.
    pub(crate) externals: BTreeSet<String>,
    /// First line with `unsafe`, by file; tests included.
    pub(crate) unsafe_lines: BTreeMap<String, usize>,
    /// Files that are missing, or that no crate has.
    pub(crate) findings: Vec<String>,
    reached: BTreeSet<String>,
}

/// A module that is about to be read.
struct Place {
    path: Vec<String>,
    parent: Option<Id>,
    krate: String,
    file: String,
    directory: String,
}

impl Tree {
    pub(crate) fn build(sources: &Sources) -> Tree {
        let mut tree = Tree { externals: externals(sources), ..Tree::default() };
        for file in sources.keys() {
            if let Some(krate) = crate_of_root(file) {
                let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned();
                let place = Place { path: Vec::new(), parent: None, krate, file: file.clone(), directory };
                tree.add_file(sources, place);
            }
        }
        for file in sources.keys().filter(|file| file.ends_with(".rs")) {
            if !tree.reached.contains(file) {
                tree.findings.push(format!("{file}: no `mod` line leads here"));
            }
        }
        tree
    }

    /// Module of the library's root.
    pub(crate) fn library(&self) -> Option<Id> {
        self.modules.iter().position(|module| module.krate == LIBRARY && module.parent.is_none())
    }

    fn add_file(&mut self, sources: &Sources, place: Place) -> Option<Id> {
        let text = sources.get(&place.file)?;
        self.reached.insert(place.file.clone());
        let tokens = scan(text);
        if let Some(word) = tokens.iter().find(|token| token.is("unsafe")) {
            self.unsafe_lines.insert(place.file.clone(), word.line);
        }
        if is_test_file(&tokens) {
            self.reach(sources, &place, &tokens);
            return None;
        }
        let parted = part(&tokens);
        for test in &parted.tests {
            self.reach(sources, &place, test);
        }
        Some(self.add(sources, place, &parted.code))
    }

    fn add(&mut self, sources: &Sources, place: Place, tokens: &[Token]) -> Id {
        let id = self.modules.len();
        let root = place.parent.map_or(id, |parent| self.modules[parent].root);
        let Place { path, parent, krate, file, directory } = place;
        let content = read(tokens);
        let submodules = content.submodules.clone();
        let children = BTreeMap::new();
        self.modules.push(Module { path, parent, root, krate, file, directory, children, content });
        for submodule in submodules {
            if let Some(child) = self.add_submodule(sources, id, &submodule, tokens) {
                self.modules[id].children.insert(submodule.name, child);
            }
        }
        id
    }

    fn add_submodule(
        &mut self,
        sources: &Sources,
        id: Id,
        submodule: &Submodule,
        tokens: &[Token],
    ) -> Option<Id> {
        let module = &self.modules[id];
        let mut path = module.path.clone();
        path.push(submodule.name.clone());
        let krate = module.krate.clone();
        if let Some(body) = submodule.body.clone() {
            let directory = format!("{}/{}", module.directory, submodule.name);
            let place = Place { path, parent: Some(id), krate, file: module.file.clone(), directory };
            return Some(self.add(sources, place, &tokens[body]));
        }
        let found = locate(sources, &module.file, &module.directory, submodule);
        let Some((file, directory)) = found else {
            let line = format!("{}:{}: no file for `mod {}`", module.file, submodule.line, submodule.name);
            self.findings.push(line);
            return None;
        };
        self.add_file(sources, Place { path, parent: Some(id), krate, file, directory })
    }

    /// Marks the files of test modules as reached.
    fn reach(&mut self, sources: &Sources, place: &Place, tokens: &[Token]) {
        for submodule in read(tokens).submodules {
            let mut inner = Place {
                path: Vec::new(),
                parent: None,
                krate: place.krate.clone(),
                file: place.file.clone(),
                directory: format!("{}/{}", place.directory, submodule.name),
            };
            if let Some(body) = submodule.body {
                self.reach(sources, &inner, &tokens[body]);
            } else if let Some((file, directory)) = locate(sources, &place.file, &place.directory, &submodule)
            {
                self.reached.insert(file.clone());
                inner.directory = directory;
                let inner_tokens = scan(&sources[&file]);
                if let Some(word) = inner_tokens.iter().find(|token| token.is("unsafe")) {
                    self.unsafe_lines.insert(file.clone(), word.line);
                }
                inner.file = file;
                self.reach(sources, &inner, &inner_tokens);
            }
        }
    }
}

/// Returns the file of a `mod` line, and the directory of that module's own submodules.
fn locate(sources: &Sources, file: &str, directory: &str, submodule: &Submodule) -> Option<(String, String)> {
    let name = &submodule.name;
    if let Some(path) = &submodule.path {
        let base = file.rsplit_once('/').map_or("", |(base, _)| base);
        let file = normal(&format!("{base}/{path}"));
        let directory = file.rsplit_once('/').map_or("", |(base, _)| base).to_owned();
        return sources.contains_key(&file).then_some((file, directory));
    }
    let own = format!("{directory}/{name}");
    [format!("{own}.rs"), format!("{own}/mod.rs")]
        .into_iter()
        .find(|file| sources.contains_key(file))
        .map(|file| (file, own))
}

/// Resolves `..` in a path.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// Returns the crate's name if a file is a crate root by Cargo's layout.
fn crate_of_root(file: &str) -> Option<String> {
    if file == "src/lib.rs" {
        return Some(LIBRARY.to_owned());
    }
    let name = file.strip_prefix("src/bin/")?;
    let name = name.strip_suffix("/main.rs").or_else(|| name.strip_suffix(".rs"))?;
    (!name.contains('/')).then(|| name.to_owned())
}

/// Names of the dependencies in Cargo.toml, and of Rust's own crates.
fn externals(sources: &Sources) -> BTreeSet<String> {
    let manifest = sources.get("Cargo.toml").map_or("", String::as_str);
    let mut is_inside = false;
    let mut names: BTreeSet<String> = ["std", "core", "alloc"].map(str::to_owned).into();
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_inside = line.trim() == "[dependencies]";
        } else if let Some((name, _)) = line.split_once('=').filter(|_| is_inside) {
            names.insert(name.trim().replace('-', "_"));
        }
    }
    names
}

/// Returns true if a file begins with `#![cfg(test)]`.
fn is_test_file(tokens: &[Token]) -> bool {
    let is_head = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.is(text));
    (0..tokens.len()).any(|at| {
        let is_cfg =
            is_head(at, "#") && is_head(at + 1, "!") && is_head(at + 2, "[") && is_head(at + 3, "cfg");
        is_cfg && {
            let end = closing(tokens, at + 2);
            end > at + 7 && needs_test(&tokens[at + 5..end - 2])
        }
    })
}

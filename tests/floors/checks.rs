//! Checks of a source tree. Each returns its findings, sorted.

use std::collections::{BTreeMap, BTreeSet};

use crate::circles::{Imports, circles};
use crate::graph::{Edge, ExternalUse, Graph, graph};
use crate::tree::{Id, LIBRARY, Sources, Tree};

/// Order of the rooms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers<'a> {
    /// Path prefix of each room and its layer; the longest prefix counts.
    pub(crate) rooms: &'a [(&'a str, u32)],
    /// Imports that are forbidden though the layers allow them: path prefixes of importer and imported.
    pub(crate) forbidden: &'a [(&'a str, &'a str)],
    /// Exceptions from `forbidden`: rooms.
    pub(crate) permitted: &'a [(&'a str, &'a str)],
    /// The highest layer without clocks, files, sockets and log.
    pub(crate) pure_layer: u32,
    /// Where unsafe code may be: directories (with `/` at the end) and files.
    pub(crate) unsafe_places: &'a [&'a str],
}

/// A source tree, read and resolved.
pub(crate) struct Checker {
    tree: Tree,
    graph: Graph,
}

/// Room that nobody but its own files and a program's main file imports.
const TOOLS: &str = "tools";
/// Room that imports nothing of ours but the vocabulary of time.
const SYSTEM: &str = "sys";
const TIME: &str = "time";
/// Functions of ours that read a clock.
const CLOCKS: [&str; 2] = ["Instant::now", "Instant::elapsed"];
/// Paths in other crates that the lower layers never use.
const IMPURE: [&str; 14] = [
    "std::fs",
    "std::io",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os",
    "std::process",
    "std::thread",
    "std::env",
    "std::time::Instant",
    "std::time::SystemTime",
    "log",
    "getrandom",
    "nix",
    "libc",
];
/// Names of the prelude that no type of ours may hide.
const PRELUDE: [&str; 12] = [
    "Box", "Clone", "Copy", "Default", "Drop", "Fn", "Iterator", "Option", "Result", "Send", "String", "Vec",
];
/// Opening words of doc comments of which there may be few.
pub(crate) const OPENINGS: [&str; 5] = ["What", "Whether", "How", "Who", "It"];

impl Checker {
    pub(crate) fn new(sources: &Sources) -> Checker {
        let tree = Tree::build(sources);
        let graph = graph(&tree);
        Checker { tree, graph }
    }

    /// Paths and `mod` lines that lead nowhere, and files that no `mod` line leads to.
    pub(crate) fn unresolved(&self) -> Vec<String> {
        sorted(self.tree.findings.iter().chain(&self.graph.unresolved).cloned())
    }

    /// Circles among files.
    pub(crate) fn circles(&self) -> Vec<String> {
        circles(&self.imports(|id| self.tree.modules[id].file.clone()))
    }

    /// Imports by the name that `name_of` gives each module.
    fn imports(&self, name_of: impl Fn(Id) -> String) -> Imports {
        let mut imports = Imports::new();
        for edge in &self.graph.edges {
            let (from, to) = (name_of(edge.from), name_of(edge.to));
            if from != to {
                imports.entry(from).or_default().entry(to).or_insert_with(|| self.describe(edge));
            }
        }
        imports
    }

    fn describe(&self, edge: &Edge) -> String {
        let modules = &self.tree.modules;
        format!("{}:{}: {} → {}", modules[edge.from].file, edge.line, edge.text, modules[edge.to].file)
    }

    /// Path of a module: programs begin with their name, the library's modules with their own.
    fn place(&self, id: Id) -> String {
        let module = &self.tree.modules[id];
        let path = module.path.join("::");
        match (module.krate == LIBRARY, path.is_empty()) {
            (true, true) => LIBRARY.to_owned(),
            (true, false) => path,
            (false, true) => format!("{}::main", module.krate),
            (false, false) => format!("{}::{path}", module.krate),
        }
    }

    fn room<'a>(&self, layers: Layers<'a>, id: Id) -> Option<(&'a str, u32)> {
        let place = self.place(id);
        let rooms = layers.rooms.iter().filter(|(room, _)| is_within(&place, room));
        rooms.max_by_key(|(room, _)| room.len()).copied()
    }

    /// Imports against the order of the rooms.
    pub(crate) fn layers(&self, layers: Layers) -> Vec<String> {
        let mut findings = Vec::new();
        let mut empty: BTreeSet<&str> = layers.rooms.iter().map(|(room, _)| *room).collect();
        for (id, module) in self.tree.modules.iter().enumerate() {
            if let Some((room, _)) = self.room(layers, id) {
                empty.remove(room);
            } else {
                let place = self.place(id);
                findings.push(format!("{}: {place} is in no room: add it to the table", module.file));
            }
        }
        findings
            .extend(empty.into_iter().map(|room| format!("{room}: no file is in this room of the table")));
        let mut seen = BTreeSet::new();
        for edge in &self.graph.edges {
            let files = (&self.tree.modules[edge.from].file, &self.tree.modules[edge.to].file);
            if let Some(why) = self.objection(layers, edge).filter(|_| seen.insert(files)) {
                findings.push(format!("{}: {why}", self.describe(edge)));
            }
        }
        let room_of = |id| self.room(layers, id).map_or_else(String::new, |(room, _)| room.to_owned());
        let mut rooms = self.imports(room_of);
        rooms.remove("");
        findings.extend(circles(&rooms).into_iter().map(|circle| format!("rooms: {circle}")));
        sorted(findings)
    }

    fn objection(&self, layers: Layers, edge: &Edge) -> Option<String> {
        let (from, own) = self.room(layers, edge.from)?;
        let (to, other) = self.room(layers, edge.to).filter(|(to, _)| *to != from)?;
        let is_tool = |room: &str| room.split("::").any(|part| part == TOOLS);
        if from == SYSTEM {
            (to != TIME).then(|| format!("{SYSTEM} imports nothing of ours but {TIME}"))
        } else if is_tool(to) && !is_tool(from) && !from.ends_with("::main") {
            Some(format!("only main imports {TOOLS}"))
        } else if layers.forbidden.iter().any(|(a, b)| is_within(from, a) && is_within(to, b))
            && !layers.permitted.contains(&(from, to))
        {
            Some(format!("{from} must not know {to}"))
        } else if other > own {
            Some(format!("upwards from {from} (layer {own}) to {to} (layer {other})"))
        } else {
            None
        }
    }

    /// Clocks, files, sockets and log in the lower layers.
    pub(crate) fn impure(&self, layers: Layers) -> Vec<String> {
        let is_low = |id| self.room(layers, id).is_some_and(|(_, layer)| layer <= layers.pure_layer);
        let is_impure = |path: &str| {
            let is_in = |word: &&str| match word.contains("::") {
                true => path.starts_with(*word),
                false => path.split("::").next() == Some(*word),
            };
            IMPURE.iter().any(is_in)
        };
        let uses =
            self.graph.externals.iter().filter(|external| is_low(external.from) && is_impure(&external.path));
        let describe = |ExternalUse { from, line, path }: &ExternalUse| {
            format!("{}:{line}: {path}", self.tree.modules[*from].file)
        };
        let reads_clock = |edge: &&Edge| CLOCKS.iter().any(|clock| edge.text.ends_with(clock));
        let clocks = self.graph.edges.iter().filter(|edge| is_low(edge.from)).filter(reads_clock);
        sorted(uses.map(describe).chain(clocks.map(|edge| self.describe(edge))))
    }

    /// Unsafe code in the wrong place, and modules whose head does not forbid it.
    pub(crate) fn unsafe_code(&self, layers: Layers) -> Vec<String> {
        let is_listed = |file: &str| {
            let fits = |place: &&str| file == *place || place.ends_with('/') && file.starts_with(*place);
            layers.unsafe_places.iter().any(fits)
        };
        let code = self.tree.unsafe_lines.iter().filter(|(file, _)| !is_listed(file));
        let mut findings: Vec<String> =
            code.map(|(file, line)| format!("{file}:{line}: unsafe code")).collect();
        // Modules around a place with unsafe code cannot forbid it: they deny it.
        let mut around = BTreeSet::new();
        for module in self.tree.modules.iter().filter(|module| is_listed(&module.file)) {
            let mut outer = module.parent;
            while let Some(id) = outer {
                around.insert(id);
                outer = self.tree.modules[id].parent;
            }
        }
        for (id, module) in
            self.tree.modules.iter().enumerate().filter(|(_, module)| !is_listed(&module.file))
        {
            let lint = if around.contains(&id) { "deny" } else { "forbid" };
            let is_head = module.parent.is_none_or(|parent| around.contains(&parent));
            if is_head && !self.has_lint(id, lint) && !self.has_lint(id, "forbid") {
                findings.push(format!("{}: no `#![{lint}(unsafe_code)]` here or above", module.file));
            }
        }
        sorted(findings)
    }

    fn has_lint(&self, id: Id, lint: &str) -> bool {
        let module = &self.tree.modules[id];
        let attributes = &module.content.attributes;
        attributes.iter().any(|text| text.starts_with(&format!("{lint}(")) && text.contains("unsafe_code"))
            || module.parent.is_some_and(|parent| self.has_lint(parent, lint))
    }

    /// Types of one name in more than one module, and types that hide one of the prelude.
    pub(crate) fn duplicate_types(&self) -> Vec<String> {
        let mut places: BTreeMap<&str, BTreeMap<(&str, &[String]), String>> = BTreeMap::new();
        for module in &self.tree.modules {
            for item in module.content.items.iter().filter(|item| item.is_type) {
                let place = format!("{}:{}", module.file, item.line);
                places.entry(&item.name).or_default().entry((&module.file, &module.path)).or_insert(place);
            }
        }
        let wrong = places.into_iter().filter(|(name, places)| places.len() > 1 || PRELUDE.contains(name));
        sorted(
            wrong.map(|(name, places)| {
                format!("{name}: {}", places.into_values().collect::<Vec<_>>().join(", "))
            }),
        )
    }

    /// Number of all doc comments, and those that open with each of some words.
    pub(crate) fn docs(&self, words: &[&str]) -> (usize, Vec<(String, Vec<String>)>) {
        let mut docs = BTreeSet::new();
        for module in &self.tree.modules {
            docs.extend(
                module.content.docs.iter().map(|doc| (module.file.as_str(), doc.line, doc.text.as_str())),
            );
        }
        let first = |text: &str| {
            text.split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty()).map(str::to_owned)
        };
        let opened_by = |word: &str| {
            let found = docs.iter().filter(|(_, _, text)| first(text).as_deref() == Some(word));
            found
                .map(|(file, line, text)| {
                    format!("{file}:{line}:{}", text.lines().next().unwrap_or_default())
                })
                .collect()
        };
        (docs.len(), words.iter().map(|word| ((*word).to_owned(), opened_by(word))).collect())
    }
}

/// Returns true if a module path is a prefix or below it.
fn is_within(place: &str, prefix: &str) -> bool {
    place.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn sorted(findings: impl IntoIterator<Item = String>) -> Vec<String> {
    findings.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

//! Graph of the imports of a tree.

use std::collections::BTreeSet;

use crate::items::Import;
use crate::resolve::{Resolver, Target};
use crate::tree::{Id, Tree};

/// A path that leads from one module to an item of another.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub(crate) from: Id,
    pub(crate) to: Id,
    pub(crate) line: usize,
    /// Path as it is written.
    pub(crate) text: String,
}

/// Full path of something in a crate of others.
#[derive(Debug, Clone)]
pub(crate) struct ExternalUse {
    pub(crate) from: Id,
    pub(crate) line: usize,
    pub(crate) path: String,
}

/// All paths of a tree, resolved.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) edges: Vec<Edge>,
    pub(crate) externals: Vec<ExternalUse>,
    /// Paths without a target.
    pub(crate) unresolved: Vec<String>,
}

/// A path in the source.
struct Place<'a> {
    from: Id,
    line: usize,
    text: &'a str,
}

/// Resolves all paths of a tree.
pub(crate) fn graph(tree: &Tree) -> Graph {
    let mut graph = Graph::default();
    for from in 0..tree.modules.len() {
        graph.add_imports(tree, from);
        graph.add_code_paths(tree, from);
    }
    graph
}

impl Graph {
    fn add_imports(&mut self, tree: &Tree, from: Id) {
        for (at, import) in tree.modules[from].content.imports.iter().enumerate() {
            let prefix = if import.is_reexport { "pub use " } else { "" };
            let suffix = if import.binds == "*" { "::*" } else { "" };
            let text = format!("{prefix}{}{suffix}", import.path.join("::"));
            let place = Place { from, line: import.line, text: &text };
            let targets = Resolver { tree }.path(from, &import.path, Some(import.at), &mut vec![(from, at)]);
            self.check_resolved(tree, &place, &targets);
            for target in targets {
                match target {
                    Target::Module(module) if import.binds == "*" => {
                        self.add_glob(tree, &place, import, module)
                    }
                    // The paths that begin with its name are what is imported.
                    Target::Module(_) if !import.is_reexport => {}
                    target => self.add_edge(&place, target),
                }
            }
        }
    }

    /// Adds what a glob brings in: all for a re-export, else what the module's code names.
    fn add_glob(&mut self, tree: &Tree, place: &Place, import: &Import, module: Id) {
        let own = &tree.modules[place.from].content;
        let content = &tree.modules[module].content;
        let names: BTreeSet<&str> = if import.is_reexport {
            self.add_edge(place, Target::Module(module));
            let items = content.items.iter().map(|item| item.name.as_str());
            let exported = content.imports.iter().filter(|import| import.is_reexport && import.binds != "*");
            items.chain(exported.map(|import| import.binds.as_str())).collect()
        } else {
            let is_own = |name: &str| {
                own.items.iter().any(|item| item.name == name)
                    || own.imports.iter().any(|import| import.binds == name)
            };
            own.words.iter().map(String::as_str).filter(|name| !is_own(name)).collect()
        };
        for name in names {
            let text = format!("{} ({name})", place.text);
            for target in (Resolver { tree }).member(module, name, None, &mut Vec::new()) {
                if matches!(target, Target::Item { .. }) {
                    self.add_edge(&Place { text: &text, ..*place }, target);
                }
            }
        }
    }

    fn add_code_paths(&mut self, tree: &Tree, from: Id) {
        let resolver = Resolver { tree };
        for path in &tree.modules[from].content.paths {
            let head = &path.segments[..1];
            let is_absolute = ["crate", "self", "super", ""].contains(&head[0].as_str());
            // Else a name of the prelude, a generic parameter or a type of a function's body.
            if !is_absolute && resolver.path(from, head, Some(path.at), &mut Vec::new()).is_empty() {
                continue;
            }
            let text = path.segments.join("::");
            let place = Place { from, line: path.line, text: &text };
            let mut targets = resolver.path(from, &path.segments, Some(path.at), &mut Vec::new());
            self.check_resolved(tree, &place, &targets);
            // Code never names a module alone.
            if targets.iter().any(|target| !matches!(target, Target::Module(_))) {
                targets.retain(|target| !matches!(target, Target::Module(_)));
            }
            for target in targets {
                self.add_edge(&place, target);
            }
        }
    }

    fn check_resolved(&mut self, tree: &Tree, place: &Place, targets: &[Target]) {
        if targets.is_empty() {
            let file = &tree.modules[place.from].file;
            let Place { line, text, .. } = place;
            self.unresolved
                .push(format!("{file}:{line}: `{text}` leads to no file of ours and no crate of Cargo.toml"));
        }
    }

    fn add_edge(&mut self, place: &Place, target: Target) {
        let Place { from, line, text } = *place;
        match target {
            Target::Module(to) | Target::Item { module: to, .. } => {
                self.edges.push(Edge { from, to, line, text: text.to_owned() });
            }
            Target::External(path) => self.externals.push(ExternalUse { from, line, path: path.join("::") }),
        }
    }
}

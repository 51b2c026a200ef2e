//! Resolves paths to the modules that define what they name.

use crate::items::Import;
use crate::tree::{Id, LIBRARY, LIBRARY_CRATE, Tree};

/// Meaning of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Module(Id),
    /// Item of a module; also its variants and associated functions.
    Item {
        module: Id,
        name: String,
        is_type: bool,
    },
    /// Path in a crate of others.
    External(Vec<String>),
}

/// Imports that are being resolved, to stop where they import each other.
pub(crate) type Visited = Vec<(Id, usize)>;

pub(crate) struct Resolver<'a> {
    pub(crate) tree: &'a Tree,
}

impl Resolver<'_> {
    /// Resolves a path that is written in a module at the token `at`.
    pub(crate) fn path(
        &self,
        id: Id,
        segments: &[String],
        at: Option<usize>,
        visited: &mut Visited,
    ) -> Vec<Target> {
        let module = &self.tree.modules[id];
        let (head, rest) = segments.split_first().expect("a path has a segment");
        let mut targets = match head.as_str() {
            "crate" => vec![Target::Module(module.root)],
            "self" => vec![Target::Module(id)],
            "super" => module.parent.map(Target::Module).into_iter().collect(),
            "" => Vec::new(),
            name => self.member(id, name, at, visited),
        };
        let mut rest = rest;
        if head.is_empty() {
            let Some((name, inner)) = rest.split_first() else { return Vec::new() };
            targets = self.foreign(id, name);
            rest = inner;
        } else if targets.is_empty() {
            targets = self.foreign(id, head);
        }
        for name in rest {
            let outer = types_first(targets);
            targets = outer.into_iter().flat_map(|target| self.next(target, name, visited)).collect();
        }
        targets.sort();
        targets.dedup();
        targets
    }

    /// Resolves the name of a crate.
    fn foreign(&self, id: Id, name: &str) -> Vec<Target> {
        if name == LIBRARY_CRATE && self.tree.modules[id].krate != LIBRARY {
            return self.tree.library().map(Target::Module).into_iter().collect();
        }
        let is_known = self.tree.externals.contains(name);
        is_known.then(|| Target::External(vec![name.to_owned()])).into_iter().collect()
    }

    fn next(&self, target: Target, name: &str, visited: &mut Visited) -> Vec<Target> {
        match target {
            Target::Module(id) if name == "super" => {
                self.tree.modules[id].parent.map(Target::Module).into_iter().collect()
            }
            Target::Module(id) => self.member(id, name, None, visited),
            Target::External(mut path) => {
                path.push(name.to_owned());
                vec![Target::External(path)]
            }
            // A variant or associated item.
            item @ Target::Item { .. } => vec![item],
        }
    }

    /// Resolves a name of a module's scope; `at` includes the blocks around that token.
    pub(crate) fn member(&self, id: Id, name: &str, at: Option<usize>, visited: &mut Visited) -> Vec<Target> {
        let module = &self.tree.modules[id];
        if let Some(at) = at {
            let local = self.local(id, name, at, visited);
            if !local.is_empty() {
                return local;
            }
        }
        let mut targets: Vec<Target> =
            module.children.get(name).copied().map(Target::Module).into_iter().collect();
        for item in module.content.items.iter().filter(|item| item.name == name) {
            targets.push(Target::Item { module: id, name: name.to_owned(), is_type: item.is_type });
        }
        let at_top = |import: &Import| import.block.is_none();
        targets.extend(self.imported(id, name, visited, &at_top));
        if targets.is_empty() {
            targets = self
                .imported(id, "*", visited, &at_top)
                .into_iter()
                .filter_map(into_module)
                .flat_map(|module| self.member(module, name, None, visited))
                .collect();
        }
        targets
    }

    /// Resolves a name that a `use` of the innermost block around a token brings in.
    fn local(&self, id: Id, name: &str, at: usize, visited: &mut Visited) -> Vec<Target> {
        let imports = self.tree.modules[id].content.imports.iter();
        let blocks = imports.filter(|import| import.binds == name).filter_map(|import| import.block.clone());
        let Some(start) = blocks.filter(|block| block.contains(&at)).map(|block| block.start).max() else {
            return Vec::new();
        };
        self.imported(id, name, visited, &|import| {
            import.block.as_ref().is_some_and(|block| block.start == start)
        })
    }

    fn imported(
        &self,
        id: Id,
        name: &str,
        visited: &mut Visited,
        test: &dyn Fn(&Import) -> bool,
    ) -> Vec<Target> {
        let mut targets = Vec::new();
        for (index, import) in self.tree.modules[id].content.imports.iter().enumerate() {
            if import.binds == name && test(import) && !visited.contains(&(id, index)) {
                visited.push((id, index));
                targets.extend(self.path(id, &import.path, Some(import.at), visited));
                visited.pop();
            }
        }
        targets
    }
}

/// Keeps modules and types if there are any: only they have something inside.
fn types_first(targets: Vec<Target>) -> Vec<Target> {
    let is_type = |target: &Target| !matches!(target, Target::Item { is_type: false, .. });
    if targets.iter().any(is_type) { targets.into_iter().filter(is_type).collect() } else { targets }
}

fn into_module(target: Target) -> Option<Id> {
    match target {
        Target::Module(id) => Some(id),
        _ => None,
    }
}

//! What a module consists of.

use std::collections::BTreeSet;
use std::ops::Range;

/// A named item at module level.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// True for struct, enum, union, trait and type alias.
    pub(crate) is_type: bool,
    pub(crate) line: usize,
}

/// One name of a `use` tree.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    /// Full path; a leading `::` is an empty first segment.
    pub(crate) path: Vec<String>,
    /// Name that it brings into scope; `*` for all, `_` for none.
    pub(crate) binds: String,
    pub(crate) is_reexport: bool,
    /// Index of the `use`.
    pub(crate) at: usize,
    /// Block in which it holds, by token indices; none at module level.
    pub(crate) block: Option<Range<usize>>,
    pub(crate) line: usize,
}

/// A path of at least two segments in code.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) at: usize,
    pub(crate) line: usize,
}

/// A `mod` line or inline module.
#[derive(Debug, Clone)]
pub(crate) struct Submodule {
    pub(crate) name: String,
    /// Value of `#[path = ".."]`.
    pub(crate) path: Option<String>,
    /// Tokens between the braces, if it is inline.
    pub(crate) body: Option<Range<usize>>,
    pub(crate) line: usize,
}

/// A doc comment.
#[derive(Debug, Clone)]
pub(crate) struct Doc {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// Contents of a module, without its inline submodules.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) items: Vec<Item>,
    pub(crate) imports: Vec<Import>,
    pub(crate) paths: Vec<Path>,
    pub(crate) submodules: Vec<Submodule>,
    /// Every identifier that its code has.
    pub(crate) words: BTreeSet<String>,
    pub(crate) docs: Vec<Doc>,
    /// Inner attributes without blanks, such as `forbid(unsafe_code)`.
    pub(crate) attributes: Vec<String>,
}

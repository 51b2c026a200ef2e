//! Reads the items, imports and paths of a module from its tokens.

use crate::items::{Content, Doc, Import, Item, Path, Submodule};
use crate::scanner::{Kind, Token};
use crate::test_code::closing;

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    /// Open braces.
    open: Vec<usize>,
    /// How many of them are of `extern` blocks and macros whose contents are items of the module.
    transparent: usize,
    /// Value of the last `#[path = ".."]`.
    path: Option<String>,
    /// Index behind the last `pub` or `pub(..)`.
    visibility_end: usize,
    content: Content,
}

/// Reads a module from its tokens.
pub(crate) fn read(tokens: &[Token]) -> Content {
    let mut reader = Reader {
        tokens,
        at: 0,
        open: Vec::new(),
        transparent: 0,
        path: None,
        visibility_end: usize::MAX,
        content: Content::default(),
    };
    while reader.at < tokens.len() {
        reader.step();
    }
    reader.content
}

impl Reader<'_> {
    fn is_at(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(text))
    }

    fn word(&self, at: usize) -> Option<&str> {
        self.tokens.get(at).filter(|token| token.kind == Kind::Word).map(|token| token.text.as_str())
    }

    fn step(&mut self) {
        let token = &self.tokens[self.at];
        if token.is_doc() {
            self.content.docs.push(Doc { text: token.text.clone(), line: token.line });
        } else if token.is("#") {
            return self.attribute();
        } else if token.is("{") {
            self.open_block();
        } else if token.is("}") {
            self.close_block();
        } else if token.is("::")
            && self.word(self.at + 1).is_some()
            && !self.is_at(self.at.wrapping_sub(1), ">")
        {
            return self.code_path();
        } else if token.kind == Kind::Word {
            return self.step_word();
        }
        self.at += 1;
    }

    fn attribute(&mut self) {
        let is_inner = self.is_at(self.at + 1, "!");
        let open = self.at + 1 + usize::from(is_inner);
        if !self.is_at(open, "[") {
            self.at += 1;
            return;
        }
        let end = closing(self.tokens, open);
        let inside = &self.tokens[open + 1..end - 1];
        if is_inner {
            self.content.attributes.push(inside.iter().map(|token| token.text.as_str()).collect());
        } else if inside.len() == 3 && inside[0].is("path") {
            self.path = Some(inside[2].text.clone());
        }
        self.at = end;
    }

    /// Returns true if what is here is at module level.
    fn is_top(&self) -> bool {
        self.open.len() == self.transparent
    }

    fn open_block(&mut self) {
        let is_before = |back: usize, text: &str| self.is_at(self.at.wrapping_sub(back), text);
        let is_macro = is_before(1, "!") && self.word(self.at.wrapping_sub(2)).is_some();
        if self.is_top() && (is_macro || is_before(1, "extern") || is_before(2, "extern")) {
            self.transparent += 1;
        }
        self.open.push(self.at);
    }

    fn close_block(&mut self) {
        let Some(start) = self.open.pop() else { return };
        self.transparent = self.transparent.min(self.open.len());
        for import in &mut self.content.imports {
            if let Some(block) = import.block.as_mut().filter(|block| block.start == start) {
                block.end = self.at;
            }
        }
    }

    fn step_word(&mut self) {
        let text = self.tokens[self.at].text.as_str();
        let is_top = self.is_top();
        if text == "pub" {
            self.at += 1;
            if self.is_at(self.at, "(") {
                self.at = closing(self.tokens, self.at);
            }
            self.visibility_end = self.at;
        } else if text == "use" && !self.is_at(self.at + 1, "<") {
            self.use_line();
        } else if is_top && text == "mod" && self.word(self.at + 1).is_some() {
            self.submodule();
        } else if self.is_at(self.at + 1, "::") {
            self.code_path();
        } else {
            if is_top {
                self.item();
            }
            self.content.words.insert(text.to_owned());
            self.at += 1;
        }
    }

    fn submodule(&mut self) {
        let name = self.tokens[self.at + 1].text.clone();
        let line = self.tokens[self.at].line;
        let path = self.path.take();
        let mut body = None;
        self.at += 2;
        if self.is_at(self.at, "{") {
            let end = closing(self.tokens, self.at);
            body = Some(self.at + 1..end - 1);
            self.at = end;
        }
        self.content.submodules.push(Submodule { name, path, body, line });
    }

    /// Notes the item whose keyword is here.
    fn item(&mut self) {
        let keyword = self.tokens[self.at].text.as_str();
        let mut name_at = self.at + 1;
        if keyword == "static" && self.is_at(name_at, "mut") || keyword == "macro_rules" {
            name_at += 1;
        }
        let is_type = matches!(keyword, "struct" | "enum" | "union" | "trait" | "type");
        if !is_type && !matches!(keyword, "fn" | "const" | "static" | "macro_rules") {
            return;
        }
        let Some(name) =
            self.word(name_at).filter(|name| !["fn", "unsafe", "async", "extern", "_"].contains(name))
        else {
            return;
        };
        let line = self.tokens[self.at].line;
        self.content.items.push(Item { name: name.to_owned(), is_type, line });
        if keyword == "macro_rules" {
            self.types_of_macro(name_at + 1);
        }
    }

    /// Counts the types that a macro defines as items of its module.
    fn types_of_macro(&mut self, open: usize) {
        for at in open..closing(self.tokens, open) {
            let is_type = ["struct", "enum", "union", "trait"].iter().any(|keyword| self.is_at(at, keyword));
            if let Some(name) = self.word(at + 1).filter(|_| is_type) {
                let item = Item { name: name.to_owned(), is_type, line: self.tokens[at].line };
                self.content.items.push(item);
            }
        }
    }

    /// Reads a path in code from here on.
    fn code_path(&mut self) {
        let start = self.at;
        let line = self.tokens[start].line;
        let is_range = self.is_at(start.wrapping_sub(2), ".");
        let is_method = self.is_at(start.wrapping_sub(1), ".") && !is_range;
        let is_fragment = self.is_at(start.wrapping_sub(1), "$");
        let mut segments = Vec::new();
        if self.is_at(self.at, "::") {
            segments.push(String::new());
            self.at += 1;
        }
        while let Some(word) = self.word(self.at) {
            segments.push(word.to_owned());
            self.at += 1;
            if !self.is_at(self.at, "::") || self.word(self.at + 1).is_none() {
                break;
            }
            self.at += 1;
        }
        // Behind it may stand `::<..>`.
        self.at += usize::from(self.is_at(self.at, "::"));
        let head = segments.first().cloned().unwrap_or_default();
        // `$crate` is the crate of the macro.
        let is_code = !is_method && (!is_fragment || head == "crate");
        self.content.words.insert(head);
        if is_code && segments.len() > 1 {
            self.content.paths.push(Path { segments, at: start, line });
        }
    }

    fn use_line(&mut self) {
        let is_reexport = self.visibility_end == self.at;
        let start = self.at;
        let block = self.open.last().filter(|_| !self.is_top()).map(|open| *open..usize::MAX);
        let first = self.content.imports.len();
        self.at += 1;
        self.use_tree(&[]);
        for import in &mut self.content.imports[first..] {
            import.is_reexport = is_reexport;
            import.block.clone_from(&block);
            import.at = start;
        }
    }

    /// Reads the rest of a `use` tree whose first segments are `prefix`.
    fn use_tree(&mut self, prefix: &[String]) {
        let mut path = prefix.to_vec();
        if self.is_at(self.at, "::") {
            path.push(String::new());
            self.at += 1;
        }
        loop {
            let Some(token) = self.tokens.get(self.at) else { return };
            let line = token.line;
            if token.is("{") {
                let end = closing(self.tokens, self.at);
                self.at += 1;
                while self.at < end - 1 {
                    self.use_tree(&path);
                    self.at += usize::from(self.is_at(self.at, ","));
                }
                self.at = end;
                return;
            }
            let is_end = !self.is_at(self.at + 1, "::");
            let is_self = token.is("self") && !path.is_empty();
            if !is_self && !token.is("*") {
                path.push(token.text.clone());
            }
            let mut binds =
                if token.is("*") { "*".to_owned() } else { path.last().cloned().unwrap_or_default() };
            self.at += if is_end { 1 } else { 2 };
            if is_end {
                if self.is_at(self.at, "as") {
                    binds = self.word(self.at + 1).unwrap_or("_").to_owned();
                    self.at += 2;
                }
                self.content.imports.push(Import {
                    path,
                    binds,
                    is_reexport: false,
                    at: 0,
                    block: None,
                    line,
                });
                return;
            }
        }
    }
}

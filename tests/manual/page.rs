//! Parser of man pages in mdoc: items, their defaults, examples.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Names of the pages.
pub const PAGES: [&str; 4] = ["fence_virtd.8", "fence_virt.conf.5", "fence_xvm.8", "fence_virt.8"];

/// Source of a page.
pub struct Page {
    pub name: &'static str,
    lines: Vec<String>,
}

/// Entry of a list.
pub struct Item {
    /// Nearest heading (`.Ss` or `.Sh`) above it.
    pub section: String,
    /// Words after `.It`.
    pub head: Vec<String>,
    pub body: Vec<String>,
}

pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name)
}

/// Text without mdoc's escapes.
fn plain(text: &str) -> String {
    text.replace("\\(dq", "\"").replace("\\&", "").replace("\\e", "\\")
}

impl Page {
    pub fn read(name: &'static str) -> Page {
        let text = fs::read_to_string(path(name)).unwrap();
        Page { name, lines: text.lines().map(str::to_owned).collect() }
    }

    pub fn items(&self) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        let mut section = String::new();
        let mut is_open = false;
        for line in &self.lines {
            let heading = line.strip_prefix(".Sh ").or(line.strip_prefix(".Ss "));
            if let Some(heading) = heading {
                section = heading.to_owned();
            } else if let Some(head) = line.strip_prefix(".It ") {
                let head = head.split_whitespace().map(str::to_owned).collect();
                items.push(Item { section: section.clone(), head, body: Vec::new() });
                is_open = true;
            } else if line.starts_with(".El") || line.starts_with(".Bl") {
                is_open = false;
            } else if let Some(item) = items.last_mut().filter(|_| is_open) {
                item.body.push(line.clone());
            }
        }
        items
    }

    /// Items that open with a macro such as `Fl` or `Cm`, rows of tables excluded.
    pub fn items_of(&self, kind: &str) -> Vec<Item> {
        let is_meant = |item: &Item| item.head[0] == kind && !item.head.iter().any(|word| word == "Ta");
        self.items().into_iter().filter(is_meant).collect()
    }

    /// Forms of each option.
    pub fn options(&self) -> BTreeSet<BTreeSet<String>> {
        self.items_of("Fl").iter().map(Item::flags).collect()
    }

    /// Texts between `.Bd -literal` and `.Ed`.
    pub fn literals(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mut is_open = false;
        for line in &self.lines {
            if line.starts_with(".Bd -literal") {
                found.push(String::new());
                is_open = true;
            } else if line == ".Ed" {
                is_open = false;
            } else if let Some(text) = found.last_mut().filter(|_| is_open) {
                *text += &format!("{}\n", plain(line));
            }
        }
        found
    }

    /// Command lines of its examples.
    pub fn commands(&self) -> Vec<String> {
        self.lines.iter().filter_map(|line| line.strip_prefix(".Dl ")).map(plain).collect()
    }
}

impl Item {
    /// Options `-x` and `--long` of its head.
    pub fn flags(&self) -> BTreeSet<String> {
        self.after("Fl").iter().map(|flag| format!("-{flag}")).collect()
    }

    /// Words that follow a macro.
    pub fn after(&self, kind: &str) -> Vec<String> {
        let pairs = self.head.windows(2).filter(|pair| pair[0] == kind);
        pairs.map(|pair| pair[1].clone()).collect()
    }

    /// Default: the value of `.Cm value .` on the line after `Default:`.
    pub fn default(&self) -> Option<String> {
        let at = self.body.iter().position(|line| line == "Default:")?;
        let value = self.body.get(at + 1).and_then(|line| line.strip_prefix(".Cm "));
        let value = value.unwrap_or_else(|| panic!("no value behind Default: of {:?}", self.head));
        // Words of a list are set apart from their commas.
        Some(value.trim_end_matches(" .").replace(" ,", ","))
    }

    /// Returns true if the item states that it has no default.
    pub fn says_no_default(&self) -> bool {
        self.body.iter().any(|line| line == "No default.")
    }
}

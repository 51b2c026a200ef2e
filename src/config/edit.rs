//! Edits single values of a file and keeps every other byte.

use std::ops::Range;

use crate::fence::ListenerName;

use super::diagnostic_sink::{DiagnosticSink, quoted};
use super::fields::SectionFields;
use super::layout;
use super::lexer::{Lexer, Token, TokenKind};
use super::listener_selection::{self, SelectedListener};
use super::parse::FILE_MAX;
use super::schema;
use super::tree::{self, KeyEntry, Section};

/// A section of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A section by its path in the table of keys, such as `fence_virtd` or `backends/cpg`.
    Plain(&'static str),
    /// The section of a listener.
    Listener(ListenerName),
}

impl Part {
    /// Path in the table of keys, such as `listeners/tcp`.
    pub fn section(&self) -> &'static str {
        match self {
            Part::Plain(section) => section,
            Part::Listener(name) => {
                let is_own = |path: &&str| path.strip_prefix("listeners/") == Some(name.kind());
                schema::KEYS.iter().map(|spec| spec.section).find(is_own).unwrap_or("listeners")
            }
        }
    }

    fn label(&self) -> Option<&str> {
        match self {
            Part::Plain(_) => None,
            Part::Listener(name) => name.label(),
        }
    }
}

/// Text of a file without syntax errors. Its values are not checked here, but by [`parse`](super::parse()).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Editable {
    text: String,
}

impl Editable {
    /// Takes the bytes of a file; `None` if they exceed [`FILE_MAX`], are not UTF-8, or have syntax errors.
    pub fn new(bytes: &[u8]) -> Option<Editable> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= FILE_MAX)?;
        let mut sink = DiagnosticSink::new(bytes);
        tree::read(text, &mut sink);
        (!sink.has_errors()).then(|| Editable { text: text.to_string() })
    }

    /// Current text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Value of a key as written, if the effective section has the key. The key
    /// may have a number, as in `uri1`.
    pub fn value(&self, part: &Part, key: &str) -> Option<&str> {
        let entries = self.with_section(part, |section| {
            let entry = section.and_then(|section| of_key(section, part, key).next_back());
            entry.map(|entry| layout::value(&entry))
        });
        entries.map(|range| &self.text[range])
    }

    /// Numbers of a numbered key in the section, ascending; 0 is the bare name.
    pub fn numbers(&self, part: &Part, key: &str) -> Vec<u32> {
        let mut numbers = self.with_section(part, |section| {
            let entries = section.map_or(&[][..], |section| &section.entries);
            let found = entries.iter().filter_map(|entry| schema::find(part.section(), entry.key.text));
            found.filter(|(spec, _)| spec.name == key).map(|(_, number)| number).collect::<Vec<u32>>()
        });
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Sets a key: replaces its value, or adds the key to its section, which is created if necessary.
    ///
    /// # Errors
    ///
    /// Fails for a value that cannot be written: an empty one, and one that contains a double quote or a NUL.
    pub fn set(&mut self, part: &Part, key: &str, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Err("a value cannot be empty".to_string());
        }
        if value.contains(['"', '\0']) {
            return Err(format!("{} contains a double quote or a NUL, which no value can", quoted(value)));
        }
        self.add_section(part);
        let (range, text) = self
            .with_section(part, |section| {
                let section = section?;
                Some(match of_key(section, part, key).next_back() {
                    Some(entry) => (layout::value(&entry), value.to_string()),
                    None => layout::new_entry(&self.text, section, key, value),
                })
            })
            .unwrap_or((self.text.len()..self.text.len(), String::new()));
        self.text.replace_range(range, &text);
        Ok(())
    }

    /// Removes all occurrences of a key from its section, so that the default applies.
    pub fn unset(&mut self, part: &Part, key: &str) {
        let mut ranges: Vec<Range<usize>> = self.with_section(part, |section| {
            let entries = section.into_iter().flat_map(|section| of_key(section, part, key));
            entries.map(|entry| layout::statement(&self.text, &entry)).collect()
        });
        ranges.sort_by_key(|range| range.start);
        for range in ranges.into_iter().rev() {
            self.text.replace_range(range, "");
        }
    }

    /// Adds the section if it does not exist.
    pub fn add_section(&mut self, part: &Part) {
        let path = part.section();
        let (parent, name) = path.split_once('/').map_or((None, path), |(outer, name)| (Some(outer), name));
        if self.with_section(part, |section| section.is_some()) {
            return;
        }
        let outer = parent.unwrap_or(name);
        if self.with_root(|root| top_level(root, outer).is_none()) {
            self.text.push_str(&layout::appended(&self.text, outer));
        }
        let inner = self.with_root(|root| {
            let section = parent.and_then(|parent| top_level(root, parent))?;
            Some(layout::new_section(&self.text, section, name, part.label()))
        });
        if let Some((at, text)) = inner {
            self.text.insert_str(at, &text);
        }
    }

    fn with_root<T>(&self, then: impl FnOnce(&Section) -> T) -> T {
        then(&tree::read(&self.text, &mut DiagnosticSink::default()))
    }

    /// Finds the section as the parser does: the last one of repeated sections.
    fn with_section<T>(&self, part: &Part, then: impl FnOnce(Option<&Section>) -> T) -> T {
        self.with_root(|root| {
            let mut sink = DiagnosticSink::default();
            let Some((parent, name)) = part.section().split_once('/') else {
                return then(top_level(root, part.section()));
            };
            let fields = SectionFields::of(top_level(root, parent), parent, &mut sink);
            match part {
                Part::Plain(_) => then(fields.section(name)),
                Part::Listener(listener) => {
                    then(listener_selection::section(listener, &selected(root), &fields))
                }
            }
        })
    }
}

/// Finds a top-level section.
fn top_level<'a, 't>(root: &'t Section<'a>, name: &str) -> Option<&'t Section<'a>> {
    SectionFields::of(Some(root), "", &mut DiagnosticSink::default()).section(name)
}

/// Listeners selected to run.
fn selected(root: &Section) -> Vec<SelectedListener> {
    let mut sink = DiagnosticSink::default();
    let daemon = SectionFields::of(top_level(root, "fence_virtd"), "fence_virtd", &mut sink);
    listener_selection::parse_names(daemon.value("listener"), &mut sink)
}

/// Entries of this key; the last one counts.
fn of_key<'a, 't>(
    section: &'t Section<'a>,
    part: &Part,
    key: &str,
) -> impl DoubleEndedIterator<Item = KeyEntry<'a>> + use<'a, 't> {
    let path = part.section();
    let wanted = schema::find(path, key);
    section.entries.iter().copied().filter(move |entry| {
        let found = schema::find(path, entry.key.text);
        found.is_some() && found == wanted
    })
}

/// Parses a list of listeners such as `multicast, tcp:cluster-b`.
///
/// # Errors
///
/// One message for each mistake.
pub fn listener_names(value: &str) -> Result<Vec<ListenerName>, Vec<String>> {
    let mut sink = DiagnosticSink::new(value.as_bytes());
    let token = format!("\"{value}\"");
    let is_value = |token: &Token| token.kind == TokenKind::Value && token.text == value;
    let Some(token) = Lexer::new(&token).next().filter(is_value) else {
        return Err(vec![format!("{} contains a double quote", quoted(value))]);
    };
    let names = listener_selection::parse_names(Some(token.span()), &mut sink);
    match sink.has_errors() {
        false => Ok(names.into_iter().map(|named| named.name).collect()),
        true => Err(sink.messages()),
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;

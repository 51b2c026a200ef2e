//! Changes single values of a file and leaves every other byte as it is.

use std::ops::Range;

use crate::fence::ListenerName;

use super::diagnostic_sink::{Report, quoted};
use super::fields::Fields;
use super::layout;
use super::lexer::{Kind, Lexer};
use super::listener_selection::{self, Named};
use super::parse::FILE_MAX;
use super::schema;
use super::tree::{self, Entry, Section};

/// A section of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// One that is named in the table of keys, like `fence_virtd` or `backends/cpg`.
    Plain(&'static str),
    /// That of a listener.
    Listener(ListenerName),
}

impl Part {
    /// Its place in the table of keys, like `listeners/tcp`.
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

/// The text of a file whose grammar is sound. Whether its values are is not
/// asked here, [`parse`](super::parse()) says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Editable {
    text: String,
}

impl Editable {
    /// Takes the bytes of a file; none if they are more than [`FILE_MAX`], are
    /// no UTF-8, or break the grammar.
    pub fn new(bytes: &[u8]) -> Option<Editable> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= FILE_MAX)?;
        let mut report = Report::new(bytes);
        tree::read(text, &mut report);
        (!report.has_errors()).then(|| Editable { text: text.to_string() })
    }

    /// The text as it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value of a key as it is written, if the key stands in the section
    /// that counts. The key may have a number, as in `uri1`.
    pub fn value(&self, part: &Part, key: &str) -> Option<&str> {
        let entries = self.with_section(part, |section| {
            let entry = section.and_then(|section| of_key(section, part, key).next_back());
            entry.map(|entry| layout::value(&entry))
        });
        entries.map(|range| &self.text[range])
    }

    /// The numbers with which a numbered key stands there, ascending; 0 is the bare name.
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

    /// Gives a key this value: where it stands, else in its section, which is
    /// made if need be.
    ///
    /// # Errors
    ///
    /// A sentence about a value that cannot be written: an empty one, and one
    /// with a double quote or a NUL in it.
    pub fn set(&mut self, part: &Part, key: &str, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Err("a value cannot be empty".to_string());
        }
        if value.contains(['"', '\0']) {
            return Err(format!("{} holds what no value can hold: a double quote or a NUL", quoted(value)));
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

    /// Takes a key away, however often it stands in its section, so that the default counts.
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

    /// Makes the section if it is not there.
    pub fn add_section(&mut self, part: &Part) {
        let path = part.section();
        let (parent, name) = path.split_once('/').map_or((None, path), |(outer, name)| (Some(outer), name));
        if self.with_section(part, |section| section.is_some()) {
            return;
        }
        if let Some(parent) = parent {
            let is_there = self.with_root(|root| outer(root, parent).is_some());
            if !is_there {
                self.text.push_str(&layout::appended(&self.text, parent, None));
            }
            let (at, text) = self.with_root(|root| match outer(root, parent) {
                Some(section) => layout::new_section(&self.text, section, name, part.label()),
                None => (self.text.len(), String::new()),
            });
            self.text.insert_str(at, &text);
        } else {
            self.text.push_str(&layout::appended(&self.text, name, None));
        }
    }

    fn with_root<T>(&self, then: impl FnOnce(&Section) -> T) -> T {
        then(&tree::read(&self.text, &mut Report::default()))
    }

    /// Finds the section as the parser does: of repeated ones the last counts.
    fn with_section<T>(&self, part: &Part, then: impl FnOnce(Option<&Section>) -> T) -> T {
        self.with_root(|root| {
            let mut report = Report::default();
            let Some((parent, name)) = part.section().split_once('/') else {
                return then(outer(root, part.section()));
            };
            let fields = Fields::of(outer(root, parent), parent, &mut report);
            match part {
                Part::Plain(_) => then(fields.section(name)),
                Part::Listener(listener) => {
                    then(listener_selection::section(listener, &chosen(root), &fields))
                }
            }
        })
    }
}

/// A section that lies in no other.
fn outer<'a, 't>(root: &'t Section<'a>, name: &str) -> Option<&'t Section<'a>> {
    Fields::of(Some(root), "", &mut Report::default()).section(name)
}

/// The listeners that are to run.
fn chosen(root: &Section) -> Vec<Named> {
    let mut report = Report::default();
    let daemon = Fields::of(outer(root, "fence_virtd"), "fence_virtd", &mut report);
    daemon.value("listener").map_or(Vec::new(), |value| listener_selection::named(value, &mut report))
}

/// All entries of this key; the last one counts.
fn of_key<'a, 't>(
    section: &'t Section<'a>,
    part: &Part,
    key: &str,
) -> impl DoubleEndedIterator<Item = Entry<'a>> + use<'a, 't> {
    let path = part.section();
    let wanted = schema::find(path, key);
    section.entries.iter().copied().filter(move |entry| {
        let found = schema::find(path, entry.key.text);
        found.is_some() && found == wanted
    })
}

/// The listeners that a value like `"multicast, tcp:cluster-b"` names.
///
/// # Errors
///
/// A sentence for each mistake.
pub fn listener_names(value: &str) -> Result<Vec<ListenerName>, Vec<String>> {
    let mut report = Report::new(value.as_bytes());
    let token = format!("\"{value}\"");
    let spot = Lexer::new(&token).next().filter(|token| token.kind == Kind::Value && token.text == value);
    let Some(spot) = spot.map(|token| token.spot()) else {
        return Err(vec![format!("{} holds a double quote", quoted(value))]);
    };
    let names = listener_selection::named(spot, &mut report);
    match report.has_errors() {
        false => Ok(names.into_iter().map(|named| named.name).collect()),
        true => Err(report.messages()),
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;

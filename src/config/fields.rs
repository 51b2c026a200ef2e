use std::collections::BTreeMap;

use super::diagnostic_sink::{DiagnosticSink, quoted};
use super::group_placement;
use super::key_placement::{self, KEYS_SECTION};
use super::lexer::Span;
use super::obsolete;
use super::schema::{self, Count, KeySpec};
use super::tree::{KeyEntry, Section};
use crate::fence::did_you_mean;

/// Keys and sections of one section, matched with the schema.
#[derive(Debug, Default)]
pub(super) struct SectionFields<'a, 't> {
    once: Vec<(&'static KeySpec, Span<'a>)>,
    adds: Vec<(&'static KeySpec, Span<'a>)>,
    numbered: BTreeMap<u32, Span<'a>>,
    sections: Vec<(&'static str, &'t Section<'a>)>,
}

impl<'a, 't> SectionFields<'a, 't> {
    /// Matches a section with the schema of this path and reports unknown and
    /// repeated names. `None` counts as an empty section.
    pub(super) fn of(
        section: Option<&'t Section<'a>>,
        path: &str,
        sink: &mut DiagnosticSink,
    ) -> SectionFields<'a, 't> {
        let mut fields = SectionFields::default();
        for entry in section.iter().flat_map(|section| &section.entries) {
            fields.add_entry(entry, path, sink);
        }
        for inner in section.iter().flat_map(|section| &section.sections) {
            fields.add_section(inner, path, sink);
        }
        fields
    }

    /// Value of a [`Count::Once`] key.
    pub(super) fn value(&self, key: &str) -> Option<Span<'a>> {
        self.once.iter().find(|(spec, _)| spec.name == key).map(|(_, value)| *value)
    }

    /// Typed value of a [`Count::Once`] key. Reports an invalid one.
    pub(super) fn read<T>(
        &self,
        key: &str,
        sink: &mut DiagnosticSink,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(key)?;
        if !is_sound(value, sink) {
            return None;
        }
        parse(value.text).map_err(|message| sink.error(value.at, message)).ok()
    }

    /// Values of a [`Count::Adds`] key.
    pub(super) fn all(&self, key: &str, sink: &mut DiagnosticSink) -> Vec<Span<'a>> {
        let values = self.adds.iter().filter(|(spec, _)| spec.name == key).map(|(_, value)| *value);
        values.filter(|value| is_sound(*value, sink)).collect()
    }

    /// Values of the numbered key: the bare one, then by number.
    pub(super) fn numbered(&self, sink: &mut DiagnosticSink) -> Vec<Span<'a>> {
        self.numbered.values().copied().filter(|value| is_sound(*value, sink)).collect()
    }

    /// Section of this name.
    pub(super) fn section(&self, name: &str) -> Option<&'t Section<'a>> {
        self.sections(name).next()
    }

    /// Sections of this name; several only where the schema allows it.
    pub(super) fn sections(&self, name: &str) -> impl Iterator<Item = &'t Section<'a>> {
        self.sections.iter().filter(move |(known, _)| *known == name).map(|(_, section)| *section)
    }

    fn add_entry(&mut self, entry: &KeyEntry<'a>, path: &str, sink: &mut DiagnosticSink) {
        let Some((spec, number)) = schema::find(path, entry.key.text) else {
            if key_placement::is_strict(path) {
                sink.error(entry.key.at, unknown_key(entry.key.text, path));
            } else if key_placement::is_misplaced(entry.key.text) {
                let name = quoted(entry.key.text);
                sink.error(
                    entry.key.at,
                    format!("{name} belongs into the section keys, outside all sections"),
                );
            } else if !group_placement::reports_key(entry.key.text, path) {
                sink.unknown(entry.key.at, || unknown_key(entry.key.text, path));
            }
            return;
        };
        let before = match spec.count {
            Count::Adds => {
                self.adds.push((spec, entry.value));
                None
            }
            Count::Numbered => self.numbered.insert(number, entry.value),
            Count::Once => match self.once.iter_mut().find(|(known, _)| *known == spec) {
                Some((_, value)) => Some(std::mem::replace(value, entry.value)),
                None => {
                    self.once.push((spec, entry.value));
                    None
                }
            },
        };
        let Some(before) = before else { return };
        let restricts = path == "groups/group" && group_placement::RESTRICTIONS.contains(&spec.name);
        if restricts || key_placement::is_strict(path) {
            let line = sink.line(before.at);
            let name = quoted(entry.key.text);
            sink.error(entry.key.at, format!("{name} stands on line {line} too; keep one of them"));
        } else {
            repeated(entry.key, before.at, sink);
        }
    }

    fn add_section(&mut self, section: &'t Section<'a>, path: &str, sink: &mut DiagnosticSink) {
        let Some(name) = section.name else { return };
        let Some(known) = schema::children(path).find(|known| known.eq_ignore_ascii_case(name.text)) else {
            if key_placement::is_strict(path) || (path.is_empty() && key_placement::is_meant(name.text)) {
                sink.error(name.at, unknown_section(name.text, path));
            } else if !group_placement::reports_section(name.text)
                && !name.text.eq_ignore_ascii_case(KEYS_SECTION)
            {
                sink.unknown(name.at, || unknown_section(name.text, path));
            }
            return;
        };
        // Labels distinguish listeners of one kind.
        let label =
            |section: &Section<'a>| section.label.map(|label| label.text).filter(|_| path == "listeners");
        let place = self.sections.iter_mut().find(|(other, before)| {
            *other == known && !schema::REPEATABLE.contains(&known) && label(before) == label(section)
        });
        match place {
            None => self.sections.push((known, section)),
            Some((_, before)) => {
                if !group_placement::reports_repetition(known) && known != KEYS_SECTION {
                    repeated(name, before.at(), sink);
                }
                *before = section;
            }
        }
    }
}

fn repeated(name: Span, before: usize, sink: &mut DiagnosticSink) {
    let line = sink.line(before);
    let message = format!("{} is already on line {line}; only the last one is used", quoted(name.text));
    sink.warning(name.at, message);
}

/// Reports errors of a value that do not depend on its type. The C daemon cannot read an empty value either.
fn is_sound(value: Span, sink: &mut DiagnosticSink) -> bool {
    if value.text.is_empty() {
        sink.error(value.at, "empty value; remove the line to use the default");
    } else if let Some(nul) = value.text.find('\0') {
        sink.error(value.at + nul, "values cannot contain NUL bytes");
    }
    !value.text.is_empty() && !value.text.contains('\0')
}

fn unknown_key(key: &str, path: &str) -> String {
    let name = quoted(key);
    if schema::children(path).any(|known| known.eq_ignore_ascii_case(key)) {
        return format!("{name} is a section, not a key; write it as {} {{ ... }}", key.to_ascii_lowercase());
    }
    let place = if path.is_empty() { "outside all sections".to_string() } else { format!("in {path}") };
    let hint = obsolete::hint(path, key)
        .unwrap_or_else(|| did_you_mean(key, schema::keys(path).map(|spec| spec.name)));
    format!("unknown key {name} {place}{hint}")
}

fn unknown_section(section: &str, path: &str) -> String {
    let name = quoted(section);
    if schema::find(path, section).is_some() {
        let key = section.to_ascii_lowercase();
        return format!("{name} is a key, not a section; write it as {key} = \"...\";");
    }
    let place = if path.is_empty() { String::new() } else { format!(" in {path}") };
    let hint = obsolete::hint(path, section).unwrap_or_else(|| did_you_mean(section, schema::children(path)));
    format!("unknown section {name}{place}{hint}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tree;
    use super::*;

    fn findings(
        text: &str,
        path: &str,
        check: impl FnOnce(&SectionFields, &mut DiagnosticSink),
    ) -> Vec<String> {
        let mut sink = DiagnosticSink::new(text.as_bytes());
        let root = tree::read(text, &mut sink);
        check(&SectionFields::of(Some(&root), path, &mut sink), &mut sink);
        let found = sink.finish(Path::new("f"), text);
        found.iter().map(|d| format!("{}:{} {}", d.line, d.column, d.message)).collect()
    }

    #[test]
    fn the_last_one_counts() {
        let text = "port = \"1\";\nPORT = \"2\";\nport = \"3\";";
        let found = findings(text, "listeners/tcp", |fields, _| {
            assert_eq!(fields.value("port").map(|value| value.text), Some("3"));
        });
        let sentence = |line| format!("is already on line {line}; only the last one is used");
        assert_eq!(found, [format!("2:1 \"PORT\" {}", sentence(1)), format!("3:1 \"port\" {}", sentence(2))]);
    }

    #[test]
    fn uuids_add_up_and_uris_are_sorted() {
        let found = findings("uuid = \"b\"; uuid = \"a\";", "groups/group", |fields, sink| {
            assert_eq!(fields.all("uuid", sink).iter().map(|v| v.text).collect::<Vec<_>>(), ["b", "a"]);
        });
        assert!(found.is_empty());
        let text = "uri10 = \"c\"; uri = \"a\"; uri2 = \"b\"; uri2 = \"B\"; uri3 = \"\"; uri0 = \"x\";";
        let found = findings(text, "backends/libvirt", |fields, sink| {
            assert_eq!(fields.numbered(sink).iter().map(|v| v.text).collect::<Vec<_>>(), ["a", "B", "c"]);
        });
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn repeated_sections() {
        let found = findings("tcp { port = \"1\"; }\nTCP { }", "listeners", |fields, _| {
            assert_eq!(fields.section("tcp").map(|section| section.entries.len()), Some(0));
        });
        assert_eq!(found, ["2:1 \"TCP\" is already on line 1; only the last one is used"]);
        let found = findings("group { } group = \"x\" { }", "groups", |fields, _| {
            assert_eq!(fields.sections("group").count(), 2);
        });
        assert!(found.is_empty());
    }

    #[test]
    fn unknown_names_are_compared() {
        let all = |text, path| findings(text, path, |_, _| {}).join("\n");
        let prot = "1:1 unknown key \"prot\" in listeners/tcp; did you mean \"port\"?";
        assert_eq!(all("prot = \"1\";", "listeners/tcp"), prot);
        assert_eq!(all("listener { }", ""), "1:1 unknown section \"listener\"; did you mean \"listeners\"?");
        assert_eq!(all("x = \"1\";", ""), "1:1 unknown key \"x\" outside all sections");
        assert!(all("TCP = \"1\";", "listeners").contains("write it as tcp { ... }"));
        assert!(all("port { }", "listeners/tcp").contains("write it as port = \"...\";"));
    }

    #[test]
    fn empty_values_and_nul() {
        let found = findings("port = \"\"; hash = \"a\0\";", "listeners/tcp", |fields, sink| {
            assert_eq!(fields.read("port", sink, |text| Ok(text.len())), None);
            assert_eq!(fields.read("hash", sink, |text| Ok(text.len())), None);
        });
        assert_eq!(
            found,
            ["1:9 empty value; remove the line to use the default", "1:21 values cannot contain NUL bytes"]
        );
    }
}

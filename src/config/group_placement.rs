//! Placement of the sections `groups` and `group`. A daemon that skipped one would let everybody fence
//! everything, so each that is not read is an error, wherever it is.

use super::diagnostic_sink::{DiagnosticSink, quoted};
use super::obsolete;
use super::schema;
use super::tree::{KeyEntry, Section};
use crate::fence::{did_you_mean, nearest};

const GROUPS: &str = "groups";
const GROUP: &str = "group";
const MEMBERS: &str = "groups/group";
/// Keys of a group without which it permits more.
pub(super) const RESTRICTIONS: [&str; 3] = ["allow", "listener", "max_power_off"];

/// Maximum number of characters of a section's name in a path.
const NAME_SHOWN: usize = 40;

/// Reports the sections, and keys meant as such, that would not be read.
pub(super) fn check(root: &Section, sink: &mut DiagnosticSink) {
    let is_groups = |section: &&Section| name_of(section).eq_ignore_ascii_case(GROUPS);
    let mut sections = root.sections.iter().filter(is_groups);
    if let Some(first) = sections.next() {
        let line = sink.line(first.at());
        for other in sections {
            let shown = quoted(name_of(other));
            let message = format!("{shown} is already on line {line}; put all groups into one section");
            sink.error(other.at(), message);
        }
    }
    visit(root, "", sink);
}

/// True for an unknown section that [`check`] reports.
pub(super) fn reports_section(name: &str) -> bool {
    meant_section(name).is_some()
}

/// True for a section of which [`check`] reports a second one.
pub(super) fn reports_repetition(section: &str) -> bool {
    section == GROUPS
}

/// True for a key of the section of this path that [`check`] reports.
pub(super) fn reports_key(name: &str, path: &str) -> bool {
    misplaced_key(name, path).is_some()
}

fn name_of<'a>(section: &Section<'a>) -> &'a str {
    section.name.map_or("", |name| name.text)
}

fn meant_section(name: &str) -> Option<&'static str> {
    nearest(name, [GROUPS, GROUP].into_iter())
}

fn visit(section: &Section, path: &str, sink: &mut DiagnosticSink) {
    for KeyEntry { key, .. } in &section.entries {
        if let Some(message) = misplaced_key(key.text, path) {
            sink.error(key.at, message);
        }
    }
    for inner in &section.sections {
        let name = name_of(inner);
        let is_in_place = schema::children(path).any(|known| known.eq_ignore_ascii_case(name));
        let meant = meant_section(name).filter(|_| !is_in_place);
        if let Some(meant) = meant {
            sink.error(inner.at(), misplaced_section(name, meant, path));
        }
        // What is in a misplaced section moves with it.
        match meant {
            Some(GROUPS) => visit(inner, GROUPS, sink),
            Some(_) => visit(inner, MEMBERS, sink),
            None => visit(inner, &joined(path, name), sink),
        }
    }
}

/// Path of an inner section. Long names, which the table does not have, are cut.
fn joined(path: &str, name: &str) -> String {
    let name: String = name.chars().take(NAME_SHOWN).map(|c| c.to_ascii_lowercase()).collect();
    if path.is_empty() { name } else { format!("{path}/{name}") }
}

fn misplaced_section(name: &str, meant: &str, path: &str) -> String {
    let is_exact = name.eq_ignore_ascii_case(meant);
    let kind = if is_exact { "misplaced" } else { "unknown" };
    let place = if path.is_empty() { String::new() } else { format!(" in {}", path.escape_debug()) };
    let hint = if is_exact { String::new() } else { format!("; did you mean \"{meant}\"?") };
    let remedy = match (meant, path) {
        (GROUPS, "") | (GROUP, GROUPS) => "",
        (GROUPS, _) => "; move it outside all sections, where it is read",
        _ => "; write groups { group { ... } } outside all sections",
    };
    format!("{kind} section {}{place}{hint}{remedy}", quoted(name))
}

/// Message about a key that was meant as a section, or as a key of a group.
fn misplaced_key(key: &str, path: &str) -> Option<String> {
    let name = quoted(key);
    let lower = key.to_ascii_lowercase();
    match (path, lower.as_str()) {
        (_, GROUPS) => Some(format!("{name} is a section, not a key; write it as groups {{ ... }}")),
        ("" | GROUPS, GROUP) => {
            Some(format!("{name} is a section, not a key; write groups {{ group {{ ... }} }}"))
        }
        (GROUPS, "uuid" | "ip" | "source" | "target" | "allow" | "listener" | "max_power_off") => Some(
            format!("{name} belongs into a section group; write groups {{ group {{ {lower} = \"...\"; }} }}"),
        ),
        // It may be meant to restrict the group, which would permit more without it.
        (MEMBERS, _) if schema::find(path, key).is_none() && obsolete::hint(path, key).is_none() => {
            let hint = did_you_mean(key, schema::keys(path).map(|spec| spec.name));
            Some(format!("unknown key {name} in {path}{hint}"))
        }
        _ => None,
    }
}

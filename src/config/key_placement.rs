//! Placement of the section `keys`. A daemon that skipped a part of it would accept keys that its administrator does not
//! want. So everything in it that is not read is an error, and so is a section that is meant as this one.

use super::diagnostic_sink::{DiagnosticSink, quoted};
use super::tree::Section;
use crate::fence::nearest;

/// Name of the section.
pub(super) const KEYS_SECTION: &str = "keys";

/// Returns true for an unknown section that is meant as the section `keys`, or as one in it.
pub(super) fn is_meant(name: &str) -> bool {
    nearest(name, [KEYS_SECTION, "key"].into_iter()).is_some()
}

/// Returns true for a key that is known in the section `keys` alone, where it restricts what is accepted.
pub(super) fn is_misplaced(key: &str) -> bool {
    ["shared", "folder"].iter().any(|own| own.eq_ignore_ascii_case(key))
}

/// Returns true for the path of a section in which everything has to be known.
pub(super) fn is_strict(path: &str) -> bool {
    path.split('/').next() == Some(KEYS_SECTION)
}

/// Reports a second section `keys`, and those that stand where none is read.
pub(super) fn check(root: &Section, sink: &mut DiagnosticSink) {
    let mut first = None;
    for section in &root.sections {
        let name = section.name.map_or("", |name| name.text);
        if !name.eq_ignore_ascii_case(KEYS_SECTION) {
            check_inner(section, sink);
        } else if let Some(before) = first.replace(section.at()) {
            let line = sink.line(before);
            sink.error(
                section.at(),
                format!("{} is already on line {line}; put all keys into one section", quoted(name)),
            );
        }
    }
}

fn check_inner(outer: &Section, sink: &mut DiagnosticSink) {
    for section in &outer.sections {
        let name = section.name.map_or("", |name| name.text);
        if name.eq_ignore_ascii_case(KEYS_SECTION) {
            let message =
                format!("misplaced section {}; move it outside all sections, where it is read", quoted(name));
            sink.error(section.at(), message);
        } else {
            check_inner(section, sink);
        }
    }
}

//! The `allow` line of a group: the operations that its requesters may ask for.

use crate::fence::{Rights, did_you_mean};

use super::diagnostic_sink::{DiagnosticSink, quoted};
use super::lexer::Span;
use super::listener_selection::words;

/// Operations of an `allow` line; all without one. Reports an empty list, and words that are unknown or repeated.
pub(super) fn read(value: Option<Span>, sink: &mut DiagnosticSink) -> Rights {
    let Some(value) = value else { return Rights::all() };
    let words = words(value);
    if words.is_empty() {
        let known = Rights::all();
        let message =
            format!("empty list; expected one or more of: {known}; remove the line to allow all operations");
        sink.error(value.at, message);
    }
    let mut rights: Rights = [].into_iter().collect();
    for word in words {
        match Rights::operation_of(word.text) {
            Some(operation) if rights.allow(operation) => {
                sink.error(word.at, format!("duplicate operation {}; name it once", quoted(word.text)));
            }
            Some(operation) => rights = rights.with([operation].into_iter().collect()),
            None => sink.error(word.at, unknown(word.text)),
        }
    }
    rights
}

fn unknown(word: &str) -> String {
    let shown = quoted(word);
    if ["monitor", "devstatus"].iter().any(|free| free.eq_ignore_ascii_case(word)) {
        return format!("{shown} needs no group: every requester may ask for it; remove the word");
    }
    let hint = did_you_mean(word, Rights::words());
    format!("unknown operation {shown}; expected one or more of: {}{hint}", Rights::all())
}

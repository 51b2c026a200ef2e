use std::path::Path;

use super::diagnostic::{Diagnostic, Diagnostics, Excerpt, Severity};
use crate::fence::is_printable;

/// Maximum number of diagnostics kept of each severity; the others are counted.
const KEEP_MAX: usize = 1000;

/// Maximum number of characters of a line shown on each side of the position.
const EXCERPT_SIDE: usize = 80;

/// Collects the diagnostics of all stages. Positions are byte offsets until
/// [`finish`](DiagnosticSink::finish).
#[derive(Debug, Default)]
pub(super) struct DiagnosticSink {
    found: Vec<RawDiagnostic>,
    kept: [usize; 3],
    dropped: usize,
    /// Set while an unused section is read: its errors count as
    /// [`Severity::Unknown`], a warning at start and an error under `--check`.
    lenient: bool,
    /// Offsets of the line feeds.
    line_feeds: Vec<usize>,
}

#[derive(Debug)]
struct RawDiagnostic {
    severity: Severity,
    at: usize,
    message: String,
}

impl DiagnosticSink {
    pub(super) fn new(text: &[u8]) -> DiagnosticSink {
        let feeds = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        DiagnosticSink { line_feeds: feeds.map(|(at, _)| at).collect(), ..DiagnosticSink::default() }
    }

    pub(super) fn error(&mut self, at: usize, message: impl Into<String>) {
        if self.lenient {
            self.push(Severity::Unknown, at, || message.into() + " (not in use)");
        } else {
            self.push(Severity::Error, at, || message.into());
        }
    }

    /// Reports an unknown name. The message, which is costly, is only made if it is kept.
    pub(super) fn unknown(&mut self, at: usize, message: impl FnOnce() -> String) {
        self.push(Severity::Unknown, at, message);
    }

    pub(super) fn warning(&mut self, at: usize, message: impl Into<String>) {
        self.push(Severity::Warning, at, || message.into());
    }

    /// Runs `run`. Unless the section is `in_use`, its errors are downgraded.
    pub(super) fn for_section<T>(&mut self, in_use: bool, run: impl FnOnce(&mut DiagnosticSink) -> T) -> T {
        let before = std::mem::replace(&mut self.lenient, !in_use);
        let result = run(self);
        self.lenient = before;
        result
    }

    pub(super) fn has_errors(&self) -> bool {
        self.kept[Severity::Error as usize] > 0
    }

    /// Messages without their positions.
    pub(super) fn messages(self) -> Vec<String> {
        self.found.into_iter().map(|found| found.message).collect()
    }

    /// Line of an offset, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.line_feeds.partition_point(|feed| *feed < at) + 1
    }

    /// Converts the offsets, which refer to `text`, into lines and columns.
    pub(super) fn finish(mut self, path: &Path, text: &str) -> Diagnostics {
        self.found.sort_by_key(|found| found.at);
        let mut locator = Locator { text, at: 0, line_start: 0, line: 1, column: 1 };
        let located = self.found.into_iter().map(|found| locator.locate(found)).collect();
        Diagnostics::new(path.to_path_buf(), located, self.dropped)
    }

    fn push(&mut self, severity: Severity, at: usize, message: impl FnOnce() -> String) {
        let kept = &mut self.kept[severity as usize];
        if *kept == KEEP_MAX {
            self.dropped += 1;
            return;
        }
        *kept += 1;
        self.found.push(RawDiagnostic { severity, at, message: message() });
    }
}

/// Walks the text once, from diagnostic to diagnostic.
struct Locator<'a> {
    text: &'a str,
    at: usize,
    line_start: usize,
    line: u32,
    column: u32,
}

impl Locator<'_> {
    fn locate(&mut self, found: RawDiagnostic) -> Diagnostic {
        self.advance(found.at);
        Diagnostic {
            severity: found.severity,
            line: self.line,
            column: self.column,
            message: found.message,
            excerpt: self.excerpt(),
        }
    }

    fn advance(&mut self, to: usize) {
        let to = (self.at..=to.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at));
        let to = to.unwrap_or(self.at);
        let passed = &self.text[self.at..to];
        if let Some(last) = passed.rfind('\n') {
            self.line += passed.matches('\n').count() as u32;
            self.line_start = self.at + last + 1;
            self.at = self.line_start;
            self.column = 1;
        }
        self.column += self.text[self.at..to].chars().count() as u32;
        self.at = to;
    }

    fn excerpt(&self) -> Excerpt {
        let mut before = self.text[self.line_start..self.at].chars().rev();
        let mut text: Vec<char> = before.by_ref().take(EXCERPT_SIDE).map(printable).collect();
        if before.next().is_some() {
            text.push('…');
        }
        text.reverse();
        let caret = text.len();
        let mut after = self.text[self.at..].chars().take_while(|c| *c != '\n' && *c != '\r');
        text.extend(after.by_ref().take(EXCERPT_SIDE).map(printable));
        if after.next().is_some() {
            text.push('…');
        }
        Excerpt { text: text.into_iter().collect(), caret }
    }
}

/// Replaces what is not printable by one character each: the caret below the line stays in its place.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if is_printable(c) => c,
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// Quotes and escapes a piece of the file for a message, cut to 60 characters.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("\"{}…\"", text[..end].escape_debug()),
        None => format!("\"{}\"", text.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(text: &str, offsets: &[usize]) -> Vec<(u32, u32, String, usize)> {
        let mut sink = DiagnosticSink::new(text.as_bytes());
        for &at in offsets {
            sink.error(at, "x");
        }
        let found = sink.finish(Path::new("f"), text);
        found.iter().map(|d| (d.line, d.column, d.excerpt.text.clone(), d.excerpt.caret)).collect()
    }

    #[test]
    fn columns_count_characters() {
        let text = "é = 1\n\tb\r\n";
        assert_eq!(located(text, &[7, 3]), [(1, 3, "é = 1".into(), 2), (2, 1, " b".into(), 0)]);
        assert_eq!(located(text, &[8]), [(2, 2, " b".into(), 1)]);
        assert_eq!(located("", &[0]), [(1, 1, "".into(), 0)]);
        assert_eq!(located("ab", &[99]), [(1, 3, "ab".into(), 2)]);
    }

    #[test]
    fn a_long_line_is_cut_on_both_sides() {
        let (_, column, text, caret) = located(&"x".repeat(1000), &[500]).remove(0);
        assert_eq!((column, text.chars().count(), caret), (501, 162, 81));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(located("a\u{1b}[2J", &[0])[0].2, "a\u{fffd}[2J");
        assert_eq!(quoted("a\u{1b}\n\"é"), "\"a\\u{1b}\\n\\\"é\"");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 63);
    }

    #[test]
    fn errors_in_an_unused_section_are_no_errors() {
        let mut sink = DiagnosticSink::new(b"\n\n");
        sink.for_section(false, |sink| sink.error(0, "x"));
        assert!(!sink.has_errors());
        sink.error(1, "y");
        assert!(sink.has_errors());
        assert_eq!([sink.line(0), sink.line(1), sink.line(2)], [1, 2, 3]);
    }

    #[test]
    fn excess_diagnostics_are_counted() {
        let mut sink = DiagnosticSink::new(b"");
        (0..5000).for_each(|_| sink.error(0, "x"));
        let found = sink.finish(Path::new("f"), "");
        assert_eq!(found.iter().count(), KEEP_MAX);
        assert!(found.render(false).ends_with("f: and 4950 more\n"));
    }
}

use std::fmt::Write as _;
use std::path::PathBuf;

/// Severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// An unknown key or section: a warning when the daemon starts, an error in strict mode.
    Unknown,
    /// The file can be used, but may not do what its author intended.
    Warning,
}

impl Severity {
    fn is_fatal(self, strict: bool) -> bool {
        self == Severity::Error || (strict && self == Severity::Unknown)
    }
}

/// One diagnostic with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Severity.
    pub severity: Severity,
    /// Line, counted from 1.
    pub line: u32,
    /// Character (not byte) in the line, counted from 1.
    pub column: u32,
    /// Message for the author of the file.
    pub message: String,
    pub(super) excerpt: Excerpt,
}

/// Part of a source line that is printed below a message: one printable
/// character for each character of the source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Excerpt {
    pub(super) text: String,
    pub(super) caret: usize,
}

/// Diagnostics of one file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    path: PathBuf,
    list: Vec<Diagnostic>,
    /// Number of diagnostics that were not kept.
    dropped: usize,
}

/// Maximum number of diagnostics that are printed; the others are only counted.
const RENDER_MAX: usize = 50;

impl Diagnostics {
    pub(super) fn new(path: PathBuf, list: Vec<Diagnostic>, dropped: usize) -> Diagnostics {
        Diagnostics { path, list, dropped }
    }

    /// True if the file must be rejected. `strict` also rejects unknown keys and sections.
    pub fn is_fatal(&self, strict: bool) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity.is_fatal(strict))
    }

    /// True if there are no diagnostics.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Diagnostics in the order of the file. The first thousand of each severity are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// Formats the diagnostics, each as `path:line:column: error: message` with
    /// the source line and a caret below. Prints at most 50, preferring fatal
    /// ones; a last line counts the rest. Empty without diagnostics.
    pub fn render(&self, strict: bool) -> String {
        let mut out = String::new();
        let shown = self.shown(strict);
        for diagnostic in &shown {
            self.render_one(diagnostic, strict, &mut out);
        }
        let more = self.list.len() - shown.len() + self.dropped;
        if more > 0 {
            let _ = writeln!(out, "{}: and {more} more", self.path.display());
        }
        out
    }

    /// Returns each diagnostic as one line, `path:line:column: message`, with its severity; as many as
    /// [`Diagnostics::render`] prints, and the count of the rest.
    pub fn lines(&self, strict: bool) -> Vec<(Severity, String)> {
        let shown = self.shown(strict);
        let more = self.list.len() - shown.len() + self.dropped;
        let path = self.path.display();
        let line = |Diagnostic { severity, line, column, message, .. }: &Diagnostic| {
            (*severity, format!("{path}:{line}:{column}: {message}"))
        };
        let rest = (more > 0).then(|| (Severity::Warning, format!("{path}: and {more} more")));
        shown.into_iter().map(line).chain(rest).collect()
    }

    /// Returns the numbers of errors and of warnings. `strict` counts unknown keys and sections as errors. Those
    /// that were not kept count as warnings.
    pub fn counts(&self, strict: bool) -> (usize, usize) {
        let errors = self.list.iter().filter(|found| found.severity.is_fatal(strict)).count();
        (errors, self.list.len() - errors + self.dropped)
    }

    fn shown(&self, strict: bool) -> Vec<&Diagnostic> {
        let fatal = self.list.iter().filter(|found| found.severity.is_fatal(strict)).count();
        let mut room_fatal = fatal.min(RENDER_MAX);
        let mut room_other = RENDER_MAX - room_fatal;
        let mut has_room = |found: &&Diagnostic| {
            let room = if found.severity.is_fatal(strict) { &mut room_fatal } else { &mut room_other };
            let has = *room > 0;
            *room = room.saturating_sub(1);
            has
        };
        self.list.iter().filter(|found| has_room(found)).collect()
    }

    fn render_one(&self, found: &Diagnostic, strict: bool, out: &mut String) {
        let word = if found.severity.is_fatal(strict) { "error" } else { "warning" };
        let Diagnostic { line, column, message, excerpt, .. } = found;
        let _ = writeln!(out, "{}:{line}:{column}: {word}: {message}", self.path.display());
        let _ = writeln!(out, "    {}", excerpt.text);
        let _ = writeln!(out, "    {:caret$}^", "", caret = excerpt.caret);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostics(severities: &[Severity]) -> Diagnostics {
        let one = |(i, &severity): (usize, &Severity)| Diagnostic {
            severity,
            line: i as u32 + 1,
            column: 3,
            message: format!("finding {i}"),
            excerpt: Excerpt { text: "a b".to_string(), caret: 2 },
        };
        Diagnostics::new("f.conf".into(), severities.iter().enumerate().map(one).collect(), 0)
    }

    #[test]
    fn a_finding_shows_its_place() {
        let found = diagnostics(&[Severity::Error]);
        assert_eq!(found.render(false), "f.conf:1:3: error: finding 0\n    a b\n      ^\n");
    }

    #[test]
    fn unknown_is_fatal_only_for_the_strict() {
        let found = diagnostics(&[Severity::Unknown, Severity::Warning]);
        assert!(!found.is_fatal(false) && found.is_fatal(true));
        assert!(found.render(false).contains(":1:3: warning: "));
        assert!(found.render(true).contains(":1:3: error: "));
        assert!(found.render(true).contains(":2:3: warning: "));
        assert!(!diagnostics(&[]).is_fatal(true));
        assert_eq!(diagnostics(&[]).render(true), "");
    }

    #[test]
    fn an_error_is_shown_behind_many_warnings() {
        let mut severities = vec![Severity::Warning; 70];
        severities.push(Severity::Error);
        let text = diagnostics(&severities).render(false);
        assert!(text.contains("f.conf:71:3: error: finding 70"));
        assert!(text.contains("finding 48") && !text.contains("finding 49"));
        assert!(text.ends_with("f.conf: and 21 more\n"));
    }

    #[test]
    fn lines_and_counts_have_what_is_printed() {
        let found = diagnostics(&[Severity::Unknown, Severity::Warning]);
        let lines =
            [(Severity::Unknown, "f.conf:1:3: finding 0"), (Severity::Warning, "f.conf:2:3: finding 1")];
        assert_eq!(found.lines(false), lines.map(|(severity, line)| (severity, line.to_owned())));
        assert_eq!((found.counts(false), found.counts(true)), ((0, 2), (1, 1)));
        let many = diagnostics(&[Severity::Warning; 70]).lines(false);
        assert_eq!((many.len(), many[50].1.as_str()), (51, "f.conf: and 20 more"));
    }
}

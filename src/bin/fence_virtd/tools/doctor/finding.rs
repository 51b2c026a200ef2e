//! What was found, and how it is shown.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use crate::problem::Flaw;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// It is as it should be.
    Ok,
    /// Worth knowing; the exit code does not tell of it.
    Note,
    /// It works, but not as well or not in every case.
    Warning,
    /// It does not work.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// Which listener, backend or part of the host.
    pub(super) about: String,
    /// What was found: a sentence without its full stop.
    pub(super) text: String,
    /// What helps, where something is to be done.
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(about: impl fmt::Display, text: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, about: about.to_string(), text: text.into(), remedy: None }
    }

    /// Something that is wrong, or worth knowing, with what helps.
    pub(super) fn of(level: Level, about: impl fmt::Display, flaw: Flaw) -> Finding {
        Finding { level, about: about.to_string(), text: flaw.what, remedy: Some(flaw.remedy) }
    }

    pub(super) fn note(
        about: impl fmt::Display,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding::of(Level::Note, about, Flaw::new(what, remedy))
    }

    pub(super) fn warning(
        about: impl fmt::Display,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding::of(Level::Warning, about, Flaw::new(what, remedy))
    }

    pub(super) fn error(
        about: impl fmt::Display,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding::of(Level::Error, about, Flaw::new(what, remedy))
    }

    /// One line, and one for the remedy.
    fn render(&self) -> String {
        let word = match self.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "ERROR",
        };
        let mut out = String::new();
        // Writing into a string does not fail.
        let _ = writeln!(out, "{word:8} {}: {}", printable(&self.about), printable(&self.text));
        if let Some(remedy) = &self.remedy {
            let _ = writeln!(out, "             -> {}", printable(remedy));
        }
        out
    }
}

/// No name of a VM or file may steer the terminal, nor make a line of its own.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Prints findings as they come, and counts them.
pub(super) struct Report<W> {
    out: W,
    errors: usize,
    warnings: usize,
}

impl<W: Write> Report<W> {
    pub(super) fn new(out: W) -> Report<W> {
        Report { out, errors: 0, warnings: 0 }
    }

    /// Shows these.
    ///
    /// # Errors
    ///
    /// Those of the place that it writes to.
    pub(super) fn tell(&mut self, findings: impl IntoIterator<Item = Finding>) -> io::Result<()> {
        for finding in findings {
            match finding.level {
                Level::Error => self.errors += 1,
                Level::Warning => self.warnings += 1,
                Level::Ok | Level::Note => {}
            }
            self.out.write_all(finding.render().as_bytes())?;
        }
        self.out.flush()
    }

    /// The last line, and the exit code: 0 if all is well, 1 with warnings, 2 with errors.
    ///
    /// # Errors
    ///
    /// Those of the place that it writes to.
    pub(super) fn finish(mut self) -> io::Result<u8> {
        writeln!(self.out, "{} errors, {} warnings", self.errors, self.warnings)?;
        self.out.flush()?;
        Ok(match (self.errors, self.warnings) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        })
    }
}

/// Words with commas between them, of many only the first ten.
pub(super) fn listed<T: fmt::Display>(items: &[T]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> = items.iter().take(SHOWN).map(T::to_string).collect();
    match items.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(findings: Vec<Finding>) -> (String, u8) {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        report.tell(findings).unwrap();
        let code = report.finish().unwrap();
        (String::from_utf8(out).unwrap(), code)
    }

    #[test]
    fn a_line_each_the_remedy_below_and_the_count_at_the_end() {
        let findings = vec![
            Finding::ok("a", "fine"),
            Finding::error("b", "broken", "mend it"),
            Finding::warning("c", "x", "y"),
        ];
        let expected = "ok       a: fine\nERROR    b: broken\n             -> mend it\n\
                        warning  c: x\n             -> y\n1 errors, 1 warnings\n";
        assert_eq!(shown(findings), (expected.to_owned(), 2));
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_and_notes_do_not_count() {
        assert_eq!(shown(vec![Finding::ok("a", "b"), Finding::note("a", "b", "c")]).1, 0);
        assert_eq!(shown(vec![Finding::warning("a", "b", "c"), Finding::note("a", "b", "c")]).1, 1);
        assert_eq!(shown(vec![Finding::error("a", "b", "c")]).1, 2);
    }

    #[test]
    fn no_name_steers_the_terminal() {
        let (text, _) = shown(vec![Finding::warning("x\n", "\u{1b}[2J\nok", "y\r")]);
        assert_eq!(text.lines().count(), 3, "{text:?}");
        assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(&["a", "b"]), "a, b");
        assert!(listed(&[7; 12]).ends_with("7 and 2 more"));
    }
}

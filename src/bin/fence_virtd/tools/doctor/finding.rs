//! What was found, and how it is shown.

use std::fmt::{self, Write as _};

use crate::problem::Problem;

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
    pub(super) fn of(level: Level, about: impl fmt::Display, problem: Problem) -> Finding {
        Finding { level, about: about.to_string(), text: problem.what, remedy: Some(problem.remedy) }
    }

    pub(super) fn note(
        about: impl fmt::Display,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding::of(Level::Note, about, Problem::new(what, remedy))
    }

    pub(super) fn warning(
        about: impl fmt::Display,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding::of(Level::Warning, about, Problem::new(what, remedy))
    }

    pub(super) fn error(
        about: impl fmt::Display,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding::of(Level::Error, about, Problem::new(what, remedy))
    }

    /// One line, and one for the remedy.
    pub(super) fn render(&self) -> String {
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

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(&["a", "b"]), "a, b");
        assert!(listed(&[7; 12]).ends_with("7 and 2 more"));
    }
}

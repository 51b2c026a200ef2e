//! Findings and their text.

use std::fmt::{Display, Write as _};

use crate::problem::Problem;
use fence_virt::fence::printable;

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; does not affect the exit code.
    Note,
    /// Works, but not well or not in every case.
    Warning,
    /// Does not work.
    Error,
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// The listener, backend or part of the host.
    pub(super) about: String,
    /// The result: a sentence without its full stop.
    pub(super) text: String,
    /// The remedy, if there is something to do.
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(about: impl Display, text: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, about: about.to_string(), text: text.into(), remedy: None }
    }

    /// Returns a finding about a problem, or about something worth knowing.
    pub(super) fn of(level: Level, about: impl Display, problem: Problem) -> Finding {
        Finding { level, about: about.to_string(), text: problem.what, remedy: Some(problem.remedy) }
    }

    pub(super) fn note(about: impl Display, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::of(Level::Note, about, Problem::new(what, remedy))
    }

    pub(super) fn warning(
        about: impl Display,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding::of(Level::Warning, about, Problem::new(what, remedy))
    }

    pub(super) fn error(about: impl Display, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::of(Level::Error, about, Problem::new(what, remedy))
    }

    /// Returns one line, and another one for the remedy.
    pub(super) fn render(&self) -> String {
        let word = match self.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "ERROR",
        };
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{word:8} {}: {}", printable(&self.about), printable(&self.text));
        if let Some(remedy) = &self.remedy {
            let _ = writeln!(out, "             -> {}", printable(remedy));
        }
        out
    }
}

/// Returns items with commas between them, at most ten.
pub(super) fn listed<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut items = items.into_iter();
    let shown: Vec<String> = items.by_ref().take(10).map(|item| item.to_string()).collect();
    match items.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Severity, text and remedy of findings.
#[cfg(test)]
pub(super) fn shown(findings: Vec<Finding>) -> Vec<(Level, String)> {
    let text = |finding: Finding| finding.text + " / " + &finding.remedy.unwrap_or_default();
    findings.into_iter().map(|finding| (finding.level, text(finding))).collect()
}

/// Severities of findings.
#[cfg(test)]
pub(super) fn levels(findings: &[Finding]) -> Vec<Level> {
    findings.iter().map(|finding| finding.level).collect()
}

/// BackendSettings of a listener with a key.
#[cfg(test)]
pub(super) fn auth() -> fence_virt::config::AuthConfig {
    let hash = fence_virt::auth::HashKind::Sha256;
    fence_virt::config::AuthConfig { key_file: "/k".into(), old_key_file: None, hash, auth: hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_printable() {
        let finding = Finding::note("x\u{202e}", "a\nb\u{2028}", "\u{1b}c");
        assert_eq!(finding.render(), "note     x\\u{202e}: a b\\u{2028}\n             -> \\u{1b}c\n");
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["a", "b"]), "a, b");
        assert!(listed([7; 12]).ends_with("7 and 2 more"));
    }
}

//! Findings and their text.

use std::fmt::{Display, Write as _};

use crate::json::JsonObject;
use crate::problem::Problem;
pub(super) use fence_virt::fence::listed;
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

impl Level {
    /// Word for programs.
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
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

    /// Returns a note without a remedy.
    pub(super) fn remark(about: impl Display, text: impl Into<String>) -> Finding {
        Finding { level: Level::Note, ..Finding::ok(about, text) }
    }

    pub(super) fn is_error(&self) -> bool {
        self.level == Level::Error
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
        let word = if self.level == Level::Error { "ERROR" } else { self.level.word() };
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{word:8} {}: {}", printable(&self.about), printable(&self.text));
        if let Some(remedy) = &self.remedy {
            let _ = writeln!(out, "             -> {}", printable(remedy));
        }
        out
    }

    /// Returns an object with the level, the subject, the text, and the remedy or null.
    pub(super) fn json(&self) -> String {
        let object = JsonObject::new().string("level", self.level.word()).string("subject", &self.about);
        object.string("text", &self.text).optional("remedy", self.remedy.as_deref()).finish()
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
    fence_virt::config::AuthConfig {
        key_file: "/k".into(),
        old_key_file: None,
        hash: hash.into(),
        auth: hash,
        is_shared: true,
    }
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
    fn an_object_for_programs() {
        let finding = Finding::error("a", "\"b\"\n", "c");
        let expected = r#"{"level":"error","subject":"a","text":"\"b\"\u000a","remedy":"c"}"#;
        assert_eq!(finding.json(), expected);
        assert!(Finding::ok("a", "b").json().ends_with(r#","remedy":null}"#));
    }
}

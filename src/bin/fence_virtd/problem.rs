//! Problems with their remedies: one sentence in the log, two lines in `--doctor`.
#![forbid(unsafe_code)]

use std::fmt;

/// Problem found on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The problem: a sentence without its full stop.
    pub(crate) what: String,
    /// The remedy: a command, or a setting to change.
    pub(crate) remedy: String,
}

impl Problem {
    pub(crate) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

//! What is wrong, and what helps: for the log in one sentence, for `--doctor` apart.

use std::fmt;

/// Something that is wrong with what was found on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// What is wrong; a sentence without its full stop.
    pub(crate) what: String,
    /// What helps: a command, or what to write where.
    pub(crate) remedy: String,
}

impl Flaw {
    pub(crate) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Flaw {
        Flaw { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

use std::fmt;
use std::io::Write;

use super::agent::Agent;

/// Says on stderr, with `-d`, what is being done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trace {
    pub(super) agent: Agent,
    pub(super) is_on: bool,
}

impl Trace {
    /// Tells a step, if that was asked for.
    pub(super) fn step(&self, what: fmt::Arguments<'_>) {
        if self.is_on {
            self.say(what);
        }
    }

    /// Says a line. It is written in one piece, so that lines of agents that
    /// share a stderr do not mix.
    pub(super) fn say(&self, what: fmt::Arguments<'_>) {
        let line = format!("{}: {}\n", self.agent.name(), printable(&what.to_string()));
        // A stderr that takes nothing is no reason not to fence.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Text without line breaks and other control characters, for a terminal or a log.
pub(super) fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

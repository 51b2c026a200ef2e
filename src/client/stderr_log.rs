use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::agent::Agent;
use crate::sys::with_timeout::with_timeout;

/// How long a line may take to be read.
const LINE_LIMIT: Duration = Duration::from_millis(200);

static IS_UNHEARD: AtomicBool = AtomicBool::new(false);

/// Says on stderr, with `-d`, what is being done.
#[derive(Debug, Clone, Copy)]
pub(super) struct StderrLog {
    pub(super) agent: Agent,
    pub(super) is_debug: bool,
}

impl StderrLog {
    /// Tells a step, if that was asked for.
    pub(super) fn debug(&self, what: fmt::Arguments<'_>) {
        if self.is_debug {
            self.print(what);
        }
    }

    /// Says a line. It is written in one piece, so that lines of agents that
    /// share a stderr do not mix. A stderr that takes nothing is no reason not
    /// to fence: after one line that nobody reads there are no more.
    pub(super) fn print(&self, what: fmt::Arguments<'_>) {
        if IS_UNHEARD.load(Ordering::Relaxed) {
            return;
        }
        let line = format!("{}: {}\n", self.agent.name(), printable(&what.to_string()));
        let written = with_timeout(LINE_LIMIT, move || std::io::stderr().write_all(line.as_bytes()).is_ok());
        if !matches!(written, Ok(Some(true))) {
            IS_UNHEARD.store(true, Ordering::Relaxed);
        }
    }
}

/// Text without line breaks and other control characters, for a terminal or a log.
pub(super) fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

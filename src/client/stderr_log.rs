use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::agent::Agent;
use crate::fence::printable;
use crate::sys::with_timeout::with_timeout;

/// Timeout for writing a line.
const LINE_LIMIT: Duration = Duration::from_millis(200);

/// True once a line could not be written.
static IS_BLOCKED: AtomicBool = AtomicBool::new(false);

/// Log on stderr; with `-d` also debug messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct StderrLog {
    pub(super) agent: Agent,
    pub(super) is_debug: bool,
}

impl StderrLog {
    /// Prints a debug message, if enabled.
    pub(super) fn debug(&self, message: fmt::Arguments<'_>) {
        if self.is_debug {
            self.print(message);
        }
    }

    /// Prints a line, with a single write(2), so that lines of agents that share a
    /// stderr do not mix. A blocked stderr must not prevent fencing: after the first
    /// line that cannot be written, all others are dropped.
    pub(super) fn print(&self, message: fmt::Arguments<'_>) {
        if IS_BLOCKED.load(Ordering::Relaxed) {
            return;
        }
        let line = format!("{}: {}\n", self.agent.name(), printable(&message.to_string()));
        let written = with_timeout(LINE_LIMIT, move || std::io::stderr().write_all(line.as_bytes()).is_ok());
        if !matches!(written, Ok(Some(true))) {
            IS_BLOCKED.store(true, Ordering::Relaxed);
        }
    }
}

//! Output of the short-lived commands to stdout and stderr, with the exit code that follows from it.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use fence_virt::fence::printable;

/// Writes the lines of a text to stdout, made printable; an exit code of 1 if that fails.
pub(crate) fn print(text: &str) -> ExitCode {
    io::stdout().write_all(lines(text).as_bytes()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Writes a text to stderr and returns exit code 1.
pub(crate) fn complain(text: &str) -> ExitCode {
    warn_on_stderr(text);
    ExitCode::FAILURE
}

/// Writes the lines of a text to stderr, made printable. Errors are ignored: a closed stderr must not end the program.
pub(crate) fn warn_on_stderr(text: &str) {
    let _ = io::stderr().write_all(lines(text).as_bytes());
}

fn lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

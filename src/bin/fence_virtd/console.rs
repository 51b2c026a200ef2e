//! Output of the short-lived commands to stdout and stderr, with the exit code that follows from it.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

/// Writes a text to stdout; an exit code of 1 if that fails.
pub(crate) fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Writes a text to stderr and returns exit code 1.
pub(crate) fn complain(text: &str) -> ExitCode {
    warn_on_stderr(text);
    ExitCode::FAILURE
}

/// Writes a text to stderr. Errors are ignored: a closed stderr must not end the program.
pub(crate) fn warn_on_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

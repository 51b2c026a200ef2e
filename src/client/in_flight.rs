//! What was left with a request that nobody heard the answer to.
//!
//! A response on a serial line or vmchannel does not say which request it
//! answers, and a C daemon that calls back does not say for which. An agent
//! that is killed, or gives up, leaves an answer behind that the next agent
//! would take for its own. So a file in /run for each line, and for each port
//! of call-backs, is not empty while a request is under way: it is written
//! before, and emptied when the answer is here. It is locked meanwhile, since
//! a line carries one request at a time.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use super::stderr_log::StderrLog;
use crate::sys::file_lock::lock;

const FOLDER: &str = "/run";

/// The note on one line or port.
pub(super) struct InFlightMarker {
    /// None where there can be no note.
    file: Option<File>,
    is_left_over: bool,
}

impl InFlightMarker {
    /// Takes the line of this name, waiting for another agent that has it. That
    /// there can be no note (no right to write there, a full disk) is no reason
    /// not to fence: then an older request may be under way. None if another
    /// agent still has it at the deadline.
    pub(super) fn of(name: &str, deadline: Instant, log: &StderrLog) -> Option<InFlightMarker> {
        let path = Path::new(FOLDER).join(file_name(name));
        match take(&path, deadline) {
            Err(error) if error.kind() == ErrorKind::TimedOut => None,
            Err(error) => {
                log.debug(format_args!("no note of what is under way in {}: {error}", path.display()));
                Some(InFlightMarker { file: None, is_left_over: true })
            }
            Ok((file, is_left_over)) => Some(InFlightMarker { file: Some(file), is_left_over }),
        }
    }

    /// A request is to be made. Tells whether an older one may be under way
    /// still, of which no answer was heard.
    pub(super) fn begin(&mut self, log: &StderrLog) -> bool {
        if let Some(file) = self.file.as_mut().filter(|_| !self.is_left_over) {
            if let Err(error) = file.write_all(b"1") {
                log.debug(format_args!("no note of what is under way: {error}"));
                self.is_left_over = true;
                return true;
            }
        }
        self.is_left_over
    }

    /// Its answer was heard.
    pub(super) fn end(&self) {
        if let Some(file) = &self.file {
            // A note that stays costs the next agent some questions more.
            let _ = file.set_len(0);
        }
    }
}

fn take(path: &Path, deadline: Instant) -> io::Result<(File, bool)> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut options = File::options();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(flags);
    let file = options.open(path)?;
    lock(&file, deadline)?;
    let is_left_over = file.metadata()?.len() > 0;
    Ok((file, is_left_over))
}

/// A file for the name, whatever slashes it has.
fn file_name(name: &str) -> String {
    let name = name.trim_start_matches('/');
    format!("fence_virt-{}", name.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '.'), "-"))
}

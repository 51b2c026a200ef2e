//! Which lines were left with a request that nobody heard the answer to.
//!
//! A response on a serial line or vmchannel does not say which request it
//! answers. An agent that is killed, or gives up, leaves an answer behind that
//! the next agent would take for its own. So a file for each line in /run is
//! not empty while a request is under way: it is written before, and emptied
//! when the answer is here. The file is locked meanwhile, since a line carries
//! one request at a time.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use super::trace::Trace;
use crate::sys::lock::lock;

const FOLDER: &str = "/run";

/// The note on one line. Without a folder that can be written to there is none.
pub(super) struct Pending {
    file: Option<File>,
    is_left_over: bool,
}

impl Pending {
    /// Takes the line of this name, waiting for another agent that has it.
    /// That there can be no note (no right to write there, a full disk) is no
    /// reason not to fence. None if another still has it at the deadline.
    pub(super) fn of(name: &str, deadline: Instant, trace: &Trace) -> Option<Pending> {
        let path = Path::new(FOLDER).join(file_name(name));
        match take(&path, deadline) {
            Err(error) if error.kind() == ErrorKind::TimedOut => None,
            Err(error) => {
                trace.step(format_args!("no note of what is under way in {}: {error}", path.display()));
                Some(Pending { file: None, is_left_over: false })
            }
            Ok((file, is_left_over)) => Some(Pending { file: Some(file), is_left_over }),
        }
    }

    /// Whether a request was made of which no answer was heard.
    pub(super) fn is_left_over(&self) -> bool {
        self.is_left_over
    }

    /// A request is to be made.
    pub(super) fn begin(&mut self, trace: &Trace) {
        if let Some(file) = self.file.as_mut().filter(|_| !self.is_left_over) {
            if let Err(error) = file.write_all(b"1") {
                trace.step(format_args!("no note of what is under way: {error}"));
            }
        }
    }

    /// Its answer was heard.
    pub(super) fn end(self) {
        if let Some(file) = self.file {
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
    let name = fs::canonicalize(name).map_or(name.to_owned(), |path| path.to_string_lossy().into_owned());
    let name = name.trim_start_matches('/');
    format!("fence_virt-{}", name.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '.'), "-"))
}

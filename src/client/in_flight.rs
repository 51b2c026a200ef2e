//! Marker files for requests in flight.
//!
//! A response on a serial line or vmchannel does not identify its request, nor does a call-back of a C
//! daemon. An agent that is killed or gives up leaves a stale answer behind, which the next agent would take
//! for its own. So each line and each call-back port has a file in /run that is non-empty while a request is
//! in flight: it is written before the request and truncated after the answer. It is locked meanwhile, since
//! a line carries one request at a time.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::stderr_log::StderrLog;
use crate::sys::error_text;
use crate::sys::file_lock::lock;
use crate::time::Instant;

const FOLDER: &str = "/run";

/// Marker file of one line or port.
pub(super) struct InFlightMarker {
    /// `None` if the file cannot be opened.
    file: Option<File>,
    is_stale: bool,
}

impl InFlightMarker {
    /// Locks the line or port of this name. Returns `None` if another agent still
    /// holds it at the deadline. Other errors (permissions, a full disk) must not
    /// prevent fencing: an older request is then assumed to be in flight.
    pub(super) fn lock(name: &str, deadline: Instant, log: &StderrLog) -> Option<InFlightMarker> {
        let path = Path::new(FOLDER).join(file_name(name));
        match take(&path, deadline) {
            Err(error) if error.kind() == ErrorKind::TimedOut => None,
            Err(error) => {
                let error = error_text(&error);
                log.debug(format_args!("cannot use the marker file {}: {error}", path.display()));
                Some(InFlightMarker { file: None, is_stale: true })
            }
            Ok((file, is_stale)) => Some(InFlightMarker { file: Some(file), is_stale }),
        }
    }

    /// Marks a request as in flight. Returns true if an older one may still be unanswered.
    pub(super) fn set(&mut self, log: &StderrLog) -> bool {
        if let Some(file) = self.file.as_mut().filter(|_| !self.is_stale) {
            if let Err(error) = file.write_all(b"1") {
                log.debug(format_args!("cannot write the marker file: {}", error_text(&error)));
                self.is_stale = true;
            }
        }
        self.is_stale
    }

    /// Clears the mark after the answer.
    pub(super) fn clear(&self) {
        if let Some(file) = &self.file {
            // On failure, the next agent sends a probe first.
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
    let is_stale = file.metadata()?.len() > 0;
    Ok((file, is_stale))
}

/// Converts the name of a line or port to a file name.
fn file_name(name: &str) -> String {
    let name = name.trim_start_matches('/');
    format!("fence_virt-{}", name.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '.'), "-"))
}

//! The serial line to the host.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::AgentRequest;
use super::line::LineClient;
use crate::fence::Answer;
use crate::sys::file_lock::lock;
use crate::sys::tty::{self, Framing};

/// Takes the line, makes it raw, hangs up once and asks. The line is left
/// raw, its modem lines as they were, as the C agent leaves them.
pub(super) fn ask(device: &Path, framing: Framing, request: &AgentRequest) -> Result<Answer, String> {
    let shown = device.display();
    let mut file =
        tty::open(device).map_err(|error| format!("cannot open the serial line {shown}: {error}"))?;
    lock(&file, request.deadline).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => {
            format!("{}: another agent has the serial line {shown}", request.timed_out())
        }
        _ => format!("cannot lock the serial line {shown}: {error}"),
    })?;
    request.log.debug(format_args!("{shown} is ours; {framing}"));
    tty::make_raw(&file, framing).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTTY) => format!("{shown} is no serial line"),
        _ => format!("cannot set the serial line {shown} to {framing}: {error}"),
    })?;
    // A link to the line is the same line.
    let real = std::fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    let peer = shown.to_string();
    let mut line = LineClient::take(&real.to_string_lossy(), &peer, request)?;
    if request.time_left() <= tty::HANG_UP {
        return Err(format!("{} before {shown} could be asked", request.timed_out()));
    }
    let has_lines = tty::hang_up(&file).map_err(|error| format!("cannot hang up {shown}: {error}"))?;
    request.log.debug(format_args!("{}", if has_lines { "hung up once" } else { "it has no modem lines" }));
    let answer = line.send(&mut file, Duration::ZERO, request);
    if answer.is_err() {
        // Closing a line waits for what was not sent, as long as 30 s where the other side takes nothing.
        let _ = tty::discard(&file);
    }
    answer
}

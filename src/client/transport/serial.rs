//! Serial line to the host.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use super::agent_request::AgentRequest;
use super::line::LineClient;
use crate::fence::Answer;
use crate::sys::error_text;
use crate::sys::file_lock::lock;
use crate::sys::tty::{self, Framing};

/// Locks the line, makes it raw, hangs up once and sends the request. Leaves the
/// line raw and its modem lines unchanged, as the C agent does.
pub(super) fn send(device: &Path, framing: Framing, request: &AgentRequest) -> Result<Answer, String> {
    let shown = device.display();
    let mut file = tty::open(device)
        .map_err(|error| format!("cannot open the serial line {shown}: {}", opening(&error)))?;
    lock(&file, request.deadline).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => {
            format!("{}: another agent uses the serial line {shown}", request.timed_out())
        }
        _ => format!("cannot lock the serial line {shown}: {}", error_text(&error)),
    })?;
    request.log.debug(format_args!("locked {shown}; {framing}"));
    tty::make_raw(&file, framing).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTTY) => format!("{shown} is not a serial line"),
        _ => format!("cannot set the serial line {shown} to {framing}: {}", error_text(&error)),
    })?;
    // A symbolic link names the same line.
    let real = std::fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    let peer = shown.to_string();
    let mut line = LineClient::lock(&real.to_string_lossy(), &peer, request)?;
    if request.time_left() <= tty::HANG_UP {
        return Err(format!("{} before the request was sent to {shown}", request.timed_out()));
    }
    let has_lines =
        tty::hang_up(&file).map_err(|error| format!("cannot hang up {shown}: {}", error_text(&error)))?;
    request.log.debug(format_args!("{}", if has_lines { "hung up once" } else { "no modem lines" }));
    let answer = line.send(&mut file, Duration::ZERO, request);
    if answer.is_err() {
        // close(2) waits up to 30 s for unsent output if the other side reads nothing.
        let _ = tty::discard(&file);
    }
    answer
}

/// Reason why a line cannot be opened, with what helps.
fn opening(error: &io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::NotFound => "; -D names the VM's serial port to the host",
        ErrorKind::PermissionDenied => "; run this as root",
        _ => "",
    };
    format!("{}{remedy}", error_text(error))
}

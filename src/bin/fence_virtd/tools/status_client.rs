use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::status::Form;

/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest report that is read, in bytes.
const REPORT_MAX: u64 = 16 << 20;

/// Asks the daemon that runs: its report, and whether all is well there.
///
/// # Errors
///
/// A sentence that says why there is no answer, and what that may mean.
pub(crate) fn ask(socket: &Path, form: Form) -> Result<(String, bool), String> {
    let report = exchange(socket, form).map_err(|error| {
        let meaning = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "no fence_virtd runs with it",
            io::ErrorKind::PermissionDenied => "only root may ask",
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the daemon does not answer",
            _ => "the daemon cannot be asked",
        };
        format!("{}: {error}: {meaning}", socket.display())
    })?;
    match report.split_once('\n') {
        Some(("well", report)) => Ok((report.to_owned(), true)),
        Some(("unwell", report)) => Ok((report.to_owned(), false)),
        _ => {
            Err(format!("{}: what answers there is no fence_virtd, or does not let us ask", socket.display()))
        }
    }
}

fn exchange(socket: &Path, form: Form) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{}\n", form.word()).as_bytes())?;
    let mut report = String::new();
    stream.take(REPORT_MAX).read_to_string(&mut report)?;
    Ok(report)
}

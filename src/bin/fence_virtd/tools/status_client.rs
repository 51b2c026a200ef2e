//! `--status`: asks the running daemon for its status.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::config_file;
use crate::console::{complain, print};
use crate::status::Form;
use fence_virt::config;

/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest report that is read, in bytes.
const REPORT_MAX: u64 = 16 << 20;

/// Prints the report of the daemon that runs with this configuration. Exit code 0: all is
/// well; 2: it is not; 1: no answer. The file may have errors: it may be edited while the daemon runs.
pub(crate) fn run(path: &Path, form: Form) -> ExitCode {
    match config_file::read(path).and_then(|text| ask(&config::status_socket(&text), form)) {
        Ok((report, is_well)) => match print(&report) {
            ExitCode::SUCCESS if !is_well => ExitCode::from(2),
            code => code,
        },
        Err(reason) => complain(&format!("fence_virtd: {reason}\n")),
    }
}

/// Returns the daemon's report, and true if all is well there.
///
/// # Errors
///
/// A sentence that says why there is no answer, and what that may mean.
fn ask(socket: &Path, form: Form) -> Result<(String, bool), String> {
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
